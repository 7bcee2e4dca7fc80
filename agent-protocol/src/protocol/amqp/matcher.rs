//! Frames to transactions.

use super::NAME;
use super::channel::{Channel, Closing, Content, ContentKind};
use super::confirms::RETURN_PATIENCE;
use super::content::ContentHeader;
use super::frames::{self, Exception, Frame, FrameType, HEADER, Method};
use super::ledger::{Early, Ledger, Times};
use super::open::Field;
use crate::loss::Loss;
use crate::output::Output;
use crate::protocol::{Flow, Input, Progress, Protocol, Then};
use crate::record::amqp::Operation;
use hashbrown::HashMap;

/// Channels of a connection: twice RabbitMQ's default limit.
const MAX_CHANNELS: usize = 4096;

/// Closed without an error.
const REPLY_SUCCESS: u16 = 200;

/// One flow of the connection.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// A place where frames begin is to be found first.
    pub(super) lost: bool,
    /// The loss is one of bytes that were to come, not the connection being older than the observation.
    pub(super) gap: bool,
    /// Time of the last byte before the gap.
    pub(super) gap_begin: u64,
    /// Time of the last byte taken.
    pub(super) last: u64,
    /// Time of the frame that waited for the other flow last: what was before it has been taken.
    pub(super) waits: u64,
    /// The body frame that is being skipped: its channel and size.
    pub(super) body: Option<(u16, u32)>,
}

/// A connection that speaks AMQP.
pub(super) struct Amqp {
    pub(super) sides: [Side; 2],
    pub(super) channels: HashMap<u16, Channel>,
    pub(super) ledger: Ledger,
    /// As negotiated.
    pub(super) frame_max: Option<u32>,
    /// When to look for publishes that nothing was heard of.
    look_at: Option<u64>,
    /// When connection.close went by.
    closing: Option<u64>,
}

impl Amqp {
    pub(super) fn new(fresh: bool) -> Amqp {
        let side = || Side {
            lost: !fresh,
            ..Side::default()
        };
        Amqp {
            sides: [side(), side()],
            channels: HashMap::new(),
            ledger: Ledger::default(),
            frame_max: None,
            look_at: None,
            closing: None,
        }
    }

    fn lost(&self, flow: Flow) -> bool {
        self.sides[flow as usize].lost
    }

    /// Whether what a frame of `flow`, seen at `time`, refers to can still come on the other one.
    pub(super) fn may_come(&self, flow: Flow, waited: bool, time: u64) -> Result<(), Early> {
        let other = &self.sides[flow.opposite() as usize];
        if waited || other.lost || other.last.max(other.waits) > time {
            Ok(())
        } else {
            Err(Early)
        }
    }

    /// Whether the client is known not to have gone on to another channel of the same number by `time`.
    pub(super) fn is_abreast(&self, time: u64) -> bool {
        self.sides[Flow::ToServer as usize].last <= time
    }

    /// The channel of this number, made up where it is older than the observation; `None` where there is no room.
    pub(super) fn channel(
        &mut self,
        number: u16,
        output: &mut dyn Output,
    ) -> Option<(&mut Channel, &mut Ledger)> {
        if !self.channels.contains_key(&number) && self.channels.len() >= MAX_CHANNELS {
            output.lost(Loss::Evicted, 1);
            return None;
        }
        let channel = self.channels.entry(number).or_insert_with(|| Channel::new(false));
        Some((channel, &mut self.ledger))
    }

    /// The broker has been heard until `now`: what it did not answer by now may be due.
    fn look(&mut self, now: u64, output: &mut dyn Output) {
        if self.look_at.is_none_or(|at| now < at) {
            return;
        }
        self.look_at = None;
        // On one that is closed nothing more is confirmed.
        let open = self
            .channels
            .iter_mut()
            .filter(|(_, channel)| channel.closing.is_none());
        for (&number, channel) in open {
            if let Some(next) = self.ledger.silence(number, channel, now, output) {
                self.look_at = Some(self.look_at.map_or(next, |at| at.min(next)));
            }
        }
    }

    fn method(
        &mut self,
        flow: Flow,
        number: u16,
        method: Method<'_>,
        times: Times,
        waited: bool,
        output: &mut dyn Output,
    ) -> Result<(), Early> {
        let other = &self.sides[flow.opposite() as usize];
        if other.lost && method.ends_something(flow) {
            if other.gap && !waited && other.last <= times.end {
                // What it belongs to is likely right behind the gap.
                return Err(Early);
            }
            self.ledger.miss(flow, times.end);
        } else if waited {
            self.ledger.miss(flow, times.end);
        }
        let opened = self.channels.get(&number).map_or(0, |channel| channel.opened);
        if flow == Flow::ToClient && times.end < opened {
            // Of the channel that had this number before.
            output.lost(Loss::UnpairedResponse, 1);
            return Ok(());
        }
        let closed_by_server = self
            .channels
            .get(&number)
            .and_then(|channel| channel.closing)
            .is_some_and(|closing| closing.by_server && closing.at <= times.start);
        if flow == Flow::ToClient && closed_by_server && method != Method::ChannelCloseOk {
            // Of the channel that the client will open, or has opened, after it heard of that.
            self.may_come(flow, waited, times.end)?;
            self.replace_channel(number, Channel::new(false), output);
        }
        match (method, flow) {
            (Method::TuneOk { frame_max }, _) => self.frame_max = (frame_max > 0).then_some(frame_max),
            (Method::ConnectionClose(exception), _) => {
                if exception.names_a_method() {
                    self.may_come(flow, waited, times.end)?;
                }
                self.close_connection(flow, exception, times, output);
            }
            (Method::ConnectionCloseOk, _) => {
                if self.closing.is_none() {
                    self.may_come(flow, waited, times.end)?;
                }
                let closed = self.closing.unwrap_or(times.end);
                self.cut_all(closed, times.end, output);
            }
            (Method::Blocked(blocked), _) => {
                self.ledger.listens_since = if blocked { u64::MAX } else { times.end };
                self.look_at = Some(times.end);
            }
            (Method::ChannelOpen, _) => return self.open_channel(number, times, waited, output),
            (Method::ChannelOpenOk, _) => {
                if !self.channels.get(&number).is_some_and(|channel| channel.known) {
                    self.may_come(flow, waited, times.end)?;
                    self.replace_channel(number, Channel::new(false), output);
                }
            }
            (Method::ChannelClose(exception), _) => {
                let caused = |channel: &Channel| {
                    !exception.names_a_method() || channel.could_have_caused(exception, times.end)
                };
                if !self.channels.get(&number).is_some_and(caused) {
                    self.may_come(flow, waited, times.end)?;
                }
                self.close_channel(flow, number, exception, times, output);
            }
            (Method::ChannelCloseOk, _) => return self.channel_closed(flow, number, times, waited, output),
            (Method::OtherOnChannel | Method::OtherOnConnection, _) => {}
            (method, Flow::ToServer) => return self.client_sent(number, method, times, waited, output),
            (method, Flow::ToClient) => return self.server_sent(number, method, times, waited, output),
        }
        Ok(())
    }

    fn open_channel(
        &mut self,
        number: u16,
        times: Times,
        waited: bool,
        output: &mut dyn Output,
    ) -> Result<(), Early> {
        if self
            .channels
            .get(&number)
            .is_some_and(|channel| channel.closing.is_some())
        {
            self.may_come(Flow::ToServer, waited, times.end)?;
        }
        // What is opened while replies are missed may have been refused, unseen.
        let known = !self.lost(Flow::ToClient) && times.start > self.ledger.missed_of_all(Flow::ToClient);
        let mut channel = Channel::new(known);
        channel.opened = times.start;
        self.replace_channel(number, channel, output);
        Ok(())
    }

    fn replace_channel(&mut self, number: u16, new: Channel, output: &mut dyn Output) {
        if !self.channels.contains_key(&number) && self.channels.len() >= MAX_CHANNELS {
            output.lost(Loss::Evicted, 1);
            return;
        }
        if let Some(mut old) = self.channels.insert(number, new) {
            self.ledger.forget(&mut old, Loss::UnpairedRequest, output);
        }
    }

    /// channel.close went by in `flow`. What is answered in this flow is cut off at once; the rest when the other
    /// side has said that it knows.
    fn close_channel(
        &mut self,
        flow: Flow,
        number: u16,
        exception: Exception,
        times: Times,
        output: &mut dyn Output,
    ) {
        let Some((channel, ledger)) = self.channel(number, output) else {
            return;
        };
        if channel.closing.is_none() {
            channel.closing = Some(Closing {
                at: times.end,
                by_server: flow == Flow::ToClient,
            });
        }
        // What begins later is cut off when the other side knows.
        let cut = (times.end, None);
        if flow == Flow::ToServer {
            ledger.cut(number, &mut channel.deliveries, cut, false, output);
            return;
        }
        if exception.code != REPLY_SUCCESS && !ledger.attribute(number, channel, exception, times.end, output)
        {
            ledger.lose_suspects(channel, exception, times.end, output);
            unattributed(exception.code, output);
        }
        ledger.cut(number, &mut channel.requests, cut, false, output);
        ledger.cut(number, &mut channel.publishes, cut, false, output);
        ledger.sent_until(number, channel, u64::MAX, output);
    }

    fn channel_closed(
        &mut self,
        flow: Flow,
        number: u16,
        times: Times,
        waited: bool,
        output: &mut dyn Output,
    ) -> Result<(), Early> {
        // It answers a channel.close of the other flow.
        let closing = self.channels.get(&number).and_then(|channel| channel.closing);
        let closing = closing.filter(|closing| closing.by_server == (flow == Flow::ToServer));
        if closing.is_none() {
            self.may_come(flow, waited, times.end)?;
        }
        let missed = [self.lost(Flow::ToServer), self.lost(Flow::ToClient)];
        let Some(mut channel) = self.channels.remove(&number) else {
            return Ok(());
        };
        match closing {
            Some(closing) => {
                if !closing.by_server {
                    self.ledger.all_answered(number, &mut channel, missed, output);
                }
                self.ledger
                    .cut_channel(number, &mut channel, closing.at, times.end, missed, output)
            }
            None => self.ledger.forget(&mut channel, Loss::UnpairedRequest, output),
        }
        Ok(())
    }

    fn close_connection(&mut self, flow: Flow, exception: Exception, times: Times, output: &mut dyn Output) {
        self.closing.get_or_insert(times.end);
        if flow == Flow::ToServer || exception.code == REPLY_SUCCESS {
            return;
        }
        let ledger = &mut self.ledger;
        let mut candidates = self
            .channels
            .iter_mut()
            .filter(|(_, channel)| channel.could_have_caused(exception, times.end));
        let attributed = match (candidates.next(), candidates.next()) {
            (Some((&number, channel)), None) => {
                ledger.attribute(number, channel, exception, times.end, output)
            }
            _ => false,
        };
        if !attributed {
            for channel in self.channels.values_mut() {
                ledger.lose_suspects(channel, exception, times.end, output);
            }
            unattributed(exception.code, output);
        }
    }

    /// All that is open was cut off: since `at`, and known to both sides at `known`.
    fn cut_all(&mut self, at: u64, known: u64, output: &mut dyn Output) {
        let missed = [self.lost(Flow::ToServer), self.lost(Flow::ToClient)];
        for (number, mut channel) in self.channels.drain() {
            let at = channel.closing.map_or(at, |closing| closing.at);
            self.ledger
                .cut_channel(number, &mut channel, at, known, missed, output);
        }
    }

    /// A content header of `flow`.
    fn header(
        &mut self,
        flow: Flow,
        number: u16,
        header: &ContentHeader<'_>,
        times: Times,
        output: &mut dyn Output,
    ) {
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        let Some(content) = &mut channel.content[flow as usize] else {
            return;
        };
        let open = &mut content.open;
        open.body_size = Some(header.body_size);
        open.parent = header.traceparent;
        open.set(Field::MessageId, header.message_id);
        open.set(Field::CorrelationId, header.correlation_id);
        open.set(Field::TraceState, header.tracestate);
        content.left = Some(header.body_size);
        if header.body_size == 0 {
            self.complete(flow, number, Some(times.end), output);
        }
    }

    /// `size` bytes of a body went by in `flow`, until `time` if that was seen.
    fn body(&mut self, flow: Flow, number: u16, size: u32, time: Option<u64>, output: &mut dyn Output) {
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        let slot = &mut channel.content[flow as usize];
        let Some(left) = slot.as_mut().and_then(|content| content.left.as_mut()) else {
            return;
        };
        match left.checked_sub(size.into()) {
            Some(0) => self.complete(flow, number, time, output),
            Some(rest) => *left = rest,
            None => {
                output.lost(Loss::Refused, 1);
                self.lose_track(flow, output);
            }
        }
    }

    /// The message on its way in `flow` is complete, at `time` if that was seen.
    fn complete(&mut self, flow: Flow, number: u16, time: Option<u64>, output: &mut dyn Output) {
        let Some(channel) = self.channels.get_mut(&number) else {
            return;
        };
        let Some(Content { mut open, kind, .. }) = channel.content[flow as usize].take() else {
            return;
        };
        let ledger = &mut self.ledger;
        // Where it was not seen, it was later than this.
        let unseen = time.is_none();
        let time = time.unwrap_or(self.sides[flow as usize].last);
        open.complete = time;
        match kind {
            ContentKind::Publish => {
                ledger.published(number, channel, open, unseen, output);
                if channel.unnumbered.len() + channel.returnable.len() > 0 {
                    self.look_at.get_or_insert(time + RETURN_PATIENCE);
                }
                return;
            }
            ContentKind::Return(code) => {
                if !channel.returned(&open, code) {
                    channel.miss(Flow::ToClient, time);
                    ledger.unmatched(channel, Flow::ToClient, time, Err(Early));
                    unattributed(code, output);
                }
                ledger.recycle(open);
                return;
            }
            ContentKind::Got => {
                let request = channel
                    .requests
                    .take_where(|request| request.operation == Operation::Get && request.start <= open.start);
                match ledger.took(request) {
                    Some(request) if unseen => ledger.lose(request, Loss::UnpairedRequest, output),
                    Some(request) => ledger.answered(number, channel, request, time, Some(1), output),
                    None => {
                        output.lost(Loss::UnpairedResponse, 1);
                        ledger.doubt(channel, output);
                        channel.miss(Flow::ToClient, time);
                        ledger.unmatched(channel, Flow::ToClient, time, Err(Early));
                    }
                }
                if open.no_ack == Some(true) {
                    ledger.recycle(open);
                    return;
                }
            }
            ContentKind::Deliver if open.no_ack == Some(true) => {
                open.doubtful = unseen;
                ledger.report_automatic(number, open, output);
                return;
            }
            ContentKind::Deliver => {}
        }
        open.doubtful = unseen;
        if open.start <= ledger.missed(channel, Flow::ToServer) {
            ledger.lose(open, Loss::UnpairedRequest, output);
        } else if channel.deliveries.last_tag().is_some_and(|last| last >= open.tag) {
            ledger.lose(open, Loss::Refused, output);
        } else {
            ledger.add(&mut channel.deliveries, open, output);
        }
    }
}

/// No request can be proved to have caused this.
fn unattributed(code: u16, output: &mut dyn Output) {
    output.lost(Loss::Unattributed, 1);
    output.unattributed(code);
}

impl Protocol for Amqp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn data(&mut self, flow: Flow, input: Input<'_>, output: &mut dyn Output) -> Progress {
        if let Some((number, size)) = self.sides[flow as usize].body.take() {
            self.sides[flow as usize].last = input.time_before;
            let seen = (!input.end_unseen).then_some(input.time_before);
            self.body(flow, number, size, seen, output);
        }
        let mut at = 0;
        loop {
            let rest = input.advance(at);
            let side = &mut self.sides[flow as usize];
            if side.lost {
                if rest.bytes.is_empty() {
                    return Progress::new(at, Then::More);
                }
                let found = self.resync(flow, &rest);
                let (Ok(skipped) | Err(skipped)) = found;
                if skipped > 0 {
                    output.lost(Loss::ResyncBytes, skipped as u64);
                    self.ledger.miss(flow, rest.time_until(skipped));
                }
                at += skipped;
                if found.is_err() {
                    return Progress::new(at, Then::More);
                }
                self.resynced(flow, input.time_at(at), output);
                continue;
            }
            let (length, times) = match frames::frame(rest.bytes, self.frame_max) {
                Frame::Incomplete => return Progress::new(at, Then::More),
                Frame::Invalid => {
                    output.lost(Loss::Refused, 1);
                    // No progress from here would be made twice.
                    at += 1;
                    self.lose_track(flow, output);
                    continue;
                }
                Frame::ProtocolHeader => (frames::PROTOCOL_HEADER.len(), None),
                Frame::Body(header) => {
                    // The end octet goes with it.
                    self.sides[flow as usize].body = Some((header.channel, header.size));
                    return Progress::new(at + HEADER, Then::Skip(u64::from(header.size) + 1));
                }
                Frame::Whole(header, payload) => {
                    let length = HEADER + payload.len() + 1;
                    let times = Times {
                        start: rest.time_at(0),
                        end: rest.time_until(length),
                    };
                    if flow == Flow::ToClient {
                        self.look(times.start, output);
                    }
                    let valid = match header.kind {
                        FrameType::Method => match Method::read(payload, flow) {
                            Some(method) if method.fits(header.channel) => {
                                let taken = self.method(
                                    flow,
                                    header.channel,
                                    method,
                                    times,
                                    input.waited && at == 0,
                                    output,
                                );
                                if let Err(Early) = taken {
                                    self.sides[flow as usize].waits = times.start;
                                    return Progress::new(at, Then::Blocked);
                                }
                                true
                            }
                            _ => false,
                        },
                        FrameType::Header => match ContentHeader::read(payload) {
                            Some(content) => {
                                self.header(flow, header.channel, &content, times, output);
                                true
                            }
                            None => false,
                        },
                        _ => true,
                    };
                    if !valid {
                        output.lost(Loss::Refused, 1);
                        at += length;
                        self.lose_track(flow, output);
                        continue;
                    }
                    (length, Some(times))
                }
            };
            at += length;
            if let Some(times) = times {
                self.sides[flow as usize].last = times.end;
            }
        }
    }

    fn gap(&mut self, flow: Flow, _length: u64, output: &mut dyn Output) {
        self.lose_track(flow, output);
    }

    fn end(&mut self, _flow: Flow, _time: u64, _output: &mut dyn Output) {}

    fn close(&mut self, time: u64, output: &mut dyn Output) {
        if !self.lost(Flow::ToClient) {
            self.look(time, output);
        }
        self.cut_all(self.closing.unwrap_or(time), time, output);
    }

    fn abandon(&mut self, output: &mut dyn Output) {
        for (_, mut channel) in self.channels.drain() {
            self.ledger.forget(&mut channel, Loss::Unfinished, output);
        }
    }
}

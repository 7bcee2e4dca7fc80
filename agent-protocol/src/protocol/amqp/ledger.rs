//! What is open on a connection, and how it ends: messages and requests to transactions.

use super::channel::{
    CONFIRMATIONS, Channel, Content, ContentKind, Field, Mode, Open, RETURN_PATIENCE, Ring,
};
use super::frames::{self, Exception};
use super::record::{Operation, Outcome};
use crate::loss::Loss;
use crate::output::Output;
use crate::protocol::Flow;
use crate::transaction::{CONNECTION_CLOSED, Record, Transaction};

/// Operations open on a connection; the oldest of a channel's kind goes when one more comes.
const MAX_OPEN: usize = 65_536;

/// Buffers kept for the next operations.
const MAX_POOL: usize = 256;

/// The frame belongs behind what the other flow has not brought yet.
pub(super) struct Early;

/// When a frame was seen.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// What all channels share.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    open: usize,
    /// What went by in each flow up to here may have been missed, or could be matched with nothing: what began
    /// before may be what it ended.
    missed: [u64; 2],
    pool: Vec<String>,
}

impl Ledger {
    pub(super) fn text(&mut self) -> String {
        self.pool.pop().unwrap_or_default()
    }

    pub(super) fn missed(&self, flow: Flow) -> u64 {
        self.missed[flow as usize]
    }

    pub(super) fn miss(&mut self, flow: Flow, time: u64) {
        let missed = &mut self.missed[flow as usize];
        *missed = (*missed).max(time);
    }

    pub(super) fn recycle(&mut self, open: Open) {
        let mut text = open.into_text();
        if self.pool.len() < MAX_POOL && text.capacity() > 0 {
            text.clear();
            self.pool.push(text);
        }
    }

    pub(super) fn report(
        &mut self,
        channel: u16,
        open: Open,
        end: u64,
        error: Option<&str>,
        outcome: Option<Outcome>,
        output: &mut dyn Output,
    ) {
        let mut digits = [0; 5];
        let returned = (open.returned > 0).then(|| decimal(open.returned, &mut digits));
        let record = open.record(channel, outcome);
        output.transaction(&Transaction {
            start: open.start.min(end),
            end,
            error: returned.or(error),
            remote_parent: open.parent,
            tracestate: record.tracestate,
            parent: None,
            record: Record::Amqp(record),
        });
        self.recycle(open);
    }

    pub(super) fn lose(&mut self, open: Open, loss: Loss, output: &mut dyn Output) {
        output.lost(loss, 1);
        self.recycle(open);
    }

    /// Adds to what is open; where there is no room, the oldest goes.
    pub(super) fn add(&mut self, ring: &mut Ring, open: Open, output: &mut dyn Output) {
        if self.open >= MAX_OPEN {
            match ring.pop() {
                Some(oldest) => {
                    self.open -= 1;
                    self.lose(oldest, Loss::Evicted, output);
                }
                None => return self.lose(open, Loss::Evicted, output),
            }
        }
        self.open += 1;
        ring.push(open);
    }

    pub(super) fn took(&mut self, open: Option<Open>) -> Option<Open> {
        self.open -= usize::from(open.is_some());
        open
    }

    /// What is open in `ring` was cut off at `time`; where its end may have been missed, that cannot be said.
    pub(super) fn cut(
        &mut self,
        number: u16,
        ring: &mut Ring,
        time: u64,
        missed: bool,
        output: &mut dyn Output,
    ) {
        while let Some(open) = self.took(ring.pop()) {
            if missed || open.doubtful || (open.operation == Operation::Deliver && open.no_ack.is_none()) {
                self.lose(open, Loss::UnpairedRequest, output);
            } else if open.operation == Operation::Publish && open.tag == 0 {
                let complete = open.complete;
                self.report_sent(number, open, complete, output);
            } else {
                self.report(number, open, time, Some(CONNECTION_CLOSED), None, output);
            }
        }
    }

    /// A publish without confirm mode: of zero length.
    pub(super) fn report_sent(&mut self, number: u16, mut open: Open, time: u64, output: &mut dyn Output) {
        open.start = time;
        self.report(number, open, time, None, None, output);
    }

    /// Counts what is open in `ring` as lost.
    pub(super) fn lose_all(&mut self, ring: &mut Ring, loss: Loss, output: &mut dyn Output) {
        while let Some(open) = self.took(ring.pop()) {
            self.lose(open, loss, output);
        }
    }

    /// Counts what was begun up to `time` as lost. Returns whether there was any.
    pub(super) fn lose_until(&mut self, ring: &mut Ring, time: u64, output: &mut dyn Output) -> bool {
        let mut any = false;
        while ring.front().is_some_and(|open| open.start <= time) {
            if let Some(open) = self.took(ring.pop()) {
                any = true;
                self.lose(open, Loss::UnpairedRequest, output);
            }
        }
        any
    }

    /// The channel is in confirm mode: what was held is decided, but for what may still be returned.
    pub(super) fn settle_held(&mut self, number: u16, ring: &mut Ring, output: &mut dyn Output) {
        while let Some(open) = self.took(ring.pop()) {
            if open.doubtful || open.mandatory {
                self.lose(open, Loss::UnpairedRequest, output);
            } else {
                let complete = open.complete;
                self.report_sent(number, open, complete, output);
            }
        }
    }

    /// Counts all that is open on a channel as lost.
    pub(super) fn forget(&mut self, channel: &mut Channel, loss: Loss, output: &mut dyn Output) {
        for ring in [
            &mut channel.requests,
            &mut channel.publishes,
            &mut channel.deliveries,
        ] {
            self.lose_all(ring, loss, output);
        }
        for content in &mut channel.content {
            if let Some(content) = content.take() {
                self.lose(content.open, loss, output);
            }
        }
    }

    /// A publish is complete. Where its last byte was lost (`unseen`), it has no time without its confirm.
    pub(super) fn published(
        &mut self,
        number: u16,
        channel: &mut Channel,
        mut open: Open,
        unseen: bool,
        output: &mut dyn Output,
    ) {
        let complete = open.complete;
        let sequence = channel.confirms.publish(complete);
        match channel.confirms.mode {
            Mode::On => match sequence {
                Some(sequence) if open.start > self.missed(Flow::ToClient) => {
                    open.tag = sequence;
                    self.add(&mut channel.publishes, open, output);
                }
                _ => self.lose(open, Loss::UnpairedRequest, output),
            },
            _ if unseen => self.lose(open, Loss::UnpairedRequest, output),
            Mode::Off if !open.mandatory => {
                channel.unanswered |= 1 << Operation::Publish as u32;
                self.report_sent(number, open, complete, output);
            }
            _ if open.mandatory && open.start <= self.missed(Flow::ToClient) => {
                self.lose(open, Loss::UnpairedRequest, output)
            }
            mode => {
                open.doubtful = mode == Mode::Unknown;
                open.tag = 0;
                if open.doubtful && open.start > self.missed(Flow::ToClient) {
                    channel.confirms.silent_since.get_or_insert(complete);
                }
                self.add(&mut channel.publishes, open, output);
            }
        }
    }

    /// Publishes that nothing was heard of for long enough, at `now`. Returns when to look again.
    pub(super) fn silence(
        &mut self,
        number: u16,
        channel: &mut Channel,
        now: u64,
        output: &mut dyn Output,
    ) -> Option<u64> {
        let confirms = &mut channel.confirms;
        if confirms.mode == Mode::Unknown && confirms.silent_until().is_some_and(|until| now >= until) {
            confirms.mode = Mode::Off;
            confirms.silent_since = None;
            channel
                .publishes
                .iter_mut()
                .for_each(|open| open.doubtful = false);
        }
        if channel.confirms.mode == Mode::On {
            return None;
        }
        let unknown = channel.confirms.silent_until();
        while let Some(open) = channel.publishes.front().filter(|open| !open.doubtful) {
            let due = open.complete + RETURN_PATIENCE;
            if open.mandatory && now < due {
                return Some(unknown.map_or(due, |unknown| unknown.min(due)));
            }
            if let Some(open) = self.took(channel.publishes.pop()) {
                let complete = open.complete;
                self.report_sent(number, open, complete, output);
            }
        }
        unknown
    }
}

/// `code` in decimal digits.
fn decimal(code: u16, digits: &mut [u8; 5]) -> &str {
    let mut rest = code;
    let mut at = digits.len();
    while at > 0 && (rest > 0 || at == digits.len()) {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    std::str::from_utf8(&digits[at..]).unwrap_or_default()
}

impl Ledger {
    /// A message begins in `flow`.
    pub(super) fn begin(
        &mut self,
        channel: &mut Channel,
        flow: Flow,
        open: Open,
        kind: ContentKind,
        output: &mut dyn Output,
    ) {
        let content = Content {
            open,
            kind,
            left: None,
        };
        if let Some(broken) = channel.content[flow as usize].replace(content) {
            output.lost(Loss::Refused, 1);
            self.recycle(broken.open);
        }
    }

    /// The request that a reply answers, and whether that is certain.
    pub(super) fn answer(
        &mut self,
        channel: &mut Channel,
        operation: Operation,
        name: Option<&[u8]>,
        times: Times,
        may_come: Result<(), Early>,
    ) -> Result<Option<(Open, bool)>, Early> {
        let field = match operation {
            Operation::QueueDeclare => Some(Field::Queue),
            Operation::BasicConsume | Operation::BasicCancel => Some(Field::ConsumerTag),
            _ => None,
        };
        let found = channel.requests.take_where(|open| {
            let asked = field.and_then(|field| open.get(field)).map(str::as_bytes);
            open.operation == operation && open.start <= times.end && (asked.is_none() || asked == name)
        });
        let Some(open) = self.took(found) else {
            if channel.known {
                may_come?;
            }
            channel.doubt = CONFIRMATIONS;
            self.miss(Flow::ToClient, times.end);
            return Ok(None);
        };
        let trusted = channel.answered(&open);
        Ok(Some((open, trusted)))
    }

    pub(super) fn report_got(
        &mut self,
        number: u16,
        open: Open,
        end: u64,
        messages: u64,
        output: &mut dyn Output,
    ) {
        let mut record = open.record(number, None);
        record.message_count = Some(messages);
        output.transaction(&Transaction {
            start: open.start.min(end),
            end,
            error: None,
            remote_parent: None,
            tracestate: None,
            parent: None,
            record: Record::Amqp(record),
        });
        self.recycle(open);
    }

    /// The consumer settles deliveries.
    #[expect(clippy::too_many_arguments, reason = "what a settlement consists of")]
    pub(super) fn settle(
        &mut self,
        number: u16,
        channel: &mut Channel,
        (tag, multiple): (u64, bool),
        times: Times,
        outcome: Outcome,
        error: Option<&str>,
        may_come: Result<(), Early>,
        output: &mut dyn Output,
    ) -> Result<(), Early> {
        // Tags ascend: up to the last one, none is still to come but that of the message on its way.
        let last = channel
            .content_tag()
            .map(|tag| tag.saturating_sub(1))
            .or(channel.last_tag);
        if tag == 0 || last.is_none_or(|last| tag > last) {
            may_come?;
        }
        if channel
            .closing
            .is_some_and(|closing| closing.by_server && times.end > closing.at)
        {
            // The broker does not listen any more.
            return Ok(());
        }
        // Tag 0 means all there are.
        let until = if tag == 0 { u64::MAX } else { tag };
        let mut any = false;
        while let Some(open) = self.took(channel.deliveries.settled(until, multiple)) {
            any = true;
            if open.start > times.end {
                self.lose(open, Loss::UnpairedRequest, output);
                continue;
            }
            self.report(number, open, times.end, error, Some(outcome), output);
        }
        if !any {
            self.miss(Flow::ToServer, times.end);
            output.lost(Loss::UnpairedResponse, 1);
        }
        Ok(())
    }

    /// The broker confirms publishes.
    #[expect(clippy::too_many_arguments, reason = "what a confirm consists of")]
    pub(super) fn confirm(
        &mut self,
        number: u16,
        channel: &mut Channel,
        (tag, multiple): (u64, bool),
        times: Times,
        outcome: Outcome,
        may_come: Result<(), Early>,
        output: &mut dyn Output,
    ) -> Result<(), Early> {
        let early = channel.confirms.next.is_some_and(|next| tag >= next);
        if early || (channel.known && channel.confirms.mode != Mode::On) {
            may_come?;
            channel.confirms.lose_publishes();
        }
        if channel.confirms.mode != Mode::On {
            self.settle_held(number, &mut channel.publishes, output);
        }
        channel.confirms.confirmed(tag, times.end);
        let error = (outcome == Outcome::Nack).then_some("nack");
        // RabbitMQ does not send tag 0; it would mean all, as for deliveries.
        let until = if tag == 0 { u64::MAX } else { tag };
        let mut any = false;
        while let Some(open) = self.took(channel.publishes.settled(until, multiple)) {
            any = true;
            if open.start > times.end {
                self.lose(open, Loss::UnpairedRequest, output);
                continue;
            }
            self.report(number, open, times.end, error, Some(outcome), output);
        }
        if !any {
            output.lost(Loss::UnpairedResponse, 1);
        }
        Ok(())
    }

    /// Gives an exception to the request that it names. Returns whether there is one.
    pub(super) fn attribute(
        &mut self,
        number: u16,
        channel: &mut Channel,
        exception: Exception,
        time: u64,
        output: &mut dyn Output,
    ) -> bool {
        if !channel.could_have_caused(exception) {
            return false;
        }
        let names = |open: &Open| frames::number(open.operation) == (exception.class, exception.method);
        let ring = if frames::number(Operation::Publish) == (exception.class, exception.method) {
            &mut channel.publishes
        } else {
            &mut channel.requests
        };
        let Some(open) = self.took(ring.take_where(names)) else {
            return false;
        };
        let mut digits = [0; 5];
        self.report(
            number,
            open,
            time,
            Some(decimal(exception.code, &mut digits)),
            None,
            output,
        );
        true
    }

    /// A channel is closed: since `at`, and known to both sides at `known`.
    pub(super) fn cut_channel(
        &mut self,
        number: u16,
        channel: &mut Channel,
        at: u64,
        known: u64,
        missed: [bool; 2],
        output: &mut dyn Output,
    ) {
        let [missed_to_server, missed_to_client] = missed;
        let end = |ring: &Ring| {
            if ring.last_start().is_some_and(|start| start > at) {
                known
            } else {
                at
            }
        };
        let time = end(&channel.deliveries);
        self.cut(number, &mut channel.deliveries, time, missed_to_server, output);
        let time = end(&channel.requests);
        self.cut(number, &mut channel.requests, time, missed_to_client, output);
        let time = end(&channel.publishes);
        self.cut(number, &mut channel.publishes, time, missed_to_client, output);
        self.forget(channel, Loss::UnpairedRequest, output);
    }
}

//! What is open on a connection, and how it ends: messages and requests to transactions.

use super::channel::{Answered, CONFIRMATIONS, Channel, Consumer, Content, ContentKind};
use super::frames::{self, Exception};
use super::open::{Field, Open};
use super::ring::Ring;
use crate::loss::Loss;
use crate::output::Output;
use crate::protocol::Flow;
use crate::record::{
    Record,
    amqp::{Operation, Outcome},
};
use crate::transaction::{CONNECTION_CLOSED, Transaction};
use hashbrown::HashSet;

/// Operations open on a connection; the oldest of a channel's kind goes when one more comes.
const MAX_OPEN: usize = 65_536;

/// Consumers known on a connection; one that is new where there is no room is not kept.
const MAX_CONSUMERS: usize = 4096;

/// Buffers kept for the next operations.
const MAX_POOL: usize = 256;

/// The frame belongs behind what the other flow has not brought yet.
#[derive(Debug, Clone, Copy)]
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
    consumers: usize,
    /// The client asks for consumers, or cancels them, without a reply.
    pub(super) consumes_unanswered: bool,
    /// What went by in each flow up to here may have been missed: what began before may be what it ended.
    missed: [u64; 2],
    /// Since when the broker takes publishes; [`u64::MAX`] after connection.blocked.
    pub(super) listens_since: u64,
    pool: Vec<String>,
    /// Queues that were declared as exclusive or auto-delete.
    temporary: HashSet<Box<str>>,
}

/// Temporary queues of a connection that are known as such.
const TEMPORARY: usize = 4096;

impl Ledger {
    /// A queue is declared.
    pub(super) fn declared(&mut self, open: &Open, output: &mut dyn Output) {
        let Some(queue) = open
            .get(Field::Queue)
            .filter(|_| open.operation == Operation::QueueDeclare)
        else {
            return;
        };
        if !open.temporary {
            self.temporary.remove(queue);
        } else if self.temporary.len() < TEMPORARY {
            self.temporary.insert(queue.into());
        } else if !self.temporary.contains(queue) {
            output.lost(Loss::Evicted, 1);
        }
    }

    /// A queue is no more.
    pub(super) fn deleted(&mut self, open: &Open) {
        if let Some(queue) = open.get(Field::Queue) {
            self.temporary.remove(queue);
        }
    }

    fn is_temporary(&self, open: &Open) -> bool {
        let known = |queue: &str| self.temporary.contains(queue);
        let key = || {
            open.get(Field::RoutingKey)
                .filter(|_| open.get(Field::Exchange) == Some(""))
        };
        !self.temporary.is_empty() && open.get(Field::Queue).or_else(key).is_some_and(known)
    }

    pub(super) fn text(&mut self) -> String {
        self.pool.pop().unwrap_or_default()
    }

    /// What began up to here on `channel` may have been ended by what was missed of `flow`.
    pub(super) fn missed(&self, channel: &Channel, flow: Flow) -> u64 {
        self.missed[flow as usize].max(channel.missed(flow))
    }

    /// As [`Ledger::missed`], of whatever channel.
    pub(super) fn missed_of_all(&self, flow: Flow) -> u64 {
        self.missed[flow as usize]
    }

    pub(super) fn miss(&mut self, flow: Flow, time: u64) {
        let missed = &mut self.missed[flow as usize];
        *missed = (*missed).max(time);
    }

    /// What came in `flow` at `time` could be matched with nothing on `channel`, and more `may_come` in the other one.
    /// Where the channel's opening was not seen, that may be of another one that has, or had, its number.
    pub(super) fn unmatched(
        &mut self,
        channel: &Channel,
        flow: Flow,
        time: u64,
        may_come: Result<(), Early>,
    ) {
        if !channel.known && may_come.is_err() {
            self.miss(flow, time);
        }
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
        if open.start > end {
            // It is not what ended there.
            return self.lose(open, Loss::UnpairedRequest, output);
        }
        let mut digits = [0; 5];
        let returned = (open.returned > 0).then(|| decimal(open.returned, &mut digits));
        let mut record = open.record(channel, outcome);
        record.temporary = self.is_temporary(&open);
        output.transaction(&Transaction {
            start: open.start,
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

    /// The oldest in `ring` has to go. Returns whether there is one.
    pub(super) fn lose_oldest(&mut self, ring: &mut Ring, loss: Loss, output: &mut dyn Output) -> bool {
        match self.took(ring.pop()) {
            Some(oldest) => self.lose(oldest, loss, output),
            None => return false,
        }
        true
    }

    /// Whether there is no room for more.
    pub(super) fn is_full(&self) -> bool {
        self.open >= MAX_OPEN
    }

    /// Adds to what is open; where there is no room, the oldest goes.
    pub(super) fn add(&mut self, ring: &mut Ring, open: Open, output: &mut dyn Output) {
        if self.is_full() && !self.lose_oldest(ring, Loss::Evicted, output) {
            return self.lose(open, Loss::Evicted, output);
        }
        self.open += 1;
        ring.push(open);
    }

    pub(super) fn took(&mut self, open: Option<Open>) -> Option<Open> {
        self.open -= usize::from(open.is_some());
        open
    }

    /// What is open in `ring` was cut off `at` a time, or, what began later, when it is `known` to both sides. Where its
    /// end may have been missed, that cannot be said.
    pub(super) fn cut(
        &mut self,
        number: u16,
        ring: &mut Ring,
        (at, known): (u64, Option<u64>),
        missed: bool,
        output: &mut dyn Output,
    ) {
        while ring
            .front()
            .is_some_and(|open| open.start <= at || known.is_some())
            && let Some(open) = self.took(ring.pop())
        {
            let of_delivery = open.operation == Operation::Deliver;
            let unknown = if of_delivery {
                open.no_ack.is_none()
            } else {
                open.doubtful
            };
            if missed || unknown {
                self.lose(open, Loss::UnpairedRequest, output);
            } else {
                let time = known.filter(|_| open.start > at).unwrap_or(at);
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

    /// Counts all that is open on a channel as lost.
    pub(super) fn forget(&mut self, channel: &mut Channel, loss: Loss, output: &mut dyn Output) {
        for ring in [
            &mut channel.requests,
            &mut channel.publishes,
            &mut channel.unnumbered,
            &mut channel.returnable,
            &mut channel.deliveries,
        ] {
            self.lose_all(ring, loss, output);
        }
        self.lose_answered(channel, loss, output);
        for (open, _) in channel.unproved.drain(..) {
            self.lose(open, loss, output);
        }
        self.lose_log(channel, output);
        self.forget_consumers(channel);
        for content in &mut channel.content {
            if let Some(content) = content.take() {
                self.lose(content.open, loss, output);
            }
        }
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

    /// The request that a reply answers. Where it is doubtful, that is not certain.
    pub(super) fn answer(
        &mut self,
        channel: &mut Channel,
        operation: Operation,
        name: Option<&[u8]>,
        times: Times,
        may_come: Result<(), Early>,
        output: &mut dyn Output,
    ) -> Result<Option<Open>, Early> {
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
            output.lost(Loss::UnpairedResponse, 1);
            self.doubt(channel, output);
            channel.miss(Flow::ToClient, times.end);
            self.unmatched(channel, Flow::ToClient, times.end, may_come);
            return Ok(None);
        };
        Ok(Some(open))
    }

    /// `request`, which has left, was answered at `end`; of a basic.get, by so many `messages`.
    ///
    /// After a loss, requests that were not seen may have a claim to the answer. A client may have one synchronous
    /// request open on a channel (section 2.2.2), so exchanges in strict alternation show that those were answered.
    /// Until then it is kept.
    pub(super) fn answered(
        &mut self,
        number: u16,
        channel: &mut Channel,
        request: Open,
        end: u64,
        messages: Option<u64>,
        output: &mut dyn Output,
    ) {
        let answered = Answered {
            request,
            end,
            messages,
        };
        let alone = channel.requests.len() == 0;
        if !answered.request.doubtful {
            if alone {
                channel.caught_up();
            }
            self.sent_until(number, channel, answered.request.start.saturating_sub(1), output);
            self.report_answered(number, answered, output);
        } else if alone && !channel.pipelined && channel.doubt > 0 {
            channel.doubt -= 1;
            channel.answered.push(answered);
            if channel.doubt == 0 {
                self.trust(number, channel, output);
            }
        } else {
            self.lose(answered.request, Loss::UnpairedRequest, output);
        }
    }

    /// What was answered while that was not certain was answered by its own.
    pub(super) fn trust(&mut self, number: u16, channel: &mut Channel, output: &mut dyn Output) {
        for answered in std::mem::take(&mut channel.answered) {
            let request = &answered.request;
            let tag = request.get(Field::ConsumerTag).unwrap_or_default();
            match request.operation {
                Operation::BasicConsume => {
                    let no_ack = request.no_ack == Some(true);
                    let queue = request.get(Field::Queue);
                    self.add_consumer(channel, tag.as_bytes(), queue, no_ack, output);
                    self.resolve(number, channel, tag, no_ack, answered.end, output);
                }
                Operation::BasicCancel => self.forget_consumer(channel, tag.as_bytes()),
                _ => {}
            }
            self.report_answered(number, answered, output);
        }
    }

    /// The broker said that it is done with a channel: there is no request left without an answer, and no answer
    /// without its request was seen, so every one had its own.
    pub(super) fn all_answered(
        &mut self,
        number: u16,
        channel: &mut Channel,
        missed: [bool; 2],
        output: &mut dyn Output,
    ) {
        if missed == [false; 2] && channel.requests.len() == 0 && !channel.pipelined {
            self.trust(number, channel, output);
        }
    }

    pub(super) fn forget_consumers(&mut self, channel: &mut Channel) {
        self.consumers -= channel.consumers.drain(..).count();
    }

    /// Requests and replies may have been lost: which belong together has to be proved anew.
    pub(super) fn doubt(&mut self, channel: &mut Channel, output: &mut dyn Output) {
        channel.doubt = CONFIRMATIONS;
        self.lose_answered(channel, Loss::UnpairedRequest, output);
    }

    fn lose_answered(&mut self, channel: &mut Channel, loss: Loss, output: &mut dyn Output) {
        for answered in channel.answered.drain(..) {
            self.lose(answered.request, loss, output);
        }
    }

    fn report_answered(&mut self, number: u16, answered: Answered, output: &mut dyn Output) {
        let Answered {
            request,
            end,
            messages,
        } = answered;
        // A message that basic.get brought without acknowledgement to come is settled by that.
        let automatic = messages == Some(1) && request.no_ack == Some(true);
        let mut record = request.record(number, automatic.then_some(Outcome::Auto));
        record.message_count = messages;
        record.temporary = self.is_temporary(&request);
        output.transaction(&Transaction {
            start: request.start,
            end,
            error: None,
            remote_parent: None,
            tracestate: None,
            parent: None,
            record: Record::Amqp(record),
        });
        self.recycle(request);
    }

    /// What a channel knows of a consumer, in place of what it knew of one of this tag.
    pub(super) fn add_consumer(
        &mut self,
        channel: &mut Channel,
        tag: &[u8],
        queue: Option<&str>,
        no_ack: bool,
        output: &mut dyn Output,
    ) {
        self.forget_consumer(channel, tag);
        let Ok(tag) = std::str::from_utf8(tag) else {
            return;
        };
        if self.consumers >= MAX_CONSUMERS {
            return output.lost(Loss::Evicted, 1);
        }
        self.consumers += 1;
        let (tag, queue) = (tag.into(), queue.map(Into::into));
        channel.consumers.push(Consumer { tag, queue, no_ack });
    }

    pub(super) fn forget_consumer(&mut self, channel: &mut Channel, tag: &[u8]) {
        let before = channel.consumers.len();
        channel
            .consumers
            .retain(|consumer| consumer.tag.as_bytes() != tag);
        self.consumers -= before - channel.consumers.len();
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
        if !channel.could_have_caused(exception, time) {
            return false;
        }
        let names = |open: &Open| {
            frames::number(open.operation) == (exception.class, exception.method) && open.start <= time
        };
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

    /// No request is proved to have caused an exception. One that may have is not known to be merely cut off.
    pub(super) fn lose_suspects(
        &mut self,
        channel: &mut Channel,
        exception: Exception,
        time: u64,
        output: &mut dyn Output,
    ) {
        let named = (exception.class, exception.method);
        let names = |open: &Open| frames::number(open.operation) == named && open.start <= time;
        // Of publishes it would be the oldest.
        if channel.publishes.front().is_some_and(names) {
            self.lose_oldest(&mut channel.publishes, Loss::UnpairedRequest, output);
        }
        while let Some(open) = self.took(channel.requests.take_where(names)) {
            self.lose(open, Loss::UnpairedRequest, output);
        }
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
        let times = (at, Some(known));
        self.cut(number, &mut channel.deliveries, times, missed_to_server, output);
        self.cut(number, &mut channel.requests, times, missed_to_client, output);
        self.cut(number, &mut channel.publishes, times, missed_to_client, output);
        if !missed_to_client {
            self.sent_until(number, channel, u64::MAX, output);
        }
        self.forget(channel, Loss::UnpairedRequest, output);
    }
}

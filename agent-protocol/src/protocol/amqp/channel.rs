//! The state of a channel: what is open on it, and what is known of it.

use super::frames::{Exception, number};
use super::record::{Operation, Outcome, Record};
use crate::protocol::Flow;
use crate::trace_context::SpanContext;
use std::collections::VecDeque;

/// How long a broker may take to confirm before it is taken that it will not, in nanoseconds: a channel joined in
/// the middle of which no publish was confirmed for this long is taken to be without confirm mode.
const CONFIRM_PATIENCE: u64 = 5_000_000_000;

/// The same for a channel that is known to have been without confirm mode before something was lost.
const CONFIRM_PATIENCE_ONCE_OFF: u64 = 1_000_000_000;

/// How long a message may take to come back, in nanoseconds: so long a mandatory publish without confirm mode is
/// held, so that it can be reported as returned.
pub(super) const RETURN_PATIENCE: u64 = 1_000_000_000;

/// The shortest silence, in nanoseconds, that may show that everything is confirmed.
const QUIET: u64 = 1_000_000_000;

/// Strings of an operation, kept in one buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Exchange,
    RoutingKey,
    Queue,
    ConsumerTag,
    MessageId,
    CorrelationId,
    TraceState,
}

const FIELDS: usize = 7;

/// The longest `tracestate` kept: what every implementation must pass on (W3C Trace Context, section 3.3.1.5).
const MAX_TRACE_STATE: usize = 512;

/// An operation that waits for what ends it: a request for its reply, a publish for its confirm, a delivery for
/// its settlement.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) operation: Operation,
    /// Sequence number of a publish in confirm mode, delivery tag of a delivery.
    pub(super) tag: u64,
    /// First byte.
    pub(super) start: u64,
    /// Last byte of a message's body.
    pub(super) complete: u64,
    pub(super) body_size: Option<u64>,
    pub(super) parent: Option<SpanContext>,
    /// Reply code of the basic.return that names it; 0 for none.
    pub(super) returned: u16,
    pub(super) mandatory: bool,
    pub(super) redelivered: Option<bool>,
    /// Whether it is settled by being sent; `None` where that is not known.
    pub(super) no_ack: Option<bool>,
    /// A request that what is lost may have an earlier claim to the reply of; a publish that may be in confirm mode.
    pub(super) doubtful: bool,
    /// It has left, though what is in front of it has not.
    pub(super) gone: bool,
    text: String,
    ends: [u16; FIELDS],
    present: u8,
}

impl Open {
    pub(super) fn new(operation: Operation, start: u64, text: String) -> Open {
        Open {
            operation,
            tag: 0,
            start,
            complete: start,
            body_size: None,
            parent: None,
            returned: 0,
            mandatory: false,
            redelivered: None,
            no_ack: None,
            doubtful: false,
            gone: false,
            text,
            ends: [0; FIELDS],
            present: 0,
        }
    }

    /// Sets fields in the order of [`Field`]; what is no UTF-8 is as good as unknown.
    pub(super) fn set(&mut self, field: Field, value: Option<&[u8]>) {
        let at = field as usize;
        let value = value.and_then(|value| std::str::from_utf8(value).ok());
        let value = value.filter(|value| value.len() <= MAX_TRACE_STATE);
        self.text.truncate(self.begin(at).into());
        if let Some(value) = value {
            self.present |= 1 << at;
            self.text.push_str(value);
        } else {
            self.present &= !(1 << at);
        }
        // At most six short strings and a bounded one.
        let end = self.text.len() as u16;
        self.ends[at..].fill(end);
    }

    fn begin(&self, at: usize) -> u16 {
        at.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    pub(super) fn get(&self, field: Field) -> Option<&str> {
        let at = field as usize;
        let range = self.begin(at).into()..self.ends[at].into();
        (self.present & (1 << at) != 0)
            .then(|| self.text.get(range))
            .flatten()
    }

    /// Whether a returned message of this exchange and routing key may be this publish.
    pub(super) fn may_be(&self, exchange: &[u8], routing_key: &[u8]) -> bool {
        let is = |field, value| self.get(field).map(str::as_bytes) == Some(value);
        self.mandatory && is(Field::Exchange, exchange) && is(Field::RoutingKey, routing_key)
    }

    pub(super) fn record(&self, channel: u16, outcome: Option<Outcome>) -> Record<'_> {
        let delivery = self.operation == Operation::Deliver;
        Record {
            operation: self.operation,
            channel,
            exchange: self.get(Field::Exchange),
            routing_key: self.get(Field::RoutingKey),
            queue: self.get(Field::Queue),
            consumer_tag: self.get(Field::ConsumerTag),
            message_id: self.get(Field::MessageId),
            correlation_id: self.get(Field::CorrelationId),
            tracestate: self.get(Field::TraceState),
            body_size: self.body_size,
            delivery_tag: delivery.then_some(self.tag),
            redelivered: self.redelivered,
            outcome,
            message_count: None,
        }
    }

    /// Its buffer, for another.
    pub(super) fn into_text(self) -> String {
        self.text
    }
}

/// Operations in the order of their tags, from which any may leave.
#[derive(Debug, Default)]
pub(super) struct Ring {
    entries: VecDeque<Open>,
}

impl Ring {
    pub(super) fn push(&mut self, open: Open) {
        self.entries.push_back(open);
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Open> {
        self.entries.iter_mut().filter(|open| !open.gone)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Open> {
        self.entries.iter().filter(|open| !open.gone)
    }

    /// The highest tag.
    pub(super) fn last_tag(&self) -> Option<u64> {
        self.entries.back().map(|open| open.tag)
    }

    /// When the latest began.
    pub(super) fn last_start(&self) -> Option<u64> {
        self.entries.back().map(|open| open.start)
    }

    pub(super) fn front(&self) -> Option<&Open> {
        self.entries.front()
    }

    /// Takes the first.
    pub(super) fn pop(&mut self) -> Option<Open> {
        let open = self.entries.pop_front()?;
        self.trim();
        Some(open)
    }

    /// Takes the one of this tag.
    fn take(&mut self, tag: u64) -> Option<Open> {
        let at = self.entries.binary_search_by_key(&tag, |open| open.tag).ok()?;
        if at == 0 {
            return self.pop();
        }
        let entry = self.entries.get_mut(at).filter(|open| !open.gone)?;
        // The strings go along; what stays is a placeholder until those in front have left.
        let mut placeholder = Open::new(entry.operation, entry.start, String::new());
        (placeholder.tag, placeholder.gone) = (tag, true);
        Some(std::mem::replace(entry, placeholder))
    }

    /// Takes the first for which this holds.
    pub(super) fn take_where(&mut self, holds: impl Fn(&Open) -> bool) -> Option<Open> {
        let at = self.entries.iter().position(|open| !open.gone && holds(open))?;
        let open = self.entries.remove(at);
        self.trim();
        open
    }

    /// Takes the one of this tag or, with `multiple`, the first up to it.
    pub(super) fn settled(&mut self, tag: u64, multiple: bool) -> Option<Open> {
        match multiple {
            true => (self.front()?.tag <= tag).then(|| self.pop()).flatten(),
            false => self.take(tag),
        }
    }

    fn trim(&mut self) {
        while self.entries.front().is_some_and(|open| open.gone) {
            self.entries.pop_front();
        }
        if self.entries.is_empty() && self.entries.capacity() > 1024 {
            self.entries = VecDeque::new();
        }
    }
}

/// What is known of a channel's confirm mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Unknown,
    Off,
    On,
}

/// Confirm mode and the sequence numbers of publishes (<https://www.rabbitmq.com/docs/confirms>).
#[derive(Debug)]
pub(super) struct Confirms {
    pub(super) mode: Mode,
    /// Sequence number of the next publish.
    pub(super) next: Option<u64>,
    /// It was off before something was lost, and only a confirm.select without reply can have turned it on unseen.
    was_off: bool,
    /// End of the first publish since when all is seen of both flows and none was confirmed.
    pub(super) silent_since: Option<u64>,
    /// Publishes and confirms seen while the numbers are not known: the publish that was seen as the nth has a
    /// number of at least `floor + n`.
    seen: u64,
    floor: u64,
    confirmed: u64,
    last_publish: u64,
    last_confirm: u64,
    slowest: u64,
    quiet: u8,
}

/// Quiet moments that agree before the numbers are taken to be known.
const QUIET_MOMENTS: u8 = 2;

impl Confirms {
    pub(super) fn new(mode: Mode) -> Confirms {
        Confirms {
            mode,
            next: None,
            was_off: false,
            silent_since: None,
            seen: 0,
            floor: 0,
            confirmed: 0,
            last_publish: 0,
            last_confirm: 0,
            slowest: 0,
            quiet: 0,
        }
    }

    /// confirm.select was sent.
    pub(super) fn select(&mut self) {
        match self.mode {
            Mode::Off => {
                *self = Confirms::new(Mode::On);
                self.next = Some(1);
            }
            Mode::Unknown => *self = Confirms::new(Mode::On),
            Mode::On => {}
        }
    }

    /// Publishes may have been lost.
    pub(super) fn lose_publishes(&mut self) {
        let was_off = self.was_off || self.mode == Mode::Off;
        *self = Confirms::new(if self.mode == Mode::On {
            Mode::On
        } else {
            Mode::Unknown
        });
        self.was_off = was_off;
    }

    /// When a silence that goes on is enough to tell that the mode is off.
    pub(super) fn silent_until(&self) -> Option<u64> {
        let patience = if self.was_off {
            CONFIRM_PATIENCE_ONCE_OFF
        } else {
            CONFIRM_PATIENCE
        };
        self.silent_since.map(|since| since + patience)
    }

    /// Confirms may have been lost.
    pub(super) fn lose_confirms(&mut self) {
        self.silent_since = None;
        if self.next.is_none() {
            let was_off = self.was_off;
            *self = Confirms::new(self.mode);
            self.was_off = was_off;
        }
    }

    /// The broker confirmed `tag` at `time`.
    pub(super) fn confirmed(&mut self, tag: u64, time: u64) {
        self.mode = Mode::On;
        if self.next.is_some() {
            return;
        }
        if tag.saturating_sub(self.seen) > self.floor {
            self.floor = tag.saturating_sub(self.seen);
            self.quiet = 0;
        }
        self.confirmed = self.confirmed.max(tag);
        self.last_confirm = time;
        if self.seen > 0 {
            self.slowest = self.slowest.max(time.saturating_sub(self.last_publish));
        }
    }

    /// The sequence number of a publish seen at `time`, where it is known. Where it is not, numbers are inferred:
    /// what was seen gives a lower bound, which is exact once everything is confirmed; that it is, shows in a
    /// silence that is long beside the time that confirms take.
    pub(super) fn publish(&mut self, time: u64) -> Option<u64> {
        if let Some(next) = self.next {
            self.next = Some(next + 1);
            return Some(next);
        }
        let pause = time.saturating_sub(self.last_confirm);
        let all_confirmed = self.confirmed > 0 && self.confirmed == self.floor + self.seen;
        if all_confirmed && pause >= QUIET && pause / 8 >= self.slowest {
            self.quiet += 1;
        }
        self.seen += 1;
        self.last_publish = time;
        if self.quiet < QUIET_MOMENTS {
            return None;
        }
        let number = self.floor + self.seen;
        self.next = Some(number + 1);
        Some(number)
    }
}

/// What a consumer reads.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) tag: Box<str>,
    pub(super) queue: Option<Box<str>>,
    pub(super) no_ack: bool,
}

/// A message on its way in one flow.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) open: Open,
    pub(super) kind: ContentKind,
    /// Bytes of the body still to come; `None` before the content header.
    pub(super) left: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentKind {
    Publish,
    Deliver,
    /// A message of get-ok.
    Got,
    /// A returned message, with the reply code.
    Return(u16),
}

/// A channel that is being closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closing {
    /// When channel.close went by.
    pub(super) at: u64,
    pub(super) by_server: bool,
}

#[derive(Debug)]
pub(super) struct Channel {
    /// Opened before our eyes, and nothing lost since: replies that fit nothing are early, not foreign.
    pub(super) known: bool,
    /// When channel.open went by; 0 where it was not seen.
    pub(super) opened: u64,
    /// Synchronous requests, in the order sent.
    pub(super) requests: Ring,
    /// Publishes that wait for their confirm, or to be known as returned or not.
    pub(super) publishes: Ring,
    /// Messages that wait for their settlement.
    pub(super) deliveries: Ring,
    pub(super) confirms: Confirms,
    pub(super) consumers: Vec<Consumer>,
    /// The latest delivery tag.
    pub(super) last_tag: Option<u64>,
    /// The queue declared last, which an empty name means.
    pub(super) last_queue: Option<Box<str>>,
    pub(super) content: [Option<Content>; 2],
    pub(super) closing: Option<Closing>,
    /// Requests and replies were lost: exchanges still to be seen in strict alternation before they are paired.
    pub(super) doubt: u8,
    /// Operations, one bit each, that went without an answer to come: an exception can be theirs.
    pub(super) unanswered: u32,
    /// More than one request was open at a time: alternation proves nothing.
    pub(super) pipelined: bool,
}

/// Exchanges in strict alternation that restore trust in the pairing of requests and replies.
pub(super) const CONFIRMATIONS: u8 = 2;

/// Consumers kept per channel.
const MAX_CONSUMERS: usize = 1024;

impl Channel {
    pub(super) fn new(known: bool) -> Channel {
        Channel {
            known,
            opened: 0,
            requests: Ring::default(),
            publishes: Ring::default(),
            deliveries: Ring::default(),
            confirms: Confirms::new(if known { Mode::Off } else { Mode::Unknown }),
            consumers: Vec::new(),
            last_tag: known.then_some(0),
            last_queue: None,
            content: [None, None],
            closing: None,
            doubt: if known { 0 } else { CONFIRMATIONS },
            unanswered: 0,
            pipelined: false,
        }
    }

    pub(super) fn consumer(&self, tag: &[u8]) -> Option<&Consumer> {
        self.consumers
            .iter()
            .find(|consumer| consumer.tag.as_bytes() == tag)
    }

    pub(super) fn forget_consumer(&mut self, tag: &[u8]) {
        self.consumers.retain(|consumer| consumer.tag.as_bytes() != tag);
    }

    /// Returns whether there was room.
    pub(super) fn add_consumer(&mut self, tag: &[u8], queue: Option<&str>, no_ack: bool) -> bool {
        self.forget_consumer(tag);
        let Ok(tag) = std::str::from_utf8(tag) else {
            return true;
        };
        if self.consumers.len() >= MAX_CONSUMERS {
            return false;
        }
        let (tag, queue) = (tag.into(), queue.map(Into::into));
        self.consumers.push(Consumer { tag, queue, no_ack });
        true
    }
}

impl Channel {
    /// `request`, which has left, was answered. Returns whether it is certain that the answer is its own: after a
    /// loss, requests that were not seen may have a claim to it. A client may have one synchronous request open on
    /// a channel (section 2.2.2), so exchanges in strict alternation show that those were answered.
    pub(super) fn answered(&mut self, request: &Open) -> bool {
        if request.doubtful && self.doubt > 0 && !self.pipelined && self.requests.len() == 0 {
            self.doubt -= 1;
        }
        !request.doubtful
    }

    /// Whether the request that an exception names is open here, without doubt.
    pub(super) fn could_have_caused(&self, exception: Exception) -> bool {
        let named = (exception.class, exception.method);
        let names = |open: &Open| {
            let certain = !open.doubtful && self.unanswered & (1 << open.operation as u32) == 0;
            number(open.operation) == named && certain
        };
        if named == number(Operation::Publish) {
            // The oldest unconfirmed, where none was lost.
            self.known && self.confirms.mode == Mode::On && self.publishes.front().is_some_and(names)
        } else {
            self.requests.iter().any(names)
        }
    }

    /// A message came back. The broker takes publishes in order, so it is the oldest of those that look like it.
    /// Returns whether there is one.
    pub(super) fn returned(&mut self, message: &Open, code: u16) -> bool {
        const FIELDS: [Field; 4] = [
            Field::Exchange,
            Field::RoutingKey,
            Field::MessageId,
            Field::CorrelationId,
        ];
        let found = self.publishes.iter_mut().find(|open| {
            open.mandatory
                && open.returned == 0
                && open.start <= message.start
                && open.body_size == message.body_size
                && FIELDS.iter().all(|&field| open.get(field) == message.get(field))
        });
        match found {
            Some(open) => open.returned = code,
            None => return false,
        }
        true
    }

    /// Delivery tag of the message on its way.
    pub(super) fn content_tag(&self) -> Option<u64> {
        let content = self.content[Flow::ToClient as usize].as_ref()?;
        matches!(content.kind, ContentKind::Deliver | ContentKind::Got).then_some(content.open.tag)
    }
}

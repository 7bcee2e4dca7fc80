//! The state of a channel: what is open on it, and what is known of it.

use super::confirms::{Confirms, Mode};
use super::frames::{Exception, number};
use super::record::{Operation, Outcome, Record};
use super::ring::Ring;
use super::settlement::Settlement;
use crate::protocol::Flow;
use crate::trace_context::SpanContext;
use std::collections::VecDeque;

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
    /// Sequence number of a publish in confirm mode (where it is not known yet: it is so many'th since the channel was
    /// joined, 0 where not even that is known), delivery tag of a delivery.
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
    /// A basic.recover that has messages go back to their queue.
    pub(super) requeue: bool,
    pub(super) redelivered: Option<bool>,
    /// Whether it is settled by being sent; `None` where that is not known.
    pub(super) no_ack: Option<bool>,
    /// A request that what is lost may have an earlier claim to the reply of; a delivery whose last byte was lost.
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
            requeue: false,
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

/// A request with its answer, as it seems.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) request: Open,
    pub(super) end: u64,
    /// What it brought, of a basic.get.
    pub(super) messages: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Channel {
    /// Opened before our eyes, and nothing lost since: replies that fit nothing are early, not foreign.
    pub(super) known: bool,
    /// When channel.open went by; 0 where it was not seen.
    pub(super) opened: u64,
    /// Synchronous requests, in the order sent.
    pub(super) requests: Ring,
    /// Such as were answered while that was not certain.
    pub(super) answered: Vec<Answered>,
    /// Publishes that wait for their confirm.
    pub(super) publishes: Ring,
    /// One that waited for its confirm was lost: which is the oldest is not known.
    pub(super) lost_publish: bool,
    /// Publishes that are in confirm mode, or may be, without a sequence number.
    pub(super) unnumbered: Ring,
    /// Publishes without confirm mode that wait to be known as returned or not.
    pub(super) returnable: Ring,
    /// Messages that wait for their settlement.
    pub(super) deliveries: Ring,
    /// Messages that are settled if their consumer acknowledges, which is not known.
    pub(super) unproved: VecDeque<(Open, Settlement)>,
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
    /// Operations, one bit each, that went without an answer to come: an exception can be theirs. Those before the
    /// latest request, and those since.
    unanswered: [u32; 2],
    /// More than one request was open at a time: alternation proves nothing.
    pub(super) pipelined: bool,
    /// What came in each flow up to here and could be matched with nothing may have ended what began before.
    missed: [u64; 2],
}

/// Exchanges in strict alternation that restore trust in the pairing of requests and replies.
pub(super) const CONFIRMATIONS: u8 = 2;

impl Channel {
    pub(super) fn new(known: bool) -> Channel {
        Channel {
            known,
            opened: 0,
            requests: Ring::default(),
            answered: Vec::new(),
            publishes: Ring::default(),
            lost_publish: false,
            unnumbered: Ring::default(),
            returnable: Ring::default(),
            deliveries: Ring::default(),
            unproved: VecDeque::new(),
            confirms: Confirms::new(if known { Mode::Off } else { Mode::Unknown }),
            consumers: Vec::new(),
            last_tag: known.then_some(0),
            last_queue: None,
            content: [None, None],
            closing: None,
            doubt: if known { 0 } else { CONFIRMATIONS },
            unanswered: [0; 2],
            pipelined: false,
            missed: [0; 2],
        }
    }

    pub(super) fn missed(&self, flow: Flow) -> u64 {
        self.missed[flow as usize]
    }

    /// What came in `flow` up to `time` could be matched with nothing.
    pub(super) fn miss(&mut self, flow: Flow, time: u64) {
        let missed = &mut self.missed[flow as usize];
        *missed = (*missed).max(time);
    }

    /// An operation to which no answer will come was sent.
    pub(super) fn went_unanswered(&mut self, operation: Operation) {
        self.unanswered[1] |= 1 << operation as u32;
    }

    /// A request was sent.
    pub(super) fn asked(&mut self) {
        self.unanswered[0] |= std::mem::take(&mut self.unanswered[1]);
    }

    /// The latest request was answered: a broker takes the methods of a channel in order (section 2.2.2), so what was
    /// sent before it went well.
    pub(super) fn caught_up(&mut self) {
        self.unanswered[0] = 0;
    }

    pub(super) fn consumer(&self, tag: &[u8]) -> Option<&Consumer> {
        self.consumers
            .iter()
            .find(|consumer| consumer.tag.as_bytes() == tag)
    }

    /// Whether the request that an exception, which came at `time`, names is open here, without doubt.
    pub(super) fn could_have_caused(&self, exception: Exception, time: u64) -> bool {
        let named = (exception.class, exception.method);
        let names = |open: &Open| {
            let unanswered = self.unanswered[0] | self.unanswered[1];
            let certain = !open.doubtful && unanswered & (1 << open.operation as u32) == 0;
            number(open.operation) == named && certain && open.start <= time
        };
        if named == number(Operation::Publish) {
            // The oldest unconfirmed, where none was lost.
            let whole = self.known && !self.lost_publish && self.confirms.mode == Mode::On;
            whole && self.publishes.front().is_some_and(names)
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
        let rings = [&mut self.publishes, &mut self.unnumbered, &mut self.returnable];
        let found = rings.into_iter().flat_map(Ring::iter_mut).find(|open| {
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

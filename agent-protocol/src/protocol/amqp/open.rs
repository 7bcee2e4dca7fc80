//! An operation that is open, with what is known of it.

use crate::record::amqp::{Operation, Outcome, Record};
use crate::trace_context::SpanContext;

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
    /// It declares a queue that goes with the connection or with its last consumer.
    pub(super) temporary: bool,
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
            temporary: false,
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
            temporary: false,
        }
    }

    /// Its buffer, for another.
    pub(super) fn into_text(self) -> String {
        self.text
    }
}

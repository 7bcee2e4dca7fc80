//! The state of a channel: what is open on it, and what is known of it.

use super::confirm_mode::{Confirms, Mode};
use super::frames::{Exception, number};
use super::open::{Field, Open};
use super::ring::Ring;
use crate::protocol::Flow;
use crate::record::amqp::{Operation, Outcome};
use std::collections::VecDeque;

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

/// How deliveries are settled, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settlement {
    pub(super) outcome: Outcome,
    pub(super) error: Option<&'static str>,
    pub(super) time: u64,
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

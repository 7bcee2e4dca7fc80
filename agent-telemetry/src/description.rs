//! What is said of a transaction, in spans and in metrics.

use crate::instrument::Instrument;
use crate::value::{Attribute, Key, Value};
use arrayvec::ArrayVec;
use opentelemetry_semantic_conventions::attribute::ERROR_TYPE;
use redwire_protocol::connection::Side;

/// Kind of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// It answered a request.
    Server,
    /// It sent a request.
    Client,
    /// It sent a message.
    Producer,
    /// It got a message.
    Consumer,
}

impl Kind {
    /// As in the lines of `--output jsonl`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Server => "SERVER",
            Kind::Client => "CLIENT",
            Kind::Producer => "PRODUCER",
            Kind::Consumer => "CONSUMER",
        }
    }
}

impl From<Side> for Kind {
    fn from(side: Side) -> Self {
        match side {
            Side::Client => Kind::Client,
            Side::Server => Kind::Server,
        }
    }
}

/// Status of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Nothing is said.
    Unset,
    /// It went well, as the conventions of its protocol let one say.
    Ok,
    /// It failed.
    Error,
}

impl Status {
    /// As in the lines of `--output jsonl`.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Unset => "unset",
            Status::Ok => "ok",
            Status::Error => "error",
        }
    }
}

/// Attributes of a span at most.
pub(crate) const ATTRIBUTES: usize = 40;

/// Attributes of a metric at most.
pub(crate) const DIMENSIONS: usize = 14;

/// What is said of a transaction.
#[derive(Debug)]
pub struct Description<'a> {
    /// The protocol, for people (the table).
    pub protocol: &'static str,
    /// Name of the span.
    pub name: &'a str,
    /// Kind of the span.
    pub kind: Kind,
    /// Status of the span.
    pub status: Status,
    /// Attributes of the span.
    pub attributes: ArrayVec<Attribute<'a>, ATTRIBUTES>,
    /// Attributes of the metrics.
    pub dimensions: ArrayVec<Attribute<'a>, DIMENSIONS>,
    /// What is measured, all under `dimensions`.
    pub measurements: ArrayVec<(&'static Instrument, f64), 6>,
}

impl<'a> Description<'a> {
    /// One without attributes.
    pub fn new(protocol: &'static str, name: &'a str, kind: Kind) -> Description<'a> {
        Description {
            protocol,
            name,
            kind,
            status: Status::Unset,
            attributes: ArrayVec::new(),
            dimensions: ArrayVec::new(),
            measurements: ArrayVec::new(),
        }
    }

    /// Sets an attribute of the span.
    pub fn span(&mut self, key: Key, value: impl Into<Value<&'a str>>) {
        let full = self.attributes.try_push((key, value.into())).is_err();
        debug_assert!(!full, "no room for {key}");
    }

    /// Sets an attribute of the metrics.
    pub fn metric(&mut self, key: Key, value: impl Into<Value<&'a str>>) {
        let full = self.dimensions.try_push((key, value.into())).is_err();
        debug_assert!(!full, "no room for {key}");
    }

    /// Sets an attribute of both.
    pub fn both(&mut self, key: Key, value: impl Into<Value<&'a str>>) {
        let value = value.into();
        self.span(key, value);
        self.metric(key, value);
    }

    /// Makes it an error of the type `reason` (`error.type`).
    pub fn error(&mut self, reason: impl Into<Value<&'a str>>) {
        self.status = Status::Error;
        self.both(ERROR_TYPE, reason);
    }

    /// Measures `value`.
    pub fn measure(&mut self, instrument: &'static Instrument, value: f64) {
        let full = self.measurements.try_push((instrument, value)).is_err();
        debug_assert!(!full, "no room for {}", instrument.name);
    }
}

//! From a record to what is said of it: one file per family of protocols.
//!
//! A family's `describe` fills a [`Description`] that borrows from the record, from [`Scratch`] for texts that
//! have to be put together, or from constants. Nothing is allocated per transaction.

mod batch;
mod database;
mod http;
mod messaging;
mod network;
mod rpc;
mod websocket;

pub(crate) use batch::{Batch, Origin, Parent, Span, TEXT};
pub use http::HttpConfig;

use crate::metrics::Instrument;
use crate::route::Routes;
use crate::value::{Attribute, Key, Value};
use arrayvec::ArrayVec;
use opentelemetry_semantic_conventions::attribute::ERROR_TYPE;
use redwire_protocol::connection::{ConnectionInfo, Endpoint, Side};
use redwire_protocol::transaction::{Record, Transaction};

pub(crate) use database::cache;
pub(crate) use messaging::unattributed;
pub(crate) use rpc::messages;
pub(crate) use websocket::open_connections;

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

/// What a transaction's description is made from, its record aside.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) connection: &'a ConnectionInfo,
    pub(crate) side: Side,
    pub(crate) transaction: &'a Transaction<'a>,
    pub(crate) config: &'a SpanConfig,
    /// Whose routes are meant.
    pub(crate) resource: u64,
}

impl<'a> Context<'a> {
    /// The end that sent the request. On the wire `local` is the client, as the stream reports it.
    pub(crate) fn client(&self) -> &'a Endpoint {
        client_and_server(self.connection, self.side).0
    }

    /// The end that answered.
    pub(crate) fn server(&self) -> &'a Endpoint {
        client_and_server(self.connection, self.side).1
    }

    /// Seconds from the first byte of the request to the last of the response.
    pub(crate) fn duration(&self) -> f64 {
        self.transaction.end.saturating_sub(self.transaction.start) as f64 / 1e9
    }
}

pub(crate) fn client_and_server(connection: &ConnectionInfo, side: Side) -> (&Endpoint, &Endpoint) {
    match side {
        Side::Client => (&connection.local, &connection.remote),
        Side::Server => (&connection.remote, &connection.local),
    }
}

/// What may be said in spans.
#[derive(Debug, Clone, Default)]
pub struct SpanConfig {
    /// Of HTTP.
    pub http: HttpConfig,
}

/// Buffers for texts that are put together, and what routes have been learned.
pub(crate) struct Scratch {
    name: String,
    template: String,
    url: String,
    routes: Routes,
}

impl Scratch {
    pub(crate) fn new(routes: Routes) -> Scratch {
        Scratch {
            name: String::new(),
            template: String::new(),
            url: String::new(),
            routes,
        }
    }
}

/// Says what there is to say of a transaction.
pub(crate) fn describe<'a>(context: Context<'a>, scratch: &'a mut Scratch) -> Description<'a> {
    match &context.transaction.record {
        Record::Http(record) => http::describe(record, context, scratch),
        Record::Amqp(record) => messaging::amqp(record, context, scratch),
        Record::Postgres(record) => database::postgres(record, context, scratch),
        Record::Redis(record) => database::redis(record, context, scratch),
        Record::Rpc(record) => rpc::describe(record, context, scratch),
        Record::WebSocket(record) => websocket::describe(record, context, scratch),
    }
}

#[cfg(test)]
mod tests;

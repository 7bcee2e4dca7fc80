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

#[cfg(test)]
pub(crate) use batch::TEXT;
pub(crate) use batch::{Batch, Origin, Parent, Span, bounded};
pub use http::HttpConfig;

pub(crate) use crate::description::{Description, Kind, Status};
use crate::route::Routes;
use redwire_protocol::connection::{ConnectionInfo, Endpoint, Side};
use redwire_protocol::record::Record;
use redwire_protocol::transaction::Transaction;

pub(crate) use database::cache;
pub(crate) use messaging::unattributed;
pub(crate) use rpc::messages;
pub(crate) use websocket::open_connections;

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

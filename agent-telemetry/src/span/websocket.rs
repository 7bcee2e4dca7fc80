//! WebSocket sessions. The conventions have none; the names under `redwire.` are ours.

use super::network;
use super::{Context, Description, Kind, Scratch};
use crate::instrument::{Instrument, InstrumentKind};
use opentelemetry_semantic_conventions::attribute::{NETWORK_PROTOCOL_NAME, URL_PATH};
use redwire_protocol::connection::{ConnectionInfo, Side};
use redwire_protocol::record::websocket::Record;
use std::fmt::Write as _;

const PROTOCOL: &str = "WebSocket";

/// Bytes from client to server after the upgrade.
const BYTES_TO_SERVER: &str = "redwire.websocket.bytes_to_server";

/// Bytes from server to client after the upgrade.
const BYTES_TO_CLIENT: &str = "redwire.websocket.bytes_to_client";

static SERVER_CONNECTIONS: Instrument = Instrument {
    name: "redwire.websocket.server.open_connections",
    unit: "{connection}",
    description: "WebSocket sessions that are open at a server.",
    kind: InstrumentKind::UpDownCounter,
};

static CLIENT_CONNECTIONS: Instrument = Instrument {
    name: "redwire.websocket.client.open_connections",
    unit: "{connection}",
    description: "WebSocket sessions that a client has open.",
    kind: InstrumentKind::UpDownCounter,
};

/// A session: in no request metric.
pub(super) fn describe<'a>(
    record: &'a Record<'a>,
    context: Context<'a>,
    scratch: &'a mut Scratch,
) -> Description<'a> {
    scratch.name.clear();
    scratch.name.push_str(PROTOCOL);
    if let Some(path) = record.path {
        let scope = super::http::scope(&context);
        if scratch.routes.template(scope, path, true, &mut scratch.template) {
            let _ = write!(scratch.name, " {}", scratch.template);
        }
    }
    let scratch: &'a Scratch = scratch;
    let mut to = Description::new(PROTOCOL, &scratch.name, Kind::from(context.side));
    if let Some(path) = record.path {
        to.span(URL_PATH, path);
    }
    network::set_server(&mut to, network::server(context, record.authority), false);
    network::client(context, &mut to);
    network::describe(context, &mut to);
    to.span(NETWORK_PROTOCOL_NAME, "websocket");
    to.span(BYTES_TO_SERVER, record.bytes_to_server);
    to.span(BYTES_TO_CLIENT, record.bytes_to_client);
    if let Some(reason) = context.transaction.error {
        to.error(reason);
    }
    to
}

/// The gauge of open sessions, changed by `change`.
pub(crate) fn open_connections(connection: &ConnectionInfo, side: Side, change: i64) -> Description<'_> {
    let mut to = Description::new(PROTOCOL, PROTOCOL, Kind::from(side));
    let (_, server) = super::client_and_server(connection, side);
    let instrument = match side {
        Side::Server => &SERVER_CONNECTIONS,
        Side::Client => &CLIENT_CONNECTIONS,
    };
    network::set_server(&mut to, network::address(server), true);
    to.measure(instrument, change as f64);
    to
}

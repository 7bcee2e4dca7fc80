//! gRPC: the conventions' "RPC spans", "RPC metrics" and "Semantic conventions for gRPC".

use super::network;
use super::{Context, Description, Kind, Scratch};
use crate::metrics::{Instrument, InstrumentKind};
use crate::value::{Key, Value};
use opentelemetry_semantic_conventions::attribute::{
    NETWORK_PROTOCOL_NAME, NETWORK_PROTOCOL_VERSION, RPC_METHOD, RPC_RESPONSE_STATUS_CODE, RPC_SYSTEM_NAME,
    USER_AGENT_ORIGINAL,
};
use opentelemetry_semantic_conventions::metric as semconv;
use redwire_protocol::connection::{ConnectionInfo, Side};
use redwire_protocol::protocol::grpc::{Messages, Record};
use std::fmt::Write as _;

const PROTOCOL: &str = "gRPC";

/// Messages and their bytes (as sent, without prefixes); the conventions have no attributes for them.
const REQUEST_MESSAGES: Key = "redwire.rpc.request.messages";
const REQUEST_BYTES: Key = "redwire.rpc.request.bytes";
const RESPONSE_MESSAGES: Key = "redwire.rpc.response.messages";
const RESPONSE_BYTES: Key = "redwire.rpc.response.bytes";

/// Which way messages went: `request` or `response`.
const DIRECTION: Key = "redwire.rpc.direction";

/// The boundaries that the conventions give for `rpc.*.call.duration`.
const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

static SERVER_DURATION: Instrument = Instrument {
    name: semconv::RPC_SERVER_CALL_DURATION,
    unit: "s",
    description: "Measures the duration of an incoming Remote Procedure Call (RPC).",
    kind: InstrumentKind::Histogram(SECONDS),
};
static CLIENT_DURATION: Instrument = Instrument {
    name: semconv::RPC_CLIENT_CALL_DURATION,
    unit: "s",
    description: "Measures the duration of an outgoing Remote Procedure Call (RPC).",
    kind: InstrumentKind::Histogram(SECONDS),
};
static MESSAGES: Instrument = Instrument {
    name: "redwire.rpc.messages",
    unit: "{message}",
    description: "Messages of gRPC calls, those of open calls included.",
    kind: InstrumentKind::Counter,
};
static BYTES: Instrument = Instrument {
    name: "redwire.rpc.message.bytes",
    unit: "By",
    description: "Bytes of the messages of gRPC calls, those of open calls included.",
    kind: InstrumentKind::Counter,
};

/// Status codes that are a server's fault (semantic conventions for gRPC, "gRPC status"): UNKNOWN,
/// DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE and DATA_LOSS. For a client all but OK are errors.
fn is_error(side: Side, code: u32) -> bool {
    match side {
        Side::Client => code != 0,
        Side::Server => matches!(code, 2 | 4 | 12 | 13 | 14 | 15),
    }
}

pub(super) fn describe<'a>(
    record: &'a Record<'a>,
    context: Context<'a>,
    scratch: &'a mut Scratch,
) -> Description<'a> {
    let known = write_method(record, &mut scratch.name);
    if !known {
        scratch.name.push_str("grpc");
    }
    let scratch: &'a Scratch = scratch;
    let mut to = Description::new(PROTOCOL, &scratch.name, Kind::from(context.side));
    to.both(RPC_SYSTEM_NAME, "grpc");
    if known {
        to.both(RPC_METHOD, scratch.name.as_str());
    }
    let code = record.status.map(|status| match status.name() {
        Some(name) => Value::Str(name),
        None => Value::Decimal(status.0.into()),
    });
    if let Some(code) = &code {
        to.both(RPC_RESPONSE_STATUS_CODE, *code);
    }
    let is_client = context.side == Side::Client;
    network::set_server(&mut to, network::server(context, record.authority), is_client);
    network::client(context, &mut to);
    network::describe(context, &mut to);
    to.span(NETWORK_PROTOCOL_NAME, "http");
    to.span(NETWORK_PROTOCOL_VERSION, record.version);
    if let Some(agent) = record.user_agent {
        to.span(USER_AGENT_ORIGINAL, agent);
    }
    for (messages, count, bytes) in [
        (record.request, REQUEST_MESSAGES, REQUEST_BYTES),
        (record.response, RESPONSE_MESSAGES, RESPONSE_BYTES),
    ] {
        if let Some(messages) = messages {
            to.span(count, messages.count);
            to.span(bytes, messages.bytes);
        }
    }
    match (context.transaction.error, record.status, code) {
        (Some(reason), _, _) => to.error(reason),
        (None, Some(status), Some(code)) if is_error(context.side, status.0) => to.error(code),
        _ => {}
    }
    to.measure(
        if is_client {
            &CLIENT_DURATION
        } else {
            &SERVER_DURATION
        },
        context.duration(),
    );
    to
}

/// Writes `package.Service/Method`. `false` where it is not known whole.
fn write_method(record: &Record<'_>, name: &mut String) -> bool {
    name.clear();
    match (record.service, record.method) {
        (Some(service), Some(method)) => write!(name, "{service}/{method}").is_ok(),
        _ => false,
    }
}

/// Messages of a call, in one direction.
pub(crate) fn messages<'a>(
    connection: &'a ConnectionInfo,
    side: Side,
    record: &Record<'_>,
    direction: &'static str,
    new: Messages,
    scratch: &'a mut Scratch,
) -> Description<'a> {
    let known = write_method(record, &mut scratch.name);
    let scratch: &'a Scratch = scratch;
    let mut to = Description::new(PROTOCOL, &scratch.name, Kind::from(side));
    to.metric(RPC_SYSTEM_NAME, "grpc");
    if known {
        to.metric(RPC_METHOD, scratch.name.as_str());
    }
    to.metric(DIRECTION, direction);
    let (_, server) = super::client_and_server(connection, side);
    network::set_server(&mut to, network::address(server), side == Side::Client);
    to.measure(&MESSAGES, new.count as f64);
    to.measure(&BYTES, new.bytes as f64);
    to
}

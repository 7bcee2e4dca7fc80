//! gRPC: the conventions' "RPC spans", "RPC metrics" and "Semantic conventions for gRPC".

use super::network;
use super::{Context, Description, Kind, Scratch};
use crate::instrument::{Instrument, InstrumentKind};
use crate::value::{Key, Value};
use opentelemetry_semantic_conventions::attribute::{
    NETWORK_PROTOCOL_NAME, NETWORK_PROTOCOL_VERSION, RPC_METHOD, RPC_RESPONSE_STATUS_CODE, RPC_SYSTEM_NAME,
    USER_AGENT_ORIGINAL,
};
use opentelemetry_semantic_conventions::metric as semconv;
use redwire_protocol::connection::{ConnectionInfo, Side};
use redwire_protocol::record::grpc::{Messages, Record};
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
    let server = network::original_server(context, record.authority, record.original);
    network::set_server(&mut to, server, is_client);
    super::http::client(record.forwarded_for, context, &mut to);
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
    record: &Record<'a>,
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
    let (address, port) = network::address(server);
    // As the duration metric has it, so that the two can be joined.
    let (address, port) = match record.authority.and_then(network::split_authority) {
        Some((host, named)) => (Some(Value::Str(host)), named.or(port)),
        None => (address, port),
    };
    network::set_server(&mut to, (address, port), side == Side::Client);
    to.measure(&MESSAGES, new.count as f64);
    to.measure(&BYTES, new.bytes as f64);
    to
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{RouteConfig, Routes};
    use crate::span::{SpanConfig, Status};
    use redwire_protocol::connection::{ConnectionId, Endpoint, Opener, Vantage};
    use redwire_protocol::record::{self, grpc};
    use redwire_protocol::transaction::Transaction;
    use std::collections::BTreeMap;

    fn connection() -> ConnectionInfo {
        let endpoint = |address: &str| Endpoint::Inet(address.parse().unwrap());
        ConnectionInfo {
            id: ConnectionId(1),
            local: endpoint("10.0.0.1:41000"),
            remote: endpoint("10.0.0.7:50051"),
            vantage: Vantage::Socket,
            opener: Opener::Local,
            process: None,
        }
    }

    fn record() -> Record<'static> {
        Record {
            service: Some("shop.Items"),
            method: Some("Get"),
            status: Some(grpc::Status::OK),
            http_status: Some(200),
            authority: Some("items.shop.example:8443"),
            user_agent: Some("grpc-go/1"),
            forwarded_for: Some("192.0.2.9"),
            version: "2",
            request: Some(Messages { count: 1, bytes: 7 }),
            ..Record::default()
        }
    }

    type Texts = BTreeMap<Key, String>;

    fn texts(attributes: &[crate::value::Attribute<'_>]) -> Texts {
        attributes
            .iter()
            .map(|(key, value)| (*key, value.to_string()))
            .collect()
    }

    /// Name, status, and attributes of span and metric.
    fn said(side: Side, record: Record<'_>, error: Option<&str>) -> (String, Status, Texts, Texts) {
        let (connection, config) = (connection(), SpanConfig::default());
        let transaction = Transaction {
            start: 1,
            end: 2,
            error,
            remote_parent: None,
            tracestate: None,
            parent: None,
            record: record::Record::Rpc(record),
        };
        let context = Context {
            connection: &connection,
            side,
            transaction: &transaction,
            config: &config,
            resource: 0,
        };
        let mut scratch = Scratch::new(Routes::new(&RouteConfig::default()).unwrap());
        let description = crate::span::describe(context, &mut scratch);
        (
            description.name.to_owned(),
            description.status,
            texts(&description.attributes),
            texts(&description.dimensions),
        )
    }

    fn map<const N: usize>(pairs: [(Key, &str); N]) -> Texts {
        pairs
            .into_iter()
            .map(|(key, value)| (key, value.to_owned()))
            .collect()
    }

    /// "RPC spans" and "Semantic conventions for gRPC".
    #[test]
    fn a_call() {
        let (name, status, span, metric) = said(Side::Client, record(), None);
        assert_eq!((name.as_str(), status), ("shop.Items/Get", Status::Unset));
        let both = [
            ("rpc.system.name", "grpc"),
            ("rpc.method", "shop.Items/Get"),
            ("rpc.response.status_code", "OK"),
            ("server.address", "items.shop.example"),
            ("server.port", "8443"),
        ];
        assert_eq!(metric, map(both));
        let mut expected = map([
            ("client.address", "10.0.0.1"),
            ("client.port", "41000"),
            ("network.peer.address", "10.0.0.7"),
            ("network.peer.port", "50051"),
            ("network.transport", "tcp"),
            ("network.type", "ipv4"),
            ("network.protocol.name", "http"),
            ("network.protocol.version", "2"),
            ("user_agent.original", "grpc-go/1"),
            (REQUEST_MESSAGES, "1"),
            (REQUEST_BYTES, "7"),
        ]);
        expected.extend(map(both));
        assert_eq!(span, expected);

        let (.., span, metric) = said(Side::Server, record(), None);
        assert_eq!(span["client.address"], "192.0.2.9", "behind its proxy");
        assert_eq!(metric, map([both[0], both[1], both[2]]));

        let unknown = Record {
            service: None,
            method: None,
            status: None,
            ..record()
        };
        let (name, _, span, metric) = said(Side::Server, unknown, None);
        assert_eq!(name, "grpc");
        assert_eq!(metric, map([both[0]]));
        assert!(!span.contains_key("rpc.method") && !span.contains_key("rpc.response.status_code"));
    }

    /// "gRPC status": all but OK are errors of a client; of a server, those that are its fault.
    #[test]
    fn errors() {
        let at_server = [
            "UNKNOWN",
            "DEADLINE_EXCEEDED",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
        ];
        for code in 0..17 {
            let code = grpc::Status(code);
            let name = code.name().unwrap();
            for (side, is_error) in [
                (Side::Client, name != "OK"),
                (Side::Server, at_server.contains(&name)),
            ] {
                let call = Record {
                    status: Some(code),
                    ..record()
                };
                let (_, status, span, metric) = said(side, call, None);
                let error = is_error.then_some(name);
                assert_eq!(status == Status::Error, is_error, "{name}");
                assert_eq!(span.get("error.type").map(String::as_str), error);
                assert_eq!(metric.get("error.type").map(String::as_str), error);
                assert_eq!(span["rpc.response.status_code"], name);
            }
        }
        let lost = Record {
            status: Some(grpc::Status::UNAVAILABLE),
            ..record()
        };
        let (.., span, _) = said(Side::Server, lost, Some("connection_closed"));
        assert_eq!(span["error.type"], "connection_closed");
        assert_eq!(span["rpc.response.status_code"], "UNAVAILABLE");
    }

    /// Messages and calls are counted under the same server.
    #[test]
    fn message_counters() {
        let connection = connection();
        let mut scratch = Scratch::new(Routes::new(&RouteConfig::default()).unwrap());
        let new = Messages { count: 3, bytes: 9 };
        let call = record();
        let to = messages(&connection, Side::Client, &call, "request", new, &mut scratch);
        let (.., metric) = said(Side::Client, record(), None);
        for key in ["rpc.system.name", "rpc.method", "server.address", "server.port"] {
            assert_eq!(texts(&to.dimensions)[key], metric[key]);
        }
        assert_eq!(texts(&to.dimensions)[DIRECTION], "request");
        let measured: Vec<_> = to
            .measurements
            .iter()
            .map(|(metric, value)| (metric.name, *value))
            .collect();
        assert_eq!(
            measured,
            [("redwire.rpc.messages", 3.0), ("redwire.rpc.message.bytes", 9.0)]
        );
    }
}

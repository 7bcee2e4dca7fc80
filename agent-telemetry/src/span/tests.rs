use super::*;
use crate::route::RouteConfig;
use crate::value::{Attribute, Key};
use redwire_protocol::connection::{ConnectionId, Opener, Vantage};
use redwire_protocol::record::grpc::Record as RpcRecord;
use redwire_protocol::record::http::{Original, Record as HttpRecord};
use redwire_protocol::record::websocket::Record as WebSocketRecord;
use std::collections::BTreeMap;

struct Said {
    name: String,
    kind: Kind,
    status: Status,
    span: BTreeMap<Key, String>,
    metric: BTreeMap<Key, String>,
    measured: Vec<(&'static str, f64)>,
}

fn connection() -> ConnectionInfo {
    ConnectionInfo {
        id: ConnectionId(1),
        local: Endpoint::Inet("10.0.0.1:41000".parse().unwrap()),
        remote: Endpoint::Inet("[2001:db8::7]:8080".parse().unwrap()),
        vantage: Vantage::Socket,
        opener: Opener::Local,
        process: None,
    }
}

fn say(
    connection: &ConnectionInfo,
    side: Side,
    record: Record<'_>,
    error: Option<&str>,
    config: &SpanConfig,
) -> Said {
    let transaction = Transaction {
        start: 1_000_000_000,
        end: 1_250_000_000,
        error,
        remote_parent: None,
        tracestate: None,
        parent: None,
        record,
    };
    let context = Context {
        connection,
        side,
        transaction: &transaction,
        config,
        resource: 0,
    };
    let mut scratch = Scratch::new(Routes::new(&RouteConfig::default()).unwrap());
    let description = describe(context, &mut scratch);
    let texts = |attributes: &[Attribute<'_>]| {
        attributes
            .iter()
            .map(|(key, value)| (*key, value.to_string()))
            .collect()
    };
    let said = Said {
        name: description.name.to_owned(),
        kind: description.kind,
        status: description.status,
        span: texts(&description.attributes),
        metric: texts(&description.dimensions),
        measured: description
            .measurements
            .iter()
            .map(|(instrument, value)| (instrument.name, *value))
            .collect(),
    };
    assert_eq!(
        said.span.len(),
        description.attributes.len(),
        "no attribute twice"
    );
    assert_eq!(
        said.metric.len(),
        description.dimensions.len(),
        "no attribute twice"
    );
    said
}

fn http(side: Side, record: HttpRecord<'_>) -> Said {
    say(
        &connection(),
        side,
        Record::Http(record),
        None,
        &SpanConfig::default(),
    )
}

fn get() -> HttpRecord<'static> {
    HttpRecord {
        method: Some("GET"),
        path: Some("/users/42"),
        query: Some("token=secret"),
        authority: Some("user:password@shop.example:8443"),
        user_agent: Some("curl/8"),
        version: "1.1",
        status: Some(200),
        request_body_size: Some(3),
        response_body_size: Some(5),
        ..HttpRecord::default()
    }
}

fn map<const N: usize>(pairs: [(Key, &str); N]) -> BTreeMap<Key, String> {
    pairs
        .into_iter()
        .map(|(key, value)| (key, value.to_owned()))
        .collect()
}

#[test]
fn http_client() {
    let said = http(Side::Client, get());
    assert_eq!(
        (said.name.as_str(), said.kind, said.status),
        ("GET /users/{id}", Kind::Client, Status::Unset)
    );
    assert_eq!(
        said.span,
        map([
            ("http.request.method", "GET"),
            ("url.scheme", "http"),
            ("url.path", "/users/42"),
            ("url.full", "http://shop.example:8443/users/42"),
            ("url.template", "/users/{id}"),
            ("server.address", "shop.example"),
            ("server.port", "8443"),
            ("client.address", "10.0.0.1"),
            ("client.port", "41000"),
            ("network.peer.address", "2001:db8::7"),
            ("network.peer.port", "8080"),
            ("network.transport", "tcp"),
            ("network.type", "ipv6"),
            ("network.protocol.name", "http"),
            ("network.protocol.version", "1.1"),
            ("user_agent.original", "curl/8"),
            ("http.response.status_code", "200"),
            ("http.request.body.size", "3"),
            ("http.response.body.size", "5"),
        ])
    );
    assert_eq!(
        said.metric,
        map([
            ("http.request.method", "GET"),
            ("url.scheme", "http"),
            ("url.template", "/users/{id}"),
            ("server.address", "shop.example"),
            ("server.port", "8443"),
            ("network.protocol.name", "http"),
            ("network.protocol.version", "1.1"),
            ("http.response.status_code", "200"),
        ])
    );
    assert_eq!(
        said.measured,
        [
            ("http.client.request.duration", 0.25),
            ("http.client.request.body.size", 3.0),
            ("http.client.response.body.size", 5.0),
        ]
    );
}

#[test]
fn http_server() {
    let mut incoming = connection();
    std::mem::swap(&mut incoming.local, &mut incoming.remote);
    let record = HttpRecord {
        forwarded_for: Some("192.0.2.9"),
        authority: Some("[::1]"),
        ..get()
    };
    let said = say(
        &incoming,
        Side::Server,
        Record::Http(record),
        None,
        &SpanConfig::default(),
    );
    assert_eq!((said.name.as_str(), said.kind), ("GET /users/{id}", Kind::Server));
    assert_eq!(said.span["http.route"], "/users/{id}");
    assert_eq!(said.span["client.address"], "192.0.2.9");
    assert!(
        !said.span.contains_key("client.port"),
        "the proxy's port is not the client's"
    );
    assert_eq!(
        (
            said.span["server.address"].as_str(),
            said.span["server.port"].as_str()
        ),
        ("::1", "8080")
    );
    assert_eq!(said.span["network.peer.address"], "10.0.0.1");
    assert!(!said.span.contains_key("url.full") && !said.span.contains_key("url.template"));
    assert_eq!(
        said.metric,
        map([
            ("http.request.method", "GET"),
            ("url.scheme", "http"),
            ("http.route", "/users/{id}"),
            ("network.protocol.name", "http"),
            ("network.protocol.version", "1.1"),
            ("http.response.status_code", "200"),
        ])
    );
    assert_eq!(said.measured[0].0, "http.server.request.duration");
}

/// Conventions 1.42, "Setting server.address and server.port": what the client of the first proxy asked for. Who sends
/// such fields is the proxy, whose own server is another.
#[test]
fn behind_a_proxy() {
    let mut incoming = connection();
    std::mem::swap(&mut incoming.local, &mut incoming.remote);
    let original = |scheme, authority, port| Original {
        scheme,
        authority,
        port,
    };
    for (original, authority, expected) in [
        (
            original(Some("https"), Some("shop.example"), None),
            "b:8080",
            ["https", "shop.example", "443"],
        ),
        (
            original(Some("http"), Some("shop.example"), None),
            "b",
            ["http", "shop.example", "80"],
        ),
        (
            original(Some("https"), Some("shop.example:444"), Some(1)),
            "b",
            ["https", "shop.example", "444"],
        ),
        (
            original(Some("https"), Some("shop.example"), Some(445)),
            "b",
            ["https", "shop.example", "445"],
        ),
        (
            original(None, Some("[2001:db8::1]:444"), None),
            "b",
            ["http", "2001:db8::1", "444"],
        ),
        (
            original(None, Some("shop.example"), None),
            "b",
            ["http", "shop.example", "-"],
        ),
        (original(Some("https"), None, None), "b", ["https", "b", "8080"]),
        (
            original(Some("https"), None, Some(443)),
            "b",
            ["https", "b", "443"],
        ),
        (original(None, None, Some(443)), "b:81", ["http", "b", "81"]),
    ] {
        let authority = Some(authority);
        let record = HttpRecord {
            original,
            authority,
            ..get()
        };
        let call = RpcRecord {
            original,
            authority,
            version: "2",
            ..RpcRecord::default()
        };
        let config = SpanConfig::default();
        let server = say(
            &incoming,
            Side::Server,
            Record::Http(record.clone()),
            None,
            &config,
        );
        let read = |said: &Said, key: &str| said.span.get(key).map_or("-", String::as_str).to_owned();
        let said = ["url.scheme", "server.address", "server.port"].map(|key| read(&server, key));
        assert_eq!(said, expected);
        assert_eq!(server.metric["url.scheme"], expected[0]);
        let rpc = say(&incoming, Side::Server, Record::Rpc(call), None, &config);
        let said = ["server.address", "server.port"].map(|key| read(&rpc, key));
        assert_eq!(said, expected[1..]);
        let proxy = say(&connection(), Side::Client, Record::Http(record), None, &config);
        assert_eq!(read(&proxy, "url.scheme"), "http");
        assert_eq!(read(&proxy, "server.address"), "b");
    }
}

#[test]
fn the_query_leaves_only_where_asked_for() {
    let said = http(Side::Client, get());
    assert!(
        said.span
            .values()
            .chain(said.metric.values())
            .all(|text| !text.contains("secret"))
    );
    let config = SpanConfig {
        http: HttpConfig {
            query: true,
            ..HttpConfig::default()
        },
    };
    let said = say(&connection(), Side::Client, Record::Http(get()), None, &config);
    assert_eq!(said.span["url.query"], "token=secret");
    assert_eq!(
        said.span["url.full"],
        "http://shop.example:8443/users/42?token=secret"
    );
}

#[test]
fn a_password_in_the_target_never_leaves() {
    let said = http(Side::Client, get());
    assert!(
        said.span
            .values()
            .chain(said.metric.values())
            .all(|text| !text.contains("password"))
    );
}

#[test]
fn methods() {
    let method = |method| http(Side::Server, HttpRecord { method, ..get() });
    for known in [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY",
    ] {
        let said = method(Some(known));
        assert_eq!(said.span["http.request.method"], known);
        assert!(!said.span.contains_key("http.request.method_original"));
    }
    for other in ["PROPFIND", "get", ""] {
        let said = method(Some(other));
        assert_eq!(said.name, "HTTP /users/{id}");
        assert_eq!(said.span["http.request.method"], "_OTHER");
        assert_eq!(said.span["http.request.method_original"], other);
        assert_eq!(said.metric["http.request.method"], "_OTHER");
        assert!(!said.metric.contains_key("http.request.method_original"));
    }
    let unknown = method(None);
    assert_eq!(unknown.name, "HTTP /users/{id}");
    assert!(!unknown.span.contains_key("http.request.method"));
}

#[test]
fn names_without_a_route() {
    let said = http(
        Side::Server,
        HttpRecord {
            method: Some("OPTIONS"),
            path: None,
            ..get()
        },
    );
    assert_eq!(said.name, "OPTIONS");
    assert!(!said.span.contains_key("url.path") && !said.span.contains_key("http.route"));
    let missing = http(
        Side::Server,
        HttpRecord {
            status: Some(404),
            ..get()
        },
    );
    assert_eq!(missing.name, "GET", "what was not found is no route");
    assert_eq!(missing.span["url.path"], "/users/42");
    let nothing = HttpRecord {
        version: "2",
        ..HttpRecord::default()
    };
    assert_eq!(http(Side::Client, nothing).name, "HTTP");
}

#[test]
fn status_and_error() {
    let of = |side, status| {
        let said = http(
            side,
            HttpRecord {
                status: Some(status),
                ..get()
            },
        );
        assert_eq!(said.span.get("error.type"), said.metric.get("error.type"));
        assert_eq!(said.span["http.response.status_code"], status.to_string());
        (said.status, said.span.get("error.type").cloned())
    };
    let error = |code: &str| (Status::Error, Some(code.to_owned()));
    let fine = (Status::Unset, None);
    for status in [100, 101, 200, 304, 399] {
        assert_eq!(
            (of(Side::Server, status), of(Side::Client, status)),
            (fine.clone(), fine.clone())
        );
    }
    for status in [400, 404, 499] {
        assert_eq!(of(Side::Server, status), fine);
        assert_eq!(of(Side::Client, status), error(&status.to_string()));
    }
    for status in [500, 599, 600, 999, 99, 0] {
        assert_eq!(of(Side::Server, status), error(&status.to_string()), "{status}");
        assert_eq!(of(Side::Client, status), error(&status.to_string()), "{status}");
    }
    let cut = say(
        &connection(),
        Side::Server,
        Record::Http(get()),
        Some("connection_closed"),
        &SpanConfig::default(),
    );
    assert_eq!(
        (cut.status, cut.span["error.type"].as_str()),
        (Status::Error, "connection_closed")
    );
    assert_eq!(cut.span["http.response.status_code"], "200");
}

#[test]
fn authorities() {
    use network::split_authority;
    for (authority, expected) in [
        ("a.example", Some(("a.example", None))),
        ("a.example:80", Some(("a.example", Some(80)))),
        ("a.example:", Some(("a.example", None))),
        ("u:p@a.example:80", Some(("a.example", Some(80)))),
        ("[2001:db8::1]:443", Some(("2001:db8::1", Some(443)))),
        ("[::1]", Some(("::1", None))),
        ("a.example:99999", Some(("a.example", None))),
        ("", None),
        (":80", None),
        ("[::1", None),
        ("[::1]x", None),
        ("a:b", None),
    ] {
        assert_eq!(split_authority(authority), expected, "{authority}");
    }
    assert_eq!(split_authority(&"a".repeat(256)), None);
}

#[test]
fn unix_sockets() {
    let mut unix = connection();
    unix.local = Endpoint::Unix("".into());
    unix.remote = Endpoint::Unix("/run/docker.sock".into());
    let record = HttpRecord {
        authority: None,
        ..get()
    };
    let said = say(
        &unix,
        Side::Client,
        Record::Http(record),
        None,
        &SpanConfig::default(),
    );
    assert_eq!(said.span["server.address"], "/run/docker.sock");
    assert_eq!(said.span["network.transport"], "unix");
    for absent in ["server.port", "client.address", "network.type", "url.full"] {
        assert!(!said.span.contains_key(absent), "{absent}");
    }
}

#[test]
fn websocket_sessions_are_in_no_request_metric() {
    let record = WebSocketRecord {
        path: Some("/chat"),
        authority: Some("shop.example"),
        bytes_to_server: 7,
        bytes_to_client: 9,
    };
    let said = say(
        &connection(),
        Side::Client,
        Record::WebSocket(record),
        None,
        &SpanConfig::default(),
    );
    assert_eq!(said.name, "WebSocket /chat");
    assert_eq!(said.span["network.protocol.name"], "websocket");
    assert_eq!(said.span["redwire.websocket.bytes_to_client"], "9");
    assert!(said.measured.is_empty() && said.metric.is_empty());
}

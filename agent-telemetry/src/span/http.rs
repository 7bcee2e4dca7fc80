//! HTTP: the conventions' "HTTP spans" and "HTTP metrics".

use super::network;
use super::{Context, Description, Kind, Scratch};
use crate::instrument::{Instrument, InstrumentKind};
use crate::value::Value;
use opentelemetry_semantic_conventions::attribute::{
    CLIENT_ADDRESS, CLIENT_PORT, HTTP_REQUEST_BODY_SIZE, HTTP_REQUEST_METHOD, HTTP_REQUEST_METHOD_ORIGINAL,
    HTTP_RESPONSE_BODY_SIZE, HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE, NETWORK_PROTOCOL_NAME,
    NETWORK_PROTOCOL_VERSION, URL_FULL, URL_PATH, URL_QUERY, URL_SCHEME, URL_TEMPLATE, USER_AGENT_ORIGINAL,
};
use opentelemetry_semantic_conventions::metric as semconv;
use redwire_protocol::connection::{Endpoint, Side};
use redwire_protocol::record::http::Record;
use std::fmt::Write as _;

/// What may be said of HTTP.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Whether the query leaves the host (`url.query`, `url.full`).
    pub query: bool,
    /// Methods that are reported as such; others as `_OTHER` (`OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS`).
    pub known_methods: Vec<String>,
}

impl Default for HttpConfig {
    /// RFC 9110 § 9, PATCH (RFC 5789) and QUERY, as `http.request.method` has them by default.
    fn default() -> Self {
        let methods = [
            "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY",
        ];
        HttpConfig {
            query: false,
            known_methods: methods.map(str::to_owned).to_vec(),
        }
    }
}

/// The boundaries that the conventions give for `http.*.request.duration`.
const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Powers of four from 64 B to 256 MiB; the conventions give none for sizes, and the SDK's default ends at 10 kB.
const BYTES: &[f64] = &[
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262144.0,
    1048576.0,
    4194304.0,
    16777216.0,
    67108864.0,
    268435456.0,
];

const fn histogram(
    name: &'static str,
    unit: &'static str,
    description: &'static str,
    boundaries: &'static [f64],
) -> Instrument {
    Instrument {
        name,
        unit,
        description,
        kind: InstrumentKind::Histogram(boundaries),
    }
}

static SERVER_DURATION: Instrument = histogram(
    semconv::HTTP_SERVER_REQUEST_DURATION,
    "s",
    "Duration of HTTP server requests.",
    SECONDS,
);
static CLIENT_DURATION: Instrument = histogram(
    semconv::HTTP_CLIENT_REQUEST_DURATION,
    "s",
    "Duration of HTTP client requests.",
    SECONDS,
);
static SERVER_REQUEST_SIZE: Instrument = histogram(
    semconv::HTTP_SERVER_REQUEST_BODY_SIZE,
    "By",
    "Size of HTTP server request bodies.",
    BYTES,
);
static SERVER_RESPONSE_SIZE: Instrument = histogram(
    semconv::HTTP_SERVER_RESPONSE_BODY_SIZE,
    "By",
    "Size of HTTP server response bodies.",
    BYTES,
);
static CLIENT_REQUEST_SIZE: Instrument = histogram(
    semconv::HTTP_CLIENT_REQUEST_BODY_SIZE,
    "By",
    "Size of HTTP client request bodies.",
    BYTES,
);
static CLIENT_RESPONSE_SIZE: Instrument = histogram(
    semconv::HTTP_CLIENT_RESPONSE_BODY_SIZE,
    "By",
    "Size of HTTP client response bodies.",
    BYTES,
);

const OTHER: &str = "_OTHER";

pub(super) fn describe<'a>(
    record: &'a Record<'a>,
    context: Context<'a>,
    scratch: &'a mut Scratch,
) -> Description<'a> {
    let known = &context.config.http.known_methods;
    let is_known = |method: &&str| known.iter().any(|known| known == method);
    let known_method = record.method.filter(is_known);
    // Whoever asks for what is not there must not teach routes.
    let learn = record.status != Some(404);
    let has_template = record.path.is_some_and(|path| {
        let scope = scope(&context);
        scratch.routes.template(scope, path, learn, &mut scratch.template)
    });
    scratch.name.clear();
    scratch.name.push_str(known_method.unwrap_or("HTTP"));
    if has_template {
        scratch.name.push(' ');
        scratch.name.push_str(&scratch.template);
    }
    let original = record.original.scheme.filter(|_| context.side == Side::Server);
    let scheme = original.or(record.scheme).unwrap_or("http");
    let has_url = context.side == Side::Client && full_url(record, context, scheme, &mut scratch.url);
    let scratch: &'a Scratch = scratch;
    let template = has_template.then_some(scratch.template.as_str());

    let mut to = Description::new("HTTP", &scratch.name, Kind::from(context.side));
    if let Some(method) = record.method {
        to.both(HTTP_REQUEST_METHOD, known_method.unwrap_or(OTHER));
        if known_method.is_none() {
            to.span(HTTP_REQUEST_METHOD_ORIGINAL, method);
        }
    }
    to.both(URL_SCHEME, scheme);
    if let Some(path) = record.path {
        to.span(URL_PATH, path);
    }
    if let Some(query) = record.query.filter(|_| context.config.http.query) {
        to.span(URL_QUERY, query);
    }
    if has_url {
        to.span(URL_FULL, scratch.url.as_str());
    }
    if let Some(template) = template {
        let key = match context.side {
            Side::Server => HTTP_ROUTE,
            Side::Client => URL_TEMPLATE,
        };
        to.both(key, template);
    }
    let is_client = context.side == Side::Client;
    let server = network::original_server(context, record.authority, record.original);
    network::set_server(&mut to, server, is_client);
    client(record.forwarded_for, context, &mut to);
    network::describe(context, &mut to);
    to.both(NETWORK_PROTOCOL_NAME, "http");
    if !record.version.is_empty() {
        to.both(NETWORK_PROTOCOL_VERSION, record.version);
    }
    if let Some(agent) = record.user_agent {
        to.span(USER_AGENT_ORIGINAL, agent);
    }
    if let Some(status) = record.status {
        to.both(HTTP_RESPONSE_STATUS_CODE, status);
    }
    if let Some(size) = record.request_body_size {
        to.span(HTTP_REQUEST_BODY_SIZE, size);
    }
    if let Some(size) = record.response_body_size {
        to.span(HTTP_RESPONSE_BODY_SIZE, size);
    }
    outcome(record, context, &mut to);
    measure(record, context, &mut to);
    to
}

/// Whose routes: those of a service, or those that a client knows of a server.
pub(super) fn scope(context: &Context<'_>) -> (u64, Option<u16>) {
    let port = match (context.side, context.server()) {
        (Side::Client, Endpoint::Inet(address)) => Some(address.port()),
        (Side::Client, Endpoint::Unix(_)) => Some(0),
        (Side::Server, _) => None,
    };
    (context.resource, port)
}

/// Puts `url.full` together. `false` where its parts are not known.
fn full_url(record: &Record<'_>, context: Context<'_>, scheme: &str, url: &mut String) -> bool {
    url.clear();
    let Some(path) = record.path else { return false };
    url.push_str(scheme);
    url.push_str("://");
    match (record.authority, context.server()) {
        (Some(authority), _) => url.push_str(network::without_userinfo(authority)),
        (None, Endpoint::Inet(address)) => {
            let _ = write!(url, "{address}");
        }
        (None, Endpoint::Unix(_)) => return false,
    }
    url.push_str(path);
    if let Some(query) = record.query.filter(|_| context.config.http.query) {
        url.push('?');
        url.push_str(query);
    }
    true
}

/// `client.*`: who a proxy says it is, else the socket's end.
pub(super) fn client<'a>(forwarded_for: Option<&'a str>, context: Context<'a>, to: &mut Description<'a>) {
    let Some(forwarded) = forwarded_for.filter(|_| context.side == Side::Server) else {
        return network::client(context, to);
    };
    let (address, port) = match forwarded.parse::<std::net::IpAddr>() {
        Ok(ip) => (Value::Ip(ip), None),
        Err(_) => match network::split_authority(forwarded) {
            Some((host, port)) => (Value::Str(host), port),
            None => (Value::Str(forwarded), None),
        },
    };
    to.span(CLIENT_ADDRESS, address);
    if let Some(port) = port {
        to.span(CLIENT_PORT, port);
    }
}

/// Span status and `error.type`: the protocol's own reason, else the status code where it is an error here.
fn outcome<'a>(record: &Record<'_>, context: Context<'a>, to: &mut Description<'a>) {
    let first_error = match context.side {
        Side::Server => 500,
        Side::Client => 400,
    };
    match (context.transaction.error, record.status) {
        (Some(reason), _) => to.error(reason),
        (None, Some(status)) if status >= first_error || status < 100 => {
            to.error(Value::Decimal(status.into()));
        }
        _ => {}
    }
}

fn measure(record: &Record<'_>, context: Context<'_>, to: &mut Description<'_>) {
    let (duration, request, response) = match context.side {
        Side::Server => (&SERVER_DURATION, &SERVER_REQUEST_SIZE, &SERVER_RESPONSE_SIZE),
        Side::Client => (&CLIENT_DURATION, &CLIENT_REQUEST_SIZE, &CLIENT_RESPONSE_SIZE),
    };
    to.measure(duration, context.duration());
    if let Some(size) = record.request_body_size {
        to.measure(request, size as f64);
    }
    if let Some(size) = record.response_body_size {
        to.measure(response, size as f64);
    }
}

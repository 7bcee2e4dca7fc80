//! Databases: the conventions' "Database client spans" and "Database client metrics".

use super::network;
use super::{Context, Description, Kind, Scratch};
use crate::instrument::{Instrument, InstrumentKind};
use crate::value::{Key, Value};
use opentelemetry_semantic_conventions::attribute::{
    DB_COLLECTION_NAME, DB_NAMESPACE, DB_OPERATION_BATCH_SIZE, DB_OPERATION_NAME, DB_QUERY_SUMMARY,
    DB_QUERY_TEXT, DB_RESPONSE_RETURNED_ROWS, DB_RESPONSE_STATUS_CODE, DB_SYSTEM_NAME, SERVER_ADDRESS,
    SERVER_PORT,
};
use opentelemetry_semantic_conventions::metric as semconv;
use redwire_protocol::connection::{ConnectionInfo, Endpoint, Side};
use redwire_protocol::record::{postgres, redis};
use std::fmt::Write as _;

/// User of a session; `db.user` is deprecated without a successor.
const USER: Key = "redwire.db.user";

/// Name of a prepared statement.
const PREPARED_STATEMENT: Key = "redwire.db.prepared_statement";

/// Rows that a statement changed.
const AFFECTED_ROWS: Key = "redwire.db.affected_rows";

/// The boundaries that the conventions give for `db.client.operation.duration`.
const SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

static CLIENT_DURATION: Instrument = Instrument {
    name: semconv::DB_CLIENT_OPERATION_DURATION,
    unit: "s",
    description: "Duration of database client operations.",
    kind: InstrumentKind::Histogram(SECONDS),
};

static SERVER_DURATION: Instrument = Instrument {
    name: "db.server.operation.duration",
    unit: "s",
    description: "Duration of database operations at the server.",
    kind: InstrumentKind::Histogram(SECONDS),
};

/// The duration of an operation, at the side that is observed.
pub(super) fn measure(context: Context<'_>, to: &mut Description<'_>) {
    let instrument = match context.side {
        Side::Client => &CLIENT_DURATION,
        Side::Server => &SERVER_DURATION,
    };
    to.measure(instrument, context.duration());
}

/// Where the database is, for spans and metrics.
pub(super) fn server<'a>(context: Context<'a>, to: &mut Description<'a>) {
    network::set_server(to, network::server(context, None), true);
    network::client(context, to);
    network::describe(context, to);
}

pub(super) fn postgres<'a>(
    record: &'a postgres::Record<'a>,
    context: Context<'a>,
    scratch: &'a mut Scratch,
) -> Description<'a> {
    // The span's name as the conventions have it: summary; operation with target; target; system.
    scratch.name.clear();
    match (record.query_summary, record.operation, record.collection) {
        (Some(summary), ..) => scratch.name.push_str(summary),
        (None, Some(operation), Some(collection)) => {
            let _ = write!(scratch.name, "{operation} {collection}");
        }
        (None, Some(operation), None) => {
            scratch.name.push_str(operation);
            if let Some(namespace) = record.namespace {
                let _ = write!(scratch.name, " {namespace}");
            }
        }
        (None, None, _) => scratch.name.push_str("postgresql"),
    }
    let scratch: &'a Scratch = scratch;
    let mut to = Description::new("Postgres", &scratch.name, Kind::from(context.side));
    to.both(DB_SYSTEM_NAME, "postgresql");
    for (key, value) in [
        (DB_OPERATION_NAME, record.operation),
        (DB_COLLECTION_NAME, record.collection),
        (DB_NAMESPACE, record.namespace),
        (DB_QUERY_SUMMARY, record.query_summary),
        (DB_RESPONSE_STATUS_CODE, record.status_code),
    ] {
        if let Some(value) = value {
            to.both(key, value);
        }
    }
    for (key, value) in [
        (DB_QUERY_TEXT, record.query_text),
        (USER, record.user),
        (PREPARED_STATEMENT, record.prepared_statement),
    ] {
        if let Some(value) = value {
            to.span(key, value);
        }
    }
    if let Some(rows) = record.returned_rows {
        to.span(DB_RESPONSE_RETURNED_ROWS, rows);
    }
    if let Some(rows) = record.affected_rows {
        to.span(AFFECTED_ROWS, rows);
    }
    server(context, &mut to);
    match (context.transaction.error, record.status_code) {
        (Some(reason), _) => to.error(reason),
        // Classes 00, 01 and 02 are success, warning and no data (PostgreSQL manual, appendix A).
        (None, Some(code)) if !matches!(code.get(..2), Some("00" | "01" | "02")) => to.error(code),
        _ => {}
    }
    measure(context, &mut to);
    to
}

/// Arguments that are shown as such.
const ARGUMENTS: u32 = 8;

static CACHE_REQUESTS: Instrument = Instrument {
    name: "redwire.cache.requests",
    unit: "{value}",
    description: "Values that reads asked for, by whether they were there.",
    kind: InstrumentKind::Counter,
};

/// Whether a value was there: `hit` or `miss`.
const RESULT: Key = "result";

pub(super) fn redis<'a>(
    record: &'a redis::Record<'a>,
    context: Context<'a>,
    scratch: &'a mut Scratch,
) -> Description<'a> {
    scratch.name.clear();
    // Without the database: the conventions for Redis keep it out of the name.
    scratch.name.push_str(record.operation.unwrap_or("redis"));
    scratch.url.clear();
    scratch.url.push_str(record.operation.unwrap_or_default());
    for _ in 0..record.arguments.min(ARGUMENTS) {
        scratch.url.push_str(" ?");
    }
    if record.arguments > ARGUMENTS {
        let _ = write!(scratch.url, " … ({} arguments)", record.arguments);
    }
    scratch.template.clear();
    if let Some(namespace) = record.namespace {
        let _ = write!(scratch.template, "{namespace}");
    }
    let scratch: &'a Scratch = scratch;
    let mut to = Description::new("Redis", &scratch.name, Kind::from(context.side));
    to.both(DB_SYSTEM_NAME, "redis");
    if let Some(operation) = record.operation {
        to.both(DB_OPERATION_NAME, operation);
        to.span(DB_QUERY_TEXT, scratch.url.as_str());
    }
    if record.namespace.is_some() {
        to.both(DB_NAMESPACE, scratch.template.as_str());
    }
    if let Some(size) = record.batch_size {
        to.span(DB_OPERATION_BATCH_SIZE, size);
    }
    if let Some(code) = record.status_code {
        to.both(DB_RESPONSE_STATUS_CODE, code);
    }
    server(context, &mut to);
    if let Some(reason) = context.transaction.error {
        to.error(reason);
    }
    measure(context, &mut to);
    to
}

/// What a read found in a cache: `hit` or `miss`, `n` times.
pub(crate) fn cache(
    connection: &ConnectionInfo,
    side: Side,
    result: &'static str,
    n: u32,
) -> Description<'static> {
    let mut to = Description::new("Redis", "cache", Kind::from(side));
    to.metric(DB_SYSTEM_NAME, "redis");
    to.metric(RESULT, result);
    let (_, server) = super::client_and_server(connection, side);
    if let Endpoint::Inet(address) = server {
        to.metric(SERVER_ADDRESS, Value::Ip(address.ip()));
        to.metric(SERVER_PORT, address.port());
    }
    to.measure(&CACHE_REQUESTS, f64::from(n));
    to
}

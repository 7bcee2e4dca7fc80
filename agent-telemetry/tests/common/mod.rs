//! Transactions to feed a pipeline with.

#![allow(dead_code, reason = "each test file uses its part")]

use redwire_protocol::connection::{
    ConnectionId, ConnectionInfo, Endpoint, Opener, ProcessId, Side, Vantage,
};
use redwire_protocol::output::Observer;
use redwire_protocol::record::{Record, http};
use redwire_protocol::trace_context::SpanContext;
use redwire_protocol::transaction::Transaction;
use redwire_telemetry::Telemetry;

/// An instant in 2023.
pub(crate) const BEGIN: u64 = 1_700_000_000_000_000_000;

pub(crate) fn connection(process: Option<u32>) -> ConnectionInfo {
    ConnectionInfo {
        id: ConnectionId(1),
        local: Endpoint::Inet("10.0.0.1:8080".parse().unwrap()),
        remote: Endpoint::Inet("10.0.0.2:50000".parse().unwrap()),
        vantage: Vantage::Socket,
        opener: Opener::Remote,
        process: process.map(ProcessId),
    }
}

pub(crate) fn record(path: &str) -> http::Record<'_> {
    http::Record {
        method: Some("GET"),
        path: Some(path),
        authority: Some("shop.example"),
        version: "1.1",
        status: Some(200),
        request_body_size: Some(0),
        response_body_size: Some(1000),
        ..http::Record::default()
    }
}

pub(crate) fn transaction<'a>(record: http::Record<'a>) -> Transaction<'a> {
    Transaction {
        start: BEGIN,
        end: BEGIN + 10_000_000,
        error: None,
        remote_parent: None,
        tracestate: None,
        parent: None,
        record: Record::Http(record),
    }
}

/// A request to a server of `process`.
pub(crate) fn serve(telemetry: &mut Telemetry, process: Option<u32>, path: &str) -> SpanContext {
    telemetry.transaction(&connection(process), Side::Server, &transaction(record(path)))
}

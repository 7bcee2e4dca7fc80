//! What the pipeline yields.

use crate::record::Record;
use crate::trace_context::SpanContext;

/// A request with its outcome, borrowed from the connection's state for the time of the call.
#[derive(Debug, Clone)]
pub struct Transaction<'a> {
    /// First byte of the request, nanoseconds since the Unix epoch.
    pub start: u64,
    /// Last byte of the response, nanoseconds since the Unix epoch.
    pub end: u64,
    /// `error.type`, where the protocol itself (not a status code) says that it failed.
    pub error: Option<&'a str>,
    /// The caller's span, where the request carried a trace context.
    pub remote_parent: Option<SpanContext>,
    /// The caller's `tracestate`, as it came with `remote_parent`.
    pub tracestate: Option<&'a str>,
    /// A span reported earlier on this connection that this one belongs under.
    pub parent: Option<SpanContext>,
    /// The protocol's own part.
    pub record: Record<'a>,
}

/// `error.type` of a request whose connection or stream closed before its response was complete.
pub const CONNECTION_CLOSED: &str = "connection_closed";

//! Spans in OTLP's messages.

use super::attributes::{Attributes, set_text};
use super::{resource, scope};
use crate::resource::Resource;
use crate::span::{Description, Kind, Origin, Status, bounded};
use bytes::Bytes;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource as OtlpResource;
use opentelemetry_proto::tonic::trace::v1::{
    Span as OtlpSpan, SpanFlags, Status as OtlpStatus, span, status,
};
use opentelemetry_semantic_conventions::SCHEMA_URL;
use prost::Message;
use std::sync::Arc;

/// `ExportTraceServiceRequest` of OTLP with encoded `ScopeSpans`: prost would measure each of their spans once for
/// every message around it.
#[derive(Clone, PartialEq, Message)]
struct EncodedRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<EncodedResourceSpans>,
}

/// `ResourceSpans`
#[derive(Clone, PartialEq, Message)]
struct EncodedResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<OtlpResource>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    scope_spans: Vec<Vec<u8>>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

/// `ScopeSpans` without its spans
#[derive(Clone, PartialEq, Message)]
struct ScopeOfSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<InstrumentationScope>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

/// Number of the field `ScopeSpans.spans`.
const SPANS: u32 = 2;

/// Buffers that are kept: as many resources have spans at a time, mostly.
const SPARE: usize = 16;

/// Spans of one resource.
#[derive(Debug)]
struct OfResource {
    resource: Arc<Resource>,
    /// A `ScopeSpans`.
    scope_spans: Vec<u8>,
}

/// Spans on their way to a collector.
#[derive(Debug, Default)]
pub(crate) struct EncodedSpans {
    by_resource: Vec<OfResource>,
    len: usize,
    /// Buffers to be filled again.
    spare: Vec<Vec<u8>>,
}

impl EncodedSpans {
    /// How many spans it holds.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all spans and keeps the memory.
    pub(crate) fn clear(&mut self) {
        let buffers = self.by_resource.drain(..).map(|of| of.scope_spans);
        self.spare.extend(buffers);
        self.spare.truncate(SPARE);
        self.len = 0;
    }

    /// Takes all spans out, as the request that brings them.
    pub(crate) fn take_request(&mut self) -> Bytes {
        let resource_spans = self.by_resource.iter_mut().map(|of| EncodedResourceSpans {
            resource: resource(&of.resource),
            scope_spans: vec![std::mem::take(&mut of.scope_spans)],
            schema_url: SCHEMA_URL.into(),
        });
        let request = EncodedRequest {
            resource_spans: resource_spans.collect(),
        };
        let encoded = request.encode_to_vec();
        let buffers = request.resource_spans.into_iter().flat_map(|of| of.scope_spans);
        for (of, buffer) in self.by_resource.iter_mut().zip(buffers) {
            of.scope_spans = buffer;
        }
        self.clear();
        encoded.into()
    }

    fn of(&mut self, resource: &Arc<Resource>, scope: &[u8]) -> &mut Vec<u8> {
        let is = |of: &OfResource| of.resource.id() == resource.id();
        let at = self.by_resource.iter().rposition(is).unwrap_or_else(|| {
            let mut scope_spans = self.spare.pop().unwrap_or_default();
            scope_spans.clear();
            scope_spans.extend_from_slice(scope);
            self.by_resource.push(OfResource {
                resource: resource.clone(),
                scope_spans,
            });
            self.by_resource.len() - 1
        });
        &mut self.by_resource[at].scope_spans
    }
}

/// Encodes spans.
#[derive(Debug)]
pub(crate) struct SpanEncoder {
    /// A [`ScopeOfSpans`].
    scope: Vec<u8>,
    /// A span without its attributes, filled again for the next.
    head: OtlpSpan,
    attributes: Attributes,
    /// The encoded span.
    span: Vec<u8>,
}

impl Default for SpanEncoder {
    fn default() -> Self {
        let scope = ScopeOfSpans {
            scope: scope(),
            schema_url: SCHEMA_URL.into(),
        };
        SpanEncoder {
            scope: scope.encode_to_vec(),
            head: OtlpSpan::default(),
            attributes: Attributes::default(),
            span: Vec::new(),
        }
    }
}

impl SpanEncoder {
    /// Adds a span to `to`.
    pub(crate) fn encode(
        &mut self,
        origin: &Origin<'_>,
        description: &Description<'_>,
        to: &mut EncodedSpans,
    ) {
        fill(&mut self.head, origin, description);
        self.span.clear();
        // A vector has always room.
        let _ = self.head.encode(&mut self.span);
        for (key, value) in &description.attributes {
            self.attributes.encode(key, value, &mut self.span);
        }
        prost::encoding::bytes::encode(SPANS, &self.span, to.of(origin.resource, &self.scope));
        to.len += 1;
    }
}

/// Writes `bytes` over what `to` holds.
fn set(to: &mut Vec<u8>, bytes: &[u8]) {
    to.clear();
    to.extend_from_slice(bytes);
}

/// Writes a span, its attributes aside, over another.
fn fill(to: &mut OtlpSpan, origin: &Origin<'_>, description: &Description<'_>) {
    let Origin { context, parent, .. } = origin;
    let tracestate = origin.tracestate.unwrap_or("");
    let kind = match description.kind {
        Kind::Server => span::SpanKind::Server,
        Kind::Client => span::SpanKind::Client,
        Kind::Producer => span::SpanKind::Producer,
        Kind::Consumer => span::SpanKind::Consumer,
    };
    let code = match description.status {
        Status::Unset => status::StatusCode::Unset,
        Status::Ok => status::StatusCode::Ok,
        Status::Error => status::StatusCode::Error,
    };
    let is_remote = match parent {
        Some(parent) if parent.remote => SpanFlags::ContextIsRemoteMask as u32,
        _ => 0,
    };
    // A message's consumer is linked to its producer besides being under it (messaging conventions).
    let links = parent
        .filter(|parent| parent.remote && description.kind == Kind::Consumer)
        .map(|parent| span::Link {
            trace_id: parent.context.trace_id.to_vec(),
            span_id: parent.context.span_id.to_vec(),
            trace_state: tracestate.into(),
            flags: u32::from(parent.context.flags)
                | SpanFlags::ContextHasIsRemoteMask as u32
                | SpanFlags::ContextIsRemoteMask as u32,
            ..span::Link::default()
        });
    set(&mut to.trace_id, &context.trace_id);
    set(&mut to.span_id, &context.span_id);
    set_text(&mut to.trace_state, tracestate);
    match parent {
        Some(parent) => set(&mut to.parent_span_id, &parent.context.span_id),
        None => to.parent_span_id.clear(),
    }
    to.flags = u32::from(context.flags) | SpanFlags::ContextHasIsRemoteMask as u32 | is_remote;
    set_text(&mut to.name, bounded(description.name));
    to.kind = kind as i32;
    to.start_time_unix_nano = origin.start;
    to.end_time_unix_nano = origin.end;
    to.links.clear();
    to.links.extend(links);
    to.status = Some(OtlpStatus {
        message: String::new(),
        code: code as i32,
    });
}

//! Spans in OTLP's messages.

use super::{key_value, resource, scope, value};
use crate::resource::Resource;
use crate::span::{Batch, Kind, Span, Status};
use crate::value::Value;
use bytes::Bytes;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, InstrumentationScope, KeyValue, any_value::Value as Any,
};
use opentelemetry_proto::tonic::resource::v1::Resource as OtlpResource;
use opentelemetry_proto::tonic::trace::v1::{
    Span as OtlpSpan, SpanFlags, Status as OtlpStatus, span, status,
};
use opentelemetry_semantic_conventions::SCHEMA_URL;
use prost::Message;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

/// `ExportTraceServiceRequest` of OTLP, whose spans are encoded already: prost would measure each of them once for
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
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<EncodedScopeSpans>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

/// `ScopeSpans`
#[derive(Clone, PartialEq, Message)]
struct EncodedScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<InstrumentationScope>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    spans: Vec<Bytes>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

/// Encodes spans. The message of one is filled again for the next: it has some thirty strings.
#[derive(Debug, Default)]
pub(crate) struct TraceEncoder {
    span: OtlpSpan,
    addresses: Addresses,
    /// Of the last batch, in bytes.
    size: usize,
}

impl TraceEncoder {
    /// The request with the spans of a batch, by resource.
    pub(crate) fn encode(&mut self, batch: &Batch) -> Bytes {
        let mut spans = Vec::with_capacity(self.size);
        let mut by_resource: BTreeMap<u64, (&Arc<Resource>, Vec<Range<usize>>)> = BTreeMap::new();
        for span in batch.iter() {
            fill(&mut self.span, span, &mut self.addresses);
            let from = spans.len();
            // A vector has always room.
            let _ = self.span.encode(&mut spans);
            let of = span.resource();
            let (_, places) = by_resource.entry(of.id()).or_insert_with(|| (of, Vec::new()));
            places.push(from..spans.len());
        }
        self.size = spans.len();
        let spans = Bytes::from(spans);
        let resource_spans = by_resource
            .into_values()
            .map(|(of, places)| EncodedResourceSpans {
                resource: resource(of),
                scope_spans: vec![EncodedScopeSpans {
                    scope: scope(),
                    spans: places.into_iter().map(|place| spans.slice(place)).collect(),
                    schema_url: SCHEMA_URL.into(),
                }],
                schema_url: SCHEMA_URL.into(),
            });
        let request = EncodedRequest {
            resource_spans: resource_spans.collect(),
        };
        request.encode_to_vec().into()
    }
}

/// Texts of addresses, since the same few come in every span.
#[derive(Debug, Default)]
struct Addresses([Option<(IpAddr, String)>; 16]);

impl Addresses {
    fn text(&mut self, address: IpAddr) -> &str {
        let last = match address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[15],
        };
        let slot = &mut self.0[usize::from(last) % 16];
        if slot.as_ref().is_none_or(|(known, _)| *known != address) {
            *slot = Some((address, address.to_string()));
        }
        slot.as_ref().map_or("", |(_, text)| text)
    }
}

/// Writes `bytes` over what `to` holds.
fn set(to: &mut Vec<u8>, bytes: &[u8]) {
    to.clear();
    to.extend_from_slice(bytes);
}

/// Writes `text` over what `to` holds.
fn set_text(to: &mut String, text: &str) {
    to.clear();
    to.push_str(text);
}

/// Writes an attribute over another.
fn set_attribute(to: &mut KeyValue, key: &str, of: &Value<&str>, addresses: &mut Addresses) {
    set_text(&mut to.key, key);
    let of = match of {
        Value::Ip(address) => Value::Str(addresses.text(*address)),
        Value::Str(text) => Value::Str(*text),
        other => {
            to.value = Some(AnyValue {
                value: Some(value(other)),
            });
            return;
        }
    };
    match (&of, &mut to.value) {
        (
            Value::Str(text),
            Some(AnyValue {
                value: Some(Any::StringValue(to)),
            }),
        ) => set_text(to, text),
        (of, to) => {
            *to = Some(AnyValue {
                value: Some(value(of)),
            })
        }
    }
}

/// Writes a span over another.
fn fill(to: &mut OtlpSpan, span: Span<'_>, addresses: &mut Addresses) {
    let context = span.context();
    let parent = span.parent();
    let kind = match span.kind() {
        Kind::Server => span::SpanKind::Server,
        Kind::Client => span::SpanKind::Client,
        Kind::Producer => span::SpanKind::Producer,
        Kind::Consumer => span::SpanKind::Consumer,
    };
    let code = match span.status() {
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
        .filter(|parent| parent.remote && span.kind() == Kind::Consumer)
        .map(|parent| span::Link {
            trace_id: parent.context.trace_id.to_vec(),
            span_id: parent.context.span_id.to_vec(),
            trace_state: span.tracestate().into(),
            flags: u32::from(parent.context.flags)
                | SpanFlags::ContextHasIsRemoteMask as u32
                | SpanFlags::ContextIsRemoteMask as u32,
            ..span::Link::default()
        });
    set(&mut to.trace_id, &context.trace_id);
    set(&mut to.span_id, &context.span_id);
    set_text(&mut to.trace_state, span.tracestate());
    match parent {
        Some(parent) => set(&mut to.parent_span_id, &parent.context.span_id),
        None => to.parent_span_id.clear(),
    }
    to.flags = u32::from(context.flags) | SpanFlags::ContextHasIsRemoteMask as u32 | is_remote;
    set_text(&mut to.name, span.name());
    to.kind = kind as i32;
    to.start_time_unix_nano = span.start();
    to.end_time_unix_nano = span.end();
    let mut count = 0;
    for (key, of) in span.attributes() {
        match to.attributes.get_mut(count) {
            Some(attribute) => set_attribute(attribute, key, &of, addresses),
            None => to.attributes.push(key_value(key, value(&of))),
        }
        count += 1;
    }
    to.attributes.truncate(count);
    to.links.clear();
    to.links.extend(links);
    to.status = Some(OtlpStatus {
        message: String::new(),
        code: code as i32,
    });
}

//! Spans and series in OTLP's messages.

use super::config::Temporality;
use crate::metrics::{Aggregates, Cell, Data, Exemplar, Exponential, Instrument, InstrumentKind, Series};
use crate::resource::{Resource, ResourceValue};
use crate::span::{Batch, Kind, Span, Status};
use crate::value::{OwnedAttribute, Value};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value as Any,
};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar as OtlpExemplar, ExponentialHistogram, ExponentialHistogramDataPoint,
    Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exemplar,
    metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource as OtlpResource;
use opentelemetry_proto::tonic::trace::v1::{
    ResourceSpans, ScopeSpans, Span as OtlpSpan, SpanFlags, Status as OtlpStatus, span, status,
};
use opentelemetry_semantic_conventions::SCHEMA_URL;
use std::collections::BTreeMap;
use std::sync::Arc;

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: "redwire".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    })
}

fn key_value(key: &str, value: Any) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn attribute<S: AsRef<str>>(key: &str, value: &Value<S>) -> KeyValue {
    let value = match value {
        Value::Int(n) => Any::IntValue(*n),
        Value::Bool(b) => Any::BoolValue(*b),
        text => Any::StringValue(text.to_string()),
    };
    key_value(key, value)
}

fn resource(resource: &Resource) -> Option<OtlpResource> {
    let text = |text: &String| Any::StringValue(text.clone());
    let value = |value: &ResourceValue| match value {
        ResourceValue::Str(s) => text(s),
        ResourceValue::Int(n) => Any::IntValue(*n),
        ResourceValue::Strs(all) => Any::ArrayValue(ArrayValue {
            values: all.iter().map(|s| AnyValue { value: Some(text(s)) }).collect(),
        }),
    };
    let attributes = resource.instance().attributes().iter();
    Some(OtlpResource {
        attributes: attributes.map(|(key, of)| key_value(key, value(of))).collect(),
        ..OtlpResource::default()
    })
}

/// The spans of a batch, by resource.
pub(crate) fn traces(batch: &Batch) -> ExportTraceServiceRequest {
    let mut by_resource: BTreeMap<u64, (&Arc<Resource>, Vec<OtlpSpan>)> = BTreeMap::new();
    for span in batch.iter() {
        let of = span.resource();
        by_resource
            .entry(of.id())
            .or_insert_with(|| (of, Vec::new()))
            .1
            .push(otlp_span(span));
    }
    let resource_spans = by_resource.into_values().map(|(of, spans)| ResourceSpans {
        resource: resource(of),
        scope_spans: vec![ScopeSpans {
            scope: scope(),
            spans,
            schema_url: SCHEMA_URL.into(),
        }],
        schema_url: SCHEMA_URL.into(),
    });
    ExportTraceServiceRequest {
        resource_spans: resource_spans.collect(),
    }
}

fn otlp_span(span: Span<'_>) -> OtlpSpan {
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
    OtlpSpan {
        trace_id: context.trace_id.to_vec(),
        span_id: context.span_id.to_vec(),
        trace_state: span.tracestate().into(),
        parent_span_id: parent.map_or_else(Vec::new, |parent| parent.context.span_id.to_vec()),
        flags: u32::from(context.flags) | SpanFlags::ContextHasIsRemoteMask as u32 | is_remote,
        name: span.name().into(),
        kind: kind as i32,
        start_time_unix_nano: span.start(),
        end_time_unix_nano: span.end(),
        attributes: span
            .attributes()
            .map(|(key, value)| attribute(key, &value))
            .collect(),
        links: links.into_iter().collect(),
        status: Some(OtlpStatus {
            message: String::new(),
            code: code as i32,
        }),
        ..OtlpSpan::default()
    }
}

/// Data points of a request at most: a server of gRPC takes 4 MiB by default.
const POINTS: usize = 1000;

/// All series (with delta temporality those that got values), in requests of a bounded number of points, which is
/// given with each.
pub(crate) fn metrics(
    series: &Aggregates,
    temporality: Temporality,
    now: u64,
) -> Vec<(ExportMetricsServiceRequest, usize)> {
    let mut by_resource: BTreeMap<u64, Vec<&Series>> = BTreeMap::new();
    for series in series
        .iter()
        .filter(|series| temporality == Temporality::Cumulative || series.is_active())
    {
        by_resource
            .entry(series.identity.resource.id())
            .or_default()
            .push(series);
    }
    let mut requests = Vec::new();
    let mut current = (ExportMetricsServiceRequest::default(), 0);
    for all in by_resource.values() {
        // A series has up to six points.
        for some in all.chunks(POINTS / 6) {
            let points: usize = some.iter().map(|series| series.cells.len()).sum();
            if current.1 + points > POINTS && current.1 > 0 {
                requests.push(std::mem::take(&mut current));
            }
            let Some(first) = some.first() else { continue };
            current.0.resource_metrics.push(ResourceMetrics {
                resource: resource(&first.identity.resource),
                scope_metrics: vec![ScopeMetrics {
                    scope: scope(),
                    metrics: by_instrument(some, temporality, now),
                    schema_url: SCHEMA_URL.into(),
                }],
                schema_url: SCHEMA_URL.into(),
            });
            current.1 += points;
        }
    }
    if current.1 > 0 {
        requests.push(current);
    }
    requests
}

fn by_instrument(all: &[&Series], temporality: Temporality, now: u64) -> Vec<Metric> {
    let mut metrics: BTreeMap<&str, Metric> = BTreeMap::new();
    for series in all {
        for cell in &series.cells {
            let metric = metrics.entry(cell.instrument.name).or_insert_with(|| Metric {
                name: cell.instrument.name.into(),
                description: cell.instrument.description.into(),
                unit: cell.instrument.unit.into(),
                data: Some(empty(cell, temporality)),
                ..Metric::default()
            });
            add_point(metric, series, cell, now);
        }
    }
    metrics.into_values().collect()
}

fn empty(cell: &Cell, temporality: Temporality) -> metric::Data {
    let Instrument { kind, .. } = cell.instrument;
    let temporality = match (kind, temporality) {
        (InstrumentKind::UpDownCounter, _) | (_, Temporality::Cumulative) => {
            AggregationTemporality::Cumulative
        }
        (_, Temporality::Delta) => AggregationTemporality::Delta,
    };
    let aggregation_temporality = temporality as i32;
    match &cell.data {
        Data::Exponential(_) => metric::Data::ExponentialHistogram(ExponentialHistogram {
            data_points: Vec::new(),
            aggregation_temporality,
        }),
        Data::Explicit(_) => metric::Data::Histogram(Histogram {
            data_points: Vec::new(),
            aggregation_temporality,
        }),
        Data::Sum(_) => metric::Data::Sum(Sum {
            data_points: Vec::new(),
            aggregation_temporality,
            is_monotonic: *kind == InstrumentKind::Counter,
        }),
    }
}

fn add_point(metric: &mut Metric, series: &Series, cell: &Cell, now: u64) {
    let owned = |(key, value): &OwnedAttribute| attribute(key, value);
    let attributes = series.identity.attributes.iter().map(owned).collect();
    let exemplars = cell.exemplars.iter().map(otlp_exemplar).collect();
    let start_time_unix_nano = series.since;
    let time_unix_nano = now.max(series.since);
    let extreme = |values: &Exponential, of: f64| (values.count > 0).then_some(of);
    match (&cell.data, &mut metric.data) {
        (Data::Exponential(values), Some(metric::Data::ExponentialHistogram(to))) => {
            to.data_points.push(ExponentialHistogramDataPoint {
                attributes,
                start_time_unix_nano,
                time_unix_nano,
                count: values.count,
                sum: Some(values.sum),
                scale: values.scale,
                zero_count: values.zero_count,
                positive: Some(Buckets {
                    offset: values.offset,
                    bucket_counts: values.buckets.clone(),
                }),
                exemplars,
                min: extreme(values, values.min),
                max: extreme(values, values.max),
                ..ExponentialHistogramDataPoint::default()
            });
        }
        (Data::Explicit(histogram), Some(metric::Data::Histogram(to))) => {
            let values = &histogram.values;
            to.data_points.push(HistogramDataPoint {
                attributes,
                start_time_unix_nano,
                time_unix_nano,
                count: values.count,
                sum: Some(values.sum),
                bucket_counts: histogram.buckets.clone(),
                explicit_bounds: histogram.boundaries.to_vec(),
                exemplars,
                min: extreme(values, values.min),
                max: extreme(values, values.max),
                ..HistogramDataPoint::default()
            });
        }
        (Data::Sum(sum), Some(metric::Data::Sum(to))) => to.data_points.push(NumberDataPoint {
            attributes,
            start_time_unix_nano,
            time_unix_nano,
            exemplars,
            value: Some(number_data_point::Value::AsInt(*sum)),
            ..NumberDataPoint::default()
        }),
        _ => debug_assert!(false, "an instrument has one kind of data"),
    }
}

fn otlp_exemplar(exemplar: &Exemplar) -> OtlpExemplar {
    OtlpExemplar {
        time_unix_nano: exemplar.time,
        span_id: exemplar.span_id.to_vec(),
        trace_id: exemplar.trace_id.to_vec(),
        value: Some(exemplar::Value::AsDouble(exemplar.value)),
        ..OtlpExemplar::default()
    }
}

//! Series in OTLP's messages.

use super::{attribute, resource, scope};
use crate::export::config::Temporality;
use crate::instrument::{Instrument, InstrumentKind};
use crate::metrics::{Aggregates, Cell, Data, Exemplar, Exponential, Series};
use crate::value::OwnedAttribute;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar as OtlpExemplar, ExponentialHistogram, ExponentialHistogramDataPoint,
    Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exemplar,
    metric, number_data_point,
};
use opentelemetry_semantic_conventions::SCHEMA_URL;
use std::collections::BTreeMap;

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
    let mut attributes: Vec<_> = series.identity.attributes.iter().map(owned).collect();
    attributes.sort_by(|a, b| a.key.cmp(&b.key));
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

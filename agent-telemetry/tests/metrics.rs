//! What becomes of metrics over several exports, and of spans that are sampled.

mod collect;
mod common;
mod receiver;

use collect::*;
use common::{BEGIN, connection, record, serve, transaction};
use opentelemetry_proto::tonic::metrics::v1::AggregationTemporality;
use opentelemetry_proto::tonic::metrics::v1::ExponentialHistogramDataPoint;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use receiver::Receiver;
use redwire_protocol::connection::{ProcessId, Side};
use redwire_protocol::output::Observer;
use redwire_protocol::trace_context::SpanContext;
use redwire_telemetry::{Config, Histograms, MetricsConfig, OtlpConfig};
use std::time::Duration;

#[tokio::test]
async fn sampling_affects_spans_alone() {
    let receiver = Receiver::start().await;
    let config = Config {
        sampling_ratio: 0.1,
        seed: Some(4),
        ..quick()
    };
    let mut pipeline = start(config, grpc(&receiver, &[]));
    let mut telemetry = pipeline.worker();
    for _ in 0..2000 {
        serve(&mut telemetry, Some(1), "/root");
    }
    for (flags, path) in [("01", "/sampled"), ("00", "/unsampled")] {
        let parent = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        let mut child = transaction(record(path));
        child.remote_parent = SpanContext::parse(parent.as_bytes());
        for _ in 0..50 {
            telemetry.transaction(&connection(Some(1)), Side::Server, &child);
        }
    }
    end(pipeline, telemetry).await;
    let of = |name: &str| {
        spans(&receiver)
            .iter()
            .filter(|(_, span)| span.name == name)
            .count()
    };
    assert!((140..=260).contains(&of("GET /root")), "{}", of("GET /root"));
    assert_eq!((of("GET /sampled"), of("GET /unsampled")), (50, 0));
    let counts: u64 = durations(&receiver).iter().map(|(_, point)| point.count).sum();
    assert_eq!(counts, 2100);
    let unsampled = durations(&receiver);
    let (_, unsampled) = unsampled
        .iter()
        .find(|(_, point)| text(&point.attributes, "http.route") == "/unsampled")
        .unwrap();
    assert!(unsampled.exemplars.is_empty(), "an exemplar needs a span");
}

/// Waits until the receiver has so many requests of metrics.
async fn wait_for_metrics(receiver: &Receiver, n: usize) {
    for _ in 0..500 {
        if receiver.metrics().len() >= n {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("only {} requests of metrics", receiver.metrics().len());
}

fn sums(receiver: &Receiver, name: &str) -> Vec<i64> {
    let mut values = Vec::new();
    for (_, metric) in metrics(receiver) {
        if let (Some(Data::Sum(sum)), true) = (metric.data, metric.name == name) {
            assert_eq!(
                sum.aggregation_temporality,
                AggregationTemporality::Cumulative as i32
            );
            assert!(!sum.is_monotonic);
            values.extend(sum.data_points.iter().map(|point| match point.value {
                Some(number_data_point::Value::AsInt(n)) => n,
                other => panic!("{other:?}"),
            }));
        }
    }
    values
}

#[tokio::test]
async fn a_process_that_ended_is_exported_once_more_and_dropped() {
    let receiver = Receiver::start().await;
    let config = Config {
        metric_interval: Duration::from_secs(1),
        ..quick()
    };
    let mut pipeline = start(
        config,
        OtlpConfig {
            traces: None,
            ..grpc(&receiver, &[])
        },
    );
    let mut telemetry = pipeline.worker();
    serve(&mut telemetry, Some(1), "/");
    serve(&mut telemetry, Some(2), "/");
    telemetry.flush(BEGIN + 1);
    pipeline.resources().ended(ProcessId(1));
    // What ended lingers for five seconds, is exported within one more, and is in no export after.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let shop = |points: &[(String, ExponentialHistogramDataPoint)]| {
        points.iter().filter(|(service, _)| service == "shop").count()
    };
    assert!(shop(&durations(&receiver)) > 0);
    receiver.clear();
    serve(&mut telemetry, Some(2), "/");
    end(pipeline, telemetry).await;
    let points = durations(&receiver);
    assert_eq!(shop(&points), 0);
    assert_eq!(points.last().unwrap().1.count, 2);
}

async fn two_intervals(variables: &[(&str, &str)]) -> Receiver {
    let receiver = Receiver::start().await;
    let config = Config {
        metric_interval: Duration::ZERO,
        ..quick()
    };
    let mut pipeline = start(
        config,
        OtlpConfig {
            traces: None,
            ..grpc(&receiver, variables)
        },
    );
    let mut telemetry = pipeline.worker();
    serve_times(&mut telemetry, 3);
    telemetry.sessions(&connection(Some(1)), Side::Server, 2);
    telemetry.flush(BEGIN + 1_000_000_000);
    wait_for_metrics(&receiver, 1).await;
    serve(&mut telemetry, Some(1), "/");
    telemetry.sessions(&connection(Some(1)), Side::Server, -1);
    end(pipeline, telemetry).await;
    receiver
}

#[tokio::test]
async fn cumulative_by_default() {
    let receiver = two_intervals(&[]).await;
    let points = durations(&receiver);
    let (first, last) = (&points[0].1, &points[points.len() - 1].1);
    assert_eq!((first.count, last.count), (3, 4));
    assert_eq!(first.start_time_unix_nano, last.start_time_unix_nano);
    assert!(last.time_unix_nano > first.time_unix_nano);
    let open = sums(&receiver, "redwire.websocket.server.open_connections");
    assert_eq!((open.first(), open.last()), (Some(&2), Some(&1)));
}

#[tokio::test]
async fn delta_where_preferred() {
    let receiver = two_intervals(&[("TEMPORALITY_PREFERENCE", "delta")]).await;
    let points = durations(&receiver);
    assert_eq!(
        points.iter().map(|(_, point)| point.count).collect::<Vec<_>>(),
        [3, 1]
    );
    assert_eq!(points[1].1.start_time_unix_nano, points[0].1.time_unix_nano);
    let open = sums(&receiver, "redwire.websocket.server.open_connections");
    assert_eq!(open, [2, 1], "a gauge stays cumulative");
}

#[tokio::test]
async fn explicit_buckets_on_request() {
    let receiver = Receiver::start().await;
    let metrics_config = MetricsConfig {
        histograms: Histograms::Explicit,
        ..MetricsConfig::default()
    };
    let mut pipeline = start(
        Config {
            metrics: metrics_config,
            ..quick()
        },
        grpc(&receiver, &[]),
    );
    let mut telemetry = pipeline.worker();
    serve_times(&mut telemetry, 5);
    end(pipeline, telemetry).await;
    let all = metrics(&receiver);
    let (_, duration) = all
        .iter()
        .find(|(_, metric)| metric.name == "http.server.request.duration")
        .unwrap();
    let Some(Data::Histogram(histogram)) = &duration.data else {
        panic!("{duration:?}")
    };
    let point = &histogram.data_points[0];
    assert_eq!(
        point.explicit_bounds,
        [
            0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0
        ]
    );
    assert_eq!(point.bucket_counts, [0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!((point.count, point.exemplars.len()), (5, 4));
}

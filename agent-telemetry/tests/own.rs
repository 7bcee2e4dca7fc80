//! The agent's own metrics and logs.

mod common;
mod receiver;

use common::{BEGIN, connection};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use receiver::Receiver;
use redwire_protocol::loss::Loss;
use redwire_protocol::output::Observer;
use redwire_telemetry::{Config, OtlpConfig, Outputs, Own, Pipeline, Resources, ServiceInstance};
use std::sync::Arc;
use std::time::Duration;
use tracing_subscriber::layer::SubscriberExt as _;

async fn goes_out(receiver: &Receiver, endpoint: &str, protocol: &str) {
    receiver.clear();
    let get = |name: &str| (name == "OTEL_EXPORTER_OTLP_PROTOCOL").then(|| protocol.to_owned());
    let otlp = OtlpConfig::read(Some(endpoint), &get).unwrap();
    let runtime = tokio::runtime::Handle::current();
    let own = Own::start(
        &otlp,
        &ServiceInstance::new("redwire").with("host.name", "h"),
        &Arc::default(),
        &runtime,
    )
    .unwrap();
    let resources = Arc::new(Resources::new(
        ServiceInstance::default(),
        ServiceInstance::default(),
    ));
    let mut pipeline = Pipeline::start(Config::default(), Outputs::default(), resources, &runtime).unwrap();
    own.observe(pipeline.counters());
    let subscriber = tracing_subscriber::registry().with(own.layer());
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!(target: "redwire::test", answer = 42, "hello");
        tracing::info!(target: "hyper::noise", "nobody asked");
    });
    let mut telemetry = pipeline.worker();
    telemetry.lost(&connection(None), Some("http"), Loss::GapBytes, 77);
    telemetry.finish(BEGIN);
    pipeline.shutdown(Duration::from_secs(5)).await;
    own.shutdown(Duration::from_secs(5)).await;

    let metrics = receiver.metrics();
    sorted_everywhere(&metrics, &["redwire.loss", "redwire.export.dropped"]);
    let mut losses = Vec::new();
    for request in metrics {
        for of in request.resource_metrics {
            let attributes = of.resource.unwrap().attributes;
            assert!(attributes.iter().any(|attribute| attribute.key == "host.name"));
            let metrics = of.scope_metrics.into_iter().flat_map(|scope| scope.metrics);
            for metric in metrics.filter(|metric| metric.name == "redwire.loss") {
                let Some(Data::Sum(sum)) = metric.data else {
                    panic!("{metric:?}")
                };
                assert!(sum.is_monotonic);
                losses.extend(sum.data_points);
            }
        }
    }
    assert_eq!(losses.len(), 1, "{protocol}");
    assert_eq!(losses[0].value, Some(Value::AsInt(77)));
    let keys: Vec<_> = losses[0]
        .attributes
        .iter()
        .map(|attribute| attribute.key.as_str())
        .collect();
    assert_eq!(keys, ["redwire.loss.reason", "redwire.protocol"]);
    let logs = receiver.logs();
    let scopes = logs
        .iter()
        .flat_map(|request| &request.resource_logs)
        .flat_map(|of| &of.scope_logs);
    let bodies: Vec<String> = scopes
        .flat_map(|scope| &scope.log_records)
        .map(|record| format!("{:?}", record.body))
        .collect();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert!(bodies[0].contains("hello"), "{bodies:?}");
}

/// The attributes of every point of these metrics stand in the order of their keys.
fn sorted_everywhere(requests: &[ExportMetricsServiceRequest], names: &[&str]) {
    let scopes = requests
        .iter()
        .flat_map(|request| &request.resource_metrics)
        .flat_map(|of| &of.scope_metrics);
    let metrics: Vec<_> = scopes.flat_map(|scope| &scope.metrics).collect();
    for name in names {
        let named: Vec<_> = metrics.iter().filter(|metric| metric.name == *name).collect();
        assert!(!named.is_empty(), "{name}");
        for metric in named {
            let Some(Data::Sum(sum)) = &metric.data else {
                panic!("{metric:?}")
            };
            for point in &sum.data_points {
                let keys = point.attributes.iter().map(|attribute| &attribute.key);
                assert!(keys.is_sorted(), "{name}: {:?}", point.attributes);
            }
        }
    }
}

#[tokio::test]
async fn over_grpc() {
    let receiver = Receiver::start().await;
    goes_out(&receiver, &receiver.grpc, "grpc").await;
}

#[tokio::test]
async fn over_http() {
    let receiver = Receiver::start().await;
    goes_out(&receiver, &receiver.http, "http/protobuf").await;
}

#[tokio::test]
async fn off_without_an_endpoint() {
    let runtime = tokio::runtime::Handle::current();
    let own = Own::start(
        &OtlpConfig::default(),
        &ServiceInstance::new("redwire"),
        &Arc::default(),
        &runtime,
    )
    .unwrap();
    assert!(own.meter().is_none());
    assert!(own.layer::<tracing_subscriber::Registry>().is_none());
    own.shutdown(Duration::from_secs(1)).await;
}

//! OTLP against receivers in this process.

mod common;
mod receiver;

use common::{BEGIN, connection, record, serve, transaction};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogramDataPoint, Metric,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use receiver::{Answer, Receiver};
use redwire_protocol::connection::{ProcessId, Side};
use redwire_protocol::loss::Loss;
use redwire_protocol::output::Observer;
use redwire_protocol::trace_context::SpanContext;
use redwire_telemetry::{
    Config, Counters, Drop, Histograms, MetricsConfig, OtlpConfig, Outputs, Pipeline, Resources, Retry,
    ServiceInstance, Signal, Telemetry, WhenFull, check,
};
use std::sync::Arc;
use std::time::Duration;

fn otlp(endpoint: &str, variables: &[(&str, &str)]) -> OtlpConfig {
    let get = |name: &str| {
        let value = variables.iter().find(|(known, _)| name.ends_with(known));
        value.map(|(_, value)| (*value).to_owned())
    };
    OtlpConfig::read(Some(endpoint), &get).unwrap()
}

fn grpc(receiver: &Receiver, more: &[(&str, &str)]) -> OtlpConfig {
    let mut variables = vec![("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
    variables.extend(more);
    otlp(&receiver.grpc, &variables)
}

fn http(receiver: &Receiver, more: &[(&str, &str)]) -> OtlpConfig {
    let mut variables = vec![("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")];
    variables.extend(more);
    otlp(&receiver.http, &variables)
}

fn quick() -> Config {
    Config {
        retry: Retry {
            first: Duration::from_millis(10),
            longest: Duration::from_millis(50),
            give_up: Duration::from_secs(5),
        },
        ..Config::default()
    }
}

fn start(config: Config, otlp: OtlpConfig) -> Pipeline {
    let resources = Resources::new(ServiceInstance::parse("region=eu"), ServiceInstance::default());
    for (process, service) in [(1, "shop"), (2, "cart")] {
        resources.set(
            ProcessId(process),
            ServiceInstance::new(service).with("process.pid", i64::from(process)),
        );
    }
    let outputs = Outputs {
        otlp: Some(otlp),
        ..Outputs::default()
    };
    Pipeline::start(
        config,
        outputs,
        Arc::new(resources),
        &tokio::runtime::Handle::current(),
    )
    .unwrap()
}

async fn end(pipeline: Pipeline, telemetry: Telemetry) -> Arc<Counters> {
    telemetry.finish(BEGIN + 60_000_000_000);
    pipeline.shutdown(Duration::from_secs(10)).await
}

fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    attributes
        .iter()
        .find(|attribute| attribute.key == key)?
        .value
        .as_ref()?
        .value
        .as_ref()
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    match attribute(attributes, key) {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("{key}: {other:?}"),
    }
}

fn spans(receiver: &Receiver) -> Vec<(Resource, Span)> {
    let mut all = Vec::new();
    for request in receiver.traces() {
        for of in request.resource_spans {
            assert_eq!(of.schema_url, "https://opentelemetry.io/schemas/1.42.0");
            for scope in of.scope_spans {
                assert_eq!(scope.scope.unwrap().name, "redwire");
                all.extend(
                    scope
                        .spans
                        .into_iter()
                        .map(|span| (of.resource.clone().unwrap(), span)),
                );
            }
        }
    }
    all
}

fn metrics(receiver: &Receiver) -> Vec<(Resource, Metric)> {
    let mut all = Vec::new();
    for request in receiver.metrics() {
        for of in request.resource_metrics {
            for scope in of.scope_metrics {
                all.extend(
                    scope
                        .metrics
                        .into_iter()
                        .map(|metric| (of.resource.clone().unwrap(), metric)),
                );
            }
        }
    }
    all
}

fn durations(receiver: &Receiver) -> Vec<(String, ExponentialHistogramDataPoint)> {
    let mut points = Vec::new();
    for (resource, metric) in metrics(receiver) {
        if metric.name == "http.server.request.duration" {
            assert_eq!(metric.unit, "s");
            let Some(Data::ExponentialHistogram(histogram)) = metric.data else {
                panic!("{metric:?}")
            };
            let service = text(&resource.attributes, "service.name");
            points.extend(
                histogram
                    .data_points
                    .into_iter()
                    .map(|point| (service.clone(), point)),
            );
        }
    }
    points
}

/// What every way has to bring over.
async fn exports_everything(receiver: &Receiver, otlp: OtlpConfig) {
    check(&otlp).await.unwrap();
    receiver.clear();
    let mut pipeline = start(quick(), otlp);
    let mut telemetry = pipeline.worker();
    let mut other = pipeline.worker();
    for n in 0..1500 {
        serve(&mut telemetry, Some(1), &format!("/users/{n}"));
        serve(&mut other, Some(2), "/items");
    }
    let mut traced = transaction(record("/users/1"));
    traced.remote_parent = SpanContext::parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    traced.tracestate = Some("vendor=1");
    other.transaction(&connection(Some(1)), Side::Server, &traced);
    other.lost(&connection(Some(1)), Some("http"), Loss::Gap, 3);
    other.finish(BEGIN + 60_000_000_000);
    let counters = end(pipeline, telemetry).await;

    let spans = spans(receiver);
    assert_eq!(spans.len(), 3001);
    let of = |service: &str| {
        spans
            .iter()
            .filter(|(resource, _)| text(&resource.attributes, "service.name") == service)
            .count()
    };
    assert_eq!((of("shop"), of("cart")), (1501, 1500));
    let (resource, _) = &spans[0];
    assert_eq!(text(&resource.attributes, "region"), "eu");
    assert!(matches!(
        attribute(&resource.attributes, "process.pid"),
        Some(Value::IntValue(1 | 2))
    ));
    let (_, child) = spans
        .iter()
        .find(|(_, span)| !span.parent_span_id.is_empty())
        .unwrap();
    assert_eq!(
        child.parent_span_id,
        [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]
    );
    assert_eq!(child.trace_id[..2], [0x0a, 0xf7]);
    assert_eq!(child.trace_state, "vendor=1");
    // Sampled, and its parent is known to be remote.
    assert_eq!(child.flags, 0x301);
    assert_eq!(child.name, "GET /users/{id}");
    assert_eq!(child.kind, 2, "SPAN_KIND_SERVER");

    let points = durations(receiver);
    let counts: Vec<_> = points
        .iter()
        .map(|(service, point)| (service.as_str(), point.count))
        .collect();
    assert_eq!(counts, [("shop", 1501), ("cart", 1500)]);
    let point = &points[0].1;
    assert_eq!(text(&point.attributes, "http.route"), "/users/{id}");
    assert_eq!(text(&point.attributes, "url.scheme"), "http");
    assert_eq!(
        attribute(&point.attributes, "server.address"),
        None,
        "opt-in at servers"
    );
    assert_eq!((point.min, point.max), (Some(0.01), Some(0.01)));
    assert!((point.sum.unwrap() - 15.01).abs() < 1e-9);
    assert_eq!(point.scale, 20);
    assert_eq!(point.positive.as_ref().unwrap().bucket_counts, [1501]);
    assert!(point.start_time_unix_nano >= BEGIN && point.start_time_unix_nano < point.time_unix_nano);
    assert!(!point.exemplars.is_empty());
    for exemplar in &point.exemplars {
        let sampled = |(_, span): &&(Resource, Span)| span.span_id == exemplar.span_id;
        let (_, span) = spans
            .iter()
            .find(sampled)
            .expect("an exemplar's span is exported");
        assert_eq!(span.trace_id, exemplar.trace_id);
    }

    assert_eq!(counters.exported(Signal::Spans), 3001);
    // Duration and both body sizes of two services.
    assert_eq!(counters.exported(Signal::Points), 6);
    for signal in Signal::ALL {
        assert!(
            Drop::ALL
                .iter()
                .all(|&reason| counters.dropped(signal, reason) == 0)
        );
    }
    assert_eq!(
        counters.losses().into_iter().collect::<Vec<_>>(),
        [((Some("http"), "gap"), 3)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_grpc() {
    let receiver = Receiver::start().await;
    exports_everything(&receiver, grpc(&receiver, &[("OTLP_HEADERS", "API-Key=secret")])).await;
    assert_eq!(receiver.header("api-key").as_deref(), Some("secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_grpc_with_gzip() {
    let receiver = Receiver::start().await;
    exports_everything(&receiver, grpc(&receiver, &[("OTLP_COMPRESSION", "gzip")])).await;
    assert_eq!(receiver.header("grpc-encoding").as_deref(), Some("gzip"));
}

//! Pipelines to a receiver, and what arrived there.

#![allow(dead_code, reason = "each test file uses its part")]

use crate::common::{BEGIN, serve};
use crate::receiver::Receiver;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{ExponentialHistogramDataPoint, Metric};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use redwire_protocol::connection::ProcessId;
use redwire_telemetry::{
    Config, Counters, OtlpConfig, Outputs, Pipeline, Resources, Retry, ServiceInstance, Telemetry,
};
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn otlp(endpoint: &str, variables: &[(&str, &str)]) -> OtlpConfig {
    let get = |name: &str| {
        let value = variables.iter().find(|(known, _)| name.ends_with(known));
        value.map(|(_, value)| (*value).to_owned())
    };
    OtlpConfig::read(Some(endpoint), &get).unwrap()
}

pub(crate) fn grpc(receiver: &Receiver, more: &[(&str, &str)]) -> OtlpConfig {
    let mut variables = vec![("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
    variables.extend(more);
    otlp(&receiver.grpc, &variables)
}

pub(crate) fn http(receiver: &Receiver, more: &[(&str, &str)]) -> OtlpConfig {
    let mut variables = vec![("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")];
    variables.extend(more);
    otlp(&receiver.http, &variables)
}

pub(crate) fn quick() -> Config {
    Config {
        retry: Retry {
            first: Duration::from_millis(10),
            longest: Duration::from_millis(50),
            give_up: Duration::from_secs(5),
        },
        ..Config::default()
    }
}

pub(crate) fn start(config: Config, otlp: OtlpConfig) -> Pipeline {
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

pub(crate) async fn end(pipeline: Pipeline, telemetry: Telemetry) -> Arc<Counters> {
    telemetry.finish(BEGIN + 60_000_000_000);
    pipeline.shutdown(Duration::from_secs(10)).await
}

pub(crate) fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    attributes
        .iter()
        .find(|attribute| attribute.key == key)?
        .value
        .as_ref()?
        .value
        .as_ref()
}

pub(crate) fn text(attributes: &[KeyValue], key: &str) -> String {
    match attribute(attributes, key) {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("{key}: {other:?}"),
    }
}

pub(crate) fn spans(receiver: &Receiver) -> Vec<(Resource, Span)> {
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

pub(crate) fn metrics(receiver: &Receiver) -> Vec<(Resource, Metric)> {
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

pub(crate) fn durations(receiver: &Receiver) -> Vec<(String, ExponentialHistogramDataPoint)> {
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

pub(crate) fn serve_times(telemetry: &mut Telemetry, n: usize) {
    for _ in 0..n {
        serve(telemetry, Some(1), "/");
    }
}

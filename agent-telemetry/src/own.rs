//! The agent's own metrics and logs, by the OpenTelemetry SDK. What is observed goes another way: see
//! [`Pipeline`](crate::Pipeline).

use crate::counters::{Counters, Drop, Signal};
use crate::export::{
    ClientError, Delivery, OtlpConfig, Protocol, SignalConfig, Trouble, channel, http_client, metadata,
};
use crate::resource::{ResourceValue, ServiceInstance};
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{
    Compression, ExporterBuildError, LogExporter, MetricExporter, WithExportConfig as _, WithHttpConfig as _,
    WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::logs::{LogBatch, SdkLoggerProvider};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{SdkMeterProvider, Temporality};
use opentelemetry_semantic_conventions::SCHEMA_URL;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tonic::metadata::MetadataMap;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

const LOSS: &str = "redwire.loss";
const LOSS_PROTOCOL: &str = "redwire.protocol";
const LOSS_REASON: &str = "redwire.loss.reason";
const EXPORTED: &str = "redwire.export.exported";
const DROPPED: &str = "redwire.export.dropped";
const SIGNAL: &str = "redwire.export.signal";
const DROP_REASON: &str = "redwire.export.drop.reason";

/// The providers of the agent's own signals; without endpoints it does nothing.
pub struct Own {
    metrics: Option<SdkMeterProvider>,
    logs: Option<SdkLoggerProvider>,
}

/// The SDK's exporter cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// No client for it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The SDK refuses.
    #[error("own telemetry: {0}")]
    Build(#[from] ExporterBuildError),
}

/// An exporter of the SDK that tells of its trouble as all others do.
#[derive(Debug)]
struct Told<E> {
    exporter: E,
    delivery: Delivery,
    endpoint: String,
    trouble: Arc<Trouble>,
}

impl<E> Told<E> {
    fn tell(&self, result: &OTelSdkResult) {
        match result {
            Ok(()) => self.trouble.delivered(self.delivery),
            Err(OTelSdkError::AlreadyShutdown) => {}
            Err(error) => self
                .trouble
                .failed(self.delivery, &self.endpoint, &error.to_string(), 0),
        }
    }
}

impl PushMetricExporter for Told<MetricExporter> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let result = self.exporter.export(metrics).await;
        self.tell(&result);
        result
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

impl opentelemetry_sdk::logs::LogExporter for Told<LogExporter> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        self.tell(&result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// The SDK exports from threads of its own, this client needs the runtime's.
#[derive(Debug)]
struct OnRuntime {
    runtime: Handle,
    client: reqwest::Client,
}

#[tonic::async_trait]
impl HttpClient for OnRuntime {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime
            .spawn(async move { client.send_bytes(request).await })
            .await?
    }
}

macro_rules! exporter {
    ($exporter:ident, $config:expr, $runtime:expr) => {{
        let config: &SignalConfig = $config;
        match config.protocol {
            Protocol::Grpc => {
                let mut headers = MetadataMap::new();
                for (key, value) in metadata(config)? {
                    headers.append(key, value);
                }
                let mut builder = $exporter::builder()
                    .with_tonic()
                    .with_channel(channel(config)?)
                    .with_metadata(headers)
                    .with_timeout(config.timeout);
                if config.gzip {
                    builder = builder.with_compression(Compression::Gzip);
                }
                builder.build()?
            }
            Protocol::HttpProtobuf => {
                let mut builder = $exporter::builder()
                    .with_http()
                    .with_http_client(OnRuntime {
                        runtime: $runtime.clone(),
                        client: http_client(config)?,
                    })
                    .with_endpoint(config.endpoint.as_str())
                    .with_timeout(config.timeout);
                if config.gzip {
                    builder = builder.with_compression(Compression::Gzip);
                }
                builder.build()?
            }
        }
    }};
}

impl Own {
    /// Sets up what `config` has endpoints for. `agent` says who the agent is; what cannot be delivered is told by
    /// `trouble`.
    ///
    /// # Errors
    /// Certificates that cannot be read, or an endpoint that the SDK does not take.
    pub fn start(
        config: &OtlpConfig,
        agent: &ServiceInstance,
        trouble: &Arc<Trouble>,
        runtime: &Handle,
    ) -> Result<Own, OwnError> {
        let _within = runtime.enter();
        let told = |delivery, to: &SignalConfig| (delivery, to.endpoint.to_string(), trouble.clone());
        let metrics = match &config.metrics {
            Some(to) => {
                let (delivery, endpoint, trouble) = told(Delivery::OwnMetrics, to);
                let exporter = Told {
                    exporter: exporter!(MetricExporter, to, runtime),
                    delivery,
                    endpoint,
                    trouble,
                };
                let provider = SdkMeterProvider::builder().with_resource(resource(agent));
                Some(provider.with_periodic_exporter(exporter).build())
            }
            None => None,
        };
        let logs = match &config.logs {
            Some(to) => {
                let (delivery, endpoint, trouble) = told(Delivery::OwnLogs, to);
                let exporter = Told {
                    exporter: exporter!(LogExporter, to, runtime),
                    delivery,
                    endpoint,
                    trouble,
                };
                let provider = SdkLoggerProvider::builder().with_resource(resource(agent));
                Some(provider.with_batch_exporter(exporter).build())
            }
            None => None,
        };
        Ok(Own { metrics, logs })
    }

    /// The agent's meter, for its `redwire.*` instruments.
    pub fn meter(&self) -> Option<Meter> {
        let scope = InstrumentationScope::builder("redwire")
            .with_version(env!("CARGO_PKG_VERSION"))
            .with_schema_url(SCHEMA_URL)
            .build();
        Some(self.metrics.as_ref()?.meter_with_scope(scope))
    }

    /// Exports what a pipeline counts.
    pub fn observe(&self, counters: &Arc<Counters>) {
        let Some(meter) = self.meter() else { return };
        let of = counters.clone();
        meter
            .u64_observable_counter(LOSS)
            .with_unit("{loss}")
            .with_description("What was seen and did not become a transaction.")
            .with_callback(move |observer| {
                for ((protocol, reason), n) in of.losses() {
                    let reason = KeyValue::new(LOSS_REASON, reason);
                    match protocol {
                        Some(protocol) => {
                            observer.observe(n, &sorted([KeyValue::new(LOSS_PROTOCOL, protocol), reason]))
                        }
                        None => observer.observe(n, &[reason]),
                    }
                }
            })
            .build();
        let of = counters.clone();
        meter
            .u64_observable_counter(EXPORTED)
            .with_unit("{item}")
            .with_description("Spans and data points that a collector took.")
            .with_callback(move |observer| {
                for signal in Signal::ALL {
                    observer.observe(of.exported(signal), &[KeyValue::new(SIGNAL, signal.as_str())]);
                }
            })
            .build();
        let of = counters.clone();
        meter
            .u64_observable_counter(DROPPED)
            .with_unit("{item}")
            .with_description("Spans and data points that were dropped on their way to a collector.")
            .with_callback(move |observer| {
                for signal in Signal::ALL {
                    for reason in Drop::ALL {
                        let attributes = sorted([
                            KeyValue::new(SIGNAL, signal.as_str()),
                            KeyValue::new(DROP_REASON, reason.as_str()),
                        ]);
                        observer.observe(of.dropped(signal, reason), &attributes);
                    }
                }
            })
            .build();
    }

    /// A layer that exports the agent's own log records. Those of libraries are left out, since exporting makes more
    /// of them.
    pub fn layer<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    {
        let bridge = OpenTelemetryTracingBridge::new(self.logs.as_ref()?);
        Some(bridge.with_filter(filter_fn(|metadata| metadata.target().starts_with("redwire"))))
    }

    /// Exports what there is, for `limit` at most.
    pub async fn shutdown(self, limit: Duration) {
        let end = move || {
            let metrics = self.metrics.map(|provider| provider.shutdown_with_timeout(limit));
            let logs = self.logs.map(|provider| provider.shutdown_with_timeout(limit));
            [metrics, logs].into_iter().flatten().find_map(Result::err)
        };
        // The SDK waits for its threads, which need the runtime. Its own limit is not kept in all places.
        match tokio::time::timeout(limit, tokio::task::spawn_blocking(end)).await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(error))) => tracing::debug!(%error, "own telemetry was not exported"),
            Ok(Err(_)) | Err(_) => tracing::debug!("own telemetry was not exported in time"),
        }
    }
}

/// By key: the SDK keeps a series under its attributes as they were given and under the sorted ones, and exports either,
/// so that the order of a series would change from one export to the next.
fn sorted<const N: usize>(mut attributes: [KeyValue; N]) -> [KeyValue; N] {
    attributes.sort_by(|a, b| a.key.cmp(&b.key));
    attributes
}

fn resource(agent: &ServiceInstance) -> Resource {
    let text = |text: &String| StringValue::from(text.clone());
    let attributes = agent.attributes().iter().map(|(key, of)| {
        let value = match of {
            ResourceValue::Str(s) => Value::String(text(s)),
            ResourceValue::Int(n) => Value::I64(*n),
            ResourceValue::Strs(all) => Value::Array(Array::String(all.iter().map(text).collect())),
        };
        KeyValue::new(key.clone(), value)
    });
    Resource::builder_empty()
        .with_schema_url(attributes, SCHEMA_URL)
        .build()
}

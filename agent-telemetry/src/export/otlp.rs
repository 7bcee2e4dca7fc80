//! Takes from a queue, sends, tries again, counts.

use super::client::{Client, ClientError, Failure, Request};
use super::config::{OtlpConfig, SignalConfig};
use super::queue::WhenFull;
use super::trouble::Trouble;
use crate::counters::{Counters, Drop, Signal};
use crate::pipeline::Config;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use rand::Rng as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// When a request that was not taken is sent again: after a delay that doubles from `first` to `longest`, with
/// jitter, or after the one that the collector asks for.
#[derive(Debug, Clone)]
pub struct Retry {
    /// The first delay.
    pub first: Duration,
    /// The longest delay.
    pub longest: Duration,
    /// For how long one request is tried.
    pub give_up: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            first: Duration::from_millis(500),
            longest: Duration::from_secs(30),
            give_up: Duration::from_secs(300),
        }
    }
}

/// Sends the requests of one signal.
pub(crate) struct Exporter {
    client: Client,
    signal: Signal,
    retry: Retry,
    /// A source that waits is not held up by one request after another that is given up: then all are.
    gives_up: bool,
    has_given_up: AtomicBool,
    counters: Arc<Counters>,
    trouble: Arc<Trouble>,
}

impl Exporter {
    /// To be called within a runtime.
    pub(crate) fn new(
        config: SignalConfig,
        signal: Signal,
        of: &Config,
        counters: Arc<Counters>,
    ) -> Result<Exporter, ClientError> {
        Ok(Exporter {
            client: Client::new(config)?,
            signal,
            retry: of.retry.clone(),
            gives_up: of.when_full == WhenFull::Wait,
            has_given_up: AtomicBool::new(false),
            counters,
            trouble: of.trouble.clone(),
        })
    }

    /// Sends an encoded `R` that carries `n` spans or points until it is taken, refused or given up.
    pub(crate) async fn export<R: Request>(&self, request: Bytes, n: usize) {
        // Whoever stops this in the middle leaves the request counted, too.
        let mut fate = Fate {
            exporter: self,
            n,
            dropped: Some(Drop::Shutdown),
        };
        if self.has_given_up.load(Ordering::Relaxed) {
            fate.dropped = Some(Drop::RetriesExhausted);
            return;
        }
        let failed = |problem: &str, lost| {
            self.trouble
                .failed(self.signal.into(), self.client.endpoint(), problem, lost);
        };
        let begin = Instant::now();
        let mut delay = self.retry.first;
        loop {
            let (message, after) = match self.client.send::<R>(request.clone()).await {
                Ok(taken) => {
                    let rejected = taken.rejected.min(n);
                    self.counters
                        .count_dropped(self.signal, Drop::PartialSuccess, rejected);
                    self.counters.count_exported(self.signal, n - rejected);
                    fate.dropped = None;
                    if rejected > 0 || !taken.message.is_empty() {
                        let problem = format!("the collector took not everything: {}", taken.message);
                        failed(&problem, rejected);
                    } else {
                        self.trouble.delivered(self.signal.into());
                    }
                    return;
                }
                Err(Failure::Final(message)) => {
                    failed(&message, n);
                    fate.dropped = Some(Drop::Rejected);
                    return;
                }
                Err(Failure::Temporary { message, after }) => (message, after),
            };
            // Equal jitter: half of the delay is certain.
            let jittered = delay.mul_f64(rand::rng().random_range(0.5..=1.0));
            let wait = after.unwrap_or(jittered);
            if begin.elapsed() + wait > self.retry.give_up {
                failed(&message, n);
                fate.dropped = Some(Drop::RetriesExhausted);
                self.has_given_up.store(self.gives_up, Ordering::Relaxed);
                return;
            }
            failed(&message, 0);
            tokio::time::sleep(wait).await;
            delay = (delay * 2).min(self.retry.longest);
        }
    }
}

/// Counts what became of a request.
struct Fate<'a> {
    exporter: &'a Exporter,
    n: usize,
    dropped: Option<Drop>,
}

impl std::ops::Drop for Fate<'_> {
    fn drop(&mut self) {
        if let Some(reason) = self.dropped {
            self.exporter
                .counters
                .count_dropped(self.exporter.signal, reason, self.n);
        }
    }
}

/// An OTLP endpoint does not answer as it should.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot export {signal} to {endpoint} by {protocol}: {problem}; start an OpenTelemetry Collector there, or name \
     another endpoint (OTEL_EXPORTER_OTLP_ENDPOINT) or protocol (OTEL_EXPORTER_OTLP_PROTOCOL: grpc, http/protobuf)"
)]
pub struct Unreachable {
    /// What was to be exported.
    pub signal: &'static str,
    /// Where to.
    pub endpoint: String,
    /// How.
    pub protocol: &'static str,
    /// What happened.
    pub problem: String,
}

/// How long [`check`] waits for an answer.
const CHECK: Duration = Duration::from_secs(3);

/// Sends an empty request to the endpoints of traces and metrics.
///
/// # Errors
/// The first that does not take it, with what to do.
pub async fn check(config: &OtlpConfig) -> Result<(), Unreachable> {
    if let Some(traces) = &config.traces {
        check_signal::<ExportTraceServiceRequest>(traces, "traces").await?;
    }
    if let Some(metrics) = &config.metrics {
        check_signal::<ExportMetricsServiceRequest>(metrics, "metrics").await?;
    }
    Ok(())
}

async fn check_signal<R: Request>(config: &SignalConfig, signal: &'static str) -> Result<(), Unreachable> {
    let unreachable = |problem: String| Unreachable {
        signal,
        endpoint: config.endpoint.to_string(),
        protocol: config.protocol.as_str(),
        problem,
    };
    let timeout = config.timeout.min(CHECK);
    let client = Client::new(SignalConfig {
        timeout,
        ..config.clone()
    })
    .map_err(|error| unreachable(error.to_string()))?;
    match client.send::<R>(Bytes::new()).await {
        Ok(_) => Ok(()),
        Err(failure) => Err(unreachable(failure.to_string())),
    }
}

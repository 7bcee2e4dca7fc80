//! From the workers to the ways out.

use crate::counters::{Counters, Drop, Signal};
use crate::export::{
    self, ClientError, Exporter, JsonLines, OtlpConfig, Queue, Retry, Table, TableConfig, Temporality,
    Trouble, WhenFull,
};
use crate::id::Ids;
use crate::link::{Link, Shared, lock};
use crate::metrics::{Aggregates, MetricsConfig};
use crate::resource::Resources;
use crate::route::{PatternError, RouteConfig, Routes};
use crate::sample::Sampler;
use crate::seen::Seen;
use crate::span::{Scratch, SpanConfig};
use crate::telemetry::Telemetry;
use hashbrown::DefaultHashBuilder;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

/// How telemetry is made and sent.
#[derive(Debug, Clone)]
pub struct Config {
    /// What spans say.
    pub spans: SpanConfig,
    /// How routes are told from paths.
    pub routes: RouteConfig,
    /// How metrics are aggregated.
    pub metrics: MetricsConfig,
    /// Share of traces recorded as spans, 0 to 1; metrics see all transactions regardless.
    pub sampling_ratio: f64,
    /// Whether a span whose caller is not sampled is not recorded either.
    pub parent_based: bool,
    /// Seed of trace and span ids, for tests; else the operating system gives one.
    pub seed: Option<u64>,
    /// When a request to a collector is tried again.
    pub retry: Retry,
    /// Time between two exports of metrics (`OTEL_METRIC_EXPORT_INTERVAL`, whose default this is).
    pub metric_interval: Duration,
    /// Spans that wait for export.
    pub span_queue: usize,
    /// Data points that wait for export.
    pub point_queue: usize,
    /// Requests of spans on their way to the collector at a time.
    pub concurrent_exports: usize,
    /// Whether a full queue of spans drops the oldest (a live system) or holds the source up (a file).
    pub when_full: WhenFull,
    /// What is told of what cannot be delivered.
    pub trouble: Arc<Trouble>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            spans: SpanConfig::default(),
            routes: RouteConfig::default(),
            metrics: MetricsConfig::default(),
            sampling_ratio: 1.0,
            parent_based: true,
            seed: None,
            retry: Retry::default(),
            metric_interval: Duration::from_secs(60),
            span_queue: 16_384,
            point_queue: 65_536,
            concurrent_exports: 4,
            when_full: WhenFull::DropOldest,
            trouble: Arc::default(),
        }
    }
}

/// Where telemetry goes: any of them together.
#[derive(Default)]
pub struct Outputs {
    /// To collectors.
    pub otlp: Option<OtlpConfig>,
    /// Spans as lines of JSON.
    pub jsonl: Option<Box<dyn Write + Send>>,
    /// A RED table.
    pub table: Option<TableConfig>,
}

/// A pipeline cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A route pattern is none.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// An OTLP client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// The running pipeline. Dropped without [`Pipeline::shutdown`] it loses what it has.
pub struct Pipeline {
    shared: Arc<Shared>,
    config: Config,
    hasher: DefaultHashBuilder,
    /// Ends the hub.
    stop: oneshot::Sender<()>,
    hub: JoinHandle<()>,
    exporters: Vec<JoinHandle<()>>,
    workers: u64,
}

impl Pipeline {
    /// Starts the tasks on `runtime`.
    ///
    /// # Errors
    /// A route pattern that is none, or certificates that cannot be read. An endpoint that does not answer is no
    /// error here: see [`check`](crate::check).
    pub fn start(
        config: Config,
        outputs: Outputs,
        resources: Arc<Resources>,
        runtime: &Handle,
    ) -> Result<Pipeline, StartError> {
        config.routes.check()?;
        let _within = runtime.enter();
        let counters = Arc::new(Counters::default());
        let otlp = outputs.otlp.unwrap_or_default();
        let exporter = |signal_config: Option<_>, signal| {
            let new = |of| Exporter::new(of, signal, &config, counters.clone());
            signal_config
                .map(new)
                .transpose()
                .map(|exporter| exporter.map(Arc::new))
        };
        let spans = exporter(otlp.traces, Signal::Spans)?;
        let points = exporter(otlp.metrics, Signal::Points)?;
        let table = outputs.table.map(Table::new);
        let shared = Arc::new(Shared {
            resources,
            counters: counters.clone(),
            seen: Arc::default(),
            mailboxes: Mutex::default(),
            news: Notify::new(),
            jsonl: outputs.jsonl.map(|out| Mutex::new(JsonLines::new(out))),
            samples: table.as_ref().map_or(0, Table::samples),
            table: table.map(Mutex::new),
            spans: spans
                .is_some()
                .then(|| Queue::new(config.span_queue, config.when_full)),
            points: points
                .is_some()
                .then(|| Queue::new(config.point_queue, WhenFull::DropOldest)),
            pool: Mutex::default(),
        });
        let mut exporters = Vec::new();
        if let Some(exporter) = spans {
            for _ in 0..config.concurrent_exports.max(1) {
                exporters.push(runtime.spawn(export_spans(shared.clone(), exporter.clone())));
            }
        }
        if let Some(exporter) = points {
            exporters.push(runtime.spawn(export_points(shared.clone(), exporter)));
        }
        let hasher = DefaultHashBuilder::default();
        let hub = Hub {
            shared: shared.clone(),
            totals: Aggregates::new(config.metrics.clone(), hasher.clone()),
            temporality: otlp.temporality,
            interval: config.metric_interval,
            now: 0,
            gone: HashSet::new(),
            overflow: Overflow::default(),
            awaiting: Vec::new(),
        };
        let (stop, stopped) = oneshot::channel();
        Ok(Pipeline {
            shared,
            hub: runtime.spawn(hub.run(stopped)),
            stop,
            exporters,
            config,
            hasher,
            workers: 0,
        })
    }

    /// A worker's observer. Any number may be made; each belongs to one thread.
    pub fn worker(&mut self) -> Telemetry {
        let link = Link::new(&self.shared);
        let seed = self.config.seed.map(|seed| seed.wrapping_add(self.workers));
        self.workers += 1;
        let routes = Routes::new(&self.config.routes).expect("checked when the pipeline started");
        Telemetry::new(
            link,
            self.config.spans.clone(),
            Sampler::new(self.config.sampling_ratio, self.config.parent_based),
            seed.map_or_else(Ids::from_os, Ids::seeded),
            Scratch::new(routes),
            Aggregates::new(self.config.metrics.clone(), self.hasher.clone()),
        )
    }

    /// Which process is which service instance.
    pub fn resources(&self) -> &Arc<Resources> {
        &self.shared.resources
    }

    /// What the pipeline counts.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.shared.counters
    }

    /// Which process was seen to speak which protocol. Known where metrics are aggregated.
    pub fn seen(&self) -> &Arc<Seen> {
        &self.shared.seen
    }

    /// Exports what the workers, which must have finished, handed on, for `limit` at most; the rest is counted as
    /// dropped. Shows the last table.
    pub async fn shutdown(self, limit: Duration) -> Arc<Counters> {
        self.shutdown_unless_stalled(limit, limit).await
    }

    /// As [`Pipeline::shutdown`], and no longer than `patience` with a collector that takes nothing.
    pub async fn shutdown_unless_stalled(self, limit: Duration, patience: Duration) -> Arc<Counters> {
        let begin = Instant::now();
        let _ = self.stop.send(());
        // The hub has nothing to wait for.
        let _ = self.hub.await;
        let shared = &self.shared;
        if let Some(queue) = &shared.spans {
            queue.close();
        }
        if let Some(queue) = &shared.points {
            queue.close();
        }
        let aborts: Vec<_> = self.exporters.iter().map(JoinHandle::abort_handle).collect();
        let ended = async {
            for exporter in self.exporters {
                let _ = exporter.await;
            }
        };
        tokio::pin!(ended);
        let taken = || Signal::ALL.map(|signal| shared.counters.exported(signal));
        let (mut last, mut since) = (taken(), begin);
        while tokio::time::timeout(STALL_LOOK, &mut ended).await.is_err() {
            if taken() != last {
                (last, since) = (taken(), Instant::now());
            }
            if begin.elapsed() >= limit || since.elapsed() >= patience {
                aborts.iter().for_each(tokio::task::AbortHandle::abort);
                ended.await;
                break;
            }
        }
        for (signal, left) in [
            (Signal::Spans, shared.spans.as_ref().map_or(0, Queue::clear)),
            (Signal::Points, shared.points.as_ref().map_or(0, Queue::clear)),
        ] {
            shared.counters.count_dropped(signal, Drop::Shutdown, left);
        }
        if let Some(table) = &shared.table {
            lock(table).finish();
        }
        shared.counters.clone()
    }
}

/// How often a shutdown looks whether something was taken.
const STALL_LOOK: Duration = Duration::from_millis(50);

async fn export_spans(shared: Arc<Shared>, exporter: Arc<Exporter>) {
    let Some(queue) = &shared.spans else { return };
    while let Some((n, mut spans)) = queue.pop().await {
        let request = spans.take_request();
        shared.recycle(spans);
        exporter.export::<ExportTraceServiceRequest>(request, n).await;
    }
}

async fn export_points(shared: Arc<Shared>, exporter: Arc<Exporter>) {
    let Some(queue) = &shared.points else { return };
    while let Some((n, request)) = queue.pop().await {
        let request = request.encode_to_vec().into();
        exporter.export::<ExportMetricsServiceRequest>(request, n).await;
    }
}

/// Adds up what the workers hand on.
struct Hub {
    shared: Arc<Shared>,
    totals: Aggregates,
    temporality: Temporality,
    interval: Duration,
    /// The workers' time.
    now: u64,
    /// Resources without a process, to be exported once more.
    gone: HashSet<u64>,
    overflow: Overflow,
    /// Connections whose order is not proved yet, of each worker.
    awaiting: Vec<Vec<(&'static str, u64)>>,
}

/// What was said of full queues.
#[derive(Default)]
struct Overflow {
    dropped: [u64; Signal::ALL.len()],
    said: Option<Instant>,
}

/// Time between two lines about full queues.
const OVERFLOW_PAUSE: Duration = Duration::from_secs(60);

impl Overflow {
    /// The line that is due: the first at once, then at most one a minute.
    fn line(&mut self, counters: &Counters, now: Instant) -> Option<String> {
        let dropped = Signal::ALL.map(|signal| counters.dropped(signal, Drop::QueueFull));
        let early = |said| now.saturating_duration_since(said) < OVERFLOW_PAUSE;
        if dropped == self.dropped || self.said.is_some_and(early) {
            return None;
        }
        let new: Vec<String> = Signal::ALL
            .into_iter()
            .map(|signal| (signal, dropped[signal as usize] - self.dropped[signal as usize]))
            .filter(|(_, n)| *n > 0)
            .map(|(signal, n)| format!("{n} {}", signal.as_str()))
            .collect();
        self.dropped = dropped;
        self.said = Some(now);
        Some(format!(
            "{} were dropped: they come faster than the collector takes them, and the queue is full (queue_full). Metrics \
             count all requests regardless; --span-ratio exports fewer spans, OTEL_BSP_MAX_QUEUE_SIZE holds more",
            new.join(" and ")
        ))
    }
}

/// How often the hub looks around without being told to.
const LOOK: Duration = Duration::from_millis(500);

impl Hub {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut exported = Instant::now();
        loop {
            tokio::select! {
                // Sent or dropped: both mean the end.
                _ = &mut stopped => break,
                _ = self.shared.news.notified() => {}
                _ = look.tick() => {}
            }
            self.collect();
            let gone = self.shared.resources.sweep(Instant::now());
            self.shared.seen.forget(&gone);
            self.gone.extend(gone);
            if let Some(line) = self.overflow.line(&self.shared.counters, Instant::now()) {
                tracing::warn!("{line}");
            }
            if exported.elapsed() >= self.interval {
                exported = Instant::now();
                self.export();
            }
        }
        self.collect();
        self.export();
    }

    fn collect(&mut self) {
        let shared = self.shared.clone();
        let mailboxes: Vec<_> = lock(&shared.mailboxes).clone();
        self.awaiting.resize(mailboxes.len(), Vec::new());
        for (mailbox, awaiting) in mailboxes.iter().zip(&mut self.awaiting) {
            let messages = std::mem::take(&mut *lock(mailbox));
            for message in messages {
                self.now = self.now.max(message.now);
                shared.counters.count_losses(&message.losses);
                *awaiting = message.awaiting;
                let mut table = shared.table.as_ref().map(lock);
                for series in &message.series {
                    let identity = &series.identity;
                    shared.seen.note(&identity.resource, identity.protocol);
                    self.totals.merge(series);
                    if let Some(table) = &mut table {
                        table.add(series);
                    }
                }
            }
        }
        if let Some(table) = &shared.table {
            let mut awaiting = BTreeMap::new();
            for (protocol, n) in self.awaiting.iter().flatten() {
                *awaiting.entry(*protocol).or_default() += n;
            }
            let mut table = lock(table);
            table.note(export::not_told(&shared.counters.losses(), &awaiting));
            table.tick(self.now);
        }
    }

    fn export(&mut self) {
        if let Some(queue) = &self.shared.points {
            for (request, n) in export::metrics(&self.totals, self.temporality, self.now) {
                let dropped = queue.push(request, n, drop);
                self.shared
                    .counters
                    .count_dropped(Signal::Points, Drop::QueueFull, dropped);
            }
        }
        self.totals
            .settle(self.temporality == Temporality::Delta, self.now);
        if !self.gone.is_empty() {
            let gone = std::mem::take(&mut self.gone);
            self.totals
                .retain(|series| !gone.contains(&series.identity.resource.id()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_queues_are_told_once_a_minute() {
        let (counters, mut overflow, begin) = (Counters::default(), Overflow::default(), Instant::now());
        let mut at = |seconds| overflow.line(&counters, begin + Duration::from_secs(seconds));
        assert_eq!(at(0), None);
        counters.count_dropped(Signal::Spans, Drop::QueueFull, 512);
        assert!(at(1).unwrap().starts_with("512 spans were dropped"));
        counters.count_dropped(Signal::Spans, Drop::QueueFull, 512);
        counters.count_dropped(Signal::Points, Drop::QueueFull, 3);
        counters.count_dropped(Signal::Points, Drop::Rejected, 9);
        assert_eq!(at(2), None);
        assert!(at(61).unwrap().starts_with("512 spans and 3 points were"));
        assert_eq!(at(200), None);
    }
}

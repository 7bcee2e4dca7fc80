//! Between the workers and the tasks that export.

use crate::counters::{Counters, Drop, Losses, Signal};
use crate::export::{self, EncodedSpans, JsonLines, Queue, Table};
use crate::metrics::Series;
use crate::resource::Resources;
use crate::seen::Seen;
use crate::span::Batch;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// What a worker hands on about once a second.
pub(crate) struct Message {
    pub(crate) now: u64,
    pub(crate) series: Vec<Series>,
    pub(crate) losses: Losses,
    /// Connections whose order is not proved yet, by protocol.
    pub(crate) awaiting: Vec<(&'static str, u64)>,
}

/// What the workers and the tasks share. Workers touch it per batch, never per transaction.
pub(crate) struct Shared {
    pub(crate) resources: Arc<Resources>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) seen: Arc<Seen>,
    /// One place per worker.
    pub(crate) mailboxes: Mutex<Vec<Arc<Mutex<Vec<Message>>>>>,
    pub(crate) news: Notify,
    pub(crate) jsonl: Option<Mutex<JsonLines>>,
    pub(crate) table: Option<Mutex<Table>>,
    /// Sample spans that the table wants of a batch.
    pub(crate) samples: usize,
    pub(crate) spans: Option<Queue<EncodedSpans>>,
    pub(crate) points: Option<Queue<ExportMetricsServiceRequest>>,
    /// Buffers of spans that were exported, to be filled again.
    pub(crate) pool: Mutex<Vec<EncodedSpans>>,
}

/// Buffers that are kept for being filled again.
const POOL: usize = 4;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn recycle(&self, mut spans: EncodedSpans) {
        spans.clear();
        let mut pool = lock(&self.pool);
        if pool.len() < POOL {
            pool.push(spans);
        }
    }
}

/// A worker's end of the pipeline.
pub(crate) struct Link {
    shared: Arc<Shared>,
    mailbox: Arc<Mutex<Vec<Message>>>,
}

impl Link {
    /// One more worker's.
    pub(crate) fn new(shared: &Arc<Shared>) -> Link {
        let mailbox = Arc::new(Mutex::default());
        lock(&shared.mailboxes).push(Arc::clone(&mailbox));
        Link {
            shared: shared.clone(),
            mailbox,
        }
    }

    pub(crate) fn resources(&self) -> &Resources {
        &self.shared.resources
    }

    /// Whether spans go to a collector.
    pub(crate) fn exports_spans(&self) -> bool {
        self.shared.spans.is_some()
    }

    /// Whether spans are written or shown here.
    pub(crate) fn shows_spans(&self) -> bool {
        self.shared.jsonl.is_some() || self.shared.samples > 0
    }

    pub(crate) fn wants_metrics(&self) -> bool {
        self.shared.points.is_some() || self.shared.table.is_some()
    }

    /// Writes and shows the spans of `batch`, and takes them out of it.
    pub(crate) fn show(&self, batch: &mut Batch) {
        let shared = &self.shared;
        if let Some(jsonl) = &shared.jsonl {
            lock(jsonl).write(batch);
        }
        if let Some(table) = shared.table.as_ref().filter(|_| shared.samples > 0) {
            let lines = export::sample_lines(batch, shared.samples);
            lock(table).add_samples(lines);
        }
        batch.clear();
    }

    /// Takes the spans out of `spans` and sends them to the collector.
    pub(crate) fn export(&self, spans: &mut EncodedSpans) {
        let shared = &self.shared;
        let Some(queue) = &shared.spans else { return };
        let empty = lock(&shared.pool).pop().unwrap_or_default();
        let full = std::mem::replace(spans, empty);
        let n = full.len();
        let dropped = queue.push(full, n, |old| shared.recycle(old));
        shared
            .counters
            .count_dropped(Signal::Spans, Drop::QueueFull, dropped);
    }

    /// Whether the last message was not taken yet.
    pub(crate) fn is_busy(&self) -> bool {
        !lock(&self.mailbox).is_empty()
    }

    pub(crate) fn send(&self, message: Message) {
        lock(&self.mailbox).push(message);
        self.shared.news.notify_one();
    }
}

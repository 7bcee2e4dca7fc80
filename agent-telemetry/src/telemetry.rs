//! What a worker reports to.

use crate::counters::Losses;
use crate::export::{EncodedSpans, SpanEncoder};
use crate::id::Ids;
use crate::link::{Link, Message};
use crate::metrics::{Aggregates, Exemplar};
use crate::resource::Resource;
use crate::sample::Sampler;
use crate::span::{self, Batch, Context, Origin, Parent, Scratch, SpanConfig};
use hashbrown::HashMap;
use redwire_protocol::connection::{ConnectionInfo, ProcessId, Side};
use redwire_protocol::loss::Loss;
use redwire_protocol::output::Observer;
use redwire_protocol::record::{Record, grpc, redis};
use redwire_protocol::trace_context::SpanContext;
use redwire_protocol::transaction::Transaction;
use std::sync::Arc;

/// Bit 0 of trace flags (W3C Trace Context § 3.3.1).
const SAMPLED: u8 = 1;

/// Spans that are handed on together.
const BATCH: usize = 512;

/// Processes whose resource a worker remembers.
const PROCESSES: usize = 4096;

/// Makes spans and RED aggregates of a worker's transactions.
///
/// It belongs to one thread. Per transaction it does not allocate, block or share; what it has it hands to the
/// [`Pipeline`](crate::Pipeline) in batches, and what the pipeline has no time to take waits (aggregates) or pushes
/// the oldest out, counted (spans).
pub struct Telemetry {
    link: Link,
    config: SpanConfig,
    sampler: Sampler,
    ids: Ids,
    scratch: Scratch,
    aggregates: Aggregates,
    /// Spans for the collector.
    encoder: SpanEncoder,
    encoded: EncodedSpans,
    /// Spans to be written or shown.
    batch: Batch,
    losses: Losses,
    resources: HashMap<ProcessId, Arc<Resource>>,
    default_resource: Arc<Resource>,
    generation: u64,
    interval_start: u64,
}

impl Telemetry {
    pub(crate) fn new(
        link: Link,
        config: SpanConfig,
        sampler: Sampler,
        ids: Ids,
        scratch: Scratch,
        aggregates: Aggregates,
    ) -> Telemetry {
        Telemetry {
            default_resource: link.resources().get(None),
            generation: link.resources().generation(),
            link,
            config,
            sampler,
            ids,
            scratch,
            aggregates,
            encoder: SpanEncoder::default(),
            encoded: EncodedSpans::default(),
            batch: Batch::default(),
            losses: Vec::new(),
            resources: HashMap::new(),
            interval_start: 0,
        }
    }

    /// Hands on what there is. To be called about once a second with the source's time (for a capture, that of its
    /// packets), in nanoseconds since the Unix epoch.
    pub fn flush(&mut self, now: u64) {
        self.flush_spans();
        if self.link.is_busy() {
            return;
        }
        let message = self.interval(now);
        self.link.send(message);
    }

    /// Hands on what there is for the last time, whether or not the pipeline is behind.
    pub fn finish(mut self, now: u64) {
        self.flush_spans();
        let message = self.interval(now);
        self.link.send(message);
    }

    fn interval(&mut self, now: u64) -> Message {
        let message = Message {
            now,
            series: self.aggregates.take_interval(now),
            losses: std::mem::take(&mut self.losses),
        };
        self.interval_start = now;
        message
    }

    fn flush_spans(&mut self) {
        if !self.batch.is_empty() {
            self.link.show(&mut self.batch);
        }
        if !self.encoded.is_empty() {
            self.link.export(&mut self.encoded);
        }
    }

    fn resource(&mut self, process: Option<ProcessId>) -> Arc<Resource> {
        let Some(process) = process else {
            return self.default_resource.clone();
        };
        let generation = self.link.resources().generation();
        if generation != self.generation || self.resources.len() > PROCESSES {
            self.resources.clear();
            self.generation = generation;
        }
        let resources = self.link.resources();
        let known = self.resources.entry(process);
        known.or_insert_with(|| resources.get(Some(process))).clone()
    }

    /// Identity of the span of a transaction, under its parent where it has one.
    fn identify(&mut self, transaction: &Transaction<'_>) -> (SpanContext, Option<Parent>) {
        let local = transaction.parent.map(|context| Parent {
            context,
            remote: false,
        });
        let parent = local.or(transaction.remote_parent.map(|context| Parent {
            context,
            remote: true,
        }));
        let trace_id = parent.map_or_else(|| self.ids.trace_id(), |parent| parent.context.trace_id);
        let sampled = match parent {
            Some(parent) if !parent.remote || self.sampler.parent_based() => {
                parent.context.flags & SAMPLED != 0
            }
            _ => self.sampler.samples(&trace_id),
        };
        let others = parent.map_or(0, |parent| parent.context.flags & !SAMPLED);
        let context = SpanContext {
            trace_id,
            span_id: self.ids.span_id(),
            flags: others | if sampled { SAMPLED } else { 0 },
        };
        (context, parent)
    }
}

impl Observer for Telemetry {
    fn transaction(
        &mut self,
        connection: &ConnectionInfo,
        side: Side,
        transaction: &Transaction<'_>,
    ) -> SpanContext {
        let resource = self.resource(connection.process);
        let (context, parent) = self.identify(transaction);
        let description = span::describe(
            Context {
                connection,
                side,
                transaction,
                config: &self.config,
                resource: resource.id(),
            },
            &mut self.scratch,
        );
        if self.interval_start == 0 {
            self.interval_start = transaction.start;
        }
        let (exports, shows) = (self.link.exports_spans(), self.link.shows_spans());
        let recorded = context.flags & SAMPLED != 0 && (exports || shows);
        let exemplar = recorded.then_some(Exemplar {
            value: 0.0,
            time: transaction.end,
            trace_id: context.trace_id,
            span_id: context.span_id,
        });
        if self.link.wants_metrics() {
            let since = self.interval_start;
            self.aggregates
                .record(&resource, &description, since, exemplar.as_ref(), &mut self.ids);
            if let Record::Redis(redis::Record {
                cache: Some(cache), ..
            }) = transaction.record
            {
                for (result, n) in [("hit", cache.hits), ("miss", cache.misses)]
                    .into_iter()
                    .filter(|(_, n)| *n > 0)
                {
                    let found = span::cache(connection, side, result, n);
                    self.aggregates
                        .record(&resource, &found, since, None, &mut self.ids);
                }
            }
        }
        if recorded {
            let (client, server) = span::client_and_server(connection, side);
            let origin = Origin {
                context,
                parent,
                tracestate: transaction.tracestate,
                resource: &resource,
                client,
                server,
                start: transaction.start,
                end: transaction.end.max(transaction.start),
            };
            if exports {
                self.encoder.encode(&origin, &description, &mut self.encoded);
            }
            if shows {
                self.batch.push(&origin, &description);
            }
            drop(description);
            if self.encoded.len().max(self.batch.len()) >= BATCH {
                self.flush_spans();
            }
        }
        context
    }

    fn lost(&mut self, _connection: &ConnectionInfo, protocol: Option<&'static str>, loss: Loss, n: u64) {
        let at = match self.losses.iter().position(|(known, _)| *known == protocol) {
            Some(at) => at,
            None => {
                self.losses.push((protocol, [0; Loss::ALL.len()]));
                self.losses.len() - 1
            }
        };
        self.losses[at].1[loss as usize] += n;
    }

    fn sessions(&mut self, connection: &ConnectionInfo, side: Side, change: i64) {
        if !self.link.wants_metrics() {
            return;
        }
        let resource = self.resource(connection.process);
        let description = span::open_connections(connection, side, change);
        self.aggregates
            .record(&resource, &description, self.interval_start, None, &mut self.ids);
    }

    fn messages(
        &mut self,
        connection: &ConnectionInfo,
        side: Side,
        call: &grpc::Record<'_>,
        new: [grpc::Messages; 2],
    ) {
        let resource = self.resource(connection.process);
        for (direction, new) in ["request", "response"]
            .into_iter()
            .zip(new)
            .filter(|(_, new)| new.count > 0)
        {
            let description = span::messages(connection, side, call, direction, new, &mut self.scratch);
            self.aggregates
                .record(&resource, &description, self.interval_start, None, &mut self.ids);
        }
    }

    fn unattributed(&mut self, connection: &ConnectionInfo, side: Side, code: u16) {
        if !self.link.wants_metrics() {
            return;
        }
        let resource = self.resource(connection.process);
        let description = span::unattributed(connection, side, code);
        self.aggregates
            .record(&resource, &description, self.interval_start, None, &mut self.ids);
    }
}

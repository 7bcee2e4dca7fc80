//! The thread that reads the ring buffer and runs the pipeline.

use crate::discover::Registry;
use crate::source::ebpf::{Counters, Source};
use redwire_protocol::connection::{ConnectionId, ConnectionInfo, Direction, Side};
use redwire_protocol::loss::Loss;
use redwire_protocol::output::{Need, Observer};
use redwire_protocol::record::grpc;
use redwire_protocol::stream::{Connections, Limits};
use redwire_protocol::trace_context::SpanContext;
use redwire_protocol::transaction::Transaction;
use redwire_telemetry::Telemetry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long the worker sleeps at most: what has come since then is looked at, however little.
const SLEEP: Duration = Duration::from_millis(20);

/// Events between two looks at the clock.
const BATCH: usize = 8192;

/// Nanoseconds between two hand-overs of telemetry.
const FLUSH: u64 = 1_000_000_000;

/// Nanoseconds between two looks at the time of day.
const CLOCK: u64 = 10_000_000_000;

/// The kernel programs tell each direction in order, or not at all: what is missing will not come.
const LIMITS: Limits = Limits {
    hole_patience: 0,
    ..Limits::DEFAULT
};

/// What a worker shares with the thread that runs it.
#[derive(Default)]
pub struct Shared {
    stop: AtomicBool,
    kernel: Mutex<Counters>,
}

impl Shared {
    /// Asks the worker to finish what there is and end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// The kernel programs' counters, as of the last second.
    pub fn kernel(&self) -> Counters {
        *self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_kernel(&self, counters: Counters) {
        *self.kernel.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }
}

/// Telemetry, and what the streams no longer need.
struct Live {
    telemetry: Telemetry,
    needs: Vec<(ConnectionId, Direction, Need)>,
}

impl Observer for Live {
    fn transaction(
        &mut self,
        connection: &ConnectionInfo,
        side: Side,
        transaction: &Transaction<'_>,
    ) -> SpanContext {
        self.telemetry.transaction(connection, side, transaction)
    }

    fn lost(&mut self, connection: &ConnectionInfo, protocol: Option<&'static str>, loss: Loss, n: u64) {
        self.telemetry.lost(connection, protocol, loss, n);
    }

    fn sessions(&mut self, connection: &ConnectionInfo, side: Side, change: i64) {
        self.telemetry.sessions(connection, side, change);
    }

    fn messages(
        &mut self,
        connection: &ConnectionInfo,
        side: Side,
        call: &grpc::Record<'_>,
        new: [grpc::Messages; 2],
    ) {
        self.telemetry.messages(connection, side, call, new);
    }

    fn unattributed(&mut self, connection: &ConnectionInfo, side: Side, code: u16) {
        self.telemetry.unattributed(connection, side, code);
    }

    fn need(&mut self, id: ConnectionId, direction: Direction, need: Need) {
        self.needs.push((id, direction, need));
    }
}

/// Reads the ring buffer and runs the pipeline.
pub struct Worker {
    source: Source,
    connections: Connections,
    live: Live,
    registry: Registry,
    shared: Arc<Shared>,
}

impl Worker {
    /// A worker that reads `source` and reports to `telemetry`.
    pub fn new(source: Source, telemetry: Telemetry, registry: Registry, shared: Arc<Shared>) -> Worker {
        let live = Live {
            telemetry,
            needs: Vec::new(),
        };
        Worker {
            source,
            connections: Connections::new(LIMITS),
            live,
            registry,
            shared,
        }
    }

    /// Works until it is stopped; then takes in what the kernel has, and hands everything on.
    pub fn run(mut self) {
        let mut flushed = self.source.now();
        let mut clocked = flushed;
        while !self.shared.stop.load(Ordering::Acquire) {
            self.source.wait(SLEEP);
            self.drain();
            let now = self.source.now();
            self.connections.tick(now, &mut self.live);
            if now.saturating_sub(flushed) >= FLUSH {
                flushed = now;
                self.live.telemetry.flush(now);
                self.shared.set_kernel(self.source.counters());
            }
            if now.saturating_sub(clocked) >= CLOCK {
                self.source.refresh_clock();
                clocked = self.source.now();
            }
        }
        while self.drain() > 0 {}
        self.connections.finish(&mut self.live);
        self.shared.set_kernel(self.source.counters());
        let now = self.source.now();
        self.live.telemetry.finish(now);
    }

    fn drain(&mut self) -> usize {
        let mut total = 0;
        while total < BATCH {
            let n = self.source.drain(
                BATCH - total,
                &mut self.connections,
                &mut self.live,
                &mut self.registry,
            );
            for (id, direction, need) in self.live.needs.drain(..) {
                self.source.need(id, direction, need);
            }
            if n == 0 {
                break;
            }
            total += n;
        }
        total
    }
}

//! How much the pipeline takes in on one core: `cargo bench --bench throughput [-- PROTOCOL]`.
//!
//! Chunks of 64 connections, in turn, go through `stream::Connections` to an observer that counts.

mod workloads;

use redwire_protocol::connection::{ConnectionId, ConnectionInfo, Side};
use redwire_protocol::loss::Loss;
use redwire_protocol::output::Observer;
use redwire_protocol::stream::{Chunk, Connections, Limits};
use redwire_protocol::trace_context::SpanContext;
use redwire_protocol::transaction::Transaction;
use std::hint::black_box;
use std::time::{Duration, Instant};
use workloads::Workload;

const CONNECTIONS: u64 = 64;

#[derive(Default)]
struct Counter {
    transactions: u64,
    lost: u64,
}

impl Observer for Counter {
    fn transaction(&mut self, _: &ConnectionInfo, _: Side, transaction: &Transaction<'_>) -> SpanContext {
        black_box(transaction);
        self.transactions += 1;
        SpanContext {
            trace_id: [1; 16],
            span_id: [1; 8],
            flags: 0,
        }
    }

    fn lost(&mut self, _: &ConnectionInfo, _: Option<&'static str>, _: Loss, n: u64) {
        self.lost += n;
    }

    fn sessions(&mut self, _: &ConnectionInfo, _: Side, _: i64) {}
}

/// All connections from open to close. Returns the time without that for setting up.
fn round(workload: &Workload) -> Duration {
    let mut counter = Counter::default();
    let mut connections = Connections::new(Limits::default());
    let mut chunks: Vec<Vec<Chunk<'_>>> = (0..CONNECTIONS)
        .map(|id| workload.chunks(ConnectionId(id), 1_000_000 * id).collect())
        .collect();
    let count = chunks[0].len();
    let start = Instant::now();
    for id in 0..CONNECTIONS {
        connections.opened(workloads::info(ConnectionId(id)), [Some(0); 2], &mut counter);
    }
    for i in 0..count {
        for chunk in &mut chunks {
            connections.data(&chunk[i], &mut counter);
        }
    }
    for id in 0..CONNECTIONS {
        connections.closed(ConnectionId(id), workload.ends(), u64::MAX, &mut counter);
    }
    let elapsed = start.elapsed();
    assert_eq!(
        counter.transactions,
        workload.transactions * CONNECTIONS,
        "{}",
        workload.name
    );
    assert_eq!(counter.lost, 0, "{}", workload.name);
    elapsed
}

fn main() {
    let filter = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    println!(
        "{:<20} {:>16} {:>12} {:>12}",
        "protocol", "transactions/s", "MB/s", "ns each"
    );
    for workload in workloads::all(filter.as_deref()) {
        round(&workload);
        let began = Instant::now();
        let mut best = Duration::MAX;
        while began.elapsed() < Duration::from_secs(3) {
            best = best.min(round(&workload));
        }
        let seconds = best.as_secs_f64();
        let transactions = (workload.transactions * CONNECTIONS) as f64;
        println!(
            "{:<20} {:>16.0} {:>12.0} {:>12.0}",
            workload.name,
            transactions / seconds,
            (workload.bytes() * CONNECTIONS) as f64 / seconds / 1e6,
            seconds * 1e9 / transactions
        );
    }
}

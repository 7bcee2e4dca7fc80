//! What losses cost: `cargo bench --bench gaps [-- PROTOCOL [PERCENT…]]`.
//!
//! Drops a share of the chunks at random, and prints how many transactions were reported as they are, how many are
//! missing, and how many are false, which must be none: the exit status is 1 if there is one.

mod workloads;

use redwire_protocol::connection::{ConnectionId, ConnectionInfo, Side};
use redwire_protocol::loss::Loss;
use redwire_protocol::output::Observer;
use redwire_protocol::stream::{Connections, Limits};
use redwire_protocol::trace_context::SpanContext;
use redwire_protocol::transaction::{Record, Transaction};
use std::collections::HashMap;
use std::process::ExitCode;
use workloads::Workload;

const ROUNDS: u64 = 200;

#[derive(Default)]
struct Collector(Vec<String>);

impl Observer for Collector {
    fn transaction(&mut self, _: &ConnectionInfo, _: Side, transaction: &Transaction<'_>) -> SpanContext {
        let mut transaction = transaction.clone();
        // What is not known is not false.
        match &mut transaction.record {
            Record::Http(record) => (record.request_body_size, record.response_body_size) = (None, None),
            Record::Amqp(record) => record.queue = None,
            Record::Postgres(record) => {
                record.namespace = record.namespace.filter(|name| *name != "shop");
                record.user = record.user.filter(|name| *name != "bench");
            }
            Record::Redis(record) => record.namespace = record.namespace.filter(|&number| number != 0),
            _ => {}
        }
        self.0.push(format!("{transaction:?}"));
        SpanContext {
            trace_id: [1; 16],
            span_id: [1; 8],
            flags: 0,
        }
    }

    fn lost(&mut self, _: &ConnectionInfo, _: Option<&'static str>, _: Loss, _: u64) {}

    fn sessions(&mut self, _: &ConnectionInfo, _: Side, _: i64) {}
}

/// xorshift64*: the same losses in every run.
struct Random(u64);

impl Random {
    fn share(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn run(workload: &Workload, share: f64, random: &mut Random) -> Vec<String> {
    let mut collector = Collector::default();
    let mut connections = Connections::new(Limits::default());
    let id = ConnectionId(1);
    connections.opened(workloads::info(id), [Some(0); 2], &mut collector);
    // A millisecond apart, so that holes are given up as time passes.
    for mut chunk in workload.chunks(id, 0) {
        chunk.time *= 1000;
        if random.share() >= share {
            connections.data(&chunk, &mut collector);
        }
        if chunk.time % 20_000_000 == 0 {
            connections.tick(chunk.time, &mut collector);
        }
    }
    connections.closed(id, workload.ends(), u64::MAX, &mut collector);
    collector.0
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let shares: Vec<f64> = arguments.iter().filter_map(|a| a.parse().ok()).collect();
    let shares = if shares.is_empty() {
        vec![0.1, 1.0, 5.0, 20.0]
    } else {
        shares
    };
    let filter = arguments.first().filter(|a| a.parse::<f64>().is_err());
    let mut status = ExitCode::SUCCESS;
    println!(
        "{:<20} {:>8} {:>10} {:>10} {:>10}",
        "protocol", "lost", "true", "missing", "false"
    );
    for workload in workloads::all(filter.map(String::as_str)) {
        // Commands of one batch may be alike in everything.
        let mut truth: HashMap<String, u64> = HashMap::new();
        for transaction in run(&workload, 0.0, &mut Random(1)) {
            *truth.entry(transaction).or_default() += 1;
        }
        let all: u64 = truth.values().sum();
        assert_eq!(all, workload.transactions, "{}", workload.name);
        for share in &shares {
            let (mut right, mut wrong) = (0, 0);
            for round in 0..ROUNDS {
                let mut left = truth.clone();
                for transaction in run(&workload, share / 100.0, &mut Random(1 + round)) {
                    match left.get_mut(&transaction) {
                        Some(left) if *left > 0 => {
                            *left -= 1;
                            right += 1;
                        }
                        _ => wrong += 1,
                    }
                }
            }
            let missing = workload.transactions * ROUNDS - right;
            println!(
                "{:<20} {share:>7}% {right:>10} {missing:>10} {wrong:>10}",
                workload.name
            );
            if wrong > 0 {
                status = ExitCode::FAILURE;
            }
        }
    }
    status
}

//! What losses cost: `cargo bench --bench gaps [-- PROTOCOL [PERCENT…]]`.
//!
//! Drops a share of the chunks at random, and prints how many transactions were reported as they are, how many are
//! missing, and how many are false, which must be none: the exit status is 1 if there is one.

mod workloads;

use redwire_protocol::connection::{ConnectionId, ConnectionInfo, Side};
use redwire_protocol::loss::Loss;
use redwire_protocol::output::Observer;
use redwire_protocol::record::Record;
use redwire_protocol::stream::{Connections, Limits};
use redwire_protocol::trace_context::SpanContext;
use redwire_protocol::transaction::Transaction;
use std::collections::HashMap;
use std::process::ExitCode;
use workloads::Workload;

const ROUNDS: u64 = 200;

/// When a transaction was, and what is known of it.
type Times = (u64, u64);
type Known = Vec<Option<String>>;

#[derive(Default)]
struct Collector(Vec<(Times, Known)>);

/// What a transaction says: what is not known is not false.
fn known(transaction: &Transaction<'_>) -> Known {
    let text = |text: Option<&str>| text.map(str::to_owned);
    let mut known = match &transaction.record {
        Record::Http(record) => vec![
            Some("http".to_owned()),
            text(record.method),
            text(record.path),
            text(record.query),
            text(record.authority),
            text(record.user_agent),
            record.status.map(|status| status.to_string()),
            record.request_body_size.map(|size| size.to_string()),
            record.response_body_size.map(|size| size.to_string()),
        ],
        Record::Rpc(record) => vec![
            Some("rpc".to_owned()),
            text(record.service),
            text(record.method),
            record.status.map(|status| format!("{status:?}")),
            record.request.map(|messages| format!("{messages:?}")),
            record.response.map(|messages| format!("{messages:?}")),
        ],
        Record::Amqp(record) => {
            let mut rest = record.clone();
            let queue = text(rest.queue.take());
            vec![queue, Some(format!("{rest:?}"))]
        }
        Record::Postgres(record) => {
            let mut rest = record.clone();
            let session = [text(rest.namespace.take()), text(rest.user.take())];
            session.into_iter().chain([Some(format!("{rest:?}"))]).collect()
        }
        Record::Redis(record) => {
            let mut rest = record.clone();
            let namespace = rest.namespace.take().map(|number| number.to_string());
            vec![namespace, Some(format!("{rest:?}"))]
        }
        Record::WebSocket(record) => vec![Some(format!("{record:?}"))],
    };
    known.push(Some(format!("{:?}", transaction.error)));
    known
}

/// Whether all that is known of one is so.
fn is_true(known: &Known, truth: &Known) -> bool {
    let so = |(known, truth): (&Option<String>, &Option<String>)| known.is_none() || known == truth;
    known.len() == truth.len() && known.iter().zip(truth).all(so)
}

impl Observer for Collector {
    fn transaction(&mut self, _: &ConnectionInfo, _: Side, transaction: &Transaction<'_>) -> SpanContext {
        self.0
            .push(((transaction.start, transaction.end), known(transaction)));
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

fn run(workload: &Workload, share: f64, random: &mut Random) -> Vec<(Times, Known)> {
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
        // Those of one batch have the same times.
        let mut truth: HashMap<Times, Vec<Known>> = HashMap::new();
        let mut all = 0;
        for (times, known) in run(&workload, 0.0, &mut Random(1)) {
            truth.entry(times).or_default().push(known);
            all += 1;
        }
        assert_eq!(all, workload.transactions, "{}", workload.name);
        for share in &shares {
            let (mut right, mut wrong) = (0, 0);
            for round in 0..ROUNDS {
                let mut left = truth.clone();
                for (times, known) in run(&workload, share / 100.0, &mut Random(1 + round)) {
                    let left = left.get_mut(&times);
                    let at = |left: &Vec<Known>| left.iter().position(|truth| is_true(&known, truth));
                    match left.and_then(|left| Some(left.swap_remove(at(left)?))) {
                        Some(_) => right += 1,
                        None => wrong += 1,
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

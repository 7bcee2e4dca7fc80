//! Captures of Redis and AMQP as other people's clients speak them, with what is right of each.

use redwire_pcap::{limits, replay};
use redwire_protocol::connection::{ConnectionInfo, Side};
use redwire_protocol::loss::Loss;
use redwire_protocol::output::Observer;
use redwire_protocol::record::Record;
use redwire_protocol::stream::Connections;
use redwire_protocol::trace_context::SpanContext;
use redwire_protocol::transaction::Transaction;
use std::collections::BTreeMap;

#[derive(Default)]
struct Seen {
    /// Operation, times in microseconds and error of each transaction.
    lines: Vec<(String, u64, u64)>,
    losses: BTreeMap<&'static str, u64>,
}

impl Observer for Seen {
    fn transaction(&mut self, _: &ConnectionInfo, _: Side, transaction: &Transaction<'_>) -> SpanContext {
        let mut line = match &transaction.record {
            Record::Redis(command) => command.operation.unwrap_or("-").to_owned(),
            Record::Amqp(method) => {
                let parts = [method.exchange, method.routing_key, method.queue];
                format!("{} {parts:?} {:?}", method.operation.as_str(), method.outcome)
            }
            other => panic!("{other:?}"),
        };
        if let Some(error) = transaction.error {
            line += &format!(" {error}");
        }
        self.lines
            .push((line, transaction.start / 1000, transaction.end / 1000));
        SpanContext {
            trace_id: [1; 16],
            span_id: [1; 8],
            flags: 1,
        }
    }

    fn lost(&mut self, _: &ConnectionInfo, _: Option<&'static str>, loss: Loss, n: u64) {
        *self.losses.entry(loss.as_str()).or_default() += n;
    }

    fn sessions(&mut self, _: &ConnectionInfo, _: Side, _: i64) {}
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(format!("tests/cases/{name}.pcap")).expect("a case")
}

fn seen(file: &[u8]) -> Seen {
    let mut seen = Seen::default();
    let mut connections = Connections::new(limits());
    replay(file, &mut connections, &mut seen, &mut |_| {}).expect("a whole capture");
    seen
}

#[test]
fn redis_that_begins_inline() {
    let seen = seen(&bytes("redis-inline-first"));
    let lines: Vec<&str> = seen.lines.iter().map(|line| &*line.0).collect();
    assert_eq!(lines, ["SET", "GET", "INCR", "LPUSH WRONGTYPE", "ECHO"]);
    assert_eq!(seen.losses, BTreeMap::new());
}

/// 56 batches of INCR, SET and so on, seven in a packet, by tshark. Where the first begins is not known: no silence was
/// seen before it.
#[test]
fn redis_pipelines_joined_in_the_middle() {
    let seen = seen(&bytes("redis-pipeline-joined"));
    assert_eq!(seen.lines.len(), 55 * 7, "{:?}", seen.losses);
    for batch in seen.lines.chunks(7) {
        let names: Vec<&str> = batch.iter().map(|line| &*line.0).collect();
        assert_eq!(names, ["INCR", "SET", "INCR", "SET", "INCR", "SET", "INCR"]);
        assert!(
            batch
                .iter()
                .all(|line| line.1 == batch[0].1 && line.2 == batch[0].2)
        );
        assert!(batch[0].2 - batch[0].1 < 10_000);
    }
}

/// The same bytes with the header of 0-9-1 give the same.
#[test]
fn amqp_with_the_header_of_0_9() {
    let older = bytes("amqp-header-0-9");
    let at = older
        .windows(8)
        .position(|bytes| bytes == b"AMQP\x01\x01\0\x09")
        .expect("a header");
    let mut newer = older.clone();
    newer[at..at + 8].copy_from_slice(b"AMQP\0\0\x09\x01");
    let (older, newer) = (seen(&older), seen(&newer));
    assert!(!older.lines.is_empty());
    assert_eq!((older.lines, older.losses), (newer.lines, newer.losses));
}

//! The driver, under a protocol of which everything is known: it is told what to answer, and writes down what it got.

use super::half::{Closed, Half, Offer};
use super::*;
use crate::connection::{ConnectionInfo, Endpoint, Opener, Side, Vantage};
use crate::loss::Loss;
use crate::output::{Need, Observer};
use crate::record::Record;
use crate::trace_context::SpanContext;
use crate::transaction::Transaction;
use Direction::{Egress, Ingress};
use std::collections::BTreeMap;

/// Takes a chunk in as `Connection` does, and returns what became readable.
fn take(half: &mut Half, position: u64, bytes: &[u8], time: u64) -> Vec<u8> {
    let mut got = Vec::new();
    let offered = |half: &mut Half, offer, bytes: &[u8], time, got: &mut Vec<u8>| {
        if let Offer::Bytes(from) = offer {
            got.extend_from_slice(&bytes[from..]);
            half.took(bytes.len() - from, time);
        }
    };
    let offer = half.offer(position, bytes.len() as u32, bytes, time);
    offered(half, offer, bytes, time, &mut got);
    while let Some((position, length, bytes, time)) = half.release() {
        let offer = half.offer(position, length, &bytes, time);
        offered(half, offer, &bytes, time, &mut got);
    }
    got
}

#[test]
fn chunks_are_put_in_order() {
    let mut half = Half::default();
    half.begin_at(0);
    let base = half.next();
    assert_eq!(take(&mut half, base + 3, b"def", 3), b"");
    assert_eq!(take(&mut half, base + 9, b"j", 5), b"");
    assert_eq!(take(&mut half, base + 6, b"ghi", 4), b"");
    assert_eq!(half.held_since(), Some(3));
    assert_eq!(take(&mut half, base, b"abc", 2), b"abcdefghij");
    assert_eq!(half.held_since(), None);
    assert_eq!(
        half.marks.iter().map(|mark| mark.time).collect::<Vec<_>>(),
        [2, 3, 4, 5]
    );
}

#[test]
fn what_was_there_already_is_not_taken_twice() {
    let mut half = Half::default();
    half.begin_at(10);
    let base = half.next();
    assert_eq!(take(&mut half, base, b"abc", 1), b"abc");
    assert_eq!(take(&mut half, base, b"abc", 2), b"");
    assert_eq!(take(&mut half, base + 1, b"bcd", 3), b"d");
    assert_eq!(take(&mut half, base - 2, b"..abcdef", 4), b"ef");
    // Overlaps among what waits.
    assert_eq!(take(&mut half, base + 8, b"ij", 5), b"");
    assert_eq!(take(&mut half, base + 7, b"hijk", 6), b"");
    assert_eq!(take(&mut half, base + 6, b"gh", 7), b"ghijk");
}

#[test]
fn positions_wrap() {
    let mut half = Half::default();
    half.begin_at(u32::MAX - 1);
    let mut at = u32::MAX - 1;
    for bytes in [&b"ab"[..], b"cd", b"ef"] {
        let position = half.extend(at);
        assert_eq!(take(&mut half, position, bytes, 1), bytes);
        at = at.wrapping_add(2);
    }
    assert_eq!(at, 4);
    // Late, from before the wrap.
    assert_eq!(half.extend(u32::MAX), half.next() - 5);
}

#[test]
fn a_skip_longer_than_half_of_the_positions_ends() {
    for length in [1 << 20, 3 << 30, 5 << 30, (9 << 30) + 12_345] {
        let mut half = Half::default();
        half.begin_at(100);
        let end = half.next() + length;
        half.skip_to(end);
        // Of the skip only the begin and the last byte are delivered.
        let position = half.extend(100);
        assert_eq!(half.offer(position, 10, b"", 1), Offer::Nothing);
        let position = half.extend((end - 1) as u32);
        assert_eq!(half.offer(position, 3, b"xyz", 2), Offer::Bytes(1), "{length}");
    }
}

#[test]
fn a_hole_in_a_skip_is_none_but_its_last_byte_counts() {
    let mut half = Half::default();
    half.begin_at(0);
    let base = half.next();
    half.skip_to(base + 100);
    assert_eq!(half.offer(base + 50, 10, b"", 1), Offer::Nothing);
    assert_eq!(half.held_since(), None);
    // Right behind the skip: the last byte, and its time, may be late.
    assert_eq!(half.offer(base + 100, 1, b"x", 3), Offer::Nothing);
    assert_eq!(half.held_since(), Some(3));
    assert_eq!(half.close_hole(base + 100, false), Closed::Skip);
    assert!(half.end_unseen);
    assert_eq!(half.time_before, 1);
    assert_eq!(half.close_hole(base + 100, false), Closed::Nothing);
}

#[test]
fn a_hole_behind_a_skip_is_closed_in_two() {
    let mut half = Half::default();
    half.begin_at(0);
    let base = half.next();
    half.skip_to(base + 10);
    assert_eq!(half.close_hole(base + 5, false), Closed::Nothing);
    assert_eq!(half.close_hole(base + 15, false), Closed::Skip);
    assert_eq!(
        half.close_hole(base + 15, false),
        Closed::Gap {
            missing: 5,
            discarded: 0
        }
    );
    assert_eq!(half.next(), base + 15);
}

/// Start, end, status, size of the response, and whether it failed.
type Line = (u64, u64, Option<u16>, Option<u64>, bool);

#[derive(Default)]
struct Seen {
    transactions: Vec<Line>,
    sides: Vec<Side>,
    losses: BTreeMap<&'static str, u64>,
    needs: Vec<(Direction, Need)>,
    detected: Vec<&'static str>,
}

impl Observer for Seen {
    fn transaction(&mut self, _: &ConnectionInfo, side: Side, transaction: &Transaction<'_>) -> SpanContext {
        let (status, size) = match &transaction.record {
            Record::Http(record) => (record.status, record.response_body_size),
            _ => (None, None),
        };
        let failed = transaction.error.is_some();
        self.transactions
            .push((transaction.start, transaction.end, status, size, failed));
        self.sides.push(side);
        SpanContext {
            trace_id: [1; 16],
            span_id: [1; 8],
            flags: 0,
        }
    }
    fn lost(&mut self, _: &ConnectionInfo, _: Option<&'static str>, loss: Loss, n: u64) {
        *self.losses.entry(loss.as_str()).or_default() += n;
    }
    fn sessions(&mut self, _: &ConnectionInfo, _: Side, _: i64) {}
    fn detected(&mut self, _: &ConnectionInfo, _: Side, protocol: &'static str) {
        self.detected.push(protocol);
    }
    fn need(&mut self, _: ConnectionId, direction: Direction, need: Need) {
        self.needs.push((direction, need));
    }
}

struct Bench {
    connections: Connections,
    seen: Seen,
    positions: [u32; 2],
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const MILLISECOND: u64 = 1_000_000;

impl Bench {
    fn new(limits: Limits) -> Bench {
        Bench {
            connections: Connections::new(limits),
            seen: Seen::default(),
            positions: [0; 2],
        }
    }

    fn open(&mut self, id: u64, opener: Opener, origins: [Origin; 2]) {
        let endpoint = |port: u16| Endpoint::Inet(([127, 0, 0, 1], port).into());
        let info = ConnectionInfo {
            id: ConnectionId(id),
            local: endpoint(40000),
            remote: endpoint(80),
            vantage: Vantage::Socket,
            opener,
            process: None,
        };
        self.connections.opened(info, origins, &mut self.seen);
    }

    /// Connection 1, seen from its first bytes, whose observed end opened it.
    fn fresh() -> Bench {
        let mut bench = Bench::new(Limits::default());
        bench.open(1, Opener::Local, [Some(0), Some(0)]);
        bench
    }

    /// `length` bytes, of which `bytes` were captured.
    fn cut(&mut self, direction: Direction, bytes: &[u8], length: u32, time: u64) {
        let position = &mut self.positions[direction as usize];
        let chunk = Chunk {
            id: ConnectionId(1),
            direction,
            position: *position,
            length,
            bytes,
            time,
            process: None,
        };
        *position = position.wrapping_add(length);
        self.connections.data(&chunk, &mut self.seen);
    }

    fn data(&mut self, direction: Direction, bytes: &[u8], time: u64) {
        self.cut(direction, bytes, bytes.len() as u32, time);
    }

    fn lose(&mut self, direction: Direction, length: u32) {
        self.positions[direction as usize] += length;
    }

    fn tick(&mut self, time: u64) {
        self.connections.tick(time, &mut self.seen);
    }

    fn close(&mut self, time: u64) {
        let ends = self.positions.map(Some);
        self.connections
            .closed(ConnectionId(1), ends, time, &mut self.seen);
    }
}

#[test]
fn a_response_that_is_told_before_its_request() {
    let mut bench = Bench::fresh();
    bench.data(Ingress, OK, 2);
    assert_eq!(bench.seen.detected, ["http"]);
    bench.data(Egress, GET, 1);
    assert_eq!(bench.seen.transactions, [(1, 2, Some(200), Some(2), false)]);
    assert_eq!(bench.seen.sides, [Side::Client]);
}

#[test]
fn patience_ends() {
    let mut bench = Bench::fresh();
    bench.data(Egress, GET, 1);
    bench.data(Ingress, OK, 2);
    bench.data(Ingress, OK, 100 * MILLISECOND);
    bench.tick(299 * MILLISECOND);
    assert_eq!(bench.seen.losses.get("unpaired_response"), None);
    bench.tick(300 * MILLISECOND);
    assert_eq!(bench.seen.losses["unpaired_response"], 1);
    bench.data(Egress, GET, 301 * MILLISECOND);
    bench.data(Ingress, OK, 302 * MILLISECOND);
    assert_eq!(bench.seen.transactions.len(), 2);
}

/// Each response has its own time to wait.
#[test]
fn one_that_waited_does_not_take_the_next_with_it() {
    let mut bench = Bench::fresh();
    bench.data(Egress, GET, 1);
    bench.data(Ingress, OK, 2);
    bench.data(Ingress, OK, 100 * MILLISECOND);
    bench.data(Ingress, OK, 250 * MILLISECOND);
    bench.tick(310 * MILLISECOND);
    bench.data(Egress, GET, 240 * MILLISECOND);
    assert_eq!(bench.seen.transactions.len(), 2);
    assert_eq!(bench.seen.transactions[1].0, 240 * MILLISECOND);
}

#[test]
fn the_end_waits_for_what_is_blocked() {
    let mut bench = Bench::fresh();
    bench.data(Ingress, b"HTTP/1.0 200 OK\r\n\r\nbody", 2);
    let end = Some(bench.positions[1]);
    bench
        .connections
        .ended(ConnectionId(1), Ingress, end, 3, &mut bench.seen);
    assert!(bench.seen.transactions.is_empty());
    bench.data(Egress, GET, 1);
    assert_eq!(bench.seen.transactions, [(1, 2, Some(200), Some(4), false)]);
}

#[test]
fn a_long_write_captured_in_part() {
    let mut bench = Bench::fresh();
    bench.data(Egress, GET, 1);
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
    bench.cut(Ingress, head, head.len() as u32 + 100_000, 2);
    assert_eq!(bench.seen.transactions, [(1, 2, Some(200), Some(100_000), false)]);
    assert!(bench.seen.losses.is_empty(), "{:?}", bench.seen.losses);
    // The last byte's time is needed.
    let last = head.len() as u32 + 100_000 - 1;
    assert_eq!(bench.seen.needs, [(Ingress, Need::From(last))]);
}

/// The source passes the content of chunks by, once it knows where their lines are: of each, it delivers the byte before
/// the line with CR LF, and the line.
#[test]
fn chunks_that_are_passed_by() {
    let mut bench = Bench::fresh();
    bench.data(Egress, GET, 1);
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    bench.data(Ingress, &[&head[..], b"2710\r\n", &[b'x'; 100]].concat(), 2);
    // 10,000 bytes of content, their line of six and CR LF.
    let line = head.len() as u32 + 6 + 10_000 + 2;
    let stride = 10_008;
    assert_eq!(bench.seen.needs, [(Ingress, Need::Chunks { line, stride })]);
    for time in 3..6 {
        bench.lose(Ingress, 10_000 - if time == 3 { 100 } else { 18 } - 1);
        bench.data(Ingress, b"x\r\n2710\r\nxxxxxxxxxxxxxxxxxx", time);
    }
    bench.lose(Ingress, 10_000 - 18 - 1);
    bench.data(Ingress, b"x\r\n0\r\n\r\n", 7);
    assert_eq!(bench.seen.transactions, [(1, 7, Some(200), Some(40_000), false)]);
    assert!(bench.seen.losses.is_empty(), "{:?}", bench.seen.losses);
    // It is not told again as long as it does.
    assert_eq!(bench.seen.needs.len(), 1);
}

#[test]
fn a_hole_in_a_body_loses_nothing() {
    let mut bench = Bench::fresh();
    bench.data(Egress, GET, 1);
    bench.data(Ingress, b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n", 2);
    bench.lose(Ingress, 299);
    bench.data(Ingress, b"x", 4);
    assert_eq!(bench.seen.transactions, [(1, 4, Some(200), Some(300), false)]);
    assert!(bench.seen.losses.is_empty(), "{:?}", bench.seen.losses);
}

/// When the last byte came is part of a transaction, so without it there is none.
#[test]
fn a_hole_at_the_end_of_a_body() {
    for at_end in [false, true] {
        let mut bench = Bench::fresh();
        bench.data(Egress, GET, 1);
        bench.data(Ingress, b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n", 2);
        bench.lose(Ingress, 300);
        if !at_end {
            bench.data(Egress, GET, 5);
            bench.data(Ingress, OK, 6);
            bench.tick(1_000 * MILLISECOND);
            assert_eq!(bench.seen.transactions, [(5, 6, Some(200), Some(2), false)]);
        }
        bench.close(10);
        assert_eq!(bench.seen.losses["unpaired_request"], 1);
        assert_eq!(bench.seen.transactions.len(), usize::from(!at_end));
    }
}

#[test]
fn what_is_lost_before_the_close_is_not_cut_off() {
    let mut bench = Bench::fresh();
    bench.data(Egress, GET, 1);
    bench.lose(Ingress, OK.len() as u32);
    bench.close(10);
    assert!(bench.seen.transactions.is_empty());
    assert_eq!(bench.seen.losses["gap_bytes"], OK.len() as u64);
}

#[test]
fn what_waits_behind_a_hole_is_bounded() {
    let mut bench = Bench::new(Limits {
        held_bytes: 1000,
        ..Limits::default()
    });
    bench.open(1, Opener::Local, [Some(0), Some(0)]);
    bench.data(Egress, GET, 1);
    bench.lose(Egress, 1);
    // Chunks of which nothing was captured take memory, too.
    for time in 0..100 {
        bench.cut(Egress, b"", 1, time);
        bench.lose(Egress, 1);
    }
    assert!(bench.seen.losses["gap"] > 50, "{:?}", bench.seen.losses);
}

#[test]
fn a_message_larger_than_the_buffer_is_lost() {
    let mut bench = Bench::fresh();
    bench.data(Egress, GET, 1);
    bench.data(Ingress, OK, 2);
    // Nobody asked for these, and they wait.
    let many = OK.repeat(Limits::BUFFER / OK.len() + 10);
    bench.data(Ingress, &many, 3);
    assert!(
        bench.seen.losses["unpaired_response"] > 0,
        "{:?}",
        bench.seen.losses
    );
}

#[test]
fn a_full_table_evicts_the_one_idle_longest() {
    let mut bench = Bench::new(Limits {
        connections: 2,
        ..Limits::default()
    });
    bench.open(1, Opener::Local, [Some(0), Some(0)]);
    bench.data(Egress, GET, 5);
    bench.open(2, Opener::Local, [Some(0), Some(0)]);
    bench.open(3, Opener::Local, [Some(0), Some(0)]);
    assert_eq!(bench.connections.len(), 2);
    assert!(bench.connections.contains(ConnectionId(1)) && bench.connections.contains(ConnectionId(3)));
    bench.open(4, Opener::Local, [Some(0), Some(0)]);
    bench.open(5, Opener::Local, [Some(0), Some(0)]);
    assert_eq!(bench.seen.losses["evicted"], 3);
}

#[test]
fn an_id_used_again_is_another_connection() {
    let mut bench = Bench::fresh();
    bench.data(Egress, GET, 1);
    bench.open(1, Opener::Local, [Some(0), Some(0)]);
    assert_eq!(bench.seen.losses["unfinished"], 1);
    bench.positions = [0; 2];
    bench.data(Egress, GET, 3);
    bench.data(Ingress, OK, 4);
    assert_eq!(bench.seen.transactions, [(3, 4, Some(200), Some(2), false)]);
}

#[test]
fn foreign_and_encrypted_connections_are_given_up() {
    for (bytes, loss) in [
        (&b"\x16\x03\x01\x00\x05hello"[..], "encrypted_connection"),
        (b"EHLO x\r\n", "foreign_connection"),
    ] {
        let mut bench = Bench::fresh();
        bench.data(Egress, bytes, 1);
        assert_eq!(bench.seen.losses[loss], 1);
        assert!(bench.seen.needs.contains(&(Ingress, Need::Nothing)));
        bench.data(Egress, GET, 2);
        bench.data(Ingress, OK, 3);
        bench.close(4);
        assert!(bench.seen.transactions.is_empty());
    }
}

#[test]
fn the_observed_side_is_the_server_s_where_requests_come_in() {
    let mut bench = Bench::new(Limits::default());
    bench.open(1, Opener::Remote, [Some(0), Some(0)]);
    bench.data(Ingress, GET, 1);
    bench.data(Egress, OK, 2);
    assert_eq!(bench.seen.sides, [Side::Server]);
}

#[test]
fn an_idle_connection_is_small() {
    let size = size_of::<super::connection::Connection>();
    assert!(size <= 768, "{size}");
}

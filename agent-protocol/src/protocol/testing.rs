//! What tests of protocols share: a connection written down, and what becomes of it however it is cut.

use super::Flow;
use crate::connection::{ConnectionId, ConnectionInfo, Direction, Endpoint, Opener, Side, Vantage};
use crate::loss::Loss;
use crate::output::Observer;
use crate::stream::{Chunk, Connections, Limits};
use crate::trace_context::SpanContext;
use crate::transaction::Transaction;
use std::net::SocketAddr;

/// Bytes that one side wrote at a time.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) flow: Flow,
    pub(crate) time: u64,
    pub(crate) bytes: Vec<u8>,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Closed(u64),
    /// The server's FIN comes first.
    Finished(u64),
    Abandoned,
}

/// A way to look at a connection.
pub(crate) struct View<'a> {
    /// Length of the next chunk, given how much of a write is left.
    pub(crate) cut: &'a mut dyn FnMut(usize) -> usize,
    /// Whether a chunk is lost.
    pub(crate) lost: &'a mut dyn FnMut() -> bool,
    /// Seen from its beginning.
    pub(crate) fresh: bool,
    pub(crate) ending: Ending,
}

/// What was reported.
pub(crate) struct Seen<T> {
    pub(crate) transactions: Vec<T>,
    pub(crate) losses: [u64; Loss::ALL.len()],
    /// Codes of exceptions without a cause.
    pub(crate) unattributed: Vec<u16>,
}

impl<T> Seen<T> {
    pub(crate) fn lost(&self, loss: Loss) -> u64 {
        self.losses[loss as usize]
    }
}

struct Collector<T> {
    read: fn(&Transaction<'_>) -> T,
    seen: Seen<T>,
}

impl<T> Observer for Collector<T> {
    fn transaction(&mut self, _: &ConnectionInfo, _: Side, transaction: &Transaction<'_>) -> SpanContext {
        assert!(transaction.start <= transaction.end);
        self.seen.transactions.push((self.read)(transaction));
        SpanContext {
            trace_id: [1; 16],
            span_id: [1; 8],
            flags: 0,
        }
    }

    fn lost(&mut self, _: &ConnectionInfo, _: Option<&'static str>, loss: Loss, n: u64) {
        self.seen.losses[loss as usize] += n;
    }

    fn sessions(&mut self, _: &ConnectionInfo, _: Side, _: i64) {}

    fn unattributed(&mut self, _: &ConnectionInfo, _: Side, code: u16) {
        self.seen.unattributed.push(code);
    }
}

/// Runs `writes`, seen in this way, through the streams.
pub(crate) fn run<T>(writes: &[Write], view: View<'_>, read: fn(&Transaction<'_>) -> T) -> Seen<T> {
    let mut collector = Collector {
        read,
        seen: Seen {
            transactions: Vec::new(),
            losses: [0; Loss::ALL.len()],
            unattributed: Vec::new(),
        },
    };
    let mut connections = Connections::new(Limits::default());
    let id = ConnectionId(1);
    let address = |port| Endpoint::Inet(SocketAddr::from(([127, 0, 0, 1], port)));
    let info = ConnectionInfo {
        id,
        local: address(40000),
        remote: address(1),
        vantage: Vantage::Wire,
        opener: if view.fresh {
            Opener::Local
        } else {
            Opener::Unknown
        },
        process: None,
    };
    let origin = view.fresh.then_some(u32::MAX - 1000);
    connections.opened(info, [origin; 2], &mut collector);
    let mut positions = [u32::MAX - 1000; 2];
    for write in writes {
        let direction = match write.flow {
            Flow::ToServer => Direction::Egress,
            Flow::ToClient => Direction::Ingress,
        };
        let mut rest = &write.bytes[..];
        while !rest.is_empty() {
            let (bytes, after) = rest.split_at((view.cut)(rest.len()).clamp(1, rest.len()));
            rest = after;
            let position = &mut positions[direction as usize];
            let length = bytes.len() as u32;
            let time = write.time;
            if !(view.lost)() {
                connections.tick(time, &mut collector);
                let chunk = Chunk {
                    id,
                    direction,
                    position: *position,
                    length,
                    bytes,
                    time,
                    process: None,
                };
                connections.data(&chunk, &mut collector);
            }
            *position = position.wrapping_add(length);
        }
    }
    match view.ending {
        Ending::Closed(time) => connections.closed(id, positions.map(Some), time, &mut collector),
        Ending::Finished(time) => {
            let end = Some(positions[Direction::Ingress as usize]);
            connections.ended(id, Direction::Ingress, end, time, &mut collector);
            connections.closed(id, positions.map(Some), time, &mut collector);
        }
        Ending::Abandoned => connections.finish(&mut collector),
    }
    collector.seen
}

/// Runs `writes` whole, without loss.
pub(crate) fn run_whole<T>(writes: &[Write], ending: Ending, read: fn(&Transaction<'_>) -> T) -> Seen<T> {
    let view = View {
        cut: &mut |n| n,
        lost: &mut || false,
        fresh: true,
        ending,
    };
    run(writes, view, read)
}

/// A small generator of numbers that are random enough (xorshift).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

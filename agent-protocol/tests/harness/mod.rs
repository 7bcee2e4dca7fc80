//! Feeds the bytes of a conversation through `stream::Connections`, in any chunks, with losses and delays.
//!
//! A protocol's tests generate a [`Conversation`] whose transactions they know, and compare what they `collect`.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "a module of several test binaries, each of which uses a part"
)]

use redwire_protocol::connection::{
    ConnectionId, ConnectionInfo, Direction, Endpoint, Opener, Side, Vantage,
};
use redwire_protocol::loss::Loss;
use redwire_protocol::output::Observer;
use redwire_protocol::stream::{Chunk, Connections, Limits};
use redwire_protocol::trace_context::SpanContext;
use redwire_protocol::transaction::Transaction;
use std::collections::BTreeMap;

/// Keeps what `map` makes of each transaction.
pub struct Collector<T> {
    map: fn(&Transaction<'_>) -> T,
    pub transactions: Vec<T>,
    pub losses: BTreeMap<&'static str, u64>,
    pub sessions: i64,
    pub detected: Vec<&'static str>,
}

impl<T> Collector<T> {
    pub fn new(map: fn(&Transaction<'_>) -> T) -> Collector<T> {
        Collector {
            map,
            transactions: Vec::new(),
            losses: BTreeMap::new(),
            sessions: 0,
            detected: Vec::new(),
        }
    }

    pub fn lost(&self, loss: Loss) -> u64 {
        self.losses.get(loss.as_str()).copied().unwrap_or(0)
    }
}

impl<T> Observer for Collector<T> {
    fn transaction(&mut self, _: &ConnectionInfo, _: Side, transaction: &Transaction<'_>) -> SpanContext {
        self.transactions.push((self.map)(transaction));
        SpanContext {
            trace_id: [1; 16],
            span_id: (self.transactions.len() as u64).to_be_bytes(),
            flags: 1,
        }
    }

    fn lost(&mut self, _: &ConnectionInfo, _: Option<&'static str>, loss: Loss, n: u64) {
        *self.losses.entry(loss.as_str()).or_default() += n;
    }

    fn sessions(&mut self, _: &ConnectionInfo, _: Side, change: i64) {
        self.sessions += change;
    }

    fn detected(&mut self, _: &ConnectionInfo, _: Side, protocol: &'static str) {
        self.detected.push(protocol);
    }
}

/// Bytes that one end wrote at a time. The client's go [`Direction::Egress`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub direction: Direction,
    pub time: u64,
    pub bytes: Vec<u8>,
}

/// All that both ends wrote, in the order of time, until the close.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    pub writes: Vec<Write>,
    pub closed: Option<u64>,
}

impl Conversation {
    pub fn write(&mut self, direction: Direction, time: u64, bytes: impl Into<Vec<u8>>) -> &mut Self {
        self.writes.push(Write {
            direction,
            time,
            bytes: bytes.into(),
        });
        self
    }

    /// Cuts every write at the offsets that `cut` picks, given its length.
    pub fn cut(&self, mut cut: impl FnMut(usize) -> Vec<usize>) -> Conversation {
        let mut writes = Vec::new();
        for write in &self.writes {
            let mut cuts = cut(write.bytes.len());
            cuts.push(write.bytes.len());
            cuts.sort_unstable();
            let mut from = 0;
            for to in cuts {
                if to > from {
                    writes.push(Write {
                        bytes: write.bytes[from..to].to_vec(),
                        ..*write
                    });
                    from = to;
                }
            }
        }
        Conversation { writes, ..*self }
    }
}

/// How a conversation reaches the observer.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Positions of the first bytes of both directions.
    pub origins: [u32; 2],
    /// The first writes that are seen; with any before, the connection is joined in the middle.
    pub from: usize,
    /// Writes that are lost, by index.
    pub lost: Vec<usize>,
    /// By how many nanoseconds later than it happened a write is told, by index.
    pub delays: Vec<u64>,
    /// At most so many bytes of a write are captured.
    pub captured: usize,
    pub limits: Limits,
}

impl Default for Delivery {
    fn default() -> Self {
        Delivery {
            origins: [u32::MAX - 100, 7],
            from: 0,
            lost: Vec::new(),
            delays: Vec::new(),
            captured: usize::MAX,
            limits: Limits::default(),
        }
    }
}

/// A connection between two addresses, of which the client's end is observed.
pub fn info(id: u64) -> ConnectionInfo {
    ConnectionInfo {
        id: ConnectionId(id),
        local: Endpoint::Inet("127.0.0.1:40000".parse().unwrap()),
        remote: Endpoint::Inet("127.0.0.1:80".parse().unwrap()),
        vantage: Vantage::Socket,
        opener: Opener::Local,
        process: None,
    }
}

/// Delivers a conversation, ticking every 20 ms, and returns what came out.
pub fn collect<T>(
    conversation: &Conversation,
    delivery: &Delivery,
    map: fn(&Transaction<'_>) -> T,
) -> Collector<T> {
    let mut collector = Collector::new(map);
    let mut connections = Connections::new(delivery.limits);
    let info = info(1);
    let id = info.id;
    let origins = match delivery.from {
        0 => delivery.origins.map(Some),
        _ => [None, None],
    };
    connections.opened(info, origins, &mut collector);
    let mut positions = delivery.origins;
    let mut arrivals = Vec::new();
    for (index, write) in conversation.writes.iter().enumerate() {
        let position = &mut positions[write.direction as usize];
        if index >= delivery.from && !delivery.lost.contains(&index) {
            let delay = delivery.delays.get(index).copied().unwrap_or(0);
            arrivals.push((write.time + delay, *position, write));
        }
        *position = position.wrapping_add(write.bytes.len() as u32);
    }
    arrivals.sort_by_key(|(time, _, _)| *time);
    let mut now = arrivals.first().map_or(0, |(time, _, _)| *time);
    let mut pass = |until: u64, connections: &mut Connections, collector: &mut Collector<T>| {
        while now + 20_000_000 <= until {
            now += 20_000_000;
            // Much later nothing waits any more.
            if until - now > 2_000_000_000 {
                connections.tick(now, collector);
                now = until - 2_000_000_000;
            }
            connections.tick(now, collector);
        }
    };
    for (time, position, write) in arrivals {
        pass(time, &mut connections, &mut collector);
        let chunk = Chunk {
            id,
            direction: write.direction,
            position,
            length: write.bytes.len() as u32,
            bytes: &write.bytes[..write.bytes.len().min(delivery.captured)],
            time: write.time,
            process: None,
        };
        connections.data(&chunk, &mut collector);
    }
    if let Some(closed) = conversation.closed {
        pass(closed, &mut connections, &mut collector);
        connections.closed(id, positions.map(Some), closed, &mut collector);
    }
    connections.finish(&mut collector);
    collector
}

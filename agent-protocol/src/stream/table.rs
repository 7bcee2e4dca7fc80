//! The bounded table of all connections.

use super::connection::Connection;
use super::{Chunk, Origin};
use crate::connection::{ConnectionId, ConnectionInfo, Direction};
use crate::loss::Loss;
use crate::output::Observer;
use hashbrown::HashMap;

/// Bounds of what streams keep.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time; the one idle longest of a sample goes when one more comes.
    pub connections: usize,
    /// Bytes per direction that wait behind a hole.
    pub held_bytes: usize,
    /// How long a blocked flow may wait for what is late in the other one, in nanoseconds.
    pub patience: u64,
    /// How long a hole may wait for what is late, in nanoseconds; with 0 it does not wait. A source that reports what the receiver has
    /// acknowledged can be generous: bytes lost on their way to it will be sent again.
    pub hole_patience: u64,
}

impl Limits {
    /// What does for most sources.
    pub const DEFAULT: Limits = Limits {
        connections: 65_536,
        held_bytes: 1 << 20,
        patience: 200_000_000,
        hole_patience: 200_000_000,
    };

    /// Unconsumed bytes per direction; a protocol that wants more for one message loses them.
    pub const BUFFER: usize = 256 << 10;
}

impl Default for Limits {
    fn default() -> Self {
        Limits::DEFAULT
    }
}

/// All connections of a worker.
pub struct Connections {
    limits: Limits,
    slots: Vec<Option<Connection>>,
    free: Vec<u32>,
    by_id: HashMap<ConnectionId, u32>,
    /// Slots in which something may wait for time to pass.
    waiting: Vec<u32>,
    /// Where the search for one to evict goes on.
    cursor: usize,
}

/// How many connections are looked at to find one to evict.
const EVICTION_SAMPLE: usize = 16;

impl Connections {
    /// An empty table.
    pub fn new(limits: Limits) -> Connections {
        Connections {
            limits,
            slots: Vec::new(),
            free: Vec::new(),
            by_id: HashMap::new(),
            waiting: Vec::new(),
            cursor: 0,
        }
    }

    /// How many connections are open.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Whether this connection is open.
    pub fn contains(&self, id: ConnectionId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// A connection is there. `origins` are the positions of the first bytes of egress and ingress, where known:
    /// with both, the connection is seen from its beginning. An open one of the same id is abandoned.
    pub fn opened(&mut self, info: ConnectionInfo, origins: [Origin; 2], observer: &mut dyn Observer) {
        let id = info.id;
        if let Some(mut old) = self.take(id) {
            old.abandon(observer);
        }
        if self.by_id.len() >= self.limits.connections {
            self.evict(observer);
        }
        let connection = Some(Connection::new(info, origins));
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = connection;
                slot
            }
            None => {
                self.slots.push(connection);
                self.slots.len() as u32 - 1
            }
        };
        self.by_id.insert(id, slot);
    }

    /// Bytes were seen. Those of a connection that is not open are ignored.
    pub fn data(&mut self, chunk: &Chunk<'_>, observer: &mut dyn Observer) {
        self.with(chunk.id, |connection, limits| {
            connection.chunk(chunk, limits, observer)
        });
    }

    /// The receiver of `direction` has everything before `position`, so that what is missing below will not come:
    /// it is given up at once. A source in which chunks can be late waits before it says so.
    pub fn acknowledged(
        &mut self,
        id: ConnectionId,
        direction: Direction,
        position: u32,
        observer: &mut dyn Observer,
    ) {
        self.with(id, |connection, _| {
            connection.acknowledged(direction, position, observer)
        });
    }

    /// A direction has ended (FIN, or a read of 0 bytes), at `position` where that is known.
    pub fn ended(
        &mut self,
        id: ConnectionId,
        direction: Direction,
        position: Option<u32>,
        time: u64,
        observer: &mut dyn Observer,
    ) {
        self.with(id, |connection, _| {
            connection.end(direction, position, time, observer)
        });
    }

    /// A connection is closed. `positions` are where egress and ingress ended, where known.
    pub fn closed(
        &mut self,
        id: ConnectionId,
        positions: [Option<u32>; 2],
        time: u64,
        observer: &mut dyn Observer,
    ) {
        if let Some(mut connection) = self.take(id) {
            connection.close(positions, time, observer);
        }
    }

    /// Observation of one connection ends, though it goes on.
    pub fn abandoned(&mut self, id: ConnectionId, observer: &mut dyn Observer) {
        if let Some(mut connection) = self.take(id) {
            connection.abandon(observer);
        }
    }

    /// Time has come to `now`. To be called every few tens of milliseconds of the source's time.
    pub fn tick(&mut self, now: u64, observer: &mut dyn Observer) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|&slot| {
            let Some(connection) = &mut self.slots[slot as usize] else {
                return false;
            };
            connection.tick(now, &self.limits, observer);
            connection.queued = connection.waits();
            connection.queued
        });
        self.waiting = waiting;
    }

    /// Observation ends.
    pub fn finish(&mut self, observer: &mut dyn Observer) {
        for mut connection in self.slots.drain(..).flatten() {
            connection.abandon(observer);
        }
        self.free.clear();
        self.by_id.clear();
        self.waiting.clear();
    }

    fn with(&mut self, id: ConnectionId, act: impl FnOnce(&mut Connection, &Limits)) {
        let Some(&slot) = self.by_id.get(&id) else { return };
        let Some(connection) = &mut self.slots[slot as usize] else {
            return;
        };
        act(connection, &self.limits);
        if connection.waits() && !std::mem::replace(&mut connection.queued, true) {
            self.waiting.push(slot);
        }
    }

    fn take(&mut self, id: ConnectionId) -> Option<Connection> {
        let slot = self.by_id.remove(&id)?;
        self.free.push(slot);
        self.slots[slot as usize].take()
    }

    /// Abandons the connection that was idle longest among the next few.
    fn evict(&mut self, observer: &mut dyn Observer) {
        let n = self.slots.len();
        let sample = (0..n)
            .map(|i| (self.cursor + i) % n)
            .filter(|&i| self.slots[i].is_some());
        let sample: Vec<usize> = sample.take(EVICTION_SAMPLE).collect();
        self.cursor = sample.last().map_or(0, |last| last + 1);
        let oldest = sample.into_iter().filter_map(|i| self.slots[i].as_ref());
        let Some(oldest) = oldest.min_by_key(|connection| connection.last_time) else {
            return;
        };
        let id = oldest.info.id;
        if let Some(mut connection) = self.take(id) {
            observer.lost(&connection.info, None, Loss::Evicted, 1);
            connection.abandon(observer);
        }
    }
}

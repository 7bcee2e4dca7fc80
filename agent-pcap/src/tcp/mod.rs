//! From segments to connections.
//!
//! The streams themselves are put in order by [`Connections`]; here is decided what it is told: which segments
//! are of one connection, where its directions begin and end, and which bytes can come no more.

mod flow;
mod opening;
#[cfg(test)]
pub(crate) mod recorder;
mod side;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use table::{Clock, Passed, Tcp};

use redwire_protocol::connection::{ConnectionId, ConnectionInfo, Direction};
use redwire_protocol::loss::Loss;
use redwire_protocol::output::Observer;
use redwire_protocol::stream::{Chunk, Connections, Origin};

/// How long after an acknowledgement what it covers may still turn up in a capture, in nanoseconds: the packets
/// of a connection's directions, or of several interfaces, are not always written in the order of time.
pub(crate) const LATE: u64 = 200_000_000;

/// Takes the events of connections.
pub(crate) trait Sink {
    fn opened(&mut self, info: ConnectionInfo, origins: [Origin; 2]);
    fn data(&mut self, chunk: &Chunk<'_>);
    fn acknowledged(&mut self, id: ConnectionId, direction: Direction, position: u32);
    fn ended(&mut self, id: ConnectionId, direction: Direction, position: u32, time: u64);
    fn closed(&mut self, id: ConnectionId, positions: [Option<u32>; 2], time: u64);
    /// It goes on, or ended unseen.
    fn abandoned(&mut self, id: ConnectionId);
    /// It is abandoned because there are too many.
    fn evicted(&mut self, info: ConnectionInfo);
    /// Time has come to `now`.
    fn tick(&mut self, now: u64);
}

/// The streams, and where they report to.
pub(crate) struct Streams<'a> {
    pub(crate) connections: &'a mut Connections,
    pub(crate) observer: &'a mut dyn Observer,
}

impl Sink for Streams<'_> {
    fn opened(&mut self, info: ConnectionInfo, origins: [Origin; 2]) {
        self.connections.opened(info, origins, self.observer);
    }

    fn data(&mut self, chunk: &Chunk<'_>) {
        self.connections.data(chunk, self.observer);
    }

    fn acknowledged(&mut self, id: ConnectionId, direction: Direction, position: u32) {
        self.connections
            .acknowledged(id, direction, position, self.observer);
    }

    fn ended(&mut self, id: ConnectionId, direction: Direction, position: u32, time: u64) {
        self.connections
            .ended(id, direction, Some(position), time, self.observer);
    }

    fn closed(&mut self, id: ConnectionId, positions: [Option<u32>; 2], time: u64) {
        self.connections.closed(id, positions, time, self.observer);
    }

    fn abandoned(&mut self, id: ConnectionId) {
        self.connections.abandoned(id, self.observer);
    }

    fn evicted(&mut self, info: ConnectionInfo) {
        self.observer.lost(&info, None, Loss::Evicted, 1);
        self.connections.abandoned(info.id, self.observer);
    }

    fn tick(&mut self, now: u64) {
        self.connections.tick(now, self.observer);
    }
}

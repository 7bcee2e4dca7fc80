//! What is known of one connection.

use super::Sink;
use super::opening::{Key, Opening};
use super::side::{AHEAD, BEHIND, Side, ahead};
use crate::packet::{ACK, End, FIN, RST, SYN, Segment};
use redwire_protocol::connection::{ConnectionId, ConnectionInfo, Direction, Endpoint, Opener, Vantage};
use redwire_protocol::stream::Chunk;
use std::net::{Ipv6Addr, SocketAddr};

/// For so long nothing but a SYN begins a connection anew where one was closed, in nanoseconds: what comes then
/// is late.
const QUIET: u64 = 1_000_000_000;

/// What was under way to an end that had aborted the connection is sent for a while, again and again.
const IN_FLIGHT: i32 = 1 << 20;

/// Clocks that go back further than this were set.
pub(crate) const CLOCK_SET: u64 = 1_000_000_000;

/// Payload that was seen before the SYN-ACK, which is waited for a little: it tells where the other direction
/// begins.
#[derive(Debug)]
struct Early {
    direction: Direction,
    /// The payload of the SYN (RFC 7413).
    syn: bool,
    position: u32,
    length: u32,
    bytes: Vec<u8>,
    time: u64,
}

/// Segments that wait for the SYN-ACK.
const EARLY: usize = 8;

/// A segment that fits a new connection between the same ends better than this one: it takes over when another
/// confirms it.
#[derive(Debug, Clone, Copy)]
struct Successor {
    direction: Direction,
    /// Where that direction goes on.
    position: u32,
    /// It was a SYN.
    syn: bool,
}

/// An aborted connection: what is late may still come for [`LATE`](super::LATE).
#[derive(Debug, Clone, Copy)]
struct Reset {
    positions: [Option<u32>; 2],
    time: u64,
}

/// What there is to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// For what was acknowledged in this direction.
    Hole(Direction),
    /// For the SYN-ACK.
    Handshake,
    /// For what is late after a reset.
    Reset,
}

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is of this connection.
    Yes,
    /// It fits neither this connection nor, so far, a new one.
    Stray,
    /// It is the first of a new connection, whose client this is: the connection is to be replaced.
    Successor(Opening),
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) key: Key,
    local_is_low: bool,
    opener: Opener,
    /// Given with the first payload.
    id: Option<ConnectionId>,
    sides: [Side; 2],
    early: Vec<Early>,
    successor: Option<Successor>,
    reset: Option<Reset>,
    closed: bool,
    last: u64,
    /// Distinguishes it from others that had its place in the table.
    pub(crate) generation: u32,
}

impl Flow {
    pub(crate) fn new(key: Key, opening: Opening, generation: u32) -> Flow {
        let mut sides = [Side::default(); 2];
        if let Some(origin) = opening.origin {
            sides[Direction::Egress as usize].origin = Some(origin);
            sides[Direction::Egress as usize].begin(origin);
        }
        Flow {
            key,
            local_is_low: key.low == opening.local,
            opener: opening.opener,
            id: None,
            sides,
            early: Vec::new(),
            successor: None,
            reset: None,
            closed: false,
            last: 0,
            generation,
        }
    }

    fn direction(&self, segment: &Segment<'_>) -> Direction {
        if (segment.source == self.key.low) == self.local_is_low {
            Direction::Egress
        } else {
            Direction::Ingress
        }
    }

    fn info(&self, id: ConnectionId) -> ConnectionInfo {
        let endpoint = |end: End| {
            let address = Ipv6Addr::from_bits(end.address).to_canonical();
            Endpoint::Inet(SocketAddr::new(address, end.port))
        };
        let (local, remote) = if self.local_is_low {
            (self.key.low, self.key.high)
        } else {
            (self.key.high, self.key.low)
        };
        ConnectionInfo {
            id,
            local: endpoint(local),
            remote: endpoint(remote),
            vantage: Vantage::Wire,
            opener: self.opener,
            process: None,
        }
    }

    /// Takes a segment seen at `time`. `next_id` is given to a connection with its first payload; `wait` asks
    /// for a call of [`Flow::waited`] after [`LATE`](super::LATE).
    pub(crate) fn take(
        &mut self,
        segment: &Segment<'_>,
        time: u64,
        next_id: &mut u64,
        wait: &mut impl FnMut(Wait),
        sink: &mut impl Sink,
    ) -> Taken {
        let direction = self.direction(segment);
        if self.closed {
            return self.take_late(direction, segment, time);
        }
        if let Some(opening) = self.confirms_successor(direction, segment) {
            return Taken::Successor(opening);
        }
        if segment.has(SYN) {
            return self.take_syn(direction, segment, time, next_id, wait, sink);
        }
        if let Some(reset) = self.reset
            && time > reset.time
        {
            return Taken::Yes;
        }
        let carries = segment.length > 0 || segment.has(FIN);
        let end = segment.sequence.wrapping_add(segment.length);
        if let Some(high) = self.sides[direction as usize].high {
            let distance = ahead(segment.sequence, high);
            if !(-BEHIND..=AHEAD).contains(&distance) {
                if carries {
                    self.successor = Some(Successor {
                        direction,
                        position: end,
                        syn: false,
                    });
                }
                return Taken::Stray;
            }
        }
        // What happened on one connection is in the order of the file, where clocks disagree a little.
        if time > self.last || self.last - time > CLOCK_SET {
            self.last = time;
        }
        if segment.has(RST) {
            // What only the SYN carried was not accepted.
            if self.early.iter().any(|early| !early.syn) {
                self.open(next_id, sink);
            }
            self.take_reset(direction, segment, wait);
            return Taken::Yes;
        }
        if segment.has(ACK) {
            self.sides[direction.opposite() as usize].acknowledge(segment.acknowledgement);
        }
        if carries {
            self.take_payload(direction, segment, next_id, wait, sink);
        }
        self.settle(next_id, wait, sink);
        Taken::Yes
    }

    /// After the close: a new connection, or something late.
    fn take_late(&self, direction: Direction, segment: &Segment<'_>, time: u64) -> Taken {
        let side = &self.sides[direction as usize];
        let begins = if segment.has(SYN) {
            side.origin != Some(segment.sequence.wrapping_add(1))
        } else {
            let new = side.high.is_none_or(|high| {
                let distance = ahead(segment.sequence, high);
                !(-BEHIND..=IN_FLIGHT).contains(&distance)
            });
            new && segment.length > 0 && time > self.last.saturating_add(QUIET) && !segment.has(RST)
        };
        if begins {
            Taken::Successor(Opening::of(segment))
        } else {
            Taken::Yes
        }
    }

    /// Whether a segment shows that the successor is real.
    fn confirms_successor(&self, direction: Direction, segment: &Segment<'_>) -> Option<Opening> {
        let successor = self.successor?;
        if segment.has(RST) {
            return None;
        }
        let answered = successor.syn
            && segment.has(SYN)
            && segment.has(ACK)
            && direction != successor.direction
            && segment.acknowledgement == successor.position;
        if answered {
            return Some(Opening::of(segment));
        }
        let goes_on =
            !segment.has(SYN) && direction == successor.direction && segment.sequence == successor.position;
        goes_on.then_some(Opening {
            local: segment.source,
            opener: if successor.syn {
                Opener::Local
            } else {
                Opener::Unknown
            },
            origin: successor.syn.then_some(successor.position),
        })
    }

    fn take_syn(
        &mut self,
        direction: Direction,
        segment: &Segment<'_>,
        time: u64,
        next_id: &mut u64,
        wait: &mut impl FnMut(Wait),
        sink: &mut impl Sink,
    ) -> Taken {
        if segment.has(RST) || segment.has(FIN) {
            return Taken::Stray;
        }
        let origin = segment.sequence.wrapping_add(1);
        let answer = segment.has(ACK);
        let blank = self.id.is_none() && self.reset.is_none();
        let side = self.sides[direction as usize];
        if side.origin == Some(origin) {
            // The first, or one that was sent again.
            if !answer && segment.length > 0 && blank && self.last == 0 {
                self.early.push(Early {
                    direction,
                    syn: true,
                    position: origin,
                    length: segment.length,
                    bytes: segment.bytes.to_vec(),
                    time,
                });
                wait(Wait::Handshake);
            }
            self.last = self.last.max(time);
            return Taken::Yes;
        }
        if blank && self.opener == Opener::Local && direction == Direction::Ingress && side.origin.is_none() {
            // An answer that acknowledges the SYN, with or without its data; or both opened (RFC 9293 § 3.5).
            let early = self.early.first().filter(|early| early.syn);
            let early = early.map_or(0, |early| early.length);
            let expected = self.sides[Direction::Egress as usize].origin;
            let fits = expected.is_some_and(|expected| {
                let distance = segment.acknowledgement.wrapping_sub(expected);
                distance == 0 || distance == early
            });
            if !answer || fits {
                let side = &mut self.sides[direction as usize];
                side.origin = Some(origin);
                side.begin(origin);
                self.last = self.last.max(time);
                if !self.early.is_empty() {
                    self.open(next_id, sink);
                    self.settle(next_id, wait, sink);
                }
                return Taken::Yes;
            }
        }
        if blank || self.reset.is_some() {
            return Taken::Successor(Opening::of(segment));
        }
        let late = side.origin.is_none()
            && side
                .high
                .is_none_or(|high| (0..=BEHIND).contains(&ahead(high, origin)));
        if late {
            return Taken::Yes;
        }
        if answer {
            return Taken::Successor(Opening::of(segment));
        }
        // The receiver may refuse it (RFC 5961 § 4).
        self.successor = Some(Successor {
            direction,
            position: origin,
            syn: true,
        });
        Taken::Yes
    }

    fn take_reset(&mut self, direction: Direction, segment: &Segment<'_>, wait: &mut impl FnMut(Wait)) {
        let side = &self.sides[direction as usize];
        // One from outside the window would be refused (RFC 5961 § 3).
        let valid = match (side.acknowledged, side.next) {
            (Some(acknowledged), _) => ahead(segment.sequence, acknowledged) >= 0,
            (None, Some(next)) => ahead(segment.sequence, next) >= -0xffff,
            // It answers a SYN (RFC 9293 § 3.10.7.1) or a connection that is not known better.
            (None, None) => true,
        };
        if !valid || self.reset.is_some() {
            return;
        }
        let mut positions = self.sides.map(|side| side.end.map(|(end, _)| end));
        let position = &mut positions[direction as usize];
        if position.is_none() && side.next.is_some_and(|next| ahead(segment.sequence, next) > 0) {
            *position = Some(segment.sequence);
        }
        if self.id.is_none() {
            self.closed = true;
            self.early = Vec::new();
            return;
        }
        self.reset = Some(Reset {
            positions,
            time: self.last,
        });
        wait(Wait::Reset);
    }

    fn take_payload(
        &mut self,
        direction: Direction,
        segment: &Segment<'_>,
        next_id: &mut u64,
        wait: &mut impl FnMut(Wait),
        sink: &mut impl Sink,
    ) {
        let from = segment.sequence;
        let answered = self.sides[Direction::Ingress as usize].origin.is_some();
        let early = self.id.is_none() && self.opener == Opener::Local && !answered;
        let side = &mut self.sides[direction as usize];
        if side.next.is_none() && !early && !segment.has(FIN) {
            let to = from.wrapping_add(segment.length);
            let received = side
                .acknowledged
                .is_some_and(|position| (0..=BEHIND).contains(&ahead(position, to)));
            if received {
                // Before the observation began.
                return;
            }
        }
        // A keep-alive has a byte of garbage (RFC 9293 § 3.8.4) in front of what is next, which need not be known.
        let joins = side.next.is_some_and(|next| ahead(from, next) <= 0);
        if segment.length == 1 && matches!(segment.bytes, [] | [0]) && !joins && !segment.has(FIN) {
            return;
        }
        let mut length = segment.length;
        if let Some((end, _)) = side.end {
            // Nothing comes after a FIN.
            length = length.min(ahead(end, from).max(0) as u32);
        } else if segment.has(FIN) {
            side.end = Some((from.wrapping_add(length), self.last));
        }
        let to = from.wrapping_add(length);
        let new = side.next.is_none_or(|next| ahead(to, next) > 0);
        if length == 0 || !new {
            return;
        }
        let captured = segment.bytes.len().min(length as usize);
        let bytes = segment.bytes.get(..captured).unwrap_or_default();
        let time = self.last;
        if early {
            self.early.push(Early {
                direction,
                syn: false,
                position: from,
                length,
                bytes: bytes.to_vec(),
                time,
            });
            match self.early.len() {
                1 => wait(Wait::Handshake),
                EARLY => _ = self.open(next_id, sink),
                _ => {}
            }
            return;
        }
        let id = self.open(next_id, sink);
        let chunk = Chunk {
            id,
            direction,
            position: from,
            length,
            bytes,
            time,
            process: None,
        };
        self.give(&chunk, sink);
    }

    fn give(&mut self, chunk: &Chunk<'_>, sink: &mut impl Sink) {
        sink.data(chunk);
        let side = &mut self.sides[chunk.direction as usize];
        if side.next.is_none() {
            side.begin(chunk.position);
        }
        side.advance(chunk.position, chunk.position.wrapping_add(chunk.length));
    }

    /// The connection's identity; there is one from the first payload on.
    fn open(&mut self, next_id: &mut u64, sink: &mut impl Sink) -> ConnectionId {
        if let Some(id) = self.id {
            return id;
        }
        let id = ConnectionId(*next_id);
        *next_id += 1;
        self.id = Some(id);
        sink.opened(self.info(id), self.sides.map(|side| side.origin));
        for early in std::mem::take(&mut self.early) {
            let chunk = Chunk {
                id,
                direction: early.direction,
                position: early.position,
                length: early.length,
                bytes: &early.bytes,
                time: early.time,
                process: None,
            };
            self.give(&chunk, sink);
        }
        id
    }

    /// Tells what follows from what is known now.
    fn settle(&mut self, next_id: &mut u64, wait: &mut impl FnMut(Wait), sink: &mut impl Sink) {
        if !self.early.is_empty() && self.sides.iter().all(|side| side.end.is_some()) {
            self.open(next_id, sink);
        }
        for direction in [Direction::Egress, Direction::Ingress] {
            let side = &mut self.sides[direction as usize];
            if let (Some((end, _)), None) = (side.end, side.next) {
                side.begin(end);
            }
            if let (Some(id), Some(next), Some((end, time)), false) =
                (self.id, side.next, side.end, side.ended)
                && ahead(next, end) >= 0
            {
                side.ended = true;
                sink.ended(id, direction, end, time);
            }
            if self.id.is_some() && side.proven.is_none() && side.has_hole() {
                side.proven = side.acknowledged;
                wait(Wait::Hole(direction));
            }
        }
        let over = match self.id {
            Some(_) => self.sides.iter().all(|side| side.ended),
            None => self.sides.iter().all(|side| side.end.is_some()),
        };
        if over && self.reset.is_none() {
            self.close(sink);
        }
    }

    /// The time for something late is over.
    pub(crate) fn waited(
        &mut self,
        for_what: Wait,
        next_id: &mut u64,
        wait: &mut impl FnMut(Wait),
        sink: &mut impl Sink,
    ) {
        if self.closed {
            return;
        }
        match for_what {
            Wait::Reset => self.close(sink),
            Wait::Handshake => {
                if !self.early.is_empty() {
                    self.open(next_id, sink);
                    self.settle(next_id, wait, sink);
                }
            }
            Wait::Hole(direction) => {
                let side = &mut self.sides[direction as usize];
                let Some(mut position) = side.proven.take() else {
                    return;
                };
                if let Some((end, _)) = side.end
                    && ahead(position, end) > 0
                {
                    position = end;
                }
                if let (Some(id), Some(next)) = (self.id, side.next)
                    && ahead(position, next) > 0
                {
                    side.reach(position);
                    sink.acknowledged(id, direction, position);
                }
                self.settle(next_id, wait, sink);
            }
        }
    }

    fn close(&mut self, sink: &mut impl Sink) {
        self.closed = true;
        let Some(id) = self.id else { return };
        let ends = self.sides.map(|side| side.end);
        let (positions, time) = match self.reset {
            Some(reset) => (reset.positions, reset.time),
            None => (
                ends.map(|end| end.map(|(position, _)| position)),
                ends.iter().flatten().map(|end| end.1).max().unwrap_or(self.last),
            ),
        };
        sink.closed(id, positions, time);
    }

    /// Nothing late can come any more. Returns whether the connection is over.
    pub(crate) fn finish(&mut self, next_id: &mut u64, sink: &mut impl Sink) -> bool {
        if self.closed {
            return true;
        }
        if !self.early.is_empty() {
            self.open(next_id, sink);
        }
        let Some(id) = self.id else { return true };
        for direction in [Direction::Egress, Direction::Ingress] {
            let side = &mut self.sides[direction as usize];
            if let (Some((end, time)), false) = (side.end, side.ended) {
                side.ended = true;
                sink.ended(id, direction, end, time);
            }
        }
        if self.reset.is_some() || self.sides.iter().all(|side| side.ended) {
            self.close(sink);
        }
        self.closed
    }

    /// Another connection has taken over.
    pub(crate) fn replaced(&mut self, next_id: &mut u64, sink: &mut impl Sink) {
        if !self.finish(next_id, sink)
            && let Some(id) = self.id
        {
            sink.abandoned(id);
        }
    }

    /// There are too many connections. Returns whether it was not over.
    pub(crate) fn evict(&mut self, next_id: &mut u64, sink: &mut impl Sink) -> bool {
        let over = self.finish(next_id, sink);
        if !over && let Some(id) = self.id {
            sink.evicted(self.info(id));
        }
        !over
    }
}

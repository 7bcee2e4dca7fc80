//! One direction of a connection: its bytes in order, holes explicit.

use crate::protocol::Mark;
use std::collections::VecDeque;

/// A chunk that came before others that belong in front of it.
#[derive(Debug)]
struct Segment {
    position: u64,
    length: u32,
    bytes: Vec<u8>,
    time: u64,
}

/// What became of a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// It was there already, waits behind a hole, or lies in a skip that is not over.
    Nothing,
    /// Its bytes from this offset on are next; none where it ends a skip.
    Bytes(usize),
}

/// What became of a hole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// There is none, or it lies in a skip that is not over.
    Nothing,
    /// A skip is over.
    Skip,
    /// Bytes are missing. The unconsumed bytes before them, which were seen, are discarded.
    Gap {
        /// How many are missing.
        missing: u64,
        /// How many are discarded.
        discarded: u64,
    },
}

/// One direction of a connection.
///
/// Positions are 64 bits wide here: the 32 bits of the source, extended by the nearest distance.
/// Unconsumed bytes end at `next`; while `next < skip_until` there are none.
#[derive(Debug, Default)]
pub(crate) struct Half {
    next: Option<u64>,
    pub(crate) buffer: Vec<u8>,
    pub(crate) marks: Vec<Mark>,
    /// Time of the last byte consumed or skipped.
    pub(crate) time_before: u64,
    /// The last byte skipped was lost, `time_before` is of one before it.
    pub(crate) end_unseen: bool,
    /// Nothing is needed before this position.
    skip_until: u64,
    /// Bytes up to here went by and were not captured.
    missing_until: u64,
    pending: VecDeque<Segment>,
    pending_bytes: usize,
    /// The protocol waits for the other flow, since this time.
    pub(crate) blocked_since: Option<u64>,
    pub(crate) ended: bool,
    /// Its writer ended it.
    pub(crate) finished: bool,
    /// The direction ended while its flow was blocked: to be told when it has gone on.
    pub(crate) end_untold: Option<u64>,
}

/// A position that is never reached.
const FOREVER: u64 = u64::MAX;

impl Half {
    /// Sets the position of the direction's first byte.
    pub(crate) fn begin_at(&mut self, origin: u32) {
        // One turn above zero, so that what is late from before the origin has a position too.
        self.next.get_or_insert((1 << 32) + u64::from(origin));
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.next.is_some()
    }

    /// The 64-bit position nearest to what is next, or to the end of a skip, of which the source may deliver nothing.
    pub(crate) fn extend(&self, position: u32) -> u64 {
        let Some(next) = self.next else {
            return (1 << 32) + u64::from(position);
        };
        let nearest = |to: u64| to.saturating_add_signed(i64::from(position.wrapping_sub(to as u32) as i32));
        let candidate = nearest(next);
        if next < self.skip_until && self.skip_until != FOREVER {
            let other = nearest(self.skip_until);
            if other.abs_diff(self.skip_until) < candidate.abs_diff(next) {
                return other;
            }
        }
        candidate
    }

    /// Position of the first unconsumed byte.
    pub(crate) fn start(&self) -> u64 {
        self.next.unwrap_or(0) - self.buffer.len() as u64
    }

    /// Position of the next byte to come.
    pub(crate) fn next(&self) -> u64 {
        self.next.unwrap_or(0)
    }

    /// Where a chunk may begin at most to be in order. The last byte of a skip is waited for: its time is needed.
    fn reach(&self) -> u64 {
        self.next().max(self.skip_until.saturating_sub(1))
    }

    /// Takes note of `[position, position + length)`, seen at `time`, of which `bytes` were captured.
    /// What is out of order is kept for [`Half::release`].
    pub(crate) fn offer(&mut self, position: u64, length: u32, bytes: &[u8], time: u64) -> Offer {
        let next = *self.next.get_or_insert(position);
        let end = position + u64::from(length);
        let floor = next.max(self.skip_until);
        if end <= next {
            return Offer::Nothing;
        }
        if position > self.reach() {
            let at = self
                .pending
                .partition_point(|segment| segment.position <= position);
            self.pending_bytes += bytes.len();
            self.pending.insert(
                at,
                Segment {
                    position,
                    length,
                    bytes: bytes.to_vec(),
                    time,
                },
            );
            return Offer::Nothing;
        }
        if floor > next {
            // Inside a skip, a hole is none.
            self.next = Some(end.min(floor));
            self.end_unseen = false;
            self.time_before = time;
            if end < floor {
                return Offer::Nothing;
            }
        }
        self.missing_until = end;
        Offer::Bytes(
            usize::try_from(floor - position)
                .unwrap_or(usize::MAX)
                .min(bytes.len()),
        )
    }

    /// Takes `bytes` in, which follow what is there.
    pub(crate) fn took(&mut self, length: usize, time: u64) {
        let next = self.next();
        if length > 0 {
            self.marks.push(Mark { position: next, time });
            self.next = Some(next + length as u64);
        }
    }

    /// A pending chunk that is in order by now.
    pub(crate) fn release(&mut self) -> Option<(u64, u32, Vec<u8>, u64)> {
        if self.pending.front()?.position > self.reach() {
            return None;
        }
        let segment = self.pending.pop_front()?;
        self.pending_bytes -= segment.bytes.len();
        Some((segment.position, segment.length, segment.bytes, segment.time))
    }

    /// When the first chunk behind a hole was seen.
    pub(crate) fn held_since(&self) -> Option<u64> {
        self.pending.iter().map(|segment| segment.time).min()
    }

    /// Memory taken by the chunks behind holes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.pending_bytes + self.pending.len() * size_of::<Segment>()
    }

    /// Position of the first chunk behind a hole.
    pub(crate) fn held_position(&self) -> Option<u64> {
        self.pending.front().map(|segment| segment.position)
    }

    /// End of the bytes that went by uncaptured.
    pub(crate) fn missing_until(&self) -> u64 {
        self.missing_until
    }

    /// Gives up what is missing before `to`, one piece a time: the part that is skipped, then the rest.
    /// `seen`: it went by, when the last byte there is did.
    pub(crate) fn close_hole(&mut self, to: u64, seen: bool) -> Closed {
        let Some(next) = self.next.filter(|&next| next < to) else {
            return Closed::Nothing;
        };
        if next < self.skip_until {
            let end = to.min(self.skip_until);
            self.next = Some(end);
            if end < self.skip_until {
                return Closed::Nothing;
            }
            self.end_unseen = !seen;
            return Closed::Skip;
        }
        let discarded = self.buffer.len() as u64;
        self.next = Some(to);
        self.discard();
        Closed::Gap {
            missing: to - next,
            discarded,
        }
    }

    /// Forgets the unconsumed bytes.
    pub(crate) fn discard(&mut self) {
        if let Some(mark) = self.marks.last() {
            self.time_before = mark.time;
        }
        self.buffer.clear();
        self.marks.clear();
    }

    /// What lies before `position` is done with.
    pub(crate) fn passed(&mut self, position: u64) {
        if let Some(mark) = self.marks.iter().rev().find(|mark| mark.position < position) {
            self.time_before = mark.time;
        }
    }

    /// Skips what comes, up to `position`; the unconsumed bytes end before it.
    pub(crate) fn skip_to(&mut self, position: u64) {
        self.end_unseen = false;
        self.skip_until = position;
        if position == FOREVER {
            self.pending.clear();
            self.pending_bytes = 0;
        }
    }

    /// Skips all that comes, until the direction ends.
    pub(crate) fn skip_forever(&mut self) {
        self.skip_to(FOREVER);
    }

    /// Takes bytes in again after [`Half::skip_forever`].
    pub(crate) fn stop_skipping(&mut self) {
        self.skip_until = 0;
    }

    /// Drops marks that lie wholly before the first unconsumed byte.
    pub(crate) fn trim_marks(&mut self) {
        if self.buffer.is_empty() {
            self.marks.clear();
        } else {
            let start = self.start();
            let keep = self
                .marks
                .partition_point(|mark| mark.position <= start)
                .saturating_sub(1);
            self.marks.drain(..keep);
        }
        // A burst must not hold memory for the rest of a connection's life.
        const KEEP: usize = 1024;
        if self.buffer.capacity() > KEEP && self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
        if self.marks.is_empty() && self.marks.capacity() > 16 {
            self.marks = Vec::new();
        }
    }
}

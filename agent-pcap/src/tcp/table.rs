//! The bounded table of all connections.

use super::flow::{CLOCK_SET, Flow, Taken, Wait};
use super::opening::{Key, Opening};
use super::{LATE, Sink};
use crate::packet::{RST, Segment};
use hashbrown::HashMap;
use std::collections::VecDeque;

/// A place in the table, linked to the one used before and the one used after it.
struct Slot {
    flow: Flow,
    older: u32,
    newer: u32,
}

/// No slot.
const NONE: u32 = u32::MAX;

struct Timer {
    due: u64,
    slot: u32,
    generation: u32,
    wait: Wait,
}

/// All connections of a capture, closed ones too until their place is needed.
pub(crate) struct Tcp {
    limit: usize,
    slots: Vec<Slot>,
    by_key: HashMap<Key, u32>,
    oldest: u32,
    newest: u32,
    timers: VecDeque<Timer>,
    now: u64,
    next_id: u64,
    generation: u32,
    /// Connections seen.
    pub(crate) connections: u64,
    /// Those whose beginning was not seen.
    pub(crate) joined: u64,
    /// Segments that fit no connection.
    pub(crate) stray: u64,
    /// Connections that were given up for newer ones.
    pub(crate) evicted: u64,
}

impl Tcp {
    /// An empty table for up to `limit` connections.
    pub(crate) fn new(limit: usize) -> Tcp {
        Tcp {
            limit: limit.clamp(1, NONE as usize),
            slots: Vec::new(),
            by_key: HashMap::new(),
            oldest: NONE,
            newest: NONE,
            timers: VecDeque::new(),
            now: 0,
            next_id: 1,
            generation: 0,
            connections: 0,
            joined: 0,
            stray: 0,
            evicted: 0,
        }
    }

    /// Takes a segment seen at `time`.
    pub(crate) fn segment(&mut self, segment: &Segment<'_>, time: u64, sink: &mut impl Sink) {
        let key = Key::of(segment);
        let slot = match self.by_key.get(&key) {
            Some(&slot) => slot,
            None if segment.has(RST) => {
                self.stray += 1;
                return;
            }
            None => {
                let flow = self.begin(key, Opening::of(segment));
                self.insert(flow, sink)
            }
        };
        self.touch(slot);
        if let Taken::Successor(opening) = self.offer(slot, segment, time, sink) {
            let flow = self.begin(key, opening);
            if let Some(place) = self.slots.get_mut(slot as usize) {
                place.flow.replaced(&mut self.next_id, sink);
                place.flow = flow;
            }
            self.offer(slot, segment, time, sink);
        }
    }

    /// Time has come to `now`, which does not go back.
    pub(crate) fn tick(&mut self, now: u64, sink: &mut impl Sink) {
        self.now = now;
        while let Some(timer) = self.timers.pop_front_if(|timer| timer.due <= now) {
            self.fire(&timer, sink);
        }
    }

    /// The clock was set back to `now`: nothing that waits is waited for any longer.
    pub(crate) fn set_clock(&mut self, now: u64, sink: &mut impl Sink) {
        self.now = now;
        for _ in 0..self.timers.len() {
            if let Some(timer) = self.timers.pop_front() {
                self.fire(&timer, sink);
            }
        }
    }

    /// The capture is over. What was seen to end is told; other connections stay open.
    pub(crate) fn finish(&mut self, sink: &mut impl Sink) {
        for slot in &mut self.slots {
            slot.flow.finish(&mut self.next_id, sink);
        }
    }

    fn begin(&mut self, key: Key, opening: Opening) -> Flow {
        self.generation = self.generation.wrapping_add(1);
        self.connections += 1;
        self.joined += u64::from(!opening.is_known());
        Flow::new(key, opening, self.generation)
    }

    fn offer(&mut self, slot: u32, segment: &Segment<'_>, time: u64, sink: &mut impl Sink) -> Taken {
        let Some(place) = self.slots.get_mut(slot as usize) else {
            return Taken::Stray;
        };
        let (timers, due) = (&mut self.timers, self.now.saturating_add(LATE));
        let generation = place.flow.generation;
        let mut wait = |wait| {
            timers.push_back(Timer {
                due,
                slot,
                generation,
                wait,
            });
        };
        let taken = place.flow.take(segment, time, &mut self.next_id, &mut wait, sink);
        self.stray += u64::from(taken == Taken::Stray);
        taken
    }

    fn fire(&mut self, timer: &Timer, sink: &mut impl Sink) {
        let Some(place) = self.slots.get_mut(timer.slot as usize) else {
            return;
        };
        if place.flow.generation != timer.generation {
            return;
        }
        let (timers, due) = (&mut self.timers, self.now.saturating_add(LATE));
        let mut wait = |wait| {
            timers.push_back(Timer { due, wait, ..*timer });
        };
        place.flow.waited(timer.wait, &mut self.next_id, &mut wait, sink);
    }

    /// Puts a connection in a new place, or in that of the one idle longest.
    fn insert(&mut self, flow: Flow, sink: &mut impl Sink) -> u32 {
        let key = flow.key;
        let slot = if self.slots.len() < self.limit {
            self.slots.push(Slot {
                flow,
                older: NONE,
                newer: NONE,
            });
            self.slots.len() as u32 - 1
        } else {
            let slot = self.oldest;
            self.unlink(slot);
            if let Some(place) = self.slots.get_mut(slot as usize) {
                self.evicted += u64::from(place.flow.evict(&mut self.next_id, sink));
                self.by_key.remove(&place.flow.key);
                place.flow = flow;
            }
            slot
        };
        self.link(slot);
        self.by_key.insert(key, slot);
        slot
    }

    fn touch(&mut self, slot: u32) {
        if self.newest != slot {
            self.unlink(slot);
            self.link(slot);
        }
    }

    /// Makes a slot that is not linked the newest.
    fn link(&mut self, slot: u32) {
        let newest = std::mem::replace(&mut self.newest, slot);
        if let Some(place) = self.slots.get_mut(slot as usize) {
            (place.older, place.newer) = (newest, NONE);
        }
        match self.slots.get_mut(newest as usize) {
            Some(place) => place.newer = slot,
            None => self.oldest = slot,
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Some(place) = self.slots.get(slot as usize) else {
            return;
        };
        let (older, newer) = (place.older, place.newer);
        match self.slots.get_mut(older as usize) {
            Some(place) => place.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(place) => place.older = older,
            None => self.newest = older,
        }
    }
}

/// The time of a capture: that of its packets, which can go back a little between neighbours, and far where a
/// clock was set or captures were joined.
#[derive(Default)]
pub(crate) struct Clock {
    pub(crate) now: u64,
    ticked: u64,
}

/// What a packet's time means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// Little.
    Little,
    /// Enough to look for what has waited long enough.
    Tick,
    /// The clock was set back.
    SetBack,
}

/// How often it is looked for what has waited long enough, in nanoseconds.
const TICK: u64 = 10_000_000;

impl Clock {
    /// A packet was captured at `time`.
    pub(crate) fn packet(&mut self, time: u64) -> Passed {
        if time.saturating_add(CLOCK_SET) < self.now {
            (self.now, self.ticked) = (time, time);
            return Passed::SetBack;
        }
        self.now = self.now.max(time);
        if self.now - self.ticked >= TICK {
            self.ticked = self.now;
            return Passed::Tick;
        }
        Passed::Little
    }
}

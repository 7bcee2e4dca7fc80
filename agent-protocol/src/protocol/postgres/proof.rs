//! Whether answers and requests are known to go together.
//!
//! On a connection that is seen whole they are. Once something is missing it is not known how many requests the
//! server has not answered yet. Requests and answers are then put together by time, tentatively, and nothing is
//! reported until one of these proves it:
//!
//! - a bound of the answers to come that goes down to zero,
//! - the session's orderly end (manual, § "Termination"), up to that of what the server writes: it reads Terminate once
//!   it has answered everything before it, so the last answer was for the last request, and so on back. A client that
//!   leaves after Terminate may leave answers unread,
//! - a client that waits for each answer before it goes on, as seen over several rounds whose every message fits.
//!   That says nothing of a client that was ever seen not to wait.

/// Rounds that prove a client's requests paired. Answers that are unlike each other make no fewer do: where two kinds of
/// requests take turns, a client that is two ahead gets answers that fit as well.
const ENOUGH: u8 = 5;

/// The shortest message that makes the server answer with ReadyForQuery.
const SHORTEST: u64 = 5;

/// Of the bound: any number.
const UNKNOWN: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Proof {
    exact: bool,
    /// Rounds since something was missing.
    rounds: u8,
    /// The client was seen to go on before it had its answer.
    pipelined: bool,
    /// How many ReadyForQuery are to come at most, where not exact.
    bound: u64,
    /// How many requests may be in the holes that the queue has marks of.
    missing: u64,
    /// The answer at hand is not known from its begin, or not what it is for: up to ReadyForQuery it says nothing.
    adrift: bool,
    /// Messages were answered since the last ReadyForQuery.
    in_answer: bool,
    /// When ReadyForQuery was seen last, and the last answer of which it is not known what it was for.
    last_ready: u64,
    last_unpaired: u64,
}

impl Proof {
    /// `exact`: from its first byte on.
    pub(super) fn new(exact: bool) -> Proof {
        Proof {
            exact,
            rounds: 0,
            pipelined: false,
            bound: UNKNOWN,
            missing: 0,
            adrift: false,
            in_answer: false,
            last_ready: 0,
            last_unpaired: 0,
        }
    }

    /// What is in the queue, up to the next mark of a hole, goes with the answers that come.
    pub(super) fn is_exact(&self) -> bool {
        self.exact
    }

    pub(super) fn is_adrift(&self) -> bool {
        self.adrift
    }

    /// A group of messages begins at `start`. False where its answer may have gone by: it was seen too late.
    pub(super) fn begin(&mut self, start: u64) -> bool {
        if start < self.last_ready {
            self.pipelined = true;
            self.rounds = 0;
        }
        let in_time = self.last_unpaired == 0 || start > self.last_unpaired;
        if !in_time {
            (self.exact, self.rounds, self.bound) = (false, 0, UNKNOWN);
        }
        in_time
    }

    /// The last message of a group was seen.
    pub(super) fn end(&mut self) {
        if !self.exact {
            self.bound = self.bound.saturating_add(1);
        }
    }

    /// A message was answered.
    pub(super) fn answered(&mut self) {
        self.in_answer = true;
    }

    /// ReadyForQuery for the first group in the queue. `overlaps`: the next one began before it. `empty`: there is no
    /// next one.
    pub(super) fn ready(&mut self, end: u64, overlaps: bool, empty: bool) {
        self.pipelined |= overlaps;
        self.rounds = match self.pipelined {
            true => 0,
            false => self.rounds.saturating_add(1),
        };
        self.last_ready = end;
        self.in_answer = false;
        self.count_down(1);
        self.exact |= self.rounds >= ENOUGH || self.bound == 0 && empty;
    }

    /// ReadyForQuery for what is not known: what comes next is an answer from its begin.
    pub(super) fn ready_unpaired(&mut self, end: u64, empty: bool) {
        (self.adrift, self.in_answer, self.rounds) = (false, false, 0);
        self.last_unpaired = end;
        self.count_down(1);
        self.exact |= self.bound == 0 && empty;
    }

    /// Another answer to what is not known, seen at `end`.
    pub(super) fn unpaired(&mut self, end: u64) {
        (self.adrift, self.rounds) = (true, 0);
        self.last_unpaired = end;
    }

    /// Syncs turned out to be such that are not answered.
    pub(super) fn swallowed(&mut self, n: u64) {
        self.count_down(n);
    }

    fn count_down(&mut self, n: u64) {
        if !self.exact && self.bound != UNKNOWN {
            self.bound = self.bound.saturating_sub(n);
        }
    }

    /// The client ended the session, then the server, and nothing came in between.
    pub(super) fn orderly_end(&mut self) {
        self.exact |= self.rounds > 0 && !self.adrift;
    }

    /// `length` bytes of the client are missing; `None` where not even that is known.
    pub(super) fn hole(&mut self, length: Option<u64>) {
        let missing = length.map_or(UNKNOWN, |length| length / SHORTEST + 1);
        self.missing = self.missing.saturating_add(missing);
    }

    /// `n` bytes of the client behind a hole are passed over.
    pub(super) fn pass_over(&mut self, n: u64) {
        let missing = n / SHORTEST + 1;
        if self.exact {
            self.missing = self.missing.saturating_add(missing);
        } else {
            self.bound = self.bound.saturating_add(missing);
        }
    }

    /// What was queued before a hole is answered. `groups`: how many end behind it.
    pub(super) fn pass_hole(&mut self, groups: u64) {
        let bound = if self.exact { groups } else { self.bound };
        self.bound = bound.saturating_add(std::mem::take(&mut self.missing));
        (self.exact, self.rounds) = (false, 0);
        self.adrift = self.in_answer;
    }

    /// Answers do not go with the queue, which holds the ends of `groups`. `unknown`: they never did.
    pub(super) fn lose(&mut self, groups: u64, unknown: bool) {
        if unknown {
            self.bound = UNKNOWN;
        } else if self.exact {
            self.bound = groups.saturating_add(self.missing);
        }
        (self.exact, self.rounds, self.adrift) = (false, 0, true);
    }

    /// Bytes of the server are passed over.
    pub(super) fn deaf(&mut self) {
        self.adrift |= !self.exact;
    }
}

impl Default for Proof {
    fn default() -> Proof {
        Proof::new(true)
    }
}

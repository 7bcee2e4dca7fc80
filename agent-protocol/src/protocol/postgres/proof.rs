//! Whether answers and requests are known to go together.
//!
//! On a connection that is seen whole they are. Once something is missing it is not known how many requests the
//! server has not answered yet. Three things prove it again:
//!
//! - a bound of that number that comes down to zero,
//! - the connection's orderly end, with every answer there was,
//! - a client that waits for each answer before it goes on, as seen over several rounds whose every message fits.
//!   That says nothing of a client that was ever seen not to wait.

use super::queue::Kind;

/// Weight of rounds that proves a client's requests paired.
const ENOUGH: u8 = 5;

/// Weight of a round: more where its answer would not have fitted the request before it.
const LIKE: u8 = 1;
const UNLIKE: u8 = 2;

/// The shortest message that makes the server answer with ReadyForQuery.
const SHORTEST: u64 = 5;

/// Of the bound: any number.
const UNKNOWN: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Proof {
    exact: bool,
    /// Weight of the rounds since something was missing.
    rounds: u8,
    /// The client was seen to go on before it had its answer.
    pipelined: bool,
    /// How many ReadyForQuery are to come at most, where not exact.
    bound: u64,
    /// Requests are missing behind those in the queue: how many at most, with those seen since.
    after_hole: Option<u64>,
    /// In a group of messages whose begin was let go, or was taken.
    dropping: bool,
    admitting: bool,
    /// The last message of a group was not there yet.
    open: bool,
    /// The last that was seen was ReadyForQuery, or nothing.
    quiet: bool,
    /// Groups that were let go since the last ReadyForQuery.
    unanswered: u32,
    last_ready: u64,
    /// When an answer to what is not known was seen last.
    last_unpaired: u64,
    /// The server's messages are not understood, for now.
    deaf: bool,
}

impl Proof {
    /// `exact`: from its first byte on.
    pub(super) fn new(exact: bool) -> Proof {
        Proof {
            exact,
            rounds: 0,
            pipelined: false,
            bound: UNKNOWN,
            after_hole: None,
            dropping: false,
            admitting: false,
            open: false,
            quiet: true,
            unanswered: 0,
            last_ready: 0,
            last_unpaired: 0,
            deaf: !exact,
        }
    }

    /// What is in the queue goes with the answers that come.
    pub(super) fn is_exact(&self) -> bool {
        self.exact
    }

    /// Nothing is missing behind the queue either.
    pub(super) fn is_whole(&self) -> bool {
        self.exact && self.after_hole.is_none()
    }

    /// Whether a message is to be queued, where the queue is `empty` or not.
    pub(super) fn admits(&mut self, kind: Kind, start: u64, empty: bool) -> bool {
        let ends = kind.ends_group();
        let begins = !self.open;
        if kind != Kind::CopyEnd {
            self.open = !ends;
        }
        if self.exact && start <= self.last_unpaired {
            // Seen late: its answer may have gone by.
            (self.exact, self.quiet, self.rounds, self.bound) = (false, false, 0, UNKNOWN);
        }
        if let Some(missing) = &mut self.after_hole {
            *missing = missing.saturating_add(u64::from(ends));
        } else if self.exact {
            return true;
        } else {
            self.bound = self.bound.saturating_add(u64::from(ends));
            let answered = self.quiet && start >= self.last_ready;
            if !self.dropping && (self.admitting || !empty || answered) {
                self.quiet = false;
                self.admitting = self.open;
                return true;
            }
        }
        self.pipelined |= begins && self.unanswered > 0 && !self.deaf;
        self.unanswered = self.unanswered.saturating_add(u32::from(ends));
        self.dropping = self.open;
        false
    }

    /// ReadyForQuery for the first group in the queue. `overlaps`: the next one began before it. `unlike`: its
    /// answer is not like the one before.
    pub(super) fn ready(&mut self, end: u64, overlaps: bool, unlike: bool, empty: bool) {
        self.pipelined |= overlaps;
        if !self.exact {
            self.count_down(1);
            let weight = if unlike { UNLIKE } else { LIKE };
            self.rounds = match self.pipelined {
                true => 0,
                false => self.rounds.saturating_add(weight),
            };
            self.consider();
        }
        self.last_ready = end;
        self.quiet = empty;
        self.unanswered = 0;
    }

    /// ReadyForQuery for a request that is not known. False where one that is known is being answered.
    pub(super) fn ready_unpaired(&mut self, end: u64) -> bool {
        if self.admitting {
            return false;
        }
        self.count_down(1);
        self.rounds = 0;
        self.unanswered = self.unanswered.saturating_sub(1);
        self.quiet = self.unanswered == 0 && !self.dropping;
        self.last_ready = end;
        self.last_unpaired = end;
        self.consider();
        true
    }

    /// Another answer to what is not known, seen at `end`.
    pub(super) fn disturbed(&mut self, end: u64) {
        self.last_unpaired = end;
        self.quiet = false;
        self.rounds = 0;
    }

    /// Syncs turned out to be such that are not answered.
    pub(super) fn swallowed(&mut self, n: u64) {
        if !self.exact {
            self.count_down(n);
        }
    }

    fn count_down(&mut self, n: u64) {
        if self.bound != UNKNOWN {
            self.bound = self.bound.saturating_sub(n);
        }
    }

    fn consider(&mut self) {
        let alternating = self.rounds >= ENOUGH && !self.pipelined;
        if self.after_hole.is_none() && !self.dropping && (self.bound == 0 || alternating) {
            self.exact = true;
        }
    }

    /// The client ends the session, and nothing more came of the server: what was answered last was its last request.
    pub(super) fn orderly_end(&mut self) {
        self.exact |= self.rounds > 0 && self.quiet && !self.deaf && self.after_hole.is_none();
    }

    /// `length` bytes of the client are missing; `None` where not even that is known.
    pub(super) fn hole(&mut self, length: Option<u64>) {
        let missing = length.map_or(UNKNOWN, |length| length / SHORTEST + 1);
        let known = self.after_hole.unwrap_or(0);
        self.after_hole = Some(known.saturating_add(missing));
        (self.dropping, self.admitting, self.open) = (false, false, false);
    }

    /// What was queued before the hole is answered. False where there is no hole.
    pub(super) fn pass_hole(&mut self) -> bool {
        let Some(missing) = self.after_hole.take() else {
            return false;
        };
        self.bound = if self.exact {
            missing
        } else {
            self.bound.saturating_add(missing)
        };
        (self.exact, self.quiet, self.rounds) = (false, false, 0);
        true
    }

    /// Answers and the queue, which holds the ends of `groups`, do not go together. `unknown`: they never did.
    pub(super) fn lose(&mut self, groups: u64, unknown: bool) {
        let behind = self.after_hole.take().unwrap_or(0);
        self.bound = match (unknown, self.exact) {
            (true, _) => UNKNOWN,
            (false, true) => groups.saturating_add(behind),
            (false, false) => self.bound.saturating_add(behind),
        };
        (self.exact, self.quiet, self.rounds) = (false, false, 0);
        (self.dropping, self.admitting) = (self.open, false);
        self.unanswered = 0;
    }

    /// The server's messages are not understood from here on, or are again.
    pub(super) fn set_deaf(&mut self, deaf: bool) {
        self.deaf = deaf;
        self.unanswered = 0;
    }
}

impl Default for Proof {
    fn default() -> Proof {
        Proof::new(true)
    }
}

//! Whether a channel is in confirm mode, and the sequence numbers of its publishes.

use crate::record::amqp::Outcome;
use std::collections::VecDeque;

/// How long a broker may take to confirm before it is taken that it will not, in nanoseconds: a channel joined in
/// the middle of which no publish was confirmed for this long is taken to be without confirm mode.
const CONFIRM_PATIENCE: u64 = 5_000_000_000;

/// The same for a channel that is known to have been without confirm mode before something was lost.
const CONFIRM_PATIENCE_ONCE_OFF: u64 = 1_000_000_000;

/// The shortest silence, in nanoseconds, that may show that everything is confirmed.
const QUIET: u64 = 1_000_000_000;

/// Quiet moments that agree before the numbers are taken to be known.
const QUIET_MOMENTS: u8 = 2;

/// What is known of a channel's confirm mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Unknown,
    Off,
    On,
}

/// A confirm whose publish is not known yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Confirm {
    pub(super) tag: u64,
    pub(super) multiple: bool,
    pub(super) time: u64,
    pub(super) outcome: Outcome,
    /// It confirmed something that was known.
    pub(super) paired: bool,
}

/// Place of a publish among those of its channel.
pub(super) enum Place {
    /// Its sequence number, and how many publishes came before those that were seen where that became known by it.
    Number(u64, Option<u64>),
    /// It is so many'th since its channel was joined.
    Seen(u64),
}

/// Confirm mode and the sequence numbers of publishes.
#[derive(Debug)]
pub(super) struct Confirms {
    pub(super) mode: Mode,
    /// Sequence number of the next publish.
    pub(super) next: Option<u64>,
    /// It was off before something was lost, and only a confirm.select without reply can have turned it on unseen.
    pub(super) was_off: bool,
    /// End of the first publish since when all is seen of both flows and none was confirmed.
    pub(super) silent_since: Option<u64>,
    /// Publishes and confirms seen while the numbers are not known: the publish that was seen as the nth has a
    /// number of at least `floor + n`.
    seen: u64,
    floor: u64,
    confirmed: u64,
    last_publish: u64,
    last_confirm: u64,
    slowest: u64,
    quiet: u8,
    pub(super) log: VecDeque<Confirm>,
}

impl Confirms {
    pub(super) fn new(mode: Mode) -> Confirms {
        Confirms {
            mode,
            next: None,
            was_off: false,
            silent_since: None,
            seen: 0,
            floor: 0,
            confirmed: 0,
            last_publish: 0,
            last_confirm: 0,
            slowest: 0,
            quiet: 0,
            log: VecDeque::new(),
        }
    }

    /// When a silence that goes on is enough to tell that the mode is off; the broker listens `since` then.
    pub(super) fn silent_until(&self, since: u64) -> Option<u64> {
        let patience = if self.was_off {
            CONFIRM_PATIENCE_ONCE_OFF
        } else {
            CONFIRM_PATIENCE
        };
        self.silent_since
            .map(|silent| silent.max(since).saturating_add(patience))
    }

    /// The broker confirmed `tag` at `time`, and numbers are not known.
    pub(super) fn confirmed(&mut self, tag: u64, time: u64) {
        if tag.saturating_sub(self.seen) > self.floor {
            self.floor = tag.saturating_sub(self.seen);
            self.quiet = 0;
        }
        self.confirmed = self.confirmed.max(tag);
        self.last_confirm = time;
        if self.seen > 0 {
            self.slowest = self.slowest.max(time.saturating_sub(self.last_publish));
        }
    }

    /// The place of a publish seen at `time`. Where numbers are not known, they are inferred: what was seen gives a
    /// lower bound, which is exact once everything is confirmed; that it is, shows in a silence that is long beside
    /// the time that confirms take, of a broker that listens `since` then.
    pub(super) fn publish(&mut self, time: u64, since: u64) -> Place {
        if let Some(next) = self.next {
            self.next = Some(next + 1);
            return Place::Number(next, None);
        }
        let pause = time.saturating_sub(self.last_confirm.max(since));
        let all_confirmed = self.confirmed > 0 && self.confirmed == self.floor + self.seen;
        if all_confirmed && pause >= QUIET && pause / 8 >= self.slowest {
            self.quiet += 1;
        }
        self.seen += 1;
        self.last_publish = time;
        if self.quiet < QUIET_MOMENTS {
            return Place::Seen(self.seen);
        }
        let number = self.floor + self.seen;
        self.next = Some(number + 1);
        Place::Number(number, Some(self.floor))
    }
}

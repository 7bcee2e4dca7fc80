//! What is known of one direction of a connection.

/// The largest window (RFC 7323 § 2.3): nothing valid lies further ahead.
pub(super) const AHEAD: i32 = 1 << 30;

/// Nothing that is sent again lies further behind.
pub(super) const BEHIND: i32 = 64 << 20;

/// How far `a` is ahead of `b` (RFC 9293 § 3.4).
pub(super) fn ahead(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

/// One direction.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Side {
    /// Position of the first byte, from the SYN.
    pub(super) origin: Option<u32>,
    /// Everything before was seen or given up. It may lag behind what the stream has; an acknowledgement
    /// brings it up to date.
    pub(super) next: Option<u32>,
    /// Seen ahead of `next`.
    island: Option<(u32, u32)>,
    /// End of the last byte seen.
    pub(super) high: Option<u32>,
    /// The receiver has everything before.
    pub(super) acknowledged: Option<u32>,
    /// What was acknowledged when a hole was found; given up when the time for it has come.
    pub(super) proven: Option<u32>,
    /// Where the direction ends, and when that was seen.
    pub(super) end: Option<(u32, u64)>,
    pub(super) ended: bool,
}

impl Side {
    pub(super) fn begin(&mut self, position: u32) {
        self.next = Some(position);
        self.high = Some(position);
    }

    /// `[from, to)` was seen.
    pub(super) fn advance(&mut self, from: u32, to: u32) {
        let (Some(next), Some(high)) = (self.next, self.high) else {
            return;
        };
        let high = if ahead(to, high) > 0 { to } else { high };
        self.high = Some(high);
        if ahead(from, next) > 0 {
            self.island = match self.island {
                Some((a, b)) if ahead(from, b) <= 0 && ahead(a, to) <= 0 => Some((
                    if ahead(from, a) < 0 { from } else { a },
                    if ahead(to, b) > 0 { to } else { b },
                )),
                island => island.or(Some((from, to))),
            };
            // Without acknowledgements, what is so far back has long been given up.
            if ahead(high, next) > AHEAD / 2 {
                self.reach(high);
            }
        } else {
            self.reach(to);
        }
    }

    /// Everything before `position` was seen or given up.
    pub(super) fn reach(&mut self, position: u32) {
        let mut next = match self.next {
            Some(next) if ahead(next, position) > 0 => next,
            _ => position,
        };
        if let Some((from, to)) = self.island
            && ahead(from, next) <= 0
        {
            self.island = None;
            if ahead(to, next) > 0 {
                next = to;
            }
        }
        self.next = Some(next);
    }

    /// The receiver has everything before `position`.
    pub(super) fn acknowledge(&mut self, position: u32) {
        let newer = match (self.acknowledged, self.high) {
            (Some(old), _) => (1..=AHEAD).contains(&ahead(position, old)),
            (None, Some(high)) => (-BEHIND..=AHEAD).contains(&ahead(position, high)),
            (None, None) => true,
        };
        if newer {
            self.acknowledged = Some(position);
        }
    }

    /// Whether something is missing before what was acknowledged.
    pub(super) fn has_hole(&self) -> bool {
        match (self.next, self.acknowledged) {
            (Some(next), Some(acknowledged)) => {
                let end = self.end.map_or(acknowledged, |(end, _)| {
                    if ahead(acknowledged, end) > 0 {
                        end
                    } else {
                        acknowledged
                    }
                });
                ahead(end, next) > 0
            }
            _ => false,
        }
    }
}

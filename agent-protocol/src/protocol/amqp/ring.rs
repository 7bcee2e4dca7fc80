//! What is open on a channel, in the order of its tags.

use super::open::Open;
use std::collections::VecDeque;

/// Places of operations that have left are cleared away when there are more of them than this, and than of others.
const MAX_GONE: usize = 64;

/// Operations in the order of their tags, from which any may leave.
#[derive(Debug, Default)]
pub(super) struct Ring {
    entries: VecDeque<Open>,
    /// Places of such as have left, though what is in front of them has not.
    gone: usize,
}

impl Ring {
    pub(super) fn push(&mut self, open: Open) {
        // What stays open for long must not keep the places of all that came and went behind it.
        if self.gone > MAX_GONE.max(self.len()) {
            self.entries.retain(|open| !open.gone);
            self.gone = 0;
        }
        self.entries.push_back(open);
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.gone
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Open> {
        self.entries.iter_mut().filter(|open| !open.gone)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Open> {
        self.entries.iter().filter(|open| !open.gone)
    }

    /// The highest tag.
    pub(super) fn last_tag(&self) -> Option<u64> {
        self.entries.back().map(|open| open.tag)
    }

    pub(super) fn front(&self) -> Option<&Open> {
        self.entries.front()
    }

    /// Takes the first.
    pub(super) fn pop(&mut self) -> Option<Open> {
        let open = self.entries.pop_front()?;
        self.trim();
        Some(open)
    }

    /// Takes the one of this tag.
    pub(super) fn take(&mut self, tag: u64) -> Option<Open> {
        let at = self.entries.binary_search_by_key(&tag, |open| open.tag).ok()?;
        if at == 0 {
            return self.pop();
        }
        let entry = self.entries.get_mut(at).filter(|open| !open.gone)?;
        // The strings go along; what stays is a placeholder until those in front have left.
        let mut placeholder = Open::new(entry.operation, entry.start, String::new());
        (placeholder.tag, placeholder.gone) = (tag, true);
        let open = std::mem::replace(entry, placeholder);
        self.gone += 1;
        Some(open)
    }

    /// Takes the first up to this tag.
    pub(super) fn take_until(&mut self, tag: u64) -> Option<Open> {
        (self.front()?.tag <= tag).then(|| self.pop()).flatten()
    }

    /// Takes the first for which this holds.
    pub(super) fn take_where(&mut self, holds: impl Fn(&Open) -> bool) -> Option<Open> {
        let at = self.entries.iter().position(|open| !open.gone && holds(open))?;
        let open = self.entries.remove(at);
        self.trim();
        open
    }

    fn trim(&mut self) {
        while self.entries.front().is_some_and(|open| open.gone) {
            self.entries.pop_front();
            self.gone -= 1;
        }
        if self.entries.is_empty() && self.entries.capacity() > 1024 {
            self.entries = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::amqp::Operation;

    fn open(tag: u64) -> Open {
        let mut open = Open::new(Operation::Deliver, tag, String::new());
        open.tag = tag;
        open
    }

    #[test]
    fn one_that_stays_open_does_not_keep_the_places_of_the_others() {
        let mut ring = Ring::default();
        ring.push(open(1));
        for tag in 2..10_000 {
            ring.push(open(tag));
            assert_eq!(ring.take(tag).map(|open| open.tag), Some(tag));
            assert_eq!(ring.take(tag).map(|open| open.tag), None);
            assert_eq!(ring.len(), 1);
            assert!(ring.entries.len() <= MAX_GONE + 3, "{}", ring.entries.len());
        }
        assert_eq!(ring.take_until(u64::MAX).map(|open| open.tag), Some(1));
        assert_eq!((ring.len(), ring.entries.len()), (0, 0));
    }

    #[test]
    fn any_may_leave() {
        let mut ring = Ring::default();
        (1..=5).for_each(|tag| ring.push(open(tag)));
        assert_eq!(ring.take(3).map(|open| open.tag), Some(3));
        assert_eq!(ring.take_where(|open| open.tag > 3).map(|open| open.tag), Some(4));
        assert_eq!(ring.take_until(2).map(|open| open.tag), Some(1));
        assert_eq!(ring.take_until(2).map(|open| open.tag), Some(2));
        assert_eq!(ring.take_until(2).map(|open| open.tag), None);
        assert_eq!(ring.iter().map(|open| open.tag).collect::<Vec<_>>(), [5]);
        assert_eq!(ring.len(), 1);
    }
}

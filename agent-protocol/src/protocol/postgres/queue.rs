//! What the client sent and the server has not answered yet, in order.

use super::sql::Script;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// A message that gets answers of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// StartupMessage.
    Login,
    Query,
    Parse,
    Bind,
    DescribeStatement,
    DescribePortal,
    Execute,
    CloseStatement,
    ClosePortal,
    Sync,
    FunctionCall,
    /// CopyDone or CopyFail: no answer, but the end of Syncs that count for nothing.
    CopyEnd,
    /// Messages are missing here.
    Hole,
}

impl Kind {
    /// Whether ReadyForQuery ends its answer.
    pub(super) fn ends_group(self) -> bool {
        matches!(self, Kind::Login | Kind::Query | Kind::Sync | Kind::FunctionCall)
    }

    /// Whether it asks for a statement to be run.
    pub(super) fn is_statement(self) -> bool {
        matches!(self, Kind::Query | Kind::Execute)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// When its first byte was seen.
    pub(super) start: u64,
    /// The text of Query and Parse, where it is known.
    pub(super) script: Option<Arc<Script>>,
    /// Flush came behind it: its answer may be waited for.
    pub(super) flushed: bool,
    /// Bytes of its names: portal or statement, and the statement of a Bind.
    names: (u16, u16),
}

/// Messages without an answer, at most.
const ENTRIES: usize = 65_536;

/// Bytes of their names, at most.
const NAMES: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: VecDeque<Entry>,
    /// The names of the entries, in order, from `names_from` on.
    names: Vec<u8>,
    names_from: usize,
}

/// An entry that was taken from the front, and where its names are until the next call.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) entry: Entry,
    first: Range<usize>,
    second: Range<usize>,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn front(&self) -> Option<&Entry> {
        self.entries.front()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// False where there is no room.
    pub(super) fn push(
        &mut self,
        kind: Kind,
        start: u64,
        script: Option<Arc<Script>>,
        names: (&[u8], &[u8]),
    ) -> bool {
        let (Ok(first), Ok(second)) = (u16::try_from(names.0.len()), u16::try_from(names.1.len())) else {
            return false;
        };
        if self.entries.len() >= ENTRIES || self.names.len() > NAMES {
            return false;
        }
        self.entries.push_back(Entry {
            kind,
            start,
            script,
            flushed: false,
            names: (first, second),
        });
        self.names.extend_from_slice(names.0);
        self.names.extend_from_slice(names.1);
        true
    }

    /// Flush was sent.
    pub(super) fn flush(&mut self) {
        let open = self.entries.iter_mut().rev().take_while(|entry| !entry.flushed);
        open.for_each(|entry| entry.flushed = true);
    }

    pub(super) fn pop(&mut self) -> Option<Taken> {
        // Memory of a burst is not held while idle.
        const KEEP: usize = 16;
        if self.entries.len() <= 1 && self.entries.capacity() > KEEP {
            self.entries.shrink_to(KEEP);
        }
        if self.names_from > 4096 && self.names_from * 2 > self.names.len() {
            self.names.drain(..self.names_from);
            self.names_from = 0;
        }
        let entry = self.entries.pop_front()?;
        let split = self.names_from + usize::from(entry.names.0);
        let end = split + usize::from(entry.names.1);
        let first = self.names_from..split;
        self.names_from = end;
        Some(Taken {
            entry,
            first,
            second: split..end,
        })
    }

    /// The names of what was taken last.
    pub(super) fn names(&self, taken: &Taken) -> (&[u8], &[u8]) {
        (
            self.names.get(taken.first.clone()).unwrap_or_default(),
            self.names.get(taken.second.clone()).unwrap_or_default(),
        )
    }

    /// Forgets the names of what was taken, where nothing is left.
    pub(super) fn settle(&mut self) {
        if self.entries.is_empty() {
            self.names.clear();
            self.names_from = 0;
            self.names.shrink_to(256);
        }
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.settle();
    }

    /// Drops the Syncs behind the first entry, up to the end of a copy, and that end. Returns how many Syncs
    /// went, and whether the end was there.
    pub(super) fn swallow_syncs(&mut self) -> (u64, bool) {
        let (mut gone, mut at) = (0, 1);
        while let Some(entry) = self.entries.get(at) {
            match entry.kind {
                Kind::Sync => {
                    self.entries.remove(at);
                    gone += 1;
                }
                Kind::CopyEnd => {
                    self.entries.remove(at);
                    return (gone, true);
                }
                _ => at += 1,
            }
        }
        (gone, false)
    }
}

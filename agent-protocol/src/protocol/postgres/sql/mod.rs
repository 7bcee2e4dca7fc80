//! Query strings: split into statements, without literals, summarised.
//!
//! Nothing of a literal or a comment gets into a [`Script`], so what leaves the protocol can be shown.

mod analyse;
mod commands;
mod lexer;
mod summary;

pub(super) use commands::command;

use hashbrown::DefaultHashBuilder;
use std::cell::RefCell;
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a query string that are looked at.
pub(super) const LOOKED_AT: usize = 64 << 10;

/// Bytes of a statement's text that are kept.
const TEXT: usize = 2 << 10;

/// Bytes of all the texts of a string that are kept.
const TEXTS: usize = 8 << 10;

/// Statements of a string whose text is kept.
const STATEMENTS: usize = 64;

/// Bytes of a summary (semantic conventions, "Generating a summary of the query").
const SUMMARY: usize = 255;

/// Bytes of a name that is more than a literal in disguise (`NAMEDATALEN`).
const NAME: usize = 63;

/// What a statement does to prepared statements.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Deallocates {
    Nothing,
    One(Box<str>),
    All,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    text: Range<usize>,
    operation: Option<&'static str>,
    /// In `Script::names`, as are the others; begins after `PREPARE `.
    summary: Range<usize>,
    collection: Option<Range<usize>>,
    deallocates: Deallocates,
}

/// A query string without its literals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Script {
    texts: String,
    names: String,
    entries: Vec<Entry>,
    /// How many statements there are, also beyond those kept; `None` where that could not be told.
    pub(super) count: Option<usize>,
    /// It names `standard_conforming_strings`, and may change how strings are read.
    pub(super) sets_strings: bool,
}

impl Script {
    /// Bytes of memory that it takes.
    pub(super) fn memory(&self) -> usize {
        size_of::<Script>() + self.texts.len() + self.names.len() + self.entries.len() * size_of::<Entry>()
    }
}

/// Before the summary of a statement that is prepared.
const PREPARE: &str = "PREPARE ";

/// A statement of a [`Script`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Statement<'a> {
    script: &'a Script,
    entry: &'a Entry,
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

impl<'a> Statement<'a> {
    pub(super) fn text(&self) -> Option<&'a str> {
        some(self.script.texts.get(self.entry.text.clone())?)
    }

    pub(super) fn operation(&self) -> Option<&'static str> {
        self.entry.operation
    }

    pub(super) fn summary(&self) -> Option<&'a str> {
        some(self.script.names.get(self.entry.summary.clone())?)
    }

    /// Summary of preparing it.
    pub(super) fn prepare_summary(&self) -> Option<&'a str> {
        let from = self.entry.summary.start.checked_sub(PREPARE.len())?;
        self.script
            .names
            .get(from..self.entry.summary.end)
            .map(str::trim_end)
    }

    pub(super) fn collection(&self) -> Option<&'a str> {
        self.script.names.get(self.entry.collection.clone()?)
    }

    /// Whether it drops prepared statements; the name of the only one, if there is.
    pub(super) fn deallocates(&self) -> Option<Option<&'a str>> {
        match &self.entry.deallocates {
            Deallocates::Nothing => None,
            Deallocates::One(name) => Some(Some(name)),
            Deallocates::All => Some(None),
        }
    }
}

impl Script {
    pub(super) fn statement(&self, index: usize) -> Option<Statement<'_>> {
        let entry = self.entries.get(index)?;
        Some(Statement { script: self, entry })
    }

    /// Whether any of its statements drops prepared ones.
    pub(super) fn deallocates(&self) -> bool {
        let kept = self.count.is_some_and(|count| count <= self.entries.len());
        !kept
            || self
                .entries
                .iter()
                .any(|entry| entry.deallocates != Deallocates::Nothing)
    }

    fn clear(&mut self) {
        self.texts.clear();
        self.names.clear();
        self.entries.clear();
        self.count = None;
        self.sets_strings = false;
    }
}

/// Slots of either table of the [`Cache`].
const SLOTS: usize = 512;

type Fingerprint = (u64, u64, usize);

/// Scripts seen lately by this thread, over all its connections: by the string they came from (its fingerprint,
/// for the string itself is not kept), and by what they are.
struct Cache {
    hashers: (DefaultHashBuilder, DefaultHashBuilder),
    by_source: Vec<Option<(Fingerprint, Arc<Script>)>>,
    by_content: Vec<Option<Arc<Script>>>,
    scratch: Script,
}

impl Cache {
    fn new() -> Cache {
        Cache {
            hashers: Default::default(),
            by_source: vec![None; SLOTS],
            by_content: vec![None; SLOTS],
            scratch: Script::default(),
        }
    }

    fn get(&mut self, text: &[u8], whole: bool, plain_backslash: bool) -> Arc<Script> {
        let mode = usize::from(whole) | usize::from(plain_backslash) << 1;
        let fingerprint = (
            self.hashers.0.hash_one(text),
            self.hashers.1.hash_one(text),
            text.len() << 2 | mode,
        );
        let slot = fingerprint.0 as usize % SLOTS;
        if let Some(Some((known, script))) = self.by_source.get(slot)
            && *known == fingerprint
        {
            return script.clone();
        }
        self.scratch.clear();
        analyse::analyse(text, whole, plain_backslash, &mut self.scratch);
        let content = self.hashers.0.hash_one(&self.scratch.texts) as usize % SLOTS;
        let script = match self.by_content.get(content) {
            Some(Some(script)) if **script == self.scratch => script.clone(),
            _ => Arc::new(self.scratch.clone()),
        };
        if let Some(entry) = self.by_content.get_mut(content) {
            *entry = Some(script.clone());
        }
        if let Some(entry) = self.by_source.get_mut(slot) {
            *entry = Some((fingerprint, script.clone()));
        }
        script
    }
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::new(Cache::new());
}

/// The script of a query string, or of its first [`LOOKED_AT`] bytes where it is not `whole`.
pub(super) fn script(text: &[u8], whole: bool, plain_backslash: bool) -> Arc<Script> {
    CACHE.with_borrow_mut(|cache| cache.get(text, whole, plain_backslash))
}

#[cfg(test)]
mod tests;

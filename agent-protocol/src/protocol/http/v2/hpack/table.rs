//! The static table (RFC 7541 Appendix A) and the dynamic table (§ 2.3.2).

use super::{Field, FieldName};
use std::collections::VecDeque;

/// Names and values of the static table; index 1 is the first.
pub(crate) const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// What an entry counts for beyond its name and value (§ 4.1).
const OVERHEAD: u64 = 32;

/// Table size before any update (RFC 9113 § 6.5.2).
const DEFAULT_SIZE: u32 = 4096;

/// How much of a table is kept; what is older becomes unknown.
const KEPT: u32 = 64 << 10;

/// The same for a table whose size is not known: more than nearly every encoder uses.
const KEPT_OF_UNKNOWN: u32 = 16 << 10;

/// Values of entries with an unknown name that are kept, as the name may be told later: up to so many bytes.
const SHORT: usize = 8;

/// Names from before we looked that are known nevertheless; the oldest is forgotten when one more comes.
const LEARNED: usize = 16;

/// Which entry of a table, before we looked or after: by how many were inserted since we look, less than none before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Id(i64);

impl Id {
    /// A number that no other entry has.
    pub(crate) fn number(self) -> u64 {
        self.0.cast_unsigned()
    }
}

/// A name.
#[derive(Debug, Clone)]
pub(super) enum Named<N> {
    Known(N),
    /// That of this entry, from before we looked.
    As(Id),
}

impl<N> Named<N> {
    /// The field of this name.
    pub(super) fn field(self, value: Option<&[u8]>) -> Field<'_, N> {
        match self {
            Named::Known(name) => Field::Known(name, value.unwrap_or_default()),
            Named::As(entry) => Field::Unnamed(entry, value),
        }
    }
}

/// An entry that was inserted while we looked.
#[derive(Debug)]
struct Entry<N> {
    name: Named<N>,
    /// 0 where the name is unknown.
    name_length: u32,
    value_length: u32,
    /// Where the value begins in the table's text, counted since ever, modulo 2^32.
    at: u32,
    /// Whether the value was kept.
    kept: bool,
}

impl<N> Entry<N> {
    /// Its size, or less where the name is unknown.
    fn size(&self) -> u64 {
        OVERHEAD + u64::from(self.name_length) + u64::from(self.value_length)
    }
}

/// What an index refers to.
pub(super) enum Found<'a, N> {
    /// An entry with this name of this length, and its value, as far as that was kept.
    Entry(Named<N>, u32, Option<&'a [u8]>),
    /// An entry from before we looked.
    Unknown(Id),
    /// Nothing, provably.
    Nothing,
}

/// The dynamic table as far as it is known.
///
/// The real table is always made of the newest of all entries ever inserted, in this order: eviction takes the
/// oldest, and an entry that is too big evicts all. So the n-th newest that we saw inserted is the n-th of the
/// table if the table has so many, whatever its size is; keeping too many does no harm, and only references past
/// those we saw are unknown.
#[derive(Debug)]
pub(super) struct Table<N> {
    /// Newest first.
    entries: VecDeque<Entry<N>>,
    /// Values of the entries, oldest first.
    text: Vec<u8>,
    /// Position of `text[0]`.
    base: u32,
    /// Sum of the sizes of `entries`, or less.
    size: u64,
    /// `None` where it was set before we looked.
    max_size: Option<u32>,
    /// There is nothing beyond `entries`.
    complete: bool,
    /// How many entries were inserted since we look.
    inserted: i64,
    learned: VecDeque<(Id, N)>,
}

impl<N: FieldName> Table<N> {
    /// The table at the beginning of a connection.
    pub(super) fn fresh() -> Table<N> {
        Table {
            max_size: Some(DEFAULT_SIZE),
            complete: true,
            ..Table::unknown()
        }
    }

    /// A table of which nothing is known.
    pub(super) fn unknown() -> Table<N> {
        Table {
            entries: VecDeque::new(),
            text: Vec::new(),
            base: 0,
            size: 0,
            max_size: None,
            complete: false,
            inserted: 0,
            learned: VecDeque::new(),
        }
    }

    /// The name of this entry from before we looked, where it was told.
    pub(super) fn name(&self, of: Id) -> Named<N> {
        let learned = self.learned.iter().find(|(id, _)| *id == of);
        learned.map_or(Named::As(of), |(_, name)| Named::Known(name.clone()))
    }

    /// The name of this entry from before we looked is `name`.
    pub(super) fn learn(&mut self, of: Id, name: &N) {
        if self.learned.iter().any(|(id, _)| *id == of) {
            return;
        }
        for entry in &mut self.entries {
            if matches!(entry.name, Named::As(id) if id == of) && entry.kept {
                entry.name = Named::Known(name.clone());
            }
        }
        if self.learned.len() == LEARNED {
            self.learned.pop_front();
        }
        self.learned.push_back((of, name.clone()));
    }

    pub(super) fn get(&self, index: u32) -> Found<'_, N> {
        let Some(index) = (index as usize).checked_sub(1) else {
            return Found::Nothing;
        };
        if let Some((_, value)) = STATIC.get(index) {
            let name = Named::Known(N::of_static(index));
            return Found::Entry(name, STATIC[index].0.len() as u32, Some(value.as_bytes()));
        }
        let index = index - STATIC.len();
        match self.entries.get(index) {
            Some(entry) => Found::Entry(entry.name.clone(), entry.name_length, self.value(entry)),
            None if self.complete => Found::Nothing,
            None => Found::Unknown(Id(self.inserted - 1 - index as i64)),
        }
    }

    fn value(&self, entry: &Entry<N>) -> Option<&[u8]> {
        let at = entry.at.wrapping_sub(self.base) as usize;
        let value = self.text.get(at..at + entry.value_length as usize);
        value.filter(|_| entry.kept)
    }

    /// Inserts an entry (§ 4.4); `value` is `None` where only its length is of interest.
    pub(super) fn insert(
        &mut self,
        name: Named<N>,
        name_length: u32,
        value_length: u32,
        value: Option<&[u8]>,
    ) {
        let value = value.filter(|value| matches!(name, Named::Known(_)) || value.len() <= SHORT);
        self.inserted += 1;
        let entry = Entry {
            name,
            name_length,
            value_length,
            at: self.base.wrapping_add(self.text.len() as u32),
            kept: value.is_some(),
        };
        self.size += entry.size();
        self.entries.push_front(entry);
        self.text.extend_from_slice(value.unwrap_or_default());
        self.evict();
    }

    /// A dynamic table size update (§ 6.3).
    pub(super) fn resize(&mut self, max_size: u32) {
        self.max_size = Some(max_size);
        self.complete |= u64::from(max_size) < OVERHEAD;
        self.evict();
    }

    fn evict(&mut self) {
        let limit = self.max_size.unwrap_or(KEPT_OF_UNKNOWN).min(KEPT);
        while self.size > u64::from(limit)
            && let Some(entry) = self.entries.pop_back()
        {
            self.size -= entry.size();
            // Gone from the real table, with all before it, or only from ours.
            self.complete = self.max_size == Some(limit);
        }
        let start = match self.entries.back() {
            Some(oldest) => oldest.at.wrapping_sub(self.base) as usize,
            None => self.text.len(),
        };
        if start > 256 && start * 2 > self.text.len() || start == self.text.len() {
            self.text.drain(..start);
            self.base = self.base.wrapping_add(start as u32);
        }
    }
}

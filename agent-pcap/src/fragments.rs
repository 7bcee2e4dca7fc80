//! IP fragments, put together in bounded memory.

use crate::packet::{Datagram, Fragment, Segment};
use hashbrown::HashMap;

/// Datagrams that wait for fragments.
const DATAGRAMS: usize = 256;

/// Bytes of fragments that wait for others.
const BYTES: usize = 4 << 20;

/// How long they wait, in nanoseconds (Linux: `net.ipv4.ipfrag_time`, 30 s).
const PATIENCE: u64 = 30_000_000_000;

/// Fragments of one datagram; TCP over any real link needs a few.
const PIECES: usize = 128;

/// The longest payload of a datagram that can be fragmented.
const LONGEST: u32 = 65_535;

#[derive(Default)]
struct Assembly {
    created: u64,
    /// What is there, in order, without overlaps.
    pieces: Vec<Piece>,
    /// The bytes of the pieces, in the order in which they came.
    bytes: Vec<u8>,
    /// How long the datagram is, once its last fragment is there.
    length: Option<u32>,
    /// Fragments overlapped: none of it can be trusted (RFC 5722), nor what comes later.
    refused: bool,
}

/// `[from, to)` of a datagram, held at `at`.
#[derive(Debug, Clone, Copy)]
struct Piece {
    from: u32,
    to: u32,
    at: usize,
}

/// Fragments that wait for others.
#[derive(Default)]
pub(crate) struct Fragments {
    table: HashMap<Datagram, Assembly>,
    bytes: usize,
    /// Fragments of datagrams that were given up.
    pub(crate) lost: u64,
}

impl Fragments {
    /// Takes a fragment seen at `now`. Returns the datagram's payload when it is whole.
    pub(crate) fn add(&mut self, fragment: &Fragment<'_>, now: u64) -> Option<Vec<u8>> {
        let end = fragment.offset.checked_add(fragment.length)?;
        let cut_off = fragment.bytes.len() < fragment.length as usize;
        let odd = fragment.more && !fragment.length.is_multiple_of(8);
        if cut_off || odd || fragment.length == 0 || end > LONGEST {
            self.lost += 1;
            return None;
        }
        if !self.table.contains_key(&fragment.datagram) {
            self.make_room(now);
            let assembly = Assembly {
                created: now,
                ..Assembly::default()
            };
            self.table.insert(fragment.datagram, assembly);
        }
        let assembly = self.table.get_mut(&fragment.datagram)?;
        if assembly.refused {
            self.lost += 1;
            return None;
        }
        let held = assembly.bytes.len();
        match assembly.add(fragment, end) {
            Ok(()) => self.bytes += assembly.bytes.len() - held,
            Err(Overlap) => {
                self.lost += assembly.pieces.len() as u64 + 1;
                self.bytes -= held;
                *assembly = Assembly {
                    created: assembly.created,
                    refused: true,
                    ..Assembly::default()
                };
                return None;
            }
        }
        if !assembly.is_whole() {
            return None;
        }
        let whole = self.table.remove(&fragment.datagram)?;
        self.bytes -= whole.bytes.len();
        Some(whole.in_order())
    }

    /// Gives up everything.
    pub(crate) fn finish(&mut self) {
        let lost: usize = self
            .table
            .drain()
            .map(|(_, assembly)| assembly.pieces.len())
            .sum();
        self.lost += lost as u64;
        self.bytes = 0;
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.table.values().map(|assembly| assembly.bytes.len()).sum()
    }

    fn make_room(&mut self, now: u64) {
        let (bytes, lost) = (&mut self.bytes, &mut self.lost);
        self.table.retain(|_, assembly| {
            let keep = now < assembly.created.saturating_add(PATIENCE);
            if !keep {
                *bytes -= assembly.bytes.len();
                *lost += assembly.pieces.len() as u64;
            }
            keep
        });
        while self.table.len() >= DATAGRAMS || self.bytes > BYTES {
            let oldest = self.table.iter().min_by_key(|(_, assembly)| assembly.created);
            let Some((&oldest, _)) = oldest else { return };
            if let Some(assembly) = self.table.remove(&oldest) {
                self.bytes -= assembly.bytes.len();
                self.lost += assembly.pieces.len() as u64;
            }
        }
    }
}

/// A fragment contradicts others.
struct Overlap;

impl Assembly {
    fn add(&mut self, fragment: &Fragment<'_>, end: u32) -> Result<(), Overlap> {
        let at = self.pieces.partition_point(|piece| piece.from < fragment.offset);
        let (before, after) = self.pieces.split_at(at);
        if let Some(piece) = after.first()
            && (piece.from, piece.to) == (fragment.offset, end)
        {
            // The same once more is no contradiction, if it is the same.
            return match self.of(piece) == fragment.bytes {
                true => Ok(()),
                false => Err(Overlap),
            };
        }
        let overlaps = before.last().is_some_and(|piece| piece.to > fragment.offset)
            || after.first().is_some_and(|piece| piece.from < end);
        let behind = |length| end > length || (!fragment.more && end != length);
        let last = self.pieces.last().map_or(0, |piece| piece.to);
        let contradicts = self.length.is_some_and(behind) || (!fragment.more && last > end);
        if overlaps || contradicts || self.pieces.len() >= PIECES {
            return Err(Overlap);
        }
        if !fragment.more {
            self.length = Some(end);
        }
        let piece = Piece {
            from: fragment.offset,
            to: end,
            at: self.bytes.len(),
        };
        self.pieces.insert(at, piece);
        self.bytes.extend_from_slice(fragment.bytes);
        Ok(())
    }

    fn of(&self, piece: &Piece) -> &[u8] {
        let length = (piece.to - piece.from) as usize;
        self.bytes.get(piece.at..piece.at + length).unwrap_or_default()
    }

    fn is_whole(&self) -> bool {
        self.length == Some(self.bytes.len() as u32)
    }

    fn in_order(&self) -> Vec<u8> {
        let pieces = self.pieces.iter().map(|piece| self.of(piece));
        pieces.collect::<Vec<_>>().concat()
    }
}

/// Whether the checksum of `segment`, the last `n` bytes of `datagram`, is right (RFC 9293 § 3.1): identifications
/// of datagrams come again soon (RFC 4963), so fragments of different ones can meet.
pub(crate) fn is_checksum_right(segment: &Segment<'_>, datagram: &[u8]) -> bool {
    fn sum(bytes: &[u8]) -> u64 {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let last = rest.first().map_or(0, |byte| u64::from(*byte) << 8);
        let pairs = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair)));
        pairs.sum::<u64>() + last
    }
    let length = segment.header_length as usize + segment.bytes.len();
    let start = datagram.len().saturating_sub(length);
    let bytes = datagram.get(start..).unwrap_or_default();
    // The prefix of IPv4 addresses that are mapped into IPv6 adds 0xffff, which is nothing in this sum.
    let (source, destination) = (segment.source.address, segment.destination.address);
    let mut total = sum(&source.to_be_bytes()) + sum(&destination.to_be_bytes()) + 6;
    total += bytes.len() as u64 + sum(bytes);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total == 0xffff
}

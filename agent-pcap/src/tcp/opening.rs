//! Whose a segment is, and how its connection begins.

use crate::packet::{ACK, End, SYN, Segment};
use redwire_protocol::connection::Opener;

/// Both ends in order of their addresses: the same for both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(super) low: End,
    pub(super) high: End,
}

impl Key {
    pub(crate) fn of(segment: &Segment<'_>) -> Key {
        let (a, b) = (segment.source, segment.destination);
        Key {
            low: a.min(b),
            high: a.max(b),
        }
    }
}

/// How a connection begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(super) local: End,
    pub(super) opener: Opener,
    pub(super) origin: Option<u32>,
}

impl Opening {
    /// As the first segment seen has it. The SYN or the SYN-ACK tells who opened it.
    pub(crate) fn of(segment: &Segment<'_>) -> Opening {
        let (local, opener, origin) = match (segment.has(SYN), segment.has(ACK)) {
            (true, false) => (
                segment.source,
                Opener::Local,
                Some(segment.sequence.wrapping_add(1)),
            ),
            (true, true) => (segment.destination, Opener::Local, Some(segment.acknowledgement)),
            _ => (segment.source, Opener::Unknown, None),
        };
        Opening {
            local,
            opener,
            origin,
        }
    }

    /// Whether the beginning was seen.
    pub(crate) fn is_known(&self) -> bool {
        self.origin.is_some()
    }
}

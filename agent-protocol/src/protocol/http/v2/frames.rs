//! Frames (RFC 9113 § 4 and § 6).

use crate::protocol::Flow;

/// What a client sends first (§ 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame header.
pub(super) const HEADER: usize = 9;

/// Frame types (§ 11.2 of RFC 7540, unchanged).
pub(super) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PUSH_PROMISE: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// Frame flags.
pub(super) mod flag {
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// A frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of payload.
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// Without the reserved bit.
    pub(super) stream: u32,
}

impl Header {
    pub(super) fn parse(bytes: &[u8]) -> Option<Header> {
        let &[a, b, c, kind, flags, d, e, f, g, ..] = bytes else {
            return None;
        };
        Some(Header {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            stream: u32::from_be_bytes([d, e, f, g]) & 0x7fff_ffff,
        })
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Header and payload, in bytes.
    pub(super) fn whole(&self) -> usize {
        HEADER + self.length as usize
    }

    /// Whether the frame carries a part of a header block.
    pub(super) fn has_fields(&self) -> bool {
        matches!(self.kind, kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION)
    }

    /// Whether none of the rules of § 6 is broken whose breach is an error of the connection.
    pub(super) fn is_legal(&self, flow: Flow) -> bool {
        let on_stream = self.stream != 0;
        match self.kind {
            kind::DATA | kind::HEADERS | kind::PRIORITY | kind::CONTINUATION => on_stream,
            kind::RST_STREAM => on_stream && self.length == 4,
            kind::SETTINGS if self.has(flag::ACK) => !on_stream && self.length == 0,
            kind::SETTINGS => !on_stream && self.length.is_multiple_of(6),
            kind::PUSH_PROMISE => on_stream && flow == Flow::ToClient,
            kind::PING => !on_stream && self.length == 8,
            kind::GOAWAY => !on_stream && self.length >= 8,
            kind::WINDOW_UPDATE => self.length == 4,
            _ => true,
        }
    }
}

/// The part of a header block in the payload of a HEADERS, PUSH_PROMISE or CONTINUATION frame, without padding
/// and what comes before it. `None` where the payload is too short for that.
pub(super) fn fragment<'a>(header: &Header, payload: &'a [u8]) -> Option<&'a [u8]> {
    if header.kind == kind::CONTINUATION {
        return Some(payload);
    }
    let mut fragment = payload;
    let mut padding = 0;
    if header.has(flag::PADDED) {
        let (&length, rest) = fragment.split_first()?;
        (padding, fragment) = (usize::from(length), rest);
    }
    let before = match header.kind {
        kind::PUSH_PROMISE => 4,
        _ if header.has(flag::PRIORITY) => 5,
        _ => 0,
    };
    let fragment = fragment.get(before..)?;
    fragment.get(..fragment.len().checked_sub(padding)?)
}

/// The settings of a SETTINGS frame's payload (§ 6.5.1).
pub(super) fn settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> + '_ {
    payload
        .as_chunks::<6>()
        .0
        .iter()
        .map(|&[a, b, c, d, e, f]| (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f])))
}

/// A number of four bytes at `at`, without its highest bit where `mask` says so.
pub(super) fn number(payload: &[u8], at: usize) -> Option<u32> {
    let bytes = payload.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_be_bytes(bytes))
}

/// The name of an error code (§ 7).
pub(super) fn error_name(code: u32) -> &'static str {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    NAMES.get(code as usize).copied().unwrap_or("_OTHER")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(length: u32, kind: u8, flags: u8, stream: u32) -> Header {
        Header {
            length,
            kind,
            flags,
            stream,
        }
    }

    #[test]
    fn a_header_and_its_reserved_bit() {
        let bytes = [0, 0x40, 1, 1, 0x25, 0x80, 0, 0, 7, 0xff];
        assert_eq!(
            Header::parse(&bytes),
            Some(header(0x4001, kind::HEADERS, 0x25, 7))
        );
        assert_eq!(Header::parse(&bytes[..8]), None);
    }

    #[test]
    fn padding_and_priority() {
        let padded = header(8, kind::HEADERS, flag::PADDED | flag::PRIORITY, 1);
        assert_eq!(
            fragment(&padded, &[1, 0, 0, 0, 0, 16, 0x82, 0]),
            Some(&[0x82][..])
        );
        assert_eq!(fragment(&padded, &[2, 0, 0, 0, 0, 16, 0x82, 0]), Some(&[][..]));
        assert_eq!(fragment(&padded, &[3, 0, 0, 0, 0, 16, 0x82, 0]), None);
        assert_eq!(fragment(&padded, &[0, 0, 0]), None);
        let promise = header(6, kind::PUSH_PROMISE, 0, 1);
        assert_eq!(
            fragment(&promise, &[0, 0, 0, 2, 0x82, 0x84]),
            Some(&[0x82, 0x84][..])
        );
        let continuation = header(2, kind::CONTINUATION, flag::PADDED, 1);
        assert_eq!(fragment(&continuation, &[0x82, 0x84]), Some(&[0x82, 0x84][..]));
    }

    #[test]
    fn errors_of_the_connection() {
        use Flow::{ToClient, ToServer};
        for (frame, flow) in [
            (header(0, kind::DATA, 0, 0), ToServer),
            (header(0, kind::HEADERS, 0, 0), ToServer),
            (header(5, kind::RST_STREAM, 0, 1), ToServer),
            (header(4, kind::RST_STREAM, 0, 0), ToServer),
            (header(6, kind::SETTINGS, 0, 1), ToServer),
            (header(5, kind::SETTINGS, 0, 0), ToServer),
            (header(6, kind::SETTINGS, flag::ACK, 0), ToServer),
            (header(8, kind::PUSH_PROMISE, 0, 1), ToServer),
            (header(7, kind::PING, 0, 0), ToClient),
            (header(8, kind::PING, 0, 3), ToClient),
            (header(7, kind::GOAWAY, 0, 0), ToClient),
            (header(5, kind::WINDOW_UPDATE, 0, 0), ToClient),
        ] {
            assert!(!frame.is_legal(flow), "{frame:?}");
        }
        assert!(header(8, kind::PUSH_PROMISE, 0, 1).is_legal(ToClient));
        assert!(header(100, 0xfe, 0xff, 0).is_legal(ToServer));
    }
}

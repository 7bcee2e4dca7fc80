//! Where frames begin, in a flow that was joined in the middle or after a gap.
//!
//! The bytes at a place are taken for frames if enough of them in a row could be frames of a well-behaved peer:
//! known types, no flags but those defined, lengths and streams as they must be, header blocks that decode to
//! names and values as they must be. At the beginning of a chunk, where peers begin to write, less is enough than
//! elsewhere.

use super::frames::{self, HEADER, Header, PREFACE, flag, kind};
use super::hpack::{Decoder, Field, FieldName};
use crate::protocol::Flow;

/// What the bytes at a place are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Something else.
    No,
    /// More bytes are needed to tell.
    Maybe,
    /// Frames of this flow, where they show it.
    Frames(Option<Flow>),
}

/// How far frames are looked for before a place is given up: two of the largest frames by default.
const WINDOW: usize = 34 << 10;

/// The largest frame that is taken for one, SETTINGS_MAX_FRAME_SIZE's initial value.
const LONGEST: u32 = 1 << 14;

/// Weight that is enough at the beginning of a chunk, and elsewhere.
const ENOUGH: u32 = 3;
const ENOUGH_ELSEWHERE: u32 = 7;

/// Weight with which what comes after is not looked at any more.
const AMPLE: u32 = 24;

/// Judges `bytes`, to which more may be added. `chunk`: a chunk begins here, and ends with the bytes.
pub(super) fn judge(bytes: &[u8], chunk: bool, flow: Option<Flow>) -> Verdict {
    let enough = if chunk { ENOUGH } else { ENOUGH_ELSEWHERE };
    let (mut at, mut weight, mut shown) = (0, 0, flow);
    let mut decoder = Decoder::<StrictName>::unknown();
    let mut ended = Ended::default();
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(header) = Header::parse(rest) else {
            // A chunk that ends with a frame.
            weight += u32::from(chunk && rest.is_empty() && at > 0);
            let possible = rest.first().is_none_or(|&length| length == 0);
            return match possible {
                true if weight >= enough => Verdict::Frames(shown),
                true => Verdict::Maybe,
                false => Verdict::No,
            };
        };
        if !is_plausible(&header, rest, shown)
            || at == 0 && is_no_begin(&header, chunk)
            || !ended.allows(&header)
        {
            return Verdict::No;
        }
        let Some(payload) = rest.get(HEADER..header.whole()) else {
            return match weight >= enough {
                true => Verdict::Frames(shown),
                false if bytes.len() > WINDOW => Verdict::No,
                false => Verdict::Maybe,
            };
        };
        let Some((more, side)) = weigh(&header, payload, &mut decoder) else {
            return Verdict::No;
        };
        if side.is_some() && shown.is_some() && side != shown {
            return Verdict::No;
        }
        shown = shown.or(side);
        weight += more;
        if weight >= AMPLE && shown.is_some() {
            return Verdict::Frames(shown);
        }
        at += header.whole();
        if at > WINDOW {
            return if weight >= enough {
                Verdict::Frames(shown)
            } else {
                Verdict::No
            };
        }
    }
}

/// Frames that nothing is begun with: a piece of a block, and, but where a chunk begins, DATA of no length. The zeros of
/// padding, or a gRPC message's prefix, are such a frame in front of a real one easily.
fn is_no_begin(header: &Header, chunk: bool) -> bool {
    match header.kind {
        kind::CONTINUATION => true,
        kind::DATA => header.length == 0 && !chunk,
        _ => false,
    }
}

/// The streams that ended last, on which no more content or fields may come (RFC 9113 § 5.1).
#[derive(Debug, Default)]
struct Ended {
    streams: [u32; 8],
    next: usize,
}

impl Ended {
    fn allows(&mut self, header: &Header) -> bool {
        if !matches!(header.kind, kind::DATA | kind::HEADERS) {
            return true;
        }
        if self.streams.contains(&header.stream) {
            return false;
        }
        if header.has(flag::END_STREAM) {
            self.streams[self.next % self.streams.len()] = header.stream;
            self.next += 1;
        }
        true
    }
}

/// Whether the preface begins here.
pub(super) fn is_preface(bytes: &[u8]) -> Verdict {
    let n = bytes.len().min(PREFACE.len());
    match bytes[..n] == PREFACE[..n] {
        false => Verdict::No,
        true if n < PREFACE.len() => Verdict::Maybe,
        true => Verdict::Frames(Some(Flow::ToServer)),
    }
}

/// Whether a well-behaved peer would send this frame header.
fn is_plausible(header: &Header, bytes: &[u8], flow: Option<Flow>) -> bool {
    let flags = match header.kind {
        kind::DATA => flag::END_STREAM | flag::PADDED,
        kind::HEADERS => flag::END_STREAM | flag::END_HEADERS | flag::PADDED | flag::PRIORITY,
        kind::SETTINGS | kind::PING => flag::ACK,
        kind::PUSH_PROMISE => flag::END_HEADERS | flag::PADDED,
        kind::CONTINUATION => flag::END_HEADERS,
        _ => 0,
    };
    let reserved = bytes.get(5).is_some_and(|byte| byte & 0x80 != 0);
    let by_client = header.stream % 2 == 1;
    header.length <= LONGEST
        && header.kind <= kind::CONTINUATION
        && header.flags & !flags == 0
        && !reserved
        && header.is_legal(flow.unwrap_or(Flow::ToClient))
        && (header.kind != kind::PRIORITY || header.length == 5)
        && (header.kind != kind::SETTINGS || header.length <= 6 * 16)
        && match header.kind {
            kind::DATA | kind::HEADERS => by_client || flow != Some(Flow::ToServer),
            kind::PUSH_PROMISE => by_client,
            _ => true,
        }
}

/// How much a whole frame weighs, and which flow it shows. `None` where no well-behaved peer would send it.
fn weigh(header: &Header, payload: &[u8], decoder: &mut Decoder<StrictName>) -> Option<(u32, Option<Flow>)> {
    let number = |at| frames::number(payload, at);
    match header.kind {
        kind::DATA => {
            let padding = if header.has(flag::PADDED) {
                *payload.first()?
            } else {
                0
            };
            (header.length > u32::from(padding) || !header.has(flag::PADDED)).then_some((1, None))
        }
        kind::HEADERS | kind::PUSH_PROMISE if header.has(flag::END_HEADERS) => {
            let shown = fields(frames::fragment(header, payload)?, decoder)?;
            let shown = match header.kind {
                kind::PUSH_PROMISE => shown.and(Some(Flow::ToClient)),
                _ => shown,
            };
            Some((if shown.is_some() { 3 } else { 1 }, shown))
        }
        // Not looked into: its block is in pieces.
        kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION => {
            frames::fragment(header, payload).map(|_| (0, None))
        }
        kind::WINDOW_UPDATE => (1..=0x7fff_ffff).contains(&number(0)?).then_some((2, None)),
        kind::RST_STREAM => (number(0)? <= 0xd).then_some((2, None)),
        kind::GOAWAY => (number(0)? <= 0x7fff_ffff && number(4)? <= 0xd).then_some((2, None)),
        kind::SETTINGS => {
            // Any that is not known has to be ignored (§ 6.5.2), and shows nothing.
            let (mut valid, mut known) = (true, payload.is_empty());
            for (id, value) in frames::settings(payload) {
                known |= (1..=16).contains(&id);
                valid &= match id {
                    2 | 8 => value <= 1,
                    4 => value <= 0x7fff_ffff,
                    5 => (1 << 14..1 << 24).contains(&value),
                    _ => true,
                };
            }
            valid.then_some((if known { 2 } else { 1 }, None))
        }
        _ => Some((2, None)),
    }
}

/// The flow that a header block shows by its pseudo-header fields; `None` inside where it has none that is known.
fn fields(block: &[u8], decoder: &mut Decoder<StrictName>) -> Option<Option<Flow>> {
    let (mut shown, mut regular, mut valid) = (None, false, true);
    let decoded = decoder.decode(block, &mut Vec::new(), |field| match field {
        Field::Old(_) | Field::Unnamed(..) | Field::Beyond => {}
        Field::Known(StrictName::Pseudo(flow), value) => {
            valid &= !regular && shown.is_none_or(|shown| shown == flow) && is_value(value);
            shown = Some(flow);
        }
        Field::Known(StrictName::Regular, value) => {
            regular = true;
            valid &= is_value(value);
        }
        Field::Known(StrictName::Invalid, _) => valid = false,
    });
    (decoded.is_ok() && valid).then_some(shown)
}

/// Whether RFC 9110 § 5.5 allows it as a field value.
fn is_value(value: &[u8]) -> bool {
    value
        .iter()
        .all(|&byte| byte >= b' ' && byte != 0x7f || byte == b'\t')
}

/// A field name by what it says of the block.
#[derive(Debug, Clone, Copy)]
enum StrictName {
    /// Of messages in this flow.
    Pseudo(Flow),
    Regular,
    /// RFC 9113 § 8.2.1.
    Invalid,
}

impl FieldName for StrictName {
    fn of(name: &[u8]) -> StrictName {
        match name {
            b":method" | b":path" | b":scheme" | b":authority" | b":protocol" => {
                StrictName::Pseudo(Flow::ToServer)
            }
            b":status" => StrictName::Pseudo(Flow::ToClient),
            _ => {
                let is_tchar = |&byte: &u8| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
                };
                if !name.is_empty() && name.iter().all(is_tchar) {
                    StrictName::Regular
                } else {
                    StrictName::Invalid
                }
            }
        }
    }

    fn is_needed(&self) -> bool {
        true
    }
}

//! The messages of the frontend/backend protocol, versions 3.0 and 3.2 (manual, chapter "Frontend/Backend
//! Protocol", § "Message Formats").

use crate::protocol::{Detection, Flow};

/// Type and length of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u8,
    /// All of it, type byte and length included.
    pub(super) length: u64,
}

/// Bytes of a [`Header`].
pub(super) const HEADER: usize = 5;

/// The longest message that a server takes (`PQ_LARGE_MESSAGE_LIMIT`).
const LONGEST: u32 = 0x3fff_fffe;

/// The longest message that is believed where a message is not proved to begin.
const BELIEVED: u64 = 16 << 20;

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(field.try_into().ok()?))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(field.try_into().ok()?))
}

/// The header at the start of `bytes`, which are [`HEADER`] at least; `None` where it cannot be one of `flow`.
pub(super) fn header(bytes: &[u8], flow: Flow) -> Option<Header> {
    let kind = *bytes.first()?;
    let length = u32_at(bytes, 1)?;
    let body = length.checked_sub(4)?;
    let valid = match (flow, kind) {
        (Flow::ToServer, b'Q') => body >= 1,
        (Flow::ToServer, b'P') => body >= 4,
        (Flow::ToServer, b'B') => body >= 8,
        (Flow::ToServer, b'D' | b'C') => (2..10_000).contains(&body),
        (Flow::ToServer, b'E') => (5..10_000).contains(&body),
        (Flow::ToServer, b'S' | b'H' | b'X' | b'c') => body == 0,
        (Flow::ToServer, b'F') => body >= 10,
        (Flow::ToServer, b'f') => body >= 1,
        (Flow::ToServer, b'd' | b'p') => true,
        (Flow::ToClient, b'Z') => body == 1,
        (Flow::ToClient, b'1' | b'2' | b'3' | b'n' | b's' | b'I' | b'c') => body == 0,
        (Flow::ToClient, b'C') => (2..1024).contains(&body),
        (Flow::ToClient, b'E' | b'N') => (1..MESSAGE).contains(&body),
        (Flow::ToClient, b'R') => (4..65_536).contains(&body),
        (Flow::ToClient, b'S' | b'A') => (2..65_536).contains(&body),
        (Flow::ToClient, b'K') => (8..=260).contains(&body),
        (Flow::ToClient, b'v') => (8..65_536).contains(&body),
        (Flow::ToClient, b'T' | b'D' | b't') => body >= 2,
        (Flow::ToClient, b'G' | b'H' | b'W') => body >= 3,
        (Flow::ToClient, b'V') => body >= 4,
        (Flow::ToClient, b'd') => true,
        _ => false,
    };
    (valid && length <= LONGEST).then_some(Header {
        kind,
        length: u64::from(length) + 1,
    })
}

/// The longest ErrorResponse that is read.
const MESSAGE: u32 = 128 << 10;

/// A string up to its NUL, and what is behind it.
fn c_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((bytes.get(..end)?, bytes.get(end + 1..)?))
}

/// The two strings that Bind (portal, statement) and Parse (statement, query) begin with.
pub(super) fn two_strings(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = c_string(body)?;
    Some((first, c_string(rest)?.0))
}

/// The name that Parse begins with, and what is there of its query.
pub(super) fn name_and_rest(body: &[u8]) -> Option<(&[u8], &[u8])> {
    c_string(body)
}

/// The string that Execute (portal) begins with.
pub(super) fn one_string(body: &[u8]) -> Option<&[u8]> {
    Some(c_string(body)?.0)
}

/// What Describe and Close are about: `S`tatement or `P`ortal, and its name.
pub(super) fn subject(body: &[u8]) -> Option<(u8, &[u8])> {
    let (&kind, rest) = body.split_first()?;
    matches!(kind, b'S' | b'P').then_some((kind, one_string(rest)?))
}

/// Fields of an ErrorResponse.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Failure {
    /// SQLSTATE.
    pub(super) code: Option<[u8; 5]>,
}

impl Failure {
    /// SQLSTATE as text.
    pub(super) fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(self.code.as_ref()?).ok()
    }
}

/// Reads an ErrorResponse.
pub(super) fn failure(mut body: &[u8]) -> Failure {
    let mut failure = Failure::default();
    while let Some((&field, rest)) = body.split_first()
        && field != 0
        && let Some((value, rest)) = c_string(rest)
    {
        if field == b'C'
            && let Ok(code) = <[u8; 5]>::try_from(value)
            && code
                .iter()
                .all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
        {
            failure.code = Some(code);
        }
        body = rest;
    }
    failure
}

/// A command tag: its first word, whether there is only that one, and its last number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag<'a> {
    pub(super) text: &'a str,
    pub(super) verb: &'a str,
    pub(super) rows: Option<u64>,
}

/// Reads a CommandComplete.
pub(super) fn tag(body: &[u8]) -> Option<Tag<'_>> {
    let text = std::str::from_utf8(one_string(body)?).ok()?;
    let mut words = text.split(' ');
    let verb = words.next().filter(|verb| {
        !verb.is_empty() && verb.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    })?;
    let rows = words.next_back().and_then(|word| word.parse().ok());
    Some(Tag { text, verb, rows })
}

/// The name and value of a ParameterStatus.
pub(super) fn parameter(body: &[u8]) -> Option<(&[u8], &[u8])> {
    two_strings(body)
}

/// What a client says before anything else; these have no type byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Startup<'a> {
    /// SSLRequest or GSSENCRequest.
    Encryption,
    /// CancelRequest.
    Cancel,
    /// StartupMessage.
    Session {
        user: Option<&'a [u8]>,
        database: Option<&'a [u8]>,
        replication: bool,
    },
}

/// What the start of a connection is, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening<'a> {
    Complete(Startup<'a>, usize),
    Incomplete,
    Invalid,
}

/// The longest StartupMessage (`MAX_STARTUP_PACKET_LENGTH`).
const STARTUP: usize = 10_000;

/// Reads what a connection begins with.
pub(super) fn opening(bytes: &[u8]) -> Opening<'_> {
    let (Some(length), code) = (u32_at(bytes, 0), u32_at(bytes, 4)) else {
        // The first two bytes of a length within bounds.
        let begins = bytes.iter().take(2).all(|&byte| byte == 0);
        return if begins {
            Opening::Incomplete
        } else {
            Opening::Invalid
        };
    };
    let length = length as usize;
    if !(8..=STARTUP).contains(&length) {
        return Opening::Invalid;
    }
    let Some(code) = code else {
        return Opening::Incomplete;
    };
    let complete = bytes.get(8..length);
    let startup = match (code >> 16, code & 0xffff) {
        (1234, 5679 | 5680) if length == 8 => Startup::Encryption,
        (1234, 5678) if (16..=268).contains(&length) => match complete {
            Some(_) => Startup::Cancel,
            None => return Opening::Incomplete,
        },
        (3, _) => match complete.map(session) {
            Some(Some(session)) => session,
            Some(None) => return Opening::Invalid,
            None => return Opening::Incomplete,
        },
        _ => return Opening::Invalid,
    };
    Opening::Complete(startup, length)
}

/// Reads the parameters of a StartupMessage.
fn session(mut body: &[u8]) -> Option<Startup<'_>> {
    let (mut user, mut database, mut replication) = (None, None, false);
    loop {
        let (name, rest) = c_string(body)?;
        if name.is_empty() {
            return rest.is_empty().then_some(Startup::Session {
                user,
                database: database.or(user),
                replication,
            });
        }
        let (value, rest) = c_string(rest)?;
        match name {
            b"user" => user = Some(value),
            b"database" if !value.is_empty() => database = Some(value),
            // A boolean as in `parse_bool`, or `database`.
            b"replication" => {
                replication = !matches!(
                    value.to_ascii_lowercase().as_slice(),
                    b"false" | b"off" | b"no" | b"0" | b"f" | b"n"
                );
            }
            _ => {}
        }
        body = rest;
    }
}

/// Whether a complete message is one of its type in every detail.
fn is_sound(kind: u8, body: &[u8], flow: Flow) -> bool {
    let sound = match (flow, kind) {
        (Flow::ToServer, b'Q' | b'f') | (Flow::ToClient, b'C') => {
            c_string(body).map(|(_, rest)| rest.is_empty())
        }
        (Flow::ToServer, b'P') => parse_is_sound(body),
        (Flow::ToServer, b'B') => bind_is_sound(body),
        (Flow::ToServer, b'D' | b'C') => subject(body).map(|(_, name)| name.len() + 2 == body.len()),
        (Flow::ToServer, b'E') => one_string(body).map(|portal| portal.len() + 5 == body.len()),
        (Flow::ToClient, b'Z') => Some(matches!(body, [b'I' | b'T' | b'E'])),
        (Flow::ToClient, b'E' | b'N') => Some(body.ends_with(&[0]) && failure(body).code.is_some()),
        (Flow::ToClient, b'S') => two_strings(body).map(|(a, b)| a.len() + b.len() + 2 == body.len()),
        (Flow::ToClient, b'D') => row_is_sound(body),
        _ => Some(true),
    };
    sound == Some(true)
}

fn parse_is_sound(body: &[u8]) -> Option<bool> {
    let (_, rest) = c_string(body)?;
    let (_, rest) = c_string(rest)?;
    Some(rest.len() == 2 + 4 * usize::from(u16_at(rest, 0)?))
}

/// Whether `n` values of an int32 length each are all there is in `body` from `at` on; else what is behind them.
fn values(body: &[u8], mut at: usize, n: u16) -> Option<usize> {
    for _ in 0..n {
        let length = u32_at(body, at)?;
        at += 4;
        if length != u32::MAX {
            at = at.checked_add(length as usize).filter(|&at| at <= body.len())?;
        }
    }
    Some(at)
}

fn bind_is_sound(body: &[u8]) -> Option<bool> {
    let (_, rest) = c_string(body)?;
    let (_, rest) = c_string(rest)?;
    let at = 2 + 2 * usize::from(u16_at(rest, 0)?);
    let at = values(rest, at + 2, u16_at(rest, at)?)?;
    let formats = rest.get(at + 2..)?;
    let flags = formats.chunks(2).all(|format| matches!(format, [0, 0 | 1]));
    Some(flags && formats.len() == 2 * usize::from(u16_at(rest, at)?))
}

fn row_is_sound(body: &[u8]) -> Option<bool> {
    Some(values(body, 2, u16_at(body, 0)?)? == body.len())
}

/// What a run of messages is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chain {
    /// Every message is sound, and one of them lets the server answer (or ends its answer).
    Proved,
    /// So far nothing speaks against it.
    Open,
    Broken,
}

/// Whether messages of `flow` begin with `bytes`. Proof is a Query, Sync or ReadyForQuery at the end of a run of
/// sound messages, of more bytes than a Sync alone.
pub(super) fn chain(bytes: &[u8], flow: Flow) -> Chain {
    let mut rest = bytes;
    let mut proved = false;
    while !rest.is_empty() {
        if rest.len() < HEADER {
            let known = rest.first().is_some_and(|kind| kinds(flow).contains(kind));
            return match (proved, known) {
                (true, _) => Chain::Proved,
                (false, true) => Chain::Open,
                (false, false) => Chain::Broken,
            };
        }
        let Some(header) = header(rest, flow).filter(|header| header.length <= BELIEVED) else {
            return Chain::Broken;
        };
        let length = header.length as usize;
        let Some(body) = rest.get(HEADER..length) else {
            return if proved { Chain::Proved } else { Chain::Open };
        };
        if !is_sound(header.kind, body, flow) {
            return Chain::Broken;
        }
        rest = rest.get(length..).unwrap_or_default();
        proved |= match flow {
            Flow::ToServer => matches!(header.kind, b'Q' | b'S') && bytes.len() - rest.len() > HEADER,
            Flow::ToClient => header.kind == b'Z' && rest.is_empty(),
        };
    }
    if proved { Chain::Proved } else { Chain::Open }
}

/// The types of messages.
fn kinds(flow: Flow) -> &'static [u8] {
    match flow {
        Flow::ToServer => b"QPBDCESHXcFfdp",
        Flow::ToClient => b"Z123nsIcCENRSAKvTDtGHWVd",
    }
}

/// Whether `bytes` end with a ReadyForQuery.
pub(super) fn ends_ready(bytes: &[u8]) -> bool {
    matches!(bytes, [.., b'Z', 0, 0, 0, 5, b'I' | b'T' | b'E'])
}

/// Do these bytes begin a message?
pub(super) fn detect(bytes: &[u8], fresh: bool) -> Detection {
    match opening(bytes) {
        Opening::Complete(..) => return Detection::Yes(Flow::ToServer),
        Opening::Incomplete => return Detection::Maybe,
        Opening::Invalid if fresh => return Detection::No,
        Opening::Invalid => {}
    }
    match (chain(bytes, Flow::ToServer), chain(bytes, Flow::ToClient)) {
        (Chain::Proved, _) => Detection::Yes(Flow::ToServer),
        (_, Chain::Proved) => Detection::Yes(Flow::ToClient),
        (Chain::Open, _) | (_, Chain::Open) => Detection::Maybe,
        (Chain::Broken, Chain::Broken) => Detection::No,
    }
}

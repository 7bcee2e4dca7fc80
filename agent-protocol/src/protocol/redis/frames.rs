//! Bytes to RESP elements, and what can be told from a few of them.

use super::commands::{self, MAX_NAME, Topic};
use crate::protocol::{Detection, Flow};

/// The longest line that is waited for: an inline command (PROTO_INLINE_MAX_SIZE), an error, a number.
pub(super) const MAX_LINE: usize = 64 << 10;

/// Arguments of a command (`proto-max-bulk-len` and the multibulk limit of the server, networking.c).
const MAX_ARGUMENTS: i64 = i32::MAX as i64;

/// What the bytes at the begin of something say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    No,
    Maybe,
    Yes,
}

/// A line without its CRLF, and how many bytes it takes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Incomplete,
    TooLong,
    Whole(&'a [u8], usize),
}

/// Reads a line that ends with LF, CR before it or not, as the server does for inline commands.
pub(super) fn line(bytes: &[u8]) -> Line<'_> {
    match memchr::memchr(b'\n', &bytes[..bytes.len().min(MAX_LINE)]) {
        Some(end) => {
            let text = &bytes[..end];
            Line::Whole(text.strip_suffix(b"\r").unwrap_or(text), end + 1)
        }
        None if bytes.len() >= MAX_LINE => Line::TooLong,
        None => Line::Incomplete,
    }
}

/// A number in decimal digits with an optional minus sign, as lengths and counts are written.
pub(super) fn number(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if !(1..=18).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits
        .iter()
        .fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    Some(if digits.len() < text.len() { -value } else { value })
}

/// The number of arguments, with the command's name, that a command's first line announces.
pub(super) fn argument_count(line: &[u8]) -> Option<i64> {
    number(line.strip_prefix(b"*")?).filter(|&n| n <= MAX_ARGUMENTS)
}

/// The length that the line before an argument announces: 512 MiB at most, unless configured.
pub(super) fn argument_length(line: &[u8]) -> Option<u64> {
    number(line.strip_prefix(b"$")?)
        .and_then(|n| u64::try_from(n).ok())
        .filter(|&n| n <= 1 << 32)
}

/// A bulk string that is there as a whole: what it holds and what it takes.
fn small_bulk(bytes: &[u8], max: usize) -> Result<(&[u8], usize), Begin> {
    match bytes.first() {
        None => return Err(Begin::Maybe),
        Some(b'$') => {}
        Some(_) => return Err(Begin::No),
    }
    let (text, taken) = match line(&bytes[..bytes.len().min(16)]) {
        Line::Whole(text, taken) => (text, taken),
        _ if bytes.len() < 16 => return Err(Begin::Maybe),
        _ => return Err(Begin::No),
    };
    let length = argument_length(text)
        .and_then(|n| usize::try_from(n).ok())
        .filter(|&n| n <= max);
    let end = taken + length.ok_or(Begin::No)?;
    match bytes.get(end..end + 2) {
        Some(b"\r\n") => Ok((&bytes[taken..end], end + 2)),
        Some(_) => Err(Begin::No),
        None => Err(Begin::Maybe),
    }
}

/// The first line of an aggregate of this type: how many elements, and what it takes.
fn small_count(bytes: &[u8], kind: u8) -> Result<(i64, usize), Begin> {
    match bytes.first() {
        None => return Err(Begin::Maybe),
        Some(&first) if first == kind => {}
        Some(_) => return Err(Begin::No),
    }
    match line(&bytes[..bytes.len().min(16)]) {
        Line::Whole(text, taken) if bytes[..taken].ends_with(b"\r\n") => {
            let n = number(&text[1..]).filter(|&n| n > 0).ok_or(Begin::No)?;
            Ok((n, taken))
        }
        Line::Incomplete
            if bytes.len() < 16 && bytes[1..].iter().all(|b| b.is_ascii_digit() || *b == b'\r') =>
        {
            Err(Begin::Maybe)
        }
        _ => Err(Begin::No),
    }
}

/// The name of a command in capitals, if `bytes` begin one.
fn command_name(bytes: &[u8]) -> Result<(String, i64, usize), Begin> {
    let (count, at) = small_count(bytes, b'*')?;
    let (word, taken) = small_bulk(&bytes[at..], MAX_NAME)?;
    let mut name = String::new();
    if commands::push_name(&mut name, word) {
        Ok((name, count, at + taken))
    } else {
        Err(Begin::No)
    }
}

/// Whether the first bytes of a connection begin a command. An array that is a reply looks the same, so it must be a
/// known one, or one that is called as those of modules are (`JSON.GET`).
pub(super) fn begins_command(bytes: &[u8]) -> Begin {
    match command_name(bytes) {
        Ok((name, ..)) if commands::is_known(&name) || commands::is_of_module(&name) => Begin::Yes,
        Ok(_) => Begin::No,
        Err(begin) => begin,
    }
}

/// Whether `bytes`, somewhere in a connection, are commands: known ones, the last of which may not be whole.
pub(super) fn command_chain(bytes: &[u8]) -> Begin {
    let mut rest = bytes;
    let mut any = false;
    while !rest.is_empty() {
        let (name, count, mut at) = match command_name(rest) {
            Ok(begun) => begun,
            Err(Begin::Maybe) => break,
            Err(_) => return Begin::No,
        };
        if !commands::is_known(&name) {
            return Begin::No;
        }
        for _ in 1..count {
            let Some(bytes) = rest.get(at..).filter(|bytes| !bytes.is_empty()) else {
                return if any { Begin::Yes } else { Begin::Maybe };
            };
            match line(&bytes[..bytes.len().min(16)]) {
                Line::Whole(text, taken) => {
                    let Some(length) = argument_length(text).and_then(|n| usize::try_from(n).ok()) else {
                        return Begin::No;
                    };
                    at += taken + length + 2;
                    // A long argument is not waited for: what went before is proof enough.
                    if length > MAX_LINE / 8 && at > rest.len() {
                        return Begin::Yes;
                    }
                    if at <= rest.len() && rest.get(at - 2..at) != Some(b"\r\n") {
                        return Begin::No;
                    }
                }
                _ if bytes.len() >= 16 => return Begin::No,
                _ => return if any { Begin::Yes } else { Begin::Maybe },
            }
        }
        match rest.get(at..) {
            Some(after) => rest = after,
            None => break,
        }
        any = true;
    }
    if any { Begin::Yes } else { Begin::Maybe }
}

/// Whether `bytes` begin a message that a subscriber gets.
pub(super) fn detect_message(bytes: &[u8]) -> Begin {
    match out_of_band(bytes) {
        Ok(Band::Message) => Begin::Yes,
        Err(Begin::Maybe) => Begin::Maybe,
        _ => Begin::No,
    }
}

/// What an array or push is, beside a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Band {
    /// A published message.
    Message,
    /// The confirmation of a subscription or its end.
    Confirmation(Topic, bool),
    /// Neither.
    Other,
}

/// What the array or push that `bytes` begin with is.
pub(super) fn out_of_band(bytes: &[u8]) -> Result<Band, Begin> {
    let kind = *bytes.first().ok_or(Begin::Maybe)?;
    let (count, at) = match small_count(bytes, kind) {
        Ok(begun) => begun,
        Err(Begin::Maybe) => return Err(Begin::Maybe),
        Err(_) => return Ok(Band::Other),
    };
    // Of a longer string, only that it is one of no interest.
    let word = match small_bulk(&bytes[at..], 12) {
        Ok((word, _)) => word,
        Err(Begin::Maybe) => return Err(Begin::Maybe),
        Err(_) => return Ok(Band::Other),
    };
    Ok(match (word, count) {
        (b"message" | b"smessage", 3) | (b"pmessage", 4) => Band::Message,
        (b"subscribe", 3) => Band::Confirmation(Topic::Channel, true),
        (b"psubscribe", 3) => Band::Confirmation(Topic::Pattern, true),
        (b"ssubscribe", 3) => Band::Confirmation(Topic::Shard, true),
        (b"unsubscribe", 3) => Band::Confirmation(Topic::Channel, false),
        (b"punsubscribe", 3) => Band::Confirmation(Topic::Pattern, false),
        (b"sunsubscribe", 3) => Band::Confirmation(Topic::Shard, false),
        _ => Band::Other,
    })
}

/// Commands that are believed when a connection begins with them inline: they are no words of other text protocols.
const INLINE: &[&str] = &[
    "PING",
    "ECHO",
    "SELECT",
    "DBSIZE",
    "COMMAND",
    "MONITOR",
    "SUBSCRIBE",
    "PSUBSCRIBE",
    "FLUSHALL",
    "FLUSHDB",
    "EXISTS",
    "LPUSH",
    "RPUSH",
    "HSET",
    "HGET",
    "HGETALL",
    "SADD",
    "SMEMBERS",
    "LRANGE",
    "KEYS",
    "SCAN",
    "MULTI",
    "CONFIG",
    "CLIENT",
    "HELLO",
    "MGET",
    "MSET",
    "ZADD",
    "EXPIRE",
    "DEL",
    "TTL",
];

/// Whether a connection begins with an inline command. Most are words of other protocols too: their answer decides, see
/// [`confirm_inline`].
pub(super) fn detect_inline(bytes: &[u8]) -> Detection {
    let end = bytes
        .iter()
        .position(|b| b" \r\n".contains(b))
        .unwrap_or(bytes.len());
    let word = &bytes[..end];
    if !commands::begins_known(word) {
        return Detection::No;
    }
    let text = match line(bytes) {
        Line::Whole(text, _) => text,
        Line::Incomplete if bytes.iter().all(|b| b.is_ascii_graphic() || b" \r".contains(b)) => {
            return Detection::Maybe;
        }
        _ => return Detection::No,
    };
    let mut name = String::new();
    let http = text.ends_with(b"HTTP/1.1") || text.ends_with(b"HTTP/1.0");
    if http || !commands::push_name(&mut name, word) || split_inline(text, &mut |_, _| {}).is_none() {
        return Detection::No;
    }
    if INLINE.contains(&&*name) {
        Detection::Yes(Flow::ToServer)
    } else if commands::is_known(&name) {
        Detection::Maybe
    } else {
        Detection::No
    }
}

/// Whether an inline command was answered as Redis does, by an element. `None` where `asked` begins with none.
pub(super) fn confirm_inline(asked: &[u8], answer: &[u8]) -> Option<Detection> {
    let (Line::Whole(..), Detection::Maybe) = (line(asked), detect_inline(asked)) else {
        return None;
    };
    Some(match line(answer) {
        Line::Whole(text, taken) if answer[..taken].ends_with(b"\r\n") && element(text).is_some() => {
            Detection::Yes(Flow::ToClient)
        }
        Line::Incomplete if answer.first().is_some_and(|&kind| begins_element(kind)) => Detection::Maybe,
        _ => Detection::No,
    })
}

/// Splits an inline command into its words as the server does (sdssplitargs), telling each with its index; of a
/// quoted word what lies between the quotes as it is. Returns how many there are, `None` where quotes are faulty.
pub(super) fn split_inline(text: &[u8], word: &mut dyn FnMut(u32, &[u8])) -> Option<u32> {
    let is_space = |b: &u8| b.is_ascii_whitespace() || *b == 0x0b || *b == 0;
    let mut rest = text;
    let mut n = 0;
    loop {
        let begin = rest.iter().position(|b| !is_space(b));
        let Some(begin) = begin else { return Some(n) };
        rest = &rest[begin..];
        let (mut at, mut quote) = (0, None);
        loop {
            match (quote, rest.get(at)) {
                (None, None) => break,
                (None, Some(b)) if is_space(b) => break,
                (None, Some(b @ (b'"' | b'\''))) => quote = Some(*b),
                (Some(_), None) => return None,
                (Some(b'"'), Some(b'\\')) | (Some(b'\''), Some(b'\\')) if rest.get(at + 1).is_some() => {
                    let escaped = quote == Some(b'"') || rest.get(at + 1) == Some(&b'\'');
                    at += usize::from(escaped);
                }
                (Some(quoted), Some(b)) if *b == quoted => {
                    // A closing quote ends the word.
                    if rest.get(at + 1).is_some_and(|b| !is_space(b)) {
                        return None;
                    }
                    quote = None;
                }
                _ => {}
            }
            at += 1;
        }
        let whole = &rest[..at];
        let quoted = whole.len() >= 2 && (whole[0] == b'"' || whole[0] == b'\'');
        word(n, if quoted { &whole[1..whole.len() - 1] } else { whole });
        n += 1;
        rest = &rest[at..];
    }
}

/// The first line of an element of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element<'a> {
    /// A string, number, boolean: its type and text.
    Simple(u8, &'a [u8]),
    Error(&'a [u8]),
    Null,
    /// This many bytes follow, with a CRLF of their own: a string, or an error (`true`).
    Bulk(u64, bool),
    /// This many elements follow.
    Aggregate(u64),
    /// Elements follow until an end marker; a streamed string is an aggregate of chunks.
    Streamed,
    /// The end marker of what is streamed.
    End,
    /// This many elements follow, and then what they are attributes of.
    Attributes(u64),
}

/// Whether a reply, or an element of one, can begin with this byte.
pub(super) fn begins_element(byte: u8) -> bool {
    b"+-:$*_,#!=(%~>|".contains(&byte)
}

/// Reads the line that begins an element. `None`: it is none.
pub(super) fn element(line: &[u8]) -> Option<Element<'_>> {
    let (&kind, text) = line.split_first()?;
    let count = |factor: u64| match text {
        b"?" => Some(Element::Streamed),
        b"-1" => Some(Element::Null),
        _ => {
            let n = number(text).and_then(|n| u64::try_from(n).ok())?;
            Some(Element::Aggregate(n.checked_mul(factor)?))
        }
    };
    match kind {
        b'+' => Some(Element::Simple(kind, text)),
        b':' => {
            number(text.strip_prefix(b"+").unwrap_or(text))
                .or_else(|| (text.len() == 19 || text.len() == 20).then_some(0))?;
            Some(Element::Simple(kind, text))
        }
        b',' | b'#' | b'(' => Some(Element::Simple(kind, text)),
        b'-' => Some(Element::Error(text)),
        b'_' if text.is_empty() => Some(Element::Null),
        b'$' | b'!' | b'=' | b';' => match text {
            b"?" if kind == b'$' => Some(Element::Streamed),
            b"-1" => Some(Element::Null),
            // The last chunk of a streamed string.
            b"0" if kind == b';' => Some(Element::End),
            _ => {
                let n = number(text).and_then(|n| u64::try_from(n).ok())?;
                (n <= 1 << 40).then_some(Element::Bulk(n, kind == b'!'))
            }
        },
        b'*' | b'~' | b'>' => count(1),
        b'%' => count(2),
        b'|' => match count(2)? {
            Element::Aggregate(n) => Some(Element::Attributes(n)),
            _ => None,
        },
        b'.' if text.is_empty() => Some(Element::End),
        _ => None,
    }
}

/// The prefix of an error: its first word in capitals, which tells its kind. What is no such word may hold anything.
pub(super) fn error_prefix(text: &[u8]) -> Option<&str> {
    let word = text.split(|b| *b == b' ').next()?;
    let fits = (2..=MAX_NAME).contains(&word.len())
        && word
            .iter()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_');
    fits.then(|| std::str::from_utf8(word).ok()).flatten()
}

/// Whether the text of a simple string is a line of MONITOR: a time with microseconds, then `[db address]`.
pub(super) fn is_monitor_line(text: &[u8]) -> bool {
    let Some(dot) = text.iter().position(|b| *b == b'.') else {
        return false;
    };
    let (seconds, rest) = text.split_at(dot);
    !seconds.is_empty()
        && seconds.iter().all(u8::is_ascii_digit)
        && rest.len() > 9
        && rest[1..7].iter().all(u8::is_ascii_digit)
        && rest[7..].starts_with(b" [")
}

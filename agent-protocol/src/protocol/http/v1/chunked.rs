//! The chunked transfer coding (RFC 9112 § 7.1).

use super::head::MAX_HEAD;
use memchr::memchr;

/// The longest line before a chunk that is read, with its extensions.
const MAX_SIZE_LINE: usize = 4096;

/// Where in the coding the next byte is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Size,
    DataEnd,
    Trailer,
}

/// A body being read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Chunked {
    place: Place,
    /// Content seen or announced so far.
    size: u64,
    trailer: usize,
}

/// What comes next in a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// These bytes are framing; go on behind them.
    Framing(usize),
    /// These bytes are a field line of the trailer section that is malformed.
    Malformed(usize),
    /// These bytes are framing, then that many bytes of content follow.
    Data(usize, u64),
    /// These bytes are the last of the body, whose content had this size.
    End(usize, u64),
    /// More bytes are needed.
    Partial,
    /// No chunked coding.
    Invalid,
}

impl Chunked {
    /// Reads the next piece of framing.
    pub(super) fn step(&mut self, bytes: &[u8]) -> Step {
        match self.place {
            Place::Size => {
                let Some((line, length)) = line(bytes, MAX_SIZE_LINE) else {
                    return partial(bytes, MAX_SIZE_LINE);
                };
                let Some(size) = size(line) else {
                    return Step::Invalid;
                };
                let Some(total) = self.size.checked_add(size) else {
                    return Step::Invalid;
                };
                self.size = total;
                if size == 0 {
                    self.place = Place::Trailer;
                    return Step::Framing(length);
                }
                self.place = Place::DataEnd;
                Step::Data(length, size)
            }
            Place::DataEnd => {
                let length = match bytes {
                    [b'\n', ..] => 1,
                    [b'\r', b'\n', ..] => 2,
                    [] | [b'\r'] => return Step::Partial,
                    _ => return Step::Invalid,
                };
                self.place = Place::Size;
                Step::Framing(length)
            }
            Place::Trailer => {
                let left = MAX_HEAD.saturating_sub(self.trailer);
                let Some((line, length)) = line(bytes, left) else {
                    return partial(bytes, left);
                };
                if line.is_empty() {
                    return Step::End(length, self.size);
                }
                self.trailer += length;
                // Nothing in it touches framing (RFC 9110 § 6.5.1).
                match memchr(b':', line) {
                    Some(colon) if colon > 0 && !line[..colon].iter().any(u8::is_ascii_whitespace) => {
                        Step::Framing(length)
                    }
                    _ => Step::Malformed(length),
                }
            }
        }
    }
}

fn line(bytes: &[u8], limit: usize) -> Option<(&[u8], usize)> {
    let bytes = &bytes[..bytes.len().min(limit)];
    let end = memchr(b'\n', bytes)?;
    let line = &bytes[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), end + 1))
}

fn partial(bytes: &[u8], limit: usize) -> Step {
    if bytes.len() < limit {
        Step::Partial
    } else {
        Step::Invalid
    }
}

/// chunk-size with optional extensions, which mean nothing here.
fn size(line: &[u8]) -> Option<u64> {
    let digits = line
        .iter()
        .position(|byte| !byte.is_ascii_hexdigit())
        .unwrap_or(line.len());
    let (digits, rest) = line.split_at(digits);
    let rest = rest.trim_ascii_start();
    if digits.is_empty() || !(rest.is_empty() || rest[0] == b';') || memchr(b'\r', rest).is_some() {
        return None;
    }
    digits.iter().try_fold(0u64, |size, &byte| {
        let digit = (byte as char).to_digit(16)?;
        size.checked_mul(16)?.checked_add(u64::from(digit))
    })
}

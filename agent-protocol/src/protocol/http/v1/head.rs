//! The head of a message: start line and field lines (RFC 9112 §§ 2 to 6).

use memchr::{memchr, memchr2, memchr3_iter, memmem};

/// The longest head that is read; a longer one is refused.
pub(super) const MAX_HEAD: usize = 64 << 10;

/// The longest method that is taken for one.
const MAX_METHOD: usize = 64;

/// What the begin of some bytes is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed<T> {
    /// A head, as far as there are bytes.
    Partial,
    /// No head that may be accepted.
    Invalid,
    /// A head of this many bytes.
    Whole(T, usize),
}

/// The last transfer coding (RFC 9112 § 6.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Coding {
    #[default]
    None,
    Chunked,
    /// Ends with the connection.
    Other,
}

/// What field lines say, where it matters here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields<'a> {
    pub(super) content_length: Option<u64>,
    pub(super) coding: Coding,
    pub(super) host: Option<&'a [u8]>,
    pub(super) user_agent: Option<&'a [u8]>,
    pub(super) forwarded: Option<&'a [u8]>,
    pub(super) x_forwarded_for: Option<&'a [u8]>,
    pub(super) x_forwarded_proto: Option<&'a [u8]>,
    pub(super) x_forwarded_host: Option<&'a [u8]>,
    pub(super) x_forwarded_port: Option<&'a [u8]>,
    pub(super) upgrade: Option<&'a [u8]>,
    pub(super) traceparent: Option<&'a [u8]>,
    pub(super) tracestate: Option<&'a [u8]>,
    pub(super) content_type: Option<&'a [u8]>,
    pub(super) grpc_status: Option<&'a [u8]>,
    /// Lines that were left out because they are malformed.
    pub(super) malformed: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestHead<'a> {
    pub(super) method: &'a [u8],
    pub(super) target: &'a [u8],
    /// 0 or 1.
    pub(super) minor: u8,
    pub(super) fields: Fields<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct ResponseHead<'a> {
    pub(super) status: u16,
    pub(super) minor: u8,
    pub(super) fields: Fields<'a>,
}

impl ResponseHead<'_> {
    /// One that another response follows (RFC 9110 § 15.2).
    pub(super) fn is_interim(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

/// `tchar` (RFC 9110 § 5.6.2).
fn is_token_byte(byte: u8) -> bool {
    const TABLE: [bool; 256] = {
        let mut table = [false; 256];
        let mut i = 0;
        while i < 256 {
            table[i] = (i as u8).is_ascii_alphanumeric();
            i += 1;
        }
        let others = b"!#$%&'*+-.^_`|~";
        let mut i = 0;
        while i < others.len() {
            table[others[i] as usize] = true;
            i += 1;
        }
        table
    };
    TABLE[byte as usize]
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// White space inside a field's value; with line ends, as an unfolded obs-fold has them (RFC 9112 § 5.2).
fn trim(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

/// Length of the line that begins at `at` without its end, and where the next begins. CRLF or a bare LF ends it.
fn line_at(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let rest = bytes.get(at..)?;
    let end = memchr(b'\n', rest)?;
    let line = &rest[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), at + end + 1))
}

/// Whether a head ends in `bytes`, of which the first `searched` were looked at before.
pub(super) fn has_end(bytes: &[u8], searched: usize) -> bool {
    let mut at = searched.saturating_sub(2);
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr(b'\n', rest)) {
        at += found + 1;
        if let Some([b'\n', ..] | [b'\r', b'\n', ..]) = bytes.get(at..) {
            return true;
        }
    }
    false
}

/// How many bytes of empty lines come first (RFC 9112 § 2.2). `None` if a CR is not followed by LF.
pub(super) fn empty_lines(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match bytes.get(at..)? {
            [b'\n', ..] => at += 1,
            [b'\r', b'\n', ..] => at += 2,
            [b'\r', _, ..] => return None,
            _ => return Some(at),
        }
    }
}

pub(super) fn request(bytes: &[u8]) -> Parsed<RequestHead<'_>> {
    let Some((line, next)) = line_at(bytes, 0) else {
        return match request_line_prefix(bytes) && bytes.len() <= MAX_HEAD {
            true => Parsed::Partial,
            false => Parsed::Invalid,
        };
    };
    let Some((method, target, minor)) = request_line(line) else {
        return Parsed::Invalid;
    };
    match fields(bytes, next, true, minor) {
        Parsed::Whole(fields, length) => Parsed::Whole(
            RequestHead {
                method,
                target,
                minor,
                fields,
            },
            length,
        ),
        Parsed::Partial => Parsed::Partial,
        Parsed::Invalid => Parsed::Invalid,
    }
}

pub(super) fn response(bytes: &[u8]) -> Parsed<ResponseHead<'_>> {
    let Some((line, next)) = line_at(bytes, 0) else {
        return match status_line_prefix(bytes) && bytes.len() <= MAX_HEAD {
            true => Parsed::Partial,
            false => Parsed::Invalid,
        };
    };
    let Some((status, minor)) = status_line(line) else {
        return Parsed::Invalid;
    };
    match fields(bytes, next, false, minor) {
        Parsed::Whole(fields, length) => Parsed::Whole(
            ResponseHead {
                status,
                minor,
                fields,
            },
            length,
        ),
        Parsed::Partial => Parsed::Partial,
        Parsed::Invalid => Parsed::Invalid,
    }
}

/// method SP request-target SP HTTP-version (RFC 9112 § 3), nothing more and nothing less.
pub(super) fn request_line(line: &[u8]) -> Option<(&[u8], &[u8], u8)> {
    let space = memchr(b' ', line.get(..line.len().min(MAX_METHOD + 1))?)?;
    let (rest, version) = line.split_at_checked(line.len().checked_sub(9)?)?;
    let minor = match version {
        b" HTTP/1.1" => 1,
        b" HTTP/1.0" => 0,
        _ => return None,
    };
    let (method, target) = (&line[..space], rest.get(space + 1..)?);
    (is_token(method) && is_target(method, target)).then_some((method, target, minor))
}

fn is_target_byte(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f
}

/// One of the four forms (RFC 9112 § 3.2).
fn is_target(method: &[u8], target: &[u8]) -> bool {
    let form = match target.first() {
        None => false,
        _ if method == b"CONNECT" => memchr2(b'/', b'?', target).is_none(),
        Some(b'/') => true,
        Some(b'*') => target.len() == 1,
        Some(_) => absolute(target).is_some(),
    };
    form && target.iter().all(|&byte| is_target_byte(byte))
}

/// Scheme and rest of an absolute-form target, without the `://` between.
pub(super) fn absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr(b':', target)?;
    let scheme = &target[..colon];
    let is_scheme = scheme.first()?.is_ascii_alphabetic()
        && scheme
            .iter()
            .all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let rest = target[colon..].strip_prefix(b"://")?;
    (is_scheme && !rest.is_empty()).then_some((scheme, rest))
}

/// Could more bytes make a request line of this?
pub(super) fn request_line_prefix(bytes: &[u8]) -> bool {
    let Some(space) = memchr(b' ', bytes) else {
        return bytes.len() <= MAX_METHOD && bytes.iter().all(|&byte| is_token_byte(byte));
    };
    if space > MAX_METHOD || !is_token(&bytes[..space]) {
        return false;
    }
    let rest = &bytes[space + 1..];
    let Some(second) = memchr(b' ', rest) else {
        return rest.iter().all(|&byte| is_target_byte(byte));
    };
    let version = &rest[second + 1..];
    let begins = |whole: &[u8]| whole.starts_with(version);
    is_target(&bytes[..space], &rest[..second]) && (begins(b"HTTP/1.1\r") || begins(b"HTTP/1.0\r"))
}

/// HTTP-version SP status-code \[SP reason-phrase\] (RFC 9112 § 4).
pub(super) fn status_line(line: &[u8]) -> Option<(u16, u8)> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let [minor @ b'0'..=b'1', b' ', a, b, c, reason @ ..] = rest else {
        return None;
    };
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let status = digit(a)? * 100 + digit(b)? * 10 + digit(c)?;
    let reason_ok = reason.is_empty() || reason[0] == b' ' && memchr2(b'\r', 0, reason).is_none();
    reason_ok.then_some((status, minor - b'0'))
}

/// Could more bytes make a status line of this?
pub(super) fn status_line_prefix(bytes: &[u8]) -> bool {
    bytes.iter().take(13).enumerate().all(|(i, &byte)| match i {
        0..=6 => byte == b"HTTP/1."[i],
        7 => matches!(byte, b'0' | b'1'),
        8 => byte == b' ',
        9..=11 => byte.is_ascii_digit(),
        _ => matches!(byte, b' ' | b'\r' | b'\n'),
    })
}

/// Reads field lines from `at` up to the empty line.
fn fields(bytes: &[u8], at: usize, is_request: bool, minor: u8) -> Parsed<Fields<'_>> {
    let mut fields = Fields::default();
    let mut at = at;
    loop {
        match bytes.get(at..) {
            Some([b'\n', ..]) => {
                at += 1;
                break;
            }
            Some([b'\r', b'\n', ..]) => {
                at += 2;
                break;
            }
            _ => {}
        }
        at = match field(&mut fields, bytes, at, is_request) {
            Parsed::Whole((), next) => next,
            Parsed::Partial if bytes.len() <= MAX_HEAD => return Parsed::Partial,
            _ => return Parsed::Invalid,
        };
    }
    // RFC 9112 § 6.1 and § 6.3: what a smuggler would send.
    let contradicts = fields.coding != Coding::None && (fields.content_length.is_some() || minor == 0)
        || is_request && fields.coding == Coding::Other;
    match contradicts || at > MAX_HEAD {
        true => Parsed::Invalid,
        false => Parsed::Whole(fields, at),
    }
}

/// Where the line ends in which `at` lies, where the next begins, and whether it holds what is valid nowhere: a CR that
/// ends no line (RFC 9112 § 2.2), or NUL (RFC 9110 § 5.5).
fn line_end(bytes: &[u8], at: usize) -> Option<(usize, usize, bool)> {
    let rest = bytes.get(at..)?;
    let mut valid = true;
    for found in memchr3_iter(b'\n', b'\r', 0, rest) {
        match rest[found..] {
            [b'\n', ..] => return Some((at + found, at + found + 1, valid)),
            [b'\r', b'\n', ..] => return Some((at + found, at + found + 2, valid)),
            _ => valid = false,
        }
    }
    None
}

/// Reads the field line at `at`; what is whole has the offset of the next line. A malformed one that touches no framing is
/// left out.
fn field<'a>(fields: &mut Fields<'a>, bytes: &'a [u8], at: usize, is_request: bool) -> Parsed<()> {
    let Some((mut end, mut next, mut valid)) = line_end(bytes, at) else {
        return Parsed::Partial;
    };
    // obs-fold: refused in a request, read as white space in a response (RFC 9112 § 5.2).
    let mut folded = matches!(bytes[at], b' ' | b'\t');
    while matches!(bytes.get(next), Some(b' ' | b'\t')) {
        let Some((fold_end, fold_next, fold_valid)) = line_end(bytes, next) else {
            return Parsed::Partial;
        };
        (end, next, valid, folded) = (fold_end, fold_next, valid && fold_valid, true);
    }
    if folded && is_request {
        return Parsed::Invalid;
    }
    let line = &bytes[at..end];
    let length = line
        .iter()
        .position(|&byte| !is_token_byte(byte))
        .unwrap_or(line.len());
    let mut colon = length;
    if !is_request {
        // RFC 9112 § 5.1: to be removed from a response, but never accepted in a request.
        let space = |&&byte: &&u8| matches!(byte, b' ' | b'\t');
        colon += line[length..].iter().take_while(space).count();
    }
    if valid && length > 0 && line.get(colon) == Some(&b':') {
        return match value(fields, &line[..length], &line[colon + 1..], is_request) {
            Some(()) => Parsed::Whole((), next),
            None => Parsed::Invalid,
        };
    }
    if touches_framing(line) {
        return Parsed::Invalid;
    }
    fields.malformed += 1;
    Parsed::Whole((), next)
}

/// Whether somebody may take a malformed line for a field that a message's end or the connection's protocol depends on.
fn touches_framing(line: &[u8]) -> bool {
    const NAMES: [&[u8]; 4] = [b"contentlength", b"transferencoding", b"connection", b"upgrade"];
    // What some take for the end of a line, others do not.
    line.split(|byte| matches!(byte, b'\r' | b'\n' | 0)).any(|line| {
        let name = line.split(|&byte| byte == b':').next().unwrap_or(line);
        let mut letters = [0; 128];
        let mut length = 0;
        let only = name.iter().filter(|byte| byte.is_ascii_alphanumeric());
        for (to, byte) in letters.iter_mut().zip(only) {
            *to = byte.to_ascii_lowercase();
            length += 1;
        }
        let letters = &letters[..length];
        NAMES.iter().any(|name| memmem::find(letters, name).is_some())
    })
}

/// Takes note of a field. `None` if it must not be accepted.
fn value<'a>(fields: &mut Fields<'a>, name: &[u8], value: &'a [u8], is_request: bool) -> Option<()> {
    let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
    match name.len() {
        4 if is(b"host") => {
            // RFC 9112 § 3.2: more than one is an invalid request.
            if is_request && fields.host.is_some() {
                return None;
            }
            fields.host = Some(trim(value));
        }
        7 if is(b"upgrade") => fields.upgrade = Some(trim(value)),
        9 if is(b"forwarded") && fields.forwarded.is_none() => fields.forwarded = Some(trim(value)),
        10 if is(b"user-agent") => fields.user_agent = Some(trim(value)),
        10 if is(b"tracestate") && fields.tracestate.is_none() => fields.tracestate = Some(trim(value)),
        11 if is(b"traceparent") => fields.traceparent = Some(trim(value)),
        11 if is(b"grpc-status") => fields.grpc_status = Some(trim(value)),
        12 if is(b"content-type") => fields.content_type = Some(trim(value)),
        14 if is(b"content-length") => {
            for element in value.split(|&byte| byte == b',') {
                let length = decimal(trim(element))?;
                if fields.content_length.is_some_and(|before| before != length) {
                    return None;
                }
                fields.content_length = Some(length);
            }
        }
        15 if is(b"x-forwarded-for") && fields.x_forwarded_for.is_none() => {
            fields.x_forwarded_for = Some(trim(value));
        }
        16 if is(b"x-forwarded-host") && fields.x_forwarded_host.is_none() => {
            fields.x_forwarded_host = Some(trim(value));
        }
        16 if is(b"x-forwarded-port") && fields.x_forwarded_port.is_none() => {
            fields.x_forwarded_port = Some(trim(value));
        }
        17 if is(b"x-forwarded-proto") && fields.x_forwarded_proto.is_none() => {
            fields.x_forwarded_proto = Some(trim(value));
        }
        17 if is(b"transfer-encoding") => {
            for coding in value.split(|&byte| byte == b',') {
                fields.coding = match trim(coding) {
                    b"" => return None,
                    coding if coding.eq_ignore_ascii_case(b"chunked") => match fields.coding {
                        Coding::Chunked => return None,
                        _ => Coding::Chunked,
                    },
                    _ => Coding::Other,
                };
            }
        }
        _ => {}
    }
    Some(())
}

/// 1\*DIGIT, as far as a length can be meant.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, byte| match byte {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

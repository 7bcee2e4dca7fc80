//! gRPC (doc/PROTOCOL-HTTP2.md of the gRPC project): what a call is, above HTTP/2 or, as gRPC-Web, any HTTP.

pub mod web;

use crate::record::grpc::{Messages, Status};

impl Status {
    /// For a response without `grpc-status` (doc/http-grpc-status-mapping.md).
    pub fn of_http(status: u16) -> Status {
        match status {
            400 => Status::INTERNAL,
            401 => Status::UNAUTHENTICATED,
            403 => Status::PERMISSION_DENIED,
            404 => Status::UNIMPLEMENTED,
            429 | 502 | 503 | 504 => Status::UNAVAILABLE,
            _ => Status::UNKNOWN,
        }
    }

    /// For a stream that was reset (doc/PROTOCOL-HTTP2.md, "Errors"). Codes without a mapping there are errors of
    /// the transport: INTERNAL. CANCEL is also how peers let go of a call whose deadline is over (`late`).
    pub fn of_reset(code: u32, late: bool) -> Status {
        match code {
            7 => Status::UNAVAILABLE,
            8 if late => Status::DEADLINE_EXCEEDED,
            8 => Status::CANCELLED,
            11 => Status::RESOURCE_EXHAUSTED,
            12 => Status::PERMISSION_DENIED,
            _ => Status::INTERNAL,
        }
    }
}

/// Which of the wire formats a message uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// gRPC over HTTP/2.
    Native,
    /// gRPC-Web, binary: trailers are a frame at the end of the body.
    Web,
    /// gRPC-Web in base64.
    WebText,
}

impl Kind {
    /// The kind that a content-type value says; `None` if it is not gRPC.
    pub fn of(content_type: &[u8]) -> Option<Kind> {
        let (start, rest) = content_type.split_at_checked(b"application/grpc".len())?;
        if !start.eq_ignore_ascii_case(b"application/grpc") {
            return None;
        }
        let ends = |rest: &[u8]| matches!(rest.first(), None | Some(b'+' | b';' | b' '));
        let after = |suffix: &[u8]| {
            let (start, rest) = rest.split_at_checked(suffix.len())?;
            (start.eq_ignore_ascii_case(suffix) && ends(rest)).then_some(())
        };
        if ends(rest) {
            Some(Kind::Native)
        } else if after(b"-web-text").is_some() {
            Some(Kind::WebText)
        } else {
            after(b"-web").map(|()| Kind::Web)
        }
    }
}

/// Service and method of a path, `/package.Service/Method`.
pub fn service_and_method(path: &str) -> Option<(&str, &str)> {
    let (service, method) = path.strip_prefix('/')?.rsplit_once('/')?;
    (!service.is_empty() && !method.is_empty()).then_some((service, method))
}

/// The value of `grpc-timeout` in nanoseconds: at most eight digits and a unit.
pub fn timeout(value: &[u8]) -> Option<u64> {
    let (unit, digits) = value.split_last()?;
    let unit = match unit {
        b'H' => 3_600_000_000_000,
        b'M' => 60_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1_000,
        b'n' => 1,
        _ => return None,
    };
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits
        .iter()
        .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(number.saturating_mul(unit))
}

/// Whether a call that was given `timeout` is at its deadline after `elapsed`, both in nanoseconds. What is seen is a
/// little short of what was sent: the client's clock runs from before it writes the request, a busy server reads it late
/// (11 ms were seen, at the begin of a connection), and encoders round up (gRPC C-core to whole milliseconds, and to a
/// hundredth of longer timeouts). A tenth of the timeout is the most that is forgiven.
pub fn is_over(timeout: u64, elapsed: u64) -> bool {
    const DELAY: u64 = 25_000_000;
    let forgiven = DELAY.min(timeout / 10).max(timeout / 100);
    elapsed >= timeout - forgiven
}

/// Bytes of a message's prefix: a flag byte and the length.
const PREFIX: usize = 5;

/// Counts the length-prefixed messages of one direction, looking at nothing but their prefixes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counter {
    prefix: [u8; PREFIX],
    have: u8,
    /// Bytes of the current message that are still to come.
    left: u32,
    /// The current message is the trailers of gRPC-Web.
    trailers: bool,
    foreign: bool,
    messages: Messages,
}

impl Counter {
    /// How many of the bytes that come next need not be looked at; they are to be given to [`Counter::pass`].
    pub fn skippable(&self) -> u32 {
        self.left
    }

    /// `n` bytes, no more than skippable, went by.
    pub fn pass(&mut self, n: u32) {
        self.left = self.left.saturating_sub(n);
        self.complete();
    }

    /// Takes from `bytes` what a prefix needs and returns how much that was: 0 where skippable bytes come first.
    pub fn prefix(&mut self, bytes: &[u8]) -> usize {
        if self.left != 0 {
            return 0;
        }
        let have = usize::from(self.have);
        let n = bytes.len().min(PREFIX - have);
        self.prefix[have..have + n].copy_from_slice(&bytes[..n]);
        self.have += n as u8;
        if usize::from(self.have) == PREFIX {
            let [flags, a, b, c, d] = self.prefix;
            self.left = u32::from_be_bytes([a, b, c, d]);
            self.trailers = flags & web::TRAILERS != 0;
            // Bit 0 says compressed; the specification has no others.
            self.foreign |= flags & !(web::TRAILERS | 1) != 0;
            self.complete();
        }
        n
    }

    /// Counts the message if its last byte has gone by.
    fn complete(&mut self) {
        if usize::from(self.have) == PREFIX && self.left == 0 {
            self.have = 0;
            if !std::mem::take(&mut self.trailers) {
                let [_, a, b, c, d] = self.prefix;
                self.messages.count += 1;
                self.messages.bytes += u64::from(u32::from_be_bytes([a, b, c, d]));
            }
        }
    }

    /// Whether the bytes that come next are the trailers of gRPC-Web: [`Counter::skippable`] many.
    pub fn at_trailers(&self) -> bool {
        self.trailers
    }

    /// Whether a message has begun and is not complete.
    pub fn is_inside(&self) -> bool {
        self.have != 0
    }

    /// Whether a prefix was seen that is none of gRPC.
    pub fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// The messages that are complete.
    pub fn messages(&self) -> Messages {
        self.messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `bytes` in pieces of `size`.
    fn count(bytes: &[u8], size: usize) -> Messages {
        let mut counter = Counter::default();
        for mut piece in bytes.chunks(size) {
            while !piece.is_empty() {
                let skip = (counter.skippable() as usize).min(piece.len());
                counter.pass(skip as u32);
                piece = &piece[skip..];
                piece = &piece[counter.prefix(piece)..];
            }
        }
        counter.messages()
    }

    #[test]
    fn messages_however_they_are_cut() {
        let mut bytes = vec![0, 0, 0, 0, 3, 1, 2, 3, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0];
        bytes.extend([7; 256]);
        for size in 1..bytes.len() {
            assert_eq!(count(&bytes, size), Messages { count: 3, bytes: 259 });
        }
        assert_eq!(
            count(&bytes[..200], 7),
            Messages { count: 2, bytes: 3 },
            "the third is not complete"
        );
    }

    #[test]
    fn trailers_of_grpc_web_are_no_message() {
        let bytes = [0, 0, 0, 0, 1, 9, 0x80, 0, 0, 0, 2, b'a', b':'];
        assert_eq!(count(&bytes, 4), Messages { count: 1, bytes: 1 });
    }

    #[test]
    fn content_types() {
        for (value, kind) in [
            ("application/grpc", Some(Kind::Native)),
            ("application/grpc+proto", Some(Kind::Native)),
            ("application/grpc;charset=utf-8", Some(Kind::Native)),
            ("application/grpc-web", Some(Kind::Web)),
            ("application/grpc-web+proto", Some(Kind::Web)),
            ("application/grpc-web-text", Some(Kind::WebText)),
            ("Application/gRPC-Web-Text+proto", Some(Kind::WebText)),
            ("application/grpcx", None),
            ("application/grpc-webby", None),
            ("application/json", None),
            ("", None),
        ] {
            assert_eq!(Kind::of(value.as_bytes()), kind, "{value}");
        }
    }

    #[test]
    fn paths() {
        assert_eq!(service_and_method("/a.b.C/D"), Some(("a.b.C", "D")));
        assert_eq!(service_and_method("/prefix/a.C/D"), Some(("prefix/a.C", "D")));
        assert_eq!(service_and_method("/D"), None);
        assert_eq!(service_and_method("a.C/D"), None);
        assert_eq!(service_and_method("/a.C/"), None);
    }

    #[test]
    fn statuses() {
        assert_eq!(Status::parse(b"0"), Status::OK);
        assert_eq!(Status::parse(b"16").name(), Some("UNAUTHENTICATED"));
        assert_eq!(Status::parse(b"4").name(), Some("DEADLINE_EXCEEDED"));
        for bad in [&b"x"[..], b"", b"+5", b"-1", b" 5", b"4294967296"] {
            assert_eq!(Status::parse(bad), Status::UNKNOWN);
        }
        assert_eq!(Status::parse(b"77").name(), None);
        assert_eq!(Status::of_http(200), Status::UNKNOWN);
        assert_eq!(Status::of_http(404), Status::UNIMPLEMENTED);
        assert_eq!(Status::of_http(503), Status::UNAVAILABLE);
        assert_eq!(Status::of_reset(8, false), Status::CANCELLED);
        assert_eq!(Status::of_reset(8, true), Status::DEADLINE_EXCEEDED);
        assert_eq!(Status::of_reset(0, true), Status::INTERNAL);
    }

    #[test]
    fn deadlines() {
        const MS: u64 = 1_000_000;
        for (timeout, elapsed, over) in [
            (150 * MS, 150 * MS, true),
            (150 * MS, 135 * MS, true),
            (150 * MS, 134 * MS, false),
            (1_000 * MS, 975 * MS, true),
            (1_000 * MS, 974 * MS, false),
            (10 * MS, 9 * MS, true),
            (10 * MS, 8 * MS, false),
            (10_000 * MS, 9_900 * MS, true),
            (10_000 * MS, 9_800 * MS, false),
            (0, 0, true),
            (u64::MAX, 10_000 * MS, false),
        ] {
            assert_eq!(is_over(timeout, elapsed), over, "{elapsed} of {timeout}");
        }
    }

    #[test]
    fn timeouts() {
        assert_eq!(timeout(b"101m"), Some(101_000_000));
        assert_eq!(timeout(b"1H"), Some(3_600_000_000_000));
        assert_eq!(timeout(b"99999999u"), Some(99_999_999_000));
        assert_eq!(timeout(b"99999999H"), Some(u64::MAX), "584 years are the most");
        for bad in ["", "m", "5", "1x", "-1S", "123456789n"] {
            assert_eq!(timeout(bad.as_bytes()), None, "{bad}");
        }
    }
}

//! gRPC-Web (doc/PROTOCOL-WEB.md): the body ends with a frame that holds the trailers as an HTTP/1 header block.

use super::{Counter, Kind, Messages, Status};

/// The bit of a prefix's flag byte that says that trailers follow.
pub const TRAILERS: u8 = 0x80;

/// The `grpc-status` in the payload of a trailers frame.
pub fn status(trailers: &[u8]) -> Option<Status> {
    trailers.split(|&byte| byte == b'\n').find_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        name.trim_ascii()
            .eq_ignore_ascii_case(b"grpc-status")
            .then(|| Status::parse(value.trim_ascii()))
    })
}

/// The longest trailers that are read, in bytes.
const LONGEST: usize = 16 << 10;

/// A body of gRPC-Web: its messages, and the status in its trailers.
#[derive(Debug)]
pub struct Body {
    /// The body is in base64.
    text: Option<Base64>,
    counter: Counter,
    trailers: Vec<u8>,
    status: Option<Status>,
    /// Something in it was not understood, or not looked at.
    given_up: bool,
}

impl Body {
    /// A body whose content-type says `kind`, from its begin on.
    pub fn new(kind: Kind) -> Body {
        Body {
            text: (kind == Kind::WebText).then(Base64::default),
            counter: Counter::default(),
            trailers: Vec::new(),
            status: None,
            given_up: false,
        }
    }

    /// Takes the next bytes of the body.
    pub fn take(&mut self, bytes: &[u8]) {
        let Some(mut text) = self.text else {
            return self.take_frames(bytes);
        };
        // Four characters are three bytes, and up to three characters are left from before.
        for piece in bytes.chunks(256) {
            let mut decoded = [0; 195];
            match text.decode(piece, &mut decoded) {
                Some(length) => self.take_frames(&decoded[..length]),
                None => self.given_up = true,
            }
        }
        self.text = Some(text);
    }

    fn take_frames(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.given_up {
            let taken = match self.counter.skippable() as usize {
                0 => self.counter.prefix(bytes),
                skippable => {
                    let n = skippable.min(bytes.len());
                    if self.counter.at_trailers() {
                        self.take_trailers(&bytes[..n], n == skippable);
                    }
                    self.counter.pass(n as u32);
                    n
                }
            };
            self.given_up |= self.counter.is_foreign();
            bytes = &bytes[taken..];
        }
    }

    fn take_trailers(&mut self, bytes: &[u8], last: bool) {
        if self.trailers.len() + bytes.len() > LONGEST {
            self.given_up = true;
            return;
        }
        self.trailers.extend_from_slice(bytes);
        if last {
            self.status = status(&self.trailers);
            self.trailers = Vec::new();
        }
    }

    /// How many of the bytes that come next need not be looked at; they are to be given to [`Body::pass`].
    pub fn skippable(&self) -> u32 {
        match self.text {
            None if !self.counter.at_trailers() => self.counter.skippable(),
            _ => 0,
        }
    }

    /// `n` bytes, no more than skippable, went by.
    pub fn pass(&mut self, n: u32) {
        self.counter.pass(n);
    }

    /// The rest is not looked at.
    pub fn give_up(&mut self) {
        self.given_up = true;
    }

    /// Whether all of it was understood.
    pub fn is_whole(&self) -> bool {
        !self.given_up
    }

    /// The messages so far; `None` where some may have been missed.
    pub fn messages(&self) -> Option<Messages> {
        (!self.given_up).then(|| self.counter.messages())
    }

    /// The `grpc-status` of its trailers.
    pub fn status(&self) -> Option<Status> {
        self.status
    }
}

/// Base64 (RFC 4648 § 4) in pieces. Padding may come anywhere: senders encode frame by frame.
#[derive(Debug, Clone, Copy, Default)]
struct Base64 {
    bits: u32,
    /// Characters in `bits`.
    have: u32,
}

impl Base64 {
    /// Decodes `text` to the begin of `to`, which has room for it, and returns how many bytes that are. `None` where it
    /// is no base64.
    fn decode(&mut self, text: &[u8], to: &mut [u8]) -> Option<usize> {
        let mut length = 0;
        for &character in text {
            let value = match character {
                b'A'..=b'Z' => character - b'A',
                b'a'..=b'z' => character - b'a' + 26,
                b'0'..=b'9' => character - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' => {
                    // Of 12 bits, one byte; of 18, two.
                    let (bytes, bits) = match self.have {
                        0 => (0, 0),
                        2 => (1, self.bits >> 4 << 8),
                        3 => (2, self.bits >> 2),
                        _ => return None,
                    };
                    let whole = (bits << 16).to_be_bytes();
                    to.get_mut(length..length + bytes)?
                        .copy_from_slice(&whole[..bytes]);
                    length += bytes;
                    *self = Base64::default();
                    continue;
                }
                _ => return None,
            };
            self.bits = self.bits << 6 | u32::from(value);
            self.have += 1;
            if self.have == 4 {
                let whole = self.bits.to_be_bytes();
                to.get_mut(length..length + 3)?.copy_from_slice(&whole[1..]);
                length += 3;
                *self = Base64::default();
            }
        }
        Some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648 § 10, each in one piece and in pieces of one.
    #[test]
    fn base64() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
            ("Zg==Zm8=Zm9v", "ffofoo"),
        ] {
            for size in [1, 100] {
                let (mut base64, mut decoded) = (Base64::default(), Vec::new());
                for piece in text.as_bytes().chunks(size) {
                    let mut to = [0; 32];
                    let length = base64.decode(piece, &mut to).unwrap();
                    decoded.extend_from_slice(&to[..length]);
                }
                assert_eq!(decoded, bytes.as_bytes(), "{text}");
            }
        }
        for bad in ["Z=", "Zm9v Zg==", "Zm-v"] {
            assert_eq!(
                Base64::default().decode(bad.as_bytes(), &mut [0; 32]),
                None,
                "{bad}"
            );
        }
    }

    /// The same body in all pieces, binary and as text: two messages, and trailers.
    #[test]
    fn bodies() {
        let binary = b"\0\0\0\0\x03abc\0\0\0\0\0\x80\0\0\0\x0fgrpc-status:5\r\n";
        // Encoded frame by frame, by coreutils.
        let text = b"AAAAAANhYmM=AAAAAAA=gAAAAA9ncnBjLXN0YXR1czo1DQo=";
        for (kind, bytes) in [(Kind::Web, &binary[..]), (Kind::WebText, text)] {
            for size in 1..bytes.len() {
                let mut body = Body::new(kind);
                bytes.chunks(size).for_each(|piece| body.take(piece));
                assert_eq!(body.messages(), Some(Messages { count: 2, bytes: 3 }));
                assert_eq!(body.status(), Some(Status(5)));
            }
        }
        let mut body = Body::new(Kind::Web);
        body.take(b"<html>");
        assert_eq!((body.messages(), body.is_whole()), (None, false));
    }

    #[test]
    fn the_status_line() {
        assert_eq!(status(b"grpc-message:no\r\nGrpc-Status: 5\r\n"), Some(Status(5)));
        assert_eq!(status(b"grpc-status:0"), Some(Status::OK));
        assert_eq!(status(b"x-grpc-status: 1\r\n\r\n"), None);
        assert_eq!(status(b""), None);
    }
}

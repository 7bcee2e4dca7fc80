//! gRPC-Web (doc/PROTOCOL-WEB.md): the body ends with a frame that holds the trailers as an HTTP/1 header block.

use super::outcome::Told;
use super::{Counter, Kind, Messages};
use crate::record::grpc::Status;
use flate2::read::{GzDecoder, ZlibDecoder};
use std::io::Read;

/// The bit of a prefix's flag byte that says that trailers follow.
pub const TRAILERS: u8 = 0x80;

/// What the payload of a trailers frame tells.
pub fn told(trailers: &[u8], compressed: bool) -> Told {
    if !compressed {
        return status(trailers).map_or(Told::Nothing, Told::Status);
    }
    match inflated(trailers) {
        Some(trailers) => told(&trailers, false),
        None => Told::Unreadable,
    }
}

/// Trailers in either of the encodings that the specification names and that show themselves (doc/compression.md):
/// gzip (RFC 1952), and deflate, which means zlib (RFC 1950). `None` for others and for what is too long.
fn inflated(trailers: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let limit = LONGEST as u64 + 1;
    match trailers {
        [0x1f, 0x8b, ..] => GzDecoder::new(trailers).take(limit).read_to_end(&mut plain),
        _ => ZlibDecoder::new(trailers).take(limit).read_to_end(&mut plain),
    }
    .ok()
    .filter(|&length| length <= LONGEST)?;
    Some(plain)
}

/// The `grpc-status` among trailers.
fn status(trailers: &[u8]) -> Option<Status> {
    trailers.split(|&byte| byte == b'\n').find_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        name.trim_ascii()
            .eq_ignore_ascii_case(b"grpc-status")
            .then(|| Status::parse(value.trim_ascii()))
    })
}

/// The longest trailers that are read, in bytes, as sent and as they are inflated.
const LONGEST: usize = 16 << 10;

/// A body of gRPC-Web: its messages, and the status in its trailers.
#[derive(Debug)]
pub struct Body {
    /// The body is in base64.
    text: Option<Base64>,
    counter: Counter,
    trailers: Vec<u8>,
    told: Told,
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
            told: Told::Nothing,
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
            self.told = told(&self.trailers, self.counter.is_compressed());
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

    /// The messages so far; `None` where some may have been missed.
    pub fn messages(&self) -> Option<Messages> {
        (!self.given_up).then(|| self.counter.messages())
    }

    /// What its trailers tell.
    pub fn told(&self) -> Told {
        match self.told {
            Told::Nothing if self.given_up => Told::Unreadable,
            told => told,
        }
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
                assert_eq!(body.told(), Told::Status(Status(5)));
            }
        }
        let mut body = Body::new(Kind::Web);
        body.take(b"<html>");
        assert_eq!((body.messages(), body.told()), (None, Told::Unreadable));
    }

    /// `printf 'grpc-status:5\r\n'`, by Python's gzip and zlib.
    #[test]
    fn compressed_trailers() {
        const GZIP: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\x4b\x2f\x2a\x48\xd6\x2d\x2e\x49\x2c\x29\x2d\xb6\x32\xe5\xe5\x02\x00\x85\x68\x5a\x14\x0f\x00\x00\x00";
        const ZLIB: &[u8] =
            b"\x78\x9c\x4b\x2f\x2a\x48\xd6\x2d\x2e\x49\x2c\x29\x2d\xb6\x32\xe5\xe5\x02\x00\x2e\x05\x05\x04";
        for compressed in [GZIP, ZLIB] {
            assert_eq!(told(compressed, true), Told::Status(Status(5)));
            let frame = [&[0x81, 0, 0, 0, compressed.len() as u8], compressed].concat();
            for size in 1..frame.len() {
                let mut body = Body::new(Kind::Web);
                frame.chunks(size).for_each(|piece| body.take(piece));
                assert_eq!(body.told(), Told::Status(Status(5)));
                assert_eq!(body.messages(), Some(Messages::default()));
            }
        }
        for unreadable in [
            &b"\x1f\x8b"[..],
            &GZIP[..20],
            &ZLIB[..9],
            b"grpc-status:5\r\n",
            b"",
        ] {
            assert_eq!(told(unreadable, true), Told::Unreadable);
        }
    }

    /// 64 MiB of zeros, which are 64 KiB by gzip, are not inflated beyond the limit.
    #[test]
    fn a_bomb() {
        let zeros = vec![0; 64 << 20];
        let mut bomb = Vec::new();
        let mut encoder = flate2::read::GzEncoder::new(&zeros[..], flate2::Compression::fast());
        encoder.read_to_end(&mut bomb).unwrap();
        assert_eq!(told(&bomb, true), Told::Unreadable);
    }

    #[test]
    fn the_status_line() {
        assert_eq!(status(b"grpc-message:no\r\nGrpc-Status: 5\r\n"), Some(Status(5)));
        assert_eq!(status(b"grpc-status:0"), Some(Status::OK));
        assert_eq!(status(b"x-grpc-status: 1\r\n\r\n"), None);
        assert_eq!(status(b""), None);
    }
}

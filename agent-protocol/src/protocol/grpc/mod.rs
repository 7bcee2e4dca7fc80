//! gRPC (doc/PROTOCOL-HTTP2.md of the gRPC project): what a call is, above HTTP/2 or, as gRPC-Web, any HTTP.

mod deadline;
pub mod outcome;
pub mod web;

pub use deadline::Deadline;

use crate::record::grpc::Messages;

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

/// The bit of a prefix's flag byte that says that what follows is compressed.
const COMPRESSED: u8 = 1;

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
            // The specification has no other bits.
            self.foreign |= flags & !(web::TRAILERS | COMPRESSED) != 0;
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

    /// Whether the message that has begun is compressed.
    pub fn is_compressed(&self) -> bool {
        self.prefix[0] & COMPRESSED != 0
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
}

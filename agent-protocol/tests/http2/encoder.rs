//! HTTP/2 as a sender writes it: frames, and an HPACK encoder that indexes whatever it likes.

use std::collections::VecDeque;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

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

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;
pub(crate) const HAS_PRIORITY: u8 = 0x20;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub(crate) fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in pairs {
        payload.extend(id.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &payload)
}

pub(crate) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// A gRPC message of so many bytes, with its prefix.
pub(crate) fn message(length: usize) -> Vec<u8> {
    let mut message = vec![0];
    message.extend((length as u32).to_be_bytes());
    message.resize(message.len() + length, 0xa5);
    message
}

pub(crate) type Field<'a> = (&'a str, &'a str);

/// How a field that is in no table is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Indexing {
    Incremental,
    Without,
    Never,
}

/// An HPACK encoder without Huffman.
pub(crate) struct Encoder {
    table: VecDeque<(String, String)>,
    size: usize,
    max_size: usize,
    /// The smallest size since the last block, where it has changed.
    smallest: Option<usize>,
    /// Names are taken from the dynamic table before the static one.
    pub(crate) dynamic_names: bool,
}

/// The entries of the static table that are of use here (RFC 7541 Appendix A).
const STATIC: [(usize, &str, &str); 16] = [
    (1, ":authority", ""),
    (2, ":method", "GET"),
    (3, ":method", "POST"),
    (4, ":path", "/"),
    (5, ":path", "/index.html"),
    (6, ":scheme", "http"),
    (7, ":scheme", "https"),
    (8, ":status", "200"),
    (9, ":status", "204"),
    (13, ":status", "404"),
    (14, ":status", "500"),
    (28, "content-length", ""),
    (31, "content-type", ""),
    (33, "date", ""),
    (54, "server", ""),
    (58, "user-agent", ""),
];

impl Encoder {
    pub(crate) fn new() -> Encoder {
        Encoder {
            table: VecDeque::new(),
            size: 0,
            max_size: 4096,
            smallest: None,
            dynamic_names: false,
        }
    }

    pub(crate) fn resize(&mut self, max_size: usize) {
        self.max_size = max_size;
        self.evict();
        self.smallest = Some(self.smallest.map_or(max_size, |size| size.min(max_size)));
    }

    fn evict(&mut self) {
        while self.size > self.max_size {
            let (name, value) = self.table.pop_back().unwrap();
            self.size -= name.len() + value.len() + 32;
        }
    }

    pub(crate) fn block(&mut self, fields: &[Field<'_>], mut how: impl FnMut() -> Indexing) -> Vec<u8> {
        let mut out = Vec::new();
        // RFC 7541 § 4.2: the smallest of the sizes in between, then the last.
        if let Some(smallest) = self.smallest.take() {
            if smallest < self.max_size {
                integer(&mut out, 0x20, 5, smallest);
            }
            integer(&mut out, 0x20, 5, self.max_size);
        }
        for &(name, value) in fields {
            let dynamic = |whole: bool| {
                let same = |(n, v): &(String, String)| n == name && (!whole || v == value);
                self.table.iter().position(same).map(|at| at + 62)
            };
            let fixed = |whole: bool| {
                let same = |&&(_, n, v): &&(usize, &str, &str)| n == name && (!whole || v == value);
                STATIC.iter().find(same).map(|entry| entry.0)
            };
            if let Some(index) = fixed(true).or_else(|| dynamic(true)) {
                integer(&mut out, 0x80, 7, index);
                continue;
            }
            let name_index = match self.dynamic_names {
                true => dynamic(false).or_else(|| fixed(false)),
                false => fixed(false).or_else(|| dynamic(false)),
            };
            let name_index = name_index.unwrap_or(0);
            let how = how();
            match how {
                Indexing::Incremental => integer(&mut out, 0x40, 6, name_index),
                Indexing::Without => integer(&mut out, 0, 4, name_index),
                Indexing::Never => integer(&mut out, 0x10, 4, name_index),
            }
            if name_index == 0 {
                string(&mut out, name);
            }
            string(&mut out, value);
            if how == Indexing::Incremental {
                self.table.push_front((name.to_owned(), value.to_owned()));
                self.size += name.len() + value.len() + 32;
                self.evict();
            }
        }
        out
    }

    /// A block that touches no dynamic table.
    pub(crate) fn plain(fields: &[Field<'_>]) -> Vec<u8> {
        Encoder::new().block(fields, || Indexing::Without)
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    integer(out, 0, 7, text.len());
    out.extend(text.as_bytes());
}

fn integer(out: &mut Vec<u8>, first: u8, prefix: u32, mut value: usize) {
    let max = (1 << prefix) - 1;
    if value < max {
        return out.push(first | value as u8);
    }
    out.push(first | max as u8);
    value -= max;
    while value >= 128 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

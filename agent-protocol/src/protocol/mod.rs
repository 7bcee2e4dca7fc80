#![doc = include_str!("README.md")]

use crate::output::Output;

pub mod amqp;
pub mod detectors;
pub mod grpc;
pub mod http;
pub mod pairing;
pub mod postgres;
pub mod redis;
#[cfg(test)]
pub(crate) mod testing;

/// Direction of bytes, named after the roles of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flow {
    /// What the client sends.
    ToServer = 0,
    /// What the server sends.
    ToClient = 1,
}

impl Flow {
    /// The other one.
    pub fn opposite(self) -> Self {
        match self {
            Flow::ToServer => Flow::ToClient,
            Flow::ToClient => Flow::ToServer,
        }
    }
}

/// When the bytes of an [`Input`] were seen: each mark gives the time of the bytes from its offset on.
/// An offset can lie before the input's first byte.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// Stream position of the first byte of a chunk (a call, a packet).
    pub position: u64,
    /// When that chunk was seen.
    pub time: u64,
}

/// The contiguous bytes of a flow that were not consumed yet.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// Time of the byte before the first of `bytes` (consumed or skipped); 0 at the start of a flow.
    pub time_before: u64,
    /// The other flow had its time to catch up: [`Then::Blocked`] is not an answer any more, at the begin of `bytes`.
    /// It is one behind the first message there, which has a time of its own.
    pub waited: bool,
    /// The last byte of the skip before was lost: when it came is not known, `time_before` is earlier.
    pub end_unseen: bool,
    pub(crate) position: u64,
    pub(crate) marks: &'a [Mark],
}

impl<'a> Input<'a> {
    /// An input for tests and benchmarks: all bytes seen at `time`, as one chunk.
    pub fn at(time: u64, bytes: &'a [u8], mark: &'a mut Mark) -> Input<'a> {
        *mark = Mark { position: 0, time };
        Input {
            bytes,
            time_before: 0,
            waited: false,
            end_unseen: false,
            position: 0,
            marks: std::slice::from_ref(mark),
        }
    }

    /// When the byte at `offset` was seen. One past the end gives the time of the last byte.
    pub fn time_at(&self, offset: usize) -> u64 {
        let position = self.position + offset as u64;
        match self.marks.iter().rev().find(|mark| mark.position <= position) {
            Some(mark) => mark.time,
            None => self.time_before,
        }
    }

    /// When the last byte before `offset` was seen: the end of a message that ends there.
    pub fn time_until(&self, offset: usize) -> u64 {
        if offset == 0 {
            self.time_before
        } else {
            self.time_at(offset - 1)
        }
    }

    /// Whether a chunk (a call, a packet) began at `offset`.
    pub fn chunk_starts_at(&self, offset: usize) -> bool {
        let position = self.position + offset as u64;
        self.marks.iter().any(|mark| mark.position == position)
    }

    /// Offset of the first chunk that begins at or after `offset`.
    pub fn next_chunk(&self, offset: usize) -> Option<usize> {
        let position = self.position + offset as u64;
        let mark = self.marks.iter().find(|mark| mark.position >= position)?;
        let offset = usize::try_from(mark.position - self.position).ok()?;
        (offset < self.bytes.len()).then_some(offset)
    }

    /// The same input without its first `n` bytes.
    pub fn advance(&self, n: usize) -> Input<'a> {
        Input {
            bytes: &self.bytes[n..],
            time_before: self.time_until(n),
            end_unseen: self.end_unseen && n == 0,
            position: self.position + n as u64,
            ..*self
        }
    }
}

/// How far [`Protocol::data`] came, and what it needs next.
#[derive(Debug)]
pub struct Progress {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// What next.
    pub then: Then,
}

impl Progress {
    /// `consumed` bytes are done with, and `then` is next.
    pub fn new(consumed: usize, then: Then) -> Progress {
        Progress { consumed, then }
    }
}

/// What a protocol needs next on a flow.
pub enum Then {
    /// More bytes than the input holds.
    More,
    /// The next `n > 0` bytes are not needed; call again after them, even with empty input (its `time_before` is
    /// then the time of the last skipped byte). A hole inside them is no gap.
    Skip(u64),
    /// As [`Then::Skip`], of a chunk's content, with the length of the line before it. CR LF and the next line follow.
    SkipChunk(u64, usize),
    /// Nothing more is needed of this flow until it ends.
    SkipToEnd,
    /// Progress on the other flow, which can only be late: time is limited, then `input.waited` is set, where
    /// this answer is not allowed.
    Blocked,
    /// Progress on the other flow, however long that takes.
    Wait,
    /// The rest of the connection, from here on in both flows, belongs to another protocol.
    Become(Box<dyn Protocol>),
    /// The rest of the connection, from here on in both flows, is to be detected anew.
    Detect,
    /// Nothing more is to be learned from this connection.
    Ignore,
}

impl std::fmt::Debug for Then {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Then::More => f.write_str("More"),
            Then::Skip(n) => write!(f, "Skip({n})"),
            Then::SkipChunk(n, line) => write!(f, "SkipChunk({n}, {line})"),
            Then::SkipToEnd => f.write_str("SkipToEnd"),
            Then::Blocked => f.write_str("Blocked"),
            Then::Wait => f.write_str("Wait"),
            Then::Become(protocol) => write!(f, "Become({})", protocol.name()),
            Then::Detect => f.write_str("Detect"),
            Then::Ignore => f.write_str("Ignore"),
        }
    }
}

/// The state of one connection in one protocol: bytes in, transactions out. It must not panic on any bytes,
/// must give the same transactions for any chunking, and must report none that is false after any gap.
pub trait Protocol: Send {
    /// The protocol's name, as in `network.protocol.name` or `db.system.name`.
    fn name(&self) -> &'static str;

    /// Takes what it can from `input`, the unconsumed bytes of `flow`. Called when bytes arrived, when a skip is
    /// over, and, after [`Then::Blocked`] or [`Then::Wait`], when the other flow came on.
    fn data(&mut self, flow: Flow, input: Input<'_>, output: &mut dyn Output) -> Progress;

    /// Bytes of `flow` are missing between what was consumed (or skipped) and the next input. What a message
    /// had unconsumed before the gap is gone. `length` counts the missing and the discarded bytes.
    fn gap(&mut self, flow: Flow, length: u64, output: &mut dyn Output);

    /// The writer of `flow` ended it (FIN), and what it wrote was seen or told as a gap. A flow that only ends with the
    /// connection was cut off, for all that is known. To be followed by [`Protocol::end`].
    fn finished(&mut self, _flow: Flow) {}

    /// No more bytes will come on `flow`; `time` is that of its last byte.
    fn end(&mut self, flow: Flow, time: u64, output: &mut dyn Output);

    /// The connection is closed, at `time`. What is open is cut off.
    fn close(&mut self, time: u64, output: &mut dyn Output);

    /// Observation ends or the state is evicted: what is open is counted as [`Loss::Unfinished`].
    ///
    /// [`Loss::Unfinished`]: crate::loss::Loss::Unfinished
    fn abandon(&mut self, output: &mut dyn Output);
}

/// What [`Detector::detect`] thinks of the bytes at a place where a message may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detection {
    /// Not this protocol.
    No,
    /// Could be, with more bytes.
    Maybe,
    /// A message of this protocol in this flow begins here.
    Yes(Flow),
}

/// A protocol that can be recognised.
pub struct Detector {
    /// The protocol's name.
    pub name: &'static str,
    /// Do these bytes begin a message? `fresh`: they are the first of their direction, else the first of a chunk
    /// somewhere in a connection that was joined in the middle, where stronger proof is needed.
    pub detect: fn(bytes: &[u8], fresh: bool) -> Detection,
    /// Whether the connection speaks it, by what the client said first, of which [`Detector::detect`] says that it may be
    /// of this protocol, and what the server answered. `None` where that is not for it to say.
    pub answered: fn(asked: &[u8], answer: &[u8]) -> Option<Detection>,
    /// The state of a connection, `fresh` where both directions are seen from their first byte. Else each flow
    /// begins as after a gap.
    pub create: fn(fresh: bool) -> Box<dyn Protocol>,
}

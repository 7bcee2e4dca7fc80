//! The packets of a pcap or pcapng file.

mod input;
mod pcap;
mod pcapng;

use input::{Input, Order};
use std::io::{self, Read};

/// A packet as it was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    /// What its first header is: a `LINKTYPE_` value of the tcpdump group's registry.
    pub(crate) link: u16,
    /// When it was captured, in nanoseconds since the Unix epoch; a Simple Packet Block does not say.
    pub(crate) time: Option<u64>,
    /// How many bytes it had on the wire.
    pub(crate) length: u32,
    /// The first of them, as captured.
    pub(crate) bytes: &'a [u8],
}

/// Why the bytes of a file are no capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no pcap or pcapng capture: {0}")]
pub struct NotACapture(pub &'static str);

/// Where a capture cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{damage} at offset {offset}")]
pub struct Cut {
    /// Offset in the file of the record that cannot be read; all before it were.
    pub offset: u64,
    /// What is wrong with it.
    pub damage: Damage,
}

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The file ends inside it.
    #[error("the capture is cut off in the record")]
    CutOff,
    /// Its lengths are impossible.
    #[error("the capture is damaged: impossible length of the record")]
    Length,
    /// A pcapng section header with an unknown byte order or version.
    #[error("the capture is damaged: unknown kind of section")]
    Section,
}

/// Why there is no next packet.
#[derive(Debug)]
pub(crate) enum Stop {
    Cut(Cut),
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Io(error)
    }
}

/// Longer packets make no sense in any link type.
const MAX_PACKET: u32 = 128 << 20;

enum Format {
    Pcap(pcap::Pcap),
    PcapNg(pcapng::PcapNg),
}

/// How many bytes tell what a file is.
pub(crate) const RECOGNISED: usize = 512;

/// Whether a file that begins with `start` is a capture.
pub(crate) fn recognise(start: &[u8]) -> Result<(), NotACapture> {
    Format::new(start).map(drop)
}

impl Format {
    /// The format of a file that begins with `start`, and the length of its header.
    fn new(start: &[u8]) -> Result<(Format, u64), NotACapture> {
        if let Some((format, header)) = pcap::Pcap::new(start)? {
            Ok((Format::Pcap(format), header))
        } else if start.starts_with(&pcapng::SECTION_HEADER.to_le_bytes()) {
            Ok((Format::PcapNg(pcapng::PcapNg::default()), 0))
        } else {
            Err(NotACapture(looks_like(start)))
        }
    }
}

/// A capture file, read packet by packet in constant memory.
///
/// Formats: pcap in both byte orders with micro- or nanoseconds, also with the longer record header of
/// Kuznetzov's patch (draft-ietf-opsawg-pcap), and pcapng (draft-ietf-opsawg-pcapng).
pub(crate) struct Capture<R> {
    input: Input<R>,
    format: Format,
}

/// Why a file could not be opened as a capture.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    NotACapture(#[from] NotACapture),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Cut(Cut),
}

impl<R: Read> Capture<R> {
    /// Reads the file's header.
    pub(crate) fn open(reader: R) -> Result<Capture<R>, OpenError> {
        let mut input = Input::new(reader);
        let (format, header) = Format::new(input.peek(RECOGNISED)?)?;
        if !input.skip(header)? {
            return Err(OpenError::Cut(Cut {
                offset: 0,
                damage: Damage::CutOff,
            }));
        }
        Ok(Capture { input, format })
    }

    /// The next packet; `None` at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<Packet<'_>>, Stop> {
        match &mut self.format {
            Format::Pcap(format) => format.next(&mut self.input),
            Format::PcapNg(format) => format.next(&mut self.input),
        }
    }

    /// How many bytes of the file were read.
    pub(crate) fn offset(&self) -> u64 {
        self.input.offset()
    }
}

/// Names what a file seems to be that is no capture.
fn looks_like(start: &[u8]) -> &'static str {
    const SIGNATURES: &[(&[u8], &str)] = &[
        (
            b"\x1f\x8b",
            "it looks like gzip; decompress it into a pipe and read that with -",
        ),
        (
            b"\x28\xb5\x2f\xfd",
            "it looks like Zstandard; decompress it into a pipe and read that with -",
        ),
        (
            b"\xfd7zXZ\0",
            "it looks like xz; decompress it into a pipe and read that with -",
        ),
        (
            b"BZh",
            "it looks like bzip2; decompress it into a pipe and read that with -",
        ),
        (
            b"\x04\x22\x4d\x18",
            "it looks like LZ4; decompress it into a pipe and read that with -",
        ),
        (b"PK\x03\x04", "it looks like a zip archive; unpack it first"),
        (
            b"snoop\0\0\0",
            "it looks like a snoop capture; convert it with editcap",
        ),
        (
            b"GMBU",
            "it looks like a Network Monitor capture; convert it with editcap",
        ),
        (b"btsnoop\0", "it looks like a Bluetooth capture"),
        (b"\x7fELF", "it looks like a program"),
    ];
    if start.is_empty() {
        return "it is empty";
    }
    if let Some((_, name)) = SIGNATURES.iter().find(|(magic, _)| start.starts_with(magic)) {
        return name;
    }
    let text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..);
    if start.iter().all(text) {
        "it looks like text"
    } else {
        "it begins with no known magic number"
    }
}

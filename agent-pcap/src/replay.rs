//! A capture through the pipeline.

use crate::capture::{Capture, Cut, NotACapture, OpenError, Packet, RECOGNISED, Stop, recognise};
use crate::fragments::{Fragments, is_checksum_right};
use crate::packet::{Decoded, Segment, Skip, decode, decode_datagram};
use crate::tcp::{Clock, Passed, Sink, Streams, Tcp};
use redwire_protocol::output::Observer;
use redwire_protocol::stream::{Connections, Limits};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// What was read of a capture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of the file.
    pub bytes: u64,
    /// Packets in it.
    pub packets: u64,
    /// When the first packet was captured and when the last, in nanoseconds since the Unix epoch.
    pub times: Option<(u64, u64)>,
    /// TCP segments, after reassembly of fragments.
    pub segments: u64,
    /// Bytes that they carried on the wire, those sent again included.
    pub payload_bytes: u64,
    /// Segments that were not captured whole.
    pub cut_segments: u64,
    /// Segments that fit no connection.
    pub stray_segments: u64,
    /// Connections.
    pub connections: u64,
    /// Those whose beginning is not in the capture.
    pub joined_connections: u64,
    /// Those given up because there were too many at a time.
    pub evicted_connections: u64,
    skipped: [u64; Skip::ALL.len()],
}

impl Summary {
    /// How many packets were skipped for this reason.
    pub fn skipped(&self, reason: Skip) -> u64 {
        self.skipped[reason as usize]
    }
}

/// Why a capture was not read whole.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file is something else.
    #[error(transparent)]
    NotACapture(#[from] NotACapture),
    /// It ends within a record or is damaged. What comes before was reported.
    #[error("{cut}")]
    CutOff {
        /// Where and why.
        cut: Cut,
        /// What could be read.
        summary: Box<Summary>,
    },
    /// It cannot be read. What could be was reported.
    #[error("the capture cannot be read at offset {}: {error}", summary.bytes)]
    Io {
        /// Why.
        #[source]
        error: io::Error,
        /// What could be read.
        summary: Box<Summary>,
    },
}

impl ReplayError {
    /// What could be read nevertheless.
    pub fn summary(&self) -> Option<&Summary> {
        match self {
            ReplayError::NotACapture(_) => None,
            ReplayError::CutOff { summary, .. } | ReplayError::Io { summary, .. } => Some(summary),
        }
    }

    /// The exit status of `redwire replay`: 3 for a capture that is cut off, else 1.
    pub fn exit_status(&self) -> u8 {
        match self {
            ReplayError::CutOff { .. } => 3,
            ReplayError::NotACapture(_) | ReplayError::Io { .. } => 1,
        }
    }
}

/// The bounds that streams need for captures, where bytes lost on the way to their receiver come again after
/// its peer's timeout, and what it has is known from its acknowledgements.
pub fn limits() -> Limits {
    Limits {
        held_bytes: 8 << 20,
        patience: 1_000_000_000,
        hole_patience: 60_000_000_000,
        ..Limits::default()
    }
}

/// Opens a capture file; `-` is the standard input. Also returns how long it is, where that is known.
///
/// # Errors
/// Those of opening and reading a file, and [`NotACapture`] as [`io::ErrorKind::InvalidData`] where it is something else.
pub fn open(path: &Path) -> io::Result<(Box<dyn Read>, Option<u64>)> {
    let (mut reader, length): (Box<dyn Read>, _) = if path == Path::new("-") {
        (Box::new(io::stdin().lock()), None)
    } else {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let length = metadata.is_file().then_some(metadata.len());
        (Box::new(file), length)
    };
    let mut start = Vec::with_capacity(RECOGNISED);
    reader.by_ref().take(RECOGNISED as u64).read_to_end(&mut start)?;
    recognise(&start).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok((Box::new(io::Cursor::new(start).chain(reader)), length))
}

/// How many bytes are read between reports of progress.
const PROGRESS: u64 = 4 << 20;

/// Reads a capture to its end and gives what its connections carried to `connections`, made with [`limits`].
/// Connections that the capture saw close are closed; the others stay open for [`Connections::finish`].
/// Every few megabytes `progress` is told what was read so far.
///
/// # Errors
/// [`ReplayError`]; what could be read was given to `connections` before.
pub fn replay(
    reader: impl Read,
    connections: &mut Connections,
    observer: &mut dyn Observer,
    progress: &mut dyn FnMut(&Summary),
) -> Result<Summary, ReplayError> {
    let mut streams = Streams {
        connections,
        observer,
    };
    run(reader, &mut streams, progress)
}

fn run(
    reader: impl Read,
    sink: &mut impl Sink,
    progress: &mut dyn FnMut(&Summary),
) -> Result<Summary, ReplayError> {
    let mut capture = match Capture::open(reader) {
        Ok(capture) => capture,
        Err(error) => {
            let summary = Box::default();
            return Err(match error {
                OpenError::NotACapture(error) => error.into(),
                OpenError::Io(error) => ReplayError::Io { error, summary },
                OpenError::Cut(cut) => ReplayError::CutOff { cut, summary },
            });
        }
    };
    let mut replay = Replay {
        tcp: Tcp::new(limits().connections),
        fragments: Fragments::default(),
        clock: Clock::default(),
        summary: Summary::default(),
        sink,
    };
    let mut reported = 0;
    let stop = loop {
        match capture.next() {
            Ok(Some(packet)) => replay.packet(&packet),
            Ok(None) => break None,
            Err(stop) => break Some(stop),
        }
        let offset = capture.offset();
        if offset - reported >= PROGRESS {
            reported = offset;
            replay.count(offset);
            progress(&replay.summary);
        }
    };
    let offset = match &stop {
        Some(Stop::Cut(cut)) => cut.offset,
        _ => capture.offset(),
    };
    let summary = replay.finish(offset);
    match stop {
        None => Ok(summary),
        Some(Stop::Cut(cut)) => Err(ReplayError::CutOff {
            cut,
            summary: summary.into(),
        }),
        Some(Stop::Io(error)) => Err(ReplayError::Io {
            error,
            summary: summary.into(),
        }),
    }
}

struct Replay<'a, S> {
    tcp: Tcp,
    fragments: Fragments,
    clock: Clock,
    summary: Summary,
    sink: &'a mut S,
}

impl<S: Sink> Replay<'_, S> {
    fn packet(&mut self, packet: &Packet<'_>) {
        self.summary.packets += 1;
        let time = packet.time.unwrap_or(self.clock.now);
        if packet.time.is_some() {
            let (first, last) = self.summary.times.unwrap_or((time, time));
            self.summary.times = Some((first.min(time), last.max(time)));
        }
        self.pass(time);
        match decode(packet) {
            Ok(Decoded::Segment(segment)) => self.segment(&segment, time),
            Ok(Decoded::Fragment(fragment)) => {
                let Some(whole) = self.fragments.add(&fragment, self.clock.now) else {
                    return;
                };
                match decode_datagram(&fragment.datagram, &whole) {
                    Ok(segment) if is_checksum_right(&segment, &whole) => self.segment(&segment, time),
                    Ok(_) => self.skip(Skip::Fragment),
                    Err(reason) => self.skip(reason),
                }
            }
            Err(reason) => self.skip(reason),
        }
    }

    fn segment(&mut self, segment: &Segment<'_>, time: u64) {
        self.summary.segments += 1;
        self.summary.payload_bytes += u64::from(segment.length);
        self.summary.cut_segments += u64::from(segment.bytes.len() < segment.length as usize);
        self.tcp.segment(segment, time, self.sink);
    }

    fn skip(&mut self, reason: Skip) {
        self.summary.skipped[reason as usize] += 1;
    }

    /// Lets the time of a capture pass.
    fn pass(&mut self, time: u64) {
        let waited = match self.clock.packet(time) {
            Passed::Little => return,
            Passed::Tick => {
                self.tcp.tick(self.clock.now, self.sink);
                self.clock.now
            }
            Passed::SetBack => {
                self.tcp.set_clock(self.clock.now, self.sink);
                // Before the end of time, where those wait who wait for ever.
                u64::MAX - 1
            }
        };
        self.sink.tick(waited);
    }

    fn count(&mut self, offset: u64) {
        self.summary.bytes = offset;
        self.summary.connections = self.tcp.connections;
        self.summary.joined_connections = self.tcp.joined;
        self.summary.evicted_connections = self.tcp.evicted;
        self.summary.stray_segments = self.tcp.stray;
        self.summary.skipped[Skip::Fragment as usize] += std::mem::take(&mut self.fragments.lost);
    }

    fn finish(mut self, offset: u64) -> Summary {
        self.fragments.finish();
        self.tcp.finish(self.sink);
        self.count(offset);
        self.summary
    }
}

#[cfg(test)]
mod tests;

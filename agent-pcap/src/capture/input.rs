//! Buffered reading with a view of what comes next.

use std::io::{self, Read};

/// The most of one record that is looked at; a TCP segment with all its headers is smaller, also before
/// segmentation offload.
pub(super) const WINDOW: usize = 640 << 10;

const BUFFER: usize = 1 << 20;

/// A reader with a window of at least [`WINDOW`] bytes on what comes next.
pub(super) struct Input<R> {
    reader: R,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    offset: u64,
}

impl<R: Read> Input<R> {
    pub(super) fn new(reader: R) -> Input<R> {
        Input {
            reader,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            offset: 0,
        }
    }

    /// Offset in the file of the next byte.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// What is there of the next `n <= WINDOW` bytes: fewer only at the end of the file.
    pub(super) fn peek(&mut self, n: usize) -> io::Result<&[u8]> {
        let n = n.min(WINDOW);
        if self.end - self.start < n {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            while self.end < n && self.read()? {}
        }
        Ok(self.window(n))
    }

    /// The first `n` bytes of what was peeked at.
    pub(super) fn window(&self, n: usize) -> &[u8] {
        let end = (self.start + n).min(self.end);
        &self.buffer[self.start..end]
    }

    /// Goes on by `n` bytes. Returns whether the file has that many.
    pub(super) fn skip(&mut self, n: u64) -> io::Result<bool> {
        let mut left = n;
        loop {
            let here = left.min((self.end - self.start) as u64);
            self.start += here as usize;
            self.offset += here;
            left -= here;
            if left == 0 {
                return Ok(true);
            }
            (self.start, self.end) = (0, 0);
            if !self.read()? {
                return Ok(false);
            }
        }
    }

    /// Reads more behind what is there. Returns whether there was more.
    fn read(&mut self) -> io::Result<bool> {
        loop {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(n) => {
                    self.end += n;
                    return Ok(n > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Reads numbers in the byte order of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    /// The 16 bits at `at`; 0 where they are not there.
    pub(super) fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let Some(bytes) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
            return 0;
        };
        match self {
            Order::Little => u16::from_le_bytes(*bytes),
            Order::Big => u16::from_be_bytes(*bytes),
        }
    }

    /// The 32 bits at `at`; 0 where they are not there.
    pub(super) fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let Some(bytes) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
            return 0;
        };
        match self {
            Order::Little => u32::from_le_bytes(*bytes),
            Order::Big => u32::from_be_bytes(*bytes),
        }
    }

    /// The 64 bits at `at`; 0 where they are not there.
    pub(super) fn u64(self, bytes: &[u8], at: usize) -> u64 {
        let (first, second) = (u64::from(self.u32(bytes, at)), u64::from(self.u32(bytes, at + 4)));
        match self {
            Order::Little => second << 32 | first,
            Order::Big => first << 32 | second,
        }
    }
}

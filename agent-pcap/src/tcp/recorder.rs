//! Puts streams together the simplest way, for tests.

use super::Sink;
use redwire_protocol::connection::{ConnectionId, ConnectionInfo, Direction};
use redwire_protocol::stream::{Chunk, Origin};
use std::collections::BTreeMap;

/// What one direction was told, by offset from `base`.
#[derive(Debug, Default, Clone)]
pub(crate) struct Stream {
    pub(crate) base: u32,
    pub(crate) bytes: BTreeMap<i64, u8>,
    /// Below here nothing can come any more.
    pub(crate) given_up: i64,
    /// Bytes that came although they were given up.
    pub(crate) too_late: usize,
    pub(crate) ended: Option<i64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) info: ConnectionInfo,
    pub(crate) origins: [Origin; 2],
    pub(crate) streams: [Stream; 2],
    pub(crate) closed: Option<([Option<u32>; 2], u64)>,
    pub(crate) abandoned: bool,
    pub(crate) evicted: bool,
}

/// Puts streams together the simplest way.
#[derive(Default)]
pub(crate) struct Recorder(pub(crate) Vec<Told>);

impl Recorder {
    fn told(&mut self, id: ConnectionId) -> &mut Told {
        let told = self.0.iter_mut().find(|told| told.info.id == id);
        let told = told.expect("an open connection");
        assert!(told.closed.is_none() && !told.abandoned, "told after the close");
        told
    }
}

impl Stream {
    fn offset(&self, position: u32) -> i64 {
        i64::from(position.wrapping_sub(self.base) as i32)
    }

    /// Byte ranges missing below `end`.
    pub(crate) fn missing(&self, end: i64) -> usize {
        (0..end).filter(|at| !self.bytes.contains_key(at)).count()
    }

    pub(crate) fn text(&self) -> Vec<u8> {
        self.bytes.values().copied().collect()
    }
}

impl Sink for Recorder {
    fn opened(&mut self, info: ConnectionInfo, origins: [Origin; 2]) {
        assert!(
            self.0.iter().all(|told| told.info.id != info.id),
            "one identity twice"
        );
        let mut streams: [Stream; 2] = Default::default();
        for (stream, origin) in streams.iter_mut().zip(origins) {
            stream.base = origin.unwrap_or_default();
        }
        self.0.push(Told {
            info,
            origins,
            streams,
            closed: None,
            abandoned: false,
            evicted: false,
        });
    }

    fn data(&mut self, chunk: &Chunk<'_>) {
        assert!(chunk.bytes.len() <= chunk.length as usize);
        let told = self.told(chunk.id);
        let known = told.origins[chunk.direction as usize].is_some();
        let stream = &mut told.streams[chunk.direction as usize];
        if !known && stream.bytes.is_empty() {
            stream.base = chunk.position;
        }
        let from = stream.offset(chunk.position);
        for (at, byte) in (from..).zip(chunk.bytes) {
            if !stream.bytes.contains_key(&at) {
                stream.too_late += usize::from(at < stream.given_up);
                stream.bytes.insert(at, *byte);
            }
        }
    }

    fn acknowledged(&mut self, id: ConnectionId, direction: Direction, position: u32) {
        let stream = &mut self.told(id).streams[direction as usize];
        stream.given_up = stream.given_up.max(stream.offset(position));
    }

    fn ended(&mut self, id: ConnectionId, direction: Direction, position: u32, _time: u64) {
        let stream = &mut self.told(id).streams[direction as usize];
        assert!(stream.ended.is_none(), "ended twice");
        let end = stream.offset(position);
        stream.ended = Some(end);
        stream.given_up = stream.given_up.max(end);
    }

    fn closed(&mut self, id: ConnectionId, positions: [Option<u32>; 2], time: u64) {
        self.told(id).closed = Some((positions, time));
    }

    fn abandoned(&mut self, id: ConnectionId) {
        self.told(id).abandoned = true;
    }

    fn evicted(&mut self, info: ConnectionInfo) {
        let told = self.told(info.id);
        (told.abandoned, told.evicted) = (true, true);
    }

    fn tick(&mut self, _now: u64) {}
}

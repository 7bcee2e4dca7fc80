//! A WebSocket session after its handshake (RFC 6455).
//!
//! Of a session only its length and its size are of interest, so frames are passed over and their payload skipped.

use crate::loss::Loss;
use crate::output::Output;
use crate::protocol::{Flow, Input, Progress, Protocol, Then};
use crate::record::{Record, http, websocket};
use crate::trace_context::SpanContext;
use crate::transaction::Transaction;

/// Where in a flow the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the begin of a frame.
    Frame,
    /// In a payload that was skipped so far.
    Payload(u64),
    /// Frames are not followed any more; bytes are only counted.
    Counting,
}

pub(super) struct WebSocket {
    path: Option<Box<str>>,
    authority: Option<Box<str>>,
    handshake: SpanContext,
    start: u64,
    flows: [(State, u64); 2],
    open: bool,
}

impl WebSocket {
    /// The session that begins at `start`, after `handshake`, whose request was `request`.
    pub(super) fn new(
        request: &http::Record<'_>,
        handshake: SpanContext,
        start: u64,
        output: &mut dyn Output,
    ) -> WebSocket {
        output.sessions(1);
        WebSocket {
            path: request.path.map(Into::into),
            authority: request.authority.map(Into::into),
            handshake,
            start,
            flows: [(State::Frame, 0); 2],
            open: true,
        }
    }
}

/// Length of a frame's header and of its payload (RFC 6455 § 5.2). `None` if there are not enough bytes.
fn frame(bytes: &[u8]) -> Option<(usize, u64)> {
    let [_, second, rest @ ..] = bytes else {
        return None;
    };
    let mask = if second & 0x80 != 0 { 4 } else { 0 };
    let (header, payload) = match second & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*rest.first_chunk()?)),
        length => (2, u64::from(length)),
    };
    (bytes.len() >= header + mask).then_some((header + mask, payload))
}

impl Protocol for WebSocket {
    fn name(&self) -> &'static str {
        "websocket"
    }

    fn data(&mut self, flow: Flow, input: Input<'_>, _output: &mut dyn Output) -> Progress {
        let (state, count) = &mut self.flows[flow as usize];
        let mut at = 0;
        loop {
            let bytes = &input.bytes[at..];
            match *state {
                State::Counting => {
                    *count = count.saturating_add(bytes.len() as u64);
                    return Progress::new(input.bytes.len(), Then::More);
                }
                State::Payload(length) => {
                    *count = count.saturating_add(length);
                    *state = State::Frame;
                }
                State::Frame => {
                    let Some((header, payload)) = frame(bytes) else {
                        return Progress::new(at, Then::More);
                    };
                    // The most significant bit of a length must be 0: these are no frames.
                    if payload > i64::MAX as u64 {
                        *state = State::Counting;
                        continue;
                    }
                    at += header;
                    let here = payload.min((bytes.len() - header) as u64);
                    *count = count.saturating_add(header as u64 + here);
                    at += here as usize;
                    if here < payload {
                        *state = State::Payload(payload - here);
                        return Progress::new(at, Then::Skip(payload - here));
                    }
                }
            }
        }
    }

    fn gap(&mut self, flow: Flow, length: u64, _output: &mut dyn Output) {
        let (state, count) = &mut self.flows[flow as usize];
        if let State::Payload(skipped) = *state {
            *count = count.saturating_add(skipped);
        }
        *count = count.saturating_add(length);
        *state = State::Counting;
    }

    fn end(&mut self, _flow: Flow, _time: u64, _output: &mut dyn Output) {}

    fn close(&mut self, time: u64, output: &mut dyn Output) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        output.sessions(-1);
        output.transaction(&Transaction {
            start: self.start,
            end: time.max(self.start),
            error: None,
            remote_parent: None,
            tracestate: None,
            parent: Some(self.handshake),
            record: Record::WebSocket(websocket::Record {
                path: self.path.as_deref(),
                authority: self.authority.as_deref(),
                bytes_to_server: self.flows[Flow::ToServer as usize].1,
                bytes_to_client: self.flows[Flow::ToClient as usize].1,
            }),
        });
    }

    fn abandon(&mut self, output: &mut dyn Output) {
        if std::mem::take(&mut self.open) {
            output.sessions(-1);
            output.lost(Loss::Unfinished, 1);
        }
    }
}

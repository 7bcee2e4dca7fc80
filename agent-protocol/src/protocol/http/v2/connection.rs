//! One connection: its frames, flow by flow.

use super::fields::{Name, Response};
use super::frames::{self, HEADER, Header, PREFACE, flag, kind};
use super::hpack::{self, Decoder};
use super::settings::Bounds;
use super::stream::Stream;
use super::streams::Streams;
use super::sync::{self, Verdict};
use crate::loss::Loss;
use crate::output::Output;
use crate::protocol::http::NAME;
use crate::protocol::{Flow, Input, Progress, Protocol, Then};

/// The largest header block that is decoded, in bytes as sent. A larger one is passed over, and the table with it
/// becomes unknown.
const LARGEST_BLOCK: usize = 128 << 10;

/// Where a flow is.
#[derive(Debug)]
enum Place {
    /// Before the preface.
    Preface,
    /// Somewhere: where a frame begins is to be found.
    Lost,
    /// Before a frame.
    Frame,
    /// In a frame whose payload is passed over, as far as there is nothing to count in it.
    Payload(Payload),
}

/// What is left of the payload of a frame that is passed over.
#[derive(Debug, Clone, Copy, Default)]
struct Payload {
    /// 0 where it is no DATA frame.
    stream: u32,
    content: u32,
    /// Padding, or the payload of another frame.
    rest: u32,
    /// Bytes of a message that are being skipped: they count when they have gone by.
    passing: u32,
    ends_stream: bool,
}

impl Payload {
    fn left(&self) -> u64 {
        u64::from(self.content) + u64::from(self.rest)
    }
}

/// A header block that came in pieces, so far.
#[derive(Debug)]
struct Block {
    first: Header,
    start: u64,
    bytes: Vec<u8>,
    /// It grew too large.
    refused: bool,
}

/// One direction.
#[derive(Debug)]
struct FlowState {
    place: Place,
    hpack: Decoder<Name>,
    block: Option<Box<Block>>,
    /// `None` where SETTINGS or acknowledgements may have been missed.
    bounds: Option<Bounds>,
    /// In step since the connection began: what looks illegal is the peer's fault, not ours.
    proven: bool,
    /// No frame was read yet.
    first: bool,
    /// Bytes were seen.
    seen: bool,
    ended: bool,
}

impl FlowState {
    fn is_lost(&self) -> bool {
        matches!(self.place, Place::Lost)
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    flows: [FlowState; 2],
    pub(super) streams: Streams,
    /// For strings that are decoded.
    scratch: Vec<u8>,
}

/// Why reading stops: with so many bytes consumed, and what is needed next.
struct Stop(usize, Then);

impl Connection {
    pub(super) fn new(fresh: bool) -> Connection {
        let flow = |place| FlowState {
            place: if fresh { place } else { Place::Lost },
            hpack: if fresh {
                Decoder::fresh()
            } else {
                Decoder::unknown()
            },
            block: None,
            bounds: fresh.then(Bounds::initial),
            proven: fresh,
            first: true,
            seen: false,
            ended: false,
        };
        Connection {
            flows: [flow(Place::Preface), flow(Place::Frame)],
            streams: if fresh {
                Streams::fresh()
            } else {
                Streams::default()
            },
            scratch: Vec::new(),
        }
    }

    /// A connection after an upgrade: what the client announced with it is not known.
    pub(super) fn upgraded() -> Connection {
        let mut connection = Connection::new(true);
        connection.flow_mut(Flow::ToClient).bounds = None;
        connection
    }

    fn flow(&self, flow: Flow) -> &FlowState {
        &self.flows[flow as usize]
    }

    fn flow_mut(&mut self, flow: Flow) -> &mut FlowState {
        &mut self.flows[flow as usize]
    }

    /// Takes the next step at `at` and returns how far it came.
    fn step(
        &mut self,
        flow: Flow,
        input: &Input<'_>,
        at: usize,
        output: &mut dyn Output,
    ) -> Result<usize, Stop> {
        match self.flow(flow).place {
            Place::Preface => self.preface(flow, input, at, output),
            Place::Lost => self.find(flow, input, at, output),
            Place::Frame => self.frame(flow, input, at, output),
            Place::Payload(payload) => self.payload(flow, payload, input, at, output),
        }
    }

    fn preface(
        &mut self,
        flow: Flow,
        input: &Input<'_>,
        at: usize,
        output: &mut dyn Output,
    ) -> Result<usize, Stop> {
        match sync::is_preface(&input.bytes[at..]) {
            Verdict::No => {
                output.lost(Loss::Refused, 1);
                Err(Stop(at, Then::Ignore))
            }
            Verdict::Maybe => Err(Stop(at, Then::More)),
            Verdict::Frames(_) => {
                self.flow_mut(flow).place = Place::Frame;
                Ok(at + PREFACE.len())
            }
        }
    }

    /// Looks for the beginning of a frame.
    fn find(
        &mut self,
        flow: Flow,
        input: &Input<'_>,
        from: usize,
        output: &mut dyn Output,
    ) -> Result<usize, Stop> {
        let bytes = input.bytes;
        let mut at = from;
        let found = loop {
            let rest = &bytes[at..];
            if rest.is_empty() {
                break false;
            }
            let chunk = input.chunk_starts_at(at);
            let mut verdict = sync::judge(rest, chunk, Some(flow));
            if verdict == Verdict::No && chunk && flow == Flow::ToServer && self.flow(flow).first {
                verdict = sync::is_preface(rest);
                if matches!(verdict, Verdict::Frames(_)) {
                    let state = self.flow_mut(flow);
                    (state.hpack, state.place, state.first) = (Decoder::fresh(), Place::Preface, false);
                    self.streams.skip(0);
                    break true;
                }
            }
            match verdict {
                Verdict::No => at += 1,
                Verdict::Maybe => break false,
                Verdict::Frames(_) => {
                    let state = self.flow_mut(flow);
                    (state.place, state.first) = (Place::Frame, false);
                    break true;
                }
            }
        };
        if at > from {
            output.lost(Loss::ResyncBytes, (at - from) as u64);
        }
        if found { Ok(at) } else { Err(Stop(at, Then::More)) }
    }

    /// Passes over a payload, but for the prefixes of gRPC's messages.
    fn payload(
        &mut self,
        flow: Flow,
        mut payload: Payload,
        input: &Input<'_>,
        mut at: usize,
        output: &mut dyn Output,
    ) -> Result<usize, Stop> {
        loop {
            let here = (input.bytes.len() - at) as u64;
            let is_last_to_come =
                payload.ends_stream && payload.content == 0 && payload.rest > 0 && here == 0;
            if payload.passing > 0 && !is_last_to_come {
                let passed = std::mem::take(&mut payload.passing);
                if let Some(counter) = self.streams.counter(payload.stream, flow) {
                    counter.pass(passed);
                    self.streams
                        .counted(payload.stream, flow, input.time_until(at), output);
                }
            }
            let counter = match payload.content {
                0 => None,
                _ => self.streams.counter(payload.stream, flow),
            };
            let skip = match counter {
                None => {
                    let skip = payload.left();
                    (payload.content, payload.rest) = (0, 0);
                    skip
                }
                Some(counter) if counter.at_trailers() && counter.skippable() <= payload.content => {
                    // They are short, and the call's status is in them.
                    let length = counter.skippable();
                    let trailers = input.bytes.get(at..at + length as usize);
                    if trailers.is_none() && length as usize <= LARGEST_BLOCK {
                        self.flow_mut(flow).place = Place::Payload(payload);
                        return Err(Stop(at, Then::More));
                    }
                    let compressed = counter.is_compressed();
                    counter.pass(length);
                    payload.content -= length;
                    self.streams.web_trailers(payload.stream, trailers, compressed);
                    u64::from(length)
                }
                Some(counter) if counter.skippable() > 0 => {
                    let mut skip = counter.skippable().min(payload.content);
                    payload.content -= skip;
                    if u64::from(skip) <= here {
                        counter.pass(skip);
                        let time = input.time_until(at + skip as usize);
                        self.streams.counted(payload.stream, flow, time, output);
                    } else {
                        payload.passing = skip;
                    }
                    if payload.content == 0 {
                        skip += std::mem::take(&mut payload.rest);
                    }
                    u64::from(skip)
                }
                Some(counter) => {
                    let length = (payload.content as usize).min(input.bytes.len() - at);
                    let taken = counter.prefix(&input.bytes[at..at + length]);
                    if taken == 0 {
                        self.flow_mut(flow).place = Place::Payload(payload);
                        return Err(Stop(at, Then::More));
                    }
                    payload.content -= taken as u32;
                    at += taken;
                    self.streams
                        .counted(payload.stream, flow, input.time_at(at), output);
                    continue;
                }
            };
            if skip > here {
                let mut more = skip - here;
                if payload.ends_stream && payload.left() == 0 {
                    // Not the last byte: when it goes by is the end of the message.
                    (more, payload.rest) = (more - 1, 1);
                }
                self.flow_mut(flow).place = Place::Payload(payload);
                let then = if more > 0 { Then::Skip(more) } else { Then::More };
                return Err(Stop(input.bytes.len(), then));
            }
            self.flow_mut(flow).place = Place::Payload(payload);
            at += skip as usize;
            if payload.left() == 0 {
                break;
            }
        }
        self.flow_mut(flow).place = Place::Frame;
        if payload.ends_stream {
            self.streams
                .ended(payload.stream, flow, input.time_until(at), output);
        }
        Ok(at)
    }

    fn frame(
        &mut self,
        flow: Flow,
        input: &Input<'_>,
        at: usize,
        output: &mut dyn Output,
    ) -> Result<usize, Stop> {
        let rest = &input.bytes[at..];
        let state = self.flow_mut(flow);
        let Some(header) = Header::parse(rest) else {
            return Err(Stop(at, Then::More));
        };
        // Not HTTP/2 after all: a server that does not know the preface answers in HTTP/1.
        if state.first && state.proven && header.kind != kind::SETTINGS {
            output.lost(Loss::Refused, 1);
            return Err(Stop(at, Then::Ignore));
        }
        if state
            .bounds
            .is_some_and(|bounds| !bounds.frame_size.allows(header.length))
        {
            return self.refuse_unless_late(flow, input, at, output);
        }
        let continues = match &state.block {
            Some(block) => header.kind == kind::CONTINUATION && header.stream == block.first.stream,
            None => header.kind != kind::CONTINUATION,
        };
        if !continues || !header.is_legal(flow) {
            return self.refuse(flow, at + 1, output);
        }
        state.first = false;
        self.streams.pass_time(input.time_at(at), output);
        if flow == Flow::ToClient
            && matches!(header.kind, kind::DATA | kind::HEADERS | kind::RST_STREAM)
            && self.may_be_late(header.stream)
            && !input.waited
        {
            return Err(Stop(at, Then::Blocked));
        }
        match header.kind {
            kind::DATA => self.begin_data(flow, &header, input, at, output),
            kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION if header.whole() > LARGEST_BLOCK => {
                let in_step = self.flow(flow).proven;
                let next = self.refuse(flow, at + 1, output)?;
                if !in_step {
                    return Ok(next);
                }
                // It is a frame, so none begins within.
                self.flow_mut(flow).place = Place::Frame;
                Ok(self.pass(flow, header.length, at + HEADER))
            }
            kind::HEADERS
            | kind::PUSH_PROMISE
            | kind::CONTINUATION
            | kind::RST_STREAM
            | kind::SETTINGS
            | kind::GOAWAY => {
                // Of GOAWAY, only what comes before the debug data is of interest.
                let needed = match header.kind {
                    kind::GOAWAY => HEADER + 8,
                    _ => header.whole(),
                };
                let Some(payload) = rest.get(HEADER..needed) else {
                    return Err(Stop(at, Then::More));
                };
                if header.has_fields() {
                    return self.fields(flow, &header, payload, input, at, output);
                }
                let time = input.time_until(at + needed);
                match header.kind {
                    kind::SETTINGS => self.settings(flow, &header, payload),
                    kind::RST_STREAM => {
                        let code = frames::number(payload, 0).unwrap_or_default();
                        self.streams.reset(header.stream, flow, code, time, output);
                    }
                    _ if flow == Flow::ToClient => {
                        let last = frames::number(payload, 0).unwrap_or_default() & 0x7fff_ffff;
                        self.streams.go_away(last, time, output);
                    }
                    _ => {}
                }
                Ok(self.pass(flow, (header.whole() - needed) as u32, at + needed))
            }
            _ => Ok(self.pass(flow, header.length, at + HEADER)),
        }
    }

    /// Passes over `length` bytes from `at` on.
    fn pass(&mut self, flow: Flow, length: u32, at: usize) -> usize {
        if length > 0 {
            self.flow_mut(flow).place = Place::Payload(Payload {
                rest: length,
                ..Payload::default()
            });
        }
        at
    }

    /// Whether the request of a stream that the server answers can still be on its way here.
    fn may_be_late(&self, id: u32) -> bool {
        let requests = self.flow(Flow::ToServer);
        self.streams.may_be_late(id) && !requests.ended && !requests.is_lost()
    }

    fn begin_data(
        &mut self,
        flow: Flow,
        header: &Header,
        input: &Input<'_>,
        at: usize,
        output: &mut dyn Output,
    ) -> Result<usize, Stop> {
        let mut at = at + HEADER;
        let (mut content, mut padding) = (header.length, 0);
        if header.has(flag::PADDED) {
            let Some(&length) = input.bytes.get(at) else {
                return Err(Stop(at - HEADER, Then::More));
            };
            padding = u32::from(length);
            match header.length.checked_sub(1 + padding) {
                Some(rest) => content = rest,
                None => return self.refuse(flow, at, output),
            }
            at += 1;
        }
        self.streams.content(header.stream, flow, content, output);
        self.flow_mut(flow).place = Place::Payload(Payload {
            stream: header.stream,
            content,
            rest: padding,
            passing: 0,
            ends_stream: header.has(flag::END_STREAM),
        });
        Ok(at)
    }

    fn settings(&mut self, flow: Flow, header: &Header, payload: &[u8]) {
        const HEADER_TABLE_SIZE: u16 = 1;
        const MAX_FRAME_SIZE: u16 = 5;
        if header.has(flag::ACK) {
            let Some(bounds) = &mut self.flow_mut(flow).bounds else {
                return;
            };
            bounds.unacknowledged = bounds.unacknowledged.saturating_sub(1);
            if bounds.unacknowledged == 0 {
                bounds.table_size.acknowledge();
                bounds.frame_size.acknowledge();
            }
            return;
        }
        let Some(bounds) = &mut self.flow_mut(flow.opposite()).bounds else {
            return;
        };
        bounds.unacknowledged = bounds.unacknowledged.saturating_add(1);
        for (id, value) in frames::settings(payload) {
            match id {
                HEADER_TABLE_SIZE => bounds.table_size.announce(value),
                MAX_FRAME_SIZE => bounds.frame_size.announce(value),
                _ => {}
            }
        }
    }

    /// A frame with a header block or a piece of one, whole.
    fn fields(
        &mut self,
        flow: Flow,
        header: &Header,
        payload: &[u8],
        input: &Input<'_>,
        at: usize,
        output: &mut dyn Output,
    ) -> Result<usize, Stop> {
        let Some(fragment) = frames::fragment(header, payload) else {
            return self.refuse(flow, at + 1, output);
        };
        let state = self.flow_mut(flow);
        if header.kind != kind::CONTINUATION
            && let Some(size) = hpack::largest_size_update(fragment)
            && state.bounds.is_some_and(|bounds| !bounds.table_size.allows(size))
        {
            return self.refuse_unless_late(flow, input, at, output);
        }
        let next = at + header.whole();
        let end = input.time_until(next);
        let decoded = match (state.block.take(), header.has(flag::END_HEADERS)) {
            (None, true) => self.block(flow, header, fragment, (input.time_at(at), end), output),
            (None, false) => {
                state.block = Some(Box::new(Block {
                    first: *header,
                    start: input.time_at(at),
                    bytes: fragment.to_vec(),
                    refused: false,
                }));
                Ok(())
            }
            (Some(mut block), complete) => {
                if block.bytes.len() + fragment.len() > LARGEST_BLOCK {
                    block.refused = true;
                    block.bytes = Vec::new();
                }
                if !block.refused {
                    block.bytes.extend_from_slice(fragment);
                }
                if !complete {
                    state.block = Some(block);
                    Ok(())
                } else if block.refused {
                    Err(hpack::Malformed)
                } else {
                    self.block(flow, &block.first, &block.bytes, (block.start, end), output)
                }
            }
        };
        match decoded {
            Ok(()) => Ok(next),
            Err(hpack::Malformed) => self.refuse(flow, next, output),
        }
    }

    /// A whole header block, whose frames were seen from `times.0` to `times.1`.
    fn block(
        &mut self,
        flow: Flow,
        header: &Header,
        block: &[u8],
        times: (u64, u64),
        output: &mut dyn Output,
    ) -> Result<(), hpack::Malformed> {
        let id = header.stream;
        let ends = header.has(flag::END_STREAM) && header.kind == kind::HEADERS;
        let state = &mut self.flows[flow as usize];
        if flow == Flow::ToServer && self.streams.is_new(id) {
            let mut stream = Stream::begin(times.0);
            let request = &mut stream.request;
            let decoded = state
                .hpack
                .decode(block, &mut self.scratch, |field| request.take(field));
            if decoded.is_err() {
                stream.recycle();
                return decoded;
            }
            let request = &stream.request;
            if !request.is_request && !self.streams.is_sure() {
                // Perhaps trailers of a request from before.
                stream.recycle();
            } else if request.refused || !request.incomplete && request.method().is_none() {
                output.lost(Loss::Refused, 1);
                stream.recycle();
                self.streams.skip(id);
            } else {
                let doubtful = self.flows[Flow::ToClient as usize].is_lost();
                self.streams.open(id, stream, doubtful, output);
            }
        } else {
            let mut response = Response::default();
            state
                .hpack
                .decode(block, &mut self.scratch, |field| response.take(field))?;
            if flow == Flow::ToClient
                && header.kind == kind::HEADERS
                && let Some(entry) = self.streams.response(id, response, ends, times, output)
            {
                self.flows[flow as usize].hpack.learn(entry, &Name::GrpcStatus);
            }
        }
        if ends {
            self.streams.ended(id, flow, times.1, output);
        }
        Ok(())
    }

    /// Refuses what breaks a setting, unless the setting can be on its way here.
    fn refuse_unless_late(
        &mut self,
        flow: Flow,
        input: &Input<'_>,
        at: usize,
        output: &mut dyn Output,
    ) -> Result<usize, Stop> {
        if input.waited || self.flow(flow.opposite()).ended {
            self.refuse(flow, at + 1, output)
        } else {
            Err(Stop(at, Then::Blocked))
        }
    }

    /// These are no frames, or faulty ones: what is open is in doubt, and frames are to be found anew from `from` on.
    fn refuse(&mut self, flow: Flow, from: usize, output: &mut dyn Output) -> Result<usize, Stop> {
        output.lost(Loss::Refused, 1);
        if !self.flow(flow).proven {
            self.streams.distrust(flow, output);
        }
        self.lose(flow, output);
        Ok(from)
    }

    /// Where frames begin is not known any more.
    fn lose(&mut self, flow: Flow, output: &mut dyn Output) {
        let state = self.flow_mut(flow);
        state.place = Place::Lost;
        state.hpack = Decoder::unknown();
        state.block = None;
        state.proven = false;
        for state in &mut self.flows {
            state.bounds = None;
        }
        self.streams.gap(flow, output);
    }
}

impl Protocol for Connection {
    fn name(&self) -> &'static str {
        NAME
    }

    fn data(&mut self, flow: Flow, input: Input<'_>, output: &mut dyn Output) -> Progress {
        self.flow_mut(flow).seen |= !input.bytes.is_empty();
        let mut at = 0;
        loop {
            match self.step(flow, &input, at, output) {
                Ok(next) => at = next,
                Err(Stop(consumed, then)) => {
                    self.scratch.clear();
                    self.scratch.shrink_to(256);
                    return Progress::new(consumed, then);
                }
            }
        }
    }

    fn gap(&mut self, flow: Flow, length: u64, output: &mut dyn Output) {
        let state = self.flow_mut(flow);
        match state.place {
            Place::Payload(mut payload) => {
                if payload.stream != 0 {
                    self.streams.content_lost(payload.stream, flow);
                }
                if payload.left() > length {
                    // The frame goes on behind the gap.
                    (payload.content, payload.rest) = (0, (payload.left() - length) as u32);
                    payload.passing = 0;
                    self.flow_mut(flow).place = Place::Payload(payload);
                    return;
                }
                let in_step = payload.left() == length;
                if payload.ends_stream {
                    // It did end, but when is known of none of the missing bytes.
                    match flow {
                        Flow::ToServer => self.streams.ended(payload.stream, flow, 0, output),
                        Flow::ToClient => self.streams.end_lost(payload.stream, output),
                    }
                }
                if in_step {
                    self.flow_mut(flow).place = Place::Frame;
                } else {
                    self.lose(flow, output);
                }
            }
            _ => self.lose(flow, output),
        }
    }

    fn end(&mut self, flow: Flow, _time: u64, _output: &mut dyn Output) {
        // What is open is cut off when the connection is closed, and ends then.
        self.flow_mut(flow).ended = true;
    }

    fn close(&mut self, time: u64, output: &mut dyn Output) {
        let seen = self.flow(Flow::ToClient).seen;
        self.streams.cut_off(seen, time, output);
    }

    fn abandon(&mut self, output: &mut dyn Output) {
        self.streams.abandon(output);
    }
}

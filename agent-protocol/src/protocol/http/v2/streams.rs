//! Streams, and the matching of responses to requests by their ids (RFC 9113 § 5.1).

use super::fields::{Content, Request, Response};
use super::frames::error_name;
use crate::loss::Loss;
use crate::output::Output;
use crate::protocol::grpc::{self, Counter, Kind, Messages, Status};
use crate::protocol::{Flow, http};
use crate::trace_context::SpanContext;
use crate::transaction::{CONNECTION_CLOSED, Record, Transaction};
use std::cell::RefCell;
use std::collections::VecDeque;

/// Open streams of a connection; the oldest goes when one more comes.
const STREAMS: usize = 2048;

/// How often messages of an open call are reported at most, in nanoseconds.
const REPORT_EVERY: u64 = 1_000_000_000;

/// One direction of a stream.
#[derive(Debug, Default)]
struct Half {
    /// END_STREAM was seen.
    ended: bool,
    /// Some of it may have been missed.
    holed: bool,
    /// Its end or reset may have been missed.
    doubtful: bool,
    /// Bytes of content.
    bytes: u64,
    /// Of gRPC's messages, where it may be gRPC and none was missed.
    counter: Option<Counter>,
}

/// A request and what has come of its response.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) request: Request,
    start: u64,
    /// Time of the response's last byte, once it has ended.
    end: u64,
    halves: [Half; 2],
    /// A response's header section, not an interim one, was seen.
    answered: bool,
    status: Option<u16>,
    content: Content,
    grpc_status: Option<Status>,
    /// Fields of the last header section are unknown: `grpc-status` could be one of them.
    grpc_status_unknown: bool,
    /// The span of the handshake, where the stream is a WebSocket by now.
    websocket: Option<SpanContext>,
    /// Messages reported, and when.
    reported: [Messages; 2],
    reported_at: u64,
}

thread_local! {
    /// Spare streams of all connections of the thread, so that idle connections hold none.
    static SPARE: RefCell<Vec<Box<Stream>>> = const { RefCell::new(Vec::new()) };
}

/// How many spare streams are kept.
const SPARES: usize = 1024;

impl Stream {
    /// A stream whose request began at `start`.
    pub(super) fn begin(start: u64) -> Box<Stream> {
        let mut stream = SPARE.with(|spare| spare.borrow_mut().pop()).unwrap_or_default();
        stream.start = start;
        stream.reported_at = start;
        stream
    }

    /// The content of a request that came before the connection spoke HTTP/2 had this size.
    pub(super) fn begin_upgraded(&mut self, body_size: Option<u64>) {
        let half = self.half(Flow::ToServer);
        (half.bytes, half.holed) = (body_size.unwrap_or_default(), body_size.is_none());
    }

    /// Keeps the storage for another one.
    pub(super) fn recycle(mut self: Box<Self>) {
        let mut request = std::mem::take(&mut self.request);
        request.clear();
        *self = Stream {
            request,
            ..Stream::default()
        };
        SPARE.with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARES {
                spare.push(self);
            }
        });
    }

    fn half(&mut self, flow: Flow) -> &mut Half {
        &mut self.halves[flow as usize]
    }

    /// A counter of messages, if it is gRPC or if that is not known.
    fn new_counter(&self) -> Option<Counter> {
        let counted = match self.request.content {
            Content::Grpc(kind) => kind != Kind::WebText,
            Content::None => self.request.incomplete,
            Content::Other => false,
        };
        counted.then(Counter::default)
    }

    /// The kind of gRPC that the call is, if it is known to be one.
    fn grpc(&self) -> Option<Kind> {
        match (self.request.content, self.content) {
            (Content::Grpc(kind), _) | (_, Content::Grpc(kind)) => Some(kind),
            _ => self.grpc_status.map(|_| Kind::Native),
        }
    }

    /// Whether the content shows that it is gRPC, where the fields that would say so are unknown: a request of
    /// nothing but whole messages, and no response of anything else.
    fn is_framed(&self) -> bool {
        let [request, response] = &self.halves;
        let whole = |half: &Half| {
            half.counter
                .is_some_and(|counter| !half.ended || !counter.is_inside())
        };
        self.request.content == Content::None
            && self.content == Content::None
            && self.request.method() == Some("POST")
            && request.ended
            && self
                .counted(Flow::ToServer)
                .is_some_and(|messages| messages.count > 0)
            && whole(request)
            && whole(response)
    }

    fn counted(&self, flow: Flow) -> Option<Messages> {
        self.halves[flow as usize]
            .counter
            .map(|counter| counter.messages())
    }

    fn grpc_record(&self, status: Option<Status>, reset: Option<&'static str>) -> grpc::Record<'_> {
        let name = self.request.path().and_then(grpc::service_and_method);
        grpc::Record {
            service: name.map(|(service, _)| service),
            method: name.map(|(_, method)| method),
            status,
            http_status: self.status,
            reset,
            scheme: self.request.scheme(),
            authority: self.request.authority(),
            user_agent: self.request.user_agent(),
            forwarded_for: self.request.forwarded_for(),
            version: "2",
            request: self.counted(Flow::ToServer),
            response: self.counted(Flow::ToClient),
        }
    }

    /// Reports the messages that were not reported yet.
    fn report_messages(&mut self, time: u64, output: &mut dyn Output) {
        let mut new = [Messages::default(); 2];
        for flow in [Flow::ToServer, Flow::ToClient] {
            let now = self.counted(flow).unwrap_or_default();
            let before = self.reported[flow as usize];
            // A counter that was given up keeps what was reported of it.
            if now.count > before.count {
                new[flow as usize] = Messages {
                    count: now.count - before.count,
                    bytes: now.bytes - before.bytes,
                };
                self.reported[flow as usize] = now;
            }
        }
        self.reported_at = time;
        if new != [Messages::default(); 2] {
            output.messages(&self.grpc_record(None, None), new);
        }
    }

    fn grpc_status(&self, kind: Kind, end: u64, outcome: Outcome) -> Option<Status> {
        self.grpc_status.or(match (outcome, self.status) {
            (Outcome::Reset(code), _) => {
                let late = self
                    .request
                    .timeout
                    .is_some_and(|timeout| end.saturating_sub(self.start) >= timeout);
                Some(Status::of_reset(code, late))
            }
            (Outcome::Closed, _) => Some(Status::UNAVAILABLE),
            (Outcome::Complete, _) if self.grpc_status_unknown => None,
            // Its trailers are in the body, where they may not have been looked at.
            (Outcome::Complete, Some(200)) if kind != Kind::Native => None,
            (Outcome::Complete, status) => status.map(Status::of_http),
        })
    }

    /// Reports the transaction, which ended at `end`.
    fn report(&mut self, end: u64, outcome: Outcome, output: &mut dyn Output) -> SpanContext {
        let error = match outcome {
            Outcome::Complete => None,
            Outcome::Reset(code) => Some(error_name(code)),
            Outcome::Closed => Some(CONNECTION_CLOSED),
        };
        let kind = self.grpc().or(self.is_framed().then_some(Kind::Native));
        if kind.is_some() {
            self.report_messages(end, output);
        }
        let size = |flow: Flow| {
            let half = &self.halves[flow as usize];
            (half.ended && !half.holed).then_some(half.bytes)
        };
        let record = match kind {
            Some(kind) => {
                let reset = error.filter(|_| matches!(outcome, Outcome::Reset(_)));
                Record::Rpc(self.grpc_record(self.grpc_status(kind, end, outcome), reset))
            }
            None => Record::Http(http::Record {
                method: self.request.method(),
                path: self.request.path(),
                query: self.request.query(),
                scheme: self.request.scheme(),
                authority: self.request.authority(),
                user_agent: self.request.user_agent(),
                forwarded_for: self.request.forwarded_for(),
                version: "2",
                status: self.status,
                request_body_size: size(Flow::ToServer),
                response_body_size: size(Flow::ToClient),
            }),
        };
        output.transaction(&Transaction {
            start: self.start,
            end,
            // A reset gRPC call says by its status whether it failed.
            error: error.filter(|_| kind.is_none() || outcome == Outcome::Closed),
            remote_parent: self.request.context,
            tracestate: self.request.tracestate(),
            parent: None,
            record,
        })
    }

    /// Reports the WebSocket session, which ended at `end`.
    fn report_websocket(&mut self, handshake: SpanContext, end: u64, output: &mut dyn Output) {
        output.sessions(-1);
        output.transaction(&Transaction {
            start: self.start,
            end,
            error: None,
            remote_parent: None,
            tracestate: None,
            parent: Some(handshake),
            record: Record::WebSocket(http::WebSocketRecord {
                path: self.request.path(),
                authority: self.request.authority(),
                bytes_to_server: self.halves[Flow::ToServer as usize].bytes,
                bytes_to_client: self.halves[Flow::ToClient as usize].bytes,
            }),
        });
    }
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// With a complete response.
    Complete,
    /// By RST_STREAM with this code.
    Reset(u32),
    /// With its connection.
    Closed,
}

/// The open streams of a connection.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// By id, which only grows.
    open: VecDeque<(u32, Box<Stream>)>,
    /// The highest id whose request was seen.
    last: u32,
    /// What `last` was when requests began to be missed.
    last_before: u32,
    /// No request after `last` was missed.
    sure: bool,
    /// Requests up to this id may have been missed.
    unseen: u32,
    /// The highest id of a response that went by before its request was seen.
    passed: u32,
}

impl Streams {
    /// The streams at the beginning of a connection.
    pub(super) fn fresh() -> Streams {
        Streams {
            sure: true,
            ..Streams::default()
        }
    }

    fn find(&self, id: u32) -> Option<usize> {
        self.open.binary_search_by_key(&id, |(id, _)| *id).ok()
    }

    fn get(&mut self, id: u32) -> Option<&mut Stream> {
        let at = self.find(id)?;
        self.open.get_mut(at).map(|(_, stream)| &mut **stream)
    }

    fn remove(&mut self, id: u32) -> Option<Box<Stream>> {
        let at = self.find(id)?;
        let removed = self.open.remove(at).map(|(_, stream)| stream);
        if self.open.is_empty() && self.open.capacity() > 16 {
            self.open = VecDeque::new();
        }
        removed
    }

    /// Whether HEADERS of the client with this id begin a request.
    pub(super) fn is_new(&self, id: u32) -> bool {
        id % 2 == 1 && id > self.last
    }

    /// Whether all requests since the last one were seen.
    pub(super) fn is_sure(&self) -> bool {
        self.sure
    }

    /// Whether a response with this id can be one whose request is late.
    pub(super) fn may_be_late(&self, id: u32) -> bool {
        self.sure && self.is_new(id)
    }

    /// A request has begun that is not to be reported.
    pub(super) fn skip(&mut self, id: u32) {
        if !self.sure {
            self.unseen = id;
        }
        self.sure = true;
        self.last = id;
    }

    /// A request has begun. `doubtful`: its response may go by unseen.
    pub(super) fn open(&mut self, id: u32, mut stream: Box<Stream>, doubtful: bool, output: &mut dyn Output) {
        if !self.sure {
            self.unseen = id - 1;
        }
        self.sure = true;
        self.last = id;
        if id <= self.passed {
            output.lost(Loss::UnpairedRequest, 1);
            return stream.recycle();
        }
        if self.open.len() >= STREAMS
            && let Some((_, oldest)) = self.open.pop_front()
        {
            output.lost(Loss::Evicted, 1);
            if oldest.websocket.is_some() {
                output.sessions(-1);
            }
            oldest.recycle();
        }
        let counter = stream.new_counter();
        for half in &mut stream.halves {
            half.counter = counter;
        }
        if doubtful {
            let response = stream.half(Flow::ToClient);
            (response.holed, response.doubtful, response.counter) = (true, true, None);
        }
        self.open.push_back((id, stream));
    }

    /// A frame of a response whose stream is not open.
    fn stray(&mut self, id: u32, ends: bool, output: &mut dyn Output) {
        if id.is_multiple_of(2) {
            return;
        }
        let ahead = id > self.last;
        if ahead {
            self.passed = self.passed.max(id);
        }
        if ends && (ahead || !self.sure || id <= self.unseen) {
            output.lost(Loss::UnpairedResponse, 1);
        }
    }

    /// A header section from the server, between `start` and `end`. END_STREAM is told to [`Streams::ended`] next.
    pub(super) fn response(
        &mut self,
        id: u32,
        response: Response,
        ends: bool,
        (start, end): (u64, u64),
        output: &mut dyn Output,
    ) {
        let Some(stream) = self.get(id) else {
            // An end is told on its own.
            return self.stray(id, false, output);
        };
        if start < stream.start {
            output.lost(Loss::UnpairedResponse, 1);
            output.lost(Loss::UnpairedRequest, 1);
            return self.drop_stream(id);
        }
        stream.half(Flow::ToClient).doubtful = false;
        let is_interim = !ends && matches!(response.status, Some(100..=199));
        if !is_interim && stream.status.is_none() && (response.has_status || !stream.answered) {
            let whole = response.has_status && stream.half(Flow::ToClient).bytes == 0;
            if whole && !stream.answered {
                // Nothing but interim responses can have been missed before it.
                let counter = stream.new_counter();
                let half = stream.half(Flow::ToClient);
                (half.holed, half.counter) = (false, counter);
            }
            stream.answered = true;
            stream.status = response.status;
            stream.content = response.content;
            let half = stream.half(Flow::ToClient);
            match response.content {
                Content::Other | Content::Grpc(Kind::WebText) => half.counter = None,
                Content::Grpc(_) if whole => half.counter = half.counter.or(Some(Counter::default())),
                _ => {}
            }
        }
        if ends {
            stream.grpc_status = response.grpc_status;
            stream.grpc_status_unknown = response.incomplete;
        } else if matches!(stream.status, Some(200..=299))
            && stream.websocket.is_none()
            && stream.request.method() == Some("CONNECT")
        {
            let span = stream.report(end, Outcome::Complete, output);
            if !stream.request.websocket {
                return self.drop_stream(id);
            }
            output.sessions(1);
            stream.websocket = Some(span);
            stream.start = end;
            for half in &mut stream.halves {
                half.bytes = 0;
            }
        }
    }

    /// `length` bytes of content begin.
    pub(super) fn content(&mut self, id: u32, flow: Flow, length: u32, output: &mut dyn Output) {
        match self.get(id) {
            Some(stream) => {
                let half = stream.half(flow);
                half.doubtful = false;
                half.bytes += u64::from(length);
            }
            None if flow == Flow::ToClient => self.stray(id, false, output),
            None => {}
        }
    }

    /// The counter of messages, where they are counted.
    pub(super) fn counter(&mut self, id: u32, flow: Flow) -> Option<&mut Counter> {
        self.get(id)?.half(flow).counter.as_mut()
    }

    /// The trailers of gRPC-Web are in these bytes.
    pub(super) fn web_trailers(&mut self, id: u32, trailers: &[u8]) {
        if let Some(stream) = self.get(id)
            && matches!(stream.grpc(), Some(Kind::Web))
        {
            stream.grpc_status = grpc::web::status(trailers);
        }
    }

    /// The counter came on: messages are told if it is time, and a counter that counts no messages is given up.
    pub(super) fn counted(&mut self, id: u32, flow: Flow, time: u64, output: &mut dyn Output) {
        let Some(stream) = self.get(id) else { return };
        let half = stream.half(flow);
        if half.counter.is_some_and(|counter| counter.is_foreign()) {
            half.counter = None;
        } else if time >= stream.reported_at + REPORT_EVERY && stream.grpc().is_some() {
            stream.report_messages(time, output);
        }
    }

    /// END_STREAM was seen, or is sure to have been sent.
    pub(super) fn ended(&mut self, id: u32, flow: Flow, time: u64, output: &mut dyn Output) {
        let Some(stream) = self.get(id) else {
            if flow == Flow::ToClient {
                self.stray(id, true, output);
            }
            return;
        };
        stream.half(flow).ended = true;
        if flow == Flow::ToClient {
            stream.end = time;
        }
        let [request, response] = &stream.halves;
        if !response.ended || !request.ended && !request.holed {
            // The rest of the request may still be reset, or count.
            return;
        }
        match stream.websocket {
            Some(handshake) => stream.report_websocket(handshake, time, output),
            None => {
                stream.report(stream.end, Outcome::Complete, output);
            }
        }
        self.drop_stream(id);
    }

    /// RST_STREAM, at `time`.
    pub(super) fn reset(&mut self, id: u32, flow: Flow, code: u32, time: u64, output: &mut dyn Output) {
        const NO_ERROR: u32 = 0;
        let Some(stream) = self.get(id) else {
            if flow == Flow::ToClient {
                self.stray(id, false, output);
            }
            return;
        };
        let complete = stream.half(Flow::ToClient).ended;
        match stream.websocket {
            Some(handshake) => stream.report_websocket(handshake, time, output),
            // The status of a call stands with its trailers.
            None if complete && (code == NO_ERROR || stream.grpc().is_some()) => {
                stream.report(stream.end, Outcome::Complete, output);
            }
            None => {
                let end = if complete { stream.end } else { time };
                stream.report(end, Outcome::Reset(code), output);
            }
        }
        self.drop_stream(id);
    }

    fn drop_stream(&mut self, id: u32) {
        if let Some(stream) = self.remove(id) {
            stream.recycle();
        }
    }

    /// The end of a response was lost: nothing can be said of when it ended.
    pub(super) fn end_lost(&mut self, id: u32, output: &mut dyn Output) {
        if let Some(stream) = self.remove(id) {
            lose(stream, Loss::UnpairedRequest, output);
        }
    }

    /// Messages on a stream are missing.
    pub(super) fn content_lost(&mut self, id: u32, flow: Flow) {
        if let Some(stream) = self.get(id) {
            stream.half(flow).counter = None;
        }
    }

    /// Frames are missing in `flow`.
    pub(super) fn gap(&mut self, flow: Flow, output: &mut dyn Output) {
        if flow == Flow::ToServer {
            self.sure = false;
            self.last_before = self.last;
        }
        for (_, stream) in &mut self.open {
            let half = stream.half(flow);
            half.doubtful = true;
            if !half.ended {
                (half.holed, half.counter) = (true, None);
            }
        }
        if flow == Flow::ToServer {
            // Their requests may have ended unseen; nothing is waited for.
            self.take_out(
                |stream| stream.halves[Flow::ToClient as usize].ended && stream.websocket.is_none(),
                |stream, output| {
                    stream.report(stream.end, Outcome::Complete, output);
                },
                output,
            );
        }
    }

    /// GOAWAY of the server: requests beyond `last` will not be answered.
    pub(super) fn go_away(&mut self, last: u32, time: u64, output: &mut dyn Output) {
        while let Some((id, stream)) = self.open.pop_back() {
            if id <= last || stream.answered {
                self.open.push_back((id, stream));
                break;
            }
            cut_off(stream, time, output);
        }
    }

    /// No response will come any more, as of `time`; `seen`: bytes of the server were seen at all.
    pub(super) fn cut_off(&mut self, seen: bool, time: u64, output: &mut dyn Output) {
        for (_, stream) in std::mem::take(&mut self.open) {
            if seen {
                cut_off(stream, time, output);
            } else {
                lose(stream, Loss::Unfinished, output);
            }
        }
    }

    /// Observation ends.
    pub(super) fn abandon(&mut self, output: &mut dyn Output) {
        for (_, mut stream) in std::mem::take(&mut self.open) {
            if stream.half(Flow::ToClient).ended && stream.websocket.is_none() {
                stream.report(stream.end, Outcome::Complete, output);
                stream.recycle();
            } else {
                lose(stream, Loss::Unfinished, output);
            }
        }
    }

    /// Frames were read that were none: nothing that is open can be believed.
    pub(super) fn distrust(&mut self, flow: Flow, output: &mut dyn Output) {
        if flow == Flow::ToServer {
            (self.last, self.sure) = (self.last_before, false);
        }
        for (_, stream) in std::mem::take(&mut self.open) {
            lose(stream, Loss::UnpairedRequest, output);
        }
    }

    fn take_out(
        &mut self,
        which: impl Fn(&Stream) -> bool,
        report: impl Fn(&mut Stream, &mut dyn Output),
        output: &mut dyn Output,
    ) {
        let mut at = 0;
        while let Some((_, stream)) = self.open.get(at) {
            if !which(stream) {
                at += 1;
            } else if let Some((_, mut stream)) = self.open.remove(at) {
                report(&mut stream, output);
                stream.recycle();
            }
        }
    }
}

/// Counts a stream of which nothing can be reported.
fn lose(stream: Box<Stream>, loss: Loss, output: &mut dyn Output) {
    if stream.websocket.is_some() {
        output.sessions(-1);
    }
    output.lost(loss, 1);
    stream.recycle();
}

/// Ends a stream whose response will not come, or not come to an end.
fn cut_off(mut stream: Box<Stream>, time: u64, output: &mut dyn Output) {
    match stream.websocket {
        Some(handshake) => stream.report_websocket(handshake, time, output),
        None if stream.halves[Flow::ToClient as usize].ended => {
            stream.report(stream.end, Outcome::Complete, output);
        }
        None if stream.halves.iter().any(|half| half.doubtful) => {
            return lose(stream, Loss::UnpairedRequest, output);
        }
        None => {
            stream.report(time, Outcome::Closed, output);
        }
    }
    stream.recycle();
}

//! One stream: a request and what comes of its response (RFC 9113 § 5.1).

use super::fields::{Content, Request};
use super::frames::error_name;
use crate::output::Output;
use crate::protocol::Flow;
use crate::protocol::grpc::outcome::{self, End, Told};
use crate::protocol::grpc::{self, Counter, Kind};
use crate::record::grpc::{Messages, Status};
use crate::record::{self, Record, http, websocket};
use crate::trace_context::SpanContext;
use crate::transaction::{CONNECTION_CLOSED, Transaction};
use std::cell::RefCell;

/// How often messages of an open call are reported at most, in nanoseconds.
pub(super) const REPORT_EVERY: u64 = 1_000_000_000;

/// One direction of a stream.
#[derive(Debug, Default)]
pub(super) struct Half {
    /// END_STREAM was seen.
    pub(super) ended: bool,
    /// Some of it may have been missed.
    pub(super) holed: bool,
    /// Its end or reset may have been missed.
    pub(super) doubtful: bool,
    /// Bytes of content.
    pub(super) bytes: u64,
    /// Of gRPC's messages, where it may be gRPC and none was missed.
    pub(super) counter: Option<Counter>,
}

/// A request and what has come of its response.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) request: Request,
    pub(super) start: u64,
    /// Time of the response's last byte, once it has ended.
    pub(super) end: u64,
    pub(super) halves: [Half; 2],
    /// A response's header section, not an interim one, was seen.
    pub(super) answered: bool,
    pub(super) status: Option<u16>,
    pub(super) content: Content,
    pub(super) grpc_status: Option<Status>,
    /// Fields of the last header section are unknown: `grpc-status` could be one of them.
    pub(super) grpc_status_unknown: bool,
    /// Its unknown fields are those of another request, which was gRPC.
    pub(super) like_grpc: bool,
    /// Code and time of the first RST_STREAM after the response.
    pub(super) reset: Option<(u32, u64)>,
    /// The span of the handshake, where the stream is a WebSocket by now.
    pub(super) websocket: Option<SpanContext>,
    /// Messages reported, and when.
    reported: [Messages; 2],
    pub(super) reported_at: u64,
}

type Spare = Vec<Box<Stream>>;

thread_local! {
    /// Spare streams of all connections of the thread, so that idle connections hold none.
    static SPARE: RefCell<Spare> = const { RefCell::new(Vec::new()) };
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

    pub(super) fn half(&mut self, flow: Flow) -> &mut Half {
        &mut self.halves[flow as usize]
    }

    /// Whether the response is complete, and with it the transaction, but for the rest of its request.
    pub(super) fn is_answered(&self) -> bool {
        self.halves[Flow::ToClient as usize].ended && self.websocket.is_none()
    }

    /// A counter of messages, if it is gRPC or if that is not known.
    pub(super) fn new_counter(&self) -> Option<Counter> {
        let counted = match self.request.content {
            Content::Grpc(kind) => kind != Kind::WebText,
            Content::None => self.request.incomplete,
            Content::Other => false,
        };
        counted.then(Counter::default)
    }

    /// The kind of gRPC that the call is, if it is known to be one.
    pub(super) fn grpc(&self) -> Option<Kind> {
        match (self.request.content, self.content) {
            (Content::Grpc(kind), _) | (_, Content::Grpc(kind)) => Some(kind),
            _ if self.like_grpc => Some(Kind::Native),
            _ => self.grpc_status.map(|_| Kind::Native),
        }
    }

    /// Which fields of the request are unknown, where the content's type is one of them.
    pub(super) fn unknown_fields(&self) -> Option<u64> {
        let unknown = self.request.incomplete && self.request.content == Content::None;
        self.request.unknown.0.filter(|_| unknown)
    }

    /// Whether the content shows that it is gRPC, where the fields that would say so are unknown: a request of
    /// nothing but whole messages, and no response of anything else.
    pub(super) fn is_framed(&self) -> bool {
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

    fn grpc_record(&self, status: Option<Status>, reset: Option<&'static str>) -> record::grpc::Record<'_> {
        let name = self.request.path().and_then(grpc::service_and_method);
        record::grpc::Record {
            service: name.map(|(service, _)| service),
            method: name.map(|(_, method)| method),
            status,
            http_status: self.status,
            reset,
            scheme: self.request.scheme(),
            authority: self.request.authority(),
            user_agent: self.request.user_agent(),
            forwarded_for: self.request.forwarded_for(),
            original: self.request.original(),
            version: "2",
            request: self.counted(Flow::ToServer),
            response: self.counted(Flow::ToClient),
        }
    }

    /// Reports the messages that were not reported yet.
    pub(super) fn report_messages(&mut self, time: u64, output: &mut dyn Output) {
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
        let counted = self.halves[Flow::ToClient as usize].counter.is_some();
        let told = match self.grpc_status {
            Some(status) => Told::Status(status),
            None if self.grpc_status_unknown => Told::Unreadable,
            // Its trailers are in the body, where they may not have been looked at.
            None if kind != Kind::Native && self.content != Content::Other && !counted => Told::Unreadable,
            None => Told::Nothing,
        };
        let end = match outcome {
            Outcome::Complete => End::Complete,
            Outcome::Reset(code) => {
                let elapsed = end.saturating_sub(self.start);
                let late = self.request.deadline;
                let late = late.is_some_and(|deadline| deadline.is_over(elapsed));
                End::Reset { code, late }
            }
            Outcome::Closed => End::Closed,
        };
        outcome::status(told, self.status, self.content == Content::Other, end)
    }

    /// Reports the transaction, which ended at `end`.
    pub(super) fn report(&mut self, end: u64, outcome: Outcome, output: &mut dyn Output) -> SpanContext {
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
                original: self.request.original(),
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

    /// Reports the transaction, whose response is complete.
    pub(super) fn report_answered(&mut self, output: &mut dyn Output) {
        const NO_ERROR: u32 = 0;
        let outcome = match self.reset {
            // The status of a call stands with its trailers.
            Some((code, _)) if code != NO_ERROR && self.grpc().is_none() => Outcome::Reset(code),
            _ => Outcome::Complete,
        };
        self.report(self.end, outcome, output);
    }

    /// Reports the WebSocket session, which ended at `end`.
    pub(super) fn report_websocket(&mut self, handshake: SpanContext, end: u64, output: &mut dyn Output) {
        output.sessions(-1);
        output.transaction(&Transaction {
            start: self.start,
            end,
            error: None,
            remote_parent: None,
            tracestate: None,
            parent: Some(handshake),
            record: Record::WebSocket(websocket::Record {
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
pub(super) enum Outcome {
    /// With a complete response.
    Complete,
    /// By RST_STREAM with this code.
    Reset(u32),
    /// With its connection.
    Closed,
}

//! HTTP/1.0 and HTTP/1.1 (RFC 9112).

mod chunked;
#[cfg(test)]
mod grpc_web_tests;
mod head;
mod request;
mod requests;
mod responses;
#[cfg(test)]
mod tests;

use crate::loss::Loss;
use crate::output::Output;
use crate::protocol::grpc::web;
use crate::protocol::pairing::{Exchange, Pairing};
use crate::protocol::{Detection, Detector, Flow, Input, Progress, Protocol, Then};
use crate::record::{self, Record};
use crate::trace_context::SpanContext;
use crate::transaction::{CONNECTION_CLOSED, Transaction};
use chunked::Chunked;
use head::{Coding, Fields, Parsed, Rest, RestStep};
use request::Request;

/// HTTP/1.
pub const DETECTOR: Detector = Detector {
    name: "http",
    detect,
    answered: |_, _| None,
    create: |fresh| Box::new(Connection::new(fresh)),
};

/// Bytes of a body that ends with the connection which are counted; beyond them its size is not known.
const COUNTED: u64 = 1 << 20;

fn detect(bytes: &[u8], fresh: bool) -> Detection {
    let Some(begin) = head::empty_lines(bytes) else {
        return Detection::No;
    };
    let bytes = &bytes[begin..];
    if matches!(bytes, [] | [b'\r']) {
        return if fresh { Detection::Maybe } else { Detection::No };
    }
    let line =
        memchr::memchr(b'\n', bytes).map(|end| bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]));
    let Some(line) = line else {
        let maybe = head::request_line_prefix(bytes) || head::status_line_prefix(bytes);
        return if maybe { Detection::Maybe } else { Detection::No };
    };
    // In the middle of a connection a line is not enough: text in a body has lines too.
    if head::request_line(line).is_some() {
        match head::request(bytes) {
            Parsed::Invalid => Detection::No,
            Parsed::Whole(head, _) if !fresh && head.fields.malformed > 0 => Detection::No,
            Parsed::Partial if !fresh => Detection::Maybe,
            _ => Detection::Yes(Flow::ToServer),
        }
    } else if head::status_line(line).is_some() {
        match head::response(bytes) {
            Parsed::Invalid => Detection::No,
            Parsed::Whole(head, _) if !fresh && head.fields.malformed > 0 => Detection::No,
            Parsed::Partial if !fresh => Detection::Maybe,
            _ => Detection::Yes(Flow::ToClient),
        }
    } else {
        Detection::No
    }
}

/// Where in a flow the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the begin of a message, of whose head this many bytes were looked at.
    Head(usize),
    /// In a long head, of which this is left. The message has no content whatever it says, where that is true.
    HeadRest(Rest, bool),
    /// In content of this length.
    Length(u64),
    /// Behind content of this length.
    BodyEnd(u64),
    Chunked(Chunked),
    /// In content that is looked at, of which this much is left.
    Messages(u64, Behind),
    /// The same, once so many bytes of a message have gone by.
    Passing(u32, u64, Behind),
    /// In content that ends with the connection, of which this much was seen; `None` where that is not known.
    UntilClose(Option<u64>),
    /// Anywhere: a message is searched for. The byte before came then, where that is known.
    Search(Option<u64>),
    /// Nothing more is read.
    Off,
}

impl State {
    /// Behind the head of a request with these fields (RFC 9112 § 6.3).
    fn of_request(coding: Coding, content_length: Option<u64>) -> State {
        match (coding, content_length) {
            (Coding::None, length) => State::Length(length.unwrap_or(0)),
            _ => State::Chunked(Chunked::default()),
        }
    }

    /// Behind the head of a response with these fields, which may have content (RFC 9112 § 6.3).
    fn of_response(coding: Coding, content_length: Option<u64>) -> State {
        match (coding, content_length) {
            (Coding::Chunked, _) => State::Chunked(Chunked::default()),
            (Coding::None, Some(length)) => State::Length(length),
            _ => State::UntilClose(Some(0)),
        }
    }
}

/// What comes behind a piece of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// The end of content of this length.
    End(u64),
    Chunk(Chunked),
}

impl Behind {
    fn state(self) -> State {
        match self {
            Behind::End(size) => State::BodyEnd(size),
            Behind::Chunk(chunked) => State::Chunked(chunked),
        }
    }
}

/// What to do after a piece of input.
enum Next {
    /// Go on behind so many bytes.
    On(usize),
    Return(Progress),
}

struct Connection {
    pairing: Pairing<Request>,
    to_server: State,
    to_client: State,
    /// The response being read answers the current request.
    answers: bool,
    /// A request was seen that may end HTTP, and is not answered yet.
    switching: bool,
    /// It was declined.
    declined: bool,
}

impl Connection {
    fn new(fresh: bool) -> Connection {
        let state = if fresh {
            State::Head(0)
        } else {
            State::Search(None)
        };
        Connection {
            pairing: Pairing::new(fresh),
            to_server: state,
            to_client: state,
            answers: false,
            switching: false,
            declined: false,
        }
    }

    fn report_proven(&mut self, output: &mut dyn Output) {
        while let Some(exchange) = self.pairing.proven() {
            report(&exchange, None, output);
            self.recycle(exchange.request);
        }
    }

    fn recycle(&mut self, mut request: Request) {
        request.shrink();
        self.pairing.recycle(request);
    }

    fn state(&mut self, flow: Flow) -> &mut State {
        match flow {
            Flow::ToServer => &mut self.to_server,
            Flow::ToClient => &mut self.to_client,
        }
    }

    /// The rest of a long head, behind which content begins, if any.
    fn head_rest(
        &mut self,
        flow: Flow,
        mut rest: Rest,
        bodiless: bool,
        input: &Input<'_>,
        at: usize,
        output: &mut dyn Output,
    ) -> Next {
        match rest.step(&input.bytes[at..]) {
            RestStep::On(n, malformed) => {
                if malformed > 0 {
                    output.lost(Loss::MalformedField, malformed.into());
                }
                *self.state(flow) = State::HeadRest(rest, bodiless);
                Next::On(n)
            }
            RestStep::End(n) => {
                *self.state(flow) = match flow {
                    Flow::ToServer => State::of_request(rest.coding, rest.content_length),
                    Flow::ToClient if bodiless => State::Length(0),
                    Flow::ToClient => State::of_response(rest.coding, rest.content_length),
                };
                Next::On(n)
            }
            RestStep::Partial => {
                *self.state(flow) = State::HeadRest(rest, bodiless);
                Next::Return(Progress::new(at, Then::More))
            }
            RestStep::Invalid => self.refuse(flow, output),
        }
    }

    /// The body that is read in `flow`, where it is one of gRPC-Web.
    fn body(&mut self, flow: Flow) -> Option<&mut web::Body> {
        let request = match flow {
            Flow::ToServer => self.pairing.unended(),
            Flow::ToClient if self.answers => self.pairing.current(),
            Flow::ToClient => None,
        };
        request?.body(flow)
    }

    /// Behind `framing` bytes, `length` bytes of content.
    fn content(
        &mut self,
        flow: Flow,
        input: &Input<'_>,
        at: usize,
        framing: usize,
        length: u64,
        behind: Behind,
    ) -> Next {
        if length > 0 && self.body(flow).is_some() {
            *self.state(flow) = State::Messages(length, behind);
            return Next::On(framing);
        }
        *self.state(flow) = behind.state();
        skip(input, at, framing, length)
    }

    /// Content of gRPC-Web.
    fn messages(&mut self, flow: Flow, input: &Input<'_>, at: usize, left: u64, behind: Behind) -> Next {
        let here = &input.bytes[at..];
        let here = &here[..usize::try_from(left).unwrap_or(usize::MAX).min(here.len())];
        let Some(body) = self.body(flow) else {
            *self.state(flow) = behind.state();
            return skip(input, at, 0, left);
        };
        if left == 0 {
            *self.state(flow) = behind.state();
            return Next::On(0);
        }
        if !here.is_empty() {
            body.take(here);
            *self.state(flow) = State::Messages(left - here.len() as u64, behind);
            return Next::On(here.len());
        }
        let skip = u64::from(body.skippable()).min(left);
        if skip == 0 {
            return Next::Return(Progress::new(at, Then::More));
        }
        *self.state(flow) = State::Passing(skip as u32, left - skip, behind);
        Next::Return(Progress::new(at, Then::Skip(skip)))
    }

    /// `n` bytes of content of gRPC-Web have gone by.
    fn passed(&mut self, flow: Flow, n: u32, left: u64, behind: Behind) -> Next {
        if let Some(body) = self.body(flow) {
            body.pass(n);
        }
        *self.state(flow) = State::Messages(left, behind);
        Next::On(0)
    }

    /// What follows in `flow` breaks the rules.
    fn refuse(&mut self, flow: Flow, output: &mut dyn Output) -> Next {
        output.lost(Loss::Refused, 1);
        let state = if self.pairing.is_certain() {
            self.pairing.give_up(flow, output);
            State::Off
        } else {
            // It may not have been the begin of a message.
            self.pairing.gap(flow, output);
            State::Search(None)
        };
        match flow {
            Flow::ToServer => self.to_server = state,
            Flow::ToClient => {
                self.to_client = state;
                self.answers = false;
            }
        }
        Next::On(0)
    }

    /// A body that ends with the connection is complete (RFC 9112 § 8).
    fn end_until_close(&mut self, time: u64, output: &mut dyn Output) {
        if let State::UntilClose(size) = self.to_client {
            self.response_size(size);
            self.response_ended(time, output);
        }
    }

    fn cut_off(&mut self, time: u64, output: &mut dyn Output) {
        self.pairing.close(false, output);
        self.report_proven(output);
        while let Some(mut exchange) = self.pairing.cut_off() {
            exchange.end = time.max(exchange.start);
            report(&exchange, Some(CONNECTION_CLOSED), output);
        }
    }
}

impl Protocol for Connection {
    fn name(&self) -> &'static str {
        DETECTOR.name
    }

    fn data(&mut self, flow: Flow, input: Input<'_>, output: &mut dyn Output) -> Progress {
        let mut at = 0;
        loop {
            let next = match flow {
                Flow::ToServer => self.request_step(&input, at, output),
                Flow::ToClient => self.response_step(&input, at, output),
            };
            match next {
                Next::On(n) => at += n,
                Next::Return(progress) => return progress,
            }
        }
    }

    fn gap(&mut self, flow: Flow, length: u64, output: &mut dyn Output) {
        if let State::Messages(left, _) = self.state(flow)
            && length < *left
        {
            // Within the content, of which only the messages are not known any more.
            *left -= length;
            if let Some(body) = self.body(flow) {
                body.give_up();
            }
            return;
        }
        match (flow, &mut self.to_client) {
            (Flow::ToClient, State::UntilClose(size)) => {
                *size = None;
                if let Some(body) = self.body(Flow::ToClient) {
                    body.give_up();
                }
            }
            (Flow::ToClient, State::Off) => {}
            (Flow::ToClient, state) => {
                *state = State::Search(None);
                self.answers = false;
                self.pairing.gap(flow, output);
            }
            (Flow::ToServer, _) if self.to_server == State::Off => {}
            (Flow::ToServer, _) => {
                self.to_server = State::Search(None);
                self.pairing.gap(flow, output);
            }
        }
    }

    fn end(&mut self, flow: Flow, time: u64, output: &mut dyn Output) {
        if flow == Flow::ToClient {
            self.end_until_close(time, output);
        }
    }

    fn close(&mut self, time: u64, output: &mut dyn Output) {
        self.end_until_close(time, output);
        self.cut_off(time, output);
    }

    fn abandon(&mut self, output: &mut dyn Output) {
        self.pairing.abandon(output);
    }
}

fn count_malformed(fields: &Fields<'_>, output: &mut dyn Output) {
    if fields.malformed > 0 {
        output.lost(Loss::MalformedField, fields.malformed.into());
    }
}

/// Behind `framing` bytes, `length` bytes of content: those that are there are passed, else all are skipped. Without
/// framing, all of a body; else a chunk.
fn skip(input: &Input<'_>, at: usize, framing: usize, length: u64) -> Next {
    let left = input.bytes.len() - at - framing;
    let then = match usize::try_from(length) {
        Ok(length) if length <= left => return Next::On(framing + length),
        _ if framing == 0 => Then::Skip(length),
        _ => Then::SkipChunk(length, framing),
    };
    Next::Return(Progress::new(at + framing, then))
}

fn report(exchange: &Exchange<Request>, error: Option<&str>, output: &mut dyn Output) -> SpanContext {
    let request = &exchange.request;
    let record = match request.call(error.is_some()) {
        Some(call) => {
            let messages = [call.request, call.response].map(Option::unwrap_or_default);
            if messages != [record::grpc::Messages::default(); 2] {
                output.messages(&call, messages);
            }
            Record::Rpc(call)
        }
        None => Record::Http(request.record()),
    };
    output.transaction(&Transaction {
        start: exchange.start,
        end: exchange.end,
        error,
        remote_parent: request.remote_parent,
        tracestate: request.tracestate(),
        parent: None,
        record,
    })
}

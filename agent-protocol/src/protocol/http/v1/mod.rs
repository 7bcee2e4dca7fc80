//! HTTP/1.0 and HTTP/1.1 (RFC 9112).

mod chunked;
#[cfg(test)]
mod grpc_web_tests;
mod head;
mod request;
#[cfg(test)]
mod tests;

use super::v2;
use super::websocket::WebSocket;
use crate::loss::Loss;
use crate::output::Output;
use crate::protocol::grpc::{self, web};
use crate::protocol::pairing::{Answer, Exchange, Pairing};
use crate::protocol::{Detection, Detector, Flow, Input, Progress, Protocol, Then};
use crate::trace_context::SpanContext;
use crate::transaction::{CONNECTION_CLOSED, Record, Transaction};
use chunked::{Chunked, Step};
use head::{Coding, Parsed, ResponseHead};
use request::{Request, Switch};

/// HTTP/1.
pub const DETECTOR: Detector = Detector {
    name: "http",
    detect,
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
            Parsed::Partial if !fresh => Detection::Maybe,
            _ => Detection::Yes(Flow::ToServer),
        }
    } else if head::status_line(line).is_some() {
        match head::response(bytes) {
            Parsed::Invalid => Detection::No,
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

    // Requests.

    fn request_step(&mut self, input: &Input<'_>, at: usize, output: &mut dyn Output) -> Next {
        match self.to_server {
            State::Head(searched) => self.request_head(input, at, searched, output),
            State::Length(length) => self.content(Flow::ToServer, input, at, 0, length, Behind::End(length)),
            State::Messages(left, behind) => self.messages(Flow::ToServer, input, at, left, behind),
            State::Passing(n, left, behind) => self.passed(Flow::ToServer, n, left, behind),
            State::BodyEnd(size) => {
                if let Some(request) = self.pairing.unended() {
                    request.body_size = Some(size);
                }
                if !input.end_unseen || at > 0 {
                    self.pairing.request_ended(input.time_until(at));
                }
                self.to_server = State::Head(0);
                Next::On(0)
            }
            State::Chunked(mut chunked) => match chunked.step(&input.bytes[at..]) {
                Step::Framing(n) => {
                    self.to_server = State::Chunked(chunked);
                    Next::On(n)
                }
                Step::Data(n, length) => {
                    self.content(Flow::ToServer, input, at, n, length, Behind::Chunk(chunked))
                }
                Step::End(n, size) => {
                    if let Some(request) = self.pairing.unended() {
                        request.body_size = Some(size);
                    }
                    self.pairing.request_ended(input.time_until(at + n));
                    self.to_server = State::Head(0);
                    Next::On(n)
                }
                Step::Partial => Next::Return(Progress::new(at, Then::More)),
                Step::Invalid => self.refuse(Flow::ToServer, output),
            },
            State::Search(before) => self.search_request(input, at, before, output),
            State::UntilClose(_) | State::Off => {
                Next::Return(Progress::new(input.bytes.len(), Then::SkipToEnd))
            }
        }
    }

    fn request_head(
        &mut self,
        input: &Input<'_>,
        at: usize,
        searched: usize,
        output: &mut dyn Output,
    ) -> Next {
        if self.switching {
            if self
                .pairing
                .newest()
                .is_some_and(|request| request.switch != Switch::None)
            {
                return Next::Return(Progress::new(at, Then::Wait));
            }
            self.switching = false;
            if !std::mem::take(&mut self.declined) {
                // Lost together with its answer: what follows may be anything.
                self.to_server = State::Search(None);
                return Next::On(0);
            }
        }
        let bytes = &input.bytes[at..];
        match head::empty_lines(bytes) {
            None => return self.refuse(Flow::ToServer, output),
            Some(0) => {}
            Some(n) => return Next::On(n),
        }
        if matches!(bytes, [] | [b'\r']) {
            return Next::Return(Progress::new(at, Then::More));
        }
        if self.pairing.is_full() && !(input.waited && at == 0) {
            return Next::Return(Progress::new(at, Then::Wait));
        }
        if searched > 0 && bytes.len() <= head::MAX_HEAD && !head::has_end(bytes, searched) {
            self.to_server = State::Head(bytes.len());
            return Next::Return(Progress::new(at, Then::More));
        }
        let (head, length) = match head::request(bytes) {
            Parsed::Whole(head, length) => (head, length),
            Parsed::Partial => {
                self.to_server = State::Head(bytes.len());
                return Next::Return(Progress::new(at, Then::More));
            }
            Parsed::Invalid => return self.refuse(Flow::ToServer, output),
        };
        let mut request = self.pairing.storage();
        request.fill(&head);
        self.switching = request.switch != Switch::None;
        self.declined = false;
        self.to_server = match (head.fields.coding, head.fields.content_length) {
            (Coding::None, length) => State::Length(length.unwrap_or(0)),
            _ => State::Chunked(Chunked::default()),
        };
        self.pairing.request(request, input.time_at(at), output);
        self.report_proven(output);
        Next::On(length)
    }

    /// Looks for a request where the connection turned around.
    fn search_request(
        &mut self,
        input: &Input<'_>,
        at: usize,
        before: Option<u64>,
        output: &mut dyn Output,
    ) -> Next {
        if self.pairing.has_ended() {
            self.to_server = State::Off;
            return Next::On(0);
        }
        if at == input.bytes.len() {
            return Next::Return(Progress::new(at, Then::More));
        }
        if self.switching
            && self
                .pairing
                .newest()
                .is_some_and(|request| request.switch != Switch::None)
        {
            return Next::Return(Progress::new(at, Then::Wait));
        }
        self.switching = false;
        let time = input.time_at(at);
        let mut looks_like_one = false;
        if input.chunk_starts_at(at) {
            let turned = self.pairing.turned_to_server(before, time);
            match head::request(&input.bytes[at..]) {
                Parsed::Whole(..) if turned => {
                    self.to_server = State::Head(0);
                    return Next::On(0);
                }
                Parsed::Partial if turned => return Next::Return(Progress::new(at, Then::More)),
                Parsed::Whole(..) => looks_like_one = true,
                _ => {}
            }
        }
        self.pairing.passed_request(looks_like_one, before, time);
        let next = input.next_chunk(at + 1).unwrap_or(input.bytes.len()) - at;
        self.to_server = State::Search(Some(time));
        output.lost(Loss::ResyncBytes, next as u64);
        Next::On(next)
    }

    // Responses.

    fn response_step(&mut self, input: &Input<'_>, at: usize, output: &mut dyn Output) -> Next {
        match self.to_client {
            State::Head(searched) => self.response_head(input, at, searched, output),
            State::Length(length) => self.content(Flow::ToClient, input, at, 0, length, Behind::End(length)),
            State::Messages(left, behind) => self.messages(Flow::ToClient, input, at, left, behind),
            State::Passing(n, left, behind) => self.passed(Flow::ToClient, n, left, behind),
            State::BodyEnd(size) => {
                self.response_size(Some(size));
                if input.end_unseen && at == 0 {
                    // When it ended is not known, and that is part of a transaction.
                    if std::mem::take(&mut self.answers) {
                        self.pairing.response_end_lost(output);
                    }
                    self.to_client = State::Head(0);
                } else {
                    self.response_ended(input.time_until(at), output);
                }
                Next::On(0)
            }
            State::Chunked(mut chunked) => match chunked.step(&input.bytes[at..]) {
                Step::Framing(n) => {
                    self.to_client = State::Chunked(chunked);
                    Next::On(n)
                }
                Step::Data(n, length) => {
                    self.content(Flow::ToClient, input, at, n, length, Behind::Chunk(chunked))
                }
                Step::End(n, size) => {
                    self.response_size(Some(size));
                    self.response_ended(input.time_until(at + n), output);
                    Next::On(n)
                }
                Step::Partial => Next::Return(Progress::new(at, Then::More)),
                Step::Invalid => self.refuse(Flow::ToClient, output),
            },
            State::UntilClose(size) => {
                let here = (input.bytes.len() - at) as u64;
                let size = size.map(|size| size + here).filter(|&size| size <= COUNTED);
                if let Some(body) = self.body(Flow::ToClient) {
                    match size {
                        Some(_) => body.take(&input.bytes[at..]),
                        None => body.give_up(),
                    }
                }
                self.to_client = State::UntilClose(size);
                let then = if size.is_some() {
                    Then::More
                } else {
                    Then::SkipToEnd
                };
                Next::Return(Progress::new(input.bytes.len(), then))
            }
            State::Search(before) => self.search_response(input, at, before, output),
            State::Off => Next::Return(Progress::new(input.bytes.len(), Then::SkipToEnd)),
        }
    }

    fn response_head(
        &mut self,
        input: &Input<'_>,
        at: usize,
        searched: usize,
        output: &mut dyn Output,
    ) -> Next {
        let bytes = &input.bytes[at..];
        match head::empty_lines(bytes) {
            None => return self.refuse(Flow::ToClient, output),
            Some(0) => {}
            Some(n) => return Next::On(n),
        }
        if matches!(bytes, [] | [b'\r']) {
            return Next::Return(Progress::new(at, Then::More));
        }
        if searched > 0 && bytes.len() <= head::MAX_HEAD && !head::has_end(bytes, searched) {
            self.to_client = State::Head(bytes.len());
            return Next::Return(Progress::new(at, Then::More));
        }
        let (head, length) = match head::response(bytes) {
            Parsed::Whole(head, length) => (head, length),
            Parsed::Partial => {
                self.to_client = State::Head(bytes.len());
                return Next::Return(Progress::new(at, Then::More));
            }
            Parsed::Invalid => return self.refuse(Flow::ToClient, output),
        };
        if head.is_interim() {
            self.to_client = State::Head(0);
            return Next::On(length);
        }
        let start = input.time_at(at);
        match self.pairing.response(start, output) {
            Answer::Current => self.answers = true,
            Answer::NoRequest if !(input.waited && at == 0) => {
                self.pairing.saw_response(start);
                return Next::Return(Progress::new(at, Then::Blocked));
            }
            Answer::NoRequest | Answer::TooEarly => {
                self.pairing.unsolicited(start, output);
                self.answers = false;
                if !self.pairing.is_certain() {
                    // It may be to a HEAD request, so where it ends is not known.
                    self.to_client = State::Search(Some(input.time_until(at + length)));
                    return Next::On(length);
                }
            }
            Answer::Unknown => {
                self.to_client = if self.pairing.has_ended() {
                    State::Off
                } else {
                    let seen = at > 0 || !input.end_unseen;
                    State::Search(seen.then(|| input.time_until(at)))
                };
                return Next::On(0);
            }
        }
        self.response_begins(&head, input, at + length, length, output)
    }

    /// The response with this head, which ends at `end`, is for the current request, or for none.
    fn response_begins(
        &mut self,
        head: &ResponseHead<'_>,
        input: &Input<'_>,
        end: usize,
        length: usize,
        output: &mut dyn Output,
    ) -> Next {
        let status = head.status;
        let (mut is_head, mut switch) = (false, Switch::None);
        if self.answers
            && let Some(request) = self.pairing.current()
        {
            request.answered(status, &head.fields);
            (is_head, switch) = (request.is_head, request.switch);
        }
        match (switch, status) {
            (Switch::Upgrade, 101) | (Switch::Tunnel, 200..=299) => {
                return Next::Return(self.switch(head, input, end, output));
            }
            // Nothing was asked for that this could answer.
            (_, 101) => return self.refuse(Flow::ToClient, output),
            (Switch::None, _) => {}
            _ => self.declined = true,
        }
        // RFC 9112 § 6.3, in its order.
        self.to_client = if is_head || matches!(status, 204 | 304) {
            State::Length(0)
        } else {
            match (head.fields.coding, head.fields.content_length) {
                (Coding::Chunked, _) => State::Chunked(Chunked::default()),
                (Coding::None, Some(length)) => State::Length(length),
                _ => State::UntilClose(Some(0)),
            }
        };
        Next::On(length)
    }

    fn response_size(&mut self, size: Option<u64>) {
        if self.answers
            && let Some(request) = self.pairing.current()
        {
            request.response_body_size = size;
        }
    }

    fn response_ended(&mut self, time: u64, output: &mut dyn Output) {
        self.to_client = State::Head(0);
        if std::mem::take(&mut self.answers) {
            self.pairing.response_ended(time, output);
            self.report_proven(output);
        }
    }

    /// The current request has ended HTTP on this connection.
    fn switch(
        &mut self,
        head: &ResponseHead<'_>,
        input: &Input<'_>,
        end: usize,
        output: &mut dyn Output,
    ) -> Progress {
        let time = input.time_until(end);
        // Only an upgrade that was asked for is answered so.
        if head.status == 101 {
            self.pairing.prove_current(output);
        }
        let protocol = head.fields.upgrade.unwrap_or_default();
        if protocol.eq_ignore_ascii_case(b"h2c") {
            if let Some(exchange) = self.pairing.take_current() {
                let upgrade = v2::Upgrade {
                    start: exchange.start,
                    request: exchange.request.record(),
                    remote_parent: exchange.request.remote_parent,
                    tracestate: exchange.request.tracestate(),
                };
                return Progress::new(end, Then::Become(v2::upgraded(&upgrade, output)));
            }
            return Progress::new(end, Then::Detect);
        }
        self.response_size(Some(0));
        self.pairing.response_ended(time, output);
        let mut then = Then::Detect;
        while let Some(exchange) = self.pairing.proven() {
            let span = report(&exchange, None, output);
            if protocol.eq_ignore_ascii_case(b"websocket") && self.pairing.outstanding() == 0 {
                then = Then::Become(Box::new(WebSocket::new(
                    &exchange.request.record(),
                    span,
                    time,
                    output,
                )));
            }
        }
        // What is left could not be proved, and no more is to come.
        self.pairing.give_up_all(output);
        Progress::new(end, then)
    }

    /// Looks for a response where the connection turned around.
    fn search_response(
        &mut self,
        input: &Input<'_>,
        at: usize,
        before: Option<u64>,
        output: &mut dyn Output,
    ) -> Next {
        if self.pairing.has_ended() {
            self.to_client = State::Off;
            return Next::On(0);
        }
        if at == input.bytes.len() {
            return Next::Return(Progress::new(at, Then::More));
        }
        let bytes = &input.bytes[at..];
        let time = input.time_at(at);
        let mut looks_like_one = false;
        if input.chunk_starts_at(at) {
            match head::response(bytes) {
                Parsed::Whole(head, length) if !head.is_interim() => {
                    self.pairing.saw_response(time);
                    if self.pairing.turned_to_client(before, time) {
                        self.answers = true;
                        return self.response_begins(&head, input, at + length, length, output);
                    }
                    let may_be_late = self.pairing.outstanding() == 0 && !self.pairing.is_too_early(time);
                    if may_be_late && !(input.waited && at == 0) {
                        return Next::Return(Progress::new(at, Then::Blocked));
                    }
                    looks_like_one = true;
                }
                Parsed::Partial => return Next::Return(Progress::new(at, Then::More)),
                _ => {}
            }
        }
        let next = input.next_chunk(at + 1).unwrap_or(input.bytes.len()) - at;
        // An exchange that is lost counts once, and so does what it consisted of: as a message, or in bytes.
        if self.pairing.passed_over(time, output) == 0 && looks_like_one {
            output.lost(Loss::UnpairedResponse, 1);
        } else {
            output.lost(Loss::ResyncBytes, next as u64);
        }
        self.to_client = State::Search(Some(time));
        Next::On(next)
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

    fn gap(&mut self, flow: Flow, _length: u64, output: &mut dyn Output) {
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
            if messages != [grpc::Messages::default(); 2] {
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

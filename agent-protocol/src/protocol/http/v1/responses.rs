//! What the server sends.

use super::chunked::Step;
use super::head::{self, Parsed, ResponseHead, Rest};
use super::request::Switch;
use super::{Behind, COUNTED, Connection, Next, State, count_malformed, report};
use crate::loss::Loss;
use crate::output::Output;
use crate::protocol::http::v2;
use crate::protocol::http::websocket::WebSocket;
use crate::protocol::pairing::Answer;
use crate::protocol::{Flow, Input, Progress, Then};

impl Connection {
    pub(super) fn response_step(&mut self, input: &Input<'_>, at: usize, output: &mut dyn Output) -> Next {
        match self.to_client {
            State::Head(searched) => self.response_head(input, at, searched, output),
            State::HeadRest(rest, bodiless) => {
                self.head_rest(Flow::ToClient, rest, bodiless, input, at, output)
            }
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
                Step::Malformed(n) => {
                    output.lost(Loss::MalformedField, 1);
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
        let may_switch = head.is_interim() || head.status == 101;
        if head.fields.unfinished && may_switch {
            return self.refuse(Flow::ToClient, output);
        }
        if head.is_interim() {
            count_malformed(&head.fields, output);
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
        count_malformed(&head.fields, output);
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
        let bodiless = is_head || matches!(status, 204 | 304);
        self.to_client = if head.fields.unfinished {
            State::HeadRest(Rest::of(&head.fields, head.minor, false), bodiless)
        } else if bodiless {
            State::Length(0)
        } else {
            State::of_response(head.fields.coding, head.fields.content_length)
        };
        Next::On(length)
    }

    pub(super) fn response_size(&mut self, size: Option<u64>) {
        if self.answers
            && let Some(request) = self.pairing.current()
        {
            request.response_body_size = size;
        }
    }

    pub(super) fn response_ended(&mut self, time: u64, output: &mut dyn Output) {
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
                    if self.pairing.turned_to_client(before, time, output) {
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
}

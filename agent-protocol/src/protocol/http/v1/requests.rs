//! What the client sends.

use super::chunked::Step;
use super::head::{self, Parsed, Rest};
use super::request::Switch;
use super::{Behind, Connection, Next, State, count_malformed};
use crate::loss::Loss;
use crate::output::Output;
use crate::protocol::{Flow, Input, Progress, Then};

/// Methods of RFC 9110 and RFC 5789, none of which ends with another.
const METHODS: [&[u8]; 9] = [
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH",
];

impl Connection {
    pub(super) fn request_step(&mut self, input: &Input<'_>, at: usize, output: &mut dyn Output) -> Next {
        match self.to_server {
            State::Head(searched) => self.request_head(input, at, searched, output),
            State::HeadRest(rest, bodiless) => {
                self.head_rest(Flow::ToServer, rest, bodiless, input, at, output)
            }
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
                Step::Malformed(n) => {
                    output.lost(Loss::MalformedField, 1);
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
        count_malformed(&head.fields, output);
        let mut request = self.pairing.storage();
        request.fill(&head);
        self.switching = request.switch != Switch::None;
        self.declined = false;
        self.to_server = if head.fields.unfinished {
            State::HeadRest(Rest::of(&head.fields, head.minor, true), false)
        } else {
            State::of_request(head.fields.coding, head.fields.content_length)
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
                // Right behind a hole it may be the rest of a line: `T / HTTP/1.1`.
                Parsed::Whole(head, _) if before.is_none() && !METHODS.contains(&head.method) => {}
                Parsed::Whole(..) if turned => {
                    self.to_server = State::Head(0);
                    return Next::On(0);
                }
                Parsed::Partial if turned => return Next::Return(Progress::new(at, Then::More)),
                Parsed::Whole(..) => {
                    let late = self.pairing.may_turn_to_server(before, time);
                    if late && !(input.waited && at == 0) {
                        return Next::Return(Progress::new(at, Then::Blocked));
                    }
                    looks_like_one = true;
                }
                _ => {}
            }
        }
        self.pairing.passed_request(looks_like_one, before, time);
        let next = input.next_chunk(at + 1).unwrap_or(input.bytes.len()) - at;
        self.to_server = State::Search(Some(time));
        output.lost(Loss::ResyncBytes, next as u64);
        Next::On(next)
    }
}

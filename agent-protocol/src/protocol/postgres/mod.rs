//! PostgreSQL's frontend/backend protocol, versions 3.0 and 3.2 (manual, chapter "Frontend/Backend Protocol").
//!
//! - `frames`: bytes → messages, and where a message can be proved to begin.
//! - `queue`, `session`, `matching` (`simple`, `extended`, `cut_off`), `outcome`: messages → transactions.
//! - `proof`: whether requests and answers are known to go together.
//! - `sql`: query strings without their literals.

mod cut_off;
mod extended;
mod frames;
mod matching;
mod outcome;
mod proof;
mod queue;
mod session;
mod simple;
mod sql;

use super::{Detector, Flow, Input, Progress, Protocol, Then};
use crate::loss::Loss;
use crate::output::Output;
use frames::{Chain, HEADER, Header, Opening, Startup};
use matching::{Matcher, Reply, Verdict};
use queue::Kind;

/// PostgreSQL.
pub const DETECTOR: Detector = Detector {
    name: NAME,
    detect: frames::detect,
    answered: |_, _| None,
    create: |fresh| Box::new(Postgres::new(fresh)),
};

const NAME: &str = "postgresql";

/// Bytes of a message in which the names that it begins with have to be.
const NAMES: u64 = 8 << 10;

/// Bytes in which a message has to prove itself where it is not known to begin.
const WINDOW: usize = 64 << 10;

/// How the bytes of a flow are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alignment {
    /// At a message without type byte: StartupMessage and its kin.
    Opening,
    /// At a message.
    Message,
    /// Anywhere.
    Lost,
}

/// A message that is there in part.
#[derive(Debug, Clone, Copy)]
struct Partial {
    header: Header,
    start: u64,
}

#[derive(Debug)]
struct State {
    alignment: Alignment,
    /// The message that more bytes were asked for.
    partial: Option<Partial>,
    /// What is left of a message whose middle is missing.
    rest: u64,
    seen: bool,
}

impl State {
    fn new(alignment: Alignment) -> State {
        State {
            alignment,
            partial: None,
            rest: 0,
            seen: false,
        }
    }
}

struct Postgres {
    client: State,
    server: State,
    /// Answers to SSLRequest and GSSENCRequest that are to come, a byte each.
    encryption_answers: u32,
    matcher: Matcher,
}

/// What to do after a message, or instead of one.
enum Step {
    /// Done with so many bytes, which may be more than there are.
    Next(u64),
    Stop(Then),
}

impl Postgres {
    fn new(fresh: bool) -> Postgres {
        let (client, server) = match fresh {
            true => (Alignment::Opening, Alignment::Message),
            false => (Alignment::Lost, Alignment::Lost),
        };
        Postgres {
            client: State::new(client),
            server: State::new(server),
            encryption_answers: 0,
            matcher: Matcher::new(fresh),
        }
    }

    fn state(&mut self, flow: Flow) -> &mut State {
        match flow {
            Flow::ToServer => &mut self.client,
            Flow::ToClient => &mut self.server,
        }
    }

    /// The next step at `at` in the client's bytes.
    fn client(&mut self, input: &Input<'_>, at: usize, output: &mut dyn Output) -> Step {
        let bytes = input.bytes.get(at..).unwrap_or_default();
        match self.client.alignment {
            Alignment::Opening => self.opening(input, at, output),
            Alignment::Message => self.request(bytes, input.time_at(at), output),
            Alignment::Lost => self.find_request(input, at, output),
        }
    }

    fn opening(&mut self, input: &Input<'_>, at: usize, output: &mut dyn Output) -> Step {
        let bytes = input.bytes.get(at..).unwrap_or_default();
        let (startup, length) = match frames::opening(bytes) {
            Opening::Complete(startup, length) => (startup, length),
            Opening::Incomplete => return Step::Stop(Then::More),
            Opening::Invalid => {
                // A client that asked for encryption and does not go on in plain text.
                let loss = if self.encryption_answers > 0 {
                    Loss::Encrypted
                } else {
                    Loss::Refused
                };
                output.lost(loss, 1);
                return Step::Stop(Then::Ignore);
            }
        };
        match startup {
            Startup::Encryption => self.encryption_answers += 1,
            Startup::Cancel => return Step::Stop(Then::Ignore),
            Startup::Session {
                replication: true, ..
            } => {
                output.lost(Loss::Unreportable, 1);
                return Step::Stop(Then::Ignore);
            }
            Startup::Session { user, database, .. } => {
                let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(Box::from);
                self.matcher.session.user = user.and_then(text);
                self.matcher.session.database = database.and_then(text);
                self.client.alignment = Alignment::Message;
                self.matcher
                    .request(Kind::Login, input.time_at(at), None, (b"", b""), output);
            }
        }
        Step::Next(length as u64)
    }

    /// A message of the client, of which `bytes` are there.
    fn request(&mut self, bytes: &[u8], start: u64, output: &mut dyn Output) -> Step {
        if bytes.len() < HEADER {
            return Step::Stop(Then::More);
        }
        let Some(header) = frames::header(bytes, Flow::ToServer) else {
            return self.refuse(Flow::ToServer, output);
        };
        let available = usize::try_from(header.length)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let body = bytes.get(HEADER..available).unwrap_or_default();
        let whole = available as u64 == header.length;
        let text = header.length.min(sql::LOOKED_AT as u64);
        let enough = match header.kind {
            b'Q' | b'P' => bytes.len() as u64 >= text,
            // Values of parameters are not waited for.
            b'B' => whole || frames::two_strings(body).is_some() || bytes.len() as u64 >= NAMES,
            b'D' | b'C' | b'E' => whole,
            _ => true,
        };
        if !enough {
            self.client.partial = Some(Partial { header, start });
            return Step::Stop(Then::More);
        }
        let text_of =
            |text: &[u8], matcher: &Matcher| Some(sql::script(text, whole, matcher.session.plain_backslash));
        let matcher = &mut self.matcher;
        matcher.heard(header.kind, start);
        if header.kind == b'H' {
            matcher.flush_sent();
        }
        let known = match header.kind {
            b'Q' => {
                let text = if whole {
                    frames::one_string(body)
                } else {
                    Some(body)
                };
                text.map(|text| {
                    let script = text_of(text, matcher);
                    matcher.request(Kind::Query, start, script, (b"", b""), output);
                })
            }
            b'P' => {
                let parse = if whole {
                    frames::two_strings(body)
                } else {
                    frames::name_and_rest(body)
                };
                parse.map(|(name, text)| {
                    let script = text_of(text, matcher);
                    matcher.request(Kind::Parse, start, script, (name, b""), output);
                })
            }
            b'B' => {
                frames::two_strings(body).map(|names| matcher.request(Kind::Bind, start, None, names, output))
            }
            b'E' => frames::one_string(body)
                .map(|portal| matcher.request(Kind::Execute, start, None, (portal, b""), output)),
            b'D' | b'C' => frames::subject(body).map(|(subject, name)| {
                let kind = match (header.kind, subject) {
                    (b'D', b'S') => Kind::DescribeStatement,
                    (b'D', _) => Kind::DescribePortal,
                    (_, b'S') => Kind::CloseStatement,
                    _ => Kind::ClosePortal,
                };
                matcher.request(kind, start, None, (name, b""), output);
            }),
            kind => {
                let kind = match kind {
                    b'S' => Some(Kind::Sync),
                    b'F' => Some(Kind::FunctionCall),
                    b'c' | b'f' => Some(Kind::CopyEnd),
                    _ => None,
                };

                if let Some(kind) = kind {
                    matcher.request(kind, start, None, (b"", b""), output);
                }
                Some(())
            }
        };
        match known {
            Some(()) => Step::Next(header.length),
            None => self.refuse(Flow::ToServer, output),
        }
    }

    /// Bytes that break the protocol's rules: a message is looked for anew.
    fn refuse(&mut self, flow: Flow, output: &mut dyn Output) -> Step {
        output.lost(Loss::Refused, 1);
        self.state(flow).alignment = Alignment::Lost;
        match flow {
            Flow::ToServer => self.matcher.hole(None, output),
            Flow::ToClient => {
                self.matcher.lose(true, output);
            }
        }
        // Not where it was refused.
        Step::Next(1)
    }

    /// Looks for a chunk that begins with messages which prove themselves.
    fn find_request(&mut self, input: &Input<'_>, at: usize, output: &mut dyn Output) -> Step {
        let Some(from) = (match input.chunk_starts_at(at) {
            true => Some(at),
            false => input.next_chunk(at + 1),
        }) else {
            return self.pass(Flow::ToServer, input.bytes.len() - at, output);
        };
        if from > at {
            return self.pass(Flow::ToServer, from - at, output);
        }
        let bytes = input.bytes.get(at..).unwrap_or_default();
        match frames::opening(bytes) {
            Opening::Complete(..) => {
                // A session begins: nothing before it matters.
                let plain = State::new(Alignment::Opening);
                *self = Postgres {
                    client: plain,
                    server: State::new(if self.server.seen {
                        self.server.alignment
                    } else {
                        Alignment::Message
                    }),
                    ..Postgres::new(true)
                };
                return Step::Next(0);
            }
            Opening::Incomplete if bytes.len() < WINDOW => return Step::Stop(Then::More),
            _ => {}
        }
        match frames::chain(bytes, Flow::ToServer) {
            Chain::Proved => {
                self.client.alignment = Alignment::Message;
                Step::Next(0)
            }
            Chain::Open if bytes.len() < WINDOW => Step::Stop(Then::More),
            Chain::Open | Chain::Broken => match input.next_chunk(at + 1) {
                Some(next) => self.pass(Flow::ToServer, next - at, output),
                None => self.pass(Flow::ToServer, bytes.len(), output),
            },
        }
    }

    /// `n` bytes are passed over.
    fn pass(&mut self, flow: Flow, n: usize, output: &mut dyn Output) -> Step {
        output.lost(Loss::ResyncBytes, n as u64);
        match flow {
            Flow::ToServer => self.matcher.proof.pass_over(n as u64),
            Flow::ToClient => self.matcher.proof.deaf(),
        }
        Step::Next(n as u64)
    }

    /// The next step at `at` in the server's bytes.
    fn server(&mut self, input: &Input<'_>, at: usize, output: &mut dyn Output) -> Step {
        let bytes = input.bytes.get(at..).unwrap_or_default();
        if self.encryption_answers > 0 {
            return self.encryption_answer(bytes, output);
        }
        match self.server.alignment {
            Alignment::Lost => self.find_reply(input, at, output),
            _ => self.reply(input, at, output),
        }
    }

    fn encryption_answer(&mut self, bytes: &[u8], output: &mut dyn Output) -> Step {
        match bytes.first() {
            Some(b'N') => {
                self.encryption_answers -= 1;
                return Step::Next(1);
            }
            Some(b'S' | b'G') => output.lost(Loss::Encrypted, 1),
            Some(b'E') => output.lost(Loss::Unattributed, 1),
            _ => output.lost(Loss::Refused, 1),
        }
        Step::Stop(Then::Ignore)
    }

    /// A message of the server at `at`.
    fn reply(&mut self, input: &Input<'_>, at: usize, output: &mut dyn Output) -> Step {
        let bytes = input.bytes.get(at..).unwrap_or_default();
        if self.client.alignment == Alignment::Opening {
            // The answer to a request that was not seen yet.
            if !input.waited {
                return Step::Stop(Then::Blocked);
            }
            output.lost(Loss::Refused, 1);
            return Step::Stop(Then::Ignore);
        }
        if bytes.len() < HEADER {
            return Step::Stop(Then::More);
        }
        let Some(header) = frames::header(bytes, Flow::ToClient) else {
            return self.refuse(Flow::ToClient, output);
        };
        let read = match header.kind {
            b'C' | b'Z' | b'E' | b'S' => header.length as usize,
            _ => HEADER,
        };
        let Some(body) = bytes.get(HEADER..read) else {
            return Step::Stop(Then::More);
        };
        let reply = Reply {
            kind: header.kind,
            body,
            start: input.time_at(at),
            end: input.time_until(at + read),
        };
        if header.kind == b'S'
            && let Some((b"standard_conforming_strings", value)) = frames::parameter(body)
        {
            self.matcher.session.plain_backslash = value == b"on";
        }
        match self.matcher.reply(&reply, input.waited && at == 0, output) {
            Verdict::Taken => Step::Next(header.length),
            Verdict::Blocked => Step::Stop(Then::Blocked),
            Verdict::Replication => {
                output.lost(Loss::Unreportable, 1);
                Step::Stop(Then::Ignore)
            }
        }
    }

    /// Looks for a chunk that is answers up to a ReadyForQuery, or ends with one.
    fn find_reply(&mut self, input: &Input<'_>, at: usize, output: &mut dyn Output) -> Step {
        let bytes = input.bytes.get(at..).unwrap_or_default();
        if input.chunk_starts_at(at) {
            match frames::chain(bytes, Flow::ToClient) {
                Chain::Proved => {
                    self.server.alignment = Alignment::Message;
                    return Step::Next(0);
                }
                Chain::Open if bytes.len() < WINDOW => return Step::Stop(Then::More),
                Chain::Open | Chain::Broken => {}
            }
        }
        let end = input.next_chunk(at + 1).unwrap_or(input.bytes.len());
        let passed = input.bytes.get(at..end).unwrap_or_default();
        if frames::ends_ready(passed) {
            self.server.alignment = Alignment::Message;
            // What it ends with is read as a message.
            self.matcher.proof.deaf();
            return match passed.len() - (HEADER + 1) {
                0 => Step::Next(0),
                before => self.pass(Flow::ToClient, before, output),
            };
        }
        self.pass(Flow::ToClient, passed.len(), output)
    }
}

impl Protocol for Postgres {
    fn name(&self) -> &'static str {
        NAME
    }

    fn data(&mut self, flow: Flow, input: Input<'_>, output: &mut dyn Output) -> Progress {
        let rest = std::mem::take(&mut self.state(flow).rest);
        if rest > 0 {
            return Progress::new(0, Then::Skip(rest));
        }
        let mut at = 0;
        while at < input.bytes.len() {
            self.state(flow).seen = true;
            self.state(flow).partial = None;
            let step = match flow {
                Flow::ToServer => self.client(&input, at, output),
                Flow::ToClient => self.server(&input, at, output),
            };
            match step {
                Step::Next(length) => {
                    let left = input.bytes.len() - at;
                    let here = usize::try_from(length).unwrap_or(usize::MAX).min(left);
                    at += here;
                    if (here as u64) < length {
                        return Progress::new(at, Then::Skip(length - here as u64));
                    }
                }
                Step::Stop(then) => return Progress::new(at, then),
            }
        }
        Progress::new(at, Then::More)
    }

    fn gap(&mut self, flow: Flow, length: u64, output: &mut dyn Output) {
        let state = self.state(flow);
        if let Some(Partial { header, start }) = state.partial.take()
            && header.length >= length
            && matches!(header.kind, b'Q' | b'P')
            && flow == Flow::ToServer
        {
            state.rest = header.length - length;
            // Of a Parse, the name is missing too.
            match header.kind {
                b'Q' => self.matcher.request(Kind::Query, start, None, (b"", b""), output),
                _ => self.matcher.hole(Some(header.length), output),
            }
            return;
        }
        state.alignment = Alignment::Lost;
        match flow {
            Flow::ToServer => {
                if self.encryption_answers > 0 {
                    self.encryption_answers = 0;
                }
                self.matcher.hole(Some(length), output);
            }
            Flow::ToClient => {
                self.encryption_answers = 0;
                self.matcher.lose(false, output);
            }
        }
    }

    fn finished(&mut self, flow: Flow) {
        self.matcher.finished |= flow == Flow::ToClient;
    }

    fn end(&mut self, _flow: Flow, _time: u64, _output: &mut dyn Output) {}

    fn close(&mut self, time: u64, output: &mut dyn Output) {
        if self.client.seen && self.server.seen {
            self.matcher.close(time, output);
        } else {
            self.matcher.abandon(output);
        }
    }

    fn abandon(&mut self, output: &mut dyn Output) {
        self.matcher.abandon(output);
    }
}

#[cfg(test)]
mod tests;

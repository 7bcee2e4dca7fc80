//! Commands and their replies to transactions.

use super::NAME;
use super::commands::{Cache, Kind};
use super::replies::Replies;
use super::requests::Requests;
use crate::loss::Loss;
use crate::output::Output;
use crate::protocol::pairing::{Exchange, Pairing};
use crate::protocol::{Flow, Input, Progress, Protocol};
use crate::record::{
    self,
    redis::{CacheResult, Record},
};
use crate::transaction::{CONNECTION_CLOSED, Transaction};

/// Commands that may wait for their replies, in a pipeline, or for their EXEC.
const MAX_OPEN: usize = 65_536;

/// `error.type` of an error reply whose prefix tells nothing.
const OTHER: &str = "_OTHER";

/// What is known of a reply, or of an element of EXEC's.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) failed: bool,
    /// Of an error; empty where it tells nothing.
    pub(super) prefix: String,
    pub(super) null: bool,
    pub(super) queued: bool,
    pub(super) integer: Option<u32>,
    /// Elements of an aggregate, and how many of them are null.
    pub(super) elements: Option<u64>,
    pub(super) nulls: u32,
}

impl Reply {
    fn clear(&mut self) {
        let mut prefix = std::mem::take(&mut self.prefix);
        prefix.clear();
        *self = Reply {
            prefix,
            ..Reply::default()
        };
    }

    /// Whether it may be `+OK`.
    fn is_plain(&self) -> bool {
        !self.failed && !self.null && !self.queued && self.integer.is_none() && self.elements.is_none()
    }

    /// What a read found.
    fn cache(&self, rule: Cache, arguments: u32) -> Option<CacheResult> {
        if self.failed {
            return None;
        }
        let flag = |hit: bool| CacheResult {
            hits: hit.into(),
            misses: (!hit).into(),
        };
        match rule {
            Cache::None => None,
            Cache::Null => Some(flag(!self.null)),
            Cache::Nulls => {
                let n = u32::try_from(self.elements?).ok()?;
                Some(CacheResult {
                    hits: n.checked_sub(self.nulls)?,
                    misses: self.nulls,
                })
            }
            Cache::Count => {
                let hits = self.integer?;
                Some(CacheResult {
                    hits,
                    misses: arguments.checked_sub(hits)?,
                })
            }
            Cache::Flag => self.integer.map(|n| flag(n > 0)),
            Cache::Empty => self.elements.map(|n| flag(n > 0)),
        }
    }
}

/// A command, and what is known of its reply.
#[derive(Debug, Default)]
pub(super) struct Command {
    /// In capitals, with its subcommand; empty where it was malformed.
    pub(super) name: String,
    pub(super) arguments: u32,
    pub(super) kind: Kind,
    pub(super) cache: Cache,
    /// Sent while the order of commands and replies was certain.
    pub(super) certain: bool,
    pub(super) reply: Reply,
    /// The elements of EXEC's reply.
    pub(super) elements: Vec<Reply>,
}

impl Command {
    pub(super) fn clear(&mut self) {
        self.name.clear();
        self.reply.clear();
        self.elements = Vec::new();
        (self.arguments, self.kind, self.cache) = (0, Kind::Plain, Cache::None);
    }
}

/// What MULTI holds back until EXEC.
#[derive(Debug, Default)]
struct Queue {
    held: Vec<Exchange<Command>>,
    /// Commands that there was no room to hold.
    left_out: u64,
}

/// A connection that speaks RESP.
pub(super) struct Redis {
    pub(super) pairing: Pairing<Command>,
    pub(super) requests: Requests,
    pub(super) replies: Replies,
    queue: Queue,
    /// The database selected.
    namespace: Option<u32>,
    /// The server has ended its flow.
    finished: bool,
}

impl Redis {
    pub(super) fn new(fresh: bool) -> Redis {
        Redis {
            pairing: Pairing::with_limit(fresh, MAX_OPEN),
            requests: Requests::new(fresh),
            replies: Replies::new(fresh),
            queue: Queue::default(),
            namespace: fresh.then_some(0),
            finished: false,
        }
    }

    /// The server ends the connection once it has written all replies (command reference, QUIT).
    fn has_quit(&self) -> bool {
        let accepted = |command: &Command| command.name == "QUIT" && command.reply.is_plain();
        self.finished && self.pairing.last_held().is_some_and(accepted)
    }

    /// Takes the pairs that are proved.
    pub(super) fn drain(&mut self, output: &mut dyn Output) {
        while let Some(exchange) = self.pairing.proven() {
            self.answered(exchange, output);
        }
    }

    fn answered(&mut self, exchange: Exchange<Command>, output: &mut dyn Output) {
        let Command { kind, reply, .. } = &exchange.request;
        let (kind, failed) = (*kind, reply.failed);
        if reply.queued && kind != Kind::Multi {
            if self.queue.held.len() < MAX_OPEN {
                self.queue.held.push(exchange);
            } else {
                self.queue.left_out += 1;
                output.lost(Loss::Evicted, 1);
                self.pairing.recycle(exchange.request);
            }
            return;
        }
        match kind {
            Kind::Exec => return self.executed(exchange, output),
            // What was held for an EXEC that was not seen is lost.
            Kind::Multi if !failed => self.lose_held(Loss::UnpairedRequest, output),
            Kind::Discard if !failed => self.release(None, output),
            Kind::Reset if !failed => {
                self.release(None, output);
                self.report(&exchange, exchange.end, None, None, output);
                self.namespace = Some(0);
                self.pairing.recycle(exchange.request);
                return;
            }
            _ => {}
        }
        self.report(&exchange, exchange.end, None, None, output);
        if !failed && let Kind::Select(database) = kind {
            self.namespace = database.filter(|_| exchange.request.certain);
        }
        self.pairing.recycle(exchange.request);
    }

    /// EXEC was answered: with the replies of what was queued, with an error, or with null where a watched key
    /// changed.
    fn executed(&mut self, mut exec: Exchange<Command>, output: &mut dyn Output) {
        let elements = exec.request.reply.elements;
        let queued = self.queue.held.len() as u64 + self.queue.left_out;
        // As many replies as commands, or some were not seen, and it cannot be said which.
        if elements.is_some_and(|n| n != queued) {
            self.lose_held(Loss::UnpairedRequest, output);
            self.namespace = None;
        }
        let replies = std::mem::take(&mut exec.request.elements);
        self.release(elements.map(|_| replies), output);
        let batch = elements.unwrap_or(queued);
        self.report(&exec, exec.end, None, Some(batch), output);
        self.pairing.recycle(exec.request);
    }

    /// Reports what was held, with the replies of EXEC where there are any.
    fn release(&mut self, replies: Option<Vec<Reply>>, output: &mut dyn Output) {
        let mut held = std::mem::take(&mut self.queue.held);
        let ran = replies.is_some();
        let mut replies = replies.into_iter().flatten();
        for mut exchange in held.drain(..) {
            if let Some(reply) = replies.next() {
                exchange.request.reply = reply;
            } else {
                // Its own reply says only that it was queued.
                exchange.request.cache = Cache::None;
            }
            self.report(&exchange, exchange.end, None, None, output);
            if let Kind::Select(database) = exchange.request.kind
                && ran
                && !exchange.request.reply.failed
            {
                self.namespace = database.filter(|_| exchange.request.certain);
            }
            self.pairing.recycle(exchange.request);
        }
        self.queue = Queue {
            held,
            ..Queue::default()
        };
        if self.queue.held.capacity() > 64 {
            self.queue.held = Vec::new();
        }
    }

    fn lose_held(&mut self, loss: Loss, output: &mut dyn Output) {
        for exchange in std::mem::take(&mut self.queue.held) {
            output.lost(loss, 1);
            self.pairing.recycle(exchange.request);
        }
        self.queue = Queue::default();
    }

    pub(super) fn report(
        &self,
        exchange: &Exchange<Command>,
        end: u64,
        error: Option<&str>,
        batch_size: Option<u64>,
        output: &mut dyn Output,
    ) {
        let Command {
            name,
            arguments,
            cache,
            reply,
            ..
        } = &exchange.request;
        let prefix = (reply.failed && !reply.prefix.is_empty()).then_some(reply.prefix.as_str());
        let failed = reply.failed.then(|| prefix.unwrap_or(OTHER));
        output.transaction(&Transaction {
            start: exchange.start.min(end),
            end,
            error: error.or(failed),
            remote_parent: None,
            tracestate: None,
            parent: None,
            record: record::Record::Redis(Record {
                operation: (!name.is_empty()).then_some(name),
                arguments: *arguments,
                namespace: self.namespace,
                status_code: prefix,
                batch_size,
                cache: reply.cache(*cache, *arguments).filter(|_| error.is_none()),
            }),
        });
    }

    /// A command that is to be answered.
    pub(super) fn asked(&mut self, command: Command, start: u64, end: Option<u64>, output: &mut dyn Output) {
        self.pairing.request(command, start, output);
        if let Some(end) = end {
            self.pairing.request_ended(end);
        }
        let unsolicited = self.replies.unsolicited;
        if start <= unsolicited {
            // It came so late that its reply was not waited for.
            self.lose_track(Flow::ToClient, None, output);
            self.pairing.passed_over(unsolicited, output);
        }
        self.drain(output);
    }

    /// Which database is selected is not known.
    pub(super) fn forget_database(&mut self) {
        self.namespace = None;
    }

    /// A command that by the protocol is not answered.
    pub(super) fn unanswered(&mut self, mut command: Command, time: u64, output: &mut dyn Output) {
        command.cache = Cache::None;
        if let Kind::Select(_) = command.kind {
            self.namespace = None;
        }
        let exchange = Exchange {
            request: command,
            start: time,
            end: time,
        };
        self.report(&exchange, time, None, None, output);
        self.pairing.recycle(exchange.request);
    }
}

impl Protocol for Redis {
    fn name(&self) -> &'static str {
        NAME
    }

    fn data(&mut self, flow: Flow, input: Input<'_>, output: &mut dyn Output) -> Progress {
        match flow {
            Flow::ToServer => self.client_sent(input, output),
            Flow::ToClient => self.server_sent(input, output),
        }
    }

    fn gap(&mut self, flow: Flow, _length: u64, output: &mut dyn Output) {
        self.lose_track(flow, None, output);
    }

    fn finished(&mut self, flow: Flow) {
        self.finished |= flow == Flow::ToClient;
    }

    fn end(&mut self, _flow: Flow, _time: u64, _output: &mut dyn Output) {}

    fn close(&mut self, time: u64, output: &mut dyn Output) {
        self.pairing.close(self.has_quit(), output);
        self.drain(output);
        self.release(None, output);
        while let Some(exchange) = self.pairing.cut_off() {
            self.report(&exchange, time, Some(CONNECTION_CLOSED), None, output);
        }
    }

    fn abandon(&mut self, output: &mut dyn Output) {
        self.pairing.abandon(output);
        self.lose_held(Loss::Unfinished, output);
    }
}

impl Redis {
    /// Bytes of `flow` cannot be read, up to `before` (the time of the last that came), or up to a gap.
    pub(super) fn lose_track(&mut self, flow: Flow, before: Option<u64>, output: &mut dyn Output) {
        match flow {
            Flow::ToServer => {
                if let Some(command) = self.requests.unfinished() {
                    output.lost(Loss::UnpairedRequest, 1);
                    self.pairing.recycle(command);
                }
                // Whether replies were turned on in between is not known.
                if self.requests.lose_track(before) {
                    self.pairing.give_up(flow, output);
                }
            }
            Flow::ToClient => self.replies.lose_track(before),
        }
        self.pairing.gap(flow, output);
        self.drain(output);
        self.lose_held(Loss::UnpairedRequest, output);
        self.namespace = None;
    }
}

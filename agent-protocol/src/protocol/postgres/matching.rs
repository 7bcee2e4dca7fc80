//! Which answer is for which message (manual, § "Message Flow").
//!
//! The server answers in order, so a queue of what was sent pairs exactly as long as nothing is missing. Its
//! answers also prove what the session holds: a statement is prepared when ParseComplete says so.

use super::frames;
use super::outcome::{Outcome, Reason};
use super::proof::Proof;
use super::queue::{Entry, Kind, Queue, Taken};
use super::session::{Prepared, Session, UNSEEN};
use super::sql::Script;
use crate::loss::Loss;
use crate::output::Output;
use std::collections::VecDeque;
use std::sync::Arc;

/// A message of the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply<'a> {
    pub(super) kind: u8,
    /// What is read of its body.
    pub(super) body: &'a [u8],
    /// When its first byte was seen.
    pub(super) start: u64,
    /// When its last byte was seen.
    pub(super) end: u64,
}

/// What became of a [`Reply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Taken,
    /// What it answers may be late.
    Blocked,
    /// A replication stream begins.
    Replication,
}

/// How far the first entry of the queue is answered.
#[derive(Debug, Default)]
pub(super) struct Current {
    pub(super) rows: u64,
    /// Statements of a Query that have their answer.
    pub(super) answered: usize,
    /// Something came that ReadyForQuery may follow.
    pub(super) complete: bool,
    pub(super) failed: bool,
    /// ParameterDescription was there.
    described: bool,
    /// The string's statements and the answers do not go together.
    pub(super) doubtful: bool,
}

/// A Parse that was answered: a transaction of its own, unless a Bind of it follows in the same batch.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) prepared: Prepared,
    pub(super) start: u64,
    /// `None` where it was not answered.
    pub(super) end: Option<u64>,
    /// Flush came before a Bind of it.
    pub(super) flushed: bool,
}

impl Pending {
    /// Whether a Bind of the statement `name` runs it, as part of one transaction.
    pub(super) fn is_for(&self, name: &[u8]) -> bool {
        self.prepared.is_named(name) && (name.is_empty() || !self.flushed)
    }
}

/// A statement that failed before its Execute.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) outcome: Outcome,
    /// Its portal; `None` while no Bind was there.
    pub(super) portal: Option<Box<[u8]>>,
}

/// Statements of one batch that are prepared and not bound.
const PENDING: usize = 1024;

/// Transactions that wait for the proof that they are any.
const HELD: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Matcher {
    pub(super) session: Session,
    pub(super) proof: Proof,
    pub(super) queue: Queue,
    pub(super) current: Current,
    pub(super) pending: Vec<Pending>,
    pub(super) failed: Option<Failed>,
    held: VecDeque<Outcome>,
    /// When the last message of the client began.
    client_time: u64,
    /// The client's group of messages is not complete, and it is let go.
    open: bool,
    dropping: bool,
    /// What comes next of the client may be the rest of a group.
    headless: bool,
    /// Terminate was sent, and the server has ended its flow.
    terminated: bool,
    pub(super) finished: bool,
    /// After an error in the extended protocol, up to Sync.
    pub(super) skipping: bool,
    /// The server takes CopyData, and Syncs count for nothing.
    pub(super) copying: bool,
}

impl Matcher {
    pub(super) fn new(exact: bool) -> Matcher {
        Matcher {
            proof: Proof::new(exact),
            headless: !exact,
            ..Matcher::default()
        }
    }

    /// Reports a transaction, now or when it is proved to be one.
    pub(super) fn emit(&mut self, outcome: Outcome, output: &mut dyn Output) {
        if outcome.start == UNSEEN {
            output.lost(Loss::UnpairedRequest, 1);
            return;
        }
        if self.proof.is_exact() {
            outcome.report(&self.session, output);
            return;
        }
        if self.held.len() >= HELD {
            self.held.pop_front();
            output.lost(Loss::UnpairedRequest, 1);
        }
        self.held.push_back(outcome);
    }

    /// Reports what was held, where it is proved now.
    fn release(&mut self, output: &mut dyn Output) {
        if self.proof.is_exact() && !self.held.is_empty() {
            for outcome in std::mem::take(&mut self.held) {
                outcome.report(&self.session, output);
            }
        }
    }

    /// Drops what was held.
    fn drop_held(&mut self, output: &mut dyn Output) {
        output.lost(Loss::UnpairedRequest, self.held.len() as u64);
        self.held = VecDeque::new();
    }

    /// A message of the client begins at `start`.
    pub(super) fn heard(&mut self, kind: u8, start: u64) {
        self.client_time = start;
        self.terminated |= kind == b'X';
    }

    /// Flush was sent: what a client waits for before it goes on is a transaction of its own.
    pub(super) fn flush_sent(&mut self) {
        if !self.queue.iter().any(|entry| entry.kind == Kind::Bind) {
            self.pending.iter_mut().for_each(|pending| pending.flushed = true);
        }
        self.queue.flush();
    }

    /// A Parse is there, and no Bind of it.
    pub(super) fn prepared(&mut self, pending: Pending, output: &mut dyn Output) {
        if self.pending.len() < PENDING {
            self.pending.push(pending);
        } else {
            output.lost(Loss::UnpairedRequest, 1);
        }
    }

    /// A message that gets an answer begins at `start`. `names`: of portal and statement.
    pub(super) fn request(
        &mut self,
        kind: Kind,
        start: u64,
        script: Option<Arc<Script>>,
        names: (&[u8], &[u8]),
        output: &mut dyn Output,
    ) {
        // Until the server tells how it reads strings.
        self.session.plain_backslash &= !script.as_ref().is_some_and(|script| script.sets_strings);
        match kind {
            Kind::CopyEnd if std::mem::take(&mut self.copying) || self.queue.is_empty() => return,
            // The server ignores it (manual, § "COPY Operations").
            Kind::Sync if self.copying => return,
            _ => {}
        }
        if kind != Kind::CopyEnd && !std::mem::replace(&mut self.open, !kind.ends_group()) {
            let headless = std::mem::take(&mut self.headless) && kind != Kind::Query && kind != Kind::Login;
            self.dropping = !self.proof.begin(start) || headless;
        }
        if kind.ends_group() {
            self.proof.end();
        }
        if self.dropping {
            self.pass_by(kind, script.as_deref(), names.0);
            output.lost(Loss::UnpairedRequest, u64::from(kind.is_statement()));
        } else if !self.queue.push(kind, start, script, names) {
            self.evict(output);
        }
    }

    /// There is no room for what is not answered.
    fn evict(&mut self, output: &mut dyn Output) {
        output.lost(Loss::Evicted, self.open_statements());
        self.lose(true, output);
        self.queue.clear();
        self.dropping = self.open;
    }

    /// A message is let go: what it may do to prepared statements makes them unknown.
    fn pass_by(&mut self, kind: Kind, script: Option<&Script>, name: &[u8]) {
        match kind {
            Kind::Parse | Kind::CloseStatement => self.session.close_statement(name),
            Kind::Query if script.is_none_or(Script::deallocates) => self.session.close_statements(),
            Kind::Query => self.session.close_statement(b""),
            _ => {}
        }
    }

    /// A message of the server. `waited`: what it answers cannot be late any more.
    pub(super) fn reply(&mut self, reply: &Reply<'_>, waited: bool, output: &mut dyn Output) -> Verdict {
        match reply.kind {
            b'N' | b'A' | b'S' => return Verdict::Taken,
            b'W' => return Verdict::Replication,
            _ => {}
        }
        self.settle_hole(output);
        if self.proof.is_adrift() {
            return self.drift(reply, waited, output);
        }
        if self.skipping {
            return self.skip(reply, waited, output);
        }
        match self.queue.front() {
            Some(front) if front.start <= reply.start => {
                if self.answer(front.kind, reply, output) {
                    self.settle_hole(output);
                    return Verdict::Taken;
                }
                self.lose(true, output);
            }
            _ if !waited && self.may_be_behind(reply) => return Verdict::Blocked,
            _ if self.proof.is_exact() && reply.kind == b'E' => {
                output.lost(Loss::Unattributed, 1);
                return Verdict::Taken;
            }
            _ => self.lose(self.proof.is_exact(), output),
        }
        self.drift(reply, waited, output)
    }

    /// Whether a request that began before the reply may still be to come.
    fn may_be_behind(&self, reply: &Reply<'_>) -> bool {
        self.client_time <= reply.start
    }

    /// A reply of which it is not known what it is for.
    fn drift(&mut self, reply: &Reply<'_>, waited: bool, output: &mut dyn Output) -> Verdict {
        match reply.kind {
            b'Z' if !waited && self.may_be_behind(reply) => return Verdict::Blocked,
            b'Z' => {
                self.drop_begun(reply.start, output);
                self.forget(output);
                self.session.set_unseen_portals(reply.body != b"I");
                let drained = self.queue.is_empty() && !self.open;
                self.proof.ready_unpaired(reply.end, drained);
            }
            b'C' | b'E' | b's' => {
                self.proof.unpaired(reply.end);
                output.lost(Loss::UnpairedResponse, 1);
            }
            _ => self.proof.unpaired(reply.end),
        }
        Verdict::Taken
    }

    /// Lets groups of messages go that began before `time`: their answers are gone.
    fn drop_begun(&mut self, time: u64, output: &mut dyn Output) {
        while self.queue.front().is_some_and(|entry| entry.start <= time) {
            while let Some(taken) = self.pop() {
                let entry = &taken.entry;
                if entry.kind == Kind::Hole {
                    self.pass_hole(output);
                    break;
                }
                output.lost(Loss::UnpairedRequest, u64::from(entry.kind.is_statement()));
                let name: Box<[u8]> = self.queue.names(&taken).0.into();
                self.pass_by(entry.kind, entry.script.as_deref(), &name);
                if entry.kind.ends_group() {
                    break;
                }
                self.dropping |= self.open && self.queue.is_empty();
            }
        }
        self.queue.settle();
    }

    /// The next answer to the first entry. False where it is none.
    fn answer(&mut self, kind: Kind, reply: &Reply<'_>, output: &mut dyn Output) -> bool {
        if reply.kind != b'Z' {
            self.proof.answered();
        }
        let copies = matches!(kind, Kind::Query | Kind::Execute) && !self.current.failed;
        match (kind, reply.kind) {
            (Kind::Login, b'R' | b'K' | b'v') => {}
            (Kind::Login, b'E') => self.refuse(reply, output),
            (Kind::Login | Kind::Sync, b'Z') => self.ready(reply, output),
            (Kind::Query | Kind::FunctionCall, b'Z') if self.current.complete => self.ready(reply, output),
            // The end of an implicit transaction can fail (deferred constraints).
            (Kind::Sync, b'E') => output.lost(Loss::Unattributed, 1),
            (Kind::Query, b'C') if !self.current.failed => return self.statement_complete(reply, output),
            (Kind::Query, b'E') if !self.current.failed => self.statement_failed(reply, output),
            (Kind::Query, b'I') if !self.current.failed => return self.query_empty(),
            (Kind::Query, b'T') if !self.current.failed => {}
            (Kind::Query | Kind::Execute, b'D') if copies => self.current.rows += 1,
            (Kind::Query | Kind::Execute, b'H' | b'd' | b'c') if copies => {}
            (Kind::Query | Kind::Execute, b'G') if copies => self.copy_in(),
            (Kind::Parse, b'1') => self.parsed(reply, output),
            (Kind::Parse, b'E') => self.parse_failed(reply, output),
            (Kind::Bind, b'2') => self.bound(output),
            (Kind::Bind, b'E') => self.bind_failed(reply, output),
            (Kind::DescribeStatement, b't') if !self.current.described => self.current.described = true,
            (Kind::DescribeStatement, b'T' | b'n') if self.current.described => _ = self.pop(),
            (Kind::DescribeStatement, b'E') => self.describe_failed(reply, output),
            (Kind::DescribePortal, b'T' | b'n') => _ = self.pop(),
            (Kind::DescribePortal, b'E') => self.portal_failed(reply, output),
            (Kind::Execute, b'C') => return self.execute_complete(reply, output),
            (Kind::Execute, b'E') => self.execute_failed(reply, output),
            (Kind::Execute, b's') => self.suspend(reply),
            (Kind::Execute, b'I') => {
                if let Some(taken) = self.pop()
                    && let Some(portal) = self.session.portal(self.queue.names(&taken).0)
                {
                    portal.start = None;
                }
            }
            (Kind::CloseStatement | Kind::ClosePortal, b'3') => self.closed(kind, output),
            (Kind::CloseStatement | Kind::ClosePortal, b'E') => {
                self.pop();
                output.lost(Loss::Unattributed, 1);
                self.skipping = true;
            }
            (Kind::FunctionCall, b'V' | b'E') => self.current.complete = true,
            _ => return false,
        }
        true
    }

    /// The first entry has its answer.
    pub(super) fn pop(&mut self) -> Option<Taken> {
        self.current = Current::default();
        self.copying = false;
        self.queue.pop()
    }

    /// A refused login.
    fn refuse(&mut self, reply: &Reply<'_>, output: &mut dyn Output) {
        let Some(taken) = self.pop() else { return };
        let outcome = Outcome {
            start: taken.entry.start,
            end: reply.end,
            reason: Some(Reason::Failure(frames::failure(reply.body))),
            operation: Some("CONNECT"),
            ..Outcome::default()
        };
        self.emit(outcome, output);
    }

    /// ReadyForQuery for the first entry.
    fn ready(&mut self, reply: &Reply<'_>, output: &mut dyn Output) {
        self.flush(output);
        let taken = self.pop();
        if taken.is_some_and(|taken| taken.entry.kind == Kind::Query) {
            self.session.close_statement(b"");
            self.drop_portal(b"", output);
        }
        // No portal outlives its transaction, and none can be run in a failed one.
        if reply.body != b"T" {
            self.drop_portals(output);
        }
        if reply.body == b"I" {
            self.session.set_unseen_portals(false);
        }
        let next = self.queue.front().filter(|next| next.kind != Kind::Hole);
        let overlaps = next.is_some_and(|next| next.start < reply.start);
        self.queue.settle();
        let drained = self.queue.is_empty() && !self.open;
        self.proof.ready(reply.end, overlaps, drained);
        self.release(output);
    }

    /// A reply while the server skips up to Sync: only ReadyForQuery can follow.
    fn skip(&mut self, reply: &Reply<'_>, waited: bool, output: &mut dyn Output) -> Verdict {
        if reply.kind == b'E' {
            output.lost(Loss::Unattributed, 1);
            return Verdict::Taken;
        }
        let stops = |entry: &&Entry| matches!(entry.kind, Kind::Sync | Kind::Hole);
        let stop = self
            .queue
            .iter()
            .find(stops)
            .map(|entry| (entry.kind, entry.start));
        match stop {
            Some((kind, start)) if reply.kind == b'Z' && start <= reply.start => {
                self.cut_off(Reason::Aborted, reply.end, false, output);
                self.skipping = false;
                if kind == Kind::Sync {
                    self.ready(reply, output);
                    self.settle_hole(output);
                    return Verdict::Taken;
                }
                // Its Sync is one of those missing.
                self.settle_hole(output);
            }
            None if reply.kind == b'Z' && !waited && self.may_be_behind(reply) => return Verdict::Blocked,
            _ => self.lose(true, output),
        }
        self.drift(reply, waited, output)
    }

    /// `length` bytes of the client are missing, or an unknown number.
    pub(super) fn hole(&mut self, length: Option<u64>, output: &mut dyn Output) {
        self.proof.hole(length);
        (self.open, self.dropping, self.headless) = (false, false, true);
        if !self.queue.push(Kind::Hole, self.client_time, None, (b"", b"")) {
            self.evict(output);
        }
        self.settle_hole(output);
    }

    /// Once everything before a hole is answered, what goes with what is not known any more.
    fn settle_hole(&mut self, output: &mut dyn Output) {
        while !self.skipping
            && let Some(Kind::Hole | Kind::CopyEnd) = self.queue.front().map(|entry| entry.kind)
        {
            if self.pop().is_some_and(|taken| taken.entry.kind == Kind::Hole) {
                self.pass_hole(output);
            }
        }
    }

    fn pass_hole(&mut self, output: &mut dyn Output) {
        let groups = self.queue.iter().filter(|entry| entry.kind.ends_group()).count();
        self.proof.pass_hole(groups as u64);
        self.forget(output);
        self.session.close_statements();
    }

    /// Answers do not go with the queue: because some are missing or, where `unknown`, for no known reason.
    pub(super) fn lose(&mut self, unknown: bool, output: &mut dyn Output) {
        let groups = self.queue.iter().filter(|entry| entry.kind.ends_group()).count();
        self.proof.lose(groups as u64, unknown);
        self.forget(output);
        if unknown {
            self.session.close_statements();
        }
    }

    /// Statements in the queue that are not answered.
    fn open_statements(&self) -> u64 {
        let statements = self
            .queue
            .iter()
            .filter(|entry| entry.kind.is_statement())
            .count() as u64;
        let answered =
            self.queue.front().is_some_and(|entry| entry.kind == Kind::Query) && self.current.complete;
        statements.saturating_sub(u64::from(answered))
    }

    /// Drops what depends on answers to come.
    fn forget(&mut self, output: &mut dyn Output) {
        let open = self.pending.len() as u64 + u64::from(self.failed.is_some());
        output.lost(Loss::UnpairedRequest, open + self.session.suspended());
        self.drop_held(output);
        while self.session.pop_portal().is_some() {}
        self.session.set_unseen_portals(true);
        self.session.close_statement(b"");
        (self.pending, self.failed) = (Vec::new(), None);
        (self.skipping, self.copying) = (false, false);
        self.current = Current::default();
    }

    /// The connection is closed at `time`.
    pub(super) fn close(&mut self, time: u64, output: &mut dyn Output) {
        if self.terminated && self.finished && self.queue.is_empty() {
            self.proof.orderly_end();
            self.release(output);
        }
        if self.proof.is_exact() {
            self.cut_off(Reason::Closed, time, true, output);
            self.drop_portals(output);
        }
        self.forget(output);
        output.lost(Loss::UnpairedRequest, self.open_statements());
    }

    /// Observation ends.
    pub(super) fn abandon(&mut self, output: &mut dyn Output) {
        let open = self.open_statements() + self.pending.len() as u64 + u64::from(self.failed.is_some());
        output.lost(
            Loss::Unfinished,
            open + self.session.suspended() + self.held.len() as u64,
        );
    }
}

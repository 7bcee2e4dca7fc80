//! Which answer is for which message (manual, § "Message Flow").
//!
//! The server answers in order, so a queue of what was sent pairs exactly as long as nothing is missing. Its
//! answers also prove what the session holds: a statement is prepared when ParseComplete says so.

use super::frames::{self, Tag};
use super::outcome::{Outcome, Reason};
use super::proof::Proof;
use super::queue::{Kind, Queue, Taken};
use super::session::{Portal, Prepared, Session};
use super::sql::{self, Script};
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
    rows: u64,
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

/// A Parse that was answered: a transaction of its own, unless a Bind that it is for follows.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) prepared: Prepared,
    pub(super) start: u64,
    /// `None` where it was not answered.
    pub(super) end: Option<u64>,
}

/// A statement that failed before its Execute.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) outcome: Outcome,
    /// Its portal; `None` while no Bind was there.
    pub(super) portal: Option<Box<[u8]>>,
}

/// Transactions that wait for the proof that they are any.
const HELD: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Matcher {
    pub(super) session: Session,
    pub(super) proof: Proof,
    pub(super) queue: Queue,
    pub(super) current: Current,
    pub(super) pending: Option<Pending>,
    pub(super) failed: Option<Failed>,
    held: VecDeque<Outcome>,
    /// Kinds of the answers in this group, and in the one before.
    shape: u64,
    shape_before: u64,
    /// Terminate was sent.
    pub(super) terminated: bool,
    /// After an error in the extended protocol, up to Sync.
    skipping: bool,
    /// The server takes CopyData, and Syncs count for nothing.
    copying: bool,
}

/// Whether a command tag can be that of an operation; `true` where that is not known.
fn agrees(operation: &str, tag: &Tag<'_>) -> bool {
    match operation {
        "SELECT" | "VALUES" | "TABLE" => tag.verb == "SELECT",
        "INSERT" | "UPDATE" | "DELETE" | "MERGE" => {
            matches!(tag.verb, "INSERT" | "UPDATE" | "DELETE" | "MERGE")
        }
        "BEGIN" | "COPY" | "SET" | "SHOW" | "TRUNCATE" => tag.verb == operation,
        "COMMIT" | "END" => matches!(tag.verb, "COMMIT" | "ROLLBACK"),
        "ROLLBACK" | "ABORT" => tag.verb == "ROLLBACK",
        _ => true,
    }
}

impl Matcher {
    pub(super) fn new(exact: bool) -> Matcher {
        Matcher {
            proof: Proof::new(exact),
            ..Matcher::default()
        }
    }

    /// Reports a transaction, now or when it is proved to be one.
    pub(super) fn emit(&mut self, outcome: Outcome, output: &mut dyn Output) {
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
        if !self.proof.admits(kind, start, self.queue.is_empty()) {
            self.pass_by(kind, script.as_deref(), names.0);
            output.lost(Loss::UnpairedRequest, u64::from(kind.is_statement()));
        } else if !self.queue.push(kind, start, script, names) {
            output.lost(Loss::Evicted, self.queue.len() as u64);
            self.lose(true, output);
        }
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
        while self
            .queue
            .front()
            .is_some_and(|entry| entry.kind == Kind::CopyEnd)
        {
            self.pop();
        }
        if self.skipping {
            return self.skip(reply, waited, output);
        }
        let Some(front) = self.queue.front() else {
            if self.proof.is_exact() {
                if !waited {
                    return Verdict::Blocked;
                }
                if reply.kind == b'E' {
                    output.lost(Loss::Unattributed, 1);
                    return Verdict::Taken;
                }
                self.lose(true, output);
            }
            self.unpaired(reply, output);
            return Verdict::Taken;
        };
        if reply.start < front.start {
            if reply.kind == b'E' {
                output.lost(Loss::Unattributed, 1);
                return Verdict::Taken;
            }
        } else if self.answer(front.kind, reply, output) {
            self.settle_hole(output);
            return Verdict::Taken;
        }
        self.lose(true, output);
        self.unpaired(reply, output);
        Verdict::Taken
    }

    /// Takes note of what a group was answered with: types of messages, and command tags.
    fn take_shape(&mut self, reply: &Reply<'_>) {
        let verb = match reply.kind {
            b'D' | b'd' => return,
            b'C' => frames::tag(reply.body).map_or("", |tag| tag.verb),
            _ => "",
        };
        for byte in [reply.kind].iter().chain(verb.as_bytes()) {
            self.shape = self.shape.rotate_left(7) ^ u64::from(*byte);
        }
    }

    /// The next answer to the first entry. False where it is none.
    fn answer(&mut self, kind: Kind, reply: &Reply<'_>, output: &mut dyn Output) -> bool {
        if !self.proof.is_exact() {
            self.take_shape(reply);
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
            (Kind::Query, b'I') if !self.current.failed => self.current.complete = true,
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
            (Kind::Execute, b's') => self.suspend(reply, output),
            (Kind::Execute, b'I') => {
                self.flush(output);
                if let Some(taken) = self.pop()
                    && let Some(portal) = self.session.portal(self.queue.names(&taken).0)
                {
                    portal.start = None;
                }
            }
            (Kind::CloseStatement | Kind::ClosePortal, b'3') => self.closed(kind, output),
            (Kind::CloseStatement | Kind::ClosePortal, b'E') => {
                self.flush(output);
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
    fn pop(&mut self) -> Option<Taken> {
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
        let overlaps = self.queue.front().is_some_and(|next| next.start < reply.start);
        self.queue.settle();
        let unlike = self.shape_before != 0 && self.shape_before != self.shape;
        self.shape_before = std::mem::take(&mut self.shape);
        self.proof
            .ready(reply.end, overlaps, unlike, self.queue.is_empty());
        self.release(output);
    }

    /// A reply to nothing that is known.
    fn unpaired(&mut self, reply: &Reply<'_>, output: &mut dyn Output) {
        match reply.kind {
            b'Z' => {
                self.drop_held(output);
                if self.proof.ready_unpaired(reply.end) {
                    self.settle_hole(output);
                } else {
                    self.lose(true, output);
                }
            }
            b'C' | b'E' | b's' => {
                self.proof.disturbed(reply.end);
                output.lost(Loss::UnpairedResponse, 1);
            }
            _ => self.proof.disturbed(reply.end),
        }
    }

    /// CommandComplete for a statement of a Query.
    fn statement_complete(&mut self, reply: &Reply<'_>, output: &mut dyn Output) -> bool {
        let Some(front) = self.queue.front() else {
            return false;
        };
        let (start, script) = (front.start, front.script.clone());
        let index = self.current.answered;
        let count = script.as_ref().and_then(|script| script.count);
        let rows = self.current.rows;
        let prepared = Prepared { name: None, script };
        if !self.fits(&prepared, index, reply) {
            if !self.proof.is_exact() {
                return false;
            }
            self.current.doubtful |= count != Some(1);
        }
        let index = Some(index).filter(|_| !self.current.doubtful);
        self.complete(start, reply, prepared, index, rows, output);
        self.current.answered += 1;
        self.current.rows = 0;
        self.current.complete = true;
        true
    }

    /// Whether a command tag can be that of the statement.
    fn fits(&self, prepared: &Prepared, index: usize, reply: &Reply<'_>) -> bool {
        let statement = prepared
            .script
            .as_deref()
            .and_then(|script| script.statement(index));
        match (
            statement.and_then(|statement| statement.operation()),
            frames::tag(reply.body),
        ) {
            (Some(operation), Some(tag)) => agrees(operation, &tag),
            _ => true,
        }
    }

    /// Reports a statement that was answered by CommandComplete, and does what it did to the session.
    fn complete(
        &mut self,
        start: u64,
        reply: &Reply<'_>,
        prepared: Prepared,
        index: Option<usize>,
        rows: u64,
        output: &mut dyn Output,
    ) {
        let tag = frames::tag(reply.body);
        let script = prepared.script.clone();
        let statement = index.and_then(|index| script.as_deref()?.statement(index));
        let operation = statement.and_then(|statement| statement.operation());
        let verb = tag.map_or("", |tag| tag.verb);
        let number = tag.and_then(|tag| tag.rows);
        let commits = matches!(operation, Some("COMMIT" | "END" | "PREPARE"));
        // SELECT INTO and CREATE TABLE AS return nothing.
        let makes = verb == "SELECT" && rows == 0 && number != Some(0);
        let changes = makes || matches!(verb, "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "COPY");
        let reads = !makes && matches!(verb, "SELECT" | "FETCH" | "SHOW");
        let outcome = Outcome {
            start,
            end: reply.end,
            reason: (commits && tag.is_some_and(|tag| tag.text == "ROLLBACK")).then_some(Reason::Rollback),
            prepared,
            index,
            // Of a ROLLBACK it cannot be told whether a COMMIT was asked for.
            operation: sql::command(verb.as_bytes()).filter(|verb| *verb != "ROLLBACK"),
            returned: (rows > 0 || reads).then_some(rows),
            affected: number.filter(|_| changes),
            ..Outcome::default()
        };
        self.emit(outcome, output);
        match statement.and_then(|statement| statement.deallocates()) {
            Some(Some(name)) => self.session.close_statement(name.as_bytes()),
            Some(None) => self.session.close_statements(),
            None if verb == "DEALLOCATE" || tag.is_some_and(|tag| tag.text == "DISCARD ALL") => {
                self.session.close_statements();
            }
            None => {}
        }
    }

    /// ErrorResponse for a statement of a Query: the rest of it is not run.
    fn statement_failed(&mut self, reply: &Reply<'_>, output: &mut dyn Output) {
        let Some(front) = self.queue.front() else { return };
        let (start, script) = (front.start, front.script.clone());
        let failure = frames::failure(reply.body);
        let single = script.as_ref().is_some_and(|script| script.count == Some(1));
        // A syntax error is found before the first statement is run, whichever it is in.
        let syntax = self.current.answered == 0 && failure.as_str() == Some("42601") && !single;
        let outcome = Outcome {
            start,
            end: reply.end,
            reason: Some(Reason::Failure(failure)),
            prepared: Prepared { name: None, script },
            index: Some(self.current.answered).filter(|_| !self.current.doubtful && !syntax),
            returned: Some(self.current.rows).filter(|&rows| rows > 0),
            ..Outcome::default()
        };
        self.emit(outcome, output);
        self.current.complete = true;
        self.current.failed = true;
        self.copying = false;
    }

    fn copy_in(&mut self) {
        let (gone, ended) = self.queue.swallow_syncs();
        self.proof.swallowed(gone);
        self.copying = !ended;
    }

    /// ParseComplete.
    fn parsed(&mut self, reply: &Reply<'_>, output: &mut dyn Output) {
        self.flush(output);
        let Some(taken) = self.pop() else { return };
        let name = self.queue.names(&taken).0;
        let (prepared, room) = self.session.prepare(name, taken.entry.script);
        output.lost(Loss::Evicted, u64::from(!room));
        self.pending = Some(Pending {
            prepared,
            start: taken.entry.start,
            end: Some(reply.end),
        });
    }

    /// Reports the Parse that no Bind followed.
    fn flush(&mut self, output: &mut dyn Output) {
        if let Some(pending) = self.pending.take() {
            self.emit_pending(pending, Reason::Aborted, 0, output);
        }
    }

    /// Reports a Parse; one that was not answered, by `reason` at `end`.
    pub(super) fn emit_pending(
        &mut self,
        pending: Pending,
        reason: Reason,
        end: u64,
        output: &mut dyn Output,
    ) {
        let outcome = Outcome {
            start: pending.start,
            end: pending.end.unwrap_or(end),
            reason: pending.end.is_none().then_some(reason),
            prepared: pending.prepared,
            index: Some(0),
            prepares: true,
            ..Outcome::default()
        };
        self.emit(outcome, output);
    }

    /// ErrorResponse to a Parse. An unnamed one may be for a Bind that comes.
    fn parse_failed(&mut self, reply: &Reply<'_>, output: &mut dyn Output) {
        self.flush(output);
        let Some(taken) = self.pop() else { return };
        let prepared = Prepared::new(self.queue.names(&taken).0, taken.entry.script);
        let named = prepared.name.is_some();
        if !named {
            // The old one is gone before the new one is read.
            self.session.close_statement(b"");
        }
        let failed = self.fail(prepared, taken.entry.start, None, reply);
        if named {
            self.emit_failed(failed, output);
        } else {
            self.failed = Some(failed);
        }
    }

    /// The server skips what comes, up to Sync.
    fn fail(
        &mut self,
        prepared: Prepared,
        start: u64,
        portal: Option<Box<[u8]>>,
        reply: &Reply<'_>,
    ) -> Failed {
        self.skipping = true;
        let outcome = Outcome {
            start,
            end: reply.end,
            reason: Some(Reason::Failure(frames::failure(reply.body))),
            prepared,
            index: Some(0),
            ..Outcome::default()
        };
        Failed { outcome, portal }
    }

    pub(super) fn emit_failed(&mut self, failed: Failed, output: &mut dyn Output) {
        let outcome = Outcome {
            prepares: failed.portal.is_none(),
            ..failed.outcome
        };
        self.emit(outcome, output);
    }

    /// BindComplete.
    fn bound(&mut self, output: &mut dyn Output) {
        let Some((taken, prepared, start)) = self.pop_bind(output) else {
            return;
        };
        let portal = self.queue.names(&taken).0;
        if let Some(old) = self.session.open_portal(portal, prepared, start) {
            self.finish_portal(old, output);
        }
    }

    /// A Bind has its answer: of which statement, and where its transaction begins.
    fn pop_bind(&mut self, output: &mut dyn Output) -> Option<(Taken, Prepared, u64)> {
        let taken = self.pop()?;
        let start = taken.entry.start;
        let unnamed = self.queue.names(&taken).1.is_empty();
        if let Some(pending) = self.pending.take() {
            if unnamed && pending.prepared.name.is_none() {
                return Some((taken, pending.prepared, pending.start));
            }
            self.emit_pending(pending, Reason::Aborted, 0, output);
        }
        let prepared = self.session.prepared(self.queue.names(&taken).1);
        Some((taken, prepared, start))
    }

    fn bind_failed(&mut self, reply: &Reply<'_>, output: &mut dyn Output) {
        let Some((taken, prepared, start)) = self.pop_bind(output) else {
            return;
        };
        let portal = self.queue.names(&taken).0.into();
        self.failed = Some(self.fail(prepared, start, Some(portal), reply));
    }

    fn describe_failed(&mut self, reply: &Reply<'_>, output: &mut dyn Output) {
        let Some(taken) = self.pop() else { return };
        let name = self.queue.names(&taken).0;
        let ours =
            |pending: &mut Pending| pending.prepared.name.as_deref().unwrap_or_default().as_bytes() == name;
        if let Some(pending) = self.pending.take_if(ours) {
            self.failed = Some(self.fail(pending.prepared, pending.start, None, reply));
        } else {
            self.flush(output);
            self.skipping = true;
            output.lost(Loss::Unattributed, 1);
        }
    }

    fn portal_failed(&mut self, reply: &Reply<'_>, output: &mut dyn Output) {
        let Some(taken) = self.pop() else { return };
        let portal = self.session.close_portal(self.queue.names(&taken).0);
        match portal {
            Some(Portal {
                name,
                prepared,
                start: Some(start),
                ..
            }) => self.failed = Some(self.fail(prepared, start, Some(name), reply)),
            _ => {
                self.skipping = true;
                output.lost(Loss::Unattributed, 1);
            }
        }
    }

    /// An Execute has its answer: where its transaction began, and of which statement.
    fn pop_execute(&mut self, output: &mut dyn Output) -> Option<(u64, Prepared, u64)> {
        self.flush(output);
        let rows = self.current.rows;
        let taken = self.pop()?;
        let Some(portal) = self.session.portal(self.queue.names(&taken).0) else {
            return Some((taken.entry.start, Prepared::default(), rows));
        };
        let start = portal.start.take().unwrap_or(taken.entry.start);
        let before = portal.suspended.take().map_or(0, |(rows, _)| rows);
        Some((start, portal.prepared.clone(), before + rows))
    }

    fn execute_complete(&mut self, reply: &Reply<'_>, output: &mut dyn Output) -> bool {
        let Some((start, prepared, rows)) = self.pop_execute(output) else {
            return false;
        };
        if !self.proof.is_exact() && !self.fits(&prepared, 0, reply) {
            return false;
        }
        self.complete(start, reply, prepared, Some(0), rows, output);
        true
    }

    fn execute_failed(&mut self, reply: &Reply<'_>, output: &mut dyn Output) {
        let Some((start, prepared, rows)) = self.pop_execute(output) else {
            return;
        };
        let failed = self.fail(prepared, start, None, reply);
        let outcome = Outcome {
            returned: Some(rows).filter(|&rows| rows > 0),
            ..failed.outcome
        };
        self.emit(outcome, output);
    }

    /// PortalSuspended: the transaction goes on with the portal's next Execute, if there is one.
    fn suspend(&mut self, reply: &Reply<'_>, output: &mut dyn Output) {
        self.flush(output);
        let rows = self.current.rows;
        let Some(taken) = self.pop() else { return };
        let (name, start) = (self.queue.names(&taken).0, taken.entry.start);
        if self.session.portal(name).is_none() {
            self.session.open_portal(name, Prepared::default(), start);
        }
        if let Some(portal) = self.session.portal(name) {
            portal.start.get_or_insert(start);
            let before = portal.suspended.map_or(0, |(rows, _)| rows);
            portal.suspended = Some((before + rows, reply.end));
        }
    }

    /// A portal is no more: where it is suspended, its last Execute was the end of its transaction.
    fn finish_portal(&mut self, portal: Portal, output: &mut dyn Output) {
        if let (Some(start), Some((rows, end))) = (portal.start, portal.suspended) {
            let outcome = Outcome {
                start,
                end,
                prepared: portal.prepared,
                index: Some(0),
                returned: Some(rows),
                ..Outcome::default()
            };
            self.emit(outcome, output);
        }
    }

    fn drop_portal(&mut self, name: &[u8], output: &mut dyn Output) {
        if let Some(portal) = self.session.close_portal(name) {
            self.finish_portal(portal, output);
        }
    }

    fn drop_portals(&mut self, output: &mut dyn Output) {
        while let Some(portal) = self.session.pop_portal() {
            self.finish_portal(portal, output);
        }
    }

    /// CloseComplete.
    fn closed(&mut self, kind: Kind, output: &mut dyn Output) {
        self.flush(output);
        let Some(taken) = self.pop() else { return };
        let name = self.queue.names(&taken).0;
        if kind == Kind::CloseStatement {
            self.session.close_statement(name);
        } else if let Some(portal) = self.session.close_portal(name) {
            self.finish_portal(portal, output);
        }
    }

    /// A reply while the server skips up to Sync: only ReadyForQuery can follow.
    fn skip(&mut self, reply: &Reply<'_>, waited: bool, output: &mut dyn Output) -> Verdict {
        let sync = self.queue.iter().find(|entry| entry.kind == Kind::Sync);
        let sync = sync.map(|entry| entry.start);
        match reply.kind {
            b'E' => output.lost(Loss::Unattributed, 1),
            b'Z' if sync.is_none() && self.proof.is_whole() && !waited => return Verdict::Blocked,
            b'Z' if sync.map_or(!self.proof.is_whole(), |start| start <= reply.start) => {
                self.cut_off(Reason::Aborted, reply.end, false, output);
                self.skipping = false;
                if sync.is_some() {
                    self.ready(reply, output);
                } else {
                    self.unpaired(reply, output);
                }
                self.settle_hole(output);
            }
            _ => {
                self.lose(true, output);
                self.unpaired(reply, output);
            }
        }
        Verdict::Taken
    }

    /// `length` bytes of the client are missing, or an unknown number.
    pub(super) fn hole(&mut self, length: Option<u64>, output: &mut dyn Output) {
        self.proof.hole(length);
        self.settle_hole(output);
    }

    /// Once everything before a hole is answered, what goes with what is not known any more.
    fn settle_hole(&mut self, output: &mut dyn Output) {
        if self.queue.is_empty() && !self.skipping && self.proof.pass_hole() {
            self.forget(output);
            self.session.close_statements();
        }
    }

    /// Answers do not go with the queue: because some are missing or, where `unknown`, for no known reason.
    pub(super) fn lose(&mut self, unknown: bool, output: &mut dyn Output) {
        let groups = self.queue.iter().filter(|entry| entry.kind.ends_group()).count();
        let touched = self.queue.iter().any(|entry| match entry.kind {
            Kind::Parse | Kind::CloseStatement => true,
            Kind::Query => entry.script.as_deref().is_none_or(Script::deallocates),
            _ => false,
        });
        if unknown || touched {
            self.session.close_statements();
        }
        output.lost(Loss::UnpairedRequest, self.open_statements());
        self.queue.clear();
        self.proof.lose(groups as u64, unknown);
        self.forget(output);
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
        statements - u64::from(answered)
    }

    /// Drops what depends on answers to come.
    fn forget(&mut self, output: &mut dyn Output) {
        let open = u64::from(self.pending.is_some()) + u64::from(self.failed.is_some());
        output.lost(Loss::UnpairedRequest, open + self.session.suspended());
        self.drop_held(output);
        while self.session.pop_portal().is_some() {}
        self.session.close_statement(b"");
        (self.pending, self.failed) = (None, None);
        (self.skipping, self.copying) = (false, false);
        self.current = Current::default();
        (self.shape, self.shape_before) = (0, 0);
    }

    /// The connection is closed at `time`.
    pub(super) fn close(&mut self, time: u64, output: &mut dyn Output) {
        if self.terminated && self.queue.is_empty() {
            self.proof.orderly_end();
            self.release(output);
        }
        if !self.proof.is_exact() {
            self.lose(false, output);
            return;
        }
        self.cut_off(Reason::Closed, time, true, output);
        self.drop_portals(output);
    }

    /// Observation ends.
    pub(super) fn abandon(&mut self, output: &mut dyn Output) {
        let open =
            self.open_statements() + u64::from(self.pending.is_some()) + u64::from(self.failed.is_some());
        output.lost(
            Loss::Unfinished,
            open + self.session.suspended() + self.held.len() as u64,
        );
    }
}

//! Answers to Parse, Bind, Describe, Execute and Close (manual, § "Extended Query").

use super::frames;
use super::matching::{Failed, Matcher, Pending, Reply};
use super::outcome::{Outcome, Reason};
use super::queue::{Kind, Taken};
use super::session::{Portal, Prepared};
use crate::loss::Loss;
use crate::output::Output;

/// The Parse of the statement `name`, where it is among those that no Bind followed.
fn take(pending: &mut Vec<Pending>, name: &[u8]) -> Option<Pending> {
    let at = pending
        .iter()
        .position(|pending| pending.prepared.is_named(name))?;
    Some(pending.remove(at))
}

impl Matcher {
    /// ParseComplete.
    pub(super) fn parsed(&mut self, reply: &Reply<'_>, output: &mut dyn Output) {
        let Some(taken) = self.pop() else { return };
        let name = self.queue.names(&taken).0;
        let (prepared, room) = self.session.prepare(name, taken.entry.script);
        output.lost(Loss::StatementText, u64::from(!room));
        let name: Box<[u8]> = prepared.name.as_deref().unwrap_or_default().as_bytes().into();
        self.flush_statement(&name, output);
        let pending = Pending {
            prepared,
            start: taken.entry.start,
            end: Some(reply.end),
            flushed: taken.entry.flushed,
        };
        self.prepared(pending, output);
    }

    /// Reports each Parse that no Bind followed.
    pub(super) fn flush(&mut self, output: &mut dyn Output) {
        for pending in std::mem::take(&mut self.pending) {
            self.emit_pending(pending, Reason::Aborted, 0, output);
        }
    }

    /// Reports the Parse of the statement `name`, if no Bind followed.
    pub(super) fn flush_statement(&mut self, name: &[u8], output: &mut dyn Output) {
        if let Some(pending) = take(&mut self.pending, name) {
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

    /// ErrorResponse to a Parse, which may be for a Bind that comes.
    pub(super) fn parse_failed(&mut self, reply: &Reply<'_>, output: &mut dyn Output) {
        let Some(taken) = self.pop() else { return };
        let prepared = Prepared::new(self.queue.names(&taken).0, taken.entry.script);
        let named = prepared.name.is_some();
        if !named {
            // The old one is gone before the new one is read.
            self.session.close_statement(b"");
        }
        let failed = self.fail(prepared, taken.entry.start, None, reply);
        if named && taken.entry.flushed {
            self.emit_failed(failed, output);
        } else {
            self.failed = Some(failed);
        }
    }

    /// The server skips what comes, up to Sync.
    pub(super) fn fail(
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
    pub(super) fn bound(&mut self, output: &mut dyn Output) {
        let Some((taken, prepared, start)) = self.pop_bind(output) else {
            return;
        };
        let portal = self.queue.names(&taken).0;
        if let Some(old) = self.session.open_portal(portal, prepared, start) {
            self.finish_portal(old, output);
        }
    }

    /// A Bind has its answer: of which statement, and where its transaction begins.
    pub(super) fn pop_bind(&mut self, output: &mut dyn Output) -> Option<(Taken, Prepared, u64)> {
        let taken = self.pop()?;
        let start = taken.entry.start;
        let name = self.queue.names(&taken).1;
        let at = self
            .pending
            .iter()
            .position(|pending| pending.prepared.is_named(name));
        if let Some(at) = at {
            let ours = self.pending[at].is_for(name);
            let pending = self.pending.remove(at);
            if ours {
                return Some((taken, pending.prepared, pending.start));
            }
            self.emit_pending(pending, Reason::Aborted, 0, output);
        }
        let prepared = self.session.prepared(self.queue.names(&taken).1);
        Some((taken, prepared, start))
    }

    pub(super) fn bind_failed(&mut self, reply: &Reply<'_>, output: &mut dyn Output) {
        let Some((taken, prepared, start)) = self.pop_bind(output) else {
            return;
        };
        let portal = self.queue.names(&taken).0.into();
        self.failed = Some(self.fail(prepared, start, Some(portal), reply));
    }

    pub(super) fn describe_failed(&mut self, reply: &Reply<'_>, output: &mut dyn Output) {
        let Some(taken) = self.pop() else { return };
        let name = self.queue.names(&taken).0;
        if let Some(pending) = take(&mut self.pending, name) {
            self.failed = Some(self.fail(pending.prepared, pending.start, None, reply));
        } else {
            self.skipping = true;
            output.lost(Loss::Unattributed, 1);
        }
    }

    pub(super) fn portal_failed(&mut self, reply: &Reply<'_>, output: &mut dyn Output) {
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
    pub(super) fn pop_execute(&mut self) -> Option<(u64, Prepared, u64)> {
        let rows = self.current.rows;
        let taken = self.pop()?;
        let Some(portal) = self.session.portal(self.queue.names(&taken).0) else {
            let start = self.session.unknown_portal(taken.entry.start);
            return Some((start, Prepared::default(), rows));
        };
        let start = portal.start.take().unwrap_or(taken.entry.start);
        let before = portal.suspended.take().map_or(0, |(rows, _)| rows);
        Some((start, portal.prepared.clone(), before + rows))
    }

    pub(super) fn execute_complete(&mut self, reply: &Reply<'_>, output: &mut dyn Output) -> bool {
        let Some((start, prepared, rows)) = self.pop_execute() else {
            return false;
        };
        if !self.proof.is_exact() && !self.fits(&prepared, 0, reply) {
            return false;
        }
        self.complete(start, reply, prepared, Some(0), rows, output);
        true
    }

    pub(super) fn execute_failed(&mut self, reply: &Reply<'_>, output: &mut dyn Output) {
        let Some((start, prepared, rows)) = self.pop_execute() else {
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
    pub(super) fn suspend(&mut self, reply: &Reply<'_>) {
        let rows = self.current.rows;
        let Some(taken) = self.pop() else { return };
        let (name, start) = (self.queue.names(&taken).0, taken.entry.start);
        if self.session.portal(name).is_none() {
            let start = self.session.unknown_portal(start);
            self.session.open_portal(name, Prepared::default(), start);
        }
        if let Some(portal) = self.session.portal(name) {
            portal.start.get_or_insert(start);
            let before = portal.suspended.map_or(0, |(rows, _)| rows);
            portal.suspended = Some((before + rows, reply.end));
        }
    }

    /// A portal is no more: where it is suspended, its last Execute was the end of its transaction.
    pub(super) fn finish_portal(&mut self, portal: Portal, output: &mut dyn Output) {
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

    pub(super) fn drop_portal(&mut self, name: &[u8], output: &mut dyn Output) {
        if let Some(portal) = self.session.close_portal(name) {
            self.finish_portal(portal, output);
        }
    }

    pub(super) fn drop_portals(&mut self, output: &mut dyn Output) {
        while let Some(portal) = self.session.pop_portal() {
            self.finish_portal(portal, output);
        }
    }

    /// CloseComplete.
    pub(super) fn closed(&mut self, kind: Kind, output: &mut dyn Output) {
        let Some(taken) = self.pop() else { return };
        let name = self.queue.names(&taken).0;
        if kind == Kind::CloseStatement {
            self.session.close_statement(name);
            let name: Box<[u8]> = name.into();
            self.flush_statement(&name, output);
        } else if let Some(portal) = self.session.close_portal(name) {
            self.finish_portal(portal, output);
        }
    }
}

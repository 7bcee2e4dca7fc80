//! What becomes of the messages that the server skips after an error, or never answers.

use super::matching::{Failed, Matcher, Pending};
use super::outcome::{Outcome, Reason};
use super::queue::{Entry, Kind};
use super::session::Prepared;
use crate::loss::Loss;
use crate::output::Output;

/// What the messages would have made of the session.
#[derive(Default)]
struct Shadow {
    pending: Vec<Pending>,
    failed: Option<Failed>,
    statements: Vec<(Box<[u8]>, Prepared)>,
    /// With where the transaction begins, until there is one.
    portals: Vec<(Box<[u8]>, Prepared, Option<u64>)>,
}

impl Matcher {
    /// Reports the statements in the queue, up to Sync or `all`, as failed for `reason` at `end`.
    pub(super) fn cut_off(&mut self, reason: Reason, end: u64, all: bool, output: &mut dyn Output) {
        let mut shadow = Shadow {
            pending: std::mem::take(&mut self.pending),
            failed: self.failed.take(),
            ..Shadow::default()
        };
        let mut answered = Some(std::mem::take(&mut self.current));
        while let Some(front) = self.queue.front()
            && front.kind != Kind::Hole
            && (all || front.kind != Kind::Sync)
        {
            let current = answered.take().unwrap_or_default();
            let Some(taken) = self.queue.pop() else { break };
            let (first, second) = self.queue.names(&taken);
            let (first, second): (Box<[u8]>, Box<[u8]>) = (first.into(), second.into());
            let entry = taken.entry;
            match entry.kind {
                Kind::Parse => {
                    let before = shadow
                        .pending
                        .iter()
                        .position(|pending| pending.prepared.is_named(&first));
                    if let Some(before) = before {
                        let pending = shadow.pending.remove(before);
                        self.emit_pending(pending, reason, end, output);
                    }
                    let prepared = Prepared::new(&first, entry.script);
                    shadow.statements.push((first, prepared.clone()));
                    shadow.pending.push(Pending {
                        prepared,
                        start: entry.start,
                        end: None,
                        flushed: entry.flushed,
                    });
                }
                Kind::Bind => self.skip_bind(&mut shadow, first, &second, entry.start),
                Kind::Execute => {
                    if let Some(outcome) = self.skip_execute(&mut shadow, &first, &entry) {
                        let outcome = Outcome {
                            end,
                            reason: Some(reason),
                            ..outcome
                        };
                        self.emit(outcome, output);
                    } else if let Some(failed) = shadow.failed.take() {
                        self.emit_failed(failed, output);
                    }
                }
                Kind::Query => {
                    let count = entry.script.as_ref().and_then(|script| script.count);
                    let done = count.map_or(current.complete, |count| current.answered >= count);
                    if !done && !current.failed {
                        let outcome = Outcome {
                            start: entry.start,
                            end,
                            reason: Some(reason),
                            prepared: Prepared {
                                name: None,
                                script: entry.script,
                            },
                            index: (!current.doubtful).then_some(current.answered),
                            ..Outcome::default()
                        };
                        self.emit(outcome, output);
                    }
                }
                _ => {}
            }
        }
        // Whether a Bind followed is not known where what followed is missing.
        let known = self.queue.front().is_none_or(|front| front.kind == Kind::Sync);
        let bound = |failed: &mut Failed| failed.portal.is_some();
        if let Some(failed) = shadow.failed.take_if(|failed| known || bound(failed)) {
            self.emit_failed(failed, output);
        }
        let mut unknown = u64::from(shadow.failed.is_some());
        for pending in shadow.pending {
            if known || pending.flushed {
                self.emit_pending(pending, reason, end, output);
            } else {
                unknown += 1;
            }
        }
        output.lost(Loss::UnpairedRequest, unknown);
        self.queue.settle();
    }

    fn skip_bind(&mut self, shadow: &mut Shadow, portal: Box<[u8]>, statement: &[u8], start: u64) {
        if let Some(failed) = &mut shadow.failed
            && failed.portal.is_none()
            && failed.outcome.prepared.is_named(statement)
        {
            failed.portal = Some(portal);
            return;
        }
        let ours = shadow
            .pending
            .iter()
            .position(|pending| pending.is_for(statement));
        let (prepared, start) = match ours.map(|at| shadow.pending.remove(at)) {
            Some(pending) => (pending.prepared, pending.start),
            None => {
                let known = shadow
                    .statements
                    .iter()
                    .rev()
                    .find(|(name, _)| **name == *statement);
                let prepared = match known {
                    Some((_, prepared)) => prepared.clone(),
                    None => self.session.prepared(statement),
                };
                (prepared, start)
            }
        };
        shadow.portals.push((portal, prepared, Some(start)));
    }

    /// `None` where it is the statement that failed.
    fn skip_execute(&mut self, shadow: &mut Shadow, portal: &[u8], entry: &Entry) -> Option<Outcome> {
        if let Some(failed) = &shadow.failed
            && failed.portal.as_deref() == Some(portal)
        {
            return None;
        }
        let skipped = shadow
            .portals
            .iter_mut()
            .rev()
            .find(|(name, ..)| **name == *portal);
        let (prepared, start) = match skipped {
            Some((_, prepared, start)) => (prepared.clone(), start.take()),
            None => match self.session.portal(portal) {
                Some(portal) => {
                    portal.suspended = None;
                    (portal.prepared.clone(), portal.start.take())
                }
                None => (
                    Prepared::default(),
                    Some(self.session.unknown_portal(entry.start)),
                ),
            },
        };
        Some(Outcome {
            start: start.unwrap_or(entry.start),
            prepared,
            index: Some(0),
            ..Outcome::default()
        })
    }
}

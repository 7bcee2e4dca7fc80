//! A transaction to be.

use super::frames::Failure;
use super::session::{Prepared, Session};
use crate::output::Output;
use crate::record::{self, postgres::Record};
use crate::transaction::{CONNECTION_CLOSED, Transaction};

/// Why a statement failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// ErrorResponse.
    Failure(Failure),
    /// Skipped by the server, after an error before it.
    Aborted,
    /// A COMMIT that was answered by ROLLBACK.
    Rollback,
    /// The connection was closed before its answer was complete.
    Closed,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) reason: Option<Reason>,
    /// The string that the statement is of, and its name where it is prepared.
    pub(super) prepared: Prepared,
    /// Which statement of the string; `None` where that is not known.
    pub(super) index: Option<usize>,
    /// It is about preparing the statement.
    pub(super) prepares: bool,
    /// Where the statement does not tell.
    pub(super) operation: Option<&'static str>,
    pub(super) returned: Option<u64>,
    pub(super) affected: Option<u64>,
}

impl Outcome {
    pub(super) fn report(&self, session: &Session, output: &mut dyn Output) {
        let script = self.prepared.script.as_deref();
        let statement = self.index.and_then(|index| script?.statement(index));
        let (operation, summary) = match statement {
            Some(statement) if self.prepares => (Some("PREPARE"), statement.prepare_summary()),
            Some(statement) => (statement.operation().or(self.operation), statement.summary()),
            None if self.prepares => (Some("PREPARE"), None),
            None => (self.operation, None),
        };
        let failure = match self.reason {
            Some(Reason::Failure(failure)) => failure,
            _ => Failure::default(),
        };
        let error = self.reason.map(|reason| match reason {
            // The conventions' value for what has no name.
            Reason::Failure(_) => failure.as_str().unwrap_or("_OTHER"),
            Reason::Aborted => "pipeline_aborted",
            Reason::Rollback => "rollback",
            Reason::Closed => CONNECTION_CLOSED,
        });
        output.transaction(&Transaction {
            start: self.start,
            end: self.end,
            error,
            remote_parent: None,
            tracestate: None,
            parent: None,
            record: record::Record::Postgres(Record {
                operation,
                query_text: statement.and_then(|statement| statement.text()),
                query_summary: summary,
                collection: statement.and_then(|statement| statement.collection()),
                namespace: session.database.as_deref(),
                user: session.user.as_deref(),
                status_code: failure.as_str(),
                returned_rows: self.returned,
                affected_rows: self.affected,
                prepared_statement: self.prepared.name.as_deref(),
            }),
        });
    }
}

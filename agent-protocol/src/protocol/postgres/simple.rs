//! Answers to a Query: one for each of its statements (manual, § "Simple Query").

use super::frames::{self, Tag};
use super::matching::{Matcher, Reply};
use super::outcome::{Outcome, Reason};
use super::session::Prepared;
use super::sql;
use crate::output::Output;

/// Whether a command tag can be that of an operation; `true` where that is not known.
fn agrees(operation: &str, tag: &Tag<'_>) -> bool {
    match operation {
        "SELECT" | "VALUES" | "TABLE" => tag.verb == "SELECT",
        "INSERT" | "UPDATE" | "DELETE" | "MERGE" => {
            matches!(tag.verb, "INSERT" | "UPDATE" | "DELETE" | "MERGE")
        }
        "BEGIN" | "COPY" | "SET" | "SHOW" | "TRUNCATE" | "DROP" | "ALTER" | "GRANT" | "REVOKE" | "FETCH"
        | "SAVEPOINT" | "RELEASE" | "LISTEN" | "NOTIFY" => tag.verb == operation,
        "COMMIT" => matches!(tag.verb, "COMMIT" | "ROLLBACK"),
        "ROLLBACK" => tag.verb == "ROLLBACK",
        _ => true,
    }
}

impl Matcher {
    /// CommandComplete for a statement of a Query.
    pub(super) fn statement_complete(&mut self, reply: &Reply<'_>, output: &mut dyn Output) -> bool {
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
        let index = (!self.current.doubtful).then_some(index);
        self.complete(start, reply, prepared, index, rows, output);
        self.current.answered += 1;
        self.current.rows = 0;
        self.current.complete = true;
        true
    }

    /// EmptyQueryResponse for a Query. False where it cannot be that of this one.
    pub(super) fn query_empty(&mut self) -> bool {
        let count = self.queue.front().and_then(|front| front.script.as_ref()?.count);
        self.current.complete = true;
        self.proof.is_exact() || count.is_none_or(|count| count == 0)
    }

    /// Whether a command tag can be that of the statement.
    pub(super) fn fits(&self, prepared: &Prepared, index: usize, reply: &Reply<'_>) -> bool {
        let script = prepared.script.as_deref();
        if script
            .and_then(|script| script.count)
            .is_some_and(|count| index >= count)
        {
            return false;
        }
        let statement = script.and_then(|script| script.statement(index));
        match (
            statement.and_then(|statement| statement.operation()),
            frames::tag(reply.body),
        ) {
            (Some(operation), Some(tag)) => agrees(operation, &tag),
            _ => true,
        }
    }

    /// Reports a statement that was answered by CommandComplete, and does what it did to the session.
    pub(super) fn complete(
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
        let commits = matches!(operation, Some("COMMIT" | "PREPARE"));
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
    pub(super) fn statement_failed(&mut self, reply: &Reply<'_>, output: &mut dyn Output) {
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
            index: (!self.current.doubtful && !syntax).then_some(self.current.answered),
            returned: Some(self.current.rows).filter(|&rows| rows > 0),
            ..Outcome::default()
        };
        self.emit(outcome, output);
        self.current.complete = true;
        self.current.failed = true;
        self.copying = false;
    }

    pub(super) fn copy_in(&mut self) {
        let (gone, ended) = self.queue.swallow_syncs();
        self.proof.swallowed(gone);
        self.copying = !ended;
    }
}

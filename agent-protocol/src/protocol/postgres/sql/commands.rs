//! The commands of SQL.

/// The keywords that begin a statement (manual, part VI). What begins otherwise is nothing that can be shown.
const COMMANDS: &[&str] = &[
    "ABORT",
    "ALTER",
    "ANALYSE",
    "ANALYZE",
    "BEGIN",
    "CALL",
    "CHECKPOINT",
    "CLOSE",
    "CLUSTER",
    "COMMENT",
    "COMMIT",
    "COPY",
    "CREATE",
    "DEALLOCATE",
    "DECLARE",
    "DELETE",
    "DISCARD",
    "DO",
    "DROP",
    "END",
    "EXECUTE",
    "EXPLAIN",
    "FETCH",
    "GRANT",
    "IMPORT",
    "INSERT",
    "LISTEN",
    "LOAD",
    "LOCK",
    "MERGE",
    "MOVE",
    "NOTIFY",
    "PREPARE",
    "REASSIGN",
    "REFRESH",
    "REINDEX",
    "RELEASE",
    "RESET",
    "REVOKE",
    "ROLLBACK",
    "SAVEPOINT",
    "SECURITY",
    "SELECT",
    "SET",
    "SHOW",
    "START",
    "TABLE",
    "TRUNCATE",
    "UNLISTEN",
    "UPDATE",
    "VACUUM",
    "VALUES",
    "WITH",
];

/// The command that `word` is. Of two words for one command, the one of the command tag that the server answers with: it
/// names statements whose text was not seen.
pub(in crate::protocol::postgres) fn command(word: &[u8]) -> Option<&'static str> {
    let mut upper = [0; 16];
    let upper = upper.get_mut(..word.len())?;
    upper.copy_from_slice(word);
    upper.make_ascii_uppercase();
    let at = COMMANDS
        .binary_search_by(|command| command.as_bytes().cmp(upper))
        .ok()?;
    COMMANDS.get(at).map(|&command| match command {
        "END" => "COMMIT",
        "ABORT" => "ROLLBACK",
        "ANALYSE" => "ANALYZE",
        command => command,
    })
}

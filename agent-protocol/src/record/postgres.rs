//! What a transaction of PostgreSQL carries.

/// A statement and its outcome. Unknown things are absent; no literal of the statement is in any of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// The statement's first keyword in capitals (for `WITH` that of the main statement); `PREPARE` for a Parse
    /// of its own, `CONNECT` for a refused login. From the command tag where the text is not known.
    pub operation: Option<&'a str>,
    /// The statement without literals and comments, of bounded length.
    pub query_text: Option<&'a str>,
    /// Its operations and their targets, as `db.query.summary` has them.
    pub query_summary: Option<&'a str>,
    /// The table it is about, as written, where there is one.
    pub collection: Option<&'a str>,
    /// The database of the session.
    pub namespace: Option<&'a str>,
    /// The user of the session.
    pub user: Option<&'a str>,
    /// SQLSTATE of the ErrorResponse.
    pub status_code: Option<&'a str>,
    /// Rows that were returned (DataRow messages).
    pub returned_rows: Option<u64>,
    /// Rows that were inserted, updated, deleted or copied, by the command tag.
    pub affected_rows: Option<u64>,
    /// Name of the prepared statement, where it has one.
    pub prepared_statement: Option<&'a str>,
}

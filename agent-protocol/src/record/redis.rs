//! What a transaction of Redis carries.

/// What is known of a command. Arguments, which hold keys, values, scripts and passwords, are only counted.
/// Unknown things are absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// The command in capitals, with its subcommand where it has them; `None` where it was malformed.
    pub operation: Option<&'a str>,
    /// How many arguments follow the operation's name.
    pub arguments: u32,
    /// The number of the database that was selected.
    pub namespace: Option<u32>,
    /// The prefix of an error reply (`WRONGTYPE`).
    pub status_code: Option<&'a str>,
    /// Of EXEC: how many commands were queued.
    pub batch_size: Option<u64>,
    /// Of a read: how many of the values asked for were there, and how many not.
    pub cache: Option<CacheResult>,
}

/// What a read found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheResult {
    /// Values that were there.
    pub hits: u32,
    /// Values that were not.
    pub misses: u32,
}

//! What was lost or left out, by reason. Every counter here is exported as `redwire.loss` or shown by `replay`.

/// Why something seen on a connection did not become a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Loss {
    /// Holes in a stream (one each).
    Gap,
    /// Bytes missing in those holes.
    GapBytes,
    /// Bytes passed over while looking for a place where a message provably begins.
    ResyncBytes,
    /// A response whose request was not seen, or that began before its request.
    UnpairedResponse,
    /// A request that was seen and whose response was lost.
    UnpairedRequest,
    /// A request still open when observation ended.
    Unfinished,
    /// Bytes that break the protocol's rules (one each).
    Refused,
    /// A connection that fits no protocol.
    Foreign,
    /// A connection whose payload is encrypted.
    Encrypted,
    /// A connection that left for a mode without transactions (replication, monitor).
    Unreportable,
    /// State dropped because a table was full (one per entry).
    Evicted,
    /// An exception or error that no request can be proved to have caused.
    Unattributed,
    /// A field line of HTTP/1 that is malformed and was left out; its message stands.
    MalformedField,
    /// A prepared statement whose text is not kept: there was no room. What runs it is reported, without its text.
    StatementText,
}

impl Loss {
    /// All reasons, for tables of counters indexed by `Loss as usize`.
    pub const ALL: [Loss; 14] = [
        Loss::Gap,
        Loss::GapBytes,
        Loss::ResyncBytes,
        Loss::UnpairedResponse,
        Loss::UnpairedRequest,
        Loss::Unfinished,
        Loss::Refused,
        Loss::Foreign,
        Loss::Encrypted,
        Loss::Unreportable,
        Loss::Evicted,
        Loss::Unattributed,
        Loss::MalformedField,
        Loss::StatementText,
    ];

    /// The reason as an attribute value.
    pub fn as_str(self) -> &'static str {
        match self {
            Loss::Gap => "gap",
            Loss::GapBytes => "gap_bytes",
            Loss::ResyncBytes => "resync_bytes",
            Loss::UnpairedResponse => "unpaired_response",
            Loss::UnpairedRequest => "unpaired_request",
            Loss::Unfinished => "unfinished",
            Loss::Refused => "refused",
            Loss::Foreign => "foreign_connection",
            Loss::Encrypted => "encrypted_connection",
            Loss::Unreportable => "unreportable_connection",
            Loss::Evicted => "evicted",
            Loss::Unattributed => "unattributed_error",
            Loss::MalformedField => "malformed_field",
            Loss::StatementText => "statement_text",
        }
    }
}

//! What a WebSocket session carries.

/// A WebSocket session (RFC 6455).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// The path of the handshake's target.
    pub path: Option<&'a str>,
    /// Host header of the handshake.
    pub authority: Option<&'a str>,
    /// Bytes from client to server after the upgrade.
    pub bytes_to_server: u64,
    /// Bytes from server to client after the upgrade.
    pub bytes_to_client: u64,
}

//! HTTP semantics (RFC 9110), shared by its versions.

pub(crate) mod forwarded;
pub mod v1;
pub mod v2;
mod websocket;

/// The name of every version, as in `network.protocol.name`.
const NAME: &str = "http";

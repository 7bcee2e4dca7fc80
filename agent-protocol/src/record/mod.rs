//! What a transaction carries of its protocol, one file per protocol. They lie below the protocols, which fill them in,
//! and below [`Output`](crate::output::Output), which takes them: they import
//! nothing but each other.

pub mod amqp;
pub mod grpc;
pub mod http;
pub mod postgres;
pub mod redis;
pub mod websocket;

/// The protocol's own part of a transaction.
#[derive(Debug, Clone)]
pub enum Record<'a> {
    /// HTTP of any version.
    Http(http::Record<'a>),
    /// A WebSocket session, from upgrade to close.
    WebSocket(websocket::Record<'a>),
    /// A gRPC call.
    Rpc(grpc::Record<'a>),
    /// A statement of PostgreSQL.
    Postgres(postgres::Record<'a>),
    /// AMQP 0-9-1.
    Amqp(amqp::Record<'a>),
    /// Redis.
    Redis(redis::Record<'a>),
}

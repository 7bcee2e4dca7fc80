//! Where transactions and losses go.

use crate::connection::{ConnectionId, ConnectionInfo, Direction, Side};
use crate::loss::Loss;
use crate::record::grpc;
use crate::trace_context::SpanContext;
use crate::transaction::Transaction;

/// What a protocol reports to; its connection is implied.
pub trait Output {
    /// Reports a transaction and returns the identity of its span.
    fn transaction(&mut self, transaction: &Transaction<'_>) -> SpanContext;

    /// Counts `n` of something that did not become a transaction.
    fn lost(&mut self, loss: Loss, n: u64);

    /// A long-lived session within the connection (WebSocket) began (`+1`) or ended (`-1`).
    fn sessions(&mut self, change: i64);

    /// Messages of a gRPC call that have become complete since the last such report on it, by
    /// [`Flow`](crate::protocol::Flow). Every message is reported once: those of an open call at most once a second,
    /// the rest right before its transaction.
    fn messages(&mut self, _call: &grpc::Record<'_>, _new: [grpc::Messages; 2]) {}

    /// A broker raised an exception, or returned a message, of this reply code, and no request can be proved to have
    /// caused it. It is counted as [`Loss::Unattributed`] besides.
    fn unattributed(&mut self, _code: u16) {}
}

/// What the streams of all connections report to.
pub trait Observer {
    /// A transaction of `connection`, whose observed side is `side`. Returns the identity of its span.
    fn transaction(
        &mut self,
        connection: &ConnectionInfo,
        side: Side,
        transaction: &Transaction<'_>,
    ) -> SpanContext;

    /// `n` of something on `connection` did not become a transaction. `protocol` is `None` before detection.
    fn lost(&mut self, connection: &ConnectionInfo, protocol: Option<&'static str>, loss: Loss, n: u64);

    /// A session of `connection` began or ended.
    fn sessions(&mut self, connection: &ConnectionInfo, side: Side, change: i64);

    /// Messages of a gRPC call on `connection`, as in [`Output::messages`].
    fn messages(
        &mut self,
        _connection: &ConnectionInfo,
        _side: Side,
        _call: &grpc::Record<'_>,
        _new: [grpc::Messages; 2],
    ) {
    }

    /// An exception on `connection` that nothing can be proved to have caused, as in [`Output::unattributed`].
    fn unattributed(&mut self, _connection: &ConnectionInfo, _side: Side, _code: u16) {}

    /// A connection's protocol became known.
    fn detected(&mut self, _connection: &ConnectionInfo, _side: Side, _protocol: &'static str) {}

    /// What is needed of `direction` from now on. A source that can should not deliver the rest.
    fn need(&mut self, _id: ConnectionId, _direction: Direction, _need: Need) {}
}

/// What is needed of a direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// What lies at or behind this position, modulo 2^32.
    From(u32),
    /// Lines with the sizes of chunks (RFC 9112 § 7.1), the next one at `line`, modulo 2^32, and what lies at or behind
    /// one that is none, or is zero. The chunk before it took `stride` bytes with its own line.
    Chunks {
        /// Where the next line begins, behind the CR LF of the chunk before it.
        line: u32,
        /// Bytes from one line to the next, if the next chunk is as long.
        stride: u32,
    },
    /// Of what comes no bytes, only how many went, and when.
    Lengths,
    /// Nothing, ever.
    Nothing,
}

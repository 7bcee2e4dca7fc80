//! From chunks in any order to the bytes that a protocol sees.
//!
//! `Half` keeps one direction in order and makes holes explicit, `Connection` drives
//! detection and the protocol over both, and [`Connections`] is the bounded table of all of them.

mod connection;
mod detection;
mod half;
mod proxy_header;
mod table;
#[cfg(test)]
mod tests;

pub use table::{Connections, Limits};

use crate::connection::{ConnectionId, Direction, ProcessId};

/// Bytes seen on a connection: a call, or a packet, or a piece of one.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    /// The connection.
    pub id: ConnectionId,
    /// Which way they went.
    pub direction: Direction,
    /// Position of the first byte in its direction, modulo 2^32: for TCP the sequence number.
    pub position: u32,
    /// How many bytes went.
    pub length: u32,
    /// The first of them, at most `length`; the others were not captured.
    pub bytes: &'a [u8],
    /// When: for egress the call's begin, for ingress its return, for a packet its capture time.
    pub time: u64,
    /// Who did it.
    pub process: Option<ProcessId>,
}

/// Where a direction began, where that is known: the position of its first byte, modulo 2^32.
pub type Origin = Option<u32>;

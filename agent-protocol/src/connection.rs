//! Who talks to whom.

use std::net::SocketAddr;
use std::sync::Arc;

/// Identity of a connection, unique among those a source has open; given by the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// A process id in the initial pid namespace (`tgid` in the kernel's terms).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId(pub u32);

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// TCP; v4-mapped IPv6 addresses are given as IPv4.
    Inet(SocketAddr),
    /// Unix stream socket: its path, empty where it has none (unix(7), "unnamed").
    Unix(Arc<str>),
}

/// Where a connection is observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vantage {
    /// At the socket of one end: `local` is the observed process.
    Socket,
    /// On the wire between both: reported from the client's side.
    Wire,
}

/// Direction of bytes as the source sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From `local` to `remote`.
    Egress = 0,
    /// From `remote` to `local`.
    Ingress = 1,
}

impl Direction {
    /// The other one.
    pub fn opposite(self) -> Self {
        match self {
            Direction::Egress => Direction::Ingress,
            Direction::Ingress => Direction::Egress,
        }
    }
}

/// Which end opened the connection, where the source knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opener {
    /// `local` called connect(2), or sent the SYN.
    Local,
    /// `local` accepted it.
    Remote,
    /// Older than the observation.
    Unknown,
}

/// What a source knows of a connection.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// Its identity.
    pub id: ConnectionId,
    /// The observed end; on the wire, the end that sent the SYN or else the first packet.
    pub local: Endpoint,
    /// The other end.
    pub remote: Endpoint,
    /// Where it is observed.
    pub vantage: Vantage,
    /// Who opened it.
    pub opener: Opener,
    /// The process that last did I/O on it; `None` on the wire.
    pub process: Option<ProcessId>,
}

/// The role of the observed side in a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// It sent the request (a capture counts as this).
    Client,
    /// It answered.
    Server,
}

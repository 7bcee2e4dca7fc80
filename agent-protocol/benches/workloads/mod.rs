//! What the benchmarks feed to the pipeline: per protocol, one connection as a client and a server speak it.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "a module of several benchmarks, each of which uses a part"
)]

mod amqp;
#[path = "../../tests/http2/encoder.rs"]
mod encoder;
mod http1;
mod http2;
mod postgres;
mod redis;

use redwire_protocol::connection::{ConnectionId, ConnectionInfo, Direction, Endpoint, Opener, Vantage};
use redwire_protocol::stream::Chunk;

/// One connection from its first byte to its last.
pub struct Workload {
    pub name: &'static str,
    /// What was written, in order; the client's bytes go [`Direction::Egress`].
    pub writes: Vec<(Direction, Vec<u8>)>,
    /// How many transactions these are.
    pub transactions: u64,
}

impl Workload {
    pub fn bytes(&self) -> u64 {
        self.writes.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }

    /// The writes as chunks of connection `id`, one each microsecond from `start` on.
    pub fn chunks(&self, id: ConnectionId, start: u64) -> impl Iterator<Item = Chunk<'_>> {
        let mut positions = [0u32; 2];
        self.writes.iter().zip(1..).map(move |((direction, bytes), n)| {
            let position = positions[*direction as usize];
            positions[*direction as usize] += bytes.len() as u32;
            Chunk {
                id,
                direction: *direction,
                position,
                length: bytes.len() as u32,
                bytes,
                time: start + n * 1000,
                process: None,
            }
        })
    }

    /// Where both directions end.
    pub fn ends(&self) -> [Option<u32>; 2] {
        [Direction::Egress, Direction::Ingress].map(|direction| {
            let writes = self.writes.iter().filter(|(d, _)| *d == direction);
            Some(writes.map(|(_, bytes)| bytes.len() as u32).sum())
        })
    }
}

/// Those of all protocols, or of the ones whose name begins with `filter`.
pub fn all(filter: Option<&str>) -> Vec<Workload> {
    let mut all = vec![
        http1::turns(),
        http1::pipelined(),
        http2::plain(),
        http2::grpc(),
        postgres::simple(),
        postgres::extended(),
        redis::turns(),
        redis::pipelined(),
        amqp::turns(),
    ];
    all.retain(|workload| filter.is_none_or(|filter| workload.name.starts_with(filter)));
    all
}

pub fn info(id: ConnectionId) -> ConnectionInfo {
    ConnectionInfo {
        id,
        local: Endpoint::Inet("127.0.0.1:40000".parse().unwrap()),
        remote: Endpoint::Inet("127.0.0.1:80".parse().unwrap()),
        vantage: Vantage::Socket,
        opener: Opener::Local,
        process: None,
    }
}

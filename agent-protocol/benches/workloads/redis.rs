//! Redis as a cache's client speaks it, RESP2.

use super::Workload;
use redwire_protocol::connection::Direction::{Egress, Ingress};

const EXCHANGES: usize = 1000;

/// Every fourth one fails, so that a reply of another command shows.
fn command(id: usize) -> Vec<u8> {
    let key = format!("item:{id:06}");
    let words: &[&str] = match id % 4 {
        0 => &["GET", &key],
        1 => &["SET", &key, "a value of some bytes", "EX", "60"],
        2 => &["MGET", &key, "other", "third"],
        _ => &["LPUSH", &key, "1"],
    };
    let mut bytes = format!("*{}\r\n", words.len());
    for word in words {
        bytes += &format!("${}\r\n{word}\r\n", word.len());
    }
    bytes.into_bytes()
}

fn reply(id: usize) -> Vec<u8> {
    let reply: &[u8] = match id % 4 {
        0 => b"$5\r\nhello\r\n",
        1 => b"+OK\r\n",
        2 => b"*3\r\n$1\r\na\r\n$-1\r\n$1\r\nb\r\n",
        _ => b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
    };
    reply.to_vec()
}

/// One command at a time.
pub fn turns() -> Workload {
    Workload {
        name: "redis",
        writes: (0..EXCHANGES)
            .flat_map(|id| [(Egress, command(id)), (Ingress, reply(id))])
            .collect(),
        transactions: EXCHANGES as u64,
    }
}

/// 50 commands in each write, as many replies in the next.
pub fn pipelined() -> Workload {
    let batch = |from: usize, message: fn(usize) -> Vec<u8>| (from..from + 50).flat_map(message).collect();
    Workload {
        name: "redis-pipelined",
        writes: (0..EXCHANGES)
            .step_by(50)
            .flat_map(|from| [(Egress, batch(from, command)), (Ingress, batch(from, reply))])
            .collect(),
        transactions: EXCHANGES as u64,
    }
}

//! Turns fuzzer input into events of one connection. A target is this with the opening bytes of its protocol.
//!
//! Input is a sequence of records: an operation, its argument, and, for data, that many bytes. So a fuzzer that
//! changes a byte changes one event.

use redwire_protocol::connection::{
    ConnectionId, ConnectionInfo, Direction, Endpoint, Opener, Side, Vantage,
};
use redwire_protocol::loss::Loss;
use redwire_protocol::output::Observer;
use redwire_protocol::stream::{Chunk, Connections, Limits};
use redwire_protocol::trace_context::SpanContext;
use redwire_protocol::transaction::Transaction;
use std::net::{Ipv4Addr, SocketAddr};

/// What makes a connection that of a protocol: sent before the fuzzer's bytes in half of the runs, so that the others
/// fuzz detection.
#[derive(Debug, Clone, Copy)]
pub struct Opening {
    /// From the client.
    pub client: &'static [u8],
    /// From the server.
    pub server: &'static [u8],
}

/// An exchange of HTTP/1.
pub const HTTP1: Opening = Opening {
    client: b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    server: b"HTTP/1.1 204 No Content\r\n\r\n",
};

/// Protocol header and a channel that opens, with a publish on its way.
pub const AMQP: Opening = Opening {
    client: b"AMQP\0\0\x09\x01\x01\0\x01\0\0\0\x05\0\x14\0\x0a\0\xce\
        \x01\0\x01\0\0\0\x0b\0\x3c\0\x28\0\0\x01e\x01k\x01\xce",
    server: b"\x01\0\x01\0\0\0\x08\0\x14\0\x0b\0\0\0\0\xce",
};

/// A login without password, and a statement.
pub const POSTGRES: Opening = Opening {
    client: b"\0\0\0\x10\0\x03\0\0user\0u\0\0Q\0\0\0\x0dSELECT 1\0",
    server: b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05IC\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I",
};

/// A command and its reply.
pub const REDIS: Opening = Opening {
    client: b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
    server: b"$1\r\nv\r\n",
};

/// The preface and settings of both sides (RFC 9113 section 3.4).
pub const HTTP2: Opening = Opening {
    client: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0",
    server: b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0",
};

/// Feeds `data` to HPACK (RFC 7541): as header blocks, in whole HEADERS frames of one stream after another, requests
/// and responses in turn. The first byte of each gives its length.
pub fn run_hpack(data: &[u8]) {
    let mut rest = data;
    let mut events = vec![0];
    let mut stream = 1u32;
    while let [length, blocks @ ..] = rest {
        // A frame's header has nine bytes, and a record 255 at most.
        let (block, after) = blocks.split_at(usize::from(*length).min(246).min(blocks.len()));
        rest = after;
        for (operation, flags) in [(0, 0x5), (1, 0x5)] {
            events.extend([
                operation,
                block.len() as u8 + 9,
                0,
                0,
                block.len() as u8,
                1,
                flags,
            ]);
            events.extend(stream.to_be_bytes());
            events.extend(block);
        }
        stream = (stream + 2) & 0x7fff_ffff;
    }
    run(&events, HTTP2);
}

/// Reads `data` as a capture file.
pub fn run_capture(data: &[u8]) {
    let mut checker = Checker::default();
    let mut connections = Connections::new(redwire_pcap::limits());
    let _ = redwire_pcap::replay(data, &mut connections, &mut checker, &mut |_| {});
    connections.finish(&mut checker);
    assert_eq!(checker.sessions, 0, "every session that began ended");
}

/// Checks what holds for every transaction.
#[derive(Default)]
struct Checker {
    sessions: i64,
}

impl Observer for Checker {
    fn transaction(&mut self, _: &ConnectionInfo, _: Side, transaction: &Transaction<'_>) -> SpanContext {
        assert!(transaction.start <= transaction.end);
        SpanContext {
            trace_id: [1; 16],
            span_id: [1; 8],
            flags: 0,
        }
    }

    fn lost(&mut self, _: &ConnectionInfo, _: Option<&'static str>, _: Loss, _: u64) {}

    fn sessions(&mut self, _: &ConnectionInfo, _: Side, change: i64) {
        self.sessions += change;
        assert!(self.sessions >= 0);
    }
}

/// Feeds `data` to a connection that begins with `opening`.
pub fn run(data: &[u8], opening: Opening) {
    let Some((&mode, mut data)) = data.split_first() else {
        return;
    };
    let mut checker = Checker::default();
    let limits = Limits {
        held_bytes: 4096,
        ..Limits::default()
    };
    let mut connections = Connections::new(limits);
    let id = ConnectionId(1);
    let endpoint = |port| Endpoint::Inet(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let info = ConnectionInfo {
        id,
        local: endpoint(40000),
        remote: endpoint(80),
        vantage: if mode & 4 == 0 {
            Vantage::Socket
        } else {
            Vantage::Wire
        },
        opener: if mode & 8 == 0 {
            Opener::Local
        } else {
            Opener::Unknown
        },
        process: None,
    };
    // Positions wrap soon after the begin.
    let mut positions = [u32::MAX - 64; 2];
    let origins = if mode & 1 == 0 {
        positions.map(Some)
    } else {
        [None; 2]
    };
    connections.opened(info, origins, &mut checker);
    let mut time = 1_000_000_000u64;
    let mut send =
        |direction: Direction, position: u32, length: u32, bytes: &[u8], time, checker: &mut Checker| {
            let chunk = Chunk {
                id,
                direction,
                position,
                length,
                bytes,
                time,
                process: None,
            };
            connections.data(&chunk, checker);
            connections.tick(time, checker);
        };
    if mode & 2 == 0 {
        for (direction, bytes) in [
            (Direction::Egress, opening.client),
            (Direction::Ingress, opening.server),
        ] {
            time += 1;
            let position = &mut positions[direction as usize];
            send(
                direction,
                *position,
                bytes.len() as u32,
                bytes,
                time,
                &mut checker,
            );
            *position = position.wrapping_add(bytes.len() as u32);
        }
    }
    let mut end = None;
    while let [operation, argument, rest @ ..] = data {
        let direction = if operation & 1 == 0 {
            Direction::Egress
        } else {
            Direction::Ingress
        };
        let position = &mut positions[direction as usize];
        let argument = u32::from(*argument);
        data = rest;
        match operation >> 1 & 7 {
            // A hole, and a long one.
            5 => *position = position.wrapping_add(argument),
            6 => *position = position.wrapping_add(argument << 16),
            // Time goes by.
            7 => time += u64::from(argument) * 2_000_000,
            // Sent again, or late.
            4 => *position = position.wrapping_sub(argument),
            kind => {
                let (bytes, rest) = data.split_at((argument as usize).min(data.len()));
                data = rest;
                time += 1;
                // Partly not captured.
                let length = bytes.len() as u32 + if kind == 3 { argument * 3 } else { 0 };
                send(direction, *position, length, bytes, time, &mut checker);
                *position = position.wrapping_add(length);
            }
        }
        if *operation >= 0xf0 {
            end = Some(*operation);
            break;
        }
    }
    match end {
        Some(0xff) => connections.abandoned(id, &mut checker),
        Some(0xfe) => connections.closed(id, [None; 2], time + 1, &mut checker),
        _ => {
            connections.ended(id, Direction::Ingress, Some(positions[1]), time, &mut checker);
            connections.closed(id, positions.map(Some), time + 1, &mut checker);
        }
    }
    connections.finish(&mut checker);
    assert_eq!(checker.sessions, 0, "every session that began ended");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A walk without a fuzzer's feedback, for a stable toolchain: random events made of a dictionary's words.
    #[test]
    fn random_events() {
        let words: Vec<Vec<u8>> = include_str!("../dictionaries/http1.dict")
            .lines()
            .filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'))
            .map(|word| word.replace("\\x0d", "\r").replace("\\x0a", "\n").into_bytes())
            .collect();
        assert!(words.len() > 10);
        let mut state = 1u64;
        let mut random = |n: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as usize % n
        };
        for _ in 0..20_000 {
            let mut data = vec![random(16) as u8];
            for _ in 0..random(30) {
                let mut bytes = Vec::new();
                for _ in 0..random(5) {
                    bytes.extend_from_slice(&words[random(words.len())]);
                }
                bytes.truncate(255);
                let operation = if random(4) == 0 { random(16) } else { random(2) };
                data.extend([operation as u8, bytes.len() as u8]);
                if operation >> 1 < 4 {
                    data.extend(bytes);
                }
            }
            run(&data, HTTP1);
        }
    }
}

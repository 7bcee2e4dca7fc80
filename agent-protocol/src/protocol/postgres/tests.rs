//! Sessions of hand-made messages (manual, § "Message Flow", "Message Formats") through the real driver.

use super::*;
use crate::connection::{ConnectionId, ConnectionInfo, Direction, Endpoint, Opener, Side, Vantage};
use crate::output::Observer;
use crate::protocol::Detection;
use crate::record;
use crate::stream::{Chunk, Connections, Limits};
use crate::trace_context::SpanContext;
use crate::transaction::Transaction;
use std::collections::BTreeMap;
use std::fmt::Write;

mod frames;
mod matching;
mod property;
mod resync;
mod startup;

/// What was reported.
#[derive(Default, Clone)]
struct Seen {
    lines: Vec<String>,
    losses: BTreeMap<&'static str, u64>,
}

impl Observer for Seen {
    fn transaction(&mut self, _: &ConnectionInfo, _: Side, transaction: &Transaction<'_>) -> SpanContext {
        let record::Record::Postgres(record) = &transaction.record else {
            panic!("{transaction:?}");
        };
        let mut line = format!("{}..{}", transaction.start, transaction.end);
        write!(line, " {}", record.operation.unwrap_or("-")).unwrap();
        assert_eq!(
            record.status_code.is_some(),
            transaction.error.is_some_and(|error| error.len() == 5)
        );
        if let Some(error) = transaction.error {
            write!(line, " !{error}").unwrap();
        }
        if let Some(rows) = record.returned_rows {
            write!(line, " <{rows}").unwrap();
        }
        if let Some(rows) = record.affected_rows {
            write!(line, " >{rows}").unwrap();
        }
        if let Some(name) = record.prepared_statement {
            write!(line, " @{name}").unwrap();
        }
        if let Some(text) = record.query_text {
            write!(line, ": {text}").unwrap();
        }
        assert_eq!(record.namespace, record.user.map(|_| "shop"));
        self.lines.push(line);
        SpanContext {
            trace_id: [1; 16],
            span_id: [1; 8],
            flags: 1,
        }
    }

    fn lost(&mut self, _: &ConnectionInfo, _: Option<&'static str>, loss: Loss, n: u64) {
        if n > 0 {
            *self.losses.entry(loss.as_str()).or_default() += n;
        }
    }

    fn sessions(&mut self, _: &ConnectionInfo, _: Side, _: i64) {}
}

/// A connection. Each call is a chunk, one time unit after the one before.
struct Wire {
    connections: Connections,
    seen: Seen,
    positions: [u32; 2],
    time: u64,
}

const ID: ConnectionId = ConnectionId(7);

impl Wire {
    fn new(fresh: bool) -> Wire {
        let mut seen = Seen::default();
        let mut connections = Connections::new(Limits::default());
        let end = |port| Endpoint::Inet(([127, 0, 0, 1], port).into());
        let info = ConnectionInfo {
            id: ID,
            local: end(40_000),
            remote: end(5432),
            vantage: Vantage::Wire,
            opener: if fresh { Opener::Local } else { Opener::Unknown },
            process: None,
        };
        let origins = if fresh { [Some(0), Some(0)] } else { [None, None] };
        connections.opened(info, origins, &mut seen);
        Wire {
            connections,
            seen,
            positions: [0, 0],
            time: 0,
        }
    }

    /// A session from its login on, which takes times 1 to 2.
    fn session() -> Wire {
        let mut wire = Wire::new(true);
        wire.client(&startup(&[("user", "ann"), ("database", "shop")]));
        wire.server(
            &[
                auth(0),
                status("standard_conforming_strings", "on"),
                key(),
                ready(b'I'),
            ]
            .concat(),
        );
        wire
    }

    /// A session that is joined in the middle.
    fn joined() -> Wire {
        Wire::new(false)
    }

    fn send(&mut self, direction: Direction, bytes: &[u8]) {
        self.time += 1;
        let position = &mut self.positions[direction as usize];
        let chunk = Chunk {
            id: ID,
            direction,
            position: *position,
            length: bytes.len() as u32,
            bytes,
            time: self.time,
            process: None,
        };
        *position = position.wrapping_add(bytes.len() as u32);
        self.connections.data(&chunk, &mut self.seen);
    }

    fn client(&mut self, bytes: &[u8]) {
        self.send(Direction::Egress, bytes);
    }

    fn server(&mut self, bytes: &[u8]) {
        self.send(Direction::Ingress, bytes);
    }

    /// A chunk that was not captured.
    fn lose(&mut self, direction: Direction, bytes: &[u8]) {
        self.time += 1;
        let position = &mut self.positions[direction as usize];
        *position = position.wrapping_add(bytes.len() as u32);
    }

    /// The server's FIN.
    fn server_ends(&mut self) {
        self.time += 1;
        let position = Some(self.positions[Direction::Ingress as usize]);
        self.connections
            .ended(ID, Direction::Ingress, position, self.time, &mut self.seen);
    }

    fn tick(&mut self) {
        self.connections.tick(self.time + 1_000_000_000, &mut self.seen);
    }

    fn close(mut self) -> Seen {
        self.time += 1;
        let positions = self.positions.map(Some);
        self.connections.closed(ID, positions, self.time, &mut self.seen);
        self.seen
    }

    fn finish(mut self) -> Seen {
        self.connections.finish(&mut self.seen);
        self.seen
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn strings(texts: &[&str]) -> Vec<u8> {
    texts
        .iter()
        .flat_map(|text| [text.as_bytes(), b"\0"].concat())
        .collect()
}

fn untyped(code: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32 + 8).to_be_bytes().to_vec();
    bytes.extend(code.to_be_bytes());
    bytes.extend(body);
    bytes
}

fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body: Vec<u8> = parameters
        .iter()
        .flat_map(|(name, value)| strings(&[name, value]))
        .collect();
    body.push(0);
    untyped(3 << 16, &body)
}

// Of the client.

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &strings(&[sql]))
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', &[strings(&[name, sql]), vec![0, 0]].concat())
}

fn bind(portal: &str, statement: &str) -> Vec<u8> {
    // One parameter, "42", in text; results in text.
    let rest = [0, 1, 0, 0, 0, 1, 0, 0, 0, 2, b'4', b'2', 0, 0];
    message(b'B', &[strings(&[portal, statement]), rest.to_vec()].concat())
}

fn describe(kind: u8, name: &str) -> Vec<u8> {
    message(b'D', &[vec![kind], strings(&[name])].concat())
}

fn close(kind: u8, name: &str) -> Vec<u8> {
    message(b'C', &[vec![kind], strings(&[name])].concat())
}

fn execute(portal: &str, rows: u32) -> Vec<u8> {
    message(b'E', &[strings(&[portal]), rows.to_be_bytes().to_vec()].concat())
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

fn flush() -> Vec<u8> {
    message(b'H', b"")
}

fn copy_data(bytes: &[u8]) -> Vec<u8> {
    message(b'd', bytes)
}

fn copy_done() -> Vec<u8> {
    message(b'c', b"")
}

// Of the server.

fn auth(code: u32) -> Vec<u8> {
    message(b'R', &code.to_be_bytes())
}

fn status(name: &str, value: &str) -> Vec<u8> {
    message(b'S', &strings(&[name, value]))
}

fn key() -> Vec<u8> {
    message(b'K', &[0, 0, 1, 0, 1, 2, 3, 4])
}

fn ready(status: u8) -> Vec<u8> {
    message(b'Z', &[status])
}

fn simple(kind: u8) -> Vec<u8> {
    message(kind, b"")
}

fn complete(tag: &str) -> Vec<u8> {
    message(b'C', &strings(&[tag]))
}

fn failed(code: &str) -> Vec<u8> {
    let fields = ["SERROR", "VERROR", &format!("C{code}"), "Mwith a secret"];
    message(b'E', &[strings(&fields), vec![0]].concat())
}

fn columns() -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend(strings(&["x"]));
    body.extend([0; 18]);
    message(b'T', &body)
}

fn parameters() -> Vec<u8> {
    message(b't', &[0, 1, 0, 0, 0, 23])
}

fn row() -> Vec<u8> {
    message(b'D', &[0, 1, 0, 0, 0, 2, b'4', b'2'])
}

fn copy_response(kind: u8) -> Vec<u8> {
    message(kind, &[0, 0, 1, 0, 0])
}

fn notice() -> Vec<u8> {
    message(b'N', &[strings(&["SWARNING", "C01000", "Mx"]), vec![0]].concat())
}

fn notification() -> Vec<u8> {
    message(
        b'A',
        &[vec![0, 0, 0, 9], strings(&["channel", "payload"])].concat(),
    )
}

macro_rules! cat {
    ($($part:expr),* $(,)?) => { [$(&$part[..]),*].concat() };
}
use cat;

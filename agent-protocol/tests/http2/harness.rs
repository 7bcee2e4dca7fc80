//! Feeds connections through the streams and writes down what comes out.

use redwire_protocol::connection::{
    ConnectionId, ConnectionInfo, Direction, Endpoint, Opener, Side, Vantage,
};
use redwire_protocol::loss::Loss;
use redwire_protocol::output::{Need, Observer};
use redwire_protocol::record::{Record, grpc};
use redwire_protocol::stream::{Chunk, Connections, Limits};
use redwire_protocol::trace_context::SpanContext;
use redwire_protocol::transaction::Transaction;
use std::collections::BTreeMap;

pub(crate) const CLIENT: Direction = Direction::Egress;
pub(crate) const SERVER: Direction = Direction::Ingress;

/// A transaction, written down. `None` where the record has it absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) error: Option<String>,
    /// Method and path, or service and method.
    pub(crate) method: Option<String>,
    pub(crate) path: Option<String>,
    /// HTTP status, or gRPC status code.
    pub(crate) status: Option<u32>,
    /// Body sizes.
    pub(crate) sizes: [Option<u64>; 2],
    /// gRPC messages: count and bytes.
    pub(crate) messages: [Option<(u64, u64)>; 2],
    /// `http`, `grpc`, `websocket`.
    pub(crate) kind: &'static str,
}

/// All that was reported.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) seen: Vec<Seen>,
    pub(crate) details: Vec<String>,
    pub(crate) losses: BTreeMap<&'static str, u64>,
    pub(crate) sessions: i64,
    pub(crate) needs: u64,
    /// Messages as they were told: count and bytes, by flow.
    pub(crate) messages: Vec<[(u64, u64); 2]>,
}

impl Report {
    pub(crate) fn loss(&self, loss: Loss) -> u64 {
        self.losses.get(loss.as_str()).copied().unwrap_or_default()
    }

    /// The transactions, in an order of their own.
    pub(crate) fn sorted(mut self) -> Vec<Seen> {
        self.seen.sort();
        self.seen
    }
}

impl Observer for Report {
    fn transaction(&mut self, _: &ConnectionInfo, _: Side, transaction: &Transaction<'_>) -> SpanContext {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let mut seen = Seen {
            start: transaction.start,
            end: transaction.end,
            error: owned(transaction.error),
            ..Seen::default()
        };
        match &transaction.record {
            Record::Http(http) => {
                assert_eq!(http.version, "2");
                seen.kind = "http";
                seen.method = owned(http.method);
                seen.path = owned(http.path);
                seen.status = http.status.map(u32::from);
                seen.sizes = [http.request_body_size, http.response_body_size];
            }
            Record::Rpc(rpc) => {
                seen.kind = "grpc";
                seen.method = owned(rpc.service);
                seen.path = owned(rpc.method);
                seen.status = rpc.status.map(|status| status.0);
                seen.messages =
                    [rpc.request, rpc.response].map(|messages| messages.map(|m| (m.count, m.bytes)));
            }
            Record::WebSocket(session) => {
                seen.kind = "websocket";
                seen.path = owned(session.path);
                seen.sizes = [Some(session.bytes_to_server), Some(session.bytes_to_client)];
            }
            other => panic!("no HTTP: {other:?}"),
        }
        self.seen.push(seen);
        self.details.push(format!("{transaction:?}"));
        SpanContext {
            trace_id: [1; 16],
            span_id: (self.seen.len() as u64).to_be_bytes(),
            flags: 1,
        }
    }

    fn lost(&mut self, _: &ConnectionInfo, _: Option<&'static str>, loss: Loss, n: u64) {
        *self.losses.entry(loss.as_str()).or_default() += n;
    }

    fn sessions(&mut self, _: &ConnectionInfo, _: Side, change: i64) {
        self.sessions += change;
    }

    fn messages(&mut self, _: &ConnectionInfo, _: Side, _: &grpc::Record<'_>, new: [grpc::Messages; 2]) {
        self.messages
            .push(new.map(|messages| (messages.count, messages.bytes)));
    }

    fn need(&mut self, _: ConnectionId, _: Direction, _: Need) {
        self.needs += 1;
    }
}

/// One connection, fed by hand.
pub(crate) struct Feed {
    connections: Connections,
    pub(crate) report: Report,
    positions: [u32; 2],
}

const ID: ConnectionId = ConnectionId(1);

impl Feed {
    /// A connection seen from its beginning, or joined in the middle.
    pub(crate) fn new(fresh: bool) -> Feed {
        let endpoint = |port: u16| Endpoint::Inet(([127, 0, 0, 1], port).into());
        let info = ConnectionInfo {
            id: ID,
            local: endpoint(50_000),
            remote: endpoint(80),
            vantage: Vantage::Socket,
            opener: if fresh { Opener::Local } else { Opener::Unknown },
            process: None,
        };
        let mut feed = Feed {
            connections: Connections::new(Limits::default()),
            report: Report::default(),
            positions: [1000, u32::MAX - 1000],
        };
        let origins = feed.positions.map(|position| fresh.then_some(position));
        feed.connections.opened(info, origins, &mut feed.report);
        feed
    }

    pub(crate) fn write(&mut self, direction: Direction, time: u64, bytes: &[u8]) {
        let position = self.positions[direction as usize];
        let length = bytes.len() as u32;
        self.positions[direction as usize] = position.wrapping_add(length);
        let chunk = Chunk {
            id: ID,
            direction,
            position,
            length,
            bytes,
            time,
            process: None,
        };
        self.connections.data(&chunk, &mut self.report);
    }

    /// So many bytes go by unseen.
    pub(crate) fn miss(&mut self, direction: Direction, length: usize) {
        let position = &mut self.positions[direction as usize];
        *position = position.wrapping_add(length as u32);
    }

    pub(crate) fn tick(&mut self, now: u64) {
        self.connections.tick(now, &mut self.report);
    }

    pub(crate) fn close(mut self, time: u64) -> Report {
        let positions = self.positions.map(Some);
        self.connections.closed(ID, positions, time, &mut self.report);
        self.report
    }

    pub(crate) fn abandon(mut self) -> Report {
        self.connections.abandoned(ID, &mut self.report);
        self.report
    }
}

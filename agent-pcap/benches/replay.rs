//! Megabytes of capture a second on one core, the pipeline included.

#[path = "../src/testing.rs"]
#[expect(dead_code, reason = "shared with the unit tests, which use more of it")]
mod testing;

use redwire_pcap::{limits, replay};
use redwire_protocol::connection::{ConnectionInfo, Side};
use redwire_protocol::loss::Loss;
use redwire_protocol::output::Observer;
use redwire_protocol::stream::Connections;
use redwire_protocol::trace_context::SpanContext;
use redwire_protocol::transaction::Transaction;
use std::time::Instant;
use testing::{Pcap, Tcp};

const SYN: u8 = 2;
const ACK: u8 = 16;

/// Connections that take turns.
const CONNECTIONS: u16 = 1000;

#[derive(Default)]
struct Count {
    transactions: u64,
    lost: u64,
}

impl Observer for Count {
    fn transaction(&mut self, _: &ConnectionInfo, _: Side, _: &Transaction<'_>) -> SpanContext {
        self.transactions += 1;
        SpanContext {
            trace_id: [1; 16],
            span_id: [1; 8],
            flags: 1,
        }
    }

    fn lost(&mut self, _: &ConnectionInfo, _: Option<&'static str>, loss: Loss, n: u64) {
        if loss != Loss::ResyncBytes {
            self.lost += n;
        }
    }

    fn sessions(&mut self, _: &ConnectionInfo, _: Side, _: i64) {}
}

/// HTTP/1 exchanges on kept-alive connections, with responses of `size` bytes in full segments, each acknowledged.
fn capture(exchanges: u32, size: usize) -> Vec<u8> {
    let request = b"GET /items/42 HTTP/1.1\r\nhost: shop.example\r\nuser-agent: bench\r\naccept: */*\r\n\r\n";
    let mut response =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {size}\r\n\r\n");
    response.extend(std::iter::repeat_n('x', size));
    let mut file = Pcap::new(1);
    let mut time = 1_700_000_000_000_000_000;
    let mut packet = |client: u16, from_client: bool, sequence, acknowledgement, flags, payload: &[u8]| {
        time += 2_000;
        let ports = if from_client { (client, 80) } else { (80, client) };
        let segment = Tcp {
            ports,
            sequence,
            acknowledgement,
            flags,
            payload,
        };
        file.packet(time, &segment.ethernet());
    };
    for client in 0..CONNECTIONS {
        packet(10_000 + client, true, 0, 0, SYN, b"");
        packet(10_000 + client, false, 0, 1, SYN | ACK, b"");
    }
    for n in 0..exchanges {
        let client = 10_000 + (n % u32::from(CONNECTIONS)) as u16;
        let turn = n / u32::from(CONNECTIONS);
        let mut sent = 1 + turn * request.len() as u32;
        let mut answered = 1 + turn * response.len() as u32;
        packet(client, true, sent, answered, ACK, request);
        sent += request.len() as u32;
        for piece in response.as_bytes().chunks(1460) {
            packet(client, false, answered, sent, ACK, piece);
            answered += piece.len() as u32;
        }
        packet(client, true, sent, answered, ACK, b"");
    }
    file.0
}

fn main() {
    for (name, exchanges, size) in [
        ("small responses", 200_000, 100),
        ("large responses", 4_000, 100_000),
    ] {
        let file = capture(exchanges, size);
        let mut connections = Connections::new(limits());
        let mut count = Count::default();
        let start = Instant::now();
        let summary = replay(&file[..], &mut connections, &mut count, &mut |_| {});
        connections.finish(&mut count);
        let seconds = start.elapsed().as_secs_f64();
        let summary = summary.expect("a capture");
        println!(
            "{name}: {:.0} MB/s, {:.0} packets/s, {} of {exchanges} transactions, {} lost",
            file.len() as f64 / 1e6 / seconds,
            summary.packets as f64 / seconds,
            count.transactions,
            count.lost,
        );
    }
}

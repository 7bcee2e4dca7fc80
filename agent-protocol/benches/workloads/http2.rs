//! HTTP/2 and gRPC with ten streams at a time, and header tables that both sides fill.

use super::Workload;
use super::encoder::{
    DATA, END_HEADERS, END_STREAM, Encoder, HEADERS, Indexing, PREFACE, frame, message, settings,
};
use redwire_protocol::connection::Direction::{self, Egress, Ingress};

const EXCHANGES: u32 = 1000;

/// Streams that are open together.
const STREAMS: u32 = 10;

/// Fields that come anew are indexed, as most encoders do.
fn headers(encoder: &mut Encoder, stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let block = encoder.block(fields, || Indexing::Incremental);
    frame(HEADERS, END_HEADERS | flags, stream, &block)
}

fn workload(
    name: &'static str,
    request: impl Fn(&mut Encoder, u32) -> Vec<u8>,
    response: impl Fn(&mut Encoder, u32) -> Vec<u8>,
) -> Workload {
    let (mut client, mut server) = (Encoder::new(), Encoder::new());
    let mut writes: Vec<(Direction, Vec<u8>)> = vec![
        (Egress, [PREFACE, &settings(&[])].concat()),
        (Ingress, settings(&[])),
    ];
    for first in (0..EXCHANGES).step_by(STREAMS as usize) {
        let streams = first..first + STREAMS;
        writes.extend(streams.clone().map(|id| (Egress, request(&mut client, id))));
        // The last is answered first.
        writes.extend(streams.rev().map(|id| (Ingress, response(&mut server, id))));
    }
    Workload {
        name,
        writes,
        transactions: u64::from(EXCHANGES),
    }
}

pub fn plain() -> Workload {
    workload(
        "http2",
        |encoder, id| {
            let path = format!("/api/items/{}", id % 100);
            let fields = [
                (":method", "GET"),
                (":scheme", "http"),
                (":path", path.as_str()),
                (":authority", "shop.example:8080"),
                ("user-agent", "bench/1"),
            ];
            headers(encoder, 2 * id + 1, END_STREAM, &fields)
        },
        |encoder, id| {
            let status = ["200", "200", "404", "500"][id as usize % 4];
            let fields = [(":status", status), ("content-type", "application/json")];
            let body = frame(DATA, END_STREAM, 2 * id + 1, &vec![b'x'; 20 + id as usize % 200]);
            [headers(encoder, 2 * id + 1, 0, &fields), body].concat()
        },
    )
}

pub fn grpc() -> Workload {
    workload(
        "grpc",
        |encoder, id| {
            let path = format!("/shop.Items/Get{}", id % 50);
            let fields = [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", path.as_str()),
                (":authority", "shop.example:8080"),
                ("content-type", "application/grpc"),
                ("te", "trailers"),
            ];
            let data = frame(DATA, END_STREAM, 2 * id + 1, &message(10 + id as usize % 100));
            [headers(encoder, 2 * id + 1, 0, &fields), data].concat()
        },
        |encoder, id| {
            let status = ["0", "0", "0", "5"][id as usize % 4];
            [
                headers(
                    encoder,
                    2 * id + 1,
                    0,
                    &[(":status", "200"), ("content-type", "application/grpc")],
                ),
                frame(DATA, 0, 2 * id + 1, &message(20 + id as usize % 200)),
                headers(encoder, 2 * id + 1, END_STREAM, &[("grpc-status", status)]),
            ]
            .concat()
        },
    )
}

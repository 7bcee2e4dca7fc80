//! HTTP/1.1 as a browser-like client and a small service speak it.

use super::Workload;
use redwire_protocol::connection::Direction::{Egress, Ingress};

const EXCHANGES: usize = 1000;

fn request(id: usize) -> Vec<u8> {
    format!(
        "GET /api/items/{id}?fields=name,price HTTP/1.1\r\nHost: shop.example:8080\r\nUser-Agent: python-httpx/0.27\r\n\
         Accept: */*\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n\
         traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169{:06x}-01\r\n\r\n",
        id + 1
    )
    .into_bytes()
}

fn response(id: usize) -> Vec<u8> {
    let status = [200, 200, 200, 404, 503][id % 5];
    let body = "x".repeat(20 + id % 200);
    format!(
        "HTTP/1.1 {status} Reason\r\nDate: Sat, 21 Nov 2026 10:00:00 GMT\r\nServer: uvicorn\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// One request at a time.
pub fn turns() -> Workload {
    Workload {
        name: "http1",
        writes: (0..EXCHANGES)
            .flat_map(|id| [(Egress, request(id)), (Ingress, response(id))])
            .collect(),
        transactions: EXCHANGES as u64,
    }
}

/// 50 requests in each write, as many responses in the next.
pub fn pipelined() -> Workload {
    let batch = |from: usize, message: fn(usize) -> Vec<u8>| (from..from + 50).flat_map(message).collect();
    Workload {
        name: "http1-pipelined",
        writes: (0..EXCHANGES)
            .step_by(50)
            .flat_map(|from| [(Egress, batch(from, request)), (Ingress, batch(from, response))])
            .collect(),
        transactions: EXCHANGES as u64,
    }
}

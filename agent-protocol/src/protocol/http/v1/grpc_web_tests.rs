//! gRPC-Web over HTTP/1.1 (doc/PROTOCOL-WEB.md of the gRPC project): bodies by hand, text by coreutils' base64.

use super::tests::talk;
use crate::connection::Direction::{self, Egress as Q, Ingress as A};

const CALL: &str = "POST /pkg.Service/Do HTTP/1.1\r\nHost: h\r\n";
const MESSAGE: &[u8] = b"\0\0\0\0\x03abc";
const TRAILERS: &[u8] = b"\x80\0\0\0\x0fgrpc-status:5\r\n";

/// A message with this start line, content-type and body, which has a length.
fn whole(start: &str, content: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("{start}Content-Type: application/{content}\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// What is seen of a request and its response, however these are cut.
fn seen(request: &[u8], response: &[u8]) -> String {
    let once = talk(&[(Q, request), (A, response)]).lines;
    let [line] = &once[..] else { panic!("{once:?}") };
    // Times depend on the cuts.
    let untimed = |line: &str| line.rsplit_once(' ').unwrap().0.to_owned();
    for size in [1, 2, 3, 7, 50] {
        let cut = |direction: Direction, bytes: &'static [u8]| {
            bytes.chunks(size).map(move |piece| (direction, piece))
        };
        let leak = |bytes: &[u8]| -> &'static [u8] { Box::leak(bytes.to_vec().into_boxed_slice()) };
        let writes: Vec<_> = cut(Q, leak(request)).chain(cut(A, leak(response))).collect();
        let lines = talk(&writes).lines;
        assert_eq!(lines.len(), 1);
        assert_eq!(untimed(&lines[0]), untimed(line), "in pieces of {size}");
    }
    line.clone()
}

#[test]
fn calls() {
    let ok = "HTTP/1.1 200 OK\r\n";
    let body = [MESSAGE, MESSAGE, TRAILERS].concat();
    let request = whole(CALL, "grpc-web+proto", MESSAGE);
    assert_eq!(
        seen(&request, &whole(ok, "grpc-web+proto", &body)),
        "1.1 pkg.Service/Do NOT_FOUND 200 Some((1, 3)) Some((2, 6)) 1-2"
    );
    // Chunks that are no frames.
    let mut chunked =
        format!("{ok}Content-Type: application/grpc-web\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.chunks(6) {
        chunked.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        chunked.extend([chunk, b"\r\n"].concat());
    }
    chunked.extend(b"0\r\n\r\n");
    assert_eq!(
        seen(&request, &chunked),
        "1.1 pkg.Service/Do NOT_FOUND 200 Some((1, 3)) Some((2, 6)) 1-2"
    );
    // In base64, encoded frame by frame.
    assert_eq!(
        seen(
            &whole(CALL, "grpc-web-text", b"AAAAAANhYmM="),
            &whole(
                ok,
                "grpc-web-text+proto",
                b"AAAAAANhYmM=gAAAAA9ncnBjLXN0YXR1czo1DQo="
            )
        ),
        "1.1 pkg.Service/Do NOT_FOUND 200 Some((1, 3)) Some((1, 3)) 1-2"
    );
    // The status in the head, where there is no message.
    let only = format!("{ok}grpc-status: 12\r\n");
    assert_eq!(
        seen(&request, &whole(&only, "grpc-web+proto", b"")),
        "1.1 pkg.Service/Do UNIMPLEMENTED 200 Some((1, 3)) Some((0, 0)) 1-2"
    );
}

/// doc/http-grpc-status-mapping.md
#[test]
fn without_a_status() {
    let request = whole(CALL, "grpc-web+proto", MESSAGE);
    let bad = "HTTP/1.1 502 Bad Gateway\r\n";
    assert_eq!(
        seen(&request, &whole(bad, "html", b"<p>no</p>")),
        "1.1 pkg.Service/Do UNAVAILABLE 502 Some((1, 3)) None 1-2"
    );
    let ok = "HTTP/1.1 200 OK\r\n";
    assert_eq!(
        seen(&request, &whole(ok, "grpc-web", MESSAGE)),
        "1.1 pkg.Service/Do UNKNOWN 200 Some((1, 3)) Some((1, 3)) 1-2"
    );
    // Cut off in the second message.
    let response = whole(ok, "grpc-web", &[MESSAGE, MESSAGE].concat());
    assert_eq!(
        talk(&[(Q, &request), (A, &response[..response.len() - 1])]).lines,
        ["1.1 pkg.Service/Do UNAVAILABLE 200 Some((1, 3)) Some((1, 3)) connection_closed 1-100"]
    );
}

#[test]
fn until_the_connection_closes() {
    let request = whole(CALL, "grpc-web+proto", MESSAGE);
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc-web\r\n\r\n";
    assert_eq!(
        seen(&request, &[&head[..], MESSAGE, TRAILERS].concat()),
        "1.1 pkg.Service/Do NOT_FOUND 200 Some((1, 3)) Some((1, 3)) 1-2"
    );
}

/// gRPC itself needs HTTP/2 (doc/PROTOCOL-HTTP2.md).
#[test]
fn no_call() {
    let request = whole(CALL, "grpc", MESSAGE);
    let response = whole("HTTP/1.1 415 No\r\n", "grpc", b"");
    assert_eq!(seen(&request, &response), "POST /pkg.Service/Do 415 8/0 1-2");
}

//! One test per rule, over the driver: what goes in is written out, what is expected follows from the RFC cited.

use super::*;
use crate::connection::{ConnectionId, ConnectionInfo, Direction, Endpoint, Opener, Side, Vantage};
use crate::output::Observer;
use crate::stream::{Chunk, Connections, Limits};
use Direction::{Egress as Q, Ingress as A};

#[derive(Default)]
pub(super) struct Seen {
    /// `method path status sizes error start-end`, and for a session its sizes.
    pub(super) lines: Vec<String>,
    records: Vec<String>,
    losses: Vec<(Loss, u64)>,
    sessions: Vec<i64>,
    parents: Vec<Option<SpanContext>>,
}

impl Seen {
    fn lost(&self, loss: Loss) -> u64 {
        self.losses
            .iter()
            .filter(|(l, _)| *l == loss)
            .map(|(_, n)| n)
            .sum()
    }
}

impl Observer for Seen {
    fn transaction(&mut self, _: &ConnectionInfo, _: Side, t: &Transaction<'_>) -> SpanContext {
        let (start, end) = (t.start, t.end);
        self.parents.push(t.parent);
        let line = match &t.record {
            Record::Http(r) => {
                let or = |size: Option<u64>| size.map_or("-".into(), |size| size.to_string());
                format!(
                    "{} {} {} {}/{}{} {start}-{end}",
                    r.method.unwrap_or("-"),
                    r.path.unwrap_or("-"),
                    r.status.map_or("-".into(), |status| status.to_string()),
                    or(r.request_body_size),
                    or(r.response_body_size),
                    t.error.map_or(String::new(), |error| format!(" {error}")),
                )
            }
            Record::WebSocket(r) => format!(
                "WS {} {}/{} {start}-{end}",
                r.path.unwrap_or("-"),
                r.bytes_to_server,
                r.bytes_to_client
            ),
            Record::Rpc(r) => format!(
                "{} {}/{} {} {} {:?} {:?}{} {start}-{end}",
                r.version,
                r.service.unwrap_or("-"),
                r.method.unwrap_or("-"),
                r.status.map_or("-", |status| status.name().unwrap_or("?")),
                r.http_status.unwrap_or_default(),
                r.request.map(|messages| (messages.count, messages.bytes)),
                r.response.map(|messages| (messages.count, messages.bytes)),
                t.error.map_or(String::new(), |error| format!(" {error}")),
            ),
            other => format!("{other:?}"),
        };
        self.lines.push(line);
        self.records
            .push(format!("{:?} {:?} {:?}", t.record, t.remote_parent, t.tracestate));
        SpanContext {
            trace_id: [7; 16],
            span_id: [self.lines.len() as u8; 8],
            flags: 1,
        }
    }
    fn lost(&mut self, _: &ConnectionInfo, _: Option<&'static str>, loss: Loss, n: u64) {
        self.losses.push((loss, n));
    }
    fn sessions(&mut self, _: &ConnectionInfo, _: Side, change: i64) {
        self.sessions.push(change);
    }
}

/// A conversation, one write per time unit from 1 on, closed at `closed` or, if that is 0, not at all.
fn talk_until(writes: &[(Direction, &[u8])], closed: u64) -> Seen {
    let mut seen = Seen::default();
    let mut connections = Connections::new(Limits::default());
    let id = ConnectionId(1);
    let endpoint = || Endpoint::Inet("127.0.0.1:80".parse().unwrap());
    let info = ConnectionInfo {
        id,
        local: endpoint(),
        remote: endpoint(),
        vantage: Vantage::Socket,
        opener: Opener::Local,
        process: None,
    };
    connections.opened(info, [Some(0), Some(0)], &mut seen);
    let mut positions = [0u32; 2];
    for (time, (direction, bytes)) in (1..).zip(writes) {
        let position = &mut positions[*direction as usize];
        let chunk = Chunk {
            id,
            direction: *direction,
            position: *position,
            length: bytes.len() as u32,
            bytes,
            time,
            process: None,
        };
        connections.data(&chunk, &mut seen);
        *position += bytes.len() as u32;
    }
    if closed > 0 {
        connections.closed(id, positions.map(Some), closed, &mut seen);
    }
    connections.finish(&mut seen);
    seen
}

pub(super) fn talk(writes: &[(Direction, &[u8])]) -> Seen {
    talk_until(writes, 100)
}

fn lines(writes: &[(Direction, &[u8])]) -> Vec<String> {
    talk(writes).lines
}

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn an_exchange() {
    assert_eq!(lines(&[(Q, GET), (A, OK)]), ["GET /a 200 0/2 1-2"]);
}

/// RFC 9112 § 9.3.2.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let requests = b"GET /1 HTTP/1.1\r\n\r\nHEAD /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.1\r\n\r\n";
    let responses =
        b"HTTP/1.1 200 A\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 B\r\nContent-Length: 99\r\n\r\n\
        HTTP/1.1 404 C\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(
        lines(&[(Q, requests), (A, responses)]),
        ["GET /1 200 0/1 1-2", "HEAD /2 200 0/0 1-2", "GET /3 404 0/0 1-2"]
    );
}

#[test]
fn a_thousand_and_more_in_flight() {
    let requests: Vec<u8> = (0..3000)
        .flat_map(|i| format!("GET /{i} HTTP/1.1\r\n\r\n").into_bytes())
        .collect();
    let responses: Vec<u8> = (0..3000)
        .flat_map(|i| format!("HTTP/1.1 {} X\r\nContent-Length: 0\r\n\r\n", 200 + i % 100).into_bytes())
        .collect();
    let seen = lines(&[(Q, &requests), (A, &responses)]);
    assert_eq!(seen.len(), 3000);
    for (i, line) in seen.iter().enumerate() {
        assert_eq!(*line, format!("GET /{i} {} 0/0 1-2", 200 + i % 100));
    }
}

/// RFC 9110 § 15.2: interim responses precede the final one.
#[test]
fn interim_responses_belong_to_the_final_one() {
    let put = b"PUT /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let writes: &[(Direction, &[u8])] = &[
        (Q, put),
        (A, b"HTTP/1.1 100 Continue\r\n\r\n"),
        (Q, b"abc"),
        (
            A,
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
        ),
    ];
    assert_eq!(lines(writes), ["PUT /a 201 3/0 1-4"]);
}

/// RFC 9112 § 6.3, rule 1.
#[test]
fn responses_without_content() {
    for status in [204, 304] {
        let response = format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(
            lines(&[(Q, GET), (A, response.as_bytes()), (Q, GET), (A, OK)]),
            [format!("GET /a {status} 0/0 1-2"), "GET /a 200 0/2 3-4".into()]
        );
    }
}

/// RFC 9112 § 7.1.
#[test]
fn chunked_with_extensions_and_trailers() {
    let request = b"POST /a HTTP/1.1\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n\
        3;a=\"b\";c\r\nabc\r\n00A\r\n0123456789\r\n0\r\nX: y\r\nZ: \r\n\r\n";
    let response = b"HTTP/1.1 200 OK\r\ntransfer-encoding:chunked\r\n\r\n1  \r\nx\r\n0\r\n\r\n";
    assert_eq!(lines(&[(Q, request), (A, response)]), ["POST /a 200 13/1 1-2"]);
}

/// RFC 9112 § 6.3, rule 8: with the end of the connection, at the last byte.
#[test]
fn a_response_until_close() {
    let writes: &[(Direction, &[u8])] = &[(Q, GET), (A, b"HTTP/1.0 200 OK\r\n\r\nab"), (A, b"cd")];
    assert_eq!(lines(writes), ["GET /a 200 0/4 1-3"]);
    let big = vec![b'x'; 2 << 20];
    let writes: &[(Direction, &[u8])] = &[(Q, GET), (A, b"HTTP/1.0 200 OK\r\n\r\n"), (A, &big), (A, &big)];
    assert_eq!(lines(writes), ["GET /a 200 0/- 1-4"]);
}

#[test]
fn cut_off() {
    assert_eq!(lines(&[(Q, GET)]), ["GET /a - 0/- connection_closed 1-100"]);
    assert_eq!(
        lines(&[(Q, GET), (A, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")]),
        ["GET /a 200 0/- connection_closed 1-100"]
    );
    assert_eq!(
        lines(&[(Q, b"PUT /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nab")]),
        ["PUT /a - -/- connection_closed 1-100"]
    );
    assert_eq!(
        lines(&[(Q, GET), (Q, GET), (A, OK)]),
        ["GET /a 200 0/2 1-3", "GET /a - 0/- connection_closed 2-100"]
    );
}

#[test]
fn still_open_is_no_transaction() {
    let seen = talk_until(
        &[(Q, GET), (A, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")],
        0,
    );
    assert!(seen.lines.is_empty());
    assert_eq!(seen.lost(Loss::Unfinished), 1);
}

#[test]
fn a_response_that_nobody_asked_for() {
    let timeout = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
    let seen = talk(&[(Q, GET), (A, OK), (A, timeout), (Q, GET)]);
    assert_eq!(
        seen.lines,
        ["GET /a 200 0/2 1-2", "GET /a - 0/- connection_closed 4-100"]
    );
    assert_eq!(seen.lost(Loss::UnpairedResponse), 1);
}

/// RFC 9112 § 2.2: leading empty lines and a bare LF.
#[test]
fn lenient_line_ends() {
    let request = b"\r\n\n\r\nGET /a HTTP/1.1\nHost: h\n\n\r\n\r\nGET /b HTTP/1.1\r\n\n";
    let response = b"HTTP/1.1 200 OK\nContent-Length: 1\n\nx\r\nHTTP/1.1 200\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(
        lines(&[(Q, request), (A, response)]),
        ["GET /a 200 0/1 1-2", "GET /b 200 0/0 1-2"]
    );
}

/// What must not be accepted makes no transaction, and no other one false.
#[test]
fn refused_requests() {
    for bad in [
        "GET /a b HTTP/1.1\r\n\r\n",
        "GET /a\tb HTTP/1.1\r\n\r\n",
        "GET  /a HTTP/1.1\r\n\r\n",
        "GET /a  HTTP/1.1\r\n\r\n",
        " GET /a HTTP/1.1\r\n\r\n",
        "GET /a\r\n\r\n",
        "GET /a http/1.1\r\n\r\n",
        "GET /a HTTP/1.1 \r\n\r\n",
        "GET /a HTTP/2.0\r\n\r\n",
        "GET /a HTTP/1.2\r\n\r\n",
        "GET a HTTP/1.1\r\n\r\n",
        "G(T /a HTTP/1.1\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
        "GET /a HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "POST /a HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /a HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST /a HTTP/1.1\r\nContent-Length: 1, 2\r\n\r\n",
        "POST /a HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        "POST /a HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST /a HTTP/1.1\r\nContent-Length: 0x1\r\n\r\n",
        "POST /a HTTP/1.1\r\nContent-Length: \r\n\r\n",
        "POST /a HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        "POST /a HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n",
        "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /a HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "POST /a HTTP/1.1\r\nTransfer-Encoding:\r\n\r\n",
        "POST /a HTTP/1.1\r\nTransfer-Encoding\t: chunked\r\n\r\n",
        // Malformed lines that somebody may take for framing.
        "POST /a HTTP/1.1\r\nContent-Length : 1\r\n\r\n",
        "POST /a HTTP/1.1\r\nContent Length: 1\r\n\r\n",
        "POST /a HTTP/1.1\r\nContent-Length 1\r\n\r\n",
        "POST /a HTTP/1.1\r\nContent-Length\0: 1\r\n\r\n",
        "POST /a HTTP/1.1\r\nContent-Length: 1\0\r\n\r\n",
        "POST /a HTTP/1.1\r\nX: a\rContent-Length: 1\r\n\r\n",
        "POST /a HTTP/1.1\r\n\u{a0}Transfer-Encoding: chunked\r\n\r\n",
        "GET /a HTTP/1.1\r\nConnection : close\r\n\r\n",
        "GET /a HTTP/1.1\r\n(Upgrade): x\r\n\r\n",
    ] {
        // A good exchange first, so that the connection is known to speak HTTP.
        let seen = talk(&[(Q, GET), (A, OK), (Q, bad.as_bytes()), (A, OK)]);
        assert_eq!(seen.lines, ["GET /a 200 0/2 1-2"], "{bad:?}");
        assert_eq!(seen.lost(Loss::Refused), 1, "{bad:?}");
    }
}

#[test]
fn refused_chunked_coding_loses_no_false_one() {
    for bad in [
        "x\r\n",
        "\r\n",
        "-1\r\n",
        "0x1\r\n",
        "1 1\r\nx\r\n",
        "11111111111111111\r\n",
        "1\r\nxy\r\n",
    ] {
        let request = format!("POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{bad}");
        let seen = talk(&[(Q, request.as_bytes()), (Q, GET), (A, OK), (A, OK)]);
        assert_eq!(seen.lost(Loss::Refused), 1, "{bad:?}");
        // The head was good, and the first response is its.
        assert_eq!(seen.lines, ["POST /a 200 -/2 1-3"], "{bad:?}");
    }
}

#[test]
fn refused_responses() {
    for bad in [
        "http/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        "some other text\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\rContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\0\r\n\r\n",
    ] {
        let seen = talk(&[
            (Q, GET),
            (A, OK),
            (Q, GET),
            (A, bad.as_bytes()),
            (Q, GET),
            (A, OK),
        ]);
        assert_eq!(seen.lines, ["GET /a 200 0/2 1-2"], "{bad:?}");
        assert_eq!(seen.lost(Loss::Refused), 1, "{bad:?}");
        assert_eq!(seen.lost(Loss::UnpairedRequest), 2, "{bad:?}");
    }
}

/// RFC 9112 § 5.1 and § 5.2: what a recipient of a response has to put up with.
#[test]
fn tolerated_responses() {
    for response in [
        "HTTP/1.1 200 OK\r\nX: a\r\n\tb\r\n c\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n  chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 é\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let seen = lines(&[(Q, GET), (A, response.as_bytes()), (Q, GET), (A, OK)]);
        assert_eq!(seen, ["GET /a 200 0/2 1-2", "GET /a 200 0/2 3-4"], "{response:?}");
    }
}

/// Field lines that no one needs are left out, and counted, and the message stands: a field name with a space or a byte of
/// eight bits, none at all, NUL or a CR in a value, a line without a colon.
#[test]
fn malformed_lines_that_touch_no_framing() {
    for line in [
        &b"X Y: a"[..],
        b"X\xe9: a",
        b"\xc3\xa9: a",
        b"X: a\0b",
        b"X: a\rb",
        b"no colon",
        b": a",
        b"<html>",
        b"",
    ] {
        let odd = u64::from(!line.is_empty());
        let line = [line, if line.is_empty() { b"" } else { b"\r\n" }].concat();
        let request = [b"POST /a HTTP/1.1\r\n", &line[..], b"Content-Length: 1\r\n\r\nx"].concat();
        let response = [b"HTTP/1.1 200 OK\r\n", &line[..], b"Content-Length: 2\r\n\r\nok"].concat();
        for size in [1, 3, 1000] {
            let leak = |bytes: &[u8]| -> &'static [u8] { Box::leak(bytes.to_vec().into_boxed_slice()) };
            let writes: Vec<_> = (leak(&request).chunks(size).map(|piece| (Q, piece)))
                .chain(leak(&response).chunks(size).map(|piece| (A, piece)))
                .chain([(Q, GET), (A, OK)])
                .collect();
            let seen = talk(&writes);
            assert_eq!(seen.lines.len(), 2, "{:?}", String::from_utf8_lossy(&line));
            assert!(seen.lines[0].starts_with("POST /a 200 1/2 "), "{:?}", seen.lines);
            assert_eq!(seen.lost(Loss::MalformedField), 2 * odd);
            assert_eq!(seen.losses.len() as u64, 2 * odd, "{:?}", seen.losses);
        }
    }
    // White space before the colon, which a response may have; a line that is folded, with NUL; and of a trailer section.
    for (response, odd) in [
        (&b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 2\r\n\r\nok"[..], 0),
        (b"HTTP/1.1 200 OK\r\n a: b\r\nContent-Length: 2\r\n\r\nok", 1),
        (
            b"HTTP/1.1 200 OK\r\nX: a\r\n b\0\r\nContent-Length: 2\r\n\r\nok",
            1,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX\r\nY Z: a\r\n\r\n",
            2,
        ),
    ] {
        let seen = talk(&[(Q, GET), (A, response), (Q, GET), (A, OK)]);
        assert_eq!(seen.lines, ["GET /a 200 0/2 1-2", "GET /a 200 0/2 3-4"]);
        assert_eq!(seen.lost(Loss::MalformedField), odd);
    }
    let seen = talk(&[(Q, b"GET /a HTTP/1.1\r\nHost : h\r\n\r\n"), (A, OK)]);
    assert_eq!((seen.lines.len(), seen.lost(Loss::MalformedField)), (1, 1));
}

#[test]
fn odd_status_codes_are_as_they_are() {
    for status in ["000", "099", "600", "999"] {
        let response = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        let number: u16 = status.parse().unwrap();
        assert_eq!(
            lines(&[(Q, GET), (A, response.as_bytes())]),
            [format!("GET /a {number} 0/0 1-2")]
        );
    }
}

#[test]
fn heads_are_bounded() {
    let head = |n: usize| format!("GET /a HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(n)).into_bytes();
    let fits = head(head::MAX_HEAD - head(0).len());
    assert_eq!(fits.len(), head::MAX_HEAD);
    let too_long = head(fits.len() - head(0).len() + 1);
    assert_eq!(lines(&[(Q, GET), (A, OK), (Q, &fits), (A, OK)]).len(), 2);
    let seen = talk(&[(Q, GET), (A, OK), (Q, &too_long), (A, OK)]);
    assert_eq!((seen.lines.len(), seen.lost(Loss::Refused)), (1, 1));
    // Without an end, too.
    let seen = talk(&[
        (Q, GET),
        (A, OK),
        (Q, &too_long[..head::MAX_HEAD - 10]),
        (Q, &[b'y'; 20]),
        (A, OK),
    ]);
    assert_eq!((seen.lines.len(), seen.lost(Loss::Refused)), (1, 1));
}

/// RFC 9112 § 3.2.
#[test]
fn target_forms() {
    for (line, expected) in [
        (
            "GET /p/q?a=b?c HTTP/1.1",
            r#"path: Some("/p/q"), query: Some("a=b?c"), scheme: None, authority: Some("h")"#,
        ),
        (
            "GET http://u:p@o:81/p?q HTTP/1.1",
            r#"path: Some("/p"), query: Some("q"), scheme: Some("http"), authority: Some("o:81")"#,
        ),
        (
            "GET HTTPS://o HTTP/1.1",
            r#"path: Some("/"), query: None, scheme: Some("https"), authority: Some("o")"#,
        ),
        (
            "GET http://o?q HTTP/1.1",
            r#"path: Some("/"), query: Some("q"), scheme: Some("http"), authority: Some("o")"#,
        ),
        (
            "OPTIONS * HTTP/1.1",
            r#"path: None, query: None, scheme: None, authority: Some("h")"#,
        ),
        (
            "CONNECT o:443 HTTP/1.1",
            r#"path: None, query: None, scheme: None, authority: Some("o:443")"#,
        ),
        (
            "M-SEARCH //x/y HTTP/1.0",
            r#"path: Some("//x/y"), query: None, scheme: None, authority: Some("h")"#,
        ),
    ] {
        let request = format!("{line}\r\nHost: h\r\n\r\n");
        let response = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        let seen = talk(&[(Q, request.as_bytes()), (A, response)]);
        assert!(seen.records[0].contains(expected), "{line}: {}", seen.records[0]);
    }
}

/// Forwarded first (RFC 7239), then what proxies said before it was there.
#[test]
fn what_was_asked_for() {
    for (fields, expected) in [
        (
            "Forwarded: proto=https;host=shop.example\r\nX-Forwarded-Host: b\r\nX-Forwarded-Proto: http",
            r#"{ scheme: Some("https"), authority: Some("shop.example"), port: None }"#,
        ),
        (
            "X-Forwarded-Host: shop.example:8443, b\r\nX-Forwarded-Proto: https\r\nForwarded: for=192.0.2.1",
            r#"{ scheme: Some("https"), authority: Some("shop.example:8443"), port: None }"#,
        ),
        (
            "x-forwarded-port: 444\r\nx-forwarded-host:",
            "{ scheme: None, authority: None, port: Some(444) }",
        ),
        ("Host: h", "{ scheme: None, authority: None, port: None }"),
    ] {
        let request = format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n");
        let seen = talk(&[(Q, request.as_bytes()), (A, OK)]);
        let expected = format!("original: Original {expected}");
        assert!(
            seen.records[0].contains(&expected),
            "{fields}: {}",
            seen.records[0]
        );
    }
}

#[test]
fn who_calls() {
    for (fields, expected) in [
        (
            "Forwarded: for=192.0.2.60;proto=http, for=198.51.100.17",
            "192.0.2.60",
        ),
        (
            "Forwarded: proto=http; For=\"[2001:db8:cafe::17]:4711\"",
            "2001:db8:cafe::17",
        ),
        (
            "Forwarded: for=192.0.2.1\r\nX-Forwarded-For: 192.0.2.2",
            "192.0.2.1",
        ),
        (
            "Forwarded: for=_hidden\r\nX-Forwarded-For: 192.0.2.2:8080, 192.0.2.3",
            "192.0.2.2",
        ),
        ("X-Forwarded-For: 2001:db8::1", "2001:db8::1"),
    ] {
        let request = format!("GET /a HTTP/1.1\r\nUser-Agent: curl/8 (x)\r\n{fields}\r\n\r\n");
        let record = &talk(&[(Q, request.as_bytes()), (A, OK)]).records[0];
        let expected = format!("user_agent: Some(\"curl/8 (x)\"), forwarded_for: Some({expected:?})");
        assert!(record.contains(&expected), "{record}");
    }
    for fields in [
        "Forwarded: for=unknown",
        "X-Forwarded-For: ",
        "Forwarded: by=192.0.2.1",
    ] {
        let request = format!("GET /a HTTP/1.1\r\n{fields}\r\n\r\n");
        let record = &talk(&[(Q, request.as_bytes()), (A, OK)]).records[0];
        assert!(record.contains("forwarded_for: None"), "{record}");
    }
}

#[test]
fn trace_context() {
    let request =
        b"GET /a HTTP/1.1\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
        tracestate: a=b,c=d\r\n\r\n";
    let record = &talk(&[(Q, request), (A, OK)]).records[0];
    assert!(
        record.contains("span_id: [183, 173, 107, 113, 105, 32, 51, 49]"),
        "{record}"
    );
    assert!(record.ends_with(r#"Some("a=b,c=d")"#), "{record}");
    let record = &talk(&[(Q, b"GET /a HTTP/1.1\r\ntracestate: a=b\r\n\r\n"), (A, OK)]).records[0];
    assert!(record.ends_with("None None"), "{record}");
}

const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n";
const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

/// RFC 6455 § 5.2: a text frame of five bytes, masked and not, and one of 126 bytes.
#[test]
fn a_websocket_session() {
    let long = [&[0x82, 126, 0, 126][..], &[b'x'; 126]].concat();
    let seen = talk(&[
        (Q, UPGRADE),
        (A, SWITCHING),
        (Q, b"\x81\x85mask12345"),
        (A, b"\x81\x05hello"),
        (A, &long[..3]),
        (A, &long[3..]),
    ]);
    assert_eq!(seen.lines, ["GET /ws 101 0/0 1-2", "WS /ws 11/137 2-100"]);
    assert_eq!(seen.sessions, [1, -1]);
    assert_eq!(seen.parents[1].map(|span| span.span_id), Some([1; 8]));
}

#[test]
fn frames_right_behind_the_handshake() {
    let switching = [SWITCHING, b"\x81\x02hi"].concat();
    // The client does not wait: its frame belongs to the session if there is one.
    let seen = talk(&[(Q, UPGRADE), (Q, b"\x81\x80mask"), (A, &switching)]);
    assert_eq!(seen.lines, ["GET /ws 101 0/0 1-3", "WS /ws 6/4 3-100"]);
}

#[test]
fn an_open_session_is_unfinished() {
    let seen = talk_until(&[(Q, UPGRADE), (A, SWITCHING)], 0);
    assert_eq!(seen.lines.len(), 1);
    assert_eq!(
        (seen.lost(Loss::Unfinished), &seen.sessions[..]),
        (1, &[1, -1][..])
    );
}

#[test]
fn a_declined_upgrade() {
    let both = [UPGRADE, GET].concat();
    let answers = [OK, OK].concat();
    assert_eq!(
        lines(&[(Q, &both), (A, &answers), (Q, GET), (A, OK)]),
        ["GET /ws 200 0/2 1-2", "GET /a 200 0/2 1-2", "GET /a 200 0/2 3-4"]
    );
}

/// RFC 9110 § 9.3.6: after a 2xx the connection is a tunnel, whatever its inside.
#[test]
fn a_tunnel() {
    let connect = b"CONNECT o:80 HTTP/1.1\r\nHost: o:80\r\n\r\n";
    let established = b"HTTP/1.1 200 Connection established\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(
        lines(&[(Q, connect), (A, established), (Q, GET), (A, OK)]),
        ["CONNECT - 200 0/0 1-2", "GET /a 200 0/2 3-4"]
    );
    let seen = talk(&[
        (Q, connect),
        (A, established),
        (Q, &[22, 3, 1, 0, 100, 1]),
        (A, &[22, 3, 3, 0, 10, 2]),
    ]);
    assert_eq!((seen.lines.len(), seen.lost(Loss::Encrypted)), (1, 1));
    let denied = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(
        lines(&[(Q, connect), (A, denied), (Q, GET), (A, OK)]),
        ["CONNECT - 407 0/0 1-2", "GET /a 200 0/2 3-4"]
    );
}

/// RFC 7540 § 3.2: the response to the upgrade is that of stream 1. HEADERS with `:status: 204` (RFC 7541
/// Appendix A, index 9) and END_STREAM.
#[test]
fn an_upgrade_to_http_2_is_one_transaction() {
    let request = b"GET /h2 HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
        HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n";
    let switching = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let headers = [0, 0, 1, 1, 5, 0, 0, 0, 1, 0x89];
    let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..]].concat();
    let seen = talk(&[
        (Q, request),
        (A, switching),
        (A, &settings),
        (Q, &preface),
        (A, &headers),
    ]);
    assert_eq!(seen.lines.len(), 1, "{:?}", seen.lines);
    assert!(seen.lines[0].starts_with("GET /h2 204"), "{:?}", seen.lines);
    assert!(seen.lines[0].ends_with("1-5"), "{:?}", seen.lines);
}

#[test]
fn detection() {
    use Detection::{Maybe, No, Yes};
    let server = Yes(Flow::ToServer);
    for (bytes, fresh, expected) in [
        ("", true, Maybe),
        ("G", true, Maybe),
        ("GET /", true, Maybe),
        ("GET / HTTP/1.", true, Maybe),
        ("GET / HTTP/1.1\r", true, Maybe),
        ("GET / HTTP/1.1\r\n", true, server),
        ("get / HTTP/1.1\r\n", true, server),
        ("\r\n\nGET / HTTP/1.0\n", true, server),
        ("GET / HTTP/1.1\r\nHost: h\r\n", false, Maybe),
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", false, server),
        ("GET / HTTP/1.1\r\nHost\r\n", true, server),
        ("GET / HTTP/1.1\r\nHost\r\n\r\n", false, No),
        ("GET / HTTP/1.1\r\nConnection\r\n", true, No),
        ("PRI * HTTP/2", true, No),
        ("PRI * HTTP/2.0\r\n", true, No),
        ("GET / RTSP/1.0\r\n", true, No),
        ("SSH-2.0-OpenSSH\r\n", true, No),
        ("*1\r\n$4\r\nPING\r\n", true, No),
        ("HTTP/1.1 200", true, Maybe),
        ("HTTP/1.1 200 OK\r\n", true, Yes(Flow::ToClient)),
        ("HTTP/1.1 200 OK\r\n", false, Maybe),
        ("HTTP/1.1 2x", true, No),
        ("HTTP/1.1 GET HTTP/1.1\r\n", true, No),
        ("\x16\x03\x01", true, No),
        ("AMQP\0\0\x09\x01", true, No),
    ] {
        assert_eq!(detect(bytes.as_bytes(), fresh), expected, "{bytes:?} {fresh}");
    }
    let method = "M".repeat(100);
    assert_eq!(detect(method.as_bytes(), true), No);
}

#[test]
fn an_idle_connection_is_small() {
    assert!(size_of::<Connection>() <= 256, "{}", size_of::<Connection>());
    assert!(size_of::<Request>() <= 256, "{}", size_of::<Request>());
}

//! Frames and the matching of streams, from the beginning of a connection.

use crate::encoder::*;
use crate::harness::{CLIENT, Feed, Report, SERVER, Seen};
use redwire_protocol::loss::Loss;

pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    request(stream, END_STREAM, "GET", path, &[])
}

pub(crate) fn request(stream: u32, flags: u8, method: &str, path: &str, more: &[Field<'_>]) -> Vec<u8> {
    let mut fields = vec![
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "a.example"),
    ];
    fields.extend(more);
    frame(HEADERS, flags | END_HEADERS, stream, &Encoder::plain(&fields))
}

pub(crate) fn response(stream: u32, flags: u8, status: &str) -> Vec<u8> {
    headers(stream, flags, &[(":status", status), ("server", "s")])
}

pub(crate) fn headers(stream: u32, flags: u8, fields: &[Field<'_>]) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, &Encoder::plain(fields))
}

/// A connection after both prefaces.
pub(crate) fn open() -> Feed {
    let mut feed = Feed::new(true);
    feed.write(CLIENT, 1, PREFACE);
    feed.write(CLIENT, 1, &settings(&[]));
    feed.write(SERVER, 2, &settings(&[]));
    feed.write(SERVER, 2, &frame(SETTINGS, ACK, 0, &[]));
    feed.write(CLIENT, 3, &frame(SETTINGS, ACK, 0, &[]));
    feed
}

pub(crate) fn http(method: &str, path: &str, times: (u64, u64), status: u32, sizes: [u64; 2]) -> Seen {
    Seen {
        start: times.0,
        end: times.1,
        method: Some(method.to_owned()),
        path: Some(path.to_owned()),
        status: Some(status),
        sizes: sizes.map(Some),
        kind: "http",
        ..Seen::default()
    }
}

fn no_losses(report: &Report) {
    assert_eq!(
        report.losses.iter().filter(|(_, n)| **n > 0).count(),
        0,
        "{:?}",
        report.losses
    );
}

#[test]
fn one_request() {
    let mut feed = open();
    feed.write(CLIENT, 10, &get(1, "/a?b=c"));
    feed.write(SERVER, 20, &response(1, 0, "200"));
    feed.write(SERVER, 30, &frame(DATA, 0, 1, b"hello"));
    feed.write(SERVER, 40, &frame(DATA, END_STREAM, 1, b" there"));
    let report = feed.close(50);
    assert_eq!(report.seen, [http("GET", "/a", (10, 40), 200, [0, 11])]);
    assert!(report.details[0].contains("query: Some(\"b=c\")"));
    assert!(report.details[0].contains("authority: Some(\"a.example\")"));
    assert!(report.details[0].contains("scheme: Some(\"http\")"));
    no_losses(&report);
}

#[test]
fn many_at_once_answered_in_another_order() {
    let mut feed = open();
    for n in 0..100 {
        feed.write(CLIENT, 100 + n, &get(2 * n as u32 + 1, &format!("/{n}")));
    }
    for n in (0..100).rev() {
        feed.write(SERVER, 1000 - n, &response(2 * n as u32 + 1, END_STREAM, "204"));
    }
    let report = feed.close(2000);
    no_losses(&report);
    let expected: Vec<_> = (0..100)
        .map(|n| http("GET", &format!("/{n}"), (100 + n, 1000 - n), 204, [0, 0]))
        .collect();
    assert_eq!(report.sorted(), expected);
}

#[test]
fn request_fields() {
    let mut feed = open();
    let context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let more = [
        ("traceparent", context),
        ("tracestate", "v=1"),
        ("user-agent", "ua/1"),
        ("content-type", "application/json"),
    ];
    feed.write(CLIENT, 10, &request(1, 0, "POST", "/p", &more));
    feed.write(CLIENT, 11, &frame(DATA, END_STREAM, 1, b"{}"));
    feed.write(SERVER, 12, &response(1, END_STREAM, "201"));
    let report = feed.close(50);
    assert_eq!(report.seen, [http("POST", "/p", (10, 12), 201, [2, 0])]);
    for part in [
        "user_agent: Some(\"ua/1\")",
        "tracestate: Some(\"v=1\")",
        "span_id: [183, 173, 107, 113, 105, 32, 51, 49]",
    ] {
        assert!(report.details[0].contains(part), "{part}");
    }
}

/// Several Forwarded fields are one list (RFC 7239 § 4), which begins with the client.
#[test]
fn the_client_behind_proxies() {
    let mut feed = open();
    let more = [
        ("x-forwarded-for", "192.0.2.1"),
        ("forwarded", "for=192.0.2.2"),
        ("forwarded", "for=192.0.2.3"),
    ];
    feed.write(CLIENT, 10, &request(1, END_STREAM, "GET", "/p", &more));
    feed.write(SERVER, 12, &response(1, END_STREAM, "201"));
    let report = feed.close(50);
    assert!(
        report.details[0].contains("forwarded_for: Some(\"192.0.2.2\")"),
        "{:?}",
        report.details
    );
}

/// Forwarded goes before what else proxies say, in whatever order they come.
#[test]
fn what_was_asked_for_behind_proxies() {
    let x = [
        ("x-forwarded-host", "b.example"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-port", "444"),
    ];
    let standard = ("forwarded", "host=a.example;proto=https");
    let both = |port| format!("scheme: Some(\"https\"), authority: Some(\"a.example\"), port: {port}");
    for (more, expected) in [
        ([standard, x[0], x[1]], both("None")),
        ([x[0], x[1], standard], both("None")),
        ([x[2], standard, x[0]], both("Some(444)")),
        (
            x,
            "scheme: Some(\"http\"), authority: Some(\"b.example\"), port: Some(444)".to_owned(),
        ),
    ] {
        let mut feed = open();
        feed.write(CLIENT, 10, &request(1, END_STREAM, "GET", "/p", &more));
        feed.write(SERVER, 12, &response(1, END_STREAM, "201"));
        let report = feed.close(50);
        assert!(report.details[0].contains(&expected), "{:?}", report.details);
    }
}

#[test]
fn interim_responses_and_trailers() {
    let mut feed = open();
    feed.write(CLIENT, 10, &request(1, 0, "POST", "/p", &[]));
    feed.write(SERVER, 11, &headers(1, 0, &[(":status", "100")]));
    feed.write(CLIENT, 12, &frame(DATA, 0, 1, b"body"));
    feed.write(CLIENT, 13, &headers(1, END_STREAM, &[("checksum", "1")]));
    feed.write(SERVER, 14, &headers(1, 0, &[(":status", "103"), ("link", "x")]));
    feed.write(SERVER, 15, &response(1, 0, "200"));
    feed.write(SERVER, 16, &frame(DATA, 0, 1, b"abc"));
    feed.write(SERVER, 17, &headers(1, END_STREAM, &[("checksum", "2")]));
    let report = feed.close(50);
    assert_eq!(report.seen, [http("POST", "/p", (10, 17), 200, [4, 3])]);
    no_losses(&report);
}

#[test]
fn padding_priority_and_continuation() {
    let mut feed = open();
    let block = Encoder::plain(&[(":method", "GET"), (":scheme", "http"), (":path", "/padded")]);
    let mut payload = vec![3, 0, 0, 0, 0, 200];
    payload.extend(&block[..2]);
    payload.extend([0, 0, 0]);
    feed.write(
        CLIENT,
        10,
        &frame(HEADERS, END_STREAM | PADDED | HAS_PRIORITY, 1, &payload),
    );
    feed.write(CLIENT, 11, &frame(CONTINUATION, 0, 1, &[]));
    feed.write(CLIENT, 12, &frame(CONTINUATION, 0, 1, &block[2..5]));
    feed.write(CLIENT, 13, &frame(CONTINUATION, END_HEADERS, 1, &block[5..]));
    feed.write(CLIENT, 14, &frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9]));
    feed.write(SERVER, 15, &response(1, 0, "200"));
    feed.write(SERVER, 16, &frame(DATA, PADDED, 1, &[2, b'x', 0, 0]));
    feed.write(SERVER, 17, &frame(0xfa, 0xff, 1, b"unknown"));
    feed.write(SERVER, 18, &frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]));
    feed.write(SERVER, 19, &frame(PING, 0, 0, &[0; 8]));
    feed.write(SERVER, 20, &frame(DATA, PADDED | END_STREAM, 1, &[0]));
    let report = feed.close(50);
    assert_eq!(report.seen, [http("GET", "/padded", (10, 20), 200, [0, 1])]);
    no_losses(&report);
}

#[test]
fn both_tables_through_settings_and_their_acknowledgement() {
    let mut feed = Feed::new(true);
    let mut encoder = Encoder::new();
    let all = || Indexing::Incremental;
    feed.write(CLIENT, 1, PREFACE);
    feed.write(CLIENT, 1, &settings(&[(1, 100)]));
    feed.write(SERVER, 2, &settings(&[(1, 8192), (5, 1 << 20)]));
    feed.write(CLIENT, 3, &frame(SETTINGS, ACK, 0, &[]));
    encoder.resize(8192);
    let long = format!("/{}", "p".repeat(5000));
    for (n, path) in [long.as_str(), "/b", &long].into_iter().enumerate() {
        let fields = [(":method", "GET"), (":path", path)];
        let block = encoder.block(&fields, all);
        assert!(n < 2 || block.len() < 10);
        feed.write(
            CLIENT,
            10,
            &frame(HEADERS, END_HEADERS | END_STREAM, 1 + 2 * n as u32, &block),
        );
    }
    let mut encoder = Encoder::new();
    encoder.resize(100);
    for n in 0..3 {
        let block = encoder.block(&[(":status", "203"), ("etag", "01234567890123456789")], all);
        feed.write(
            SERVER,
            20,
            &frame(HEADERS, END_HEADERS | END_STREAM, 1 + 2 * n, &block),
        );
    }
    // The server may send larger frames only if the client says so, the client has been told so.
    feed.write(CLIENT, 30, &request(7, 0, "PUT", "/big", &[]));
    feed.write(CLIENT, 31, &frame(DATA, END_STREAM, 7, &vec![7; 100_000]));
    feed.write(SERVER, 32, &response(7, END_STREAM, "200"));
    let report = feed.close(50);
    no_losses(&report);
    let expected: Vec<_> = [&long, "/b", &long]
        .map(|path| http("GET", path, (10, 20), 203, [0, 0]))
        .into();
    assert_eq!(report.seen[..3], expected);
    assert_eq!(report.seen[3], http("PUT", "/big", (30, 32), 200, [100_000, 0]));
}

#[test]
fn what_exceeds_the_settings_is_refused() {
    let mut feed = open();
    feed.write(CLIENT, 10, &get(1, "/a"));
    feed.write(SERVER, 11, &response(1, 0, "200"));
    feed.write(SERVER, 12, &frame(DATA, END_STREAM, 1, &vec![0; (1 << 14) + 1]));
    feed.tick(1_000_000_000);
    let report = feed.close(50);
    assert!(report.seen.is_empty());
    assert_eq!(report.loss(Loss::Refused), 1);
    assert_eq!(report.loss(Loss::UnpairedRequest), 1);

    let mut feed = open();
    let mut encoder = Encoder::new();
    encoder.resize(4097);
    let block = encoder.block(&[(":method", "GET"), (":path", "/")], || Indexing::Without);
    feed.write(CLIENT, 10, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &block));
    feed.tick(1_000_000_000);
    assert_eq!(feed.close(50).loss(Loss::Refused), 1);
}

#[test]
fn pushed_responses() {
    let mut feed = open();
    let mut encoder = Encoder::new();
    let all = || Indexing::Incremental;
    feed.write(CLIENT, 10, &get(1, "/page"));
    let mut promise = vec![0, 0, 0, 2];
    promise.extend(encoder.block(&[(":method", "GET"), (":path", "/style"), ("x", "203")], all));
    feed.write(SERVER, 11, &frame(PUSH_PROMISE, END_HEADERS, 1, &promise));
    let answer = encoder.block(&[(":status", "201")], all);
    feed.write(SERVER, 12, &frame(HEADERS, END_HEADERS, 2, &answer));
    feed.write(SERVER, 13, &frame(DATA, END_STREAM, 2, b"css"));
    let answer = encoder.block(&[(":status", "201"), ("x", "203")], all);
    assert_eq!(answer.len(), 2, "both from the table");
    feed.write(SERVER, 14, &frame(HEADERS, END_HEADERS | END_STREAM, 1, &answer));
    let report = feed.close(50);
    assert_eq!(report.seen, [http("GET", "/page", (10, 14), 201, [0, 0])]);
    no_losses(&report);
}

#[test]
fn resets() {
    let mut feed = open();
    for (n, code) in [8, 7, 0, 99].into_iter().enumerate() {
        let stream = 1 + 2 * n as u32;
        feed.write(CLIENT, 10, &request(stream, 0, "POST", "/r", &[]));
        if n == 1 {
            feed.write(SERVER, 15, &response(stream, 0, "200"));
        }
        let by = if n == 0 { CLIENT } else { SERVER };
        feed.write(by, 20, &reset(stream, code));
    }
    let report = feed.close(50);
    let errors: Vec<_> = report
        .seen
        .iter()
        .map(|seen| (seen.error.as_deref().unwrap(), seen.status, seen.end))
        .collect();
    assert_eq!(
        errors,
        [
            ("CANCEL", None, 20),
            ("REFUSED_STREAM", Some(200), 20),
            ("NO_ERROR", None, 20),
            ("_OTHER", None, 20)
        ]
    );
}

#[test]
fn resets_after_a_complete_response() {
    let mut feed = open();
    for (stream, code) in [(1, 0), (3, 8)] {
        feed.write(CLIENT, 10, &request(stream, 0, "POST", "/r", &[]));
        feed.write(SERVER, 15, &response(stream, END_STREAM, "413"));
        feed.write(SERVER, 20, &reset(stream, code));
        // Frames that were on their way: whether they come before the reset is chance.
        feed.write(CLIENT, 21, &frame(DATA, END_STREAM, stream, b"late"));
    }
    feed.write(CLIENT, 30, &get(5, "/done"));
    feed.write(SERVER, 31, &response(5, END_STREAM, "200"));
    feed.write(CLIENT, 32, &reset(5, 8));
    let report = feed.close(50);
    let seen: Vec<_> = report
        .seen
        .iter()
        .map(|seen| (seen.error.as_deref(), seen.status, seen.end, seen.sizes))
        .collect();
    assert_eq!(
        seen,
        [
            (None, Some(413), 15, [Some(4), Some(0)]),
            (Some("CANCEL"), Some(413), 15, [Some(4), Some(0)]),
            (None, Some(200), 31, [Some(0), Some(0)])
        ]
    );
    no_losses(&report);
}

/// A server that has answered stops the request: what is on its way is waited for, but not for long.
#[test]
fn a_request_that_is_stopped() {
    const SECOND: u64 = 1_000_000_000;
    let stopped = |feed: &mut Feed, stream, end| {
        feed.write(CLIENT, end - 1, &request(stream, 0, "POST", "/r", &[]));
        feed.write(SERVER, end, &response(stream, END_STREAM, "413"));
        feed.write(SERVER, end + 1, &reset(stream, 0));
    };
    let mut feed = open();
    stopped(&mut feed, 1, 10);
    stopped(&mut feed, 3, 20);
    assert_eq!(feed.report.seen.len(), 0, "the rest can be on its way");
    feed.write(CLIENT, SECOND, &frame(PING, ACK, 0, &[0; 8]));
    assert_eq!(feed.report.seen.len(), 2, "it did not come");
    // Frames from long before are of no interest.
    feed.write(CLIENT, SECOND, &frame(DATA, END_STREAM, 1, b"late"));
    // A client that heard of it in time resets, too.
    stopped(&mut feed, 5, 2 * SECOND);
    feed.write(CLIENT, 2 * SECOND + 2, &reset(5, 8));
    assert_eq!(feed.report.seen.len(), 3);
    stopped(&mut feed, 7, 3 * SECOND);
    let report = feed.close(4 * SECOND);
    let seen: Vec<_> = report
        .seen
        .iter()
        .map(|seen| (seen.error.as_deref(), seen.status, seen.end, seen.sizes[0]))
        .collect();
    let ends = [10, 20, 2 * SECOND, 3 * SECOND];
    assert_eq!(seen, ends.map(|end| (None, Some(413), end, None)));
    no_losses(&report);

    let mut feed = open();
    stopped(&mut feed, 1, 10);
    let report = feed.abandon();
    assert_eq!(report.seen.len(), 1);
    no_losses(&report);
}

#[test]
fn a_response_before_the_request_has_ended() {
    let mut feed = open();
    feed.write(CLIENT, 10, &request(1, 0, "POST", "/early", &[]));
    feed.write(SERVER, 11, &response(1, END_STREAM, "200"));
    feed.write(CLIENT, 12, &frame(DATA, END_STREAM, 1, b"123"));
    feed.write(CLIENT, 13, &request(3, 0, "POST", "/never", &[]));
    feed.write(SERVER, 14, &response(3, END_STREAM, "200"));
    let report = feed.close(50);
    let mut never = http("POST", "/never", (13, 14), 200, [0, 0]);
    never.sizes[0] = None;
    assert_eq!(
        report.seen,
        [http("POST", "/early", (10, 11), 200, [3, 0]), never]
    );
}

#[test]
fn closed_before_the_response() {
    let mut feed = open();
    feed.write(CLIENT, 10, &get(1, "/a"));
    feed.write(CLIENT, 11, &get(3, "/b"));
    feed.write(SERVER, 12, &response(3, 0, "500"));
    let report = feed.close(50);
    let seen: Vec<_> = report
        .seen
        .iter()
        .map(|seen| (seen.error.as_deref(), seen.status, seen.end))
        .collect();
    assert_eq!(
        seen,
        [
            (Some("connection_closed"), None, 50),
            (Some("connection_closed"), Some(500), 50)
        ]
    );
}

#[test]
fn not_closed_or_never_answered_is_unfinished() {
    let mut feed = open();
    feed.write(CLIENT, 10, &get(1, "/a"));
    let report = feed.abandon();
    assert!(report.seen.is_empty());
    assert_eq!(report.loss(Loss::Unfinished), 1);

    let mut feed = Feed::new(true);
    feed.write(CLIENT, 1, PREFACE);
    feed.write(CLIENT, 2, &settings(&[]));
    feed.write(CLIENT, 10, &get(1, "/a"));
    let report = feed.close(50);
    assert!(report.seen.is_empty());
    assert_eq!(report.loss(Loss::Unfinished), 1);
}

#[test]
fn goaway_with_requests_in_flight() {
    let mut feed = open();
    for stream in [1, 3, 5] {
        feed.write(CLIENT, 10, &get(stream, "/g"));
    }
    let mut payload = vec![0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    feed.write(SERVER, 20, &frame(GOAWAY, 0, 0, &payload));
    payload = vec![0, 0, 0, 3, 0, 0, 0, 0];
    payload.extend(b"debug data");
    feed.write(SERVER, 21, &frame(GOAWAY, 0, 0, &payload));
    for stream in [1, 3] {
        feed.write(SERVER, 30, &response(stream, END_STREAM, "200"));
    }
    let report = feed.close(50);
    let seen: Vec<_> = report
        .seen
        .iter()
        .map(|seen| (seen.error.as_deref(), seen.end))
        .collect();
    assert_eq!(seen, [(Some("connection_closed"), 21), (None, 30), (None, 30)]);
}

#[test]
fn connect_ends_with_its_2xx() {
    let mut feed = open();
    let fields = [(":method", "CONNECT"), (":authority", "db.example:5432")];
    feed.write(CLIENT, 10, &headers(1, 0, &fields));
    feed.write(SERVER, 11, &response(1, 0, "200"));
    feed.write(CLIENT, 12, &frame(DATA, 0, 1, b"tunnelled"));
    feed.write(SERVER, 13, &frame(DATA, END_STREAM, 1, b"too"));
    feed.write(CLIENT, 14, &headers(3, 0, &fields));
    feed.write(SERVER, 15, &response(3, END_STREAM, "403"));
    let report = feed.close(50);
    let seen: Vec<_> = report
        .seen
        .iter()
        .map(|seen| (seen.status, seen.path.clone(), seen.end, seen.error.clone()))
        .collect();
    assert_eq!(seen, [(Some(200), None, 11, None), (Some(403), None, 15, None)]);
    no_losses(&report);
}

/// RFC 8441.
#[test]
fn a_websocket_on_a_stream() {
    let mut feed = open();
    let fields = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/chat"),
        (":authority", "a.example"),
    ];
    feed.write(CLIENT, 10, &headers(1, 0, &fields));
    feed.write(SERVER, 11, &response(1, 0, "200"));
    feed.write(CLIENT, 12, &frame(DATA, 0, 1, b"1234"));
    assert_eq!(feed.report.sessions, 1);
    feed.write(SERVER, 13, &frame(DATA, END_STREAM, 1, b"12"));
    feed.write(CLIENT, 14, &frame(DATA, END_STREAM, 1, b"1"));
    let report = feed.close(50);
    assert_eq!(report.sessions, 0);
    assert_eq!(report.seen[0].status, Some(200));
    assert_eq!(
        report.seen[1],
        Seen {
            start: 11,
            end: 14,
            path: Some("/chat".to_owned()),
            sizes: [Some(5), Some(2)],
            kind: "websocket",
            ..Seen::default()
        }
    );
}

#[test]
fn a_malformed_request_is_refused_and_the_rest_goes_on() {
    let mut feed = open();
    feed.write(CLIENT, 10, &headers(1, END_STREAM, &[(":path", "/no-method")]));
    feed.write(CLIENT, 10, &request(3, END_STREAM, "GET", "/white space", &[]));
    feed.write(CLIENT, 10, &request(5, END_STREAM, "G E T", "/", &[]));
    feed.write(CLIENT, 11, &get(7, "/good"));
    for stream in [1, 3, 5] {
        feed.write(SERVER, 12, &reset(stream, 1));
    }
    feed.write(SERVER, 13, &response(7, END_STREAM, "200"));
    let report = feed.close(50);
    assert_eq!(report.seen, [http("GET", "/good", (11, 13), 200, [0, 0])]);
    assert_eq!(report.loss(Loss::Refused), 3);
}

#[test]
fn floods() {
    // Fields without end.
    let mut feed = open();
    feed.write(CLIENT, 10, &frame(HEADERS, END_STREAM, 1, &[0x82]));
    for _ in 0..200 {
        feed.write(CLIENT, 10, &frame(CONTINUATION, 0, 1, &[0x84; 10_000]));
    }
    feed.write(CLIENT, 10, &frame(CONTINUATION, END_HEADERS, 1, &[]));
    feed.write(SERVER, 11, &response(1, END_STREAM, "200"));
    let report = feed.close(50);
    assert!(report.seen.is_empty());
    assert_eq!(report.loss(Loss::Refused), 1);

    // A frame of fields that is too large to be looked at: nor is what looks like a request within.
    let mut feed = Feed::new(true);
    feed.write(CLIENT, 1, PREFACE);
    feed.write(CLIENT, 1, &settings(&[]));
    feed.write(SERVER, 2, &settings(&[(5, 1 << 20)]));
    feed.write(CLIENT, 3, &frame(SETTINGS, ACK, 0, &[]));
    let large = frame(HEADERS, END_HEADERS | END_STREAM, 1, &vec![0x84; 200_000]);
    feed.write(CLIENT, 10, &large[..150_000]);
    let inside = get(3, "/inside");
    feed.write(CLIENT, 10, &inside);
    feed.write(CLIENT, 10, &large[150_000 + inside.len()..]);
    feed.write(SERVER, 11, &response(1, END_STREAM, "431"));
    feed.write(CLIENT, 12, &get(3, "/next"));
    feed.write(SERVER, 13, &response(3, END_STREAM, "200"));
    let report = feed.close(50);
    assert_eq!(report.seen, [http("GET", "/next", (12, 13), 200, [0, 0])]);
    assert_eq!(report.loss(Loss::Refused), 1);

    // One long field, again and again: the first mebibyte is looked at, and the table is still in step.
    let mut feed = open();
    let mut encoder = Encoder::new();
    let long = format!("for={}", "1".repeat(3000));
    let fields = [(":method", "GET"), (":path", "/long"), ("forwarded", &long)];
    let mut block = encoder.block(&fields, || Indexing::Incremental);
    block.extend(vec![0xbe; 16_000]);
    block.extend(encoder.block(&[("user-agent", "last")], || Indexing::Incremental));
    let (first, rest) = block.split_at(10_000);
    feed.write(CLIENT, 10, &frame(HEADERS, END_STREAM, 1, first));
    feed.write(CLIENT, 10, &frame(CONTINUATION, END_HEADERS, 1, rest));
    let block = encoder.block(
        &[(":method", "GET"), (":path", "/long"), ("user-agent", "last")],
        || Indexing::Without,
    );
    assert_eq!(block.len(), 3);
    feed.write(CLIENT, 11, &frame(HEADERS, END_HEADERS | END_STREAM, 3, &block));
    for stream in [1, 3] {
        feed.write(SERVER, 12, &response(stream, END_STREAM, "431"));
    }
    let report = feed.close(50);
    assert_eq!(
        report.seen,
        [10, 11].map(|start| http("GET", "/long", (start, 12), 431, [0, 0]))
    );
    assert!(!report.details[0].contains("last"), "beyond the mebibyte");
    assert!(report.details[1].contains("user_agent: Some(\"last\")"));

    // Streams without end.
    let mut feed = open();
    for n in 0..10_000 {
        feed.write(CLIENT, 10, &get(2 * n + 1, "/"));
    }
    feed.write(SERVER, 11, &response(19_999, END_STREAM, "200"));
    let report = feed.abandon();
    assert_eq!(report.seen.len(), 1);
    assert!(report.loss(Loss::Evicted) > 0);
    assert_eq!(report.loss(Loss::Evicted) + report.loss(Loss::Unfinished), 9_999);
}

#[test]
fn no_http2_after_all() {
    let mut feed = Feed::new(true);
    feed.write(CLIENT, 1, PREFACE);
    feed.write(CLIENT, 1, &settings(&[]));
    feed.write(SERVER, 2, b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let report = feed.close(50);
    assert!(report.seen.is_empty());
    assert_eq!(report.loss(Loss::Refused), 1);
}

#[test]
fn bodies_are_needs() {
    let mut feed = open();
    feed.write(CLIENT, 10, &get(1, "/"));
    feed.write(SERVER, 11, &response(1, 0, "200"));
    let body = frame(DATA, END_STREAM, 1, &[1; 16_000]);
    feed.write(SERVER, 12, &body[..100]);
    assert_eq!(feed.report.needs, 1);
    feed.write(SERVER, 13, &body[100..]);
    let report = feed.close(50);
    assert_eq!(report.seen, [http("GET", "/", (10, 13), 200, [0, 16_000])]);
}

/// A response that comes through before its request does.
#[test]
fn a_request_that_is_late() {
    let mut feed = open();
    let request = get(1, "/late");
    feed.write(CLIENT, 10, &request[..5]);
    feed.write(SERVER, 20, &response(1, END_STREAM, "200"));
    feed.write(CLIENT, 10, &request[5..]);
    assert_eq!(feed.report.seen, [http("GET", "/late", (10, 20), 200, [0, 0])]);

    // Never seen, and then too late.
    feed.write(SERVER, 30, &response(3, END_STREAM, "200"));
    feed.tick(1_000_000_000);
    assert_eq!(feed.report.loss(Loss::UnpairedResponse), 1);
    feed.write(CLIENT, 31, &get(3, "/too-late"));
    feed.write(CLIENT, 32, &get(5, "/next"));
    feed.write(SERVER, 33, &response(5, END_STREAM, "200"));
    let report = feed.close(50);
    assert_eq!(report.seen[1..], [http("GET", "/next", (32, 33), 200, [0, 0])]);
    assert_eq!(report.loss(Loss::UnpairedRequest), 1);
}

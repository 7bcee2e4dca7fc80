//! gRPC calls of all kinds.

use crate::encoder::*;
use crate::harness::{CLIENT, Feed, SERVER, Seen};
use crate::matching::{headers, open, request, response};
use redwire_protocol::record::grpc::Status;

const CONTENT: [Field<'static>; 2] = [("content-type", "application/grpc"), ("te", "trailers")];

fn call(stream: u32) -> Vec<u8> {
    request(stream, 0, "POST", "/pkg.Service/Do", &CONTENT)
}

fn answer(stream: u32) -> Vec<u8> {
    headers(
        stream,
        0,
        &[(":status", "200"), ("content-type", "application/grpc")],
    )
}

fn trailers(stream: u32, status: &str) -> Vec<u8> {
    headers(
        stream,
        END_STREAM,
        &[("grpc-status", status), ("grpc-message", "m")],
    )
}

fn expected(times: (u64, u64), status: Status, messages: [(u64, u64); 2]) -> Seen {
    Seen {
        start: times.0,
        end: times.1,
        method: Some("pkg.Service".to_owned()),
        path: Some("Do".to_owned()),
        status: Some(status.0),
        messages: messages.map(Some),
        kind: "grpc",
        ..Seen::default()
    }
}

#[test]
fn unary() {
    let mut feed = open();
    feed.write(CLIENT, 10, &call(1));
    feed.write(CLIENT, 11, &frame(DATA, END_STREAM, 1, &message(7)));
    feed.write(SERVER, 12, &answer(1));
    feed.write(SERVER, 13, &frame(DATA, 0, 1, &message(0)));
    feed.write(SERVER, 14, &trailers(1, "0"));
    assert_eq!(
        feed.close(50).seen,
        [expected((10, 14), Status::OK, [(1, 7), (1, 0)])]
    );
}

/// Messages over many DATA frames and several in one, with padding, cut anywhere.
#[test]
fn messages_and_frames_do_not_match() {
    for cut in 1..40 {
        let mut feed = open();
        feed.write(CLIENT, 10, &call(1));
        let mut messages = message(40);
        messages.extend(message(0));
        messages.extend(message(3));
        messages.extend(message(20));
        let mut bytes = Vec::new();
        for piece in messages.chunks(13) {
            let mut padded = vec![4];
            padded.extend(piece);
            padded.extend([0; 4]);
            bytes.extend(frame(DATA, PADDED, 1, &padded));
        }
        bytes.extend(frame(DATA, END_STREAM, 1, &[]));
        for piece in bytes.chunks(cut) {
            feed.write(CLIENT, 11, piece);
        }
        feed.write(SERVER, 12, &answer(1));
        feed.write(SERVER, 14, &trailers(1, "3"));
        assert_eq!(
            feed.close(50).seen,
            [expected((10, 14), Status(3), [(4, 63), (0, 0)])]
        );
    }
}

#[test]
fn without_grpc_status() {
    // (what the server sends, what the call ended with)
    let trailers_only = |status, grpc| {
        headers(
            1,
            END_STREAM,
            &[
                (":status", status),
                ("content-type", "application/grpc"),
                ("grpc-status", grpc),
            ],
        )
    };
    let mut ended = answer(1);
    ended.extend(frame(DATA, END_STREAM, 1, &[]));
    for (bytes, status) in [
        (trailers_only("200", "12"), Status::UNIMPLEMENTED),
        (trailers_only("200", "4"), Status(4)),
        (ended, Status::UNKNOWN),
        (response(1, END_STREAM, "404"), Status::UNIMPLEMENTED),
        (response(1, END_STREAM, "503"), Status::UNAVAILABLE),
        (response(1, END_STREAM, "401"), Status::UNAUTHENTICATED),
        (reset(1, 8), Status::CANCELLED),
        (reset(1, 7), Status::UNAVAILABLE),
        (reset(1, 11), Status::RESOURCE_EXHAUSTED),
        (reset(1, 12), Status::PERMISSION_DENIED),
        (reset(1, 0), Status::INTERNAL),
        // The client ends the call with the status of HTTP, and resets.
        (
            [response(1, 0, "404"), reset(1, 2)].concat(),
            Status::UNIMPLEMENTED,
        ),
        ([response(1, 0, "503"), reset(1, 8)].concat(), Status::UNAVAILABLE),
        ([answer(1), reset(1, 8)].concat(), Status::CANCELLED),
    ] {
        let mut feed = open();
        feed.write(CLIENT, 10, &call(1));
        feed.write(CLIENT, 11, &frame(DATA, END_STREAM, 1, &message(1)));
        feed.write(SERVER, 12, &bytes);
        assert_eq!(
            feed.close(50).seen,
            [expected((10, 12), status, [(1, 1), (0, 0)])]
        );
    }
}

#[test]
fn cancelled_by_the_client() {
    let mut feed = open();
    feed.write(CLIENT, 10, &call(1));
    feed.write(SERVER, 11, &answer(1));
    feed.write(SERVER, 12, &frame(DATA, 0, 1, &message(5)));
    // A message that was begun does not count.
    feed.write(SERVER, 13, &frame(DATA, 0, 1, &message(100)[..50]));
    feed.write(CLIENT, 14, &reset(1, 8));
    let report = feed.close(50);
    assert_eq!(
        report.seen,
        [expected((10, 14), Status::CANCELLED, [(0, 0), (1, 5)])]
    );
    assert!(report.details[0].contains("reset: Some(\"CANCEL\")"));
}

/// Nor one of which the begin of a frame has come, though its middle is not looked at.
#[test]
fn cancelled_within_a_message() {
    for cut in [9 + 5, 9 + 6, 9 + 104] {
        for flags in [0, END_STREAM] {
            let mut feed = open();
            feed.write(CLIENT, 10, &call(1));
            feed.write(SERVER, 11, &answer(1));
            feed.write(SERVER, 12, &frame(DATA, flags, 1, &message(100))[..cut]);
            feed.write(CLIENT, 14, &reset(1, 8));
            assert_eq!(
                feed.close(50).seen,
                [expected((10, 14), Status::CANCELLED, [(0, 0), (0, 0)])],
                "{cut}"
            );
        }
    }
}

/// A page of a proxy with status 200 cannot become a response of gRPC: the call failed with it, not with the reset.
#[test]
fn a_page_before_a_reset() {
    let mut feed = open();
    feed.write(CLIENT, 10, &call(1));
    let page = headers(1, 0, &[(":status", "200"), ("content-type", "text/html")]);
    feed.write(SERVER, 11, &page);
    feed.write(CLIENT, 12, &reset(1, 8));
    assert_eq!(feed.close(50).seen[0].status, Some(Status::UNKNOWN.0));
}

/// A reset that comes when the call's time is over, or so nearly that the client's clock may have said so, of which the
/// header may be rounded up by a millisecond.
#[test]
fn deadline() {
    for (end, status) in [
        (8_100_009, Status::CANCELLED),
        (8_100_010, Status::DEADLINE_EXCEEDED),
    ] {
        let mut feed = open();
        let fields = [CONTENT[0], ("grpc-timeout", "10m")];
        feed.write(
            CLIENT,
            10,
            &request(1, END_STREAM, "POST", "/pkg.Service/Do", &fields),
        );
        feed.write(CLIENT, end, &reset(1, 8));
        // The server is seen, too.
        feed.write(SERVER, end + 1, &frame(PING, 0, 0, &[0; 8]));
        assert_eq!(
            feed.close(end + 2).seen,
            [expected((10, end), status, [(0, 0), (0, 0)])]
        );
    }
}

/// The status of the trailers stands, whatever comes after them.
#[test]
fn reset_after_the_trailers() {
    let mut feed = open();
    feed.write(CLIENT, 10, &call(1));
    feed.write(SERVER, 11, &answer(1));
    feed.write(SERVER, 12, &trailers(1, "0"));
    feed.write(CLIENT, 13, &reset(1, 8));
    assert_eq!(
        feed.close(50).seen,
        [expected((10, 12), Status::OK, [(0, 0), (0, 0)])]
    );
}

/// Trailers that do not end the stream are malformed (RFC 9113 § 8.1): what they say does not count, nor does it
/// disturb other streams.
#[test]
fn trailers_that_do_not_end() {
    let mut feed = open();
    for stream in [1, 3] {
        feed.write(CLIENT, 10, &call(stream));
        feed.write(CLIENT, 11, &frame(DATA, END_STREAM, stream, &message(7)));
        feed.write(SERVER, 12, &answer(stream));
        feed.write(SERVER, 13, &headers(stream, 0, &[("grpc-status", "0")]));
    }
    // A client that goes by the rules, and one that does not.
    feed.write(CLIENT, 14, &reset(1, 1));
    feed.write(SERVER, 15, &frame(DATA, END_STREAM, 3, &message(2)));
    feed.write(
        CLIENT,
        16,
        &request(5, END_STREAM, "POST", "/pkg.Service/Do", &CONTENT),
    );
    feed.write(SERVER, 17, &answer(5));
    feed.write(SERVER, 18, &trailers(5, "0"));
    assert_eq!(
        feed.close(50).seen,
        [
            expected((10, 14), Status::INTERNAL, [(1, 7), (0, 0)]),
            expected((10, 15), Status::UNKNOWN, [(1, 7), (1, 2)]),
            expected((16, 18), Status::OK, [(0, 0), (0, 0)]),
        ]
    );
}

#[test]
fn lost_with_the_connection() {
    let mut feed = open();
    feed.write(CLIENT, 10, &call(1));
    feed.write(SERVER, 11, &answer(1));
    let mut seen = expected((10, 50), Status::UNAVAILABLE, [(0, 0), (0, 0)]);
    seen.error = Some("connection_closed".to_owned());
    assert_eq!(feed.close(50).seen, [seen]);

    let mut feed = open();
    feed.write(CLIENT, 10, &call(1));
    feed.write(CLIENT, 10, &call(3));
    feed.write(SERVER, 20, &frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]));
    feed.write(SERVER, 21, &answer(1));
    feed.write(SERVER, 22, &trailers(1, "0"));
    let mut seen = expected((10, 20), Status::UNAVAILABLE, [(0, 0), (0, 0)]);
    seen.error = Some("connection_closed".to_owned());
    feed.write(CLIENT, 23, &frame(DATA, END_STREAM, 1, &[]));
    assert_eq!(
        feed.close(50).seen,
        [seen, expected((10, 22), Status::OK, [(0, 0), (0, 0)])]
    );
}

/// Its trailers are in the body.
#[test]
fn grpc_web() {
    let mut feed = open();
    let web = [("content-type", "application/grpc-web+proto")];
    feed.write(CLIENT, 10, &request(1, 0, "POST", "/pkg.Service/Do", &web));
    feed.write(CLIENT, 11, &frame(DATA, END_STREAM, 1, &message(7)));
    let mut fields = vec![(":status", "200")];
    fields.extend(web);
    feed.write(SERVER, 12, &headers(1, 0, &fields));
    let mut body = message(9);
    body.extend([0x80, 0, 0, 0, 15]);
    body.extend(b"grpc-status:5\r\n");
    let bytes = frame(DATA, END_STREAM, 1, &body);
    for piece in bytes.chunks(4) {
        feed.write(SERVER, 13, piece);
    }
    assert_eq!(
        feed.close(50).seen,
        [expected((10, 13), Status(5), [(1, 7), (1, 9)])]
    );
}

/// A hole takes the counters of the streams with it, not the calls.
#[test]
fn messages_behind_a_hole_are_not_known() {
    let mut feed: Feed = open();
    feed.write(CLIENT, 10, &call(1));
    feed.write(CLIENT, 11, &frame(DATA, END_STREAM, 1, &message(1)));
    feed.write(SERVER, 12, &answer(1));
    feed.miss(SERVER, frame(DATA, 0, 1, &message(5)).len());
    let mut bytes = frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 9]);
    bytes.extend(trailers(1, "0"));
    feed.write(SERVER, 14, &bytes);
    let mut seen = expected((10, 14), Status::OK, [(1, 1), (0, 0)]);
    seen.messages[1] = None;
    assert_eq!(feed.close(50).seen, [seen]);
}

/// A long call tells its messages at most once a second, all of them once.
#[test]
fn messages_are_told_while_the_call_is_open() {
    const SECOND: u64 = 1_000_000_000;
    let mut feed = open();
    feed.write(CLIENT, 10, &call(1));
    feed.write(SERVER, 10, &answer(1));
    for n in 0..1000 {
        let time = 10 + n * SECOND / 100;
        feed.write(CLIENT, time, &frame(DATA, 0, 1, &message(3)));
        feed.write(SERVER, time, &frame(DATA, 0, 1, &message(5)));
    }
    let told = feed.report.messages.len();
    assert!((9..=10).contains(&told), "{told} in ten seconds");
    feed.write(CLIENT, 10 * SECOND, &frame(DATA, END_STREAM, 1, &[]));
    feed.write(SERVER, 10 * SECOND, &trailers(1, "0"));
    let report = feed.close(11 * SECOND);
    assert_eq!(
        report.seen,
        [expected(
            (10, 10 * SECOND),
            Status::OK,
            [(1000, 3000), (1000, 5000)]
        )]
    );
    for (way, bytes) in [(0, 3000), (1, 5000)] {
        let sum = report
            .messages
            .iter()
            .fold((0, 0), |sum, new| (sum.0 + new[way].0, sum.1 + new[way].1));
        assert_eq!(sum, (1000, bytes));
    }
}

/// gRPC-Web (doc/PROTOCOL-WEB.md) over HTTP/2: the status stands in the trailers frame, or in the head of a response
/// without messages, whose stream may end in a frame of its own.
#[test]
fn web() {
    const WEB: (&str, &str) = ("content-type", "application/grpc-web+proto");
    let head = |flags, status: Option<&'static str>| {
        let mut fields = vec![(":status", "200"), WEB];
        fields.extend(status.map(|status| ("grpc-status", status)));
        headers(1, flags, &fields)
    };
    let trailers = |flags: u8, payload: &[u8]| {
        let prefix = [flags, 0, 0, 0, payload.len() as u8];
        frame(DATA, END_STREAM, 1, &[&prefix[..], payload].concat())
    };
    let end = || frame(DATA, END_STREAM, 1, &[]);
    for (bytes, status) in [
        (
            [head(0, None), trailers(0x80, b"grpc-status:5\r\n")].concat(),
            Some(5),
        ),
        ([head(0, Some("5")), end()].concat(), Some(5)),
        (head(END_STREAM, Some("5")), Some(5)),
        (
            [head(0, None), trailers(0x80, b"grpc-message:m\r\n")].concat(),
            Some(2),
        ),
        ([head(0, None), end()].concat(), Some(2)),
        // Compressed, but not in a way that shows itself.
        (
            [head(0, None), trailers(0x81, b"grpc-status:5\r\n")].concat(),
            None,
        ),
    ] {
        let mut feed = open();
        feed.write(CLIENT, 10, &request(1, 0, "POST", "/pkg.Service/Do", &[WEB]));
        feed.write(CLIENT, 11, &frame(DATA, END_STREAM, 1, &message(1)));
        feed.write(SERVER, 12, &bytes);
        let seen = feed.close(50).seen;
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].kind, seen[0].status), ("grpc", status), "{bytes:?}");
    }
}

//! Connections that are older than the observation, and holes.

use crate::encoder::*;
use crate::harness::{CLIENT, Feed, SERVER, Seen};
use crate::matching::{get, headers, http, open, request, response};
use redwire_protocol::loss::Loss;

const ALL: fn() -> Indexing = || Indexing::Incremental;

fn get_block(encoder: &mut Encoder, path: &str) -> Vec<u8> {
    encoder.block(
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "a.example"),
        ],
        ALL,
    )
}

fn send(feed: &mut Feed, time: u64, stream: u32, block: &[u8]) {
    feed.write(
        CLIENT,
        time,
        &frame(HEADERS, END_HEADERS | END_STREAM, stream, block),
    );
    feed.write(SERVER, time + 1, &response(stream, END_STREAM, "200"));
}

#[test]
fn names_recover_as_entries_are_inserted() {
    let mut encoder = Encoder::new();
    for path in ["/old", "/older"] {
        get_block(&mut encoder, path);
    }
    let mut feed = Feed::new(false);
    for (n, path) in ["/old", "/new", "/old", "/new", "/older"].into_iter().enumerate() {
        let block = get_block(&mut encoder, path);
        send(&mut feed, 10 * n as u64 + 10, 1001 + 2 * n as u32, &block);
    }
    let report = feed.close(100);
    let paths: Vec<_> = report.seen.iter().map(|seen| seen.path.as_deref()).collect();
    assert_eq!(paths, [None, Some("/new"), None, Some("/new"), None]);
    let of = |n: usize| (report.seen[n].start, report.seen[n].end, report.seen[n].status);
    assert_eq!(of(4), (50, 51, Some(200)));
}

/// What is answered was asked before we came.
#[test]
fn a_response_from_before_pairs_with_nothing() {
    let mut feed = Feed::new(false);
    feed.write(SERVER, 10, &response(5, 0, "200"));
    feed.write(SERVER, 11, &frame(DATA, END_STREAM, 5, b"old"));
    feed.write(CLIENT, 12, &get(7, "/new"));
    feed.write(SERVER, 13, &response(3, END_STREAM, "500"));
    feed.write(SERVER, 14, &response(7, END_STREAM, "200"));
    let report = feed.close(100);
    assert_eq!(report.seen, [http("GET", "/new", (12, 14), 200, [0, 0])]);
    assert_eq!(report.loss(Loss::UnpairedResponse), 2);
}

/// Trailers of a request from before begin none.
#[test]
fn trailers_from_before_are_no_request() {
    let mut feed = Feed::new(false);
    feed.write(CLIENT, 10, &get(9, "/new"));
    feed.write(CLIENT, 11, &headers(7, END_STREAM, &[("checksum", "1")]));
    feed.write(SERVER, 12, &response(7, END_STREAM, "200"));
    feed.write(SERVER, 13, &response(9, END_STREAM, "200"));
    let report = feed.close(100);
    assert_eq!(report.seen, [http("GET", "/new", (10, 13), 200, [0, 0])]);
}

/// A body is no place to begin, even if it looks like it for a while.
#[test]
fn frames_within_a_body() {
    let inner = get(1_000_001, "/inner");
    let mut body = vec![0x55; 500];
    body.extend(&inner[..inner.len() - 3]);
    body.extend([0xff; 600]);
    let outer = frame(DATA, END_STREAM, 7, &body);
    let mut feed = Feed::new(false);
    // A chunk begins right where the frame in the body does.
    feed.write(CLIENT, 10, &outer[400..509]);
    feed.write(CLIENT, 11, &outer[509..]);
    feed.write(CLIENT, 12, &get(9, "/new"));
    feed.write(SERVER, 13, &response(9, END_STREAM, "200"));
    let report = feed.close(100);
    assert_eq!(report.seen, [http("GET", "/new", (12, 13), 200, [0, 0])]);
}

/// A request whose one write holds a DATA frame larger than SETTINGS_MAX_FRAME_SIZE's initial value: of grpc-core's size.
#[test]
fn a_large_frame_behind_a_hole() {
    let post = |stream| {
        [
            request(stream, 0, "POST", "/p", &[]),
            frame(DATA, END_STREAM, stream, &[b'x'; 30_000]),
        ]
        .concat()
    };
    for fresh in [true, false] {
        let mut feed = if fresh { open() } else { Feed::new(false) };
        feed.write(SERVER, 3, &settings(&[(5, 1 << 22)]));
        if fresh {
            feed.miss(CLIENT, 1000);
        }
        for stream in [5, 7] {
            feed.write(CLIENT, 10, &post(stream));
        }
        feed.tick(1_000_000_000);
        for stream in [5, 7] {
            feed.write(SERVER, 1_000_000_001, &response(stream, END_STREAM, "200"));
        }
        let seen = http("POST", "/p", (10, 1_000_000_001), 200, [30_000, 0]);
        assert_eq!(feed.close(2_000_000_000).seen, [seen.clone(), seen], "{fresh}");
    }
}

/// A header block of half a megabyte in CONTINUATION frames, which Go's servers take, costs nothing.
#[test]
fn a_large_header_block() {
    let mut feed = open();
    let mut client = Encoder::new();
    let long = "x".repeat(500_000);
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/long"),
        ("cookie", &long),
    ];
    let block = client.block(&fields, || Indexing::Never);
    let pieces: Vec<&[u8]> = block.chunks(16_000).collect();
    for (n, piece) in pieces.iter().enumerate() {
        let kind = if n == 0 { HEADERS } else { CONTINUATION };
        let last = if n + 1 == pieces.len() { END_HEADERS } else { 0 };
        let flags = if n == 0 { END_STREAM | last } else { last };
        feed.write(CLIENT, 10, &frame(kind, flags, 1, piece));
    }
    feed.write(CLIENT, 11, &get(3, "/next"));
    for stream in [1, 3] {
        feed.write(SERVER, 12, &response(stream, END_STREAM, "200"));
    }
    let report = feed.close(100);
    let times = [(10, 12), (11, 12)];
    let paths = ["/long", "/next"];
    let expected: Vec<Seen> = (times.into_iter().zip(paths))
        .map(|(times, path)| http("GET", path, times, 200, [0, 0]))
        .collect();
    assert_eq!(report.seen, expected);
    assert_eq!(report.loss(Loss::Refused), 0);
}

/// A receiver that reads as many bytes as come, wherever frames begin.
#[test]
fn chunks_that_never_begin_with_a_frame() {
    let mut feed = Feed::new(false);
    feed.write(SERVER, 9, &response(99, END_STREAM, "200"));
    let bytes: Vec<u8> = (0..40).flat_map(|n| get(2 * n + 101, &format!("/{n}"))).collect();
    for chunk in bytes[7..].chunks(64) {
        feed.write(CLIENT, 10, chunk);
    }
    for n in 0..40 {
        feed.write(SERVER, 20, &response(2 * n + 101, END_STREAM, "200"));
    }
    let report = feed.close(100);
    assert!(report.seen.len() >= 35, "{}", report.seen.len());
    for seen in &report.seen {
        let path = seen.path.as_deref().unwrap();
        assert_eq!(seen, &http("GET", path, (10, 20), 200, [0, 0]));
    }
}

/// Only the direction with the hole forgets its table.
#[test]
fn a_hole_forgets_one_table() {
    let mut client = Encoder::new();
    let mut server = Encoder::new();
    let mut feed = open();
    let mut answer = |feed: &mut Feed, time, stream| {
        let block = server.block(&[(":status", "203")], ALL);
        feed.write(
            SERVER,
            time,
            &frame(HEADERS, END_HEADERS | END_STREAM, stream, &block),
        );
    };
    for stream in [1, 3] {
        let block = get_block(&mut client, "/known");
        feed.write(
            CLIENT,
            10,
            &frame(HEADERS, END_HEADERS | END_STREAM, stream, &block),
        );
        answer(&mut feed, 11, stream);
    }
    feed.miss(CLIENT, 20);
    for stream in [7, 9] {
        let block = get_block(&mut client, if stream == 7 { "/known" } else { "/new" });
        feed.write(
            CLIENT,
            20,
            &frame(HEADERS, END_HEADERS | END_STREAM, stream, &block),
        );
    }
    feed.tick(1_000_000_000);
    for stream in [5, 7, 9] {
        answer(&mut feed, 21, stream);
    }
    let report = feed.close(100);
    let seen: Vec<_> = report
        .seen
        .iter()
        .map(|seen| (seen.path.as_deref(), seen.status))
        .collect();
    assert_eq!(
        seen,
        [
            (Some("/known"), Some(203)),
            (Some("/known"), Some(203)),
            (None, Some(203)),
            (Some("/new"), Some(203))
        ]
    );
    assert_eq!(report.loss(Loss::UnpairedResponse), 1, "the one of stream 5");
    assert_eq!(report.loss(Loss::Gap), 1);
}

/// A lost chunk costs what was in it: responses wait for their requests, which wait behind the hole, and one that waits
/// in vain does not take the next ones with it. The request of 5 is lost, in front of others and as the last of a batch.
#[test]
fn a_hole_costs_what_was_in_it() {
    const MS: u64 = 1_000_000;
    let get = |stream| request(stream, END_STREAM, "GET", "/p", &[]);
    for batches in [[&[1, 3, 5][..], &[7, 9, 11]], [&[1], &[3, 5, 7, 9, 11]]] {
        let mut feed = open();
        for (n, batch) in (0..).zip(batches) {
            let time = 10 * MS + n * 15 * MS;
            for &stream in batch {
                match stream {
                    5 => feed.miss(CLIENT, get(stream).len()),
                    _ => feed.write(CLIENT, time, &get(stream)),
                }
            }
            for &stream in batch.iter().rev() {
                feed.write(SERVER, time + 5 * MS, &response(stream, END_STREAM, "200"));
            }
        }
        for tick in 0..30 {
            feed.tick(tick * 20 * MS);
        }
        let report = feed.abandon();
        assert_eq!(report.seen.len(), 5, "{batches:?} {:?}", report.losses);
        assert!(report.seen.iter().all(|seen| seen.status == Some(200)));
        assert_eq!(report.loss(Loss::UnpairedResponse), 1);
        assert_eq!(report.loss(Loss::UnpairedRequest), 0);
    }
}

/// The end of a response may be in the hole, so nothing is said of the request.
#[test]
fn a_lost_end_is_no_closed_connection() {
    let mut feed = open();
    feed.write(CLIENT, 10, &get(1, "/a"));
    feed.write(SERVER, 11, &response(1, 0, "200"));
    feed.miss(SERVER, 30);
    feed.write(SERVER, 12, &frame(PING, 0, 0, &[0; 8]));
    feed.tick(1_000_000_000);
    let report = feed.close(100);
    assert_eq!(report.seen, []);
    assert_eq!(report.loss(Loss::UnpairedRequest), 1);

    // In the middle of the last DATA frame, when it ended is lost with its end, ...
    for (captured, times) in [(20, None), (109, Some(13))] {
        let mut feed = open();
        feed.write(CLIENT, 10, &get(1, "/a"));
        feed.write(SERVER, 11, &response(1, 0, "200"));
        let body = frame(DATA, END_STREAM, 1, &[0; 100]);
        feed.write(SERVER, 12, &body[..captured.min(50)]);
        feed.miss(SERVER, body.len() - 50.min(captured) - 1);
        match times {
            // ... but not if its last byte is there.
            Some(time) => feed.write(SERVER, time, &body[108..]),
            None => feed.miss(SERVER, 1),
        }
        feed.write(SERVER, 14, &frame(PING, 0, 0, &[0; 8]));
        feed.tick(1_000_000_000);
        let report = feed.close(100);
        let ends: Vec<_> = report.seen.iter().map(|seen| seen.end).collect();
        assert_eq!(ends, Vec::from_iter(times));
    }
}

/// Fields unknown, messages say what it is.
#[test]
fn grpc_without_a_known_content_type() {
    for (body, kind) in [
        (message(11), "grpc"),
        (b"{\"json\":true}".to_vec(), "http"),
        ([message(11), vec![0]].concat(), "http"),
    ] {
        let mut feed = Feed::new(false);
        let known = Encoder::plain(&[(":method", "POST"), (":scheme", "http")]);
        // 70 and 71 of the dynamic table.
        let block = [known, vec![0xc6, 0xc7]].concat();
        feed.write(CLIENT, 10, &frame(HEADERS, END_HEADERS, 101, &block));
        feed.write(CLIENT, 10, &frame(DATA, END_STREAM, 101, &body));
        let block = [Encoder::plain(&[(":status", "200")]), vec![0xc6]].concat();
        feed.write(SERVER, 20, &frame(HEADERS, END_HEADERS, 101, &block));
        feed.write(SERVER, 20, &frame(DATA, 0, 101, &message(3)));
        feed.write(
            SERVER,
            21,
            &frame(HEADERS, END_HEADERS | END_STREAM, 101, &[0xc6, 0xc7]),
        );
        let report = feed.close(50);
        let seen = &report.seen[0];
        assert_eq!(
            (seen.kind, &seen.path, seen.start, seen.end),
            (kind, &None, 10, 21)
        );
        if kind == "grpc" {
            assert_eq!(seen.status, None, "it is in the trailers, unknown");
            assert_eq!(seen.messages, [Some((1, 11)), Some((1, 3))]);
        }
    }
}

/// A gRPC call of which all is known but what the server's table holds, answered with these fields at its end.
fn call_with_trailers(feed: &mut Feed, server: &mut Encoder, stream: u32, trailers: &[Field<'_>]) {
    let content = [("content-type", "application/grpc")];
    feed.write(
        CLIENT,
        10,
        &request(stream, 0, "POST", "/pkg.Service/Do", &content),
    );
    feed.write(CLIENT, 10, &frame(DATA, END_STREAM, stream, &message(1)));
    feed.write(SERVER, 20, &headers(stream, 0, &[(":status", "200"), content[0]]));
    let block = server.block(trailers, ALL);
    feed.write(
        SERVER,
        21,
        &frame(HEADERS, END_HEADERS | END_STREAM, stream, &block),
    );
}

/// gRPC ends each call with a status (doc/PROTOCOL-HTTP2.md, "Responses"). An encoder that takes names from its table
/// sends the name no more, but a field that alone can be the status is it, and tells the entry's name.
#[test]
fn the_status_whose_name_is_not_known() {
    let statuses = |feed: Feed| -> Vec<_> {
        let seen = feed.close(100).seen;
        assert!(seen.iter().all(|seen| seen.kind == "grpc"));
        seen.iter().map(|seen| seen.status).collect()
    };
    let old = || {
        let mut server = Encoder::new();
        for field in [("grpc-status", "0"), ("grpc-message", "m"), ("x-count", "1")] {
            server.block(&[field], ALL);
        }
        server
    };
    let (ok, no, message, count) = (
        ("grpc-status", "0"),
        ("grpc-status", "5"),
        ("grpc-message", "no"),
        ("x-count", "2"),
    );

    let (mut feed, mut server) = (Feed::new(false), old());
    // The value of the entry is not known; that it is a status, is; so others with its name are known.
    call_with_trailers(&mut feed, &mut server, 101, &[ok]);
    call_with_trailers(&mut feed, &mut server, 103, &[no, count]);
    call_with_trailers(&mut feed, &mut server, 105, &[no, count]);
    call_with_trailers(&mut feed, &mut server, 107, &[ok, count]);
    assert_eq!(statuses(feed), [None, Some(5), Some(5), None]);

    let (mut feed, mut server) = (Feed::new(false), old());
    // Either may be the status, which is sent by index from here on: until one that is alone.
    call_with_trailers(&mut feed, &mut server, 101, &[no, count]);
    call_with_trailers(&mut feed, &mut server, 103, &[no, count]);
    // A message is no number.
    call_with_trailers(&mut feed, &mut server, 105, &[no, message]);
    call_with_trailers(&mut feed, &mut server, 107, &[no, count]);
    assert_eq!(statuses(feed), [None, None, Some(5), Some(5)]);

    // What is no gRPC needs no status.
    let (mut feed, mut server) = (Feed::new(false), old());
    feed.write(
        CLIENT,
        10,
        &request(101, END_STREAM, "POST", "/pkg.Service/Do", &[]),
    );
    feed.write(SERVER, 20, &headers(101, 0, &[(":status", "200")]));
    let block = server.block(&[count], ALL);
    feed.write(SERVER, 21, &frame(HEADERS, END_HEADERS | END_STREAM, 101, &block));
    assert_eq!(
        feed.close(50).seen,
        [http("POST", "/pkg.Service/Do", (10, 21), 200, [0, 0])]
    );
}

/// A request with the same unknown fields as one that was seen to be gRPC is gRPC, also without a message; behind a
/// hole, references are to other entries.
#[test]
fn requests_with_the_same_unknown_fields() {
    let mut feed = Feed::new(false);
    let ask = |feed: &mut Feed, stream, unknown: &[u8], body: Option<&[u8]>| {
        let known = Encoder::plain(&[(":method", "POST"), (":scheme", "http"), (":path", "/s/M")]);
        let block = [&known, unknown].concat();
        let flags = if body.is_some() { 0 } else { END_STREAM };
        feed.write(CLIENT, 10, &frame(HEADERS, END_HEADERS | flags, stream, &block));
        if let Some(body) = body {
            feed.write(CLIENT, 10, &frame(DATA, END_STREAM, stream, body));
        }
        feed.tick(1_000_000_000);
        let block = [Encoder::plain(&[(":status", "200")]), vec![0xc6]].concat();
        feed.write(
            SERVER,
            20,
            &frame(HEADERS, END_HEADERS | END_STREAM, stream, &block),
        );
    };
    ask(&mut feed, 101, &[0xc6, 0xc7], None);
    ask(&mut feed, 103, &[0xc6, 0xc7], Some(&message(3)));
    ask(&mut feed, 105, &[0xc6, 0xc7], None);
    ask(&mut feed, 107, &[0xc6, 0xc8], None);
    // One more entry in the table: the same references have other numbers.
    ask(&mut feed, 109, &[0x40, 1, b'x', 1, b'y', 0xc7, 0xc8], None);
    ask(&mut feed, 111, &[0xc6, 0xc7], None);
    feed.miss(CLIENT, 30);
    ask(&mut feed, 121, &[0xc7, 0xc8], None);
    let report = feed.close(50);
    let kinds: Vec<_> = report.seen.iter().map(|seen| seen.kind).collect();
    assert_eq!(kinds, ["http", "grpc", "grpc", "http", "grpc", "http", "http"]);
}

/// Joined right at the preface of a connection that was not known to begin.
#[test]
fn the_preface_in_the_middle() {
    let mut feed = Feed::new(false);
    feed.write(CLIENT, 1, &[PREFACE, &settings(&[])[..]].concat());
    feed.write(SERVER, 2, &settings(&[]));
    let mut encoder = Encoder::new();
    for stream in [1, 3] {
        let block = get_block(&mut encoder, "/a");
        send(&mut feed, 10, stream, &block);
    }
    let report = feed.close(50);
    let expected: Seen = http("GET", "/a", (10, 11), 200, [0, 0]);
    assert_eq!(report.seen, [expected.clone(), expected]);
}

#[test]
fn a_request_under_way_when_joined() {
    let mut feed = Feed::new(false);
    feed.write(CLIENT, 9, &frame(DATA, 0, 99, b"rest of a body"));
    feed.write(CLIENT, 10, &request(101, 0, "POST", "/p", &[]));
    feed.write(CLIENT, 11, &frame(DATA, END_STREAM, 99, b"end"));
    feed.write(CLIENT, 12, &frame(DATA, END_STREAM, 101, b"1234"));
    feed.write(SERVER, 13, &response(99, END_STREAM, "200"));
    feed.write(SERVER, 14, &response(101, END_STREAM, "201"));
    let report = feed.close(100);
    assert_eq!(report.seen, [http("POST", "/p", (10, 14), 201, [4, 0])]);
}

//! Expected values come from the generator of the traffic, which knows what it does.

use super::frames::PROTOCOL_HEADER;
use crate::loss::Loss;
use crate::protocol::testing::{Ending, Random, Seen, View, Write, run, run_whole};
use crate::protocol::{Detection, Flow};
use crate::transaction::{Record, Transaction};
use proptest::prelude::*;
use std::collections::{HashMap, VecDeque};

const MS: u64 = 1_000_000;

fn short(text: &str) -> Vec<u8> {
    let mut bytes = vec![text.len() as u8];
    bytes.extend(text.as_bytes());
    bytes
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(channel.to_be_bytes());
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes.push(0xce);
    bytes
}

fn method(channel: u16, class: u16, method: u16, arguments: &[&[u8]]) -> Vec<u8> {
    let mut payload = class.to_be_bytes().to_vec();
    payload.extend(method.to_be_bytes());
    arguments.iter().for_each(|argument| payload.extend(*argument));
    frame(1, channel, &payload)
}

/// Content header with message-id and a traceparent, and a body in frames of at most 1000 bytes.
fn content(channel: u16, body: &[u8], message_id: &str) -> Vec<u8> {
    let mut payload = vec![0, 60, 0, 0];
    payload.extend((body.len() as u64).to_be_bytes());
    let mut flags = 1 << 15 | 1 << 12;
    let mut properties = short("text/plain");
    if !message_id.is_empty() {
        flags |= 1 << 7 | 1 << 13;
        let mut table = short("x-number");
        table.extend(*b"I\0\0\0\x07");
        table.extend(short("traceparent"));
        let parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        table.push(b'S');
        table.extend((parent.len() as u32).to_be_bytes());
        table.extend(parent);
        properties.extend((table.len() as u32).to_be_bytes());
        properties.extend(table);
        properties.push(2);
        properties.extend(short(message_id));
    } else {
        properties.push(2);
    }
    payload.extend(u16::to_be_bytes(flags));
    payload.extend(properties);
    let mut bytes = frame(2, channel, &payload);
    for piece in body.chunks(1000) {
        bytes.extend(frame(3, channel, piece));
    }
    bytes
}

fn publish(channel: u16, key: &str, mandatory: bool, body: &[u8], id: &str) -> Vec<u8> {
    let mut bytes = method(
        channel,
        60,
        40,
        &[&[0, 0], &short("ex"), &short(key), &[u8::from(mandatory)]],
    );
    bytes.extend(content(channel, body, id));
    bytes
}

fn deliver(channel: u16, consumer: &str, tag: u64, key: &str, body: &[u8]) -> Vec<u8> {
    let arguments: [&[u8]; 5] = [
        &short(consumer),
        &tag.to_be_bytes(),
        &[0],
        &short("ex"),
        &short(key),
    ];
    let mut bytes = method(channel, 60, 60, &arguments);
    bytes.extend(content(channel, body, ""));
    bytes
}

fn settle(channel: u16, number: u16, tag: u64, bits: u8) -> Vec<u8> {
    method(channel, 60, number, &[&tag.to_be_bytes(), &[bits]])
}

fn close(channel: u16, class: u16, code: u16, cause: (u16, u16)) -> Vec<u8> {
    let arguments: [&[u8]; 4] = [
        &code.to_be_bytes(),
        &short("text"),
        &cause.0.to_be_bytes(),
        &cause.1.to_be_bytes(),
    ];
    method(channel, class, if class == 10 { 50 } else { 40 }, &arguments)
}

/// What a test compares: all that is certain in the first part, what may be unknown in the second.
type Line = (String, Option<String>);

#[expect(clippy::too_many_arguments, reason = "the columns of a line")]
fn line(
    operation: &str,
    channel: u16,
    key: &str,
    tag: u64,
    start: u64,
    end: u64,
    error: &str,
    outcome: &str,
    queue: &str,
) -> Line {
    let certain =
        format!("{operation} ch={channel} key={key} tag={tag} {start}-{end} error={error} outcome={outcome}");
    (certain, (!queue.is_empty()).then(|| queue.to_owned()))
}

fn read(transaction: &Transaction<'_>) -> Line {
    let Record::Amqp(record) = &transaction.record else {
        panic!("not AMQP")
    };
    line(
        record.operation.as_str(),
        record.channel,
        record.routing_key.unwrap_or_default(),
        record.delivery_tag.unwrap_or_default(),
        transaction.start,
        transaction.end,
        transaction.error.unwrap_or_default(),
        record.outcome.map_or("", |outcome| outcome.as_str()),
        record.queue.unwrap_or_default(),
    )
}

/// A client and a broker, and what is to be seen of them.
struct Session {
    time: u64,
    writes: Vec<Write>,
    expected: Vec<Line>,
    /// What is expected besides, if the connection is closed a millisecond after the last write.
    cut_off: Vec<Line>,
}

impl Session {
    fn new() -> Session {
        let mut session = Session {
            time: 1000 * MS,
            writes: Vec::new(),
            expected: Vec::new(),
            cut_off: Vec::new(),
        };
        session.write(Flow::ToServer, PROTOCOL_HEADER.to_vec());
        let start: [&[u8]; 4] = [&[0, 9], &[0; 4], b"\0\0\0\x05PLAIN", b"\0\0\0\x05en_US"];
        session.write(Flow::ToClient, method(0, 10, 10, &start));
        let start_ok: [&[u8]; 4] = [&[0; 4], &short("PLAIN"), b"\0\0\0\x05\0u\0pw", &short("en_US")];
        session.write(Flow::ToServer, method(0, 10, 11, &start_ok));
        session.write(Flow::ToClient, method(0, 10, 30, &[&[7, 255, 0, 2, 0, 0, 0, 60]]));
        let mut open = method(0, 10, 31, &[&[7, 255, 0, 2, 0, 0, 0, 60]]);
        open.extend(method(0, 10, 40, &[&short("/"), &[0, 0]]));
        session.write(Flow::ToServer, open);
        session.write(Flow::ToClient, method(0, 10, 41, &[&[0]]));
        session
    }

    /// Writes, a millisecond after what was before. Returns when.
    fn write(&mut self, flow: Flow, bytes: Vec<u8>) -> u64 {
        self.time += MS;
        self.writes.push(Write {
            flow,
            time: self.time,
            bytes,
        });
        self.time
    }

    fn client(&mut self, bytes: Vec<u8>) -> u64 {
        self.write(Flow::ToServer, bytes)
    }

    fn server(&mut self, bytes: Vec<u8>) -> u64 {
        self.write(Flow::ToClient, bytes)
    }

    fn open_channel(&mut self, channel: u16) {
        self.client(method(channel, 20, 10, &[&[0]]));
        self.server(method(channel, 20, 11, &[&[0; 4]]));
    }

    fn expect(&mut self, line: Line) {
        self.expected.push(line);
    }

    fn confirm_select(&mut self, channel: u16) {
        let start = self.client(method(channel, 85, 10, &[&[0]]));
        let end = self.server(method(channel, 85, 11, &[]));
        self.expect(line("confirm.select", channel, "", 0, start, end, "", "", ""));
    }

    fn consume(&mut self, channel: u16, queue: &str, tag: &str, no_ack: bool) {
        let bits = if no_ack { 2 } else { 0 };
        let arguments: [&[u8]; 5] = [&[0, 0], &short(queue), &short(""), &[bits], &[0; 4]];
        let start = self.client(method(channel, 60, 20, &arguments));
        let end = self.server(method(channel, 60, 21, &[&short(tag)]));
        self.expect(line("basic.consume", channel, "", 0, start, end, "", "", queue));
    }

    fn finish(&self, ending: Ending) -> Seen<Line> {
        run_whole(&self.writes, ending, read)
    }

    /// What is reported of the whole is what is expected.
    fn check(&self, ending: Ending) -> Seen<Line> {
        let mut seen = self.finish(ending);
        let mut expected = self.expected.clone();
        expected.sort();
        seen.transactions.sort();
        assert_eq!(seen.transactions, expected);
        seen
    }
}

#[test]
fn a_publish_ends_with_its_confirm_or_where_it_was_sent() {
    let mut s = Session::new();
    s.open_channel(1);
    let at = s.client(publish(1, "free", false, b"hello", "m1"));
    s.expect(line("publish", 1, "free", 0, at, at, "", "", ""));
    s.confirm_select(1);
    let a = s.client(publish(1, "a", false, b"", "m2"));
    let b = s.client(publish(1, "b", false, &[0xce; 2500], "m3"));
    let c = s.client(publish(1, "c", false, b"x", "m4"));
    let acked = s.server(settle(1, 80, 2, 1));
    let nacked = s.server(settle(1, 120, 3, 0));
    s.expect(line("publish", 1, "a", 0, a, acked, "", "ack", ""));
    s.expect(line("publish", 1, "b", 0, b, acked, "", "ack", ""));
    s.expect(line("publish", 1, "c", 0, c, nacked, "nack", "nack", ""));
    let d = s.client(publish(1, "d", false, b"x", "m5"));
    let cut = s.time + 5 * MS;
    s.expect(line("publish", 1, "d", 0, d, cut, "connection_closed", "", ""));
    let seen = s.check(Ending::Closed(cut));
    assert_eq!(seen.losses, [0; Loss::ALL.len()]);
    let seen = s.finish(Ending::Abandoned);
    assert_eq!(seen.lost(Loss::Unfinished), 1);
}

#[test]
fn an_unroutable_message_is_an_error_with_and_without_confirm() {
    let returned = |s: &mut Session, key: &str, body: &[u8]| {
        let code = 312u16.to_be_bytes();
        let mut bytes = method(1, 60, 50, &[&code, &short("NO_ROUTE"), &short("ex"), &short(key)]);
        bytes.extend(content(1, body, "id"));
        s.server(bytes)
    };
    let mut s = Session::new();
    s.open_channel(1);
    let lost = s.client(publish(1, "nowhere", true, b"hello", "id"));
    returned(&mut s, "nowhere", b"hello");
    s.expect(line("publish", 1, "nowhere", 0, lost, lost, "312", "", ""));
    let fine = s.client(publish(1, "somewhere", true, b"hello", "id"));
    s.expect(line("publish", 1, "somewhere", 0, fine, fine, "", "", ""));
    s.time += 1000 * MS;
    s.server(frame(8, 0, &[]));
    s.confirm_select(1);
    let first = s.client(publish(1, "somewhere", true, b"1", "id"));
    let second = s.client(publish(1, "nowhere", true, b"2", "id"));
    returned(&mut s, "nowhere", b"2");
    let acked = s.server(settle(1, 80, 2, 1));
    s.expect(line("publish", 1, "somewhere", 0, first, acked, "", "ack", ""));
    s.expect(line("publish", 1, "nowhere", 0, second, acked, "312", "ack", ""));
    returned(&mut s, "unheard-of", b"?");
    assert_eq!(s.check(Ending::Abandoned).lost(Loss::Unattributed), 1);
}

#[test]
fn a_delivery_ends_with_its_settlement() {
    let mut s = Session::new();
    s.open_channel(1);
    s.consume(1, "jobs", "ctag1", false);
    s.consume(1, "fast", "ctag2", true);
    let at: Vec<u64> = (1..=6)
        .map(|tag| s.server(deliver(1, "ctag1", tag, &format!("k{tag}"), b"body")))
        .collect();
    let auto = s.server(deliver(1, "ctag2", 7, "k7", b""));
    s.expect(line("deliver", 1, "k7", 7, auto, auto, "", "auto", "fast"));
    let expect = |s: &mut Session, tag: u64, end, error, outcome| {
        let start = at[tag as usize - 1];
        s.expect(line(
            "deliver",
            1,
            &format!("k{tag}"),
            tag,
            start,
            end,
            error,
            outcome,
            "jobs",
        ));
    };
    let end = s.client(settle(1, 80, 2, 0));
    expect(&mut s, 2, end, "", "ack");
    let end = s.client(settle(1, 80, 3, 1));
    expect(&mut s, 1, end, "", "ack");
    expect(&mut s, 3, end, "", "ack");
    let end = s.client(settle(1, 120, 4, 2));
    expect(&mut s, 4, end, "nack", "requeue");
    let end = s.client(settle(1, 90, 5, 0));
    expect(&mut s, 5, end, "reject", "reject");
    let end = s.client(close(1, 20, 200, (0, 0)));
    expect(&mut s, 6, end, "connection_closed", "");
    s.server(method(1, 20, 41, &[]));
    let seen = s.check(Ending::Abandoned);
    assert_eq!(seen.losses, [0; Loss::ALL.len()]);
}

#[test]
fn recover_gives_back_what_is_not_acknowledged() {
    let mut s = Session::new();
    s.open_channel(1);
    s.consume(1, "q", "c", false);
    let delivered = s.server(deliver(1, "c", 1, "k", b"body"));
    let start = s.client(method(1, 60, 110, &[&[1]]));
    s.expect(line("deliver", 1, "k", 1, delivered, start, "", "requeue", "q"));
    let end = s.server(method(1, 60, 111, &[]));
    s.expect(line("basic.recover", 1, "", 0, start, end, "", "", ""));
    s.check(Ending::Abandoned);
}

#[test]
fn get_and_the_message_it_brings() {
    let mut s = Session::new();
    s.open_channel(3);
    let get = |no_ack: u8| method(3, 60, 70, &[&[0, 0], &short("box"), &[no_ack]]);
    let got = |tag: u64| {
        let arguments: [&[u8]; 5] = [&tag.to_be_bytes(), &[1], &short(""), &short("box"), &[0, 0, 0, 9]];
        let mut bytes = method(3, 60, 71, &arguments);
        bytes.extend(content(3, b"12345", ""));
        bytes
    };
    let (start, end) = (s.client(get(0)), s.server(got(1)));
    s.expect(line("get", 3, "", 0, start, end, "", "", "box"));
    let acked = s.client(settle(3, 80, 1, 0));
    s.expect(line("deliver", 3, "box", 1, end, acked, "", "ack", "box"));
    let (start, end) = (s.client(get(1)), s.server(got(2)));
    s.expect(line("get", 3, "", 0, start, end, "", "auto", "box"));
    let (start, end) = (s.client(get(0)), s.server(method(3, 60, 72, &[&[0]])));
    s.expect(line("get", 3, "", 0, start, end, "", "", "box"));
    s.check(Ending::Abandoned);
}

#[test]
fn an_exception_is_that_of_the_request_it_names() {
    let mut s = Session::new();
    s.open_channel(1);
    let declare = |queue: &str| method(1, 50, 10, &[&[0, 0], &short(queue), &[1], &[0; 4]]);
    let start = s.client(declare("missing"));
    let end = s.server(close(1, 20, 404, (50, 10)));
    s.client(method(1, 20, 41, &[]));
    s.expect(line("queue.declare", 1, "", 0, start, end, "404", "", "missing"));

    s.open_channel(1);
    s.confirm_select(1);
    let a = s.client(publish(1, "a", false, b"x", ""));
    let b = s.client(publish(1, "b", false, b"x", ""));
    let end = s.server(close(1, 20, 404, (60, 40)));
    s.expect(line("publish", 1, "a", 0, a, end, "404", "", ""));
    s.expect(line("publish", 1, "b", 0, b, end, "connection_closed", "", ""));
    s.client(method(1, 20, 41, &[]));

    s.open_channel(1);
    s.consume(1, "q", "c", false);
    let delivered = s.server(deliver(1, "c", 1, "k", b""));
    s.client(settle(1, 80, 99, 0));
    let end = s.server(close(1, 20, 406, (60, 80)));
    s.client(method(1, 20, 41, &[]));
    s.expect(line(
        "deliver",
        1,
        "k",
        1,
        delivered,
        end,
        "connection_closed",
        "",
        "q",
    ));

    s.open_channel(2);
    let at = s.client(publish(2, "gone", false, b"x", ""));
    s.expect(line("publish", 2, "gone", 0, at, at, "", "", ""));
    let start = s.client(method(
        2,
        40,
        10,
        &[&[0, 0], &short("e"), &short("odd"), &[0], &[0; 4]],
    ));
    let end = s.server(close(0, 10, 503, (40, 10)));
    s.client(method(0, 10, 51, &[]));
    s.expect(line("exchange.declare", 2, "", 0, start, end, "503", "", ""));
    let seen = s.check(Ending::Closed(s.time + MS));
    // The ack of a tag that was never given out, and its exception.
    assert_eq!(seen.lost(Loss::Unattributed), 1);
    assert_eq!(seen.lost(Loss::UnpairedResponse), 1);
}

#[test]
fn names_that_the_broker_gives() {
    let mut s = Session::new();
    s.open_channel(1);
    let start = s.client(method(1, 50, 10, &[&[0, 0], &short(""), &[0], &[0; 4]]));
    let end = s.server(method(1, 50, 11, &[&short("amq.gen-1"), &[0; 8]]));
    s.expect(line("queue.declare", 1, "", 0, start, end, "", "", "amq.gen-1"));
    let bind: [&[u8]; 6] = [&[0, 0], &short(""), &short("ex"), &short("rk"), &[1], &[0; 4]];
    let at = s.client(method(1, 50, 20, &bind));
    s.expect(line("queue.bind", 1, "rk", 0, at, at, "", "", "amq.gen-1"));
    let start = s.client(method(
        1,
        60,
        20,
        &[&[0, 0], &short(""), &short(""), &[0], &[0; 4]],
    ));
    let end = s.server(method(1, 60, 21, &[&short("amq.ctag-1")]));
    s.expect(line("basic.consume", 1, "", 0, start, end, "", "", "amq.gen-1"));
    let delivered = s.server(deliver(1, "amq.ctag-1", 1, "rk", b"1"));
    let acked = s.client(settle(1, 80, 0, 1));
    s.expect(line(
        "deliver",
        1,
        "rk",
        1,
        delivered,
        acked,
        "",
        "ack",
        "amq.gen-1",
    ));
    s.check(Ending::Abandoned);
}

#[test]
fn trace_context_ids_and_size_come_from_the_content_header() {
    type Details = (Option<u8>, Option<String>, Option<u64>, Option<String>);
    fn details(transaction: &Transaction<'_>) -> Details {
        let Record::Amqp(record) = &transaction.record else {
            panic!("not AMQP")
        };
        (
            transaction.remote_parent.map(|parent| parent.span_id[0]),
            record.message_id.map(str::to_owned),
            record.body_size,
            record.exchange.map(str::to_owned),
        )
    }
    let mut s = Session::new();
    s.open_channel(1);
    s.client(publish(1, "k", false, &[7; 1500], "message-1"));
    let seen = run_whole(&s.writes, Ending::Abandoned, details);
    assert_eq!(
        seen.transactions,
        [(
            Some(0xb7),
            Some("message-1".to_owned()),
            Some(1500),
            Some("ex".to_owned())
        )]
    );
}

/// A channel of the generator.
#[derive(Default)]
struct Peer {
    confirm: bool,
    sequence: u64,
    unconfirmed: VecDeque<(u64, String, u64, bool)>,
    tag: u64,
    unacked: VecDeque<(u64, String, u64)>,
    no_ack: bool,
    consumer: String,
}

/// A session of `steps` random steps over three channels.
fn random_session(seed: u64, steps: usize) -> Session {
    let mut random = Random::new(seed);
    let mut s = Session::new();
    let mut peers: HashMap<u16, Peer> = HashMap::new();
    let mut key = 0;
    for _ in 0..steps {
        let channel = 1 + random.below(3) as u16;
        let Some(peer) = peers.get_mut(&channel) else {
            s.open_channel(channel);
            let mut peer = Peer {
                no_ack: random.below(3) == 0,
                ..Peer::default()
            };
            if random.below(2) == 0 {
                s.confirm_select(channel);
                peer.confirm = true;
            }
            peer.consumer = format!("ctag{}", s.time / MS);
            s.consume(
                channel,
                &format!("queue{}", s.time / MS),
                &peer.consumer,
                peer.no_ack,
            );
            peers.insert(channel, peer);
            continue;
        };
        key += 1;
        let name = format!("k{key}");
        let size = [0, 1, 40, 999, 1000, 2500][random.below(6) as usize];
        let body = vec![b'b'; size];
        match random.below(16) {
            0..=4 => {
                let mandatory = random.below(4) == 0;
                let unroutable = mandatory && random.below(2) == 0;
                let at = s.client(publish(channel, &name, mandatory, &body, &name));
                if unroutable {
                    let code = 312u16.to_be_bytes();
                    let mut bytes = method(
                        channel,
                        60,
                        50,
                        &[&code, &short("NO"), &short("ex"), &short(&name)],
                    );
                    bytes.extend(content(channel, &body, &name));
                    s.server(bytes);
                }
                let error = if unroutable { "312" } else { "" };
                if peer.confirm {
                    peer.sequence += 1;
                    peer.unconfirmed.push_back((peer.sequence, name, at, unroutable));
                } else {
                    s.expect(line("publish", channel, &name, 0, at, at, error, "", ""));
                }
            }
            5..=6 if !peer.unconfirmed.is_empty() => {
                let nack = random.below(5) == 0;
                let multiple = random.below(2) == 0;
                let at = random.below(peer.unconfirmed.len() as u64) as usize;
                let sequence = peer.unconfirmed[at].0;
                let end = s.server(settle(
                    channel,
                    if nack { 120 } else { 80 },
                    sequence,
                    multiple.into(),
                ));
                let done: Vec<_> = if multiple {
                    peer.unconfirmed.drain(..=at).collect()
                } else {
                    peer.unconfirmed.remove(at).into_iter().collect()
                };
                for (_, key, start, unroutable) in done {
                    let error = match (unroutable, nack) {
                        (true, _) => "312",
                        (_, true) => "nack",
                        _ => "",
                    };
                    s.expect(line(
                        "publish",
                        channel,
                        &key,
                        0,
                        start,
                        end,
                        error,
                        if nack { "nack" } else { "ack" },
                        "",
                    ));
                }
            }
            7..=9 => {
                peer.tag += 1;
                let at = s.server(deliver(channel, &peer.consumer, peer.tag, &name, &body));
                if peer.no_ack {
                    let queue = consumed_queue(&s, channel);
                    s.expect(line(
                        "deliver", channel, &name, peer.tag, at, at, "", "auto", &queue,
                    ));
                } else {
                    peer.unacked.push_back((peer.tag, name, at));
                }
            }
            10..=11 if !peer.unacked.is_empty() => {
                let at = random.below(peer.unacked.len() as u64) as usize;
                let multiple = random.below(3) == 0;
                let (number, bits, error, outcome) = match random.below(4) {
                    0 => (120, 0, "nack", "nack"),
                    1 => (120, 2, "nack", "requeue"),
                    2 if !multiple => (90, 1, "reject", "requeue"),
                    _ => (80, 0, "", "ack"),
                };
                let bits = bits | u8::from(multiple);
                let end = s.client(settle(channel, number, peer.unacked[at].0, bits));
                let done: Vec<_> = if multiple {
                    peer.unacked.drain(..=at).collect()
                } else {
                    peer.unacked.remove(at).into_iter().collect()
                };
                let queue = consumed_queue(&s, channel);
                for (tag, key, start) in done {
                    s.expect(line(
                        "deliver", channel, &key, tag, start, end, error, outcome, &queue,
                    ));
                }
            }
            12 => {
                let start = s.client(method(channel, 50, 10, &[&[0, 0], &short(&name), &[1], &[0; 4]]));
                if random.below(4) == 0 {
                    // The broker is busy with others.
                    s.server(frame(8, 0, &[]));
                }
                let end = s.server(method(channel, 50, 11, &[&short(&name), &[0; 8]]));
                s.expect(line("queue.declare", channel, "", 0, start, end, "", "", &name));
            }
            13 => {
                let arguments: [&[u8]; 3] = [&[0, 0], &short(&name), &[0]];
                let start = s.client(method(channel, 60, 70, &arguments));
                let end = s.server(method(channel, 60, 72, &[&[0]]));
                s.expect(line("get", channel, "", 0, start, end, "", "", &name));
            }
            14 if random.below(3) == 0 => {
                let by_server = random.below(2) == 0;
                let bytes = close(channel, 20, if by_server { 406 } else { 200 }, (0, 0));
                let flow = if by_server { Flow::ToClient } else { Flow::ToServer };
                let closed = s.write(flow, bytes);
                let known = s.write(flow.opposite(), method(channel, 20, 41, &[]));
                let end = |answered: Flow| {
                    if answered == flow || by_server {
                        closed
                    } else {
                        known
                    }
                };
                let queue = consumed_queue(&s, channel);
                for (tag, key, start) in std::mem::take(&mut peer.unacked) {
                    let end = end(Flow::ToServer);
                    s.expect(line(
                        "deliver",
                        channel,
                        &key,
                        tag,
                        start,
                        end,
                        "connection_closed",
                        "",
                        &queue,
                    ));
                }
                for (_, key, start, unroutable) in std::mem::take(&mut peer.unconfirmed) {
                    let error = if unroutable { "312" } else { "connection_closed" };
                    s.expect(line("publish", channel, &key, 0, start, closed, error, "", ""));
                }
                peers.remove(&channel);
            }
            _ => {
                // The broker is not one that leaves publishes unconfirmed for seconds.
                let prompt = peers.values().any(|peer| !peer.unconfirmed.is_empty());
                s.time += [0, 5, 300, 2500, 6000][random.below(if prompt { 2 } else { 5 }) as usize] * MS;
                s.write(
                    if random.below(2) == 0 {
                        Flow::ToServer
                    } else {
                        Flow::ToClient
                    },
                    frame(8, 0, &[]),
                );
            }
        }
    }
    // What was to come back has come.
    s.time += 1500 * MS;
    s.server(frame(8, 0, &[]));
    let end = s.time + MS;
    for (channel, peer) in peers {
        for (tag, key, start) in peer.unacked {
            let queue = consumed_queue(&s, channel);
            s.cut_off.push(line(
                "deliver",
                channel,
                &key,
                tag,
                start,
                end,
                "connection_closed",
                "",
                &queue,
            ));
        }
        for (_, key, start, unroutable) in peer.unconfirmed {
            let error = if unroutable { "312" } else { "connection_closed" };
            s.cut_off
                .push(line("publish", channel, &key, 0, start, end, error, "", ""));
        }
    }
    s
}

/// The queue that the channel's consumer reads.
fn consumed_queue(session: &Session, channel: u16) -> String {
    let consume = format!("basic.consume ch={channel} ");
    let mut consumes = session
        .expected
        .iter()
        .rev()
        .filter(|line| line.0.starts_with(&consume));
    consumes
        .next()
        .and_then(|line| line.1.clone())
        .unwrap_or_default()
}

fn cutter(mut random: Random, largest: u64) -> impl FnMut(usize) -> usize {
    move |_| 1 + random.below(largest) as usize
}

/// What is reported is expected, though not all that is expected need be.
fn check_nothing_false(session: &Session, seen: &Seen<Line>) {
    let mut expected: HashMap<&str, (usize, Option<&str>)> = HashMap::new();
    for (certain, queue) in session.expected.iter().chain(&session.cut_off) {
        expected.entry(certain).or_insert((0, queue.as_deref())).0 += 1;
    }
    for (certain, queue) in &seen.transactions {
        let entry = expected.get_mut(certain.as_str());
        let Some((left @ 1.., known)) = entry else {
            panic!("false: {certain} {queue:?}")
        };
        *left -= 1;
        assert!(
            queue.is_none() || queue.as_deref() == *known,
            "false queue: {certain} {queue:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chunking_does_not_matter(seed: u64, largest in 1u64..3000) {
        let session = random_session(seed, 120);
        let whole = session.check(Ending::Abandoned);
        let mut cut = cutter(Random::new(seed), largest);
        let view = View { cut: &mut cut, lost: &mut || false, fresh: true, ending: Ending::Abandoned };
        let mut cut = run(&session.writes, view, read);
        cut.transactions.sort();
        prop_assert_eq!(cut.transactions, whole.transactions);
        prop_assert_eq!(cut.losses, whole.losses);
    }

    #[test]
    fn holes_make_nothing_false(seed: u64, largest in 20u64..3000, share in 2u64..60) {
        let session = random_session(seed, 300);
        let mut random = Random::new(seed ^ 1);
        let view = View {
            cut: &mut cutter(Random::new(seed), largest),
            lost: &mut || random.below(share) == 0,
            fresh: true,
            ending: Ending::Closed(session.time + MS),
        };
        check_nothing_false(&session, &run(&session.writes, view, read));
    }

    #[test]
    fn joined_in_the_middle_nothing_is_false(seed: u64, largest in 20u64..3000, from in 0usize..300) {
        let mut session = random_session(seed, 300);
        session.writes.drain(..from.min(session.writes.len()));
        let view = View {
            cut: &mut cutter(Random::new(seed), largest),
            lost: &mut || false,
            fresh: false,
            ending: Ending::Abandoned,
        };
        check_nothing_false(&session, &run(&session.writes, view, read));
    }
}

#[test]
fn after_joining_all_that_is_new_is_right() {
    let mut s = Session::new();
    s.open_channel(1);
    s.consume(1, "old", "c", false);
    s.server(deliver(1, "c", 1, "before", b"x"));
    s.expected.clear();
    let joined = s.writes.len();
    // Opened before: deliveries, and publishes that nothing was confirmed of for a second.
    s.client(settle(1, 80, 1, 0));
    let delivered = s.server(deliver(1, "c", 2, "after", b"x"));
    let acked = s.client(settle(1, 80, 2, 0));
    s.expect(line("deliver", 1, "after", 2, delivered, acked, "", "ack", ""));
    let at = s.client(publish(1, "free", false, b"x", ""));
    s.expect(line("publish", 1, "free", 0, at, at, "", "", ""));
    s.time += 5000 * MS;
    // Opened after: everything.
    s.open_channel(2);
    s.confirm_select(2);
    let at = s.client(publish(2, "k", false, b"x", ""));
    let acked = s.server(settle(2, 80, 1, 0));
    s.expect(line("publish", 2, "k", 0, at, acked, "", "ack", ""));
    s.writes.drain(..joined);
    let view = View {
        cut: &mut |n| n,
        lost: &mut || false,
        fresh: false,
        ending: Ending::Abandoned,
    };
    let mut seen = run(&s.writes, view, read);
    s.expected.sort();
    seen.transactions.sort();
    assert_eq!(seen.transactions, s.expected);
    assert_eq!(seen.lost(Loss::UnpairedResponse), 1);
}

#[test]
fn detection() {
    let detect = |bytes: &[u8], fresh| super::detect(bytes, fresh);
    assert_eq!(detect(PROTOCOL_HEADER, true), Detection::Yes(Flow::ToServer));
    assert_eq!(detect(b"AMQ", true), Detection::Maybe);
    assert_eq!(detect(b"AMQP\0\x01\0\0", true), Detection::No);
    let mut chain = frame(8, 0, &[]);
    assert_eq!(detect(&chain, false), Detection::Maybe);
    chain.extend(settle(1, 80, 1, 0));
    assert_eq!(detect(&chain, false), Detection::Maybe);
    chain.extend(publish(1, "k", false, b"x", ""));
    assert_eq!(detect(&chain, false), Detection::Yes(Flow::ToServer));
    let delivered = deliver(1, "c", 1, "k", b"x");
    assert_eq!(detect(&delivered, false), Detection::Yes(Flow::ToClient));
    assert_eq!(detect(&delivered[..20], false), Detection::Maybe);
    assert_eq!(detect(&delivered[1..], false), Detection::No);
    for foreign in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"*1\r\n$4\r\nPING\r\n",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    ] {
        assert_eq!(detect(foreign, true), Detection::No);
        assert_eq!(detect(foreign, false), Detection::No);
    }
}

#[test]
fn a_body_that_is_not_needed_is_no_loss() {
    let mut s = Session::new();
    s.open_channel(1);
    let bytes = publish(1, "k", false, &[1; 900], "");
    let at = s.client(bytes.clone());
    s.expect(line("publish", 1, "k", 0, at, at, "", "", ""));
    // Lose a piece in the middle of the body, 400 bytes before the end.
    let before: usize = s.writes.len() - 1;
    let mut chunk = 0;
    let cuts = [bytes.len() - 600, 200, 400];
    let mut lost = vec![false; before];
    lost.extend([false, true, false]);
    let mut lost = lost.into_iter();
    let mut cut = |n: usize| {
        chunk += 1;
        if chunk > before {
            cuts[chunk - before - 1]
        } else {
            n
        }
    };
    let view = View {
        cut: &mut cut,
        lost: &mut || lost.next().unwrap_or(false),
        fresh: true,
        ending: Ending::Abandoned,
    };
    let seen = run(&s.writes, view, read);
    assert_eq!(seen.transactions, s.expected);
    assert_eq!(seen.lost(Loss::Gap), 0);
}

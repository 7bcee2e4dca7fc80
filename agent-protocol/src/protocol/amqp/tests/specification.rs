//! Frames, methods and properties as the specification and RabbitMQ have them.

use super::*;

#[test]
fn detection() {
    let detect = |bytes: &[u8], fresh| super::super::detect(bytes, fresh);
    assert_eq!(detect(PROTOCOL_HEADER, true), Detection::Yes(Flow::ToServer));
    // Of AMQP 0-9 (its section 4.2.2): class, instance, major and minor version.
    assert_eq!(
        detect(b"AMQP\x01\x01\0\x09", true),
        Detection::Yes(Flow::ToServer)
    );
    assert_eq!(detect(b"AMQP\x01", true), Detection::Maybe);
    // AMQP 1.0 is another protocol.
    assert_eq!(detect(b"AMQP\0\x01\0\0", true), Detection::No);
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

fn long(value: &[u8]) -> Vec<u8> {
    [&(value.len() as u32).to_be_bytes(), value].concat()
}

/// basic.publish whose content header has these flags and properties, and a body of one byte.
fn publish_with(flags: &[u8], properties: &[u8]) -> Vec<u8> {
    let header = [&[0, 60, 0, 0], &1u64.to_be_bytes()[..], flags, properties].concat();
    let arguments: [&[u8]; 4] = [&[0, 0], &short("ex"), &short("k"), &[0]];
    [
        method(1, 60, 40, &arguments),
        frame(2, 1, &header),
        frame(3, 1, b"x"),
    ]
    .concat()
}

/// Trace id's first byte and message id of the only publish.
fn context_and_id(bytes: Vec<u8>) -> (Option<u8>, Option<String>) {
    let mut s = Session::new();
    s.open_channel(1);
    s.client(bytes);
    let seen = run_whole(&s.writes, Ending::Abandoned, |transaction| {
        let Record::Amqp(record) = &transaction.record else {
            panic!("not AMQP")
        };
        (
            transaction.remote_parent.map(|parent| parent.trace_id[0]),
            record.message_id.map(str::to_owned),
        )
    });
    assert_eq!(seen.losses, [0; Loss::ALL.len()]);
    let [read] = <[_; 1]>::try_from(seen.transactions).unwrap();
    read
}

const PARENT: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Headers with a field of each of these types and values, and the trace context behind them.
fn headers(fields: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut table = Vec::new();
    for (kind, value) in fields {
        table.extend([short("name"), vec![*kind], value.clone()].concat());
    }
    table.extend([short("traceparent"), b"S".to_vec(), long(PARENT)].concat());
    [long(&table), short("id")].concat()
}

const HEADERS_AND_ID: u16 = 1 << 13 | 1 << 7;

#[test]
fn field_tables_have_every_type() {
    let nested = [short("n"), b"S".to_vec(), long(b"deep")].concat();
    let fields = [
        (b't', vec![1]),
        (b'b', vec![1]),
        (b'B', vec![1]),
        (b's', vec![1; 2]),
        (b'u', vec![1; 2]),
        (b'U', vec![1; 2]),
        (b'I', vec![1; 4]),
        (b'i', vec![1; 4]),
        (b'l', vec![1; 8]),
        (b'L', vec![1; 8]),
        (b'f', vec![1; 4]),
        (b'd', vec![1; 8]),
        (b'D', vec![1; 5]),
        (b'T', vec![1; 8]),
        (b'V', vec![]),
        (b'S', long(b"text")),
        (b'x', long(b"bytes")),
        (b'A', long(&[b't', 1, b'V'])),
        (b'F', long(&nested)),
    ];
    let read = context_and_id(publish_with(&HEADERS_AND_ID.to_be_bytes(), &headers(&fields)));
    assert_eq!(read, (Some(0x0a), Some("id".to_owned())));
    // Where a field ends is not known of another type; the properties behind the table are.
    let read = context_and_id(publish_with(
        &HEADERS_AND_ID.to_be_bytes(),
        &headers(&[(b'?', vec![1; 4])]),
    ));
    assert_eq!(read, (None, Some("id".to_owned())));
    // A large table is read as any.
    let read = context_and_id(publish_with(
        &HEADERS_AND_ID.to_be_bytes(),
        &headers(&[(b'S', long(&[b'x'; 60_000]))]),
    ));
    assert_eq!(read, (Some(0x0a), Some("id".to_owned())));
}

#[test]
fn property_flags_may_go_on() {
    // Section 4.2.6.1: with bit 0, more flags follow. What is theirs comes behind what is known.
    let flags = [(HEADERS_AND_ID | 1).to_be_bytes(), (1u16 << 15).to_be_bytes()].concat();
    let properties = [headers(&[]), short("unknown")].concat();
    let read = context_and_id(publish_with(&flags, &properties));
    assert_eq!(read, (Some(0x0a), Some("id".to_owned())));
}

#[test]
fn frames_are_as_long_as_negotiated() {
    let publish = |length: usize| {
        let arguments: [&[u8]; 4] = [&[0, 0], &short("ex"), &short("k"), &[0]];
        let header = [&[0, 60, 0, 0], &(length as u64).to_be_bytes()[..], &[0, 0]].concat();
        [
            method(1, 60, 40, &arguments),
            frame(2, 1, &header),
            frame(3, 1, &vec![0; length]),
        ]
        .concat()
    };
    // Brokers do not count the eight octets around the payload, though they should.
    for (length, transactions, refused) in [(4088, 1, 0), (4096, 1, 0), (4097, 0, 1)] {
        let mut s = Session::new();
        s.client(method(0, 10, 31, &[&[7, 255, 0, 0, 0x10, 0, 0, 60]]));
        s.open_channel(1);
        s.client(publish(length));
        let seen = s.finish(Ending::Abandoned);
        assert_eq!(
            (seen.transactions.len(), seen.lost(Loss::Refused)),
            (transactions, refused),
            "{length}"
        );
    }
}

#[test]
fn a_broker_that_speaks_another_version_says_which() {
    // Section 4.2.2: it answers with a protocol header, and closes.
    let mut s = Session::new();
    s.writes.truncate(1);
    s.server(PROTOCOL_HEADER.to_vec());
    let seen = s.finish(Ending::Closed(s.time + MS));
    assert_eq!(seen.transactions, []);
    assert_eq!(seen.losses, [0; Loss::ALL.len()]);
}

#[test]
fn what_is_no_transaction_disturbs_none() {
    let mut s = Session::new();
    s.open_channel(1);
    s.consume(1, "q", "c", false);
    let start = s.server(deliver(1, "c", 1, "k", b"x"));
    // connection.secure and -ok, blocked, unblocked, update-secret and -ok.
    s.server(method(0, 10, 20, &[&long(b"challenge")]));
    s.client(method(0, 10, 21, &[&long(b"answer")]));
    s.server(method(0, 10, 60, &[&short("low on disk")]));
    s.server(method(0, 10, 61, &[]));
    s.client(method(0, 10, 70, &[&long(b"token"), &short("expired")]));
    s.server(method(0, 10, 71, &[]));
    // channel.flow and -ok, both ways; access.request and -ok; heartbeats.
    s.server(method(1, 20, 20, &[&[0]]));
    s.client(method(1, 20, 21, &[&[0]]));
    s.client(method(1, 20, 20, &[&[1]]));
    s.server(method(1, 20, 21, &[&[1]]));
    s.client(method(1, 30, 10, &[&short("/data"), &[0]]));
    s.server(method(1, 30, 11, &[&[0, 0]]));
    s.client(frame(8, 0, &[]));
    s.server(frame(8, 0, &[]));
    // The broker cancels the consumer, whose delivery is still to be settled; the client says that it heard.
    s.server(method(1, 60, 30, &[&short("c"), &[0]]));
    s.client(method(1, 60, 31, &[&short("c")]));
    let end = s.client(settle(1, 80, 1, 0));
    s.expect(line("deliver", 1, "k", 1, start, end, "", "ack", "q"));
    let seen = s.check(Ending::Abandoned);
    assert_eq!(seen.losses, [0; Loss::ALL.len()]);
}

#[test]
fn a_body_of_zero_length_has_no_frame() {
    let mut s = Session::new();
    s.open_channel(1);
    for key in ["a", "b"] {
        let at = s.client(publish(1, key, false, b"", "id"));
        s.expect(line("publish", 1, key, 0, at, at, "", "", ""));
    }
    assert_eq!(s.check(Ending::Abandoned).losses, [0; Loss::ALL.len()]);
}

#[test]
fn what_comes_while_a_connection_closes_is_cut_off_when_it_is_closed() {
    let mut s = Session::new();
    s.open_channel(1);
    s.consume(1, "q", "c", false);
    let before = s.server(deliver(1, "c", 1, "k1", b"x"));
    let closing = s.client(close(0, 10, 200, (0, 0)));
    let after = s.server(deliver(1, "c", 2, "k2", b"x"));
    let closed = s.server(method(0, 10, 51, &[]));
    let error = "connection_closed";
    s.expect(line("deliver", 1, "k1", 1, before, closing, error, "", "q"));
    s.expect(line("deliver", 1, "k2", 2, after, closed, error, "", "q"));
    let seen = s.check(Ending::Closed(s.time + MS));
    assert_eq!(seen.losses, [0; Loss::ALL.len()]);
}

#[test]
fn a_channel_number_is_used_again() {
    let mut s = Session::new();
    for queue in ["one", "two"] {
        s.open_channel(1);
        s.confirm_select(1);
        s.consume(1, queue, "c", false);
        let delivered = s.server(deliver(1, "c", 1, "k", b"x"));
        let left = s.server(deliver(1, "c", 2, "l", b"x"));
        let end = s.client(settle(1, 80, 1, 0));
        s.expect(line("deliver", 1, "k", 1, delivered, end, "", "ack", queue));
        let start = s.client(publish(1, "k", false, b"x", ""));
        let end = s.server(settle(1, 80, 1, 0));
        s.expect(line("publish", 1, "k", 0, start, end, "", "ack", ""));
        let end = s.client(close(1, 20, 200, (0, 0)));
        s.expect(line(
            "deliver",
            1,
            "l",
            2,
            left,
            end,
            "connection_closed",
            "",
            queue,
        ));
        s.server(method(1, 20, 41, &[]));
    }
    assert_eq!(s.check(Ending::Abandoned).losses, [0; Loss::ALL.len()]);
}

#[test]
fn a_reply_shows_that_nothing_before_it_failed() {
    let mut s = Session::new();
    s.open_channel(1);
    // A message that could have come back, were it not for the reply.
    let at = s.client(publish(1, "kept", true, b"x", ""));
    s.expect(line("publish", 1, "kept", 0, at, at, "", "", ""));
    s.confirm_select(1);
    assert_eq!(s.check(Ending::Abandoned).losses, [0; Loss::ALL.len()]);
    // Nor is the exception that of a publish before confirm mode.
    let start = s.client(publish(1, "k", false, b"x", ""));
    let end = s.server(close(1, 20, 404, (60, 40)));
    s.client(method(1, 20, 41, &[]));
    s.expect(line("publish", 1, "k", 0, start, end, "404", "", ""));
    assert_eq!(s.check(Ending::Abandoned).losses, [0; Loss::ALL.len()]);
}

#[test]
fn an_exception_that_nothing_is_proved_to_have_caused_is_counted_by_code() {
    let mut s = Session::new();
    s.open_channel(1);
    let declare = |no_wait: u8| method(1, 50, 10, &[&[0, 0], &short("q"), &[no_wait], &[0; 4]]);
    let at = s.client(declare(0b1_0000));
    s.expect(line("queue.declare", 1, "", 0, at, at, "", "", "q"));
    // It may be of the one, or of the other.
    s.client(declare(0));
    s.server(close(1, 20, 406, (50, 10)));
    s.client(method(1, 20, 41, &[]));
    s.server(close(0, 10, 320, (0, 0)));
    let seen = s.check(Ending::Closed(s.time + MS));
    assert_eq!(seen.unattributed, [406, 320]);
    assert_eq!(seen.lost(Loss::Unattributed), 2);
    assert_eq!(seen.lost(Loss::UnpairedRequest), 1);
}

#[test]
fn recover_without_requeue_gives_nothing_back() {
    let mut s = Session::new();
    s.open_channel(1);
    s.consume(1, "q", "c", false);
    let delivered = s.server(deliver(1, "c", 1, "k", b"x"));
    let start = s.client(method(1, 60, 110, &[&[0]]));
    // RabbitMQ has it not.
    let end = s.server(close(0, 10, 540, (60, 110)));
    s.client(method(0, 10, 51, &[]));
    s.expect(line("basic.recover", 1, "", 0, start, end, "540", "", ""));
    let error = "connection_closed";
    s.expect(line("deliver", 1, "k", 1, delivered, end, error, "", "q"));
    s.check(Ending::Closed(s.time + MS));
}

#[test]
fn recover_gives_back_what_crosses_it() {
    let mut s = Session::new();
    s.open_channel(1);
    s.consume(1, "q", "c", false);
    let first = s.server(deliver(1, "c", 1, "k1", b"x"));
    let start = s.client(method(1, 60, 110, &[&[1]]));
    let second = s.server(deliver(1, "c", 2, "k2", b"x"));
    let end = s.server(method(1, 60, 111, &[]));
    s.expect(line("deliver", 1, "k1", 1, first, start, "", "requeue", "q"));
    s.expect(line("deliver", 1, "k2", 2, second, end, "", "requeue", "q"));
    s.expect(line("basic.recover", 1, "", 0, start, end, "", "", ""));
    assert_eq!(s.check(Ending::Abandoned).losses, [0; Loss::ALL.len()]);
}

#[test]
fn every_table_has_a_limit_and_what_goes_is_counted() {
    let consume = |tag: usize| {
        let arguments: [&[u8]; 5] = [&[0, 0], &short("q"), &short(&tag.to_string()), &[0b1000], &[0; 4]];
        method(1, 60, 20, &arguments)
    };
    let evicted = |fill: &dyn Fn(&mut Session)| {
        let mut s = Session::new();
        s.open_channel(1);
        s.confirm_select(1);
        s.consume(1, "q", "c", false);
        fill(&mut s);
        s.finish(Ending::Abandoned).lost(Loss::Evicted)
    };
    let bytes = |number: std::ops::Range<usize>, each: &dyn Fn(usize) -> Vec<u8>| -> Vec<u8> {
        number.flat_map(each).collect()
    };
    // One is there already.
    let consumers = |s: &mut Session| {
        s.client(bytes(1..4099, &consume));
    };
    assert_eq!(evicted(&consumers), 3);
    let channels = |s: &mut Session| {
        s.client(bytes(2..4099, &|channel| method(channel as u16, 20, 10, &[&[0]])));
    };
    assert_eq!(evicted(&channels), 2);
    let deliveries = |s: &mut Session| {
        s.server(bytes(1..65_540, &|tag| deliver(1, "c", tag as u64, "k", b"")));
    };
    assert_eq!(evicted(&deliveries), 3);
    let publishes = |s: &mut Session| {
        s.client(bytes(1..65_540, &|_| publish(1, "k", false, b"", "")));
    };
    assert_eq!(evicted(&publishes), 3);
}

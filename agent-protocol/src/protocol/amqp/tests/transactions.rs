//! Every kind of transaction, one by one.

use super::*;

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
    let returned = |s: &mut Session, key: &str, body: &[u8]| s.server(returned(1, key, body, "id"));
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
    let got = |tag: u64| got(3, tag, "box", b"12345");
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

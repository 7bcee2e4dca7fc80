//! Channels that are older than the observation.

use super::*;

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

/// What is reported of what went by since `joined`.
fn seen_since(s: &Session, joined: usize, ending: Ending) -> Seen<Line> {
    let view = View {
        cut: &mut |n| n,
        lost: &mut || false,
        fresh: false,
        ending,
    };
    let mut seen = run(&s.writes[joined..], view, read);
    seen.transactions.sort();
    seen
}

fn check_since(s: &mut Session, joined: usize, ending: Ending) -> Seen<Line> {
    let seen = seen_since(s, joined, ending);
    s.expected.sort();
    assert_same(&seen.transactions, &s.expected);
    seen
}

/// A session with a channel that was opened before anybody looked, and how long it is. Both sides were heard.
fn joined() -> (Session, usize) {
    let mut s = Session::new();
    s.open_channel(1);
    let joined = s.writes.len();
    for flow in [Flow::ToServer, Flow::ToClient] {
        s.write(flow, [frame(8, 0, &[]), frame(8, 0, &[])].concat());
    }
    (s, joined)
}

fn declare(s: &mut Session, queue: &str) {
    let start = s.client(method(1, 50, 10, &[&[0, 0], &short(queue), &[0], &[0; 4]]));
    let end = s.server(method(1, 50, 11, &[&short(queue), &[0; 8]]));
    s.expect(line("queue.declare", 1, "", 0, start, end, "", "", queue));
}

#[test]
fn what_merely_covers_a_delivery_does_not_settle_that_of_an_automatic_consumer() {
    let (mut s, joined) = joined();
    // The consumer `auto` does not acknowledge, `rare` does so later.
    s.server(deliver(1, "auto", 41, "a", b"x"));
    let rare = s.server(deliver(1, "rare", 42, "b", b"x"));
    let often = s.server(deliver(1, "often", 43, "c", b"x"));
    let all = s.client(settle(1, 80, 43, 1));
    s.expect(line("deliver", 1, "c", 43, often, all, "", "ack", ""));
    s.server(deliver(1, "auto", 44, "d", b"x"));
    let again = s.server(deliver(1, "rare", 45, "e", b"x"));
    let one = s.client(settle(1, 90, 45, 0));
    // Proved now, and settled then.
    s.expect(line("deliver", 1, "b", 42, rare, all, "", "ack", ""));
    s.expect(line("deliver", 1, "e", 45, again, one, "reject", "reject", ""));
    // basic.recover is of no other opinion.
    s.client(method(1, 60, 100, &[&[1]]));
    s.expect(line("basic.recover", 1, "", 0, s.time, s.time, "", "", ""));
    let seen = check_since(&mut s, joined, Ending::Abandoned);
    assert_eq!(seen.lost(Loss::Unfinished), 2);
    let seen = check_since(&mut s, joined, Ending::Closed(9_000_000 * MS));
    assert_eq!(seen.lost(Loss::UnpairedRequest), 2);
}

#[test]
fn older_deliveries_that_are_settled_with_newer_ones_are_not_reported() {
    let (mut s, joined) = joined();
    let new = s.server(deliver(1, "c", 8, "new", b"x"));
    s.client(settle(1, 80, 3, 0));
    s.client(settle(1, 120, 5, 1));
    let end = s.client(settle(1, 80, 8, 1));
    s.expect(line("deliver", 1, "new", 8, new, end, "", "ack", ""));
    let seen = check_since(&mut s, joined, Ending::Abandoned);
    assert_eq!(seen.lost(Loss::UnpairedResponse), 2);
    assert_eq!(seen.lost(Loss::UnpairedRequest), 0);
}

#[test]
fn confirms_find_their_publishes_when_it_is_known_how_many_came_before() {
    let (mut s, joined) = joined();
    let round = |s: &mut Session, key: &str, tag: u64| {
        let start = s.client(publish(1, key, false, b"x", ""));
        let end = s.server(settle(1, 80, tag, 0));
        s.expect(line("publish", 1, key, 0, start, end, "", "ack", ""));
    };
    // 101 to 103 are under way; these are 104 and 105.
    let first = s.client(publish(1, "first", false, b"x", ""));
    let second = s.client(publish(1, "second", false, b"x", ""));
    s.server(settle(1, 80, 101, 0));
    s.server(settle(1, 80, 103, 1));
    let nacked = s.server(settle(1, 120, 105, 0));
    s.expect(line(
        "publish", 1, "second", 0, second, nacked, "nack", "nack", "",
    ));
    let acked = s.server(settle(1, 80, 104, 0));
    s.expect(line("publish", 1, "first", 0, first, acked, "", "ack", ""));
    round(&mut s, "third", 106);
    let unproved = seen_since(&s, joined, Ending::Abandoned);
    assert_eq!(unproved.transactions, []);
    assert_eq!(unproved.lost(Loss::Unfinished), 3);
    s.time += 1500 * MS;
    round(&mut s, "fourth", 107);
    s.time += 1500 * MS;
    round(&mut s, "fifth", 108);
    round(&mut s, "sixth", 109);
    let seen = check_since(&mut s, joined, Ending::Abandoned);
    assert_eq!(seen.lost(Loss::UnpairedResponse), 2);
    assert_eq!(seen.lost(Loss::UnpairedRequest), 0);
}

#[test]
fn a_broker_that_takes_no_publishes_is_not_one_that_does_not_confirm() {
    let (mut s, joined) = joined();
    s.client(publish(1, "k", false, b"x", ""));
    s.server(method(0, 10, 60, &[&short("low on memory")]));
    for _ in 0..5 {
        s.time += 2500 * MS;
        s.server(frame(8, 0, &[]));
    }
    s.server(method(0, 10, 61, &[]));
    s.server(settle(1, 80, 1, 0));
    let seen = check_since(&mut s, joined, Ending::Closed(9_000_000 * MS));
    assert_eq!(seen.lost(Loss::UnpairedRequest), 1);
    assert_eq!(seen.lost(Loss::UnpairedResponse), 1);
}

#[test]
fn a_transaction_proves_that_there_is_no_confirm_mode() {
    let (mut s, joined) = joined();
    let at = s.client(publish(1, "k", false, b"x", ""));
    s.expect(line("publish", 1, "k", 0, at, at, "", "", ""));
    s.client(method(1, 90, 20, &[]));
    s.server(method(1, 90, 21, &[]));
    let seen = check_since(&mut s, joined, Ending::Abandoned);
    // The commit itself may be an older one's.
    assert_eq!(seen.lost(Loss::Unfinished), 1);
}

#[test]
fn exchanges_in_turns_prove_each_other() {
    let (mut s, joined) = joined();
    declare(&mut s, "one");
    assert_eq!(seen_since(&s, joined, Ending::Abandoned).transactions, []);
    let closed = Ending::Closed(9_000_000 * MS);
    assert_eq!(seen_since(&s, joined, closed).lost(Loss::UnpairedRequest), 1);
    // The broker is done with the channel, and no answer is left over.
    let writes = s.writes.len();
    s.client(close(1, 20, 200, (0, 0)));
    s.server(method(1, 20, 41, &[]));
    check_since(&mut s, joined, Ending::Abandoned);
    s.writes.truncate(writes);
    declare(&mut s, "two");
    declare(&mut s, "three");
    let seen = check_since(&mut s, joined, Ending::Abandoned);
    assert_eq!(seen.losses, [0; Loss::ALL.len()]);
}

#[test]
fn an_answer_too_many_proves_that_one_was_not_its_own() {
    let (mut s, joined) = joined();
    // The first answer is that of an older request.
    s.client(method(1, 60, 70, &[&[0, 0], &short("q"), &[0]]));
    s.server(method(1, 60, 72, &[&[0]]));
    s.server(method(1, 60, 72, &[&[0]]));
    s.client(close(1, 20, 200, (0, 0)));
    s.server(method(1, 20, 41, &[]));
    let seen = check_since(&mut s, joined, Ending::Abandoned);
    assert_eq!(seen.lost(Loss::UnpairedRequest), 1);
    assert_eq!(seen.lost(Loss::UnpairedResponse), 1);
}

#[test]
fn a_consumer_that_is_new_on_an_older_channel_is_known() {
    let (mut s, joined) = joined();
    s.consume(1, "q", "by-server", true);
    let at = s.server(deliver(1, "by-server", 31, "k", b"x"));
    s.expect(line("deliver", 1, "k", 31, at, at, "", "auto", ""));
    declare(&mut s, "one");
    let at = s.server(deliver(1, "by-server", 32, "l", b"x"));
    s.expect(line("deliver", 1, "l", 32, at, at, "", "auto", "q"));
    let seen = check_since(&mut s, joined, Ending::Abandoned);
    assert_eq!(seen.losses, [0; Loss::ALL.len()]);
}

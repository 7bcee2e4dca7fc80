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

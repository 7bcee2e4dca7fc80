//! Frames, methods and properties as the specification and RabbitMQ have them.

use super::*;

#[test]
fn detection() {
    let detect = |bytes: &[u8], fresh| super::super::detect(bytes, fresh);
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

use super::*;

const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;
const CANCEL: u32 = 80_877_102;

#[test]
fn encryption_refused_goes_on_in_plain_text() {
    let mut wire = Wire::new(true);
    wire.client(&untyped(GSS, b""));
    wire.server(b"N");
    wire.client(&untyped(SSL, b""));
    wire.server(b"N");
    wire.client(&startup(&[("user", "shop")]));
    wire.server(&cat!(auth(0), ready(b'I')));
    wire.client(&query("SELECT 1"));
    wire.server(&cat!(columns(), row(), complete("SELECT 1"), ready(b'I')));
    let seen = wire.close();
    assert_eq!(seen.lines, ["7..8 SELECT <1: SELECT ?"]);
    assert!(seen.losses.is_empty(), "{:?}", seen.losses);
}

#[test]
fn encryption_is_counted() {
    for (code, answer) in [(SSL, b"S"), (GSS, b"G")] {
        let mut wire = Wire::new(true);
        wire.client(&untyped(code, b""));
        wire.server(answer);
        wire.client(&[22, 3, 1, 0, 5, 1, 2, 3, 4, 5]);
        let seen = wire.close();
        assert_eq!(seen.losses, BTreeMap::from([("encrypted_connection", 1)]));
    }
    // The answer is late, or lost.
    let mut wire = Wire::new(true);
    wire.client(&untyped(SSL, b""));
    wire.client(&[22, 3, 1, 0, 5, 1, 2, 3, 4, 5]);
    assert_eq!(wire.close().losses, BTreeMap::from([("encrypted_connection", 1)]));
}

#[test]
fn a_cancel_request_is_no_transaction() {
    // Protocol 3.2: keys of up to 256 bytes.
    for key in [4, 32, 256] {
        let mut wire = Wire::new(true);
        wire.client(&untyped(CANCEL, &vec![1; 4 + key]));
        let seen = wire.close();
        assert!(seen.lines.is_empty() && seen.losses.is_empty());
    }
}

#[test]
fn a_login_is_no_transaction() {
    let mut wire = Wire::new(true);
    let mut hello = startup(&[("user", "ann"), ("database", "shop"), ("_pq_.x", "y")]);
    hello[7] = 2; // protocol 3.2
    wire.client(&hello);
    wire.server(&cat!(
        message(b'v', &cat!([0, 3, 0, 0, 0, 0, 0, 1], strings(&["_pq_.x"]))),
        auth(10)
    ));
    wire.client(&message(b'p', b"SCRAM-SHA-256\0\0\0\0\x05secret"));
    wire.server(&auth(11));
    wire.client(&message(b'p', b"secret"));
    wire.server(&cat!(
        auth(12),
        auth(0),
        status("a", "b"),
        notice(),
        message(b'K', &[7; 36]),
        ready(b'I')
    ));
    wire.client(&query("SELECT 1"));
    wire.server(&cat!(columns(), complete("SELECT 0"), ready(b'I')));
    wire.client(&simple(b'X'));
    let seen = wire.close();
    assert_eq!(seen.lines, ["7..8 SELECT <0: SELECT ?"]);
    assert!(seen.losses.is_empty(), "{:?}", seen.losses);
}

#[test]
fn a_refused_login_is_one() {
    for (code, server) in [
        ("28P01", failed("28P01")),
        ("3D000", cat!(auth(0), failed("3D000"))),
    ] {
        let mut wire = Wire::new(true);
        wire.client(&startup(&[("user", "ann"), ("database", "shop")]));
        wire.server(&auth(5));
        wire.client(&message(b'p', b"md5secret\0"));
        wire.server(&server);
        assert_eq!(wire.close().lines, [format!("1..4 CONNECT !{code}")]);
    }
}

#[test]
fn a_login_that_is_given_up_is_none() {
    let mut wire = Wire::new(true);
    wire.client(&startup(&[("user", "ann"), ("database", "shop")]));
    wire.server(&auth(5));
    let seen = wire.close();
    assert!(seen.lines.is_empty() && seen.losses.is_empty());
}

#[test]
fn replication_is_left_alone() {
    let mut wire = Wire::new(true);
    wire.client(&startup(&[
        ("user", "ann"),
        ("database", "shop"),
        ("replication", "database"),
    ]));
    wire.server(&cat!(auth(0), ready(b'I')));
    wire.client(&query("IDENTIFY_SYSTEM"));
    wire.server(&cat!(columns(), row(), complete("IDENTIFY_SYSTEM"), ready(b'I')));
    let seen = wire.close();
    assert!(seen.lines.is_empty());
    assert_eq!(seen.losses, BTreeMap::from([("unreportable_connection", 1)]));

    // One that was not seen to begin.
    let mut wire = Wire::session();
    wire.client(&query("START_REPLICATION 0/0"));
    wire.server(&copy_response(b'W'));
    wire.server(&copy_data(b"x"));
    let seen = wire.close();
    assert!(seen.lines.is_empty());
    assert_eq!(seen.losses, BTreeMap::from([("unreportable_connection", 1)]));

    let mut wire = Wire::new(true);
    wire.client(&startup(&[
        ("user", "ann"),
        ("database", "shop"),
        ("replication", "off"),
    ]));
    wire.server(&cat!(auth(0), ready(b'I')));
    wire.client(&query("BEGIN"));
    wire.server(&cat!(complete("BEGIN"), ready(b'T')));
    assert_eq!(wire.close().lines, ["3..4 BEGIN: BEGIN"]);
}

#[test]
fn what_the_server_says_first_waits_for_the_client() {
    let mut wire = Wire::new(true);
    let hello = startup(&[("user", "ann"), ("database", "shop")]);
    wire.client(&hello);
    // Seen out of order: the answer to a query before the query.
    wire.server(&cat!(auth(0), ready(b'I')));
    let late = wire.time + 1;
    wire.time += 1;
    wire.server(&cat!(complete("BEGIN"), ready(b'T')));
    let sql = query("BEGIN");
    let chunk = Chunk {
        id: ID,
        direction: Direction::Egress,
        position: wire.positions[0],
        length: sql.len() as u32,
        bytes: &sql,
        time: late,
        process: None,
    };
    wire.connections.data(&chunk, &mut wire.seen);
    assert_eq!(wire.seen.lines, ["3..4 BEGIN: BEGIN"]);
}

#[test]
fn an_idle_connection_is_small() {
    // Its state, and what a statement of the extended protocol leaves behind.
    let queue = 16 * size_of::<queue::Entry>();
    assert!(
        size_of::<Postgres>() + queue <= 1280,
        "{} + {queue}",
        size_of::<Postgres>()
    );
}

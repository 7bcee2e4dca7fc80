use super::*;
use crate::protocol::postgres::frames::{detect, failure, opening, tag};

fn joined(bytes: &[u8]) -> Detection {
    detect(bytes, false)
}

#[test]
fn fresh_connections_are_known_by_their_first_message() {
    let hello = startup(&[("user", "ann")]);
    let yes = Detection::Yes(Flow::ToServer);
    for bytes in [
        hello.clone(),
        untyped(80_877_103, b""),
        untyped(80_877_104, b""),
        untyped(80_877_102, &[1; 8]),
    ] {
        assert_eq!(detect(&bytes, true), yes);
        for cut in 1..bytes.len() {
            assert_ne!(detect(&bytes[..cut], true), Detection::No, "{cut}");
        }
    }
    // Protocol 2.0, and lengths out of bounds.
    assert_eq!(detect(&untyped(2 << 16, &[0; 288]), true), Detection::No);
    assert_eq!(detect(&untyped(80_877_103, b"x"), true), Detection::No);
    assert_eq!(
        detect(&cat!([0, 1, 0, 0, 0, 3, 0, 0], [b'x'; 100]), true),
        Detection::No
    );
}

#[test]
fn other_protocols_are_not_taken() {
    let others: [&[u8]; 12] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"DELETE /x HTTP/1.1\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64",
        b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\x04\0\0\xff\xff\0\x01\0\0\x10\0",
        b"*1\r\n$4\r\nPING\r\n",
        b"+PONG\r\n",
        b"AMQP\0\0\x09\x01",
        b"\x01\0\0\0\0\0\x05\0\x0a\0\x0b\0\xce",
        b"\x16\x03\x01\0\x05\x01\0\0\x01\0",
    ];
    for bytes in others {
        for fresh in [true, false] {
            assert_eq!(
                detect(bytes, fresh),
                Detection::No,
                "{:?}",
                String::from_utf8_lossy(bytes)
            );
        }
    }
}

#[test]
fn a_joined_connection_needs_whole_messages() {
    let client = Detection::Yes(Flow::ToServer);
    let server = Detection::Yes(Flow::ToClient);
    assert_eq!(joined(&query("SELECT 1")), client);
    assert_eq!(
        joined(&cat!(bind("", "s"), describe(b'P', ""), execute("", 0), sync())),
        client
    );
    assert_eq!(
        joined(&cat!(parse("s", "SELECT 1"), describe(b'S', "s"), sync())),
        client
    );
    assert_eq!(
        joined(&cat!(columns(), row(), complete("SELECT 1"), ready(b'I'))),
        server
    );
    assert_eq!(joined(&ready(b'T')), server);
    // A Sync alone is little, and so is a chain that is not done.
    assert_eq!(joined(&sync()), Detection::Maybe);
    assert_eq!(joined(&cat!(columns(), row())), Detection::Maybe);
    assert_eq!(joined(&query("SELECT 1")[..8]), Detection::Maybe);
    // Structure counts.
    assert_eq!(joined(&message(b'Q', b"SELECT\0 1\0")), Detection::No);
    assert_eq!(joined(&message(b'Q', b"SELECT 1")), Detection::No);
    assert_eq!(
        joined(&cat!(message(b'B', b"\0s\0\0\0\0\x01\0\0\0\x09x\0\0"), sync())),
        Detection::No
    );
    assert_eq!(joined(&message(b'Z', b"X")), Detection::No);
    assert_eq!(
        joined(&cat!(message(b'D', &[0, 1, 0, 0, 0, 9, 1]), ready(b'I'))),
        Detection::No
    );
}

#[test]
fn fields_of_an_error() {
    let message = failed("42P01");
    assert_eq!(failure(&message[HEADER..]).as_str(), Some("42P01"));
    assert_eq!(failure(b"Mx\0C\0\0").as_str(), None);
    assert_eq!(failure(b"C4\x002").as_str(), None);
}

#[test]
fn command_tags() {
    let of = |text: &str| tag(&strings(&[text])).map(|tag| (tag.verb.to_owned(), tag.rows));
    assert_eq!(of("INSERT 0 12"), Some(("INSERT".into(), Some(12))));
    assert_eq!(of("SELECT 3"), Some(("SELECT".into(), Some(3))));
    assert_eq!(of("CREATE TABLE"), Some(("CREATE".into(), None)));
    assert_eq!(of("BEGIN"), Some(("BEGIN".into(), None)));
    assert_eq!(of("secret"), None);
    assert_eq!(of(""), None);
}

#[test]
fn a_database_is_that_of_the_user_where_none_is_named() {
    let bytes = startup(&[("user", "ann")]);
    let Opening::Complete(Startup::Session { user, database, .. }, _) = opening(&bytes) else {
        panic!()
    };
    assert_eq!((user, database), (Some(&b"ann"[..]), Some(&b"ann"[..])));
}

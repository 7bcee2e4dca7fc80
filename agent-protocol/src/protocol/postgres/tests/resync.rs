use super::*;
use Direction::{Egress, Ingress};

fn select(name: &str) -> (Vec<u8>, Vec<u8>) {
    (
        query(&format!("SELECT {name}")),
        cat!(columns(), row(), complete("SELECT 1"), ready(b'I')),
    )
}

/// Rounds of which each is unlike the one before.
fn rounds(wire: &mut Wire, names: &[&str]) {
    for (i, name) in names.iter().enumerate() {
        if i % 2 == 0 {
            wire.client(&query(&format!("DELETE FROM {name}")));
            wire.server(&cat!(complete("DELETE 1"), ready(b'I')));
        } else {
            wire.client(&select(name).0);
            wire.server(&select(name).1);
        }
    }
}

/// Last words of the statements.
fn texts(lines: &[String]) -> Vec<&str> {
    let texts = lines.iter().filter_map(|line| line.split_once(": "));
    texts.filter_map(|(_, text)| text.rsplit(' ').next()).collect()
}

#[test]
fn joined_between_two_queries() {
    let mut wire = Wire::joined();
    rounds(&mut wire, &["a", "b", "c", "d"]);
    assert!(wire.seen.lines.is_empty());
    rounds(&mut wire, &["e", "f"]);
    // Nothing is said before it is proved; then everything.
    assert_eq!(wire.seen.lines[0], "1..2 DELETE >1: DELETE FROM a");
    assert_eq!(texts(&wire.seen.lines), ["a", "b", "c", "d", "e", "f"]);
}

#[test]
fn answers_that_are_alike_prove_as_much() {
    let mut wire = Wire::joined();
    for name in ["a", "b", "c", "d", "e"] {
        assert!(wire.seen.lines.is_empty());
        wire.client(&select(name).0);
        wire.server(&select(name).1);
    }
    assert_eq!(texts(&wire.seen.lines), ["a", "b", "c", "d", "e"]);
}

#[test]
fn an_orderly_end_proves_what_was_answered_last() {
    let mut wire = Wire::joined();
    rounds(&mut wire, &["a"]);
    wire.client(&simple(b'X'));
    wire.server_ends();
    assert_eq!(texts(&wire.close().lines), ["a"]);
    // Not with another answer behind it.
    let mut wire = Wire::joined();
    rounds(&mut wire, &["a"]);
    wire.server(&select("").1);
    wire.client(&simple(b'X'));
    wire.server_ends();
    assert!(wire.close().lines.is_empty());
    // Nor where the server's end is not seen: there may have been an answer that the client did not wait for.
    let mut wire = Wire::joined();
    rounds(&mut wire, &["a"]);
    wire.client(&simple(b'X'));
    assert!(wire.close().lines.is_empty());
}

#[test]
fn a_server_that_is_ready_proves_nothing_of_what_was_sent_before() {
    // A client may send several queries at once, each of which is answered with a ReadyForQuery of its own: behind the
    // first that is seen there may be more to come.
    let mut wire = Wire::joined();
    wire.server(&select("").1);
    wire.client(&select("a").0);
    wire.server(&select("b").1);
    let seen = wire.close();
    assert!(seen.lines.is_empty());
    assert_eq!(seen.losses["unpaired_request"], 1, "{:?}", seen.losses);
    // With the session's orderly end behind it, nothing is.
    let mut wire = Wire::joined();
    wire.server(&select("").1);
    wire.client(&select("a").0);
    wire.server(&select("a").1);
    wire.client(&simple(b'X'));
    wire.server_ends();
    assert_eq!(texts(&wire.close().lines), ["a"]);
}

#[test]
fn joined_before_an_answer() {
    let mut wire = Wire::joined();
    wire.server(&cat!(columns(), row(), complete("SELECT 1"), ready(b'I')));
    rounds(&mut wire, &["a", "b", "c", "d", "e"]);
    assert_eq!(texts(&wire.seen.lines), ["a", "b", "c", "d", "e"]);
}

#[test]
fn joined_in_the_middle_of_an_answer() {
    let mut wire = Wire::joined();
    wire.server(b"rest of a row");
    wire.server(&cat!([1, 2, 3], row(), complete("SELECT 1"), ready(b'I')));
    rounds(&mut wire, &["a", "b", "c", "d", "e"]);
    assert_eq!(texts(&wire.seen.lines), ["a", "b", "c", "d", "e"]);
}

#[test]
fn a_statement_prepared_before_has_its_name() {
    let mut wire = Wire::joined();
    let run = cat!(bind("", "old"), execute("", 0), sync());
    // The first may be the rest of several.
    for tag in [
        "INSERT 0 1",
        "INSERT 0 1",
        "UPDATE 1",
        "DELETE 1",
        "INSERT 0 1",
        "UPDATE 1",
    ] {
        wire.client(&run);
        wire.server(&cat!(simple(b'2'), complete(tag), ready(b'I')));
    }
    assert_eq!(
        wire.seen.lines,
        [
            "3..4 INSERT >1 @old",
            "5..6 UPDATE >1 @old",
            "7..8 DELETE >1 @old",
            "9..10 INSERT >1 @old",
            "11..12 UPDATE >1 @old"
        ]
    );
}

#[test]
fn a_client_that_does_not_wait_proves_nothing() {
    // Two queries are always under way; the first was sent before the connection was joined.
    let mut wire = Wire::joined();
    wire.client(&cat!(select("a").0, select("b").0));
    for name in ["c", "d", "e", "f", "g"] {
        wire.server(&select("").1);
        wire.client(&select(name).0);
    }
    let seen = wire.finish();
    assert_eq!(seen.lines, [""; 0]);
    assert_eq!(seen.losses.values().sum::<u64>(), 7, "{:?}", seen.losses);
}

#[test]
fn requests_that_take_turns_prove_no_less() {
    // A client that is two requests ahead and never shows it: each answer is for the request before the last.
    let empty = (query(""), cat!(simple(b'I'), ready(b'I')));
    let select = select("a");
    for first_fits in [true, false] {
        let mut wire = Wire::joined();
        for n in 0..4 {
            let [asked, other] = if n % 2 == 0 {
                [&empty, &select]
            } else {
                [&select, &empty]
            };
            wire.client(&asked.0);
            wire.server(if n == 0 && !first_fits { &other.1 } else { &asked.1 });
        }
        let seen = wire.close();
        assert_eq!(seen.lines, [""; 0], "{first_fits}");
    }
}

#[test]
fn an_answer_too_many_disproves() {
    let mut wire = Wire::joined();
    let (client, server) = select("a");
    wire.client(&client);
    wire.server(&server);
    wire.server(&server);
    wire.client(&client);
    wire.server(&server);
    wire.client(&client);
    wire.server(&server);
    assert!(wire.seen.lines.is_empty());
}

#[test]
fn an_answer_that_does_not_fit_disproves() {
    let mut wire = Wire::joined();
    rounds(&mut wire, &["a", "b"]);
    wire.client(&query("DELETE FROM t"));
    wire.server(&select("").1);
    assert!(wire.seen.lines.is_empty());
    rounds(&mut wire, &["c", "d", "e", "f", "g"]);
    assert_eq!(texts(&wire.seen.lines), ["c", "d", "e", "f", "g"]);
}

#[test]
fn a_lost_request() {
    let mut wire = Wire::session();
    rounds(&mut wire, &["a"]);
    let (client, server) = select("lost");
    wire.lose(Egress, &client);
    wire.server(&server);
    wire.client(&select("b").0);
    wire.tick();
    wire.server(&server);
    rounds(&mut wire, &["c", "d", "e", "f"]);
    assert_eq!(texts(&wire.seen.lines), ["a", "b", "c", "d", "e", "f"]);
    assert_eq!(wire.seen.losses["gap"], 1);
    assert_eq!(wire.seen.losses["unpaired_response"], 1);
}

#[test]
fn a_lost_answer() {
    let mut wire = Wire::session();
    rounds(&mut wire, &["a"]);
    let (client, server) = select("lost");
    wire.client(&client);
    wire.lose(Ingress, &server);
    wire.client(&select("b").0);
    wire.server(&server);
    wire.tick();
    rounds(&mut wire, &["c", "d", "e", "f"]);
    assert_eq!(texts(&wire.seen.lines), ["a"]);
    rounds(&mut wire, &["g", "h"]);
    assert_eq!(texts(&wire.seen.lines), ["a", "c", "d", "e", "f", "g", "h"]);
}

#[test]
fn a_lost_part_of_an_answer_is_no_loss_of_pairing() {
    // One answer was to come, and its end is seen: nothing else can be under way.
    let mut wire = Wire::session();
    let (client, _) = select("a");
    wire.client(&client);
    wire.lose(Ingress, &cat!(columns(), row()));
    wire.server(&cat!(row(), complete("SELECT 2"), ready(b'I')));
    wire.tick();
    rounds(&mut wire, &["b"]);
    assert_eq!(texts(&wire.seen.lines), ["b"]);
}

#[test]
fn a_hole_inside_a_row_is_none() {
    let mut wire = Wire::session();
    wire.client(&select("a").0);
    let long = message(b'D', &[0; 5000]);
    wire.server(&cat!(columns(), long[..100].to_vec()));
    wire.lose(Ingress, &long[100..4000]);
    wire.server(&cat!(long[4000..].to_vec(), complete("SELECT 1"), ready(b'I')));
    assert_eq!(wire.seen.lines, ["3..6 SELECT <1: SELECT a"]);
    assert!(wire.seen.losses.is_empty());
}

#[test]
fn a_hole_inside_a_query_takes_its_text() {
    let mut wire = Wire::session();
    let bytes = query("SELECT a, b, c FROM a_rather_long_name");
    wire.client(&bytes[..10]);
    wire.lose(Egress, &bytes[10..20]);
    wire.client(&bytes[20..]);
    wire.tick();
    wire.server(&select("").1);
    rounds(&mut wire, &["b"]);
    assert_eq!(wire.seen.lines[0], "3..6 SELECT <1");
    assert_eq!(texts(&wire.seen.lines), ["b"]);
}

#[test]
fn what_was_prepared_before_a_hole_may_be_something_else() {
    let mut wire = Wire::session();
    wire.client(&cat!(parse("s", "SELECT 1"), sync()));
    wire.server(&cat!(simple(b'1'), ready(b'I')));
    wire.lose(
        Egress,
        &cat!(close(b'S', "s"), parse("s", "DELETE FROM t"), sync()),
    );
    wire.server(&cat!(simple(b'3'), simple(b'1'), ready(b'I')));
    wire.client(&query("BEGIN"));
    wire.tick();
    wire.server(&cat!(complete("BEGIN"), ready(b'I')));
    rounds(&mut wire, &["a", "b", "c"]);
    wire.client(&cat!(bind("", "s"), execute("", 0), sync()));
    wire.server(&cat!(simple(b'2'), complete("DELETE 1"), ready(b'I')));
    assert_eq!(wire.seen.lines.last().unwrap(), "15..16 DELETE >1 @s");
}

#[test]
fn known_requests_before_a_hole_still_get_their_answers() {
    let mut wire = Wire::session();
    wire.client(&cat!(select("a").0, select("b").0));
    wire.lose(Egress, &select("lost").0);
    wire.client(&select("c").0);
    wire.tick();
    let (_, server) = select("");
    wire.server(&cat!(server.clone(), server.clone(), server.clone(), server));
    assert_eq!(texts(&wire.seen.lines), ["a", "b"]);
}

#[test]
fn a_login_begins_anew() {
    // Its SYN was not seen.
    let mut wire = Wire::joined();
    wire.client(&startup(&[("user", "ann"), ("database", "shop")]));
    wire.server(&cat!(auth(0), ready(b'I')));
    rounds(&mut wire, &["a"]);
    assert_eq!(texts(&wire.seen.lines), ["a"]);
}

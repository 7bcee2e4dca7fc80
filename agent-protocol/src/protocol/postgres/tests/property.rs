//! Sessions whose transactions are known, cut into chunks anywhere and with chunks missing.

use super::*;
use proptest::prelude::*;

/// A request of known outcome.
#[derive(Debug, Clone, Copy)]
enum Op {
    Select,
    Script,
    Extended,
    LongRow,
    Named,
    Again,
    Failed,
    Aborted,
    CopyOut,
    Suspended,
    Empty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// One request at a time.
    Alternating,
    /// Some requests, then all their answers.
    Bursts,
}

/// Bytes of both sides, and what is expected: the line without its times.
fn exchange(op: Op, n: usize) -> (Vec<u8>, Vec<u8>, Vec<String>) {
    let run = cat!(bind("", ""), describe(b'P', ""), execute("", 0));
    match op {
        Op::Select => (
            query(&format!("SELECT c{n}, 'secret'")),
            cat!(columns(), row(), row(), complete("SELECT 2"), ready(b'I')),
            vec![format!("SELECT <2: SELECT c{n}, ?")],
        ),
        Op::Script => (
            query(&format!("INSERT INTO t{n} VALUES (1); DELETE FROM u{n}")),
            cat!(complete("INSERT 0 1"), complete("DELETE 7"), ready(b'I')),
            vec![
                format!("INSERT >1: INSERT INTO t{n} VALUES (?)"),
                format!("DELETE >7: DELETE FROM u{n}"),
            ],
        ),
        Op::Extended => (
            cat!(parse("", &format!("UPDATE t{n} SET a = $1")), run, sync()),
            cat!(
                simple(b'1'),
                simple(b'2'),
                simple(b'n'),
                complete("UPDATE 3"),
                ready(b'I')
            ),
            vec![format!("UPDATE >3: UPDATE t{n} SET a = $1")],
        ),
        Op::LongRow => (
            query(&format!("TABLE t{n}")),
            cat!(
                columns(),
                message(b'D', &cat!([0, 1, 0, 0, 11, 184], [0; 3000])),
                complete("SELECT 1"),
                ready(b'I')
            ),
            vec![format!("TABLE <1: TABLE t{n}")],
        ),
        Op::Named => (
            cat!(
                parse(&format!("s{n}"), &format!("SELECT d{n}")),
                describe(b'S', &format!("s{n}")),
                sync()
            ),
            cat!(simple(b'1'), parameters(), columns(), ready(b'I')),
            vec![format!("PREPARE @s{n}: SELECT d{n}")],
        ),
        Op::Again => (
            cat!(
                parse("again", &format!("SELECT e{n}")),
                bind("", "again"),
                execute("", 0),
                close(b'S', "again"),
                sync()
            ),
            cat!(
                simple(b'1'),
                simple(b'2'),
                row(),
                complete("SELECT 1"),
                simple(b'3'),
                ready(b'I')
            ),
            vec![format!("SELECT <1 @again: SELECT e{n}")],
        ),
        Op::Failed => (
            query(&format!("DROP TABLE t{n}")),
            cat!(notice(), failed("42P01"), ready(b'I')),
            vec![format!("DROP !42P01: DROP TABLE t{n}")],
        ),
        Op::Aborted => (
            cat!(
                parse("", &format!("SELECT f{n}")),
                run,
                parse("", &format!("DELETE FROM g{n}")),
                run,
                bind("", "none"),
                execute("", 0),
                sync()
            ),
            cat!(
                simple(b'1'),
                simple(b'2'),
                columns(),
                failed("22012"),
                ready(b'I')
            ),
            vec![
                format!("SELECT !22012: SELECT f{n}"),
                format!("DELETE !pipeline_aborted: DELETE FROM g{n}"),
                "- !pipeline_aborted @none".into(),
            ],
        ),
        Op::CopyOut => (
            query(&format!("COPY t{n} TO STDOUT")),
            cat!(
                copy_response(b'H'),
                copy_data(b"secret"),
                copy_data(&[b'Z'; 2000]),
                simple(b'c'),
                complete("COPY 2"),
                ready(b'I')
            ),
            vec![format!("COPY >2: COPY t{n} TO STDOUT")],
        ),
        Op::Suspended => (
            cat!(
                parse("", &format!("SELECT h{n}")),
                bind("", ""),
                execute("", 1),
                execute("", 1),
                sync()
            ),
            cat!(
                simple(b'1'),
                simple(b'2'),
                row(),
                simple(b's'),
                row(),
                complete("SELECT 1"),
                ready(b'I')
            ),
            vec![format!("SELECT <2: SELECT h{n}")],
        ),
        Op::Empty => (query(""), cat!(simple(b'I'), ready(b'I')), vec![]),
    }
}

fn op() -> impl Strategy<Value = Op> {
    prop::sample::select(vec![
        Op::Select,
        Op::Script,
        Op::Extended,
        Op::LongRow,
        Op::Named,
        Op::Again,
        Op::Failed,
        Op::Aborted,
        Op::CopyOut,
        Op::Suspended,
        Op::Empty,
    ])
}

type Step = (Direction, Vec<u8>);

/// The steps of a session, each at its own time, and its transactions.
fn session(style: Style, ops: &[Vec<Op>]) -> (Vec<Step>, Vec<String>) {
    let mut steps = vec![
        (
            Direction::Egress,
            startup(&[("user", "ann"), ("database", "shop")]),
        ),
        (
            Direction::Ingress,
            cat!(auth(0), status("standard_conforming_strings", "on"), ready(b'I')),
        ),
    ];
    let mut lines = Vec::new();
    let mut n = 0;
    let bursts: Vec<Vec<Op>> = match style {
        Style::Alternating => ops.iter().flatten().map(|op| vec![*op]).collect(),
        Style::Bursts => ops.to_vec(),
    };
    for burst in bursts.iter().filter(|burst| !burst.is_empty()) {
        let (mut client, mut server) = (Vec::new(), Vec::new());
        let time = steps.len() + 1;
        for op in burst {
            let (request, answer, expected) = exchange(*op, n);
            client.extend(request);
            server.extend(answer);
            lines.extend(
                expected
                    .into_iter()
                    .map(|line| format!("{time}..{} {line}", time + 1)),
            );
            n += 1;
        }
        steps.push((Direction::Egress, client));
        steps.push((Direction::Ingress, server));
    }
    (steps, lines)
}

/// Runs a session in chunks of these lengths, without those at which `drop` says so.
fn run(steps: &[Step], lengths: &[usize], joined: bool, mut drop: impl FnMut(usize) -> bool) -> Seen {
    let mut wire = if joined { Wire::joined() } else { Wire::new(true) };
    let mut lengths = lengths.iter().copied().cycle();
    for (i, (direction, bytes)) in steps.iter().enumerate() {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (chunk, next) = rest.split_at(lengths.next().unwrap_or(rest.len()).min(rest.len()));
            rest = next;
            wire.time = i as u64;
            if drop(i) {
                wire.lose(*direction, chunk);
            } else {
                wire.send(*direction, chunk);
            }
        }
        wire.tick();
    }
    wire.time = steps.len() as u64;
    wire.close()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// The line without what may be absent: statement name and text.
fn bare(line: &str) -> &str {
    let line = line.split_once(": ").map_or(line, |(bare, _)| bare);
    line.split_once(" @").map_or(line, |(bare, _)| bare)
}

/// Whether a transaction that was reported is one of those expected, where something may be unknown.
fn is_true(line: &str, expected: &[String]) -> bool {
    expected.iter().any(|truth| {
        let text = |line: &str| line.split_once(": ").map(|(_, text)| text.to_owned());
        let same = |a: Option<String>, b: Option<String>| a.is_none() || a == b;
        let operation = bare(truth).replacen(" TABLE ", " SELECT ", 1);
        let unnamed = |line: &str| {
            let mut words: Vec<&str> = line.split(' ').collect();
            words[1] = "-";
            words.join(" ")
        };
        let told = bare(line) == bare(truth)
            || text(line).is_none() && (bare(line) == operation || bare(line) == unnamed(bare(truth)));
        told && same(text(line), text(truth))
    })
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        Just(vec![usize::MAX]),
        prop::collection::vec(1..40_usize, 1..20),
        prop::collection::vec(20..2000_usize, 1..20),
    ]
}

fn style() -> impl Strategy<Value = Style> {
    prop_oneof![Just(Style::Alternating), Just(Style::Bursts)]
}

fn bursts(most: usize) -> impl Strategy<Value = Vec<Vec<Op>>> {
    prop::collection::vec(prop::collection::vec(op(), 1..6), 1..most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn chunks_do_not_matter(style in style(), ops in bursts(8), lengths in lengths()) {
        let (steps, expected) = session(style, &ops);
        let seen = run(&steps, &lengths, false, |_| false);
        prop_assert_eq!(sorted(seen.lines), sorted(expected));
        prop_assert!(seen.losses.is_empty(), "{:?}", seen.losses);
    }

    #[test]
    fn holes_make_nothing_false(
        style in style(),
        ops in bursts(24),
        lengths in lengths(),
        joined: bool,
        share in 1..30_u8,
        dice in prop::collection::vec(0..100_u8, 1..200),
    ) {
        let (mut steps, expected) = session(style, &ops);
        if joined {
            // Times stay as they are.
            steps[0].1.clear();
            steps[1].1.clear();
        }
        let mut dice = dice.into_iter().cycle();
        let seen = run(&steps, &lengths, joined, |_| dice.next().is_some_and(|die| die < share));
        let mut left = expected.clone();
        for line in &seen.lines {
            prop_assert!(is_true(line, &expected), "{line}\nof {expected:#?}");
            // And each once.
            if let Some(at) = left.iter().position(|truth| is_true(line, std::slice::from_ref(truth))) {
                left.remove(at);
            } else {
                prop_assert!(false, "twice: {line}\nof {expected:#?}");
            }
        }
    }

    /// Without holes a joined connection misses nothing, once it is proved.
    #[test]
    fn joining_misses_little(ops in bursts(12)) {
        let (mut steps, expected) = session(Style::Alternating, &ops);
        steps[0].1.clear();
        steps[1].1.clear();
        let requests = ops.iter().flatten().count();
        let seen = run(&steps, &[usize::MAX], true, |_| false);
        if requests >= 7 {
            // The first may be the rest of several.
            let first = expected.iter().filter(|line| line.starts_with("3..")).count();
            prop_assert!(seen.lines.len() + first >= expected.len(), "{:?}", seen.losses);
            prop_assert!(seen.lines.iter().all(|line| expected.contains(line)));
        }
    }

    #[test]
    fn any_bytes_do_no_harm(
        fresh: bool,
        steps in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..60)), 0..20),
        good in prop::collection::vec(op(), 0..4),
    ) {
        let mut wire = if fresh { Wire::session() } else { Wire::joined() };
        for (n, op) in good.into_iter().enumerate() {
            let (client, server, _) = exchange(op, n);
            wire.client(&client);
            wire.server(&server);
        }
        for (egress, bytes) in steps {
            wire.send(if egress { Direction::Egress } else { Direction::Ingress }, &bytes);
        }
        wire.close();
    }
}

/// The steps of a client that has `window` requests in flight and sends the next one for each answer, from when it has
/// logged in, and the transactions.
fn sliding(ops: &[Op], window: usize) -> (Vec<Step>, Vec<String>) {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = Vec::new();
    let mut starts = Vec::new();
    for answered in 0..ops.len() {
        while starts.len() < ops.len().min(answered + window) {
            let n = starts.len();
            steps.push((Direction::Egress, exchange(ops[n], n).0));
            starts.push(steps.len());
        }
        let (_, answer, expected) = exchange(ops[answered], answered);
        steps.push((Direction::Ingress, answer));
        let times = format!("{}..{}", starts[answered], steps.len());
        lines.extend(expected.into_iter().map(|line| format!("{times} {line}")));
    }
    (steps, lines)
}

/// A client with a sliding window, seen for `length` steps behind the first `joined` ones, up to a close.
fn close_makes_nothing_false(ops: &[Op], window: usize, joined: usize, length: usize, terminates: bool) {
    let (mut steps, expected) = sliding(ops, window);
    steps.truncate(joined + length);
    let asked = (1..)
        .zip(&steps)
        .filter(|(_, (direction, _))| *direction == Direction::Egress);
    let unanswered: Vec<usize> = asked.map(|(time, _)| time).collect();
    let answered = steps.len() - unanswered.len();
    let unanswered = &unanswered[answered..];
    for step in steps.iter_mut().take(joined) {
        step.1.clear();
    }
    let mut wire = Wire::joined();
    for (i, (direction, bytes)) in steps.iter().enumerate() {
        wire.time = i as u64;
        if !bytes.is_empty() {
            wire.send(*direction, bytes);
        }
    }
    if terminates {
        wire.client(&simple(b'X'));
        if unanswered.is_empty() {
            wire.server_ends();
        }
    }
    for line in &wire.close().lines {
        if line.contains(" !connection_closed") {
            let start = line.split_once("..").and_then(|(start, _)| start.parse().ok());
            assert!(
                start.is_some_and(|start| unanswered.contains(&start)),
                "answered: {line}"
            );
            continue;
        }
        assert!(is_true(line, &expected), "{line}\nof {expected:#?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// A client that leaves before its last answers came, whether or not it says so, and a server that is killed.
    #[test]
    fn a_close_at_any_place_makes_nothing_false(
        ops in prop_oneof![
            prop::collection::vec(op(), 8),
            prop::collection::vec(op(), 1..4).prop_map(|ops| ops.into_iter().cycle().take(8).collect()),
        ],
        window in 1..4_usize,
        joined in 1..12_usize,
        // More rounds of a client that never waits, and never shows it, cannot be told from one that does.
        length in 1..9_usize,
        terminates: bool,
    ) {
        close_makes_nothing_false(&ops, window, joined, length, terminates);
    }
}

/// Found by the property: requests of two kinds take turns, and the client is two ahead.
#[test]
fn a_close_while_kinds_take_turns_makes_nothing_false() {
    use Op::{Empty, LongRow, Select};
    let ops = [Select, Select, Select, LongRow, Empty, LongRow, Empty, LongRow];
    close_makes_nothing_false(&ops, 3, 6, 8, false);
}

/// How much is missing where chunks are lost; nothing may be false.
#[test]
fn few_are_missing_beside_the_lost() {
    let ops: Vec<Vec<Op>> = (0..2000)
        .map(|i| vec![[Op::Select, Op::Extended, Op::Script, Op::Failed, Op::LongRow][i % 5]])
        .collect();
    let (steps, expected) = session(Style::Alternating, &ops);
    let mut state = 1_u64;
    let seen = run(&steps, &[usize::MAX], false, |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33).is_multiple_of(100)
    });
    assert!(seen.lines.iter().all(|line| is_true(line, &expected)));
    let missing = expected.len() - seen.lines.len();
    assert!(missing * 10 < expected.len(), "{missing} of {}", expected.len());
}

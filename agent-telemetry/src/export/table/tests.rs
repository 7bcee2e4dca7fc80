use super::*;
use crate::id::Ids;
use crate::instrument::{Instrument, InstrumentKind};
use crate::metrics::{Aggregates, MetricsConfig};
use crate::resource::{Resources, ServiceInstance};
use crate::span::Description;
use std::io::{self, Write};
use std::sync::Mutex;

static DURATION: Instrument = Instrument {
    name: "duration",
    unit: "s",
    description: "",
    kind: InstrumentKind::Histogram(&[]),
};

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output {
    fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
    }
}

const SECOND: u64 = 1_000_000_000;
const BEGIN: u64 = 1_700_000_000 * SECOND;

fn on(screen: Screen) -> Table {
    Table::new(TableConfig {
        screen: Arc::new(screen),
        every: Some(SECOND),
        samples: 2,
        rows: 3,
    })
}

fn pipe() -> (Table, Output) {
    let output = Output::default();
    (on(Screen::to(Box::new(output.clone()))), output)
}

/// Of 120 columns and 12 rows.
fn terminal(has_colour: bool) -> (Table, Output) {
    let output = Output::default();
    let screen = Screen::terminal(Box::new(output.clone()), has_colour, || Some((120, 12)));
    (on(screen), output)
}

/// `n` requests that took `seconds` each.
fn requests(table: &mut Table, name: &str, n: usize, seconds: f64, since: u64) {
    answered(table, name, n, seconds, since, 200, None);
}

fn answered(
    table: &mut Table,
    name: &str,
    n: usize,
    seconds: f64,
    since: u64,
    status: u16,
    server: Option<&str>,
) {
    let resource = Resources::new(ServiceInstance::new("shop"), ServiceInstance::default()).get(None);
    let mut aggregates = Aggregates::new(MetricsConfig::default(), Default::default());
    for _ in 0..n {
        let mut description = Description::new("HTTP", name, Kind::Server);
        description.metric(HTTP_RESPONSE_STATUS_CODE, status);
        if let Some(server) = server {
            description.metric(SERVER_ADDRESS, server);
            description.metric(SERVER_PORT, 8080_u16);
        }
        if status >= 500 {
            description.error(Value::Decimal(status.into()));
        }
        description.measure(&DURATION, seconds);
        aggregates.record(&resource, &description, since, None, &mut Ids::seeded(1));
    }
    for series in aggregates.take_interval(since) {
        table.add(&series);
    }
}

fn words(text: &str, line: usize) -> Vec<&str> {
    text.lines().nth(line).unwrap().split_whitespace().collect()
}

#[test]
fn rates_are_of_the_last_windows_and_the_end_is_of_everything() {
    let (mut table, output) = pipe();
    table.tick(BEGIN);
    table.tick(BEGIN + SECOND);
    assert!(output.take().contains("(no requests yet)"));
    requests(&mut table, "GET /a", 100, 0.020, BEGIN + SECOND);
    table.tick(BEGIN + 2 * SECOND);
    let text = output.take();
    assert_eq!(
        words(&text, 1),
        [
            "shop", "HTTP", "server", "GET", "/a", "100", "50.0", "0", "2xx", "20.00ms", "20.00ms", "20.00ms"
        ]
    );
    table.tick(BEGIN + 2 * SECOND + 1);
    assert_eq!(output.take(), "", "not before its time");
    for second in 3..20 {
        table.tick(BEGIN + second * SECOND);
    }
    output.take();
    table.tick(BEGIN + 20 * SECOND);
    assert!(output.take().contains("(no requests yet)"), "long ago");
    table.finish();
    assert_eq!(words(&output.take(), 1)[6], "5.0");
}

#[test]
fn the_first_rows_are_shown_at_once() {
    let (mut table, output) = pipe();
    table.config.every = Some(10 * SECOND);
    table.tick(BEGIN);
    table.tick(BEGIN + SECOND);
    assert_eq!(output.take(), "");
    requests(&mut table, "GET /a", 1, 0.020, BEGIN + SECOND);
    table.tick(BEGIN + SECOND + SECOND / 2);
    assert!(output.take().contains("GET /a"));
    requests(&mut table, "GET /b", 1, 0.020, BEGIN + SECOND);
    table.tick(BEGIN + 11 * SECOND);
    assert_eq!(output.take(), "", "every ten seconds from then on");
    table.tick(BEGIN + 12 * SECOND);
    assert!(output.take().contains("GET /b"));
}

#[test]
fn what_fails_comes_first_and_is_never_hidden_by_what_does_not() {
    for (mut table, output) in [pipe(), terminal(false)] {
        for n in 0..30 {
            requests(&mut table, &format!("GET /busy/{n}"), 100, 0.001, BEGIN);
        }
        answered(&mut table, "GET /zz/always", 2, 0.001, BEGIN, 503, None);
        requests(&mut table, "GET /zz/sometimes", 3, 0.001, BEGIN);
        answered(&mut table, "GET /zz/sometimes", 1, 0.001, BEGIN, 500, None);
        table.tick(BEGIN + SECOND);
        table.tick(BEGIN + 2 * SECOND);
        let text = output.take();
        let text = text.rsplit("\x1b[J").next().unwrap();
        let always = words(text, 1);
        assert!(
            always.contains(&"/zz/always") && always.contains(&"(100%)"),
            "{text}"
        );
        assert!(always.contains(&"5xx"), "{text}");
        let sometimes = text.lines().nth(2).unwrap();
        assert!(
            sometimes.contains("/zz/sometimes") && sometimes.contains("1 (25%)"),
            "{text}"
        );
        assert!(sometimes.contains("2xx 75% 5xx 25%"), "{text}");
        assert!(text.contains("more rows, none of them failing"), "{text}");
    }
}

#[test]
fn equal_routes_of_two_servers_are_two_rows() {
    let (mut table, output) = pipe();
    answered(&mut table, "GET /a", 1, 0.001, BEGIN, 404, Some("192.0.2.1"));
    answered(&mut table, "GET /a", 2, 0.001, BEGIN, 200, Some("2001:db8::1"));
    table.tick(BEGIN + SECOND);
    let text = output.take();
    assert!(text.contains("192.0.2.1:8080") && text.contains("4xx"), "{text}");
    assert!(text.contains("[2001:db8::1]:8080"), "{text}");
}

#[test]
fn a_terminal_is_drawn_over_and_obeys_no_one_else() {
    let (mut table, output) = terminal(false);
    requests(&mut table, "GET /\x1b[2J", 1, 0.5e-3, BEGIN);
    table.add_samples(["one".to_owned(), "two".to_owned(), "three".to_owned()]);
    table.tick(BEGIN + SECOND);
    let first = output.take();
    assert!(first.contains("GET /?[2J") && first.contains("500µs"), "{first}");
    assert!(!first.contains("one\n") && first.contains("two\nthree\n"));
    table.tick(BEGIN + 2 * SECOND);
    // Titles, one row, two samples. What was typed stands behind the table, and goes too.
    assert!(output.take().starts_with("\r\x1b[4A\x1b[J\x1b[?7l"));
    let screen = table.config.screen.clone();
    let mut log = output.clone();
    screen.above(|| log.write_all(b"a line of the log\n")).unwrap();
    let above = output.take();
    assert!(
        above.starts_with("\r\x1b[4A\x1b[Ja line of the log\n\x1b[?7lSERVICE"),
        "{above:?}"
    );
    table.finish();
    output.take();
    screen.above(|| log.write_all(b"the end\n")).unwrap();
    assert_eq!(output.take(), "the end\n", "the last table stays");
}

#[test]
fn a_terminal_is_never_overfull() {
    for width in [20, 40, 60, 80, 200] {
        for height in [2, 6, 12, 24] {
            let sizes: fn() -> Option<(usize, usize)> = match (width, height) {
                (20, 2) => || Some((20, 2)),
                (40, 6) => || Some((40, 6)),
                (60, 12) => || Some((60, 12)),
                (80, 24) => || Some((80, 24)),
                (200, 24) => || Some((200, 24)),
                _ => continue,
            };
            let output = Output::default();
            let mut table = on(Screen::terminal(Box::new(output.clone()), true, sizes));
            for n in 0..50 {
                let route = format!("GET /a/rather/long/route/of/many/segments/{n}");
                answered(
                    &mut table,
                    &route,
                    10,
                    0.001,
                    BEGIN,
                    500,
                    Some("shop.internal.example"),
                );
            }
            table.note(vec!["3 connections are encrypted (TLS)".to_owned(); 9]);
            table.add_samples(["x".repeat(300), "y".repeat(300)]);
            table.tick(BEGIN + SECOND);
            let text = table.text(false);
            // Without colours.
            let plain = |line: &str| {
                let parts = line.split('\x1b');
                parts
                    .map(|part| part.split_once('m').map_or(part, |(_, text)| text))
                    .collect::<String>()
            };
            for line in text.lines() {
                let length = plain(line).chars().count();
                // Titles and numbers are as long as they are.
                assert!(length <= width.max(43), "{width}: {line:?}");
            }
            assert!(text.lines().count() < height.max(6), "{height}: {text}");
        }
    }
}

#[test]
fn colour_only_where_it_is_wanted() {
    for (has_colour, expected) in [(true, true), (false, false)] {
        let (mut table, output) = terminal(has_colour);
        answered(&mut table, "GET /a", 1, 0.001, BEGIN, 500, None);
        table.tick(BEGIN + SECOND);
        assert_eq!(output.take().contains("\x1b[31m"), expected);
    }
}

#[test]
fn what_is_not_told_stands_below() {
    let (mut table, output) = terminal(false);
    requests(&mut table, "GET /a", 1, 0.001, BEGIN);
    let notes = [
        "3 connections are encrypted (TLS)",
        "12 Redis connections await proof",
    ];
    table.note(notes.map(str::to_owned).to_vec());
    table.tick(BEGIN + SECOND);
    let text = output.take();
    assert!(
        text.contains("\nnot told: 3 connections are encrypted (TLS); 12 Redis connections await proof\n"),
        "{text}"
    );
}

#[test]
fn rows_are_bounded() {
    let (mut table, output) = pipe();
    for n in 0..ROWS + 100 {
        requests(&mut table, &format!("GET /{n}"), 1 + n % 3, 0.001, BEGIN);
    }
    assert!(table.rows.len() <= ROWS + 1);
    let counted: u64 = table.rows.values().map(|row| row.total.count).sum();
    assert_eq!(counted, (0..ROWS as u64 + 100).map(|n| 1 + n % 3).sum::<u64>());
    table.tick(BEGIN + SECOND);
    let text = output.take();
    assert_eq!(
        text.lines().filter(|line| line.starts_with("shop")).count() + 1,
        3,
        "{text}"
    );
    assert!(text.contains("(other)") && text.contains(" more rows"));
}

#[test]
fn shares_never_round_to_nothing_or_all() {
    for (n, of, shown) in [
        (0, 10, "0%"),
        (1, 1000, "<1%"),
        (5, 10, "50%"),
        (999, 1000, ">99%"),
        (3, 3, "100%"),
    ] {
        assert_eq!(percent(n, of), shown);
    }
}

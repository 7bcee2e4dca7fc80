//! The RED table and sample spans, for people.

use crate::metrics::{Exponential, Series};
use crate::span::{Batch, Kind, Span, Status};
use crate::value::Value;
use opentelemetry_semantic_conventions::attribute::{ERROR_TYPE, HTTP_RESPONSE_STATUS_CODE};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::io::{self, Write};

/// How the table is shown.
pub struct TableConfig {
    /// Where to.
    pub out: Box<dyn Write + Send>,
    /// Whether that is a terminal, where the table is drawn over the last one; else it is printed again.
    pub terminal: bool,
    /// Nanoseconds of the source's time between two tables; `None` for one at the end only.
    pub every: Option<u64>,
    /// Sample spans under each.
    pub samples: usize,
    /// Rows of a live table; the last one has all.
    pub rows: usize,
}

impl Default for TableConfig {
    /// To standard output: live on a terminal once a second, else every ten.
    fn default() -> Self {
        let out = io::stdout();
        let terminal = io::IsTerminal::is_terminal(&out);
        TableConfig {
            out: Box::new(out),
            terminal,
            every: Some(if terminal { 1_000_000_000 } else { 10_000_000_000 }),
            samples: 3,
            rows: 20,
        }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
struct Key {
    service: String,
    protocol: &'static str,
    kind: Kind,
    name: String,
}

#[derive(Default)]
struct Stats {
    count: u64,
    errors: u64,
    seconds: Exponential,
}

impl Stats {
    fn add(&mut self, seconds: &Exponential, error: bool) {
        self.count += seconds.count;
        self.errors += if error { seconds.count } else { 0 };
        self.seconds.merge(seconds);
    }

    fn merge(&mut self, other: &Stats) {
        self.count += other.count;
        self.errors += other.errors;
        self.seconds.merge(&other.seconds);
    }
}

#[derive(Default)]
struct Row {
    total: Stats,
    /// The current window and the one before, so that what is shown is never of an empty moment.
    windows: [Stats; 2],
}

/// Nanoseconds after which the current window becomes the one before.
const WINDOW: u64 = 5_000_000_000;

/// Rows that are told apart; what comes beyond counts under the last.
const ROWS: usize = 1000;

/// Columns of the table.
const HEAD: [&str; 8] = [
    "SERVICE",
    "KIND",
    "OPERATION",
    "RATE/s",
    "ERRORS",
    "p50",
    "p95",
    "p99",
];

/// The RED table.
pub(crate) struct Table {
    config: TableConfig,
    rows: BTreeMap<Key, Row>,
    samples: VecDeque<String>,
    begin: Option<u64>,
    now: u64,
    window_begin: [u64; 2],
    shown: Option<u64>,
    /// Lines to go up for drawing over.
    height: usize,
}

impl Table {
    pub(crate) fn new(config: TableConfig) -> Table {
        Table {
            config,
            rows: BTreeMap::new(),
            samples: VecDeque::new(),
            begin: None,
            now: 0,
            window_begin: [0; 2],
            shown: None,
            height: 0,
        }
    }

    /// Sample spans wanted of each batch.
    pub(crate) fn samples(&self) -> usize {
        if self.config.every.is_some() {
            self.config.samples
        } else {
            0
        }
    }

    pub(crate) fn add_samples(&mut self, lines: impl IntoIterator<Item = String>) {
        self.samples.extend(lines);
        let surplus = self.samples.len().saturating_sub(self.config.samples);
        self.samples.drain(..surplus);
    }

    /// Adds a worker's interval.
    pub(crate) fn add(&mut self, series: &Series) {
        let begin = self.begin.get_or_insert(series.since);
        *begin = (*begin).min(series.since);
        let seconds = series
            .cells
            .iter()
            .filter(|cell| cell.instrument.unit == "s")
            .find_map(|cell| cell.data.distribution());
        let Some(seconds) = seconds.filter(|seconds| seconds.count > 0) else {
            return;
        };
        let identity = &series.identity;
        let mut key = Key {
            service: identity.resource.service_name().to_owned(),
            protocol: identity.protocol,
            kind: identity.kind,
            name: if identity.name.is_empty() {
                "(other)".to_owned()
            } else {
                identity.name.to_string()
            },
        };
        if self.rows.len() >= ROWS && !self.rows.contains_key(&key) {
            key.service = "(other)".to_owned();
            key.name = "(other)".to_owned();
        }
        let row = self.rows.entry(key).or_default();
        row.total.add(seconds, identity.error);
        row.windows[0].add(seconds, identity.error);
    }

    /// Shows the table where it is time.
    pub(crate) fn tick(&mut self, now: u64) {
        self.now = self.now.max(now);
        let now = self.now;
        let Some(every) = self.config.every.filter(|_| now > 0) else {
            return;
        };
        let begin = *self.begin.get_or_insert(now);
        if self.window_begin[0] == 0 {
            self.window_begin = [begin; 2];
        }
        let shown = *self.shown.get_or_insert(begin);
        if now.saturating_sub(shown) < every {
            return;
        }
        self.shown = Some(now);
        self.show(false);
        if now.saturating_sub(self.window_begin[0]) >= WINDOW {
            self.window_begin = [now, self.window_begin[0]];
            for row in self.rows.values_mut() {
                row.windows.swap(0, 1);
                row.windows[0] = Stats::default();
            }
        }
    }

    /// Shows the table of everything.
    pub(crate) fn finish(&mut self) {
        self.samples.clear();
        self.show(true);
    }

    fn show(&mut self, last: bool) {
        let (text, height) = self.text(last);
        let result = self
            .config
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.config.out.flush());
        if let Err(error) = result {
            tracing::debug!(%error, "cannot show the table");
        }
        self.height = height;
    }

    fn text(&self, last: bool) -> (String, usize) {
        let begin = if last {
            self.begin.unwrap_or(0)
        } else {
            self.window_begin[1]
        };
        let elapsed = (self.now.saturating_sub(begin) as f64 / 1e9).max(1e-3);
        let mut rows: Vec<(&Key, Stats)> = Vec::new();
        for (key, row) in &self.rows {
            let mut stats = Stats::default();
            if last {
                stats.merge(&row.total);
            } else {
                row.windows.iter().for_each(|window| stats.merge(window));
            }
            if stats.count > 0 {
                rows.push((key, stats));
            }
        }
        let hidden = if last {
            0
        } else {
            rows.len().saturating_sub(self.config.rows)
        };
        if hidden > 0 {
            rows.sort_by_key(|(_, stats)| std::cmp::Reverse(stats.count));
            rows.truncate(self.config.rows);
            rows.sort_by_key(|(key, _)| *key);
        }
        let mut lines: Vec<[String; 8]> = vec![HEAD.map(str::to_owned)];
        lines.extend(rows.iter().map(|(key, stats)| line(key, stats, elapsed)));
        let mut text = format(&lines);
        if rows.is_empty() {
            text.push_str("(no requests yet)\n");
        }
        if hidden > 0 {
            let _ = writeln!(text, "({hidden} more)");
        }
        for sample in &self.samples {
            let _ = writeln!(text, "{sample}");
        }
        let height = text.lines().count();
        if self.config.terminal && self.height > 0 {
            text = format!("\x1b[{}A\x1b[J{text}", self.height);
        }
        if self.config.terminal {
            // A line that is wrapped would spoil the count of lines to go up.
            text = format!("\x1b[?7l{text}\x1b[?7h");
        } else if self.config.every.is_some() {
            text.push('\n');
        }
        (text, height)
    }
}

fn line(key: &Key, stats: &Stats, elapsed: f64) -> [String; 8] {
    let quantile = |q| stats.seconds.quantile(q).map_or_else(|| "-".to_owned(), duration);
    let kind = match key.kind {
        Kind::Server => "server",
        Kind::Client => "client",
        Kind::Producer => "producer",
        Kind::Consumer => "consumer",
    };
    let errors = match stats.errors {
        0 => "0".to_owned(),
        n => format!("{n} ({:.1}%)", n as f64 / stats.count as f64 * 100.0),
    };
    [
        printable(&key.service, 32),
        format!("{} {kind}", key.protocol),
        printable(&key.name, 60),
        format!("{:.1}", stats.count as f64 / elapsed),
        errors,
        quantile(0.5),
        quantile(0.95),
        quantile(0.99),
    ]
}

/// Without control characters, which a terminal would obey, and not longer than `width`.
fn printable(text: &str, width: usize) -> String {
    let clean = text.chars().map(|c| if c.is_control() { '?' } else { c });
    if text.chars().count() <= width {
        return clean.collect();
    }
    clean.take(width - 1).chain(['…']).collect()
}

fn format(lines: &[[String; 8]]) -> String {
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; 8] = std::array::from_fn(width);
    let mut text = String::new();
    for line in lines {
        let cells = line
            .iter()
            .zip(widths)
            .enumerate()
            .map(|(column, (cell, width))| match column {
                0..=2 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.2}s"),
        s if s >= 1e-3 => format!("{:.2}ms", s * 1e3),
        s => format!("{:.0}µs", s * 1e6),
    }
}

/// The last `n` spans of a batch, a line each.
pub(crate) fn sample_lines(batch: &Batch, n: usize) -> Vec<String> {
    batch
        .iter()
        .skip(batch.len().saturating_sub(n))
        .map(sample_line)
        .collect()
}

fn sample_line(span: Span<'_>) -> String {
    let attribute = |wanted: &str| {
        span.attributes()
            .find(|(key, _)| *key == wanted)
            .map(|(_, value)| value)
    };
    let status: Option<Value<&str>> = attribute(ERROR_TYPE).or_else(|| attribute(HTTP_RESPONSE_STATUS_CODE));
    let seconds = span.end().saturating_sub(span.start()) as f64 / 1e9;
    format!(
        "{} {} {} {}{} {} trace={}",
        printable(span.resource().service_name(), 32),
        span.kind().as_str(),
        printable(span.name(), 60),
        if span.status() == Status::Error {
            "error "
        } else {
            ""
        },
        status.map_or_else(|| "-".to_owned(), |status| printable(&status.to_string(), 40)),
        duration(seconds),
        super::hex(&span.context().trace_id),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Ids;
    use crate::instrument::{Instrument, InstrumentKind};
    use crate::metrics::{Aggregates, MetricsConfig};
    use crate::resource::{Resources, ServiceInstance};
    use crate::span::Description;
    use std::sync::{Arc, Mutex};

    static DURATION: Instrument = Instrument {
        name: "duration",
        unit: "s",
        description: "",
        kind: InstrumentKind::Histogram(&[]),
    };

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Screen {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    const SECOND: u64 = 1_000_000_000;
    const BEGIN: u64 = 1_700_000_000 * SECOND;

    fn table(terminal: bool) -> (Table, Screen) {
        let screen = Screen::default();
        let config = TableConfig {
            out: Box::new(screen.clone()),
            terminal,
            every: Some(SECOND),
            samples: 2,
            rows: 3,
        };
        (Table::new(config), screen)
    }

    /// `n` requests that took `seconds` each.
    fn requests(table: &mut Table, name: &str, n: usize, seconds: f64, since: u64) {
        let resource = Resources::new(ServiceInstance::new("shop"), ServiceInstance::default()).get(None);
        let mut aggregates = Aggregates::new(MetricsConfig::default(), Default::default());
        for _ in 0..n {
            let mut description = Description::new("HTTP", name, Kind::Server);
            description.measure(&DURATION, seconds);
            aggregates.record(&resource, &description, since, None, &mut Ids::seeded(1));
        }
        for series in aggregates.take_interval(since) {
            table.add(&series);
        }
    }

    #[test]
    fn rates_are_of_the_last_windows_and_the_end_is_of_everything() {
        let (mut table, screen) = table(false);
        table.tick(BEGIN);
        table.tick(BEGIN + SECOND);
        assert!(screen.take().contains("(no requests yet)"));
        requests(&mut table, "GET /a", 100, 0.020, BEGIN + SECOND);
        table.tick(BEGIN + 2 * SECOND);
        let text = screen.take();
        let row: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            row,
            [
                "shop", "HTTP", "server", "GET", "/a", "50.0", "0", "20.00ms", "20.00ms", "20.00ms"
            ]
        );
        table.tick(BEGIN + 2 * SECOND + 1);
        assert_eq!(screen.take(), "", "not before its time");
        for second in 3..20 {
            table.tick(BEGIN + second * SECOND);
        }
        screen.take();
        table.tick(BEGIN + 20 * SECOND);
        assert!(screen.take().contains("(no requests yet)"), "long ago");
        table.finish();
        let text = screen.take();
        assert_eq!(
            text.lines().nth(1).unwrap().split_whitespace().nth(5),
            Some("5.0"),
            "{text}"
        );
    }

    #[test]
    fn a_terminal_is_drawn_over_and_obeys_no_one_else() {
        let (mut table, screen) = table(true);
        requests(&mut table, "GET /\x1b[2J", 1, 0.5e-3, BEGIN);
        table.add_samples(["one".to_owned(), "two".to_owned(), "three".to_owned()]);
        table.tick(BEGIN + SECOND);
        let first = screen.take();
        assert!(first.contains("GET /?[2J") && first.contains("500µs"), "{first}");
        assert!(!first.contains("one\n") && first.contains("two\nthree\n"));
        table.tick(BEGIN + 2 * SECOND);
        // Head, one row, two samples.
        assert!(screen.take().starts_with("\x1b[?7l\x1b[4A\x1b[J"));
    }

    #[test]
    fn rows_are_bounded() {
        let (mut table, screen) = table(false);
        for n in 0..ROWS + 100 {
            requests(&mut table, &format!("GET /{n}"), 1 + n % 3, 0.001, BEGIN);
        }
        assert!(table.rows.len() <= ROWS + 1);
        let counted: u64 = table.rows.values().map(|row| row.total.count).sum();
        assert_eq!(counted, (0..ROWS as u64 + 100).map(|n| 1 + n % 3).sum::<u64>());
        table.tick(BEGIN + SECOND);
        let text = screen.take();
        assert_eq!(
            text.lines().filter(|line| line.starts_with("shop")).count() + 1,
            3,
            "{text}"
        );
        assert!(text.contains("(other)") && text.contains(" more)"));
    }
}

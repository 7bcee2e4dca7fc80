//! The RED table, what is not told, and sample spans, for people.

use super::layout::{self, Cell, Column, Look, printable};
use super::screen::Screen;
use crate::metrics::{Exponential, Identity, Series};
use crate::span::{Batch, Kind, Span, Status};
use crate::value::{OwnedAttribute, Value};
use opentelemetry_semantic_conventions::attribute::{
    ERROR_TYPE, HTTP_RESPONSE_STATUS_CODE, RPC_RESPONSE_STATUS_CODE, SERVER_ADDRESS, SERVER_PORT,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

/// How the table is shown.
pub struct TableConfig {
    /// Where.
    pub screen: Arc<Screen>,
    /// Nanoseconds of the source's time between two tables; `None` for one at the end only.
    pub every: Option<u64>,
    /// Sample spans under each.
    pub samples: usize,
    /// Rows of a live table that is not on a terminal; the last one has all.
    pub rows: usize,
}

impl Default for TableConfig {
    /// To standard output: live on a terminal once a second, else every ten.
    fn default() -> Self {
        let screen = Screen::stdout();
        let every = if screen.is_terminal() { 1 } else { 10 };
        TableConfig {
            screen: Arc::new(screen),
            every: Some(every * 1_000_000_000),
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
    /// The server's address, where the metrics have it.
    peer: String,
}

#[derive(Default)]
struct Stats {
    count: u64,
    errors: u64,
    seconds: Exponential,
    /// Counts by class of status. They are few.
    classes: Vec<(Box<str>, u64)>,
}

/// Classes of status of a row that are told apart.
const CLASSES: usize = 16;

impl Stats {
    fn add(&mut self, seconds: &Exponential, identity: &Identity) {
        self.count += seconds.count;
        self.errors += if identity.error { seconds.count } else { 0 };
        self.seconds.merge(seconds);
        self.add_class(&class(identity), seconds.count);
    }

    fn add_class(&mut self, class: &str, n: u64) {
        let is_full = self.classes.len() >= CLASSES;
        match self.classes.iter_mut().find(|(known, _)| **known == *class) {
            Some((_, count)) => *count += n,
            None if is_full => {
                if let Some((_, count)) = self.classes.last_mut() {
                    *count += n;
                }
            }
            None => {
                let class = if self.classes.len() + 1 == CLASSES {
                    "…"
                } else {
                    class
                };
                self.classes.push((class.into(), n));
            }
        }
    }

    fn merge(&mut self, other: &Stats) {
        self.count += other.count;
        self.errors += other.errors;
        self.seconds.merge(&other.seconds);
        for (class, n) in &other.classes {
            self.add_class(class, *n);
        }
    }

    /// The classes of status, the most frequent first, with their shares where there are several.
    fn status(&self) -> Cell {
        let mut classes: Vec<_> = self.classes.iter().collect();
        classes.sort_by_key(|(class, n)| (Reverse(*n), class));
        let text = match classes.as_slice() {
            [(class, _)] => class.to_string(),
            all => {
                let share = |(class, n): &&(Box<str>, u64)| format!("{class} {}", percent(*n, self.count));
                all.iter().map(share).collect::<Vec<_>>().join(" ")
            }
        };
        let look = match self.errors {
            0 if classes.iter().any(|(class, _)| **class == *"4xx") => Look::Warn,
            0 => Look::Plain,
            _ => Look::Fail,
        };
        Cell { text, look }
    }
}

/// The class of status of a series: `2xx` and so on in HTTP, the code in gRPC, else the error, or `ok`.
fn class(identity: &Identity) -> String {
    let attribute = |wanted: &str| find(&identity.attributes, wanted);
    match (
        attribute(HTTP_RESPONSE_STATUS_CODE),
        attribute(RPC_RESPONSE_STATUS_CODE),
    ) {
        (Some(Value::Int(status)), _) => format!("{}xx", status / 100),
        (_, Some(code)) => code.to_string(),
        _ => match attribute(ERROR_TYPE) {
            Some(error) => error.to_string(),
            None if identity.error => "error".to_owned(),
            None => "ok".to_owned(),
        },
    }
}

fn find<'a>(attributes: &'a [OwnedAttribute], wanted: &str) -> Option<&'a Value<Box<str>>> {
    let found = attributes.iter().find(|(key, _)| *key == wanted);
    found.map(|(_, value)| value)
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

/// Rows that a low terminal shows at least, before sample spans.
const LEAST_ROWS: usize = 6;

/// Lines at most for what is not told.
const NOTES: usize = 2;

const fn text(title: &'static str, least: usize, most: usize, drop: u8) -> Column {
    Column {
        title,
        is_number: false,
        least,
        most,
        drop,
    }
}

const fn number(title: &'static str, drop: u8) -> Column {
    Column {
        title,
        is_number: true,
        least: 0,
        most: 20,
        drop,
    }
}

/// Columns of the table.
const COLUMNS: [Column; 11] = [
    text("SERVICE", 12, 32, 0),
    text("KIND", 11, 20, 3),
    text("OPERATION", 24, 60, 0),
    text("PEER", 14, 32, 5),
    number("COUNT", 4),
    number("RATE/s", 0),
    number("ERRORS", 0),
    text("STATUS", 9, 32, 2),
    number("p50", 7),
    number("p95", 1),
    number("p99", 6),
];

/// The RED table.
pub(crate) struct Table {
    config: TableConfig,
    rows: BTreeMap<Key, Row>,
    samples: VecDeque<String>,
    /// What is seen and not told.
    notes: Vec<String>,
    begin: Option<u64>,
    now: u64,
    window_begin: [u64; 2],
    shown: Option<u64>,
    /// A table with rows was shown.
    has_shown_rows: bool,
}

impl Table {
    pub(crate) fn new(config: TableConfig) -> Table {
        Table {
            config,
            rows: BTreeMap::new(),
            samples: VecDeque::new(),
            notes: Vec::new(),
            begin: None,
            now: 0,
            window_begin: [0; 2],
            shown: None,
            has_shown_rows: false,
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

    /// What is seen and not told, the most telling first.
    pub(crate) fn note(&mut self, notes: Vec<String>) {
        self.notes = notes;
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
                OTHER.to_owned()
            } else {
                identity.name.to_string()
            },
            peer: peer(identity),
        };
        if self.rows.len() >= ROWS && !self.rows.contains_key(&key) {
            key.service = OTHER.to_owned();
            key.name = OTHER.to_owned();
            key.peer = String::new();
        }
        let row = self.rows.entry(key).or_default();
        row.total.add(seconds, identity);
        row.windows[0].add(seconds, identity);
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
        // Nobody waits long for the first rows.
        let is_first = !self.has_shown_rows && !self.rows.is_empty();
        if now.saturating_sub(shown) < every && !is_first {
            return;
        }
        self.shown = Some(now);
        self.has_shown_rows |= is_first;
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
        self.notes.clear();
        self.show(true);
    }

    fn show(&mut self, last: bool) {
        self.config.screen.show(&self.text(last), last);
    }

    fn text(&self, last: bool) -> String {
        let screen = &self.config.screen;
        let (width, height) = screen.size().unzip();
        let begin = if last {
            self.begin.unwrap_or(0)
        } else {
            self.window_begin[1]
        };
        let elapsed = (self.now.saturating_sub(begin) as f64 / 1e9).max(1e-3);
        let mut rows = self.rows(last);
        let notes = self.notes(width);
        // The titles, the line of what is hidden, and the line of the cursor are there in any case.
        let free = height.map(|height| height.saturating_sub(3 + notes.len()));
        let (most, samples) = match free {
            _ if last => (usize::MAX, 0),
            None => (self.config.rows, self.samples.len()),
            Some(free) => {
                let samples = free
                    .saturating_sub(rows.len().min(LEAST_ROWS))
                    .min(self.samples.len());
                (free - samples, samples)
            }
        };
        let hidden = rows.split_off(rows.len().min(most.max(1)));
        let cells: Vec<_> = rows
            .iter()
            .map(|(key, stats, total)| line(key, stats, *total, elapsed))
            .collect();
        let mut text = layout::table(&COLUMNS, &cells, width, screen.has_colour());
        let mut say = |line: &str, look: Look| {
            let line = printable(line, width.unwrap_or(usize::MAX));
            let painted = if screen.has_colour() {
                look.paint(&line)
            } else {
                line
            };
            let _ = writeln!(text, "{painted}");
        };
        if rows.is_empty() {
            say("(no requests yet)", Look::Plain);
        }
        if !hidden.is_empty() {
            let failing = hidden.iter().filter(|(_, stats, _)| stats.errors > 0).count();
            match failing {
                0 => say(
                    &format!("({} more rows, none of them failing)", hidden.len()),
                    Look::Plain,
                ),
                n => say(
                    &format!("({} more rows, {n} of them failing)", hidden.len()),
                    Look::Fail,
                ),
            }
        }
        notes.iter().for_each(|note| say(note, Look::Warn));
        for sample in self.samples.iter().skip(self.samples.len() - samples) {
            say(sample, Look::Plain);
        }
        if !screen.is_terminal() && self.config.every.is_some() {
            text.push('\n');
        }
        text
    }

    /// The rows to be shown, with what of each is, and how many there were in all: failing ones first, those that fail
    /// most at the top; then those with the most requests.
    fn rows(&self, last: bool) -> Vec<(&Key, Stats, u64)> {
        let mut rows: Vec<(&Key, Stats, u64)> = Vec::new();
        for (key, row) in &self.rows {
            let mut stats = Stats::default();
            if last {
                stats.merge(&row.total);
            } else {
                row.windows.iter().for_each(|window| stats.merge(window));
            }
            if stats.count > 0 {
                rows.push((key, stats, row.total.count));
            }
        }
        // In thousandths, so that a row does not jump with each request.
        let failing = |stats: &Stats| Reverse((stats.errors * 1000).div_ceil(stats.count.max(1)));
        rows.sort_by(|(a_key, a, a_total), (b_key, b, b_total)| {
            let (a_rank, b_rank) = ((failing(a), Reverse(*a_total)), (failing(b), Reverse(*b_total)));
            a_rank.cmp(&b_rank).then_with(|| a_key.cmp(b_key))
        });
        rows
    }

    /// What is not told, in lines of `width`.
    fn notes(&self, width: Option<usize>) -> Vec<String> {
        let Some((first, rest)) = self.notes.split_first() else {
            return Vec::new();
        };
        let width = width.unwrap_or(usize::MAX);
        let mut lines = vec![format!("not told: {first}")];
        for note in rest {
            let used = lines.last().map_or(0, |line| line.chars().count());
            if used + 2 + note.chars().count() <= width {
                if let Some(line) = lines.last_mut() {
                    let _ = write!(line, "; {note}");
                }
            } else if lines.len() < NOTES {
                lines.push(format!("          {note}"));
            } else {
                break;
            }
        }
        lines
    }
}

/// What has no name of its own.
const OTHER: &str = "(other)";

fn peer(identity: &Identity) -> String {
    let address = find(&identity.attributes, SERVER_ADDRESS).map(Value::to_string);
    match (address, find(&identity.attributes, SERVER_PORT)) {
        (Some(address), Some(port)) if address.contains(':') => format!("[{address}]:{port}"),
        (Some(address), Some(port)) => format!("{address}:{port}"),
        (address, _) => address.unwrap_or_default(),
    }
}

fn percent(n: u64, of: u64) -> String {
    let share = n as f64 / of.max(1) as f64 * 100.0;
    match share {
        // What is there is not nothing, and what is missing not all.
        share if n > 0 && share < 1.0 => "<1%".to_owned(),
        share if n < of && share > 99.0 => ">99%".to_owned(),
        share => format!("{share:.0}%"),
    }
}

fn line(key: &Key, stats: &Stats, total: u64, elapsed: f64) -> [Cell; COLUMNS.len()] {
    let quantile = |q| {
        stats
            .seconds
            .quantile(q)
            .map_or_else(|| "-".to_owned(), duration)
            .into()
    };
    let kind = match key.kind {
        Kind::Server => "server",
        Kind::Client => "client",
        Kind::Producer => "producer",
        Kind::Consumer => "consumer",
    };
    let errors = match stats.errors {
        0 => Cell::from("0".to_owned()),
        n => Cell {
            text: format!("{n} ({})", percent(n, stats.count)),
            look: Look::Fail,
        },
    };
    [
        key.service.clone().into(),
        format!("{} {kind}", key.protocol).into(),
        key.name.clone().into(),
        key.peer.clone().into(),
        total.to_string().into(),
        format!("{:.1}", stats.count as f64 / elapsed).into(),
        errors,
        stats.status(),
        quantile(0.5),
        quantile(0.95),
        quantile(0.99),
    ]
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
mod tests;

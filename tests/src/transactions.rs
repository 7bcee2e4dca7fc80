//! Transactions without ids and clock: to compare what was seen live with the replay of a capture of the same
//! traffic, or with another witness.

use crate::otlp::{Attributes, Span, Telemetry};
use crate::tools;
use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// What two observers of the same traffic must agree on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Transaction {
    /// Name of the span.
    pub name: String,
    /// `SpanKind` as a number.
    pub kind: i32,
    /// Status code of OTLP: 0 unset, 1 ok, 2 error.
    pub status: i32,
    /// All its attributes.
    pub attributes: Attributes,
}

impl From<&Span> for Transaction {
    fn from(span: &Span) -> Transaction {
        Transaction {
            name: span.name.clone(),
            kind: span.kind,
            status: span.status,
            attributes: span.attributes.clone(),
        }
    }
}

/// One line of `--output jsonl`.
#[derive(Debug, Clone, Deserialize)]
pub struct Line {
    /// Both ends: `client` and `server`.
    pub connection: BTreeMap<String, String>,
    /// Name of the span.
    pub name: String,
    /// `SpanKind` by name.
    pub kind: String,
    /// Trace id in hexadecimal.
    pub trace_id: String,
    /// Span id in hexadecimal.
    pub span_id: String,
    /// Parent's span id.
    #[serde(default)]
    pub parent_span_id: Option<String>,
    /// Nanoseconds since the Unix epoch.
    pub start_unix_nano: u64,
    /// Nanoseconds since the Unix epoch.
    pub end_unix_nano: u64,
    /// `unset`, `ok` or `error`.
    pub status: String,
    /// Its attributes.
    pub attributes: BTreeMap<String, serde_json::Value>,
}

impl Line {
    /// Without ids and clock.
    ///
    /// # Errors
    /// Where kind or status has no such name.
    pub fn transaction(&self) -> Result<Transaction> {
        let place = |names: &[&str], name: &str| {
            let at = names.iter().position(|known| known.eq_ignore_ascii_case(name));
            at.and_then(|at| i32::try_from(at).ok())
                .with_context(|| format!("'{name}' is none of {names:?}"))
        };
        let text =
            |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let attributes = self.attributes.iter();
        Ok(Transaction {
            name: self.name.clone(),
            kind: place(
                &[
                    "unspecified",
                    "internal",
                    "server",
                    "client",
                    "producer",
                    "consumer",
                ],
                &self.kind,
            )?,
            status: place(&["unset", "ok", "error"], &self.status)?,
            attributes: attributes
                .map(|(key, value)| (key.clone(), text(value)))
                .collect(),
        })
    }
}

/// Replays `capture`: its exit status, its lines, and what it said on standard error.
///
/// # Errors
/// Where it does not run, or a line is not as promised.
pub fn replay(capture: &Path) -> Result<(Option<i32>, Vec<Line>, String)> {
    let output = Command::new(tools::agent())
        .args(["replay", "--output", "jsonl"])
        .arg(capture)
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
        .collect::<Result<Vec<Line>>>()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.code(), lines, said))
}

/// Spans of `service` that `telemetry` holds and the lines of a replay are the same transactions, each as often.
///
/// # Errors
/// Where they are not: with some that only one of the two has.
pub fn same(telemetry: &Telemetry, service: &str, lines: &[Line]) -> Result<()> {
    let mut balance: BTreeMap<Transaction, i64> = BTreeMap::new();
    let mut live = 0;
    for span in telemetry.spans.iter().filter(|span| span.service == service) {
        live += 1;
        *balance.entry(span.into()).or_default() += 1;
    }
    for line in lines {
        *balance.entry(line.transaction()?).or_default() -= 1;
    }
    balance.retain(|_, count| *count != 0);
    ensure!(live > 0, "{service} has no spans");
    if balance.is_empty() {
        return Ok(());
    }
    let some: Vec<String> = balance
        .iter()
        .take(6)
        .map(|(transaction, count)| format!("{count:+} {transaction:?}"))
        .collect();
    bail!(
        "{live} live, {} replayed; {} differ (+ live alone, - replay alone):\n{}",
        lines.len(),
        balance.len(),
        some.join("\n")
    );
}

/// As [`same`], and on each connection in the same order, which is that of the answers. Requests to the collector may
/// overtake each other: those of live spans may come in any order that makes it true.
///
/// # Errors
/// Where they are not.
pub fn same_in_order(telemetry: &Telemetry, service: &str, lines: &[Line]) -> Result<()> {
    same(telemetry, service, lines)?;
    let mut replayed: BTreeMap<String, Vec<Transaction>> = BTreeMap::new();
    for line in lines {
        let transaction = line.transaction()?;
        replayed
            .entry(client_port(&transaction)?)
            .or_default()
            .push(transaction);
    }
    let mut live: BTreeMap<String, BTreeMap<usize, Vec<Transaction>>> = BTreeMap::new();
    for span in telemetry.spans.iter().filter(|span| span.service == service) {
        let transaction = Transaction::from(span);
        let requests = live.entry(client_port(&transaction)?).or_default();
        requests.entry(span.request).or_default().push(transaction);
    }
    for (port, requests) in live {
        let replayed = replayed.get(&port).map(Vec::as_slice).unwrap_or_default();
        let mut requests: Vec<&[Transaction]> = requests.values().map(Vec::as_slice).collect();
        ensure!(
            consists_of(replayed, &mut requests),
            "port {port}: {} transactions are not in the order in which they were seen live",
            replayed.len()
        );
    }
    Ok(())
}

fn client_port(transaction: &Transaction) -> Result<String> {
    let port = transaction.attributes.get("client.port").cloned();
    port.with_context(|| format!("no client.port in {transaction:?}"))
}

/// Whether `pieces`, put together in some order, are `whole`.
fn consists_of(whole: &[Transaction], pieces: &mut Vec<&[Transaction]>) -> bool {
    if pieces.is_empty() {
        return whole.is_empty();
    }
    (0..pieces.len()).any(|at| {
        let piece = pieces.remove(at);
        let fits = whole
            .strip_prefix(piece)
            .is_some_and(|rest| consists_of(rest, pieces));
        pieces.insert(at, piece);
        fits
    })
}

//! What the tests of databases share.

use crate::scene::Scene;
use anyhow::{Context as _, Result, ensure};
use redwire_tests::otlp::{Kind, Telemetry};
use redwire_tests::transactions::{self, Line};
use redwire_tests::{Totals, client};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// In the literals, arguments and passwords of every client.
pub(crate) const SECRET: &str = "planted-secret";

/// What tells one operation from another.
const OPERATION: &[&str] = &["db.operation.name", "error.type"];

/// Spans and metric of a service at one side count as the clients do.
pub(crate) fn same(telemetry: &Telemetry, service: &str, kind: Kind, expected: &Totals) -> Result<()> {
    let metric = match kind {
        Kind::Server => "db.server.operation.duration",
        _ => "db.client.operation.duration",
    };
    let spans = telemetry.span_totals(service, kind, OPERATION);
    let metric = telemetry.metric_totals(service, metric, OPERATION);
    ensure!(
        spans == *expected && metric == *expected,
        "{service}, {kind:?}: (expected, spans, metric) {:?}\n  losses {:?}\n  capture {:?}",
        differences(expected, &spans, &metric),
        telemetry.losses(),
        telemetry.captured_bytes(),
    );
    Ok(())
}

fn differences(expected: &Totals, spans: &Totals, metric: &Totals) -> Vec<(String, [u64; 3])> {
    let mut names: Vec<&String> = expected.keys().chain(spans.keys()).chain(metric.keys()).collect();
    names.sort();
    names.dedup();
    let of = |name: &String| [expected, spans, metric].map(|totals| totals.get(name).copied().unwrap_or(0));
    let all = names.into_iter().map(|name| (name.clone(), of(name)));
    all.filter(|(_, [expected, spans, metric])| expected != spans || spans != metric)
        .collect()
}

/// Runs a client that prints `ready` and waits for a line, and starts the agent meanwhile. What the client counted.
pub(crate) fn attach_in_the_middle(
    scene: &mut Scene,
    client: &mut Command,
    arguments: &[&str],
) -> Result<Totals> {
    let mut child = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut output = BufReader::new(child.stdout.take().context("a client without output")?);
    let mut line = String::new();
    output.read_line(&mut line)?;
    ensure!(line == "ready\n", "the client says {line:?}");
    scene.start_agent(arguments)?;
    let mut input = child.stdin.take().context("a client without input")?;
    input.write_all(b"go\n")?;
    let mut counts = String::new();
    output.read_to_string(&mut counts)?;
    ensure!(child.wait()?.success(), "the client failed");
    serde_json::from_str(&counts).context("a client's counts")
}

/// Runs a client selected as `client`.
pub(crate) fn run(command: &mut Command) -> Result<Totals> {
    let mut counts: Totals = client::run(command.envs(redwire_tests::service::selected_as("client")))?;
    counts.retain(|_, count| *count > 0);
    Ok(counts)
}

/// The replay of a capture of what `client` did: the same transactions as live, connection by connection.
pub(crate) fn replay_as_live(capture: &Path, telemetry: &Telemetry) -> Result<Vec<Line>> {
    let (status, lines, said) = transactions::replay(capture)?;
    ensure!(status == Some(0), "replay ended with {status:?}: {said}");
    transactions::same_in_order(telemetry, "client", &lines)?;
    std::fs::write(capture.with_file_name("replay.jsonl"), format!("{lines:?}"))?;
    Ok(lines)
}

/// An attribute of a line, in its text form; empty where it has none.
pub(crate) fn attribute(line: &Line, name: &str) -> String {
    let value = line.attributes.get(name);
    value.map_or_else(String::new, |value| {
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    })
}

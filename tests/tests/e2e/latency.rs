//! Durations are those that the server measures itself.

use crate::capturing;
use crate::scene::{Scene, same};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use redwire_tests::collector::Transport;
use redwire_tests::load;
use redwire_tests::otlp::{Kind, Span};
use redwire_tests::service::{Server, Service, selected_as};
use std::collections::HashMap;

/// Nanoseconds that a span may differ from the server's measurement.
const TOLERANCE: u64 = 1_000_000;

/// Delay in milliseconds, and number of requests.
const DELAYS: &[(u32, usize)] = &[(0, 500), (1, 500), (10, 200), (100, 100)];

pub(crate) fn tests() -> Vec<Trial> {
    let servers = [
        ("fastapi", Server::FastApi),
        ("stdlib", Server::Stdlib),
        ("node", Server::Node),
        ("go", Server::Go),
    ];
    let test = |(name, server)| capturing(format!("latency::{name}"), move |test| patiently(test, server));
    servers.map(test).into()
}

/// How often a measurement is repeated: what else runs on these cores gets between a read's return, where the span
/// begins, and the server's own clock, and moves the hundredth part of the requests that p99 is about.
const ATTEMPTS: usize = 3;

fn patiently(test: &str, server: Server) -> Result<()> {
    let mut outcome = latency(test, server);
    for _ in 1..ATTEMPTS {
        if let Err(error) = &outcome {
            eprintln!("{test}: once more, since {error:#}");
            outcome = latency(test, server);
        }
    }
    outcome
}

fn latency(test: &str, server: Server) -> Result<()> {
    let scene = Scene::start(test, Transport::Grpc, &["--route", "/delay/{ms}"])?;
    let service = Service::selected(server, "service", scene.folder())?;
    let mut counts = redwire_tests::Counts::new();
    for (delay, count) in DELAYS {
        let arguments = [
            "trace",
            &service.url(),
            &count.to_string(),
            &format!("/delay/{delay}"),
        ];
        redwire_tests::add(&mut counts, &load::go(&arguments, &selected_as("client"))?);
    }
    let telemetry = scene.finish()?;
    same(&telemetry, "service", Kind::Server, &counts)?;
    same(&telemetry, "client", Kind::Client, &counts)?;

    // The requests of one delay after another, on one connection: in the server's order.
    let mut measured = service.durations()?.into_iter();
    for (delay, count) in DELAYS {
        let path = format!("/delay/{delay}");
        let spans = telemetry
            .spans("service", Kind::Server)
            .filter(|span| span.attributes["url.path"] == path);
        let spans: Vec<u64> = spans.map(|span| span.end - span.start).collect();
        let measured: Vec<u64> = measured.by_ref().take(*count).collect();
        ensure!(
            spans.len() == *count && measured.len() == *count,
            "{} spans of {path}",
            spans.len()
        );
        for (quantile, name) in [(0.5, "median"), (0.99, "p99")] {
            let (ours, theirs) = (value_at(&spans, quantile), value_at(&measured, quantile));
            ensure!(
                ours.abs_diff(theirs) <= TOLERANCE,
                "{path}, {name}: {ours} ns by span, {theirs} ns by the server's own clock"
            );
        }
    }

    let servers: HashMap<&str, &Span> = telemetry
        .spans("service", Kind::Server)
        .map(|span| (span.trace_id.as_str(), span))
        .collect();
    for client in telemetry.spans("client", Kind::Client) {
        let server = servers
            .get(client.trace_id.as_str())
            .context("a client span without its server span")?;
        ensure!(
            client.start <= server.start && server.end <= client.end,
            "the client span ({}, {}) does not enclose the server span ({}, {})",
            client.start,
            client.end,
            server.start,
            server.end
        );
    }
    Ok(())
}

/// The value at a quantile, by rank.
fn value_at(values: &[u64], quantile: f64) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

//! gRPC: every implementation with every other, joined from the beginning and in the middle.

use crate::capturing;
use crate::scene::Scene;
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use redwire_tests::collector::Transport;
use redwire_tests::grpc::{self, LONG, Peer};
use redwire_tests::load;
use redwire_tests::otlp::{Kind, Telemetry};
use redwire_tests::process::Process;
use redwire_tests::service::selected_as;
use redwire_tests::{Totals, add, tools};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Trial> {
    let mut tests = Vec::new();
    for client in Peer::ALL {
        for server in Peer::ALL {
            let name = format!("{}::{}", client.name(), server.name());
            tests.push(capturing(format!("grpc::pair::{name}"), move |test| {
                pair(test, client, server)
            }));
            tests.push(capturing(format!("grpc::attach::{name}"), move |test| {
                attach(test, client, server)
            }));
        }
        tests.push(capturing(format!("grpc::long::{}", client.name()), move |test| {
            long(test, client)
        }));
        tests.push(capturing(
            format!("grpc::replay::{}", client.name()),
            move |test| replay(test, client),
        ));
    }
    tests
}

fn same(telemetry: &Telemetry, service: &str, kind: Kind, expected: &Totals) -> Result<()> {
    let (spans, metric) = (
        grpc::of_spans(telemetry, service, kind),
        grpc::of_metric(telemetry, service, kind),
    );
    ensure!(
        spans == *expected && metric == *expected,
        "{service}, {kind:?}:\n  expected {expected:?}\n  metric   {metric:?}\n  spans    {spans:?}\n  losses   {:?}",
        telemetry.losses(),
    );
    Ok(())
}

/// Counts with those of `Slow` in one, of which some ended by their deadline. That comes to both ends at once, and gRPC
/// sends no more than a reset: on a busy machine it comes too early to be told from a cancellation.
fn without_deadlines(mut calls: Totals) -> Result<Totals> {
    let late = calls.remove("Slow DEADLINE_EXCEEDED").unwrap_or_default();
    let cancelled = calls.remove("Slow CANCELLED").unwrap_or_default();
    ensure!(late > 0 && cancelled > 0, "{late} late, {cancelled} cancelled");
    calls.insert("Slow".to_owned(), late + cancelled);
    Ok(calls)
}

/// All kinds of calls, errors, cancellations and deadlines are counted by method and status as the client counts them.
fn pair(test: &str, client: Peer, server: Peer) -> Result<()> {
    let scene = Scene::start(test, Transport::Grpc, &[])?;
    let folder = scene.folder().to_owned();
    let (_server, port) = server.serve(&folder, &selected_as("service"))?;
    let mut calls = Totals::new();
    for (mode, count) in [("mix", 1_000), ("cancel", 40), ("deadline", 16)] {
        add(
            &mut calls,
            &client.call(port, mode, count, &selected_as("client"))?,
        );
    }
    let telemetry = scene.finish()?;
    let calls = without_deadlines(calls)?;
    for (service, kind) in [("client", Kind::Client), ("service", Kind::Server)] {
        let spans = without_deadlines(grpc::of_spans(&telemetry, service, kind))?;
        let metric = without_deadlines(grpc::of_metric(&telemetry, service, kind))?;
        ensure!(
            spans == calls && metric == calls,
            "{service}:\n  expected {calls:?}\n  metric   {metric:?}\n  spans    {spans:?}\n  losses   {:?}",
            telemetry.losses(),
        );
    }
    Ok(())
}

/// The agent comes when the connection has long been open: nothing false, and each call at its place in the
/// client's count or nowhere.
fn attach(test: &str, client: Peer, server: Peer) -> Result<()> {
    const COUNT: usize = 1_500;
    let mut scene = Scene::without_agent(test, Transport::Http)?;
    let folder = scene.folder().to_owned();
    let (_server, port) = server.serve(&folder, &selected_as("service"))?;
    let mut command = client.client(port, "paced", COUNT, &selected_as("client"))?;
    command.stdout(std::process::Stdio::piped());
    let mut process = Process::spawn("client", &mut command, &folder, true)?;
    let output = process.take_stdout().context("the client has no output")?;
    std::thread::sleep(Duration::from_millis(1_500));
    ensure!(process.is_running(), "the client was done before the agent came");
    scene.start_agent(&[])?;
    let calls: Totals = serde_json::from_reader(output)?;
    process.wait(Duration::from_secs(60))?;
    load::all(calls.values().sum(), COUNT)?;
    let telemetry = scene.finish()?;
    for (service, kind) in [("client", Kind::Client), ("service", Kind::Server)] {
        let spans = grpc::of_spans(&telemetry, service, kind);
        let (mut named, mut all) = (0, 0);
        for (call, count) in &spans {
            all += count;
            let (method, code) = call.split_once(' ').unwrap_or_default();
            ensure!(
                method == "-" || code == "-" || calls.get(call).is_some_and(|made| made >= count),
                "{service}: {count} of {call}, the client made {calls:?}"
            );
            ensure!(
                method == "-" || calls.keys().any(|made| made.starts_with(&format!("{method} "))),
                "{service}: {method} was never called"
            );
            ensure!(
                code == "-" || calls.keys().any(|made| made.ends_with(&format!(" {code}"))),
                "{service}: no call ended with {code}"
            );
            if method != "-" && code != "-" {
                named += count;
            }
        }
        ensure!(all > 0, "{service}: no span; losses {:?}", telemetry.losses());
        println!("{test}: {service}: {named} of {all} calls fully named; {spans:?}");
    }
    Ok(())
}

/// A call of many messages: the counters are right in the end.
fn long(test: &str, client: Peer) -> Result<()> {
    let scene = Scene::start(test, Transport::Grpc, &[])?;
    let folder = scene.folder().to_owned();
    let (_server, port) = Peer::Go.serve(&folder, &selected_as("service"))?;
    let calls = client.call(port, "long", 1, &selected_as("client"))?;
    let telemetry = scene.finish()?;
    for (service, kind) in [("client", Kind::Client), ("service", Kind::Server)] {
        same(&telemetry, service, kind, &calls)?;
        for direction in ["request", "response"] {
            let series = telemetry.series.iter().filter(|series| {
                series.service == service
                    && series.metric == "redwire.rpc.messages"
                    && series.attributes.get("redwire.rpc.direction").map(String::as_str) == Some(direction)
            });
            let counted: u64 = series.map(|series| series.count).sum();
            ensure!(
                counted == LONG as u64,
                "{service}: {counted} {direction} messages instead of {LONG}"
            );
            let attribute = format!("redwire.rpc.{direction}.messages");
            let of_span = telemetry
                .spans(service, kind)
                .filter_map(|span| span.attributes.get(&attribute));
            ensure!(
                of_span.eq([&LONG.to_string()]),
                "{service}: the span's {attribute}: {:?}",
                telemetry.spans
            );
        }
    }
    Ok(())
}

/// What tcpdump captured gives the same calls as the client's side did live.
fn replay(test: &str, client: Peer) -> Result<()> {
    let scene = Scene::start(test, Transport::Grpc, &[])?;
    let folder = scene.folder().to_owned();
    let (_server, port) = Peer::Go.serve(&folder, &[])?;
    let file = folder.join("calls.pcap");
    let mut tcpdump = Command::new(tools::find("tcpdump").context("tcpdump is not installed")?);
    tcpdump.args([
        "-i",
        "lo",
        "--immediate-mode",
        "-U",
        "-B",
        "65536",
        "-Z",
        "root",
        "-w",
    ]);
    tcpdump.arg(&file).arg(format!("tcp port {port}"));
    let mut tcpdump = Process::spawn("tcpdump", &mut tcpdump, &folder, false)?;
    tcpdump.wait_for_log("listening on")?;
    let mut calls = Totals::new();
    for (mode, count) in [("mix", 500), ("cancel", 20)] {
        add(
            &mut calls,
            &client.call(port, mode, count, &selected_as("client"))?,
        );
    }
    // The last packets are on their way to the file.
    std::thread::sleep(Duration::from_millis(500));
    tcpdump.terminate()?;
    let telemetry = scene.finish()?;
    same(&telemetry, "client", Kind::Client, &calls)?;

    let output = Command::new(tools::agent())
        .args(["replay", "--output", "jsonl"])
        .arg(&file)
        .output()?;
    ensure!(
        output.status.success(),
        "replay: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut replayed: BTreeMap<String, u64> = BTreeMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let line: serde_json::Value = serde_json::from_str(line)?;
        let attributes = line["attributes"].as_object().context("attributes")?;
        let attributes = attributes.iter().map(|(key, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (key.clone(), text)
        });
        let name = line["name"].as_str().unwrap_or_default().to_owned();
        *replayed.entry(described(&name, attributes)).or_default() += 1;
    }
    let mut live: BTreeMap<String, u64> = BTreeMap::new();
    for span in telemetry.spans("client", Kind::Client) {
        *live
            .entry(described(&span.name, span.attributes.clone()))
            .or_default() += 1;
    }
    for (what, count) in &live {
        ensure!(
            replayed.get(what) == Some(count),
            "live {count} of {what}, replayed {replayed:?}"
        );
    }
    ensure!(
        replayed.len() == live.len(),
        "live {live:?}\nreplayed {replayed:?}"
    );
    Ok(())
}

/// What a span says of its call.
fn described(name: &str, attributes: impl IntoIterator<Item = (String, String)>) -> String {
    let kept = attributes.into_iter().filter(|(key, _)| {
        let prefixes = ["rpc.", "redwire.rpc.", "error.", "server.", "client.", "network."];
        // What a server refuses it may refuse before the client has sent its message: packets that cross on the wire
        // are not in the order of the client's calls.
        let crossing = name.ends_with("/Missing") && key.starts_with("redwire.rpc.request.");
        !crossing && prefixes.iter().any(|prefix| key.starts_with(prefix))
    });
    let kept: BTreeMap<String, String> = kept.collect();
    format!("{name} {kept:?}")
}

//! gRPC: every implementation with every other, joined from the beginning and in the middle.

use crate::capturing;
use crate::scene::Scene;
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use redwire_tests::client::{self, Language, program};
use redwire_tests::collector::Transport;
use redwire_tests::grpc::{self, DRIP, LONG, Peer};
use redwire_tests::load;
use redwire_tests::otlp::{Kind, Telemetry};
use redwire_tests::process::{Process, free_port};
use redwire_tests::service::selected_as;
use redwire_tests::tcpdump::Tcpdump;
use redwire_tests::{Totals, add, transactions};
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
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
        for (name, test) in [
            ("churn", churn as fn(&str, Peer) -> Result<()>),
            ("long", long),
            ("drip", drip),
            ("deadlines", deadlines),
        ] {
            tests.push(capturing(
                format!("grpc::{name}::{}", client.name()),
                move |name| test(name, client),
            ));
        }
        tests.push(capturing(
            format!("grpc::replay::{}", client.name()),
            move |test| replay(test, client),
        ));
    }
    tests.push(capturing("grpc::web".to_owned(), web));
    tests.push(capturing("grpc::server_first".to_owned(), server_first));
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

/// grpcio's server, on C-core, speaks first, with a setting of its own (0xfe03): the client's preface reaches it only when
/// the server's SETTINGS have come. Every call is counted at both ends.
fn server_first(test: &str) -> Result<()> {
    let scene = Scene::start(test, Transport::Grpc, &[])?;
    let folder = scene.folder().to_owned();
    let (_server, port) = Peer::Python.serve(&folder, &selected_as("service"))?;
    let relay = TcpListener::bind(("127.0.0.1", 0))?;
    let relay_port = relay.local_addr()?.port();
    std::thread::spawn(move || {
        for client in relay.incoming() {
            relay_server_first(client?, port)?;
        }
        anyhow::Ok(())
    });
    let mut calls = Totals::new();
    for client in [Peer::Tonic, Peer::Python] {
        let called = client.call(relay_port, "mix", 200, &selected_as("client"))?;
        add(&mut calls, &called);
    }
    let telemetry = scene.finish()?;
    same(&telemetry, "client", Kind::Client, &calls)?;
    same(&telemetry, "service", Kind::Server, &calls)
}

/// Connects `client` with the server at `port`, whose first bytes go before the client's.
fn relay_server_first(mut client: TcpStream, port: u16) -> Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    server.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut first = [0; 4096];
    let length = server.read(&mut first)?;
    ensure!(first[3] == 4, "the server's first frame is no SETTINGS");
    client.write_all(&first[..length])?;
    server.set_read_timeout(None)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut server, &mut client);
        let _ = client.shutdown(Shutdown::Write);
    });
    Ok(())
}

/// What is known of calls on connections that are older than the agent, of those that began in the second half of
/// what was seen: shares in percent.
#[derive(Debug, Clone, Copy)]
struct Shares {
    method: u64,
    status: u64,
}

/// The agent comes when the connection has long been open: nothing false, and each call at its place in the client's
/// count or nowhere. Returns what is known, at the client and at the server.
fn attached(test: &str, client: Peer, server: Peer, mode: &str) -> Result<[Shares; 2]> {
    const COUNT: usize = 1_500;
    let mut scene = Scene::without_agent(test, Transport::Http)?;
    let folder = scene.folder().to_owned();
    let (_server, port) = server.serve(&folder, &selected_as("service"))?;
    let mut command = client.client(port, mode, COUNT, &selected_as("client"))?;
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
    let known = |service, kind| -> Result<Shares> {
        for (call, count) in &grpc::of_spans(&telemetry, service, kind) {
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
        }
        let mut spans: Vec<_> = telemetry.spans(service, kind).collect();
        ensure!(spans.len() > 100, "{service}: {} spans", spans.len());
        spans.sort_by_key(|span| span.start);
        let later = &spans[spans.len() / 2..];
        let share = |attribute: &str| {
            let known = later
                .iter()
                .filter(|span| span.attributes.contains_key(attribute));
            (known.count() * 100 / later.len()) as u64
        };
        let shares = Shares {
            method: share("rpc.method"),
            status: share("rpc.response.status_code"),
        };
        println!("{test}: {service}: {shares:?}");
        Ok(shares)
    };
    Ok([known("client", Kind::Client)?, known("service", Kind::Server)?])
}

/// Joined in the middle, with calls of few kinds: what peers put into their header tables before the agent came, and
/// only refer to since, stays unknown. grpcio and grpc-go do so with `:path`; all do with `grpc-status`.
fn attach(test: &str, client: Peer, server: Peer) -> Result<()> {
    let method = match client {
        Peer::Python | Peer::Go => 0,
        Peer::Node | Peer::Tonic => 100,
    };
    for shares in attached(test, client, server, "paced")? {
        ensure!(
            shares.method == method && shares.status == 0,
            "instead of {method} % and 0 %: {shares:?}"
        );
    }
    Ok(())
}

/// Joined in the middle, while other entries push the old ones out of the tables: all that peers insert anew is known.
/// That is everything, but for the status from a server on grpcio, which indexes nothing else that changes.
fn churn(test: &str, client: Peer) -> Result<()> {
    for server in [client, Peer::Go, Peer::Python] {
        let status = match server {
            Peer::Python => 0,
            Peer::Go | Peer::Node | Peer::Tonic => 100,
        };
        let name = format!("{test}::{}", server.name());
        for shares in attached(&name, client, server, "churn")? {
            ensure!(
                shares.method == 100 && shares.status == status,
                "{}: instead of 100 % and {status} %: {shares:?}",
                server.name()
            );
        }
    }
    Ok(())
}

/// A deadline that is reached and a cancellation long before one are told apart, though gRPC sends the same reset.
fn deadlines(test: &str, client: Peer) -> Result<()> {
    for (mode, code) in [("patient", "CANCELLED"), ("deadline", "DEADLINE_EXCEEDED")] {
        let scene = Scene::start(&format!("{test}::{mode}"), Transport::Grpc, &[])?;
        let folder = scene.folder().to_owned();
        let mut calls = Totals::new();
        for server in Peer::ALL {
            let (_server, port) = server.serve(&folder, &selected_as("service"))?;
            add(&mut calls, &client.call(port, mode, 24, &selected_as("client"))?);
        }
        let telemetry = scene.finish()?;
        // A server whose clock is a little ahead ends a call before its client does, which may take that for a
        // cancellation.
        let early = calls.remove("Slow CANCELLED").unwrap_or_default();
        let all: u64 = early + calls.values().sum::<u64>();
        load::all(all, 24 * Peer::ALL.len())?;
        let early = if mode == "deadline" { early } else { 0 };
        for (service, kind) in [("client", Kind::Client), ("service", Kind::Server)] {
            for mut seen in [
                grpc::of_spans(&telemetry, service, kind),
                grpc::of_metric(&telemetry, service, kind),
            ] {
                let right = seen.remove(&format!("Slow {code}")).unwrap_or_default();
                let cancelled = seen.remove("Slow CANCELLED").unwrap_or_default();
                ensure!(
                    seen.is_empty() && right + cancelled == all && cancelled <= early,
                    "{service}, {mode}: {right} {code}, {cancelled} CANCELLED, {early} by the client's count; {seen:?}"
                );
            }
        }
    }
    Ok(())
}

/// A call that goes on: while it does, its messages are in the metric, and all of them in the end.
fn drip(test: &str, client: Peer) -> Result<()> {
    let mut scene = Scene::without_agent(test, Transport::Grpc)?;
    scene.start_agent_in(&[], &[("OTEL_METRIC_EXPORT_INTERVAL", "500")])?;
    let folder = scene.folder().to_owned();
    let (_server, port) = Peer::Go.serve(&folder, &selected_as("service"))?;
    let calls = client.call(port, "drip", 1, &selected_as("client"))?;
    let telemetry = scene.finish()?;
    for (service, kind) in [("client", Kind::Client), ("service", Kind::Server)] {
        same(&telemetry, service, kind, &calls)?;
        let span = telemetry.spans(service, kind).next().context("no span")?;
        let lasted = (span.end - span.start) as f64 / 1e9;
        for direction in ["request", "response"] {
            let points = messages(&folder, service, direction)?;
            let last = points.last().context("no point")?;
            ensure!(last.1 == DRIP as u64, "{service}: {direction}: {points:?}");
            let mut grown = 0;
            let mut before = 0;
            for &(time, count) in points.iter().filter(|(time, _)| *time < span.end) {
                // One message each 10 ms at most: the counter runs ahead of nothing.
                let most = (time.saturating_sub(span.start)) / 10_000_000 + 1;
                ensure!(
                    (before..=most).contains(&count),
                    "{service}: {direction}: {points:?}"
                );
                grown += u32::from(count > before);
                before = count;
            }
            // Messages of an open call are told once a second.
            ensure!(
                f64::from(grown) >= lasted - 3.0 && grown >= 3,
                "{service}: {direction}, seen to grow {grown} times in {lasted} s: {points:?}"
            );
        }
    }
    Ok(())
}

/// Points of the message counter of a service in time: when, and the value.
fn messages(folder: &Path, service: &str, direction: &str) -> Result<Vec<(u64, u64)>> {
    let mut points = Vec::new();
    for line in std::fs::read_to_string(folder.join("metrics.jsonl"))?.lines() {
        let line: Value = serde_json::from_str(line)?;
        for resource in each(&line, "resourceMetrics") {
            if attribute(&resource["resource"], "service.name") != Some(service) {
                continue;
            }
            for metric in each(resource, "scopeMetrics").flat_map(|scope| each(scope, "metrics")) {
                if metric["name"] != "redwire.rpc.messages" {
                    continue;
                }
                for point in each(&metric["sum"], "dataPoints") {
                    if attribute(point, "redwire.rpc.direction") == Some(direction) {
                        let number = |name: &str| point[name].as_str().unwrap_or_default().parse();
                        points.push((number("timeUnixNano")?, number("asInt")?));
                    }
                }
            }
        }
    }
    points.sort_unstable();
    Ok(points)
}

fn each<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

/// A text attribute.
fn attribute<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    let found = each(value, "attributes").find(|pair| pair["key"] == name)?;
    found["value"]["stringValue"].as_str()
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

/// gRPC-Web over HTTP/1.1, binary and as text, with tonic-web: calls, codes and messages are those that the client counts.
fn web(test: &str) -> Result<()> {
    const COUNT: usize = 1_000;
    let scene = Scene::start(test, Transport::Grpc, &[])?;
    let port = free_port()?;
    let mut server = Command::new(std::env::current_exe()?);
    server
        .args(["tonic-peer", "web-server", &port.to_string()])
        .envs(selected_as("service"));
    let mut server = Process::spawn("server", &mut server, scene.folder(), false)?;
    server.wait_for_port(port)?;
    let mut client = program(Language::Python, "grpc_web");
    client
        .args([port.to_string(), COUNT.to_string()])
        .envs(selected_as("client"));
    let mut calls: Totals = client::run(&mut client)?;
    let messages = calls.remove("messages").unwrap_or_default();
    load::all(calls.values().sum(), COUNT)?;
    let telemetry = scene.finish()?;
    for (service, kind) in [("client", Kind::Client), ("service", Kind::Server)] {
        same(&telemetry, service, kind, &calls)?;
        let attribute = "redwire.rpc.direction";
        let counted = telemetry.metric_totals(service, "redwire.rpc.messages", &[attribute]);
        let sent = COUNT as u64;
        ensure!(
            counted == Totals::from([("request".to_owned(), sent), ("response".to_owned(), messages)]),
            "{service}: {counted:?}, the client sent {sent} messages and received {messages}"
        );
        for span in telemetry.spans(service, kind) {
            let version = span.attributes.get("network.protocol.version");
            ensure!(version.is_some_and(|version| version == "1.1"), "{span:?}");
        }
    }
    Ok(())
}

/// What tcpdump captured gives the same calls as the client's side did live.
fn replay(test: &str, client: Peer) -> Result<()> {
    let scene = Scene::start(test, Transport::Grpc, &[])?;
    let folder = scene.folder().to_owned();
    let (_server, port) = Peer::Go.serve(&folder, &[])?;
    let tcpdump = Tcpdump::start(&folder, port)?;
    let mut calls = Totals::new();
    for (mode, count) in [("mix", 500), ("cancel", 20)] {
        add(
            &mut calls,
            &client.call(port, mode, count, &selected_as("client"))?,
        );
    }
    let capture = tcpdump.finish()?;
    let telemetry = scene.finish()?;
    same(&telemetry, "client", Kind::Client, &calls)?;

    let (status, lines, said) = transactions::replay(&capture)?;
    ensure!(status == Some(0), "replay ended with {status:?}: {said}");
    transactions::same(&telemetry, "client", &lines)
}

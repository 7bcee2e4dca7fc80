//! What `redwire ps` lists.

use crate::capturing;
use crate::scene::{Scene, same};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use redwire_tests::client::output;
use redwire_tests::collector::Transport;
use redwire_tests::load::{Client, MIX};
use redwire_tests::otlp::Kind;
use redwire_tests::redis::Redis;
use redwire_tests::service::{Server, Service};
use redwire_tests::tools;
use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        capturing("ps::lists_processes".to_owned(), listed),
        capturing("ps::processes_behind_a_port".to_owned(), behind_a_port),
        capturing("ps::executables_by_what_people_type".to_owned(), by_executable),
    ]
}

/// A selected port says nothing of who has it: both ends have their own names, ids and counts all the same.
fn behind_a_port(test: &str) -> Result<()> {
    let mut scene = Scene::without_agent(test, Transport::Grpc)?;
    let folder = scene.folder().to_owned();
    let named = [
        ("OTEL_SERVICE_NAME", "shop"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
    ];
    let shop = Service::start(Server::Go, "shop", &folder, &named)?;
    let other = Service::start(Server::Go, "other", &folder, &[])?;
    let port = shop.port().to_string();
    let found = row(shop.pid(), &["--port", &port])?;
    ensure!(
        found == Some(["port", "shop", "-"].map(str::to_owned)),
        "{found:?}"
    );

    scene.start_agent_in(
        &["--port", &port],
        &[("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=web,region=eu")],
    )?;
    let agent = scene.agent().context("the agent runs")?.process();
    let pid = agent.pid();
    ensure!(
        agent.log().contains("1 process is (1 by port) selected so far"),
        "{}",
        agent.tail()
    );
    let counts = Client::Go.run(
        &shop.url(),
        200,
        MIX,
        &[("OTEL_SERVICE_NAME", "customer")],
        &folder,
    )?;
    Client::Go.run(&other.url(), 200, MIX, &[], &folder)?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let expected = [format!("agent {pid}"), "shop".to_owned(), "HTTP".to_owned()];
    while row(shop.pid(), &[])?.as_ref() != Some(&expected) {
        ensure!(Instant::now() < deadline, "{:?}", row(shop.pid(), &[])?);
        std::thread::sleep(Duration::from_millis(200));
    }
    let traces = folder.join("traces.jsonl");
    let telemetry = scene.finish()?;
    same(&telemetry, "shop", Kind::Server, &counts)?;
    same(&telemetry, "customer", Kind::Client, &counts)?;
    let services: BTreeSet<&str> = telemetry.spans.iter().map(|span| span.service.as_str()).collect();
    ensure!(services == BTreeSet::from(["customer", "shop"]), "{services:?}");
    // The process's own attributes, and the agent's environment's, of which the namespace is one.
    let text = std::fs::read_to_string(traces)?;
    for (key, value) in [
        ("process.pid", format!("\"intValue\":\"{}\"", shop.pid())),
        (
            "deployment.environment.name",
            "\"stringValue\":\"test\"".to_owned(),
        ),
        ("service.namespace", "\"stringValue\":\"web\"".to_owned()),
        ("region", "\"stringValue\":\"eu\"".to_owned()),
    ] {
        let attribute = format!("{{\"key\":\"{key}\",\"value\":{{{value}}}}}");
        ensure!(text.contains(&attribute), "no {attribute}");
    }
    Ok(())
}

/// Debian's redis-server is a link to redis-check-rdb: it is selected by both names, and called by what was executed;
/// also one that starts later.
fn by_executable(test: &str) -> Result<()> {
    let mut scene = Scene::without_agent(test, Transport::Grpc)?;
    let folder = scene.folder().to_owned();
    let early = Redis::start(&folder.join("early"), &[])?;
    scene.start_agent(&["--exe", "redis-server", "--exe", "redis-sevrer"])?;
    let log = scene.agent().context("the agent runs")?.process().log();
    ensure!(
        log.contains("--exe 'redis-sevrer': no process matches now")
            && log.contains("Near: --exe 'redis-server'"),
        "{log}"
    );
    ensure!(!log.contains("--exe 'redis-server': no"), "{log}");
    let late = Redis::start(&folder.join("late"), &[])?;
    for redis in [&early, &late] {
        let found = row(redis.pid(), &["--exe", "redis-server"])?.context("it is selected")?;
        ensure!(found[..2] == ["executable", "redis-server"], "{found:?}");
        let mut cli = Command::new(tools::find("redis-cli").context("redis-cli is not installed")?);
        let said = output(cli.args(["-p", &redis.port().to_string(), "set", "a", "b"]))?;
        ensure!(said.trim() == "OK", "{said}");
    }
    let telemetry = scene.finish()?;
    let sets = telemetry
        .spans("redis-server", Kind::Server)
        .filter(|span| span.name.starts_with("SET"))
        .count();
    ensure!(sets == 2, "{sets} of 2");
    Ok(())
}

/// The columns of a process in the output of `redwire ps` with `arguments`: rule, service, protocols.
fn row(pid: u32, arguments: &[&str]) -> Result<Option<[String; 3]>> {
    let output = Command::new(tools::agent()).arg("ps").args(arguments).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success(), "ps failed: {text}");
    let pid = pid.to_string();
    let line = text
        .lines()
        .find(|line| line.split_whitespace().next() == Some(&pid));
    // Two spaces at least are between columns.
    Ok(line.map(|line| {
        let mut cells = line
            .split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .skip(1);
        std::array::from_fn(|_| cells.next().unwrap_or_default().to_owned())
    }))
}

fn listed(test: &str) -> Result<()> {
    let mut scene = Scene::without_agent(test, Transport::Grpc)?;
    let folder = scene.folder().to_owned();
    let chosen = Service::selected(Server::Go, "chosen", &folder)?;
    let by_pid = Service::start(Server::Go, "by_pid", &folder, &[])?;
    let other = Service::start(Server::Go, "other", &folder, &[])?;
    let expect = |service: &Service, arguments: &[&str], expected: Option<[&str; 3]>| -> Result<()> {
        let found = row(service.pid(), arguments)?;
        let expected = expected.map(|cells| cells.map(str::to_owned));
        ensure!(found == expected, "{found:?}, not {expected:?}");
        Ok(())
    };
    // Without an agent: what would be selected.
    let pid = by_pid.pid().to_string();
    expect(&chosen, &[], Some(["environment", "chosen", "-"]))?;
    expect(&by_pid, &[], None)?;
    expect(&by_pid, &["--pid", &pid], Some(["pid", "server", "-"]))?;
    expect(&other, &["--all"], Some(["-", "server", "-"]))?;

    scene.start_agent(&["--pid", &pid])?;
    let agent = scene.agent().context("the agent runs")?.process().pid();
    for service in [&chosen, &by_pid, &other] {
        Client::Go.run(&service.url(), 100, MIX, &[], &folder)?;
    }
    // What the agent knows is told about once a second.
    let deadline = Instant::now() + Duration::from_secs(10);
    while row(chosen.pid(), &[])?.is_none_or(|[_, _, protocols]| protocols == "-") {
        ensure!(Instant::now() < deadline, "the agent tells of no protocol");
        std::thread::sleep(Duration::from_millis(200));
    }
    expect(&chosen, &[], Some(["environment", "chosen", "HTTP"]))?;
    // The rule is the agent's, not one of `ps`.
    let by_agent = format!("agent {agent}");
    expect(&by_pid, &[], Some([&by_agent, "server", "HTTP"]))?;
    expect(&by_pid, &["--pid", &pid], Some(["pid", "server", "HTTP"]))?;
    expect(&other, &["--all"], Some(["-", "server", "-"]))?;
    scene.finish()?;
    expect(&by_pid, &[], None)
}

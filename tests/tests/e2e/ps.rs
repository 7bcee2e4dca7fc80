//! What `redwire ps` lists.

use crate::capturing;
use crate::scene::Scene;
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use redwire_tests::collector::Transport;
use redwire_tests::load::{Client, MIX};
use redwire_tests::service::{Server, Service};
use redwire_tests::tools;
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Trial> {
    vec![capturing("ps::lists_processes".to_owned(), listed)]
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

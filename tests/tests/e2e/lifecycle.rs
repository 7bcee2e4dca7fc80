//! How the agent ends.

use crate::capturing;
use crate::scene::{Scene, same};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use redwire_tests::collector::Transport;
use redwire_tests::load::{Client, MIX};
use redwire_tests::otlp::Kind;
use redwire_tests::service::{Server, Service};
use redwire_tests::tools;
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        capturing("killed_leaves_nothing".to_owned(), killed),
        capturing("interrupt_flushes".to_owned(), interrupted),
    ]
}

/// The ids of kernel programs that a process holds, by its file descriptors (proc(5), fdinfo).
fn programs_of(pid: u32) -> Result<BTreeSet<u64>> {
    let mut programs = BTreeSet::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
        let ids = text.lines().filter_map(|line| line.strip_prefix("prog_id:"));
        programs.extend(ids.filter_map(|id| id.trim().parse::<u64>().ok()));
    }
    Ok(programs)
}

/// The ids of all kernel programs that are loaded.
fn programs() -> Result<BTreeSet<u64>> {
    let bpftool = tools::find("bpftool").context("bpftool is not installed")?;
    let output = Command::new(bpftool).args(["prog", "show", "-j"]).output()?;
    let all: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
    Ok(all.iter().filter_map(|program| program["id"].as_u64()).collect())
}

fn killed(test: &str) -> Result<()> {
    let mut scene = Scene::start(test, Transport::Grpc, &[])?;
    let folder = scene.folder().to_owned();
    let service = Service::selected(Server::Go, "service", &folder)?;
    Client::Go.run(&service.url(), 100, MIX, &[], &folder)?;

    let agent = scene.agent().context("the agent runs")?.process();
    let ours = programs_of(agent.pid())?;
    ensure!(
        !ours.is_empty() && ours.is_subset(&programs()?),
        "the agent holds no program: {ours:?}"
    );
    agent.signal(Signal::KILL);
    agent.wait(Duration::from_secs(5))?;
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let left: Vec<u64> = programs()?.intersection(&ours).copied().collect();
        if left.is_empty() {
            break;
        }
        ensure!(Instant::now() < deadline, "programs {left:?} are still loaded");
        std::thread::sleep(Duration::from_millis(50));
    }
    // The service does not notice.
    Client::Go.run(&service.url(), 100, MIX, &[], &folder)?;
    Ok(())
}

/// What was seen right before Ctrl-C is exported.
fn interrupted(test: &str) -> Result<()> {
    let mut scene = Scene::start(test, Transport::Http, &[])?;
    let folder = scene.folder().to_owned();
    let service = Service::selected(Server::Go, "service", &folder)?;
    let counts = Client::Go.run(&service.url(), 1_000, MIX, &[], &folder)?;
    let agent = scene.agent().context("the agent runs")?.process();
    agent.signal(Signal::INT);
    let status = agent.wait(Duration::from_secs(15))?;
    ensure!(status.success(), "the agent ended with {status}");
    same(&scene.finish()?, "service", Kind::Server, &counts)
}

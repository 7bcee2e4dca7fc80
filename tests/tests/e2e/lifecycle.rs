//! How the agent ends.

use crate::capturing;
use crate::scene::{Scene, same};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use redwire_tests::bpf::Objects;
use redwire_tests::collector::Transport;
use redwire_tests::load::{Client, MIX};
use redwire_tests::otlp::Kind;
use redwire_tests::service::{Server, Service};
use rustix::process::Signal;
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        capturing("killed_leaves_nothing".to_owned(), killed),
        capturing("interrupt_flushes".to_owned(), interrupted),
    ]
}

fn killed(test: &str) -> Result<()> {
    let mut scene = Scene::start(test, Transport::Grpc, &[])?;
    let folder = scene.folder().to_owned();
    let service = Service::selected(Server::Go, "service", &folder)?;
    Client::Go.run(&service.url(), 100, MIX, &[], &folder)?;

    let agent = scene.agent().context("the agent runs")?.process();
    let ours = Objects::held_by(agent.pid())?;
    ensure!(
        !ours.programs.is_empty() && ours.common(&Objects::loaded()?) == ours,
        "the agent holds no program: {ours:?}"
    );
    agent.signal(Signal::KILL);
    agent.wait(Duration::from_secs(5))?;
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let left = Objects::loaded()?.common(&ours);
        if left.is_empty() {
            break;
        }
        ensure!(Instant::now() < deadline, "still loaded: {left:?}");
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

//! What is not selected is not captured.

use crate::capturing;
use crate::scene::{Scene, nowhere};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use redwire_tests::collector::Transport;
use redwire_tests::load::{self, MIX};
use redwire_tests::otlp::Kind;
use redwire_tests::service::{Server, Service, selected_as};

/// In the path of every request of the process that is not selected.
const SECRET: &str = "planted-secret-5d1f0c";

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        capturing(
            "unselected::beside_a_selected_one".to_owned(),
            beside_a_selected_one,
        ),
        capturing("unselected::alone".to_owned(), alone),
    ]
}

fn secret_load(port: u16) -> Result<()> {
    let raw = load::raw(port, 4, 2_000, &format!("/{SECRET}"))?;
    ensure!(raw.counts.values().sum::<u64>() == 8_000, "{:?}", raw.counts);
    Ok(())
}

fn beside_a_selected_one(test: &str) -> Result<()> {
    let scene = Scene::start(test, Transport::Http, &["--url-query"])?;
    let selected = Service::selected(Server::Go, "service", scene.folder())?;
    let other = Service::start(Server::Go, "other", scene.folder(), &[])?;
    let counts = std::thread::scope(|scope| {
        let load = scope.spawn(|| secret_load(other.port()));
        let counts = load::go(
            &["send", &selected.url(), "20000", &load::json(MIX)],
            &selected_as("client"),
        );
        load.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        counts
    })?;
    let folder = scene.folder().to_owned();
    let telemetry = scene.finish()?;
    crate::scene::same(&telemetry, "service", Kind::Server, &counts)?;
    nowhere(&folder, SECRET)
}

/// With a selector that selects an idle process, the kernel hands over not one byte of the others.
fn alone(test: &str) -> Result<()> {
    let mut scene = Scene::without_agent(test, Transport::Grpc)?;
    let idle = Service::start(Server::Go, "idle", scene.folder(), &[])?;
    scene.start_agent(&["--no-environment", "--pid", &idle.pid().to_string()])?;
    let other = Service::start(Server::Go, "other", scene.folder(), &[])?;
    secret_load(other.port())?;
    let folder = scene.folder().to_owned();
    let telemetry = scene.finish()?;
    ensure!(telemetry.spans.is_empty(), "{} spans", telemetry.spans.len());
    let log = std::fs::read_to_string(folder.join("agent.log"))?;
    let captured = log
        .lines()
        .find(|line| line.contains("bytes of payload captured"))
        .unwrap_or_default();
    ensure!(
        captured.ends_with(" 0 bytes of payload captured"),
        "the kernel's counter: '{captured}'"
    );
    nowhere(&folder, SECRET)
}

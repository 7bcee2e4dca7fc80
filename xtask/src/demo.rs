//! `cargo xtask demo`: real services under real load, and the agent beside them.

use crate::{build, setup};
use anyhow::{Context as _, Result};
use redwire_tests::agent::READY;
use redwire_tests::load::json;
use redwire_tests::process::Process;
use redwire_tests::service::{Server, Service, selected_as};
use redwire_tests::tools;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::{BufRead as _, BufReader};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Requests per second.
const RATE: &str = "40";

/// What nginx is asked; `{port}` is that of the FastAPI service, which Node calls.
const MIX: &[(&str, &str, usize)] = &[
    ("GET", "/users/17", 0),
    ("GET", "/proxy?port={port}&path=/users/4711", 0),
    ("GET", "/proxy?port={port}&path=/delay/20", 0),
    ("POST", "/upload", 2_000),
    ("GET", "/bytes/1000", 0),
    ("GET", "/proxy?port={port}&path=/users/42", 0),
    ("GET", "/proxy?port={port}&path=/status/503", 0),
    ("GET", "/status/404", 0),
];

/// Shows the agent for `seconds`, or until it is interrupted. Whether it showed traffic.
///
/// # Errors
/// Where something does not start.
pub(crate) fn run(seconds: u64) -> Result<bool> {
    setup::run(setup::Scope::Demo)?;
    build::agent()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, interrupted.clone())?;
    }
    let folder = tools::target().join("demo");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }

    // The agent first: the services select themselves by their environment, from their start on.
    let mut agent = Command::new(tools::agent());
    agent.args(["run", "--log", "info"]);
    let mut agent = Process::spawn("agent", &mut agent, &folder, true)?;
    let output = agent.take_stdout().context("the agent has no output")?;
    let shown = std::thread::spawn(move || show(BufReader::new(output).lines().map_while(Result::ok)));
    agent.wait_for_log(READY)?;

    // In this order, so that what was started last is stopped first.
    let python = Service::selected(Server::FastApi, "users-fastapi", &folder)?;
    let node = Service::selected(Server::Node, "shop-node", &folder)?;
    let front = Service::selected(Server::Nginx(node.port()), "front-nginx", &folder)?;
    eprintln!(
        "nginx at {} in front of Node, which calls FastAPI; {RATE} requests per second",
        front.url()
    );
    let mix: Vec<(&str, String, usize)> = MIX
        .iter()
        .map(|(method, path, size)| (*method, path.replace("{port}", &python.port().to_string()), *size))
        .collect();
    let mut load = Command::new(tools::go_programs().join("client"));
    load.args(["pace", &front.url(), RATE, &seconds.to_string(), &json(&mix)])
        .envs(selected_as("load-go"));
    let load = Process::spawn("load", &mut load, &folder, false)?;

    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end && !interrupted.load(Ordering::Relaxed) && agent.is_running() {
        std::thread::sleep(Duration::from_millis(100));
    }
    drop(load);
    let ended_early = !agent.is_running();
    let status = agent.terminate()?;
    let traffic = shown
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that shows the agent's output panicked"))?;
    if ended_early || !status.success() {
        eprintln!("the agent ended with {status}:\n{}", agent.tail());
        return Ok(false);
    }
    if !traffic {
        eprintln!(
            "the agent showed no traffic; its log: {}",
            agent.log_path().display()
        );
    }
    Ok(traffic)
}

/// Prints what the agent prints. Whether all three services were in it.
fn show(lines: impl Iterator<Item = String>) -> bool {
    let mut missing = vec!["users-fastapi", "shop-node", "front-nginx"];
    for line in lines {
        missing.retain(|service| !line.contains(service));
        println!("{line}");
    }
    missing.is_empty()
}

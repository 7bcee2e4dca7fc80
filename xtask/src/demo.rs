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

/// Shows the agent for `seconds`, or until it is interrupted. Whether it showed what is wrong with the services.
///
/// # Errors
/// Where something does not start.
pub(crate) fn run(seconds: u64) -> Result<bool> {
    eprintln!("1 of 3: what building needs; some minutes the first time, nothing later");
    setup::run(setup::Scope::Demo)?;
    eprint!("2 of 3: ");
    build::agent()?;
    eprintln!("3 of 3: three services under load for {seconds} s, or until Ctrl-C");
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
    let shown = shown
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that shows the agent's output panicked"))?;
    if ended_early || !status.success() {
        eprintln!("the agent ended with {status}:\n{}", agent.tail());
        return Ok(false);
    }
    let Some(verdict) = shown.verdict() else {
        eprintln!(
            "the agent did not show all three services, and what fails in them; its log: {}",
            agent.log_path().display()
        );
        return Ok(false);
    };
    println!("{verdict}");
    Ok(true)
}

/// The services, from where the requests come to where they end.
const SERVICES: [&str; 3] = ["front-nginx", "shop-node", "users-fastapi"];

/// What the agent showed.
#[derive(Default)]
struct Shown {
    /// Rows of the last table.
    rows: Vec<String>,
}

/// Prints what the agent prints.
fn show(lines: impl Iterator<Item = String>) -> Shown {
    let mut shown = Shown::default();
    for line in lines {
        println!("{line}");
        if line.starts_with("SERVICE") {
            shown.rows.clear();
        } else {
            shown.rows.push(line);
        }
    }
    shown
}

impl Shown {
    /// What is wrong in the system that was shown, and how that was seen; `None` where not all services failed as they
    /// should.
    fn verdict(&self) -> Option<String> {
        let failing = |service: &str| {
            let of = |row: &&String| row.starts_with(service) && row.contains(" server ");
            self.rows.iter().filter(of).find_map(|row| failure(row))
        };
        let [(front, front_share), (shop, shop_share), (users, users_share)] = match SERVICES.map(failing) {
            [Some(front), Some(shop), Some(users)] => [front, shop, users],
            _ => return None,
        };
        let [nginx, node, fastapi] = SERVICES;
        Some(format!(
            "What is wrong here: {fastapi} fails {users_share} of its answers to {users}, and since {node} passes that on, \
             {shop_share} of its {shop} and {front_share} of {nginx}'s {front} fail, too.\nHow it was seen: Redwire read the \
             requests and responses where the three processes hand them to the kernel. None of them was changed, and none \
             was asked."
        ))
    }
}

/// The operation and the share of errors of a row that has some.
fn failure(row: &str) -> Option<(String, String)> {
    // Two spaces at least are between columns.
    let mut cells = row
        .split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .skip(2);
    let operation = cells.next()?;
    let (_, share) = cells.find_map(|cell| cell.split_once(" ("))?;
    Some((operation.to_owned(), share.trim_end_matches(')').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_of_the_last_table() {
        let table = "\
SERVICE        KIND         OPERATION              PEER             COUNT  RATE/s    ERRORS  STATUS           p50
users-fastapi  HTTP server  GET /status/{code}                         10     5.0  10 (100%)  5xx          1.00ms
front-nginx    HTTP server  GET /proxy                                 40    20.0   10 (25%)  2xx 75% 5xx 25%  2.00ms
shop-node      HTTP client  GET                    127.0.0.1:1234      40    20.0   10 (25%)  2xx 75% 5xx 25%  1.00ms
shop-node      HTTP server  GET /proxy                                 40    20.0   10 (25%)  2xx 75% 5xx 25%  2.00ms
users-fastapi  HTTP server  GET /users/{user_id}                       20    10.0         0  2xx              1.00ms";
        let before = "SERVICE\nshop-node  HTTP server  GET /early  1  1.0  1 (50%)  5xx  1ms\n";
        let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>().into_iter();
        let verdict = show(lines(format!("{before}{table}")))
            .verdict()
            .expect("all fail");
        for part in [
            "users-fastapi fails 100% of its answers to GET /status/{code}",
            "25% of its GET /proxy and 25% of front-nginx's GET /proxy",
        ] {
            assert!(verdict.contains(part), "{verdict}");
        }
        assert_eq!(show(lines(before.to_owned())).verdict(), None);
    }
}

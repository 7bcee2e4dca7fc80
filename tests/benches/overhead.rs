//! What observation costs a server, and what the agent itself costs: `cargo bench -p redwire-tests --bench overhead
//! [-- SERVER]`. Needs root.
//!
//! A server runs bare, under empty programs on the agent's hooks (the floor), and under the agent, in turns within one
//! run, so that noise of the machine meets all alike. Ratios are those of one round; what is printed is their median.

use anyhow::{Context as _, Result, ensure};
use redwire::source::ebpf::floor::{self, Hooks};
use redwire_tests::agent::READY;
use redwire_tests::process::Process;
use redwire_tests::service::{Server, Service};
use redwire_tests::tools;
use std::any::Any;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const ROUNDS: usize = 5;
/// Requests of one measurement.
const REQUESTS: u64 = 100_000;
/// Connections of the load generator.
const CLIENTS: u64 = 32;
/// Share of the bare server's throughput at which latency matters.
const PARTIAL_LOAD: f64 = 0.7;
/// Connections to the Go server held open while the agent's memory is measured.
const HELD: usize = 10_000;

/// One measurement.
#[derive(Debug, Clone, Copy)]
struct Measured {
    /// Requests per second.
    throughput: f64,
    /// CPU time of the server per request, in microseconds.
    server: f64,
    /// CPU time of the agent per request, in microseconds; 0 where none runs.
    agent: f64,
}

/// A collector that takes everything and keeps nothing.
fn sink() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || swallow(&connection));
        }
    });
    Ok(port)
}

/// Answers OTLP requests on one connection until it ends.
fn swallow(mut connection: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(connection.try_clone().ok()?);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink()).ok()?;
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
        connection.write_all(answer.as_bytes()).ok()?;
    }
}

fn agent(folder: &Path, collector: u16, pid: u32) -> Result<Process> {
    let mut command = Command::new(tools::agent());
    command.args(["run", "--no-environment", "--pid", &pid.to_string()]);
    command.env(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        format!("http://127.0.0.1:{collector}"),
    );
    command.env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    let mut agent = Process::spawn("agent", &mut command, folder, false)?;
    agent.wait_for_log(READY)?;
    Ok(agent)
}

/// CPU time of a process and its children that run, in seconds (proc(5), `stat`).
fn cpu(pid: u32) -> Result<f64> {
    let ticks = |pid: u32| -> Result<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
        let field =
            |number: usize| -> Result<u64> { Ok(fields.get(number - 2).context("a short stat")?.parse()?) };
        Ok(field(14)? + field(15)?)
    };
    let mut total = ticks(pid)?;
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace() {
        total += ticks(child.parse()?)?;
    }
    Ok(total as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// `REQUESTS` requests, `rate` of them a second where given.
fn load(service: &Service, path: &str, rate: Option<f64>) -> Result<f64> {
    let mut command = Command::new(tools::find("h2load").context("h2load is not installed")?);
    command.args(["--h1", "-t", "1", "-c", &CLIENTS.to_string()]);
    let mut requests = REQUESTS;
    if let Some(rate) = rate {
        let each = (rate / CLIENTS as f64).round().max(1.0);
        command.args(["--rps", &each.to_string()]);
        requests = REQUESTS / 2;
    }
    command.args(["-n", &requests.to_string(), &format!("{}{path}", service.url())]);
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let complete = format!("{requests} succeeded, 0 failed");
    ensure!(text.contains(&complete), "h2load: {text}");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("finished in "))
        .context("h2load told no time")?;
    let rate = line
        .split(", ")
        .nth(1)
        .and_then(|rate| rate.strip_suffix(" req/s"));
    Ok(rate.context("h2load told no rate")?.parse()?)
}

fn measure(service: &Service, path: &str, agent: Option<&Process>, rate: Option<f64>) -> Result<Measured> {
    let agent_cpu = || agent.map_or(Ok(0.0), |agent| cpu(agent.pid()));
    let requests = if rate.is_some() { REQUESTS / 2 } else { REQUESTS } as f64;
    let before = (cpu(service.pid())?, agent_cpu()?);
    let throughput = load(service, path, rate)?;
    // What the agent still has to do for these requests.
    if agent.is_some() {
        std::thread::sleep(Duration::from_millis(1500));
    }
    let after = (cpu(service.pid())?, agent_cpu()?);
    Ok(Measured {
        throughput,
        server: (after.0 - before.0) * 1e6 / requests,
        agent: (after.1 - before.1) * 1e6 / requests,
    })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Resident memory of a process, in MiB.
fn resident(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("a status without VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib / 1024.0)
}

/// The agent's memory with `HELD` connections that each had a request.
fn memory(service: &Service, path: &str, folder: &Path, collector: u16) -> Result<()> {
    let agent = agent(folder, collector, service.pid())?;
    let idle = resident(agent.pid())?;
    let mut connections = Vec::with_capacity(HELD);
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for _ in 0..HELD {
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, service.port()))?;
        connection.write_all(request.as_bytes())?;
        let mut answer = [0; 4096];
        ensure!(
            connection.read(&mut answer)? > 0,
            "the server closed a connection"
        );
        connections.push(connection);
    }
    std::thread::sleep(Duration::from_secs(2));
    println!(
        "  resident memory of the agent: {idle:.1} MiB idle, {:.1} MiB with {HELD} open connections",
        resident(agent.pid())?
    );
    Ok(())
}

fn bench(name: &str, server: Server, path: &str, folder: &Path, collector: u16) -> Result<()> {
    let folder = folder.join(name);
    let service = Service::start(server, "server", &folder, &[])?;
    load(&service, path, None)?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let bare = measure(&service, path, None, None)?;
        let rate = Some(bare.throughput * PARTIAL_LOAD);
        let bare = [bare, measure(&service, path, None, rate)?];
        let hooks: Box<dyn Any> = Box::new(floor::attach(Hooks::RawBoth)?);
        let floor = [
            measure(&service, path, None, None)?,
            measure(&service, path, None, rate)?,
        ];
        drop(hooks);
        let agent = agent(&folder, collector, service.pid())?;
        let observed = [
            measure(&service, path, Some(&agent), None)?,
            measure(&service, path, Some(&agent), rate)?,
        ];
        drop(agent);
        rounds.push([bare, floor, observed]);
    }
    println!("{name}: GET {path}, {CLIENTS} connections, {ROUNDS} rounds");
    for (load, title) in ["saturated", "at 70% load"].into_iter().enumerate() {
        println!("  {title}");
        for (i, setup) in ["bare", "empty programs", "redwire"].into_iter().enumerate() {
            let of = |value: fn(&Measured) -> f64| median(rounds.iter().map(|round| value(&round[i][load])));
            let share = median(
                rounds
                    .iter()
                    .map(|round| round[i][load].throughput / round[0][load].throughput),
            );
            println!(
                "    {setup:16} {:9.0} requests/s ({:5.1}% of bare)  server {:6.2} µs/request  agent {:5.2} µs/request",
                of(|m| m.throughput),
                share * 100.0,
                of(|m| m.server),
                of(|m| m.agent),
            );
        }
        let [bare, floor, observed] =
            [0, 1, 2].map(|i| median(rounds.iter().map(|round| round[i][load].server)));
        if floor > bare {
            let times = (observed - bare) / (floor - bare);
            println!("    added to the server's CPU time: {times:.1} times that of empty programs");
        } else {
            println!("    what empty programs add to the server's CPU time is less than the noise");
        }
    }
    if server == Server::Go {
        memory(&service, path, &folder, collector)?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let filter = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let folder = tools::target().join("bench/overhead");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let collector = sink()?;
    for (name, server, path) in [
        ("go", Server::Go, "/status/200"),
        ("nginx", Server::Nginx(9), "/bytes/1000"),
    ] {
        if filter.as_deref().is_none_or(|filter| name.starts_with(filter)) {
            bench(name, server, path, &folder, collector)?;
        }
    }
    Ok(())
}

//! How the agent ends.

use crate::capturing;
use crate::scene::{Scene, folder, same};
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use redwire_tests::agent::{Agent, READY};
use redwire_tests::bpf::Objects;
use redwire_tests::client::{Language, program};
use redwire_tests::collector::Transport;
use redwire_tests::load::{Client, MIX};
use redwire_tests::otlp::Kind;
use redwire_tests::process::{Process, free_port};
use redwire_tests::service::{Server, Service};
use redwire_tests::tools;
use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        capturing("killed_leaves_nothing".to_owned(), killed),
        capturing("interrupt_flushes".to_owned(), interrupted),
        capturing("lifecycle::hang_up_shows_the_last_table".to_owned(), hung_up),
        capturing("lifecycle::ended_at_the_start".to_owned(), ended_at_the_start),
        capturing(
            "lifecycle::ends_without_a_collector".to_owned(),
            without_a_collector,
        ),
        capturing("lifecycle::terminal".to_owned(), terminal),
        capturing("lifecycle::not_told".to_owned(), not_told),
    ]
}

/// How long the agent may take to end where a collector takes nothing.
const END: Duration = Duration::from_secs(3);

/// The agent without a collector, for `service`.
fn local(folder: &Path, service: &Service) -> Result<Agent> {
    let mut command = Command::new(tools::agent());
    command.args(["run", "--pid", &service.pid().to_string()]);
    Agent::spawn(folder, &mut command)
}

/// A terminal that is closed is as good as Ctrl-C.
fn hung_up(test: &str) -> Result<()> {
    let folder = folder(test)?;
    let service = Service::start(Server::Go, "service", &folder, &[])?;
    let mut agent = local(&folder, &service)?;
    let rows = || -> Result<()> {
        Client::Go.run(&service.url(), 200, MIX, &[], &folder)?;
        Ok(())
    };
    rows()?;
    let begin = Instant::now();
    // In a pipe too, the first rows are there within two seconds, and not after the ten of all others.
    while !agent.process().log().contains("GET /users/{id}") {
        ensure!(
            begin.elapsed() < Duration::from_secs(2),
            "{}",
            agent.process().tail()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    rows()?;
    agent.process().signal(Signal::HUP);
    let status = agent.process().wait(END)?;
    ensure!(status.success(), "the agent ended with {status}");
    let log = agent.process().log();
    let last = log.rsplit("SERVICE").next().unwrap_or_default();
    // 20 of 100 requests are /users/… each time: the last table is of all.
    let row = last.lines().find(|line| line.contains("GET /users/{id}"));
    let cells: Vec<&str> = row.unwrap_or_default().split_whitespace().collect();
    ensure!(cells.contains(&"80") && cells.contains(&"2xx"), "{last}");
    // What fails comes first: two of the five that are /status/….
    let first = last.lines().nth(1).unwrap_or_default();
    ensure!(first.contains("80 (40%)") && first.contains("5xx 40%"), "{last}");
    Ok(())
}

/// Told to end before it captures, it says so.
fn ended_at_the_start(test: &str) -> Result<()> {
    let folder = folder(test)?;
    // Whoever connects gets no answer, so that the agent waits.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut command = Command::new(tools::agent());
    command.arg("run");
    command.env(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        format!("http://{}", silent.local_addr()?),
    );
    let mut agent = Process::spawn("agent", &mut command, &folder, false)?;
    let connection = silent.accept()?;
    agent.signal(Signal::TERM);
    let status = agent.wait(END)?;
    drop(connection);
    ensure!(status.success(), "the agent ended with {status}");
    ensure!(
        agent.log().contains("SIGTERM before the agent captured"),
        "{}",
        agent.tail()
    );
    Ok(())
}

/// Nothing listens, or nothing answers: the agent ends in time, counts what it could not deliver, and has said what is
/// wrong once.
fn without_a_collector(test: &str) -> Result<()> {
    let folder = folder(test)?;
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let service = Service::start(Server::Go, "service", &folder, &[])?;
    for port in [free_port()?, silent.local_addr()?.port()] {
        for protocol in ["grpc", "http/protobuf"] {
            let mut command = Command::new(tools::agent());
            command.args([
                "run",
                "--pid",
                &service.pid().to_string(),
                "--otlp-protocol",
                protocol,
            ]);
            command.args(["--otlp-endpoint", &format!("http://127.0.0.1:{port}")]);
            let mut agent = Agent::spawn(&folder, &mut command)?;
            Client::Go.run(&service.url(), 300, MIX, &[], &folder)?;
            // Several attempts of each signal.
            std::thread::sleep(Duration::from_secs(4));
            agent.process().signal(Signal::TERM);
            let status = agent.process().wait(END)?;
            let log = agent.process().log();
            ensure!(status.success(), "the agent ended with {status}");
            ensure!(log.contains("not delivered: 300 spans (shutdown 300)"), "{log}");
            let about = log
                .lines()
                .filter(|line| line.contains("WARN") && line.contains(&port.to_string()));
            // That it is so at the start, and at the end what is lost.
            ensure!(about.clone().count() == 2, "{log}");
        }
    }
    Ok(())
}

/// On a terminal the table is drawn in place, fits, and holds neither log lines nor what is typed.
fn terminal(test: &str) -> Result<()> {
    const COLUMNS: usize = 100;
    const ROWS: usize = 20;
    let folder = folder(test)?;
    let service = Service::start(Server::Go, "service", &folder, &[])?;
    let raw = folder.join("terminal.raw");
    let mut command = program(Language::Python, "terminal");
    command.args([&COLUMNS.to_string(), &ROWS.to_string(), READY, "6"]);
    // Behind it the terminal is as it was.
    command.arg(&raw);
    command.args([
        "sh",
        "-c",
        "trap : INT; \"$@\"; status=$?; stty -a; exit $status",
        "sh",
    ]);
    command.arg(tools::agent());
    command.args(["run", "--pid", &service.pid().to_string()]);
    command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
    let mut terminal = Process::spawn("terminal", &mut command, &folder, false)?;
    let seen = |text: &str| std::fs::read(&raw).is_ok_and(|raw| String::from_utf8_lossy(&raw).contains(text));
    let deadline = Instant::now() + Duration::from_secs(20);
    while !seen(READY) {
        ensure!(Instant::now() < deadline, "the agent does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    let begin = Instant::now();
    Client::Go.run(&service.url(), 200, MIX, &[], &folder)?;
    while !seen("/users/{id}") {
        ensure!(
            begin.elapsed() < Duration::from_secs(2),
            "no row after two seconds"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let status = terminal.wait(Duration::from_secs(15))?;
    ensure!(status.success(), "the agent ended with {status}");
    let raw = String::from_utf8(std::fs::read(&raw)?)?;
    let (raw, settings) = raw.rsplit_once("speed ").context("stty shows nothing")?;
    ensure!(
        settings.contains(" echo "),
        "the terminal does not echo any more: {settings}"
    );
    ensure!(!raw.contains("^C"), "Ctrl-C is shown");
    ensure!(raw.contains("\x1b[31m"), "what fails has no colour");
    let screen = screen(raw);
    std::fs::write(folder.join("terminal.txt"), screen.join("\n"))?;
    let titles = screen.iter().filter(|line| line.starts_with("SERVICE")).count();
    ensure!(
        titles == 1,
        "{titles} tables stand on the terminal:\n{}",
        screen.join("\n")
    );
    ensure!(!screen.iter().any(|line| line == "x"), "what was typed is shown");
    let first = screen
        .iter()
        .skip_while(|line| !line.starts_with("SERVICE"))
        .nth(1);
    ensure!(
        first.is_some_and(|row| row.contains("40 (40%)")),
        "what fails is not first:\n{}",
        screen.join("\n")
    );
    for line in screen
        .iter()
        .filter(|line| line.starts_with("service") || line.starts_with("SERVICE"))
    {
        ensure!(line.chars().count() <= COLUMNS, "too wide: {line}");
    }
    Ok(())
}

/// What is seen and not understood is told while it goes on, and at the end in words.
fn not_told(test: &str) -> Result<()> {
    let folder = folder(test)?;
    let exchange =
        |(one, other): &mut (TcpStream, TcpStream), request: &[u8], response: &[u8]| -> Result<()> {
            let mut buffer = vec![0; request.len().max(response.len())];
            one.write_all(request)?;
            other.read_exact(&mut buffer[..request.len()])?;
            other.write_all(response)?;
            one.read_exact(&mut buffer[..response.len()])?;
            Ok(())
        };
    let (get, value) = (b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", b"$1\r\nb\r\n");
    // Both ends are this process's, so that each connection is seen twice.
    let mut redis = pair()?;
    exchange(&mut redis, get, value)?;
    let mut command = Command::new(tools::agent());
    command.args(["run", "--pid", &std::process::id().to_string()]);
    let mut agent = Agent::spawn(&folder, &mut command)?;
    exchange(&mut redis, get, value)?;
    // The heads of a ClientHello and a ServerHello (RFC 8446 § 4.1, § 5.1).
    let mut tls = pair()?;
    let hello = |kind: u8| {
        let mut record = vec![0x16, 3, 3, 0, 104, kind, 0, 0, 100, 3, 3];
        record.resize(5 + 104, 0x5a);
        record
    };
    exchange(&mut tls, &hello(1), &hello(2))?;
    let mut http = pair()?;
    exchange(
        &mut http,
        b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    )?;
    let expected = "not told: 2 Redis connections from before the agent await proof of their order; 2 connections are \
                    encrypted (TLS)";
    let deadline = Instant::now() + Duration::from_secs(15);
    while !agent.process().log().contains(expected) {
        ensure!(Instant::now() < deadline, "{}", agent.process().tail());
        std::thread::sleep(Duration::from_millis(50));
    }
    agent.process().signal(Signal::INT);
    agent.process().wait(END)?;
    let log = agent.process().log();
    let said = "not reported: 2 connections are encrypted (TLS) [encrypted_connection, see docs/losses.md]";
    ensure!(log.contains(said), "{log}");
    Ok(())
}

/// Both ends of a connection.
fn pair() -> Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let one = TcpStream::connect(listener.local_addr()?)?;
    Ok((one, listener.accept()?.0))
}

/// What stands on a terminal, and above it, that got these bytes; it knows what the agent uses of ECMA-48.
fn screen(raw: &str) -> Vec<String> {
    let (mut lines, mut row, mut column) = (vec![Vec::new()], 0, 0);
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match c {
            '\r' => column = 0,
            '\n' => {
                row += 1;
                if lines.len() == row {
                    lines.push(Vec::new());
                }
            }
            '\x1b' => {
                // CSI, parameters, and a letter that ends them.
                let mut number = String::new();
                let end = chars.by_ref().skip(1).find(|&c| {
                    number.push(c);
                    c.is_ascii_alphabetic()
                });
                number.pop();
                match end {
                    Some('A') => row -= number.parse::<usize>().unwrap_or(1).min(row),
                    Some('J') => {
                        lines[row].truncate(column);
                        lines.truncate(row + 1);
                    }
                    _ => {}
                }
            }
            c => {
                let line: &mut Vec<char> = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = c;
                column += 1;
            }
        }
    }
    lines.into_iter().map(|line| line.into_iter().collect()).collect()
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

//! One collector and one agent for all tests: under emulation, to load the kernel programs takes longer than the
//! tests. Services have names of their own, so that each test finds its own counts.

use crate::report::{Outcome, Report};
use anyhow::{Context as _, Result, bail, ensure};
use redwire_tests::agent::Agent;
use redwire_tests::collector::{Collector, Transport};
use redwire_tests::otlp::{Kind, Reader, STATUS_CODE, Telemetry};
use redwire_tests::process::Process;
use redwire_tests::service::selected_as;
use redwire_tests::{Counts, Totals, tools};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing more comes where nothing came for this long after the traffic ended.
const QUIET: Duration = Duration::from_secs(5);
/// How long what the backend cannot see is waited for.
const UNSEEN: Duration = Duration::from_secs(3);

/// Service of the agent's own metrics.
const AGENT: &str = "redwire";

/// What tells one operation of a database from another.
const OPERATION: &[&str] = &["db.operation.name", "error.type"];

/// What a service must have told in the end.
#[derive(Debug, Clone)]
pub(crate) struct Expected {
    service: String,
    kind: Kind,
    names: &'static [&'static str],
    counts: Totals,
}

impl Expected {
    /// HTTP transactions by status.
    pub(crate) fn http(service: &str, kind: Kind, counts: &Counts) -> Expected {
        let counts = counts.iter().map(|(status, count)| (status.to_string(), *count));
        Expected {
            service: service.to_owned(),
            kind,
            names: &[STATUS_CODE],
            counts: counts.collect(),
        }
    }

    /// Operations of a database.
    pub(crate) fn database(service: &str, kind: Kind, counts: &Totals) -> Expected {
        Expected {
            service: service.to_owned(),
            kind,
            names: OPERATION,
            counts: counts.clone(),
        }
    }

    /// The same, where the backend cannot see it: nothing.
    pub(crate) fn unseen(mut self) -> Expected {
        self.counts.clear();
        self
    }

    fn metric(&self) -> &'static str {
        match (self.names == OPERATION, self.kind) {
            (true, Kind::Server) => "db.server.operation.duration",
            (true, _) => "db.client.operation.duration",
            (false, kind) => kind.duration_metric(),
        }
    }

    /// Whether `telemetry` says so, by spans and by the metric; how many spans there are, and what differs.
    fn compare(&self, telemetry: &Telemetry) -> (u64, Option<String>) {
        let spans = telemetry.span_totals(&self.service, self.kind, self.names);
        let metric = telemetry.metric_totals(&self.service, self.metric(), self.names);
        let told = spans.values().sum();
        if spans == self.counts && metric == self.counts {
            return (told, None);
        }
        let Expected {
            service,
            kind,
            counts,
            ..
        } = self;
        let difference =
            format!("{service}, {kind:?}: expected {counts:?}, spans {spans:?}, metric {metric:?}");
        (told, Some(difference))
    }
}

/// Both ends of a connection that is older than the agent.
struct Older {
    _server: Process,
    client: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// A collector and an agent that run, and what was asked of them.
pub(crate) struct Stage {
    folder: PathBuf,
    collector: Collector,
    agent: Agent,
    backend: String,
    expected: Vec<Expected>,
    older: Option<Older>,
    /// When the traffic of the test was over.
    over: Instant,
    /// When something new was read last.
    changed: Instant,
    count: u64,
    reader: Reader,
}

/// Names of the services of [`Older`].
pub(crate) const OLDER: [&str; 2] = ["attach-server", "attach-client"];

impl Stage {
    /// Starts them; two services and a connection between them are there before the agent.
    pub(crate) fn start() -> Result<Stage> {
        let folder = folder("stage")?;
        let collector = Collector::start(&folder)?;
        let older = older(&folder)?;
        let agent = agent(&folder, &collector)?;
        let log = std::fs::read_to_string(folder.join("agent.log"))?;
        let backend = log
            .split(" INFO backend ")
            .nth(1)
            .context("the agent names no backend")?;
        let end = backend
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(backend.len());
        let reader = Reader::new(&folder);
        Ok(Stage {
            folder,
            collector,
            agent,
            backend: backend[..end].to_owned(),
            expected: Vec::new(),
            older: Some(older),
            over: Instant::now(),
            changed: Instant::now(),
            count: 0,
            reader,
        })
    }

    /// Where files go.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The backend that the agent has taken.
    pub(crate) fn backend(&self) -> &str {
        &self.backend
    }

    /// Lets the older client go on. What it counts from now on.
    pub(crate) fn go_on(&mut self) -> Result<crate::peer::Told> {
        let mut older = self.older.take().context("the older connection is used up")?;
        older.input.write_all(b"go\n")?;
        let mut told = String::new();
        older.output.read_to_string(&mut told)?;
        ensure!(older.client.wait()?.success(), "the client failed: {told}");
        Ok(serde_json::from_str(&told)?)
    }

    /// From now on, nothing is sent.
    pub(crate) fn traffic_is_over(&mut self) {
        self.over = Instant::now();
    }

    /// [`Stage::check_later`], of traffic that is over now.
    pub(crate) fn check(
        &mut self,
        test: &str,
        seen: bool,
        client: u64,
        expected: &[Expected],
    ) -> Result<Report> {
        self.traffic_is_over();
        self.check_later(test, seen, client, expected)
    }

    /// Waits until what was `expected` is told, or nothing more comes. `test`'s report, where `seen` says whether the
    /// backend can see all of it, and `client` what the clients counted.
    pub(crate) fn check_later(
        &mut self,
        test: &str,
        seen: bool,
        client: u64,
        expected: &[Expected],
    ) -> Result<Report> {
        self.expected.extend_from_slice(expected);
        loop {
            let telemetry = self.reader.read()?;
            let of_services = telemetry.series.iter().filter(|series| series.service != AGENT);
            let count = telemetry.spans.len() as u64 + of_services.map(|series| series.count).sum::<u64>();
            if count != self.count {
                (self.count, self.changed) = (count, Instant::now());
            }
            let (agent, differences) = compare(telemetry, expected);
            let quiet = self.changed.max(self.over).elapsed() > QUIET;
            let outcome = match (differences.is_empty(), seen) {
                (true, true) => Some(Outcome::Passed),
                (true, false) if self.over.elapsed() > UNSEEN => Some(Outcome::NotSeen),
                (false, _) if quiet => Some(Outcome::Failed(format!(
                    "{}; losses {:?}",
                    differences.join("; "),
                    telemetry.losses()
                ))),
                _ => None,
            };
            if let Some(outcome) = outcome {
                return Ok(Report {
                    test: test.to_owned(),
                    outcome,
                    agent,
                    client,
                });
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Stops the agent, then the collector: what was expected by all tests is there, and nothing else came later.
    pub(crate) fn finish(self) -> Result<String> {
        self.agent.stop()?;
        let telemetry = self.collector.finish()?;
        let (_, differences) = compare(&telemetry, &self.expected);
        if !differences.is_empty() {
            bail!(
                "in the end: {}; losses {:?}",
                differences.join("; "),
                telemetry.losses()
            );
        }
        let known = |service: &str| self.expected.iter().any(|expected| expected.service == service);
        let others: Vec<_> = telemetry
            .spans
            .iter()
            .filter(|span| !known(&span.service))
            .collect();
        if let Some(other) = others.first() {
            bail!(
                "{} spans that nothing was asked for, such as {other:?}",
                others.len()
            );
        }
        Ok(format!("losses {:?}", telemetry.losses()))
    }
}

fn compare(telemetry: &Telemetry, expected: &[Expected]) -> (u64, Vec<String>) {
    let compared = expected.iter().map(|expected| expected.compare(telemetry));
    let (mut told, mut differences) = (0, Vec::new());
    for (spans, difference) in compared {
        told += spans;
        differences.extend(difference);
    }
    (told, differences)
}

/// The agent; it tells soon what it saw.
pub(crate) fn agent(folder: &Path, collector: &Collector) -> Result<Agent> {
    let environment = [("OTEL_METRIC_EXPORT_INTERVAL", "1000")];
    Agent::start(folder, collector, Transport::Grpc, &[], &environment)
}

/// An empty folder.
pub(crate) fn folder(name: &str) -> Result<PathBuf> {
    let folder = tools::target().join("smoke").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A peer as a command; see [`crate::peer::run`].
pub(crate) fn peer(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("peer").args(arguments);
    Ok(command)
}

/// A serving peer, selected as `name`, and its address.
pub(crate) fn serve(folder: &Path, name: &str, way: &str, place: &str) -> Result<(Process, String)> {
    let mut command = peer(&["serve", way, place])?;
    let mut process = Process::spawn(name, command.envs(selected_as(name)), folder, false)?;
    process.wait_for_log("listening on ")?;
    let log = process.log();
    let address = log.split("listening on ").nth(1).context("an address")?;
    let address = address.lines().next().unwrap_or_default().to_owned();
    Ok((process, address))
}

fn older(folder: &Path) -> Result<Older> {
    let (server, address) = serve(folder, OLDER[0], "plain", "tcp")?;
    let mut command = peer(&["ask", "plain", &address, "50", "5"])?;
    command.envs(selected_as(OLDER[1]));
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let input = client.stdin.take().context("a client without input")?;
    let mut output = BufReader::new(client.stdout.take().context("a client without output")?);
    let mut line = String::new();
    output.read_line(&mut line)?;
    ensure!(line == "ready\n", "the client says {line:?}");
    Ok(Older {
        _server: server,
        client,
        input,
        output,
    })
}

impl Drop for Older {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}

//! A collector, the agent, and what must be equal in the end.

use anyhow::{Result, ensure};
use redwire_tests::agent::Agent;
use redwire_tests::collector::{Collector, Transport};
use redwire_tests::otlp::{Kind, Telemetry};
use redwire_tests::{Counts, tools};
use std::path::{Path, PathBuf};

/// A collector that runs, and the agent that exports to it once it is started.
pub(crate) struct Scene {
    folder: PathBuf,
    transport: Transport,
    collector: Collector,
    agent: Option<Agent>,
}

impl Scene {
    /// With a collector alone; files go to the folder of `test`.
    pub(crate) fn without_agent(test: &str, transport: Transport) -> Result<Scene> {
        let folder = folder(test)?;
        let collector = Collector::start(&folder)?;
        Ok(Scene {
            folder,
            transport,
            collector,
            agent: None,
        })
    }

    /// With the agent, run with `arguments`.
    pub(crate) fn start(test: &str, transport: Transport, arguments: &[&str]) -> Result<Scene> {
        let mut scene = Scene::without_agent(test, transport)?;
        scene.start_agent(arguments)?;
        Ok(scene)
    }

    /// Starts the agent.
    pub(crate) fn start_agent(&mut self, arguments: &[&str]) -> Result<()> {
        self.start_agent_in(arguments, &[])
    }

    /// Starts the agent with `environment` besides.
    pub(crate) fn start_agent_in(&mut self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
        let (folder, collector) = (&self.folder, &self.collector);
        self.agent = Some(Agent::start(
            folder,
            collector,
            self.transport,
            arguments,
            environment,
        )?);
        Ok(())
    }

    /// Where the test's files go.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The agent, where it runs.
    pub(crate) fn agent(&mut self) -> Option<&mut Agent> {
        self.agent.as_mut()
    }

    /// Stops the agent, then the collector. What it received.
    pub(crate) fn finish(self) -> Result<Telemetry> {
        if let Some(agent) = self.agent {
            agent.stop()?;
        }
        self.collector.finish()
    }
}

/// An empty folder for a test's files.
pub(crate) fn folder(test: &str) -> Result<PathBuf> {
    let folder = tools::target().join("e2e").join(test.replace("::", "/"));
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// No file that the agent, the collector or a replay wrote holds `secret`.
pub(crate) fn nowhere(folder: &Path, secret: &str) -> Result<()> {
    for name in [
        "traces.jsonl",
        "metrics.jsonl",
        "agent.log",
        "collector.log",
        "replay.jsonl",
    ] {
        let content = std::fs::read(folder.join(name)).unwrap_or_default();
        let found = content
            .windows(secret.len())
            .any(|window| window == secret.as_bytes());
        ensure!(!found, "{name} holds {secret}");
    }
    Ok(())
}

/// The load generator's count, the duration metric's and the number of spans are equal for each status.
pub(crate) fn same(telemetry: &Telemetry, service: &str, kind: Kind, expected: &Counts) -> Result<()> {
    let metric = telemetry.metric_counts(service, kind);
    let spans = telemetry.span_counts(service, kind);
    ensure!(
        metric == *expected && spans == *expected,
        "{service}, {kind:?}:\n  expected {expected:?}\n  metric   {metric:?}\n  spans    {spans:?}\n  losses   {:?}\n  \
         export   {:?}",
        telemetry.losses(),
        telemetry.own("redwire.export.dropped", "redwire.export.drop.reason"),
    );
    Ok(())
}

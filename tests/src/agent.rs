//! The agent under test.

use crate::collector::{Collector, Transport};
use crate::process::Process;
use crate::tools;
use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;

/// What the agent logs when it captures: how many processes are selected, or that none is.
pub const READY: &str = " selected";

/// A running `redwire run`.
#[derive(Debug)]
pub struct Agent {
    process: Process,
}

impl Agent {
    /// Starts it with `arguments` and `environment`, exporting to `collector`, and waits until it captures.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(
        folder: &Path,
        collector: &Collector,
        transport: Transport,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Agent> {
        let protocol = match transport {
            Transport::Grpc => "grpc",
            Transport::Http => "http/protobuf",
        };
        let mut command = Command::new(tools::agent());
        command.arg("run").args(arguments);
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint(transport));
        command.env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
        // Spans are counted, and the collector has less of these two cores than the load.
        command.env("OTEL_BSP_MAX_QUEUE_SIZE", "1000000");
        command.envs(environment.iter().copied());
        Agent::spawn(folder, &mut command)
    }

    /// Starts `command`, and waits until it captures.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn spawn(folder: &Path, command: &mut Command) -> Result<Agent> {
        let mut process = Process::spawn("agent", command, folder, false)?;
        process.wait_for_log(READY)?;
        Ok(Agent { process })
    }

    /// Its guard.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Asks it to end, which flushes what it has.
    ///
    /// # Errors
    /// Where it does not end, or with a non-zero status.
    pub fn stop(mut self) -> Result<()> {
        let status = self.process.terminate()?;
        if !status.success() {
            bail!("the agent ended with {status}\n{}", self.process.tail());
        }
        Ok(())
    }
}

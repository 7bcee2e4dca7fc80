//! The OpenTelemetry Collector, and what it received.

use crate::otlp::Telemetry;
use crate::process::{Process, free_port};
use crate::tools;
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How the agent exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP, as protobuf.
    Http,
}

/// A running collector that writes what it receives to files.
#[derive(Debug)]
pub struct Collector {
    process: Process,
    folder: PathBuf,
    grpc: u16,
    http: u16,
}

impl Collector {
    /// Starts one; its files go to `folder`.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(folder: &Path) -> Result<Collector> {
        let (grpc, http) = (free_port()?, free_port()?);
        let file = |name: &str| folder.join(name).display().to_string();
        let config = format!(
            "receivers:\n  otlp:\n    protocols:\n      grpc: {{endpoint: '127.0.0.1:{grpc}', max_recv_msg_size_mib: 64}}\n      \
             http: {{endpoint: '127.0.0.1:{http}'}}\n\
             exporters:\n  file/traces: {{path: '{}'}}\n  file/metrics: {{path: '{}'}}\n\
             service:\n  telemetry: {{metrics: {{level: none}}}}\n  pipelines:\n    \
             traces: {{receivers: [otlp], exporters: [file/traces]}}\n    \
             metrics: {{receivers: [otlp], exporters: [file/metrics]}}\n",
            file("traces.jsonl"),
            file("metrics.jsonl"),
        );
        std::fs::create_dir_all(folder)?;
        let path = folder.join("collector.yaml");
        std::fs::write(&path, config)?;
        let mut command = Command::new(tools::collector());
        command.arg("--config").arg(&path);
        let mut process = Process::spawn("collector", &mut command, folder, false)?;
        process.wait_for_log("Everything is ready")?;
        Ok(Collector {
            process,
            folder: folder.to_owned(),
            grpc,
            http,
        })
    }

    /// Its endpoint, as in `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self, transport: Transport) -> String {
        let port = match transport {
            Transport::Grpc => self.grpc,
            Transport::Http => self.http,
        };
        format!("http://127.0.0.1:{port}")
    }

    /// Stops it, and reads what it received.
    ///
    /// # Errors
    /// Where it does not stop, or its files cannot be read.
    pub fn finish(mut self) -> Result<Telemetry> {
        self.process.terminate().context("stopping the collector")?;
        Telemetry::read(&self.folder)
    }
}

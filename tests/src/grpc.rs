//! gRPC peers: one small service, four implementations, each as server and as client.
//!
//! A request says `CODE COUNT`. `Unary` answers with the request or with that code; `Collect` takes many messages
//! and answers with their number; `Stream` answers COUNT times, then ends with the code; `Echo` answers each message;
//! `Slow` answers once and then waits for the client to let go; `Missing` is not there.
//!
//! Modes of a client: `mix`, eight calls at a time of all methods but `Slow`; `paced`, the same one by one with pauses;
//! `churn`, the same with metadata of a hundred bytes that is another for each call, which the server sends back;
//! `cancel` after the first answer of `Slow`; `patient`, that 50 ms after the first answer, with a deadline of 10 s;
//! `deadline` of 150 ms on `Slow`; `long`, an `Echo` of [`LONG`] messages; `drip`, one of [`DRIP`], 10 ms apart.

use crate::Totals;
use crate::client::{self, Language, program};
use crate::load;
use crate::otlp::{Attributes, Kind, Telemetry};
use crate::process::{Process, free_port};
use anyhow::{Context as _, Result};
use std::path::Path;
use std::process::Command;

/// Full name of the service.
pub const SERVICE: &str = "redwire.test.Peer";

/// Messages each way of a `long` call.
pub const LONG: usize = 20_000;

/// Messages each way of a `drip` call.
pub const DRIP: usize = 600;

/// An implementation of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// grpcio (gRPC C-core).
    Python,
    /// grpc-go.
    Go,
    /// @grpc/grpc-js.
    Node,
    /// tonic, in the test's own program.
    Tonic,
}

impl Peer {
    /// All of them.
    pub const ALL: [Peer; 4] = [Peer::Python, Peer::Go, Peer::Node, Peer::Tonic];

    /// Its name in a test's name.
    pub fn name(self) -> &'static str {
        match self {
            Peer::Python => "grpcio",
            Peer::Go => "grpc-go",
            Peer::Node => "grpc-js",
            Peer::Tonic => "tonic",
        }
    }

    fn command(self) -> Result<Command> {
        Ok(match self {
            Peer::Python => program(Language::Python, "grpc_peer"),
            Peer::Go => program(Language::Go, "grpc"),
            Peer::Node => program(Language::Node, "grpc_peer"),
            Peer::Tonic => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("tonic-peer");
                command
            }
        })
    }

    /// Starts a server; its port.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn serve(self, folder: &Path, environment: &[(&str, &str)]) -> Result<(Process, u16)> {
        let port = free_port()?;
        let mut command = self.command()?;
        command
            .args(["server", &port.to_string()])
            .envs(environment.iter().copied());
        let mut process = Process::spawn("server", &mut command, folder, false)?;
        process.wait_for_port(port)?;
        Ok((process, port))
    }

    /// A client that makes `count` calls to `port`.
    ///
    /// # Errors
    /// Where its program is not known.
    pub fn client(
        self,
        port: u16,
        mode: &str,
        count: usize,
        environment: &[(&str, &str)],
    ) -> Result<Command> {
        let mut command = self.command()?;
        command
            .args(["client", &port.to_string(), mode, &count.to_string()])
            .envs(environment.iter().copied());
        Ok(command)
    }

    /// Runs a client to its end: its own count.
    ///
    /// # Errors
    /// Where it fails, or a call is missing.
    pub fn call(self, port: u16, mode: &str, count: usize, environment: &[(&str, &str)]) -> Result<Totals> {
        let calls: Totals = client::run(&mut self.client(port, mode, count, environment)?)?;
        let total: u64 = calls.values().sum();
        load::all(total, count).with_context(|| format!("{calls:?}"))?;
        Ok(calls)
    }
}

/// Name of a status code (doc/statuscodes.md of the gRPC project).
pub fn code_name(code: i32) -> &'static str {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    usize::try_from(code)
        .ok()
        .and_then(|code| NAMES.get(code).copied())
        .unwrap_or("?")
}

/// `METHOD CODE` of a call; `-` stands for what is absent.
pub fn call_of(attributes: &Attributes) -> String {
    let method = attributes.get("rpc.method").map_or("-", |method| {
        method
            .strip_prefix(SERVICE)
            .and_then(|rest| rest.strip_prefix('/'))
            .unwrap_or(method)
    });
    let code = attributes
        .get("rpc.response.status_code")
        .map_or("-", String::as_str);
    format!("{method} {code}")
}

/// Calls of a service that its spans tell of.
pub fn of_spans(telemetry: &Telemetry, service: &str, kind: Kind) -> Totals {
    let mut calls = Totals::new();
    for span in telemetry.spans(service, kind) {
        *calls.entry(call_of(&span.attributes)).or_default() += 1;
    }
    calls
}

/// Calls of a service that the duration metric counts.
pub fn of_metric(telemetry: &Telemetry, service: &str, kind: Kind) -> Totals {
    let metric = match kind {
        Kind::Server => "rpc.server.call.duration",
        _ => "rpc.client.call.duration",
    };
    let mut calls = Totals::new();
    for series in &telemetry.series {
        if series.service == service && series.metric == metric {
            *calls.entry(call_of(&series.attributes)).or_default() += series.count;
        }
    }
    calls
}

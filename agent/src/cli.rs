//! The command line.

use crate::config::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

/// Observes the HTTP, gRPC, database and messaging traffic of processes that opted in, and exports it as
/// OpenTelemetry spans and metrics. Nothing in the observed applications is changed or restarted.
#[derive(Debug, Parser)]
#[command(name = "redwire", version, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Observe processes until stopped: needs root, or CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE
    ///
    /// Processes with REDWIRE_ENABLE=true in their environment are selected without any flag. Without an OTLP
    /// endpoint, a table of rates, errors and durations and sample spans go to the terminal.
    Run(Box<Run>),
    /// Report the transactions of a capture file (pcap or pcapng): needs no privileges
    Replay(Replay),
    /// List the processes that are selected, by which rule, and what they are called
    Ps(Ps),
    /// Tell what this kernel and these privileges allow; exit status 1 where `run` would fail
    Check(Check),
    /// Print a completion script for a shell
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, in roff: `redwire man | man -l -`
    Man,
}

/// Which processes are captured.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Selection")]
pub struct SelectionArgs {
    /// Select a process by its id (repeatable)
    #[arg(long = "pid", value_name = "PID", env = "REDWIRE_PID", value_delimiter = ',')]
    pub pids: Vec<u32>,
    /// Select processes by a glob over the path of their executable, the path that was executed, their first argument
    /// or their name; without a slash over the last component (repeatable)
    #[arg(long = "exe", value_name = "GLOB", env = "REDWIRE_EXE", value_delimiter = ',')]
    pub executables: Vec<String>,
    /// Select connections of any process by their local or remote TCP port (repeatable)
    #[arg(
        long = "port",
        value_name = "PORT",
        env = "REDWIRE_PORT",
        value_delimiter = ',',
        value_parser = port
    )]
    pub ports: Vec<NonZeroU16>,
    /// Do not select processes for REDWIRE_ENABLE=true in their environment
    #[arg(long, env = "REDWIRE_NO_ENVIRONMENT")]
    pub no_environment: bool,
    /// Do not select the children of selected processes
    #[arg(long, env = "REDWIRE_NO_CHILDREN")]
    pub no_children: bool,
    /// Read the configuration from this YAML file; flags and environment win over it
    #[arg(long, value_name = "FILE", env = "REDWIRE_CONFIG", help_heading = "Options")]
    pub config: Option<PathBuf>,
}

/// Where telemetry goes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Export")]
pub struct ExportArgs {
    /// Export to this OTLP endpoint; the other OTEL_EXPORTER_OTLP_* variables are honoured, too
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// Protocol of the export
    #[arg(long, value_name = "PROTOCOL", env = "OTEL_EXPORTER_OTLP_PROTOCOL", value_parser = ["grpc", "http/protobuf"])]
    pub otlp_protocol: Option<String>,
    /// Fail where the endpoint cannot be reached at the start, instead of trying on
    #[arg(long, env = "REDWIRE_REQUIRE_ENDPOINT")]
    pub require_endpoint: bool,
    /// Kind of histogram for durations and sizes
    #[arg(long, value_enum, env = "REDWIRE_HISTOGRAM")]
    pub histogram: Option<Histogram>,
    /// Share of traces whose spans are exported, from 0 to 1; metrics count all
    #[arg(long, value_name = "RATIO", env = "REDWIRE_SPAN_RATIO")]
    pub span_ratio: Option<f64>,
    /// A route pattern such as /users/{id}; wins over derived ones (repeatable)
    #[arg(
        long = "route",
        value_name = "PATTERN",
        env = "REDWIRE_ROUTE",
        value_delimiter = ','
    )]
    pub routes: Vec<String>,
    /// Report url.query, which may hold secrets
    #[arg(long, env = "REDWIRE_URL_QUERY")]
    pub url_query: bool,
}

/// Kinds of histogram (OpenTelemetry metrics data model).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Histogram {
    /// Base-2 exponential buckets.
    Exponential,
    /// The explicit buckets that the semantic conventions advise.
    Explicit,
}

/// `redwire run`
#[derive(Debug, Clone, Args)]
pub struct Run {
    /// Selection.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Export.
    #[command(flatten)]
    pub export: ExportArgs,
    /// Capture.
    #[command(flatten)]
    pub capture: CaptureArgs,
    /// Stop after this time: seconds, or a number with ms, s, m or h
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub duration: Option<Duration>,
    /// How much the agent says on standard error: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", env = "REDWIRE_LOG", default_value = "info")]
    pub log: tracing::Level,
}

/// How the kernel is asked.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Capture")]
pub struct CaptureArgs {
    /// How the kernel is hooked [default: auto]
    #[arg(long, value_enum, value_name = "BACKEND", env = "REDWIRE_HOOKS")]
    pub hooks: Option<Hooks>,
    /// Size of the ring buffer between kernel and agent: a power of two, at least 64KiB [default: 8MiB]
    #[arg(long, value_name = "SIZE", env = "REDWIRE_RING_BUFFER")]
    pub ring_buffer: Option<ByteSize>,
    /// BTF of the running kernel [default: /sys/kernel/btf/vmlinux]
    #[arg(long, value_name = "FILE", env = "REDWIRE_BTF")]
    pub btf: Option<PathBuf>,
    /// Let the kernel programs log (at --log debug)
    #[arg(long, env = "REDWIRE_KERNEL_LOG")]
    pub kernel_log: bool,
}

/// What `--hooks` may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hooks {
    /// The first of the others that the kernel allows.
    Auto,
    /// Trampolines on the kernel's socket functions: cheapest.
    Fentry,
    /// Kprobes on the same functions, and on their returns.
    Kprobe,
    /// Raw tracepoints on system calls: sees no io_uring.
    Tracepoint,
}

/// `redwire replay`
#[derive(Debug, Clone, Args)]
pub struct Replay {
    /// The capture file, or - for standard input
    pub file: PathBuf,
    /// What is printed
    #[arg(long, value_enum, default_value = "table")]
    pub output: Output,
    /// Export.
    #[command(flatten)]
    pub export: ExportArgs,
}

/// What `replay` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One span per line, as a JSON object.
    Jsonl,
    /// A table of rates, errors and durations.
    Table,
}

/// `redwire ps`
#[derive(Debug, Clone, Args)]
pub struct Ps {
    /// Selection.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// List all processes, the ones that are not selected too
    #[arg(long)]
    pub all: bool,
}

/// `redwire check`
#[derive(Debug, Clone, Args)]
pub struct Check {
    /// Capture.
    #[command(flatten)]
    pub capture: CaptureArgs,
    /// Tell what a bug report needs of this machine, too; no secrets
    #[arg(long)]
    pub report: bool,
}

/// A TCP port of a connection: 0 is none (RFC 6335 § 6).
fn port(text: &str) -> Result<NonZeroU16, String> {
    text.trim()
        .parse()
        .map_err(|_| "must be a port, from 1 to 65535".to_owned())
}

/// A time as people write it: `90`, `1.5s`, `500ms`, `10m`, `2h`.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    let seconds = digits.parse::<f64>().map_or(f64::NAN, |number| number * factor);
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        "must be a number of seconds, or a number with ms, s, m or h, like 90, 500ms or 10m".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, milliseconds) in [
            ("90", 90_000),
            ("0", 0),
            ("1.5s", 1500),
            ("500ms", 500),
            ("1m", 60_000),
            ("2h", 7_200_000),
        ] {
            assert_eq!(time(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in ["", "m", "-1", "1 m", "1d", "1m30", "inf", "nan", "1e300h", "é"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports() {
        assert_eq!(port("80").map(NonZeroU16::get), Ok(80));
        for bad in ["0", "", "-1", "65536", "http"] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }
}

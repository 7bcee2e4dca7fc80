//! `redwire replay`: a capture file through the pipeline.

use crate::cli::{Output, Replay};
use crate::config::File;
use anyhow::{Context as _, Result};
use redwire_pcap::{ReplayError, Skip, Summary};
use redwire_protocol::stream::Connections;
use redwire_telemetry::{
    Counters, Outputs, Pipeline, Resources, ServiceInstance, TableConfig, Telemetry, WhenFull,
};
use std::io::{BufWriter, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

/// How long a collector may take for what is left at the end.
const LAST_EXPORT: Duration = Duration::from_secs(30);

/// For how long a request to a collector is tried: nobody waits for a file's telemetry as for a live system's.
const GIVE_UP: Duration = Duration::from_secs(5);

/// Exit status where the file was read whole and a collector did not take all of its telemetry.
const UNDELIVERED: u8 = 4;

/// Reads the file and reports. The exit status.
///
/// # Errors
/// Where the flags are wrong.
pub fn run(args: &Replay) -> Result<u8> {
    let file = File::default();
    let mut config = super::telemetry(&args.export, &file)?;
    config.when_full = WhenFull::Wait;
    // A capture's reader wants what is in it, whatever its callers sampled.
    config.parent_based = false;
    config.retry.give_up = GIVE_UP;
    let otlp = super::otlp(&args.export, &file)?;
    let mut outputs = Outputs {
        otlp: otlp.is_on().then_some(otlp),
        ..Outputs::default()
    };
    match args.output {
        Output::Jsonl => outputs.jsonl = Some(Box::new(BufWriter::new(std::io::stdout()))),
        Output::Table => {
            outputs.table = Some(TableConfig {
                every: None,
                samples: 0,
                ..TableConfig::default()
            });
        }
    }
    let (reader, length) = match redwire_pcap::open(&args.file) {
        Ok(opened) => opened,
        Err(error) => {
            eprintln!("redwire: {}: {error}", args.file.display());
            return Ok(1);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let resources = Resources::new(super::common(), ServiceInstance::default());
    let trouble = config.trouble.clone();
    let mut pipeline = Pipeline::start(config, outputs, Arc::new(resources), runtime.handle())
        .context("starting the pipeline")?;
    let mut telemetry = pipeline.worker();
    let mut connections = Connections::new(redwire_pcap::limits());
    let outcome = read(reader, length, &mut connections, &mut telemetry);
    connections.finish(&mut telemetry);
    let (summary, status) = match &outcome {
        Ok(summary) => (Some(summary), 0),
        Err(error) => {
            eprintln!("redwire: {}: {error}", args.file.display());
            (error.summary(), error.exit_status())
        }
    };
    telemetry.finish(
        summary
            .and_then(|summary| summary.times)
            .map_or(0, |(_, last)| last),
    );
    let counters = runtime.block_on(pipeline.shutdown(LAST_EXPORT));
    if let Some(summary) = summary {
        eprint!("{}", report(summary, &counters));
    }
    let undelivered = super::undelivered(&counters, &trouble);
    if let Some(line) = &undelivered {
        eprintln!("redwire: {line}");
    }
    // What cannot be sent is not waited for.
    runtime.shutdown_background();
    Ok(match status {
        0 if undelivered.is_some() => UNDELIVERED,
        status => status,
    })
}

fn read(
    reader: Box<dyn std::io::Read>,
    length: Option<u64>,
    connections: &mut Connections,
    telemetry: &mut Telemetry,
) -> Result<Summary, ReplayError> {
    let mut terminal = std::io::stderr().is_terminal().then(std::io::stderr);
    let mut progress = |summary: &Summary| {
        if let Some(terminal) = &mut terminal {
            let share = length.map(|length| format!(" ({}%)", summary.bytes * 100 / length.max(1)));
            let read = summary.bytes >> 20;
            let _ = write!(terminal, "\r{read} MiB read{}\x1b[K", share.unwrap_or_default());
        }
    };
    let outcome = redwire_pcap::replay(reader, connections, telemetry, &mut progress);
    if let Some(terminal) = &mut terminal {
        let _ = write!(terminal, "\r\x1b[K");
    }
    outcome
}

/// What was read and what of it was no transaction, for standard error.
fn report(summary: &Summary, counters: &Counters) -> String {
    let mut lines = vec![format!(
        "{} packets, {} connections ({} joined in the middle)",
        summary.packets, summary.connections, summary.joined_connections
    )];
    let skipped = Skip::ALL.iter().filter(|&&reason| summary.skipped(reason) > 0);
    lines.extend(skipped.map(|&reason| format!("skipped: {} {}", summary.skipped(reason), reason.as_str())));
    for (count, what) in [
        (summary.cut_segments, "segments that were not captured whole"),
        (summary.stray_segments, "segments that fit no connection"),
        (
            summary.evicted_connections,
            "connections given up because there were too many at a time",
        ),
    ] {
        if count > 0 {
            lines.push(format!("{count} {what}"));
        }
    }
    lines.extend(super::losses(counters));
    lines.iter().map(|line| format!("redwire: {line}\n")).collect()
}

//! `redwire run`: the agent.

use crate::cli::Run;
use crate::command::ps::HOW_TO_SELECT;
use crate::discover::{self, Registry};
use crate::source::ebpf::{SKIPPED_RUNS, Source};
use crate::worker::{Shared, Worker};
use anyhow::{Context as _, Result, bail};
use opentelemetry::KeyValue;
use opentelemetry::metrics::AsyncInstrument;
use opentelemetry_semantic_conventions::resource::{
    HOST_NAME, PROCESS_PID, SERVICE_INSTANCE_ID, SERVICE_VERSION,
};
use redwire_common::counter;
use redwire_protocol::connection::ProcessId;
use redwire_telemetry::{Counters, Outputs, Own, Pipeline, Resources, ServiceInstance, TableConfig};
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How long a collector may take for what is left at the end.
const LAST_EXPORT: Duration = Duration::from_secs(10);

/// Runs the agent until it is stopped.
///
/// # Errors
/// What is wrong with configuration, privileges, kernel or collector, and what to do about it.
pub fn run(args: &Run) -> Result<()> {
    let file = super::file(&args.selection)?;
    let selection = super::selection(&args.selection, &file)?;
    let options = super::capture(&args.capture, &file, &selection)?;
    let config = super::telemetry(&args.export, &file)?;
    let otlp = super::otlp(&args.export, &file)?;
    let missing = super::check::missing_capabilities();
    if !missing.is_empty() {
        bail!(super::check::capability_advice(&missing));
    }

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let own = Own::start(&otlp, &agent(), runtime.handle())?;
    log(args.log, &own);
    let mut outputs = Outputs::default();
    if otlp.is_on() {
        if let Err(unreachable) = runtime.block_on(redwire_telemetry::check(&otlp)) {
            if args.export.require_endpoint {
                bail!(unreachable);
            }
            tracing::warn!("{unreachable}; the agent goes on trying");
        }
        outputs.otlp = Some(otlp);
    } else {
        outputs.table = Some(TableConfig::default());
    }

    let mut source = Source::open(&options)?;
    tracing::info!("backend {}", source.backend());
    if args.capture.kernel_log {
        source.log(runtime.handle())?;
    }
    let common = ServiceInstance::parse(&std::env::var("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default());
    let resources = Arc::new(Resources::new(common, ServiceInstance::default()));
    let mut registry = Registry::new(resources.clone(), selection.clone());
    // After attaching: a process that starts meanwhile is seen by the kernel programs, or here, or by both.
    let selected = discover::scan(&selection);
    for (process, by) in &selected {
        registry.add(process);
        source.select(ProcessId(process.pid), *by)?;
    }
    if let Some(pid) = selection
        .pids
        .iter()
        .find(|&pid| !selected.iter().any(|(found, _)| found.pid == *pid))
    {
        bail!("--pid {pid}: no such process");
    }
    if !selection.is_explicit() && selected.is_empty() {
        tracing::warn!("nothing is selected, so nothing is captured. {HOW_TO_SELECT}");
    } else {
        tracing::info!("{} processes are selected so far", selected.len());
    }

    let mut pipeline = Pipeline::start(config, outputs, resources, runtime.handle())?;
    let shared = Arc::new(Shared::default());
    own.observe(pipeline.counters());
    observe(&own, &shared);
    crate::peers::listen(pipeline.seen().clone(), runtime.handle())?;
    let worker = Worker::new(source, pipeline.worker(), registry, shared.clone());
    let worker = std::thread::Builder::new()
        .name("worker".to_owned())
        .spawn(move || worker.run())?;
    runtime.block_on(stopped(args.duration))?;
    shared.stop();
    let Ok(()) = worker.join() else {
        bail!("the worker thread panicked")
    };
    let counters = runtime.block_on(pipeline.shutdown(LAST_EXPORT));
    for line in report(&shared, &counters) {
        tracing::info!("{line}");
    }
    runtime.block_on(own.shutdown(LAST_EXPORT));
    Ok(())
}

/// Who the agent is, for its own telemetry.
fn agent() -> ServiceInstance {
    let host = discover::Host::this();
    let pid = std::process::id();
    ServiceInstance::new("redwire")
        .with(SERVICE_VERSION, env!("CARGO_PKG_VERSION"))
        .with(SERVICE_INSTANCE_ID, format!("{}-{pid}", host.boot))
        .with(HOST_NAME, host.name)
        .with(PROCESS_PID, i64::from(pid))
}

/// Logs to standard error and, where there is an endpoint, to the collector. Libraries only warn.
fn log(level: tracing::Level, own: &Own) {
    let ours = Targets::new()
        .with_default(tracing::Level::WARN)
        .with_target("redwire", level);
    let terminal = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_filter(ours);
    tracing_subscriber::registry()
        .with(own.layer())
        .with(terminal)
        .init();
}

/// What the kernel programs count, with the reason that `redwire.capture.bytes` and `redwire.capture.events` give.
const COUNTED: &[(u32, &str, &str)] = &[
    (counter::CAPTURED_BYTES, "redwire.capture.bytes", "captured"),
    (counter::UNNEEDED_BYTES, "redwire.capture.bytes", "not_needed"),
    (counter::UNCAPTURED_BYTES, "redwire.capture.bytes", "not_captured"),
    (counter::LOST_BYTES, "redwire.capture.bytes", "ring_full"),
    (counter::LOST_EVENTS, "redwire.capture.events.lost", "ring_full"),
    (counter::UNSEEN_BYTES, "redwire.capture.bytes", "unseen"),
    (counter::UNPLACED_CALLS, "redwire.capture.events.lost", "unplaced"),
    (SKIPPED_RUNS, "redwire.capture.events.lost", "skipped"),
    (
        counter::PROCESSES_FULL,
        "redwire.capture.events.lost",
        "processes_full",
    ),
];

/// Exports the kernel programs' counters.
fn observe(own: &Own, shared: &Arc<Shared>) {
    let Some(meter) = own.meter() else { return };
    for (name, unit, what) in [
        (
            "redwire.capture.bytes",
            "By",
            "Bytes of payload of the selected connections, by what became of them.",
        ),
        (
            "redwire.capture.events.lost",
            "{event}",
            "Events of the kernel programs that were lost, by reason.",
        ),
    ] {
        let shared = shared.clone();
        let callback = move |observer: &dyn AsyncInstrument<u64>| {
            let kernel = shared.kernel();
            for &(index, _, state) in COUNTED.iter().filter(|(_, of, _)| *of == name) {
                observer.observe(
                    kernel.get(index),
                    &[KeyValue::new("redwire.capture.state", state)],
                );
            }
        };
        meter
            .u64_observable_counter(name)
            .with_unit(unit)
            .with_description(what)
            .with_callback(callback)
            .build();
    }
}

/// Waits for SIGTERM, SIGINT or the end of the time.
async fn stopped(duration: Option<f64>) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("listening to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening to SIGINT")?;
    let duration = duration
        .map_or(Ok(Duration::MAX), Duration::try_from_secs_f64)
        .context("--duration")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = tokio::time::sleep(duration) => {}
    }
    Ok(())
}

/// What was seen and what of it was no transaction.
fn report(shared: &Shared, counters: &Counters) -> Vec<String> {
    let kernel = shared.kernel();
    let mut lines = vec![format!(
        "{} bytes of payload captured",
        kernel.get(counter::CAPTURED_BYTES)
    )];
    for (index, what) in [
        (counter::LOST_EVENTS, "events lost: the ring buffer was full"),
        (
            counter::LOST_BYTES,
            "bytes of payload lost: the ring buffer was full",
        ),
        (
            counter::UNCAPTURED_BYTES,
            "bytes of payload not captured: beyond the limit per call, or unreadable",
        ),
        (
            counter::UNSEEN_BYTES,
            "bytes of payload went by unseen: a kernel program was skipped, or another process moved them",
        ),
        (SKIPPED_RUNS, "runs of kernel programs skipped by the kernel"),
        (
            counter::UNPLACED_CALLS,
            "calls whose position in the stream could not be told",
        ),
        (
            counter::PROCESSES_FULL,
            "processes not selected: their table was full",
        ),
    ] {
        if kernel.get(index) > 0 {
            lines.push(format!("{} {what}", kernel.get(index)));
        }
    }
    lines.extend(super::losses(counters));
    lines
}

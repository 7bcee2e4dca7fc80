//! `redwire run`: the agent.

use crate::cli::Run;
use crate::command::ps::HOW_TO_SELECT;
use crate::command::stop::Stop;
use crate::discover::{self, BY_PORT, Newcomers, Process, Registry};
use crate::source::ebpf::{SKIPPED_RUNS, Source};
use crate::terminal::{self, Lines, Quiet};
use crate::worker::{Shared, Worker};
use anyhow::{Result, bail};
use opentelemetry::KeyValue;
use opentelemetry::metrics::AsyncInstrument;
use opentelemetry_semantic_conventions::resource::{
    HOST_NAME, PROCESS_PID, SERVICE_INSTANCE_ID, SERVICE_VERSION,
};
use redwire_common::counter;
use redwire_protocol::connection::ProcessId;
use redwire_telemetry::{Counters, Outputs, Own, Pipeline, Resources, Screen, ServiceInstance, TableConfig};
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How long a collector that takes what is left at the end may take for it.
const LAST_EXPORT: Duration = Duration::from_secs(10);

/// How long one that takes nothing is waited for. With what else there is to do, the agent has ended within 3 s.
const LAST_PATIENCE: Duration = Duration::from_millis(1200);

/// How long the agent's own telemetry may take at the end.
const LAST_OWN: Duration = Duration::from_millis(1000);

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
    discover::check_pids(&selection.pids)?;
    let missing = super::check::missing_capabilities();
    if !missing.is_empty() {
        bail!(super::check::capability_advice(&missing));
    }

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut stop = Stop::listen(runtime.handle(), terminal::restore)?;
    let table = (!otlp.is_on()).then(TableConfig::default);
    let trouble = config.trouble.clone();
    let common = super::common();
    let own = Own::start(&otlp, &agent(common.clone()), &trouble, runtime.handle())?;
    log(args.log, &own, table.as_ref().map(|table| table.screen.clone()));
    let mut outputs = Outputs::default();
    if otlp.is_on() {
        let checked = runtime.block_on(async {
            tokio::select! {
                checked = redwire_telemetry::check(&otlp) => checked,
                _ = stop.wait() => Ok(()),
            }
        });
        if let Err(unreachable) = checked {
            if args.export.require_endpoint {
                bail!(unreachable);
            }
            trouble.told(unreachable.to_string());
            tracing::warn!("{unreachable}; the agent goes on trying");
        }
        outputs.otlp = Some(otlp);
    }
    outputs.table = table;
    // Loading can take a second. Who is not to begin is told so.
    let ended_early = |signal: &str, own: Own| {
        tracing::info!("{signal} before the agent captured: it ends, and has observed nothing");
        runtime.block_on(own.shutdown(LAST_OWN));
    };
    if let Some(signal) = stop.requested() {
        ended_early(signal, own);
        runtime.shutdown_background();
        return Ok(());
    }

    let mut source = Source::open(&options)?;
    tracing::info!("backend {}", source.backend());
    if let Some(signal) = stop.requested() {
        ended_early(signal, own);
        runtime.shutdown_background();
        return Ok(());
    }
    if args.capture.kernel_log {
        source.log(runtime.handle())?;
    }
    let resources = Arc::new(Resources::new(common, ServiceInstance::default()));
    let mut registry = Registry::new(resources.clone(), selection.clone());
    // After attaching: a process that starts meanwhile is seen by the kernel programs, or here, or by both.
    let (processes, _) = Process::all();
    let selected = discover::scan(&selection, &processes);
    let mut newcomers = (!selection.ports.is_empty()).then(|| Newcomers::new(resources.clone()));
    for (process, by) in &selected {
        let id = ProcessId(process.pid);
        match by & !BY_PORT {
            0 => newcomers.iter_mut().for_each(|newcomers| newcomers.meet(id)),
            by => {
                registry.add(process);
                source.select(id, by)?;
            }
        }
    }
    for line in discover::unmatched(&selection, &processes) {
        tracing::warn!("{line}");
    }
    if !selection.is_explicit() && selected.is_empty() {
        tracing::warn!("nothing is selected, so nothing is captured. {HOW_TO_SELECT}");
    } else {
        tracing::info!("{} selected so far", counted(&selected));
    }

    let is_drawn = outputs
        .table
        .as_ref()
        .is_some_and(|table| table.screen.is_terminal());
    let _quiet = is_drawn.then(Quiet::begin);
    let mut pipeline = Pipeline::start(config, outputs, resources, runtime.handle())?;
    let shared = Arc::new(Shared::default());
    own.observe(pipeline.counters());
    observe(&own, &shared);
    crate::peers::listen(pipeline.seen().clone(), runtime.handle())?;
    let worker = Worker::new(source, pipeline.worker(), registry, newcomers, shared.clone());
    let worker = std::thread::Builder::new()
        .name("worker".to_owned())
        .spawn(move || worker.run())?;
    runtime.block_on(async {
        tokio::select! {
            _ = stop.wait() => {}
            () = tokio::time::sleep(args.duration.unwrap_or(Duration::MAX)) => {}
        }
    });
    shared.stop();
    let Ok(()) = worker.join() else {
        bail!("the worker thread panicked")
    };
    let counters = runtime.block_on(pipeline.shutdown_unless_stalled(LAST_EXPORT, LAST_PATIENCE));
    for line in report(&shared, &counters) {
        tracing::info!("{line}");
    }
    let undelivered = super::undelivered(&counters, &trouble);
    if let Some(line) = &undelivered {
        tracing::warn!("{line}");
    }
    // A collector that took nothing of what was observed takes nothing of this.
    let patience = if undelivered.is_some() {
        LAST_OWN / 4
    } else {
        LAST_OWN
    };
    runtime.block_on(own.shutdown(patience));
    // What the SDK still tries is not waited for.
    runtime.shutdown_background();
    Ok(())
}

/// How many processes are selected, and how many of them for connections on a port alone.
fn counted(selected: &[(Process, u32)]) -> String {
    let by_port = selected.iter().filter(|(_, by)| *by == BY_PORT).count();
    let processes = match selected.len() {
        1 => "1 process is".to_owned(),
        n => format!("{n} processes are"),
    };
    match by_port {
        0 => processes,
        n => format!("{processes} ({n} by port)"),
    }
}

/// Who the agent is, for its own telemetry; `common` is what its environment says of it.
fn agent(common: ServiceInstance) -> ServiceInstance {
    let host = discover::Host::this();
    let pid = std::process::id();
    let own = ServiceInstance::new("redwire")
        .with(SERVICE_VERSION, env!("CARGO_PKG_VERSION"))
        .with(SERVICE_INSTANCE_ID, format!("{}-{pid}", host.boot))
        .with(HOST_NAME, host.name)
        .with(PROCESS_PID, i64::from(pid));
    common.or(&own)
}

/// Logs to standard error and, where there is an endpoint, to the collector. Libraries only warn.
/// Where a table is drawn on the same terminal, they stand above it.
fn log(level: tracing::Level, own: &Own, screen: Option<Arc<Screen>>) {
    // What the SDK cannot deliver is told by `Trouble`, once.
    let ours = Targets::new()
        .with_default(tracing::Level::WARN)
        .with_target("opentelemetry", tracing::level_filters::LevelFilter::OFF)
        .with_target("redwire", level);
    let is_terminal = std::io::stderr().is_terminal();
    let has_colour = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let screen = screen.filter(|screen| screen.is_terminal() && is_terminal);
    let terminal = tracing_subscriber::fmt::layer()
        .with_writer(move || Lines(screen.clone()))
        .with_ansi(has_colour)
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

//! What each subcommand does.

pub mod check;
pub mod ps;
pub mod replay;
mod report;
pub mod run;
mod stop;

use crate::cli::{CaptureArgs, ExportArgs, Histogram, Hooks, SelectionArgs};
use crate::config::{ByteSize, Executable, File, Selection};
use crate::source::ebpf::backend::Backend;
use crate::source::ebpf::{Options, offsets};
use anyhow::{Context as _, Result, bail};
use opentelemetry_semantic_conventions::resource::SERVICE_NAME;
use redwire_telemetry::{
    Config, Counters, Drop, Histograms, OtlpConfig, ServiceInstance, Signal, Trouble, loss_in_words,
};

/// The selection that flags, environment and file give.
///
/// # Errors
/// Where a glob is none.
pub fn selection(args: &SelectionArgs, file: &File) -> Result<Selection> {
    let part = &file.selection;
    let globs = if args.executables.is_empty() {
        &part.executables
    } else {
        &args.executables
    };
    let ports = if args.ports.is_empty() {
        &part.ports
    } else {
        &args.ports
    };
    let pids = if args.pids.is_empty() {
        &part.pids
    } else {
        &args.pids
    };
    Ok(Selection {
        pids: pids.clone(),
        executables: globs
            .iter()
            .map(|glob| Executable::new(glob))
            .collect::<Result<_>>()?,
        ports: ports.iter().map(|port| port.get()).collect(),
        environment: !args.no_environment && part.environment.unwrap_or(true),
        children: !args.no_children && part.children.unwrap_or(true),
    })
}

/// The configuration file, where one is named.
///
/// # Errors
/// Where it cannot be read.
pub fn file(args: &SelectionArgs) -> Result<File> {
    args.config
        .as_deref()
        .map_or_else(|| Ok(File::default()), File::read)
}

/// Ring buffer of an agent that is told nothing else: at 1 KiB an event, a fifth of a second at 80,000 events/s.
const RING_BUFFER: ByteSize = ByteSize(8 << 20);

/// The smallest ring buffer: more than one piece of payload must fit.
const RING_BUFFER_MIN: u64 = 64 << 10;

/// How the kernel programs are to be loaded.
///
/// # Errors
/// Where the ring buffer's size is none.
pub fn capture(args: &CaptureArgs, file: &File, selection: &Selection) -> Result<Options> {
    let ring = args
        .ring_buffer
        .or(file.capture.ring_buffer)
        .unwrap_or(RING_BUFFER);
    if !ring.0.is_power_of_two() || ring.0 < RING_BUFFER_MIN {
        bail!(
            "--ring-buffer {ring}: must be a power of two and at least {}",
            ByteSize(RING_BUFFER_MIN)
        );
    }
    Ok(Options {
        hooks: match args.hooks.or(file.capture.hooks) {
            None | Some(Hooks::Auto) => None,
            Some(Hooks::Fentry) => Some(Backend::Fentry),
            Some(Hooks::Kprobe) => Some(Backend::Kprobe),
            Some(Hooks::Tracepoint) => Some(Backend::Tracepoint),
        },
        btf: args
            .btf
            .clone()
            .or_else(|| file.capture.btf.clone())
            .unwrap_or_else(|| offsets::KERNEL_BTF.into()),
        ring_bytes: u32::try_from(ring.0).with_context(|| format!("--ring-buffer {ring}: at most 2GiB"))?,
        by_environment: selection.environment,
        by_executable: !selection.executables.is_empty(),
        ports: selection.ports.clone(),
        follow: selection.children,
        kernel_log: args.kernel_log,
    })
}

/// How telemetry is made.
///
/// # Errors
/// Where a value is out of its range.
pub fn telemetry(args: &ExportArgs, file: &File) -> Result<Config> {
    let mut config = Config::default();
    let histogram = match (args.histogram, file.export.histogram.as_deref()) {
        (Some(kind), _) => kind,
        (None, None | Some("exponential")) => Histogram::Exponential,
        (None, Some("explicit")) => Histogram::Explicit,
        (None, Some(other)) => bail!("export.histogram: '{other}' is neither exponential nor explicit"),
    };
    config.metrics.histograms = match histogram {
        Histogram::Exponential => Histograms::Exponential,
        Histogram::Explicit => Histograms::Explicit,
    };
    if let Some(ratio) = args.span_ratio.or(file.export.span_ratio) {
        if !(0.0..=1.0).contains(&ratio) {
            bail!("--span-ratio {ratio}: must be between 0 and 1");
        }
        config.sampling_ratio = ratio;
    }
    config.routes.patterns = if args.routes.is_empty() {
        file.http.routes.clone()
    } else {
        args.routes.clone()
    };
    config.routes.check()?;
    config.spans.http.query = args.url_query || file.http.url_query.unwrap_or(false);
    if let Ok(interval) = std::env::var("OTEL_METRIC_EXPORT_INTERVAL") {
        let interval = interval.parse().ok().filter(|&milliseconds| milliseconds > 0);
        let interval =
            interval.context("OTEL_METRIC_EXPORT_INTERVAL: must be a number of milliseconds above 0")?;
        config.metric_interval = std::time::Duration::from_millis(interval);
    }
    if let Ok(size) = std::env::var("OTEL_BSP_MAX_QUEUE_SIZE") {
        let size = size.parse().ok().filter(|&spans| spans > 0);
        config.span_queue = size.context("OTEL_BSP_MAX_QUEUE_SIZE: must be a number of spans above 0")?;
    }
    Ok(config)
}

/// Where OTLP goes.
///
/// # Errors
/// The first variable or flag that makes no sense.
pub fn otlp(args: &ExportArgs, file: &File) -> Result<OtlpConfig> {
    let endpoint = args.otlp_endpoint.as_deref().or(file.export.endpoint.as_deref());
    let protocol = args.otlp_protocol.as_deref().or(file.export.protocol.as_deref());
    let get = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_PROTOCOL" => protocol.map(str::to_owned),
        _ => std::env::var(name).ok(),
    };
    Ok(OtlpConfig::read(endpoint, &get)?)
}

/// What `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` of this process say, of which the latter wins (resource SDK
/// specification).
fn common() -> ServiceInstance {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let attributes = ServiceInstance::parse(&variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default());
    match variable("OTEL_SERVICE_NAME") {
        Some(name) => attributes.with(SERVICE_NAME, name),
        None => attributes,
    }
}

/// What no collector took, and why; `None` where all was taken.
fn undelivered(counters: &Counters, trouble: &Trouble) -> Option<String> {
    let lost = |signal| {
        let by_reason = Drop::ALL.map(|reason| (reason.as_str(), counters.dropped(signal, reason)));
        let reasons: Vec<String> = by_reason
            .iter()
            .filter(|(_, n)| *n > 0)
            .map(|(reason, n)| format!("{reason} {n}"))
            .collect();
        let total: u64 = by_reason.iter().map(|(_, n)| n).sum();
        (total > 0).then(|| format!("{total} {} ({})", signal.as_str(), reasons.join(", ")))
    };
    let lost: Vec<String> = Signal::ALL.into_iter().filter_map(lost).collect();
    if lost.is_empty() {
        return None;
    }
    let why = trouble.last().map(|last| format!(": {last}")).unwrap_or_default();
    Some(format!("not delivered: {}{why}", lost.join(" and ")))
}

/// What was no transaction, by protocol and reason.
fn losses(counters: &Counters) -> Vec<String> {
    let line = |((protocol, reason), n): ((Option<&str>, &str), u64)| {
        let words = loss_in_words(protocol, reason, n);
        format!("not reported: {words} [{reason}, see docs/losses.md]")
    };
    counters.losses().into_iter().map(line).collect()
}

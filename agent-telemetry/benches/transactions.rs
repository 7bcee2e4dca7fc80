//! How many HTTP transactions one core turns into spans and RED aggregates a second.
//!
//! Prints a line per case; `--quick` (and `cargo test`) runs each for a moment only.

#[path = "../tests/common/mod.rs"]
mod common;

use common::{BEGIN, connection, record, transaction};
use redwire_protocol::connection::{ConnectionInfo, ProcessId, Side};
use redwire_protocol::output::Observer;
use redwire_telemetry::{
    Config, OtlpConfig, Outputs, Pipeline, Resources, Screen, ServiceInstance, TableConfig,
};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn outputs(spans: bool) -> Outputs {
    if !spans {
        let table = TableConfig {
            screen: Arc::new(Screen::to(Box::new(std::io::sink()))),
            every: None,
            ..TableConfig::default()
        };
        return Outputs {
            table: Some(table),
            ..Outputs::default()
        };
    }
    // Nobody listens there: batches are filled, queued and pushed out by later ones.
    let otlp = OtlpConfig::read(Some("http://127.0.0.1:9"), &|_| None).expect("the endpoint is one");
    Outputs {
        otlp: Some(OtlpConfig {
            metrics: None,
            ..otlp
        }),
        ..Outputs::default()
    }
}

fn run(name: &str, time: Duration, spans: bool, side: Side, paths: &[String]) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let resources = Arc::new(Resources::new(
        ServiceInstance::default(),
        ServiceInstance::default(),
    ));
    resources.set(ProcessId(1), ServiceInstance::new("shop"));
    let mut pipeline =
        Pipeline::start(Config::default(), outputs(spans), resources, runtime.handle()).expect("a pipeline");
    let mut telemetry = pipeline.worker();
    let connection: ConnectionInfo = connection(Some(1));
    let begin = Instant::now();
    let mut n: u64 = 0;
    let mut flushed = begin;
    while begin.elapsed() < time {
        for path in paths.iter().cycle().take(1000) {
            let mut transaction = transaction(record(path));
            transaction.start += n * 1000;
            transaction.end += n * 1013;
            black_box(telemetry.transaction(&connection, side, black_box(&transaction)));
            n += 1;
        }
        if flushed.elapsed() > Duration::from_secs(1) {
            flushed = Instant::now();
            telemetry.flush(BEGIN + n * 1013);
        }
    }
    let elapsed = begin.elapsed();
    println!(
        "{name:<40} {:>10.0} transactions/s {:>7.0} ns each",
        n as f64 / elapsed.as_secs_f64(),
        elapsed.as_nanos() as f64 / n as f64
    );
    telemetry.finish(BEGIN + n * 1013);
    runtime.block_on(pipeline.shutdown(Duration::ZERO));
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick" || argument == "--test");
    let time = Duration::from_millis(if quick { 50 } else { 3000 });
    let one = vec!["/users/42".to_owned()];
    let many: Vec<String> = (0..1000)
        .map(|n| format!("/section{}/items/{n}/parts/{}", n % 90, n * 7))
        .collect();
    run("server, metrics, one route", time, false, Side::Server, &one);
    run(
        "server, metrics and spans, one route",
        time,
        true,
        Side::Server,
        &one,
    );
    run(
        "server, metrics and spans, 90 routes",
        time,
        true,
        Side::Server,
        &many,
    );
    run(
        "client, metrics and spans, 90 routes",
        time,
        true,
        Side::Client,
        &many,
    );
}

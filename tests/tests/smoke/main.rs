//! The agent with one backend (`REDWIRE_HOOKS`) on one kernel, in a few minutes even under emulation: what it must
//! see, and what it leaves behind. `cargo xtask vm` runs these on other kernels.

mod lifetime;
mod peer;
mod report;
mod stage;
mod traffic;

use libtest_mimic::{Arguments, Failed, Trial};
use redwire_tests::tools;
use report::{Outcome, Report};
use stage::Stage;
use std::fs::File;
use std::sync::Mutex;

/// The stage: not there yet, there, or the reason why it never will be.
static STAGE: Mutex<Option<Result<Stage, String>>> = Mutex::new(None);

/// Tests of [`traffic`].
type Traffic = fn(&mut Stage, &str) -> anyhow::Result<Vec<Report>>;

const TRAFFIC: &[(&str, Traffic)] = &[
    ("attach", traffic::attach),
    ("http_keep_alive", traffic::http_keep_alive),
    ("http_pipelined", traffic::http_pipelined),
    ("redis_pipeline", traffic::redis_pipeline),
    ("postgres_extended", traffic::postgres_extended),
    ("unix_socket", traffic::unix_socket),
    ("calls", traffic::calls),
    ("io_uring", traffic::io_uring),
];

/// Tests of [`lifetime`].
type Lifetime = fn(&str) -> anyhow::Result<Vec<Report>>;

const LIFETIME: &[(&str, Lifetime)] = &[("killed", lifetime::killed), ("churn", lifetime::churn)];

fn on_stage(test: &str, run: Traffic) -> anyhow::Result<Vec<Report>> {
    let mut stage = STAGE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let stage = stage.get_or_insert_with(|| Stage::start().map_err(|error| format!("{error:#}")));
    match stage {
        Ok(stage) => run(stage, test),
        Err(error) => anyhow::bail!("the agent does not run: {error}"),
    }
}

/// Stops the agent: all is as expected, and nothing was told later.
fn nothing_else(test: &str) -> anyhow::Result<Vec<Report>> {
    let stage = STAGE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .take();
    match stage {
        Some(Ok(stage)) => {
            println!("\n    {}", stage.finish()?);
            Ok(vec![Report::plain(test, Outcome::Passed)])
        }
        Some(Err(error)) => anyhow::bail!("the agent does not run: {error}"),
        None => Ok(vec![Report::plain(
            test,
            Outcome::Skipped("no test ran".to_owned()),
        )]),
    }
}

/// A test whose reports are written. It fails where one of them does.
fn trial(
    name: &'static str,
    run: impl FnOnce(&str) -> anyhow::Result<Vec<Report>> + Send + 'static,
) -> Trial {
    Trial::test(name, move || {
        let reports = run(name)
            .unwrap_or_else(|error| vec![Report::plain(name, Outcome::Failed(format!("{error:#}")))]);
        let mut failures = Vec::new();
        for report in &reports {
            report
                .write()
                .map_err(|error| Failed::from(format!("{error:#}")))?;
            if let Outcome::Failed(reason) = &report.outcome {
                failures.push(format!("{}: {reason}", report.test));
            }
        }
        if failures.is_empty() {
            Ok(())
        } else {
            Err(failures.join("\n").into())
        }
    })
}

fn main() -> std::process::ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("peer", arguments)) = given.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        if let Err(error) = peer::run(arguments) {
            eprintln!("{error:#}");
            return std::process::ExitCode::FAILURE;
        }
        return std::process::ExitCode::SUCCESS;
    }
    let arguments = Arguments {
        test_threads: Some(1),
        ..Arguments::from_args()
    };
    let mut tests: Vec<Trial> = TRAFFIC
        .iter()
        .map(|&(name, run)| trial(name, move |test| on_stage(test, run)))
        .collect();
    tests.push(trial("nothing_else", nothing_else));
    tests.extend(LIFETIME.iter().map(|&(name, run)| trial(name, run)));
    if !arguments.list && !tools::agent().is_file() {
        eprintln!(
            "there is no {}: use `cargo xtask test`, or build the agent for release",
            tools::agent().display()
        );
        return std::process::ExitCode::FAILURE;
    }
    // An agent of another test, of any clone on this host, must not see these services.
    let lock = std::env::temp_dir().join("redwire-e2e.lock");
    let held = File::create(&lock).and_then(|file| file.lock().map(|()| file));
    let _held = match held {
        Ok(file) => file,
        Err(error) => {
            eprintln!("{}: {error}", lock.display());
            return std::process::ExitCode::FAILURE;
        }
    };
    let conclusion = libtest_mimic::run(&arguments, tests);
    // Where a filter left out the test that does so.
    drop(
        STAGE
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .take(),
    );
    conclusion.exit_code()
}

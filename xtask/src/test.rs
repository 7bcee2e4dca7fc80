//! `cargo xtask test`

use crate::build::{self, cargo};
use crate::totals::Totals;
use crate::vm::Series;
use crate::vm::matrix::{self, Matrix};
use crate::{fuzz, setup};
use anyhow::{Context as _, Result};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

/// Machines that are run without `full`: each backend once, on kernels that cannot preempt a kernel program, so that a
/// count is exact however slow the emulation is.
const MACHINES: &[(Series, &str)] = &[
    (Series::Of(5, 10), "fentry"),
    (Series::Of(6, 1), "kprobe"),
    (Series::Of(6, 12), "tracepoint"),
];

/// Runs all tests whose name contains `filter`, each fuzz target for `fuzz_seconds`, and the smoke tests in machines,
/// in all of them where this is `full`. Whether none failed.
///
/// # Errors
/// Where tests cannot be run at all.
pub(crate) fn run(filter: Option<&str>, fuzz_seconds: u64, full: bool) -> Result<bool> {
    setup::run(setup::Scope::All)?;
    let mut totals = Totals::default();
    let members = ["--workspace", "--exclude", "redwire-ebpf"];
    let units = ["--lib", "--bins", "--examples"];
    let unit = run_tests(
        &mut totals,
        cargo(&["test", "--no-fail-fast"])
            .args(members)
            .args(units)
            .arg("--")
            .args(filter),
    )?;
    let documented = run_tests(
        &mut totals,
        cargo(&["test", "--doc"]).args(members).arg("--").args(filter),
    )?;
    build::agent()?;
    let integration = ["test", "--no-fail-fast", "--test", "*"];
    let end_to_end = run_tests(
        &mut totals,
        cargo(&integration).args(members).arg("--").args(filter),
    )?;
    if filter.is_none() {
        fuzz::run(&mut totals, fuzz_seconds)?;
        machines(&mut totals, full)?;
    }
    println!(
        "{} passed, {} failed, {} skipped",
        totals.passed, totals.failed, totals.skipped
    );
    Ok(unit && documented && end_to_end && totals.failed == 0)
}

/// Runs the smoke tests on other kernels; each machine counts as one test.
fn machines(totals: &mut Totals, full: bool) -> Result<()> {
    let mut count = |passed: bool| {
        if passed {
            totals.passed += 1;
        } else {
            totals.failed += 1;
        }
    };
    if full {
        count(matrix::run(&Matrix {
            full,
            ..Matrix::default()
        })?);
        return Ok(());
    }
    for &(series, hooks) in MACHINES {
        count(matrix::run(&Matrix {
            kernels: vec![series],
            hooks: Some(hooks.to_owned()),
            ..Matrix::default()
        })?);
    }
    Ok(())
}

/// Runs `command`, shows what it prints, and adds its totals. Whether it succeeded.
fn run_tests(totals: &mut Totals, command: &mut Command) -> Result<bool> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("starting cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let before = totals.failed;
    for line in BufReader::new(output).lines() {
        let line = line?;
        totals.add(&line);
        println!("{line}");
    }
    let success = child.wait()?.success();
    if !success && totals.failed == before {
        // Nothing but the build, or a test binary that did not come to its end.
        totals.failed += 1;
    }
    Ok(success)
}

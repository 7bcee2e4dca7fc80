//! `cargo xtask test`

use crate::build::{self, cargo};
use crate::{fuzz, setup};
use anyhow::{Context as _, Result};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

/// Numbers of tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Totals {
    /// Adds what a line like `test result: ok. 3 passed; 0 failed; 1 ignored; …` tells.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result:") else {
            return;
        };
        let words: Vec<&str> = result.split([' ', ';']).filter(|word| !word.is_empty()).collect();
        for pair in words.windows(2) {
            let Ok(number) = pair[0].parse::<u64>() else {
                continue;
            };
            match pair[1] {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

/// Runs all tests whose name contains `filter`, each fuzz target for `fuzz_seconds`. Whether none failed.
///
/// # Errors
/// Where tests cannot be run at all.
pub(crate) fn run(filter: Option<&str>, fuzz_seconds: u64) -> Result<bool> {
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
    }
    println!(
        "{} passed, {} failed, {} skipped",
        totals.passed, totals.failed, totals.skipped
    );
    Ok(unit && documented && end_to_end && totals.failed == 0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_those_of_all_binaries() {
        let mut totals = Totals::default();
        totals.add("running 4 tests");
        totals.add(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.01s",
        );
        totals.add("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!(
            totals,
            Totals {
                passed: 6,
                failed: 2,
                skipped: 1
            }
        );
    }
}

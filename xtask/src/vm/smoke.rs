//! The smoke tests in a machine.

use super::architecture::Architecture;
use super::kernel::Kernel;
use super::machine::{self, Ended, Job};
use crate::build::{self, cargo};
use anyhow::{Context as _, Result, bail};
use redwire_tests::{postgres, tools};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// When a machine is stopped by force: the tests take a minute or two, 200 starts of the agent half an hour.
const PATIENCE: Duration = Duration::from_secs(900);
const PATIENCE_FULL: Duration = Duration::from_secs(3600);

/// Starts and stops of the agent with `--full`.
const CHURN_FULL: &str = "200";

/// How a test went: as the smoke tests write it, one JSON object a line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Report {
    pub(crate) test: String,
    pub(crate) outcome: Outcome,
    pub(crate) agent: u64,
    pub(crate) client: u64,
}

/// See `tests/tests/smoke/report.rs`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Passed,
    NotSeen,
    Skipped(String),
    Failed(String),
}

/// What a machine told.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) reports: Vec<Report>,
    pub(crate) ended: Ended,
}

impl Run {
    /// Whether all tests ran, and none failed.
    pub(crate) fn success(&self) -> bool {
        self.ended.status == Some(0)
    }
}

/// The agent and the tests, built.
pub(crate) struct Suite {
    test: PathBuf,
    agent: PathBuf,
}

impl Suite {
    /// Builds both; `REDWIRE_BINARY` is taken as it is.
    ///
    /// # Errors
    /// Where one does not build.
    pub(crate) fn build() -> Result<Suite> {
        if std::env::var_os("REDWIRE_BINARY").is_none() {
            build::agent()?;
        }
        let mut build = cargo(&[
            "test",
            "--package",
            "redwire-tests",
            "--test",
            "smoke",
            "--no-run",
        ]);
        build.arg("--message-format=json-render-diagnostics");
        let output = build.stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            bail!("the smoke tests do not build");
        }
        Ok(Suite {
            test: executable(&String::from_utf8_lossy(&output.stdout))
                .context("cargo names no test binary")?,
            agent: std::path::absolute(tools::agent())?,
        })
    }

    /// Runs the tests on `kernel` with the backend `hooks`; what they print is shown.
    ///
    /// # Errors
    /// Where the machine cannot be made, or is stopped by force.
    pub(crate) fn run(
        &self,
        kernel: &Kernel,
        hooks: Option<&str>,
        full: bool,
        arguments: &[OsString],
        patience: Option<Duration>,
    ) -> Result<Run> {
        let backend = hooks.unwrap_or("auto");
        eprintln!("smoke tests on {}, hooks {backend}", kernel.release);
        let folder = tools::target().join(format!("vm/{}/{backend}", kernel.release));
        let mut job = self.job()?;
        job.command.extend(arguments.iter().cloned());
        job.patience = patience.unwrap_or(if full { PATIENCE_FULL } else { PATIENCE });
        if let Some(hooks) = hooks {
            job.environment.insert("REDWIRE_HOOKS".to_owned(), hooks.into());
        }
        if full {
            job.environment
                .insert("REDWIRE_CHURN".to_owned(), CHURN_FULL.into());
        }
        let ended = machine::run(kernel, Architecture::host(), &job, &folder, |line| {
            println!("{line}")
        })?;
        eprintln!(
            "{}, hooks {backend}: {:.0} s",
            kernel.release,
            ended.time.as_secs_f64()
        );
        let results = std::fs::read_to_string(folder.join("results.jsonl"))?;
        let (_, reports) = read(&results)?;
        if ended.status.is_none() {
            eprintln!(
                "the machine ended before the tests did: {}",
                folder.join("console.log").display()
            );
        }
        Ok(Run { reports, ended })
    }

    fn job(&self) -> Result<Job> {
        let workspace = tools::workspace();
        let postgres = postgres::template()?;
        let mut files = vec![
            self.test.clone(),
            self.agent.clone(),
            tools::collector(),
            tools::go_programs(),
            postgres,
        ];
        files.extend(["nginx", "postgres", "wrk"].map(|folder| tools::programs().join(folder)));
        files.extend(
            ["service.py", "stdlib_server.py"].map(|file| tools::programs().join("python").join(file)),
        );
        let environment = [
            ("CARGO_TARGET_DIR", tools::target().into_os_string()),
            ("REDWIRE_CACHE", tools::cache().into_os_string()),
            ("REDWIRE_BINARY", self.agent.clone().into_os_string()),
            ("REDWIRE_PYTHON", "/usr/bin/python3".into()),
            ("REDWIRE_RESULTS", machine::RESULTS.into()),
            ("REDWIRE_ALONE", "1".into()),
            // Loading the kernel programs is what takes longest.
            ("REDWIRE_PATIENCE", "240".into()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value));
        Ok(Job {
            command: vec![self.test.clone().into(), "--color".into(), "never".into()],
            environment: BTreeMap::from(environment),
            folder: workspace.join("tests"),
            files,
            handed_back: vec![tools::target().join("smoke")],
            patience: PATIENCE,
        })
    }
}

/// The path of the test binary in cargo's messages.
fn executable(messages: &str) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
    }
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok());
    messages
        .filter_map(|message| message.executable)
        .find(|path| is_smoke(path))
}

fn is_smoke(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("smoke-"))
}

/// What a machine's line of results says: its kernel (`uname -r` and `uname -v`), the reports of tests, and in the end its status.
pub(crate) fn read(results: &str) -> Result<(String, Vec<Report>)> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Line {
        Kernel {
            kernel: String,
        },
        Report(Report),
        Status {
            #[serde(rename = "status")]
            _status: i32,
        },
    }
    let (mut name, mut reports) = (String::new(), Vec::new());
    for line in results.lines() {
        match serde_json::from_str(line).with_context(|| line.to_owned())? {
            Line::Kernel { kernel } => name = kernel,
            Line::Report(report) => reports.push(report),
            Line::Status { .. } => {}
        }
    }
    Ok((name, reports))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_binary_is_the_one_that_cargo_names() {
        let messages = concat!(
            "{\"reason\":\"compiler-artifact\",\"executable\":null}\n",
            "{\"reason\":\"compiler-artifact\",\"executable\":\"/t/debug/deps/smoke-00ff\"}\n",
            "{\"reason\":\"build-finished\",\"success\":true}\n",
        );
        assert_eq!(
            executable(messages),
            Some(PathBuf::from("/t/debug/deps/smoke-00ff"))
        );
        assert_eq!(executable(""), None);
    }

    #[test]
    fn results_are_lines_of_json() {
        let results = concat!(
            "{\"kernel\":\"6.1.0 #1 SMP\"}\n",
            "{\"test\":\"attach\",\"outcome\":\"passed\",\"agent\":100,\"client\":100}\n",
            "{\"test\":\"io_uring::sqpoll\",\"outcome\":{\"skipped\":\"no\"},\"agent\":0,\"client\":0}\n",
            "{\"status\":0}\n",
        );
        let (kernel, reports) = read(results).expect("results");
        assert_eq!(kernel, "6.1.0 #1 SMP");
        assert_eq!(reports.len(), 2);
        assert_eq!((reports[0].agent, &reports[0].outcome), (100, &Outcome::Passed));
        assert_eq!(reports[1].outcome, Outcome::Skipped("no".to_owned()));
    }
}

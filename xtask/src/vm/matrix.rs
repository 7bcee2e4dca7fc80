//! The smoke tests on every kernel with every backend, and `docs/kernels.md`, which tells how they went.

use super::architecture::Architecture;
use super::kernel::{self, SERIES, Series};
use super::smoke::{self, Outcome, Report, Suite};
use anyhow::Result;
use redwire_tests::tools;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

/// Backends, in the order in which the agent tries them.
const BACKENDS: &[&str] = &["fentry", "kprobe", "tracepoint"];

/// What is run.
#[derive(Debug, Default)]
pub(crate) struct Matrix {
    /// Kernels; all where there is none.
    pub(crate) kernels: Vec<Series>,
    /// The only backend.
    pub(crate) hooks: Option<String>,
    /// Whether the agent is started and stopped 200 times.
    pub(crate) full: bool,
    /// Whether newer kernels are looked for.
    pub(crate) update: bool,
}

/// A kernel with one backend, as its tests went; none where they never ran to their end.
type Cell = Option<Vec<Report>>;

/// Runs it, one machine after another, and writes `docs/kernels.md`; what is not run this time is told as it went
/// last. Whether all went well.
///
/// # Errors
/// Where the agent or the tests do not build.
pub(crate) fn run(matrix: &Matrix) -> Result<bool> {
    let suite = Suite::build()?;
    let kernels = if matrix.kernels.is_empty() {
        SERIES
    } else {
        &matrix.kernels
    };
    let backends: Vec<&str> = match &matrix.hooks {
        Some(hooks) => vec![hooks],
        None => BACKENDS.to_vec(),
    };
    let begin = Instant::now();
    let (mut well, mut lines) = (true, Vec::new());
    for &series in kernels {
        let kernel = kernel::fetch(series, Architecture::host(), matrix.update)?;
        for backend in &backends {
            let (passed, said) = match suite.run(&kernel, Some(backend), matrix.full, &[], None) {
                Ok(run) => (run.success(), summary(&run.reports, run.success())),
                Err(error) => (false, format!("{error:#}")),
            };
            well &= passed;
            lines.push(format!("{:32} {backend:12} {said}", kernel.release));
        }
    }
    std::fs::write(tools::workspace().join("docs/kernels.md"), document()?)?;
    for line in lines {
        println!("{line}");
    }
    println!(
        "{} machines in {} s",
        kernels.len() * backends.len(),
        begin.elapsed().as_secs()
    );
    Ok(well)
}

/// How many tests went how.
fn summary(reports: &[Report], success: bool) -> String {
    let count = |is: fn(&Outcome) -> bool| reports.iter().filter(|report| is(&report.outcome)).count();
    let failed: Vec<&str> = reports
        .iter()
        .filter(|report| matches!(report.outcome, Outcome::Failed(_)))
        .map(|report| report.test.as_str())
        .collect();
    format!(
        "{}: {} passed, {} not seen, {} skipped, {} failed {}",
        if success { "ok" } else { "FAILED" },
        count(|outcome| *outcome == Outcome::Passed),
        count(|outcome| *outcome == Outcome::NotSeen),
        count(|outcome| matches!(outcome, Outcome::Skipped(_))),
        failed.len(),
        failed.join(" "),
    )
}

/// Name and outcome of the last run on each kernel with each backend.
fn document() -> Result<String> {
    let mut text = HEAD.to_owned();
    for &series in SERIES {
        let Ok(kernel) = kernel::cached(series, Architecture::host()) else {
            continue;
        };
        let mut name = kernel.release.clone();
        let mut cells: Vec<Cell> = Vec::new();
        for backend in BACKENDS {
            let results = results(&kernel.release, backend);
            let read = std::fs::read_to_string(results).map(|text| smoke::read(&text));
            cells.push(match read {
                Ok(read) => {
                    let (kernel, reports) = read?;
                    name = kernel;
                    Some(reports)
                }
                Err(_) => None,
            });
        }
        section(&mut text, series, &name, &cells)?;
    }
    Ok(text)
}

const HEAD: &str = "# Kernels

Written by `cargo xtask vm --matrix`, which runs the smoke tests (`tests/tests/smoke/`) in emulated machines with
Debian's cloud kernels, once with each backend. A number is that of the transactions that the agent told, at both ends
of the connections: it is equal to what the clients counted, by status or by operation. *Not seen*: hooks on system
calls do not see this, and the agent told nothing of it. *Lacking*: the kernel has not what is tested.
";

/// Where a machine's line of results is.
fn results(release: &str, backend: &str) -> PathBuf {
    tools::target().join(format!("vm/{release}/{backend}/results.jsonl"))
}

/// One kernel: a line per test.
fn section(text: &mut String, series: Series, name: &str, cells: &[Cell]) -> Result<()> {
    write!(text, "\n## {series}\n\n{name}\n\n")?;
    if cells.iter().all(Option::is_none) {
        text.push_str("Not run yet.\n");
        return Ok(());
    }
    write!(text, "| test |")?;
    for backend in BACKENDS {
        write!(text, " {backend} |")?;
    }
    writeln!(text, "\n|---|{}", "---|".repeat(BACKENDS.len()))?;
    // In the order in which they ran.
    let mut tests: Vec<&str> = Vec::new();
    let mut notes = BTreeSet::new();
    for report in cells.iter().flatten().flatten() {
        if !tests.contains(&report.test.as_str()) {
            tests.push(&report.test);
        }
    }
    for test in tests {
        write!(text, "| {test} |")?;
        for (cell, backend) in cells.iter().zip(BACKENDS) {
            let report = cell.iter().flatten().find(|report| report.test == test);
            let told = match report.map(|report| (&report.outcome, report)) {
                None => "did not run".to_owned(),
                Some((Outcome::Passed, report)) if report.client == 0 => "passed".to_owned(),
                Some((Outcome::Passed, report)) => report.agent.to_string(),
                Some((Outcome::NotSeen, _)) => "not seen".to_owned(),
                Some((Outcome::Skipped(reason), _)) => {
                    notes.insert(format!("{test}: {reason}."));
                    "lacking".to_owned()
                }
                Some((Outcome::Failed(reason), report)) => {
                    // Losses are those of all tests so far.
                    let first = reason.lines().next().unwrap_or_default();
                    let first = first.split("; losses").next().unwrap_or_default();
                    notes.insert(format!("{test}, {backend}: {first}"));
                    match report.client {
                        0 => "**failed**".to_owned(),
                        client => format!("**failed**: {} of {client}", report.agent),
                    }
                }
            };
            write!(text, " {told} |")?;
        }
        text.push('\n');
    }
    if !notes.is_empty() {
        text.push('\n');
    }
    for note in notes {
        writeln!(text, "- {note}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(test: &str, outcome: Outcome, agent: u64, client: u64) -> Report {
        Report {
            test: test.to_owned(),
            outcome,
            agent,
            client,
        }
    }

    #[test]
    fn every_test_has_a_line_and_every_backend_a_column() {
        let cells = [
            Some(vec![
                report("attach", Outcome::Passed, 100, 100),
                report(
                    "io_uring::send_zc",
                    Outcome::Skipped("the kernel has no X".to_owned()),
                    0,
                    0,
                ),
                report("killed", Outcome::Passed, 0, 0),
            ]),
            Some(vec![report(
                "attach",
                Outcome::Failed("lost\nmore".to_owned()),
                98,
                100,
            )]),
            None,
        ];
        let mut text = String::new();
        section(&mut text, Series::Of(6, 1), "6.1.0 #1", &cells).expect("text");
        assert_eq!(
            text,
            "\n## 6.1\n\n6.1.0 #1\n\n| test | fentry | kprobe | tracepoint |\n|---|---|---|---|\n\
             | attach | 100 | **failed**: 98 of 100 | did not run |\n\
             | io_uring::send_zc | lacking | did not run | did not run |\n\
             | killed | passed | did not run | did not run |\n\n\
             - attach, kprobe: lost\n- io_uring::send_zc: the kernel has no X.\n"
        );
    }
}

//! Long-running commands with progress, their output kept for when they fail.

use anyhow::{Context as _, Result, bail};
use redwire_tests::tools;
use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often progress is told where standard error is no terminal.
const REPORT_EVERY: Duration = Duration::from_secs(30);

/// Runs `command`, telling `what` it does and for how long. Its output goes to a log, whose end is in the error.
///
/// # Errors
/// Where the command cannot be started or fails.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<()> {
    let folder = tools::target().join("setup");
    std::fs::create_dir_all(&folder)?;
    let name: String = what
        .chars()
        .map(|c| if c.is_alphanumeric() { c } else { '-' })
        .collect();
    let log = folder.join(format!("{name}.log"));
    let file = File::create(&log)?;
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    let begin = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("{what}: starting {:?}", command.get_program()))?;
    let terminal = std::io::stderr().is_terminal();
    let mut reported = begin;
    if !terminal {
        eprintln!("  {what} …");
    }
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if terminal {
            eprint!("\r  {what} … {} s ", begin.elapsed().as_secs());
            std::io::stderr().flush()?;
        } else if reported.elapsed() > REPORT_EVERY {
            reported = Instant::now();
            eprintln!("  {what} … {} s", begin.elapsed().as_secs());
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    if !status.success() {
        const LINES: usize = 20;
        let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
        bail!("{what}: {status}; the end of {}:\n{end}", log.display());
    }
    let start = if terminal { "\r" } else { "" };
    eprintln!("{start}  {what}: done in {} s", begin.elapsed().as_secs());
    Ok(())
}

/// Runs `command` with its output on the terminal. Whether it succeeded.
///
/// # Errors
/// Where it cannot be started.
pub(crate) fn show(command: &mut Command) -> Result<bool> {
    Ok(command
        .status()
        .with_context(|| format!("starting {:?}", command.get_program()))?
        .success())
}

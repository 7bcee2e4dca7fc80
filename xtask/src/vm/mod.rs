//! `cargo xtask vm`: the tests on other kernels than this machine's, under emulation.

mod architecture;
mod initramfs;
mod kernel;
mod machine;
mod rootfs;

use crate::setup;
use anyhow::{Context as _, Result, bail};
use architecture::Architecture;
use clap::Args;
use kernel::Series;
use machine::Job;
use redwire_tests::tools;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is run, and where.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Series of the kernel, or newest
    #[arg(long, value_name = "SERIES")]
    kernel: Series,
    /// Hooks that the agent is to use (REDWIRE_HOOKS)
    #[arg(long, value_name = "BACKEND")]
    hooks: Option<String>,
    /// Run this program of the host instead of the tests
    #[arg(long, value_name = "PROGRAM")]
    exec: Option<PathBuf>,
    /// Have this file or folder of the host there under the same path (repeatable)
    #[arg(long = "with", value_name = "PATH")]
    files: Vec<PathBuf>,
    /// Look for newer kernels than those in the cache
    #[arg(long)]
    update: bool,
    /// Stop the machine by force after this many seconds
    #[arg(long, value_name = "SECONDS", default_value = "900")]
    patience: u64,
    /// Part of a test's name; with --exec the program's arguments
    #[arg(last = true, value_name = "FILTER")]
    arguments: Vec<OsString>,
}

/// Runs a machine. Whether what it ran succeeded.
///
/// # Errors
/// Where the machine cannot be made or does not come to its end.
pub(crate) fn run(options: &Options) -> Result<bool> {
    setup::machines()?;
    let architecture = Architecture::host();
    let kernel = kernel::fetch(options.kernel, architecture, options.update)?;
    eprintln!("kernel {}", kernel.release);
    let absolute = |path: &PathBuf| std::path::absolute(path).with_context(|| path.display().to_string());
    let mut job = Job {
        patience: Duration::from_secs(options.patience),
        folder: "/root".into(),
        files: options.files.iter().map(absolute).collect::<Result<_>>()?,
        ..Job::default()
    };
    if let Some(hooks) = &options.hooks {
        job.environment.insert("REDWIRE_HOOKS".to_owned(), hooks.into());
    }
    match &options.exec {
        Some(program) => {
            let program = absolute(&find(program)?)?;
            job.files.push(program.clone());
            job.command = vec![program.into()];
        }
        None => bail!("there are no tests yet"),
    }
    job.command.extend(options.arguments.iter().cloned());
    let folder = tools::target().join(format!("vm/{}", kernel.release));
    let ended = machine::run(&kernel, architecture, &job, &folder, |line| println!("{line}"))?;
    eprintln!("{}: {:.1} s", kernel.release, ended.time.as_secs_f64());
    let status = ended.status.with_context(|| {
        format!(
            "the machine ended before its job did: {}",
            folder.join("console.log").display()
        )
    })?;
    Ok(status == 0)
}

/// A program by its path, or by its name on the search path.
fn find(program: &Path) -> Result<PathBuf> {
    if program.exists() {
        return Ok(program.to_owned());
    }
    tools::find(&program.to_string_lossy()).with_context(|| format!("there is no {}", program.display()))
}

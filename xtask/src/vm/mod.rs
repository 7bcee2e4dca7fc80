//! `cargo xtask vm`: the tests on other kernels than this machine's, under emulation.

mod architecture;
mod initramfs;
mod kernel;
mod machine;
pub(crate) mod matrix;
mod rootfs;
mod smoke;

use crate::setup;
use anyhow::{Context as _, Result, bail};
use architecture::Architecture;
use clap::Args;
pub(crate) use kernel::Series;
use machine::Job;
use redwire_tests::tools;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// When a machine is stopped by force, unless it is said otherwise.
const PATIENCE: Duration = Duration::from_secs(600);

/// What is run, and where.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Series of the kernel, or newest (repeatable with --matrix, whose default is all)
    #[arg(long = "kernel", value_name = "SERIES")]
    kernels: Vec<Series>,
    /// Run the smoke tests on each kernel with each backend that it has, and write docs/kernels.md
    #[arg(long, conflicts_with_all = ["exec", "arguments"])]
    matrix: bool,
    /// Start and stop the agent 200 times instead of 5
    #[arg(long)]
    full: bool,
    /// Hooks that the agent is to use (REDWIRE_HOOKS)
    #[arg(long, value_name = "BACKEND")]
    hooks: Option<String>,
    /// Run this program of the host instead of the tests
    #[arg(long, value_name = "PROGRAM")]
    exec: Option<PathBuf>,
    /// Architecture of the machine that runs PROGRAM [default: this host's]
    #[arg(long, value_enum, requires = "exec")]
    architecture: Option<Architecture>,
    /// Have this file or folder of the host there under the same path (repeatable)
    #[arg(long = "with", value_name = "PATH")]
    files: Vec<PathBuf>,
    /// Look for newer kernels than those in the cache
    #[arg(long)]
    update: bool,
    /// Stop the machine by force after this many seconds
    #[arg(long, value_name = "SECONDS")]
    patience: Option<u64>,
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
    let hooks = options.hooks.as_deref();
    let patience = options.patience.map(Duration::from_secs);
    if options.matrix {
        return matrix::run(&matrix::Matrix {
            kernels: options.kernels.clone(),
            hooks: options.hooks.clone(),
            full: options.full,
            update: options.update,
        });
    }
    let [series] = options.kernels[..] else {
        bail!("one --kernel, or --matrix, is needed");
    };
    let architecture = options.architecture.unwrap_or_else(Architecture::host);
    let kernel = kernel::fetch(series, architecture, options.update)?;
    let Some(program) = &options.exec else {
        let suite = smoke::Suite::build()?;
        let arguments = &options.arguments;
        let run = suite.run(&kernel, hooks, options.full, arguments, patience)?;
        return Ok(run.success());
    };
    let program = absolute(&find(program)?)?;
    let mut files = vec![program.clone()];
    for path in &options.files {
        files.push(absolute(path)?);
    }
    let mut environment = BTreeMap::new();
    if let Some(hooks) = hooks {
        environment.insert("REDWIRE_HOOKS".to_owned(), hooks.into());
    }
    let mut command = vec![program.into()];
    command.extend(options.arguments.iter().cloned());
    let job = Job {
        command,
        environment,
        folder: "/root".into(),
        files,
        handed_back: Vec::new(),
        patience: patience.unwrap_or(PATIENCE),
    };
    let folder = tools::target().join(format!("vm/{}/exec", kernel.release));
    let ended = machine::run(&kernel, architecture, &job, &folder, |line| println!("{line}"))?;
    eprintln!("{}: {:.1} s", kernel.release, ended.time.as_secs_f64());
    Ok(ended.status == Some(0))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}

/// A program by its path, or by its name on the search path.
fn find(program: &Path) -> Result<PathBuf> {
    if program.exists() {
        return Ok(program.to_owned());
    }
    tools::find(&program.to_string_lossy()).with_context(|| format!("there is no {}", program.display()))
}

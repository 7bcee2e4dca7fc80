//! The agent.

use crate::step;
use anyhow::{Result, bail};
use redwire_tests::tools;
use std::process::Command;

/// A cargo for the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(tools::workspace());
    command
}

/// Builds the agent for release.
///
/// # Errors
/// Where it does not build.
pub(crate) fn agent() -> Result<()> {
    eprintln!("building the agent");
    if !step::show(&mut cargo(&["build", "--release", "--package", "redwire"]))? {
        bail!("the agent does not build");
    }
    Ok(())
}

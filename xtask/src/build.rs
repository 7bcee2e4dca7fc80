//! The agent.

use crate::step;
use anyhow::{Result, bail};
use redwire_tests::tools;
use std::ffi::OsStr;
use std::process::Command;

/// A cargo for the workspace, as a user's own: what it and that one build is the same.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(tools::workspace());
    // `cargo run` tells a program of its package. A build script that looks there (ring's does) would run again, and
    // all that depends on it be built again, each time that the other cargo is used.
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_a_package(name)) {
        command.env_remove(name);
    }
    command
}

/// Whether cargo sets this variable for the package of what it runs ("Environment variables Cargo sets for crates").
fn is_of_a_package(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let is = [
        "OUT_DIR",
        "CARGO_BIN_NAME",
        "CARGO_CRATE_NAME",
        "CARGO_PRIMARY_PACKAGE",
    ]
    .contains(&name.as_ref());
    is || name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

/// Builds the agent for release.
///
/// # Errors
/// Where it does not build.
pub(crate) fn agent() -> Result<()> {
    eprintln!(
        "building the agent: 5 to 10 minutes on two cores the first time, seconds when it was built before"
    );
    if !step::show(&mut cargo(&["build", "--release", "--package", "redwire"]))? {
        bail!("the agent does not build");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cargo has told this test of its package, too.
    #[test]
    fn a_cargo_is_told_of_no_package() {
        let command = cargo(&["build"]);
        let removed: Vec<&OsStr> = command
            .get_envs()
            .filter(|(_, value)| value.is_none())
            .map(|(name, _)| name)
            .collect();
        for name in ["CARGO_MANIFEST_DIR", "CARGO_PKG_NAME", "CARGO_PKG_VERSION_MAJOR"] {
            assert!(std::env::var_os(name).is_some(), "{name}");
            assert!(removed.contains(&OsStr::new(name)), "{name}: {removed:?}");
        }
        assert!(
            !removed
                .iter()
                .any(|name| *name == "CARGO_HOME" || *name == "CARGO_TARGET_DIR")
        );
    }
}

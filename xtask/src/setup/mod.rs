//! `cargo xtask setup`: from a bare Debian or Ubuntu with rustup to where everything builds and tests.
//!
//! Each step looks whether its result is there, and does nothing then. What is built goes to a cache that all
//! clones share, under a name made of its version and recipe.

mod go;
mod languages;
mod packages;
mod rust;

use anyhow::Result;

/// What is to be possible after the set-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// To build, and to show the agent at work.
    Demo,
    /// To test and to measure, too.
    All,
}

/// Brings the machine to where everything of `scope` is possible.
///
/// # Errors
/// Names what is missing, where it cannot be installed.
pub(crate) fn run(scope: Scope) -> Result<()> {
    packages::install(scope)?;
    rust::source()?;
    rust::bpf_linker()?;
    languages::python()?;
    languages::node()?;
    let go = go::toolchain()?;
    if scope == Scope::All {
        go::collector(&go)?;
    }
    go::programs(&go)?;
    eprintln!("set-up: complete");
    Ok(())
}

/// What emulated machines need of the system.
///
/// # Errors
/// Names what is missing, where it cannot be installed.
pub(crate) fn machines() -> Result<()> {
    packages::install(Scope::All)
}

pub(crate) use rust::cargo_fuzz;

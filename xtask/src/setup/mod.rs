//! `cargo xtask setup`: from a bare Debian or Ubuntu with rustup to where everything builds and tests.
//!
//! Each step looks whether its result is there, and does nothing then. What is built goes to a cache that all
//! clones share, under a name made of its version and recipe.

mod go;
mod languages;
mod packages;
mod rust;

use anyhow::Result;

/// Brings the machine to where everything builds and tests.
///
/// # Errors
/// Names what is missing, where it cannot be installed.
pub(crate) fn run() -> Result<()> {
    packages::install()?;
    rust::source()?;
    rust::bpf_linker()?;
    languages::python()?;
    languages::node()?;
    let go = go::toolchain()?;
    go::collector(&go)?;
    go::programs(&go)?;
    eprintln!("set-up: complete");
    Ok(())
}

pub(crate) use rust::cargo_fuzz;

//! `cargo xtask bench`

use crate::build::cargo;
use crate::{setup, step};
use anyhow::Result;

/// Runs the benchmarks whose name contains `filter`. Whether they ran.
///
/// # Errors
/// Where they cannot be started.
pub(crate) fn run(filter: Option<&str>) -> Result<bool> {
    setup::run(setup::Scope::All)?;
    let mut bench = cargo(&[
        "bench",
        "--workspace",
        "--exclude",
        "redwire-ebpf",
        "--benches",
        "--",
    ]);
    step::show(bench.args(filter))
}

//! Packages of the Python and Node test programs.

use crate::step;
use anyhow::Result;
use redwire_tests::tools;
use std::path::Path;
use std::process::Command;

/// A file that says that a folder is complete, and from what it was made.
fn is_complete(folder: &Path, recipe: &str) -> bool {
    std::fs::read_to_string(folder.join(".complete")).is_ok_and(|text| text == recipe)
}

fn complete(folder: &Path, recipe: &str) -> Result<()> {
    Ok(std::fs::write(folder.join(".complete"), recipe)?)
}

/// The virtual environment.
///
/// # Errors
/// Where a package cannot be installed.
pub(crate) fn python() -> Result<()> {
    let folder = tools::python_environment();
    if is_complete(&folder, "") {
        return Ok(());
    }
    step::run(
        "Python's virtual environment",
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&folder),
    )?;
    let mut install = Command::new(tools::python());
    install.args([
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--requirement",
    ]);
    step::run(
        "Python packages",
        install.arg(tools::programs().join("python/requirements.txt")),
    )?;
    complete(&folder, "")
}

/// `node_modules`, beside the programs, where Node looks for them.
///
/// # Errors
/// Where a package cannot be installed.
pub(crate) fn node() -> Result<()> {
    let programs = tools::programs().join("node");
    let recipe = tools::digest(&[&std::fs::read(programs.join("package-lock.json"))?]);
    let folder = programs.join("node_modules");
    if is_complete(&folder, &recipe) {
        return Ok(());
    }
    step::run(
        "Node packages",
        Command::new("npm")
            .args(["ci", "--ignore-scripts"])
            .current_dir(&programs),
    )?;
    complete(&folder, &recipe)
}

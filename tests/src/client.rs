//! The test programs that are clients. Each counts its own operations, and prints the counts as JSON.

use crate::tools;
use anyhow::{Context as _, Result, bail};
use std::process::Command;

/// The language that a client is written in, and with it its libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Python.
    Python,
    /// Node.
    Node,
    /// Go.
    Go,
}

/// The program `name` of the test programs.
pub fn program(language: Language, name: &str) -> Command {
    match language {
        Language::Python => {
            let mut command = Command::new(tools::python());
            command.arg(tools::programs().join(format!("python/{name}.py")));
            command.env("PYTHONDONTWRITEBYTECODE", "1");
            command
        }
        Language::Node => {
            let mut command = Command::new("node");
            command.arg(tools::programs().join(format!("node/{name}.mjs")));
            command
        }
        Language::Go => Command::new(tools::go_programs().join(name)),
    }
}

/// Runs a client to its end. What it counted.
///
/// # Errors
/// Where it fails, or prints no counts.
pub fn run<T: for<'a> serde::Deserialize<'a>>(command: &mut Command) -> Result<T> {
    serde_json::from_slice(output(command)?.as_bytes()).context("a client's counts")
}

/// Runs a program to its end. What it wrote to standard output.
///
/// # Errors
/// Where it fails.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}\n{text}{error}", output.status);
    }
    Ok(text)
}

//! What is wrong is said clearly, and the exit status tells.

use crate::plain;
use crate::scene::folder;
use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use redwire_tests::process::free_port;
use redwire_tests::tools;
use std::process::Command;

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        plain("bad_input::unknown_flag", |_| {
            fails(&["run", "--frobnicate"], &["--frobnicate"])
        }),
        plain("bad_input::configuration", configuration),
        plain("bad_input::missing_file", |_| {
            fails(
                &["run", "--config", "/nonexistent.yaml"],
                &["/nonexistent.yaml", "No such file"],
            )
        }),
        crate::capturing(
            "bad_input::unreachable_collector".to_owned(),
            unreachable_collector,
        ),
        plain("bad_input::missing_privilege", missing_privilege),
        crate::capturing("bad_input::no_btf".to_owned(), |_| {
            fails(
                &["run", "--btf", "/nonexistent/vmlinux"],
                &["BTF", "/nonexistent/vmlinux"],
            )
        }),
        crate::capturing("bad_input::no_such_process".to_owned(), |_| {
            fails(&["run", "--pid", "4194303"], &["4194303", "no such process"])
        }),
    ]
}

/// The agent with these arguments ends with a non-zero status and a message with all of `words`.
fn fails(arguments: &[&str], words: &[&str]) -> Result<()> {
    fails_as(Command::new(tools::agent()).args(arguments), words)
}

fn fails_as(command: &mut Command, words: &[&str]) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "{command:?} succeeded");
    ensure!(
        output.status.code().is_some_and(|code| code != 101),
        "{command:?} panicked:\n{message}"
    );
    for word in words {
        ensure!(
            message.contains(word),
            "no '{word}' in the message of {command:?}:\n{message}"
        );
    }
    Ok(())
}

fn configuration(test: &str) -> Result<()> {
    let path = folder(test)?.join("redwire.yaml");
    let path_text = path.display().to_string();
    for (text, place) in [
        ("selection:\n  portz: [80]\n", ":2:3"),
        ("selection:\n  ports: [eighty]\n", ":2:11"),
        ("capture: {\n", ":2:1"),
    ] {
        std::fs::write(&path, text)?;
        fails(
            &["run", "--config", &path_text],
            &[&format!("{path_text}{place}")],
        )?;
    }
    Ok(())
}

fn unreachable_collector(_test: &str) -> Result<()> {
    let endpoint = format!("http://127.0.0.1:{}", free_port()?);
    fails(
        &["run", "--require-endpoint", "--otlp-endpoint", &endpoint],
        &[&endpoint],
    )
}

/// Root without capabilities: each one that is missing is named.
fn missing_privilege(_test: &str) -> Result<()> {
    let mut command = Command::new("setpriv");
    if rustix::process::geteuid().is_root() {
        command.args(["--inh-caps", "-all", "--bounding-set", "-all"]);
    }
    command.arg(tools::agent()).args(["run", "--duration", "1"]);
    fails_as(&mut command, &["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"])
}

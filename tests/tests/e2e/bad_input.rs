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
        plain("bad_input::judged_first", judged_first),
        plain("bad_input::empty_variables", empty_variables),
        plain("bad_input::unprivileged_ps", unprivileged_ps),
    ]
}

/// What is wrong with the flags is said before anything is loaded: also to whom lacks the privilege to load it.
fn judged_first(test: &str) -> Result<()> {
    let file = folder(test)?.join("redwire.yaml");
    std::fs::write(&file, "selection:\n  ports: [0]\n")?;
    let file = file.display().to_string();
    for (arguments, words) in [
        (["--duration", "1x"], &["--duration", "'1x'", "10m"][..]),
        (["--duration", "-1"], &["-1"]),
        (["--port", "0"], &["--port", "from 1 to 65535"]),
        (["--route", "users"], &["users", "must begin with /"]),
        (["--pid", "4194303"], &["4194303", "no such process"]),
        (["--pid", "2"], &["--pid 2", "thread of the kernel"]),
        (["--exe", "["], &["'['", "glob"]),
        (["--config", &file], &[":2:11", "nonzero"]),
    ] {
        // This machine may hide the kernel's threads.
        if arguments[1] == "2" && !std::path::Path::new("/proc/2").exists() {
            continue;
        }
        let mut command = without_capabilities();
        command.arg("run").args(arguments);
        fails_as(&mut command, words)?;
        let message = command.output()?.stderr;
        let message = String::from_utf8_lossy(&message);
        ensure!(
            !message.contains("CAP_BPF"),
            "{arguments:?} came too late: {message}"
        );
    }
    let pid = std::process::id().to_string();
    fails_as(
        without_capabilities().args(["run", "--duration", "1m", "--pid", &pid]),
        &["CAP_BPF"],
    )
}

/// As unset ones.
fn empty_variables(_test: &str) -> Result<()> {
    let mut command = Command::new(tools::agent());
    command.arg("ps");
    for name in [
        "REDWIRE_PID",
        "REDWIRE_EXE",
        "REDWIRE_PORT",
        "REDWIRE_CONFIG",
        "REDWIRE_NO_ENVIRONMENT",
        "REDWIRE_NO_CHILDREN",
    ] {
        command.env(name, "");
    }
    let output = command.output()?;
    ensure!(output.status.success(), "{output:?}");
    let mut command = Command::new(tools::agent());
    command.args(["replay", "/nonexistent"]);
    for name in [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_METRIC_EXPORT_INTERVAL",
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "REDWIRE_HISTOGRAM",
        "REDWIRE_SPAN_RATIO",
        "REDWIRE_ROUTE",
        "REDWIRE_URL_QUERY",
        "REDWIRE_REQUIRE_ENDPOINT",
    ] {
        command.env(name, " ");
    }
    // The file is what is wrong.
    fails_as(&mut command, &["/nonexistent: No such file"])
}

fn unprivileged_ps(_test: &str) -> Result<()> {
    let output = without_capabilities().arg("ps").output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    for word in ["could not be looked at: ", "CAP_SYS_PTRACE"] {
        ensure!(output.status.success() && said.contains(word), "{output:?}");
    }
    ensure!(!said.contains("No process is selected"), "{said}");
    let privileged = Command::new(tools::agent()).arg("ps").output()?;
    let said = String::from_utf8_lossy(&privileged.stderr);
    let is_root = rustix::process::geteuid().is_root();
    ensure!(!is_root || !said.contains("CAP_SYS_PTRACE"), "{said}");
    Ok(())
}

/// The agent without any capability, also where the tests are run by root.
fn without_capabilities() -> Command {
    let mut command = Command::new("setpriv");
    if rustix::process::geteuid().is_root() {
        command.args(["--inh-caps", "-all", "--bounding-set", "-all"]);
    }
    command.arg(tools::agent());
    command
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
    fails_as(
        without_capabilities().args(["run", "--duration", "1"]),
        &["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"],
    )
}

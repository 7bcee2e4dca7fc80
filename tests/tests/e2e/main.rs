//! The agent against real services, real load and a real collector, on the kernel of this machine.

mod amqp;
mod bad_input;
mod captures;
mod database;
mod ground;
mod grpc;
mod http2;
mod latency;
mod lifecycle;
mod matrix;
mod postgres;
mod privacy;
mod ps;
mod redis;
mod scene;
mod shapes;
mod short_lives;
mod tonic_peer;
mod websocket;

use anyhow::Context as _;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use redwire_tests::tools;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// What of the kernel or of the privileges no test that captures can do without, where it is missing. The agent is
/// not asked: what it cannot do here and should is a failure.
static MISSING: LazyLock<Option<String>> = LazyLock::new(|| {
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("the kernel has no BTF".to_owned());
    }
    let lockdown = std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    if lockdown.contains("[confidentiality]") {
        return Some("the kernel's lockdown is 'confidentiality'".to_owned());
    }
    let bpftool = tools::find("bpftool").map(|bpftool| Command::new(bpftool).args(["prog", "show"]).output());
    match bpftool {
        Some(Ok(output)) if output.status.success() => None,
        Some(Ok(output)) => Some(format!(
            "bpf(2): {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        _ => Some("bpftool is not installed".to_owned()),
    }
});

/// A test that needs the kernel's capture. Where that is impossible, the test is reported as ignored, with the reason.
fn capturing(name: String, test: impl FnOnce(&str) -> anyhow::Result<()> + Send + 'static) -> Trial {
    let of_test = name.clone();
    Trial::ignorable_test(name, move || match &*MISSING {
        Some(reason) => Ok(Completion::ignored_with(reason)),
        None => {
            let _alone = alone().map_err(failed)?;
            test(&of_test).map(|()| Completion::Completed).map_err(failed)
        }
    })
}

/// Held by a test that captures: the agent of one must not see the services of another, of any clone on this host.
fn alone() -> anyhow::Result<File> {
    let path = std::env::temp_dir().join("redwire-e2e.lock");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    file.lock()?;
    Ok(file)
}

/// A test that needs no privileges.
fn plain(name: &str, test: impl FnOnce(&str) -> anyhow::Result<()> + Send + 'static) -> Trial {
    let of_test = name.to_owned();
    Trial::test(name, move || test(&of_test).map_err(failed))
}

fn failed(error: anyhow::Error) -> Failed {
    Failed::from(format!("{error:#}"))
}

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("tonic-peer", arguments)) = given.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        if let Err(error) = tonic_peer::run(arguments) {
            eprintln!("{error:#}");
            std::process::exit(1);
        }
        return;
    }
    // Serially: two cores are soon full.
    let arguments = Arguments {
        test_threads: Some(1),
        ..Arguments::from_args()
    };
    let tests = [
        ground::tests(),
        bad_input::tests(),
        matrix::tests(),
        http2::tests(),
        grpc::tests(),
        shapes::tests(),
        latency::tests(),
        short_lives::tests(),
        privacy::tests(),
        lifecycle::tests(),
        ps::tests(),
        postgres::tests(),
        redis::tests(),
        websocket::tests(),
        amqp::tests(),
        captures::tests(),
    ];
    let tests: Vec<Trial> = tests.into_iter().flatten().collect();
    if !arguments.list && !tools::agent().is_file() {
        eprintln!(
            "there is no {}: use `cargo xtask test`, or build the agent for release",
            tools::agent().display()
        );
        std::process::exit(1);
    }
    libtest_mimic::run(&arguments, tests).exit();
}

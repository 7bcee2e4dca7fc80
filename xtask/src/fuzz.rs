//! Fuzz targets.

use crate::build::cargo;
use crate::totals::Totals;
use crate::{setup, step};
use anyhow::Result;
use redwire_tests::tools;

/// Runs each fuzz target for `seconds`, and counts it as a test.
///
/// # Errors
/// Where they cannot be listed.
pub(crate) fn run(totals: &mut Totals, seconds: u64) -> Result<()> {
    let manifest = tools::workspace().join("fuzz/Cargo.toml");
    let Ok(manifest) = std::fs::read_to_string(manifest) else {
        return Ok(());
    };
    let targets = targets(&manifest);
    if let Err(error) = setup::cargo_fuzz() {
        println!("fuzz: {} targets skipped: {error:#}", targets.len());
        totals.skipped += targets.len() as u64;
        return Ok(());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(tools::cache().join("cargo-fuzz/bin")).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(folders)?;
    for target in targets {
        println!("fuzz {target}: {seconds} s");
        let mut command = cargo(&["fuzz", "run", &target, "--"]);
        command.args([
            &format!("-max_total_time={seconds}"),
            "-timeout=10",
            "-rss_limit_mb=2048",
            "-verbosity=0",
        ]);
        let words = tools::workspace().join(format!("fuzz/dictionaries/{target}.dict"));
        if words.exists() {
            command.arg(format!("-dict={}", words.display()));
        }
        // The sanitizer's flags are unstable; the toolchain is not.
        command.env("RUSTC_BOOTSTRAP", "1").env("PATH", &path);
        if step::show(&mut command)? {
            println!("fuzz {target}: ok");
            totals.passed += 1;
        } else {
            println!("fuzz {target}: FAILED");
            totals.failed += 1;
        }
    }
    Ok(())
}

/// Names of the binaries in a manifest.
fn targets(manifest: &str) -> Vec<String> {
    let binaries = manifest.split("[[bin]]").skip(1);
    let name = |binary: &str| {
        let line = binary
            .lines()
            .find(|line| line.trim_start().starts_with("name"))?;
        line.split('"').nth(1).map(str::to_owned)
    };
    binaries.filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn targets_are_the_binaries_of_the_manifest() {
        let manifest = "[package]\nname = \"fuzz\"\n\n[[bin]]\nname = \"http1\"\npath = \"a.rs\"\n\n[[bin]]\nname = \"amqp\"\n";
        assert_eq!(super::targets(manifest), ["http1", "amqp"]);
    }
}

//! The distribution's packages.

use crate::step;
use anyhow::{Result, bail};
use redwire_tests::tools;
use std::path::Path;
use std::process::Command;

/// What is needed of the system: a program (or, with a slash at its start, a file), and the Debian package that
/// has it.
const NEEDED: &[(&str, &str)] = &[
    ("cc", "build-essential"),
    ("c++", "build-essential"),
    ("make", "build-essential"),
    ("git", "git"),
    ("curl", "curl"),
    ("/etc/ssl/certs/ca-certificates.crt", "ca-certificates"),
    ("python3", "python3"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("go", "golang-go"),
    ("nginx", "nginx-light"),
    ("wrk", "wrk"),
    ("/usr/lib/postgresql", "postgresql"),
    ("pgbench", "postgresql-contrib"),
    ("redis-server", "redis-server"),
    ("redis-benchmark", "redis-tools"),
    ("rabbitmq-server", "rabbitmq-server"),
    ("h2load", "nghttp2-client"),
    ("nghttpd", "nghttp2-server"),
    ("tcpdump", "tcpdump"),
    ("tshark", "tshark"),
    ("bpftool", "bpftool"),
    ("setpriv", "util-linux"),
];

/// Installs without starting any of the services that come along (invoke-rc.d(8) asks policy-rc.d), and leaves
/// that policy as it was, interrupted or not.
const INSTALL: &str = r#"
policy=/usr/sbin/policy-rc.d
restore() { rm -f "$policy"; [ ! -e "$policy.redwire" ] || mv "$policy.redwire" "$policy"; }
[ ! -e "$policy" ] || mv "$policy" "$policy.redwire"
trap restore EXIT
trap 'exit 130' INT TERM
printf '#!/bin/sh\nexit 101\n' > "$policy" && chmod +x "$policy"
export DEBIAN_FRONTEND=noninteractive
apt-get update && apt-get install --yes --no-install-recommends "$@"
"#;

/// Whether Python can make virtual environments that have pip (Debian has that in a package of its own).
fn has_venv() -> bool {
    let found = Command::new("python3")
        .args(["-c", "import ensurepip, venv"])
        .output();
    tools::python().exists() || found.is_ok_and(|output| output.status.success())
}

/// Installs the packages that are missing.
///
/// # Errors
/// Names what is missing where this is not Debian or Ubuntu, or the user is not root.
pub(crate) fn install() -> Result<()> {
    let is_missing = |what: &str| {
        if what.starts_with('/') {
            !Path::new(what).exists()
        } else {
            tools::find(what).is_none()
        }
    };
    let mut missing: Vec<(&str, &str)> = NEEDED
        .iter()
        .filter(|(what, _)| is_missing(what))
        .copied()
        .collect();
    if !has_venv() {
        missing.push(("python3's venv module", "python3-venv"));
    }
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing
        .iter()
        .map(|(what, _)| *what)
        .collect::<Vec<_>>()
        .join(", ");
    if tools::find("apt-get").is_none() {
        bail!("missing: {names}. This is neither Debian nor Ubuntu: please install them your system's way");
    }
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    let packages = packages
        .into_iter()
        .map(|package| if package == "bpftool" { bpftool() } else { package });
    let packages: Vec<&str> = packages.collect();
    if !rustix::process::geteuid().is_root() {
        bail!(
            "missing: {names}. As root, `apt-get install {}` installs them",
            packages.join(" ")
        );
    }
    let mut command = Command::new("sh");
    command.args(["-e", "-c", INSTALL, "sh"]).args(&packages);
    step::run(&format!("packages {}", packages.join(" ")), &mut command)
}

/// Ubuntu has bpftool in another package than Debian.
fn bpftool() -> &'static str {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    if release.lines().any(|line| line == "ID=ubuntu") {
        "linux-tools-generic"
    } else {
        "bpftool"
    }
}

//! The distribution's packages.

use super::Scope;
use crate::step;
use anyhow::{Result, bail};
use redwire_tests::tools;
use std::path::Path;
use std::process::Command;

/// What is needed of the system, and for what at least: a program (or, with a slash at its start, a file), and the
/// Debian package that has it.
const NEEDED: &[(Scope, &str, &str)] = &[
    (Scope::Demo, "cc", "build-essential"),
    (Scope::Demo, "c++", "build-essential"),
    (Scope::Demo, "make", "build-essential"),
    (Scope::Demo, "git", "git"),
    (Scope::Demo, "curl", "curl"),
    (
        Scope::Demo,
        "/etc/ssl/certs/ca-certificates.crt",
        "ca-certificates",
    ),
    (Scope::Demo, "python3", "python3"),
    (Scope::Demo, "node", "nodejs"),
    (Scope::Demo, "npm", "npm"),
    (Scope::Demo, "go", "golang-go"),
    (Scope::Demo, "nginx", "nginx-light"),
    (Scope::All, "wrk", "wrk"),
    (Scope::All, "bpftool", "bpftool"),
    (Scope::All, "setpriv", "util-linux"),
    (Scope::All, "/usr/lib/postgresql", "postgresql"),
    (Scope::All, "pgbench", "postgresql-contrib"),
    (Scope::All, "redis-server", "redis-server"),
    (Scope::All, "redis-benchmark", "redis-tools"),
    (Scope::All, "rabbitmq-server", "rabbitmq-server"),
    (Scope::All, "h2load", "nghttp2-client"),
    (Scope::All, "nghttpd", "nghttp2-server"),
    (Scope::All, "tcpdump", "tcpdump"),
    (Scope::All, "tshark", "tshark"),
    (Scope::All, "qemu-system-x86_64", "qemu-system-x86"),
    (Scope::All, "qemu-system-aarch64", "qemu-system-arm"),
    (Scope::All, "busybox", "busybox-static"),
    (Scope::All, "mke2fs", "e2fsprogs"),
    (Scope::All, "xz", "xz-utils"),
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

/// Installs the packages that are missing for `scope`.
///
/// # Errors
/// Names what is missing where this is not Debian or Ubuntu, or the user is not root.
pub(crate) fn install(scope: Scope) -> Result<()> {
    let is_missing = |what: &str| {
        if what.starts_with('/') {
            !Path::new(what).exists()
        } else {
            tools::find(what).is_none()
        }
    };
    let mut missing: Vec<(&str, &str)> = NEEDED
        .iter()
        .filter(|(needed, what, _)| *needed <= scope && is_missing(what))
        .map(|&(_, what, package)| (what, package))
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

//! The machine's root file system, from Debian's packages alone: unpacked, never configured.

use super::architecture::Architecture;
use crate::debian::{self, Suite};
use anyhow::{Context as _, Result, bail};
use redwire_tests::tools;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The suite of the machine that builds the programs: its C library has to be no older than theirs.
const SUITE: &str = "bookworm";

/// What runs inside: a shell and its tools, and the servers and clients that are observed.
const PACKAGES: &[&str] = &[
    "base-files",
    "base-passwd",
    "busybox-static",
    "bash",
    "coreutils",
    "dash",
    "findutils",
    "grep",
    "iproute2",
    "libc-bin",
    "mount",
    "procps",
    "sed",
    "tar",
    "util-linux", // The servers and clients.
    "bpftool",
    "curl",
    "nginx-light",
    "postgresql",
    "postgresql-contrib",
    "python3",
    "redis-server",
    "redis-tools",
    "wrk",
];

/// Users that the packages' scripts would make.
const USERS: &str =
    "postgres:x:101:101::/var/lib/postgresql:/bin/sh\nredis:x:102:102::/var/lib/redis:/bin/sh\n";
const GROUPS: &str = "postgres:x:101:\nredis:x:102:\n";

/// Nothing that runs reads these.
const UNUSED: &[&str] = &[
    "doc",
    "man",
    "info",
    "locale",
    "i18n",
    "lintian",
    "bash-completion",
];

/// A root file system.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    /// An image of ext4.
    pub(crate) image: PathBuf,
    /// Its busybox, which is linked statically.
    pub(crate) busybox: PathBuf,
}

/// The root file system, made where it is not in the cache yet.
///
/// # Errors
/// Where a package is not to be had.
pub(crate) fn fetch(architecture: Architecture) -> Result<Root> {
    let recipe = tools::digest(&[SUITE.as_bytes(), PACKAGES.join(" ").as_bytes(), USERS.as_bytes()]);
    let debian = architecture.debian();
    let image = tools::cache().join(format!("vm/root-{debian}-{recipe}.ext4"));
    let root = Root {
        busybox: image.with_extension("busybox"),
        image,
    };
    if root.image.exists() {
        return Ok(root);
    }
    // Lists of some weeks ago name packages that the mirror has no more.
    let suite = Suite::open(SUITE, debian, true)?;
    let folder = root.image.with_extension("d");
    let _ = fs::remove_dir_all(&folder);
    for name in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(folder.join("usr").join(name))?;
        symlink(format!("usr/{name}"), folder.join(name))?;
    }
    debian::unpack(&suite.closure(PACKAGES)?, &folder)?;
    for name in UNUSED {
        let _ = fs::remove_dir_all(folder.join("usr/share").join(name));
    }
    for name in ["proc", "sys", "dev", "run", "tmp", "root"] {
        fs::create_dir_all(folder.join(name))?;
    }
    for (name, more) in [("passwd", USERS), ("group", GROUPS)] {
        let master = folder.join(format!("usr/share/base-passwd/{name}.master"));
        let master = fs::read_to_string(&master).with_context(|| master.display().to_string())?;
        fs::write(folder.join("etc").join(name), master + more)?;
    }
    fs::write(
        folder.join("etc/hosts"),
        "127.0.0.1 localhost redwire-vm\n::1 localhost\n",
    )?;
    fs::copy(folder.join("usr/bin/busybox"), &root.busybox).context("the package of busybox has none")?;
    make(&folder, &root.image)?;
    fs::remove_dir_all(&folder)?;
    Ok(root)
}

/// Makes an image of ext4 that holds what `folder` holds.
///
/// # Errors
/// Where that does not work.
pub(crate) fn make(folder: &Path, image: &Path) -> Result<()> {
    let (bytes, files) = measure(folder)?;
    // Of inodes and blocks some more than are needed, for tables and folders.
    let kibibytes = bytes / 1024 * 5 / 4 + files * 4 + 16 * 1024;
    let unfinished = image.with_extension("new");
    let _ = fs::remove_file(&unfinished);
    let program = tools::find("mke2fs").context("mke2fs is not installed: package e2fsprogs")?;
    let mut command = Command::new(program);
    command.args(["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-N"]);
    command
        .arg((files * 5 / 4 + 1024).to_string())
        .arg("-d")
        .arg(folder);
    command.arg(&unfinished).arg(format!("{kibibytes}k"));
    let output = command.output()?;
    if !output.status.success() {
        bail!("mke2fs: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(fs::rename(unfinished, image)?)
}

/// Bytes and number of everything below `folder`.
fn measure(folder: &Path) -> Result<(u64, u64)> {
    let (mut bytes, mut files) = (0, 0);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files += 1;
        let metadata = entry.metadata()?;
        if metadata.is_dir() {
            let (more_bytes, more_files) = measure(&entry.path())?;
            bytes += more_bytes + 4096;
            files += more_files;
        } else {
            bytes += metadata.len().next_multiple_of(4096);
        }
    }
    Ok((bytes, files))
}

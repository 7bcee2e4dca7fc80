//! What the kernel programs and the fuzz targets need besides the toolchain.

use crate::debian::{self, Suite};
use crate::step;
use anyhow::{Context as _, Result, bail};
use redwire_tests::tools;
use std::path::{Path, PathBuf};
use std::process::Command;

const BPF_LINKER_VERSION: &str = "0.13.0";
/// The feature of bpf-linker for the LLVM of the toolchain (`rustc -vV`).
const BPF_LINKER_LLVM: &str = "llvm-23";
const CARGO_FUZZ_VERSION: &str = "0.13.1";

/// A cargo that is not under the influence of the cargo that runs this program.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn rustc(arguments: &[&str]) -> Result<String> {
    let output = Command::new("rustc")
        .args(arguments)
        .current_dir(tools::workspace())
        .output()?;
    if !output.status.success() {
        bail!("rustc {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn sysroot() -> Result<PathBuf> {
    Ok(rustc(&["--print", "sysroot"])?.into())
}

/// The standard library's source, from which `core` is built for the kernel's target: rustup's component, else the
/// package of the distribution's backports in the compiler's very version.
///
/// # Errors
/// Where neither is to be had.
pub(crate) fn source() -> Result<()> {
    let place = sysroot()?.join("lib/rustlib/src/rust");
    let is_there = || place.join("library/core/src/lib.rs").exists();
    if is_there() {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    rustup
        .args(["component", "add", "rust-src"])
        .current_dir(tools::workspace());
    if step::run("rust-src from rustup", &mut rustup).is_ok() && is_there() {
        return Ok(());
    }
    let version = rustc(&["--version"])?;
    let version = version
        .split(' ')
        .nth(1)
        .context("rustc has no version")?
        .to_owned();
    let folder = tools::cache().join(format!("rust-src-{version}"));
    packaged_source(&version, &folder).context("rust-src is needed, and no way to it worked")?;
    std::fs::create_dir_all(place.parent().context("a place for rust-src")?)?;
    // What a failed attempt of rustup left.
    let _ = std::fs::remove_file(&place);
    std::os::unix::fs::symlink(folder.join(format!("usr/src/rustc-{version}")), &place)?;
    if !is_there() {
        bail!("the package rust-src does not hold what it should");
    }
    Ok(())
}

/// Unpacks the package `rust-src` of `version` into `folder`. It is the same for every architecture.
fn packaged_source(version: &str, folder: &Path) -> Result<()> {
    let suite = Suite::open("trixie-backports", "amd64", true)?;
    let archives = suite.download(&[format!("rust-src={version}*")], &folder.join("archives"))?;
    debian::unpack(&archives, folder)?;
    Ok(std::fs::remove_dir_all(folder.join("archives"))?)
}

/// The linker of kernel programs, against the LLVM that rustc ships.
///
/// # Errors
/// Where it does not build.
pub(crate) fn bpf_linker() -> Result<()> {
    let prefix = tools::cache().join("llvm");
    let root = tools::cache().join("bpf-linker");
    let library = llvm_library(&sysroot()?.join("lib"))?;
    let name = library.file_name().context("a library has a name")?.to_owned();
    let links = [prefix.join("lib/libLLVM.so"), prefix.join("lib").join(&name)];
    let are_linked = links
        .iter()
        .all(|link| std::fs::canonicalize(link).is_ok_and(|target| target == library));
    if are_linked
        && root.join("bin/bpf-linker").exists()
        && is_installed(&root, "bpf-linker", BPF_LINKER_VERSION)
    {
        return Ok(());
    }
    std::fs::create_dir_all(prefix.join("lib"))?;
    for link in &links {
        let _ = std::fs::remove_file(link);
        std::os::unix::fs::symlink(&library, link)?;
    }
    let mut install = cargo();
    install.args([
        "install",
        "bpf-linker",
        "--version",
        BPF_LINKER_VERSION,
        "--locked",
        "--force",
    ]);
    install
        .args(["--no-default-features", "--features", BPF_LINKER_LLVM, "--root"])
        .arg(&root);
    install
        .env("LLVM_PREFIX", &prefix)
        .current_dir(tools::workspace());
    step::run(&format!("bpf-linker {BPF_LINKER_VERSION}"), &mut install)
}

/// The file `libLLVM.so.VERSION-rust-…` in the toolchain's library folder.
fn llvm_library(folder: &Path) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut libraries = entries.filter(|path| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("libLLVM.so."))
    });
    let library = libraries
        .next()
        .with_context(|| format!("no libLLVM.so.* in {}", folder.display()))?;
    Ok(std::fs::canonicalize(library)?)
}

/// Whether `cargo install` noted this version in `root`.
fn is_installed(root: &Path, name: &str, version: &str) -> bool {
    let noted = std::fs::read_to_string(root.join(".crates.toml")).unwrap_or_default();
    noted.contains(&format!("\"{name} {version} "))
}

/// The runner of fuzz targets; its path.
///
/// # Errors
/// Where it does not build.
pub(crate) fn cargo_fuzz() -> Result<PathBuf> {
    let root = tools::cache().join("cargo-fuzz");
    if !is_installed(&root, "cargo-fuzz", CARGO_FUZZ_VERSION) {
        let mut install = cargo();
        install.args([
            "install",
            "cargo-fuzz",
            "--version",
            CARGO_FUZZ_VERSION,
            "--locked",
            "--force",
            "--root",
        ]);
        step::run(
            &format!("cargo-fuzz {CARGO_FUZZ_VERSION}"),
            install.arg(&root).current_dir(tools::workspace()),
        )?;
    }
    Ok(root.join("bin/cargo-fuzz"))
}

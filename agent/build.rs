//! Builds the kernel programs, which `source::ebpf` embeds.

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain};
use std::path::PathBuf;

fn main() -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::split_paths(&path).chain([cache().join("bpf-linker/bin")]);
    // SAFETY: a build script's main has no other thread.
    unsafe {
        std::env::set_var("PATH", std::env::join_paths(path)?);
        // Stable Rust has no precompiled `core` for the bpf target, and `-Zbuild-std` asks for this.
        std::env::set_var("RUSTC_BOOTSTRAP", "1");
    }
    // aya-build watches the kernel programs' own folder.
    println!(
        "cargo::rerun-if-changed={}",
        concat!(env!("CARGO_MANIFEST_DIR"), "/../agent-common")
    );
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent-ebpf");
    let package = Package {
        name: "redwire-ebpf",
        root_dir: root,
        ..Package::default()
    };
    aya_build::build_ebpf(
        [package],
        Toolchain::Custom(
            include_str!("../rust-toolchain.toml")
                .split('"')
                .nth(1)
                .context("rust-toolchain.toml names no channel")?,
        ),
    )
    .context("the kernel programs did not build; `cargo xtask setup` installs bpf-linker and rust-src")
}

/// Where `cargo xtask setup` puts its tools.
fn cache() -> PathBuf {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    variable("REDWIRE_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("redwire")))
        .or_else(|| Some(variable("HOME")?.join(".cache/redwire")))
        .unwrap_or_default()
}

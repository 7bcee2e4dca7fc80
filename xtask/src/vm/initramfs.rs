//! The first root file system: busybox, the modules that the second needs, and the way to that.

use super::kernel::Kernel;
use anyhow::{Context as _, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Modules for the disks, their file systems, and the line of results.
const MODULES: &[&str] = &["virtio_pci", "virtio_blk", "virtio_console", "ext4", "overlay"];

/// Mounts the base and the layer of this run, both read-only, under a file system in memory, and goes there.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /base /layer /memory /new
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
fail() { echo "redwire-vm: $1"; /bin/busybox poweroff -f; }
for module in /modules/*; do /bin/busybox insmod "$module" || fail "cannot load $module"; done
/bin/busybox mount -t ext4 -o ro /dev/vda /base || fail 'cannot mount the base'
/bin/busybox mount -t ext4 -o ro /dev/vdb /layer || fail 'cannot mount the layer'
/bin/busybox mount -t tmpfs -o size=75% tmpfs /memory
/bin/busybox mkdir /memory/upper /memory/work
/bin/busybox mount -t overlay -o lowerdir=/layer:/base,upperdir=/memory/upper,workdir=/memory/work overlay /new \
    || fail 'cannot mount the overlay'
for folder in /proc /sys /dev; do /bin/busybox mkdir -p /new$folder; /bin/busybox mount -o move $folder /new$folder; done
exec /bin/busybox switch_root /new /redwire-vm/init
"#;

/// Writes it for `kernel` to `file`, with `busybox` as its only program.
///
/// # Errors
/// Where a module is missing, or a program that this needs.
pub(crate) fn write(kernel: &Kernel, busybox: &Path, file: &Path) -> Result<()> {
    let folder = file.with_extension("d");
    let _ = fs::remove_dir_all(&folder);
    for name in ["bin", "modules"] {
        fs::create_dir_all(folder.join(name))?;
    }
    fs::copy(busybox, folder.join("bin/busybox")).with_context(|| busybox.display().to_string())?;
    let init = folder.join("init");
    fs::write(&init, INIT)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    for (number, (name, content)) in modules(kernel)?.into_iter().enumerate() {
        fs::write(folder.join(format!("modules/{number:02}-{name}.ko")), content)?;
    }
    let mut pack = Command::new("sh");
    pack.args([
        "-e",
        "-c",
        "cd \"$1\" && find . | busybox cpio -o -H newc > \"$2\"",
        "sh",
    ]);
    let output = pack.arg(&folder).arg(file).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        bail!(
            "packing the initramfs: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(fs::remove_dir_all(&folder)?)
}

/// [`MODULES`] and those that they depend on, in the order in which they can be loaded.
fn modules(kernel: &Kernel) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = BTreeMap::new();
    collect(&kernel.modules.join("kernel"), &mut files)?;
    let built_in = fs::read_to_string(kernel.modules.join("modules.builtin"))?;
    let built_in: BTreeSet<String> = built_in.lines().map(|line| name(Path::new(line))).collect();
    let mut modules = Vec::new();
    for module in MODULES {
        add(module, &files, &built_in, &mut modules)?;
    }
    Ok(modules)
}

fn add(
    module: &str,
    files: &BTreeMap<String, PathBuf>,
    built_in: &BTreeSet<String>,
    modules: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    if built_in.contains(module) || modules.iter().any(|(name, _)| name == module) {
        return Ok(());
    }
    let file = files
        .get(module)
        .with_context(|| format!("the kernel has no module {module}"))?;
    let content = read(file)?;
    for dependency in depends(&content) {
        add(&dependency, files, built_in, modules)?;
    }
    modules.push((module.to_owned(), content));
    Ok(())
}

/// A module's name: its file's up to the first dot, with underscores.
fn name(file: &Path) -> String {
    let file = file.file_name().unwrap_or_default().to_string_lossy();
    file.split('.').next().unwrap_or_default().replace('-', "_")
}

fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.insert(name(&entry.path()), entry.path());
        }
    }
    Ok(())
}

/// A module's file, uncompressed.
fn read(file: &Path) -> Result<Vec<u8>> {
    let decompressor = match file.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => return Ok(fs::read(file)?),
        Some("xz") => "xz",
        Some("zst") => "zstd",
        other => bail!("{}: no way to read {other:?}", file.display()),
    };
    let output = Command::new(decompressor)
        .arg("-dc")
        .arg(file)
        .output()
        .with_context(|| format!("starting {decompressor}"))?;
    if !output.status.success() {
        bail!("{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}

/// The modules in `depends=` of a module's section `.modinfo`, whose entries end with a zero.
fn depends(module: &[u8]) -> Vec<String> {
    const FIELD: &[u8] = b"\0depends=";
    let Some(at) = module.windows(FIELD.len()).position(|window| window == FIELD) else {
        return Vec::new();
    };
    let value = module[at + FIELD.len()..].split(|byte| *byte == 0).next();
    let value = String::from_utf8_lossy(value.unwrap_or_default());
    let names = value.split(',').filter(|name| !name.is_empty());
    names.map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_tells_what_it_depends_on() {
        assert_eq!(
            depends(b"\x7fELF\0license=GPL\0depends=mbcache,jbd2,crc-16\0retpoline=Y\0"),
            ["mbcache", "jbd2", "crc_16"]
        );
        assert!(depends(b"\0license=GPL\0depends=\0name=virtio\0").is_empty());
        assert!(depends(b"").is_empty());
    }
}

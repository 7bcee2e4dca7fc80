//! One emulated machine, from its start to its power-off.

use super::architecture::Architecture;
use super::kernel::Kernel;
use super::{initramfs, rootfs};
use anyhow::{Context as _, Result, bail};
use redwire_tests::process::Process;
use redwire_tests::tools;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Memory of a machine, in MiB; files that are written inside lie in it.
const MEMORY: &str = "2560";
/// How much a machine may hand back as files.
const HANDED_BACK: u64 = 2 << 30;

/// The line of results, inside.
pub(crate) const RESULTS: &str = "/dev/vport0p1";

/// What a machine is to do.
#[derive(Debug)]
pub(crate) struct Job {
    /// Program and arguments.
    pub(crate) command: Vec<OsString>,
    /// Its environment, besides a path and a home.
    pub(crate) environment: BTreeMap<String, OsString>,
    /// Its working folder.
    pub(crate) folder: PathBuf,
    /// Files and folders of this host, by absolute path, that are there under the same path.
    pub(crate) files: Vec<PathBuf>,
    /// Folders, by absolute path inside, that are handed back.
    pub(crate) handed_back: Vec<PathBuf>,
    /// When the machine is stopped by force.
    pub(crate) patience: Duration,
}

/// How a job ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Exit status of the command; none where the machine did not come to its end.
    pub(crate) status: Option<i32>,
    /// From start to power-off.
    pub(crate) time: Duration,
}

/// Process 1 inside. `/dev/vport0p1` is the line of results, `/dev/vdc` takes what is handed back.
const INIT: &str = r#"#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
mkdir -p /dev/pts /dev/shm /run /tmp /var/lib/nginx /var/log/nginx
chmod 1777 /tmp
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t tracefs tracefs /sys/kernel/tracing
mount -t securityfs securityfs /sys/kernel/security
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for name in fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do
    link=${name%%:*} place=${name#*:}; ln -sfn "/proc/self/${place}" "/dev/$link"
done
ip link set lo up
hostname redwire-vm 2>/dev/null || echo redwire-vm > /proc/sys/kernel/hostname
echo "{\"kernel\":\"$(uname -r) $(uname -v)\"}" > /dev/vport0p1
. /redwire-vm/job
"#;

/// A word of the shell.
fn quoted(word: &OsStr) -> String {
    format!("'{}'", word.to_string_lossy().replace('\'', r"'\''"))
}

/// The part of [`INIT`] that differs: the job, and the end.
fn script(job: &Job) -> String {
    let mut script = String::new();
    for (name, value) in &job.environment {
        script += &format!("export {name}={}\n", quoted(value));
    }
    let command: Vec<String> = job.command.iter().map(|word| quoted(word)).collect();
    let folders = job.handed_back.iter();
    let folders: Vec<String> = folders.map(|folder| quoted(folder.as_os_str())).collect();
    script += &format!(
        "cd {} && {} < /dev/null\nstatus=$?\n",
        quoted(job.folder.as_os_str()),
        command.join(" ")
    );
    script += "[ $status = 0 ] || dmesg | tail -n 20\n";
    for folder in &folders {
        script += &format!("mkdir -p {folder}\n");
    }
    if !folders.is_empty() {
        script += &format!("tar -cPf /dev/vdc {}\n", folders.join(" "));
    }
    script + "echo \"{\\\"status\\\":$status}\" > /dev/vport0p1\nsync\nbusybox poweroff -f\n"
}

/// Runs `job` on `kernel`; the machine's files go to `folder`. Each line that it prints is given to `line`, each
/// that it writes to `/dev/vport0p1` is in `folder/results.jsonl`.
///
/// # Errors
/// Where the machine cannot be made or started, or is stopped by force.
pub(crate) fn run(
    kernel: &Kernel,
    architecture: Architecture,
    job: &Job,
    folder: &Path,
    mut line: impl FnMut(&str),
) -> Result<Ended> {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    let root = rootfs::fetch(architecture)?;
    let (initramfs, layer) = (folder.join("initramfs"), folder.join("layer.ext4"));
    initramfs::write(kernel, &root.busybox, &initramfs)?;
    write_layer(job, &layer)?;
    let (results, back) = (folder.join("results.jsonl"), folder.join("back"));
    File::create(&back)?.set_len(HANDED_BACK)?;
    let disk = |path: &Path, options: &str| format!("file={},if=virtio,format=raw{options}", path.display());
    let (program, machine) = architecture.qemu();
    let mut qemu = Command::new(tools::find(program).with_context(|| format!("{program} is not installed"))?);
    qemu.args(machine)
        .args([
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
            "-smp",
            "2",
            "-m",
            MEMORY,
        ])
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-no-reboot",
            "-nic",
            "none",
        ])
        .args(["-serial", "stdio", "-device", "virtio-serial-pci"])
        .args(["-device", "virtserialport,chardev=results", "-chardev"])
        .arg(format!("file,id=results,path={}", results.display()))
        .arg("-drive")
        .arg(disk(&root.image, ",readonly=on"))
        .arg("-drive")
        .arg(disk(&layer, ",readonly=on"))
        .arg("-drive")
        .arg(disk(&back, ",cache=unsafe"))
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&initramfs)
        .arg("-append")
        // No line of the kernel gets in between those of the job; a panic ends the machine.
        .arg(format!(
            "console={} loglevel=1 panic=-1 mitigations=off",
            architecture.console()
        ));
    let begin = Instant::now();
    let mut process = Process::spawn("qemu", &mut qemu, folder, true)?;
    let output = process.take_stdout().context("the machine has no console")?;
    let forced = Arc::new(AtomicBool::new(false));
    let over = Arc::new(AtomicBool::new(false));
    let watch = {
        let (forced, over, patience) = (forced.clone(), over.clone(), job.patience);
        let group = process.pid();
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                if begin.elapsed() > patience {
                    forced.store(true, Ordering::Relaxed);
                    kill(group);
                    return;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        })
    };
    let mut console = String::new();
    for text in BufReader::new(output).split(b'\n') {
        let text = String::from_utf8_lossy(&text?).trim_end_matches('\r').to_owned();
        line(&text);
        console += &text;
        console.push('\n');
    }
    let ended = process.wait(Duration::from_secs(10));
    over.store(true, Ordering::Relaxed);
    watch
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that watches the machine panicked"))?;
    let status = ended?;
    fs::write(folder.join("console.log"), &console)?;
    fs::remove_file(&layer)?;
    if forced.load(Ordering::Relaxed) {
        bail!("the machine was stopped by force after {:?}", job.patience);
    }
    if !status.success() {
        bail!("{program} ended with {status}: {}", process.tail());
    }
    take_back(&back, folder)?;
    Ok(Ended {
        status: exit_status(&fs::read_to_string(&results).unwrap_or_default()),
        time: begin.elapsed(),
    })
}

fn kill(group: u32) {
    if let Some(group) = i32::try_from(group).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

/// The files of this run, and what process 1 does with them.
fn write_layer(job: &Job, image: &Path) -> Result<()> {
    let folder = image.with_extension("d");
    let _ = fs::remove_dir_all(&folder);
    let own = folder.join("redwire-vm");
    fs::create_dir_all(&own)?;
    for path in &job.files {
        let place = folder.join(
            path.strip_prefix("/")
                .context("a file of the machine has an absolute path")?,
        );
        fs::create_dir_all(place.parent().context("a file lies in a folder")?)?;
        let mut copy = Command::new("cp");
        let output = copy.args(["-a", "-T"]).arg(path).arg(&place).output()?;
        if !output.status.success() {
            bail!("{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
        }
    }
    fs::create_dir_all(folder.join(job.folder.strip_prefix("/").unwrap_or(&job.folder)))?;
    fs::write(own.join("job"), script(job))?;
    fs::write(own.join("init"), INIT)?;
    fs::set_permissions(own.join("init"), fs::Permissions::from_mode(0o755))?;
    rootfs::make(&folder, image)?;
    Ok(fs::remove_dir_all(&folder)?)
}

/// Unpacks what the machine handed back: an archive, then zeros.
fn take_back(back: &Path, folder: &Path) -> Result<()> {
    let into = folder.join("files");
    fs::create_dir_all(&into)?;
    let mut unpack = Command::new("tar");
    let output = unpack.arg("-xf").arg(back).arg("-C").arg(&into).output()?;
    if !output.status.success() {
        bail!(
            "what the machine handed back: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(fs::remove_file(back)?)
}

/// The status in the last of the `results`, where the machine came to its end.
fn exit_status(results: &str) -> Option<i32> {
    let last = results.lines().next_back()?;
    last.strip_prefix("{\"status\":")?.strip_suffix('}')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_tells_its_status_last() {
        assert_eq!(exit_status("{\"test\":\"a\"}\n{\"status\":101}\n"), Some(101));
        assert_eq!(exit_status("{\"test\":\"a\"}\n"), None);
        assert_eq!(exit_status(""), None);
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted(OsStr::new("it's $HOME")), r"'it'\''s $HOME'");
    }
}

//! `redwire check --report`: what a bug report has to hold of the machine. No secrets: nothing of a process, no command
//! line but the kernel's word on preemption, no addresses.

use crate::source::ebpf::kernel::Kernel;

/// Files of one line that say what the kernel allows.
const FILES: &[&str] = &[
    "/proc/sys/kernel/version",
    "/sys/kernel/security/lsm",
    "/sys/kernel/debug/sched/preempt",
    "/proc/sys/kernel/unprivileged_bpf_disabled",
    "/proc/sys/kernel/perf_event_paranoid",
    "/proc/sys/kernel/kptr_restrict",
    "/proc/sys/net/core/bpf_jit_enable",
    "/sys/bus/event_source/devices/kprobe/type",
];

/// Parts of names of kernel options that matter here (kernel/Kconfig.*).
const OPTIONS: &[&str] = &[
    "BPF",
    "BTF",
    "KPROBE",
    "UPROBE",
    "FPROBE",
    "FTRACE",
    "PREEMPT",
    "CONFIG_UNIX=",
    "CONFIG_TLS=",
    "CONFIG_MPTCP=",
];

/// Prints it, behind what `check` found.
pub(super) fn print() {
    let kernel = Kernel::running();
    println!("\nreport of redwire {}", env!("CARGO_PKG_VERSION"));
    println!("machine {}", std::env::consts::ARCH);
    println!("preemption {:?}", kernel.preemption);
    let preempt = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    for word in preempt
        .split_whitespace()
        .filter(|word| word.starts_with("preempt="))
    {
        println!("kernel's command line {word}");
    }
    for file in FILES {
        let text = std::fs::read_to_string(file)
            .map_or_else(|error| error.to_string(), |text| text.trim().to_owned());
        println!("{file}: {text}");
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for line in status
        .lines()
        .filter(|line| line.starts_with("Cap") || line.starts_with("Seccomp:"))
    {
        println!("{line}");
    }
    let path = format!("/boot/config-{}", kernel.release);
    match std::fs::read_to_string(&path) {
        Ok(config) => config
            .lines()
            .filter(|line| !line.starts_with('#') && OPTIONS.iter().any(|part| line.contains(part)))
            .for_each(|line| println!("{line}")),
        Err(error) => println!("{path}: {error}"),
    }
}

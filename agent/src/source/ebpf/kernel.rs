//! What is known of the running kernel besides its types.

use procfs::sys::kernel::Version;

/// The running kernel.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// Its release, as uname(2) tells it.
    pub release: String,
    /// Major and minor version, and patch level.
    pub version: (u8, u8, u16),
    /// How it lets tasks be preempted inside it.
    pub preemption: Preemption,
}

/// Preemption models (kernel/Kconfig.preempt).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preemption {
    /// `none` or `voluntary`: a kernel program is never preempted.
    Voluntary,
    /// `full` or `lazy`, or it is not told which.
    Preemptible,
}

impl Kernel {
    /// The kernel that this process runs on.
    pub fn running() -> Kernel {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let version =
            Version::current().map_or((0, 0, 0), |version| (version.major, version.minor, version.patch));
        Kernel {
            release: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            version,
            preemption: preemption(
                &read("/proc/sys/kernel/version"),
                &read("/sys/kernel/debug/sched/preempt"),
                &read("/proc/cmdline"),
            ),
        }
    }

    /// Whether its version is at least this.
    pub fn is(&self, major: u8, minor: u8) -> bool {
        (self.version.0, self.version.1) >= (major, minor)
    }

    /// Whether `bpf_get_current_task_btf` is there (bpf-helpers(7)).
    pub fn has_typed_pointers(&self) -> bool {
        self.is(5, 11)
    }

    /// Whether trampolines' programs can be preempted, so that the kernel skips one that is active already on a CPU
    /// (kernel/bpf/trampoline.c, `__bpf_prog_enter_recur`, since Linux 5.12).
    pub fn preempts_trampolines(&self) -> bool {
        self.preemption == Preemption::Preemptible
    }

    /// Whether programs on the raw tracepoints of system calls can be preempted. They ran with preemption off up to
    /// Linux 6.18 (include/trace/bpf_probe.h, `__BPF_DECLARE_TRACE_SYSCALL`).
    pub fn preempts_syscall_tracepoints(&self) -> bool {
        self.preemption == Preemption::Preemptible && self.is(6, 19)
    }
}

/// From `uname -v`, what debugfs tells where it may be read, and the kernel's command line.
fn preemption(version: &str, debugfs: &str, command_line: &str) -> Preemption {
    let words: Vec<&str> = version.split_whitespace().collect();
    if words
        .iter()
        .any(|word| matches!(*word, "PREEMPT" | "PREEMPT_RT" | "PREEMPT_LAZY"))
    {
        return Preemption::Preemptible;
    }
    if !words.contains(&"PREEMPT_DYNAMIC") {
        return Preemption::Voluntary;
    }
    // The model in force is in parentheses: "none voluntary (full) lazy".
    let told = debugfs
        .split('(')
        .nth(1)
        .and_then(|rest| rest.split(')').next())
        .or_else(|| {
            command_line
                .split_whitespace()
                .filter_map(|word| word.strip_prefix("preempt="))
                .next_back()
        });
    match told {
        Some("none" | "voluntary") => Preemption::Voluntary,
        _ => Preemption::Preemptible,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preemption_model() {
        use Preemption::{Preemptible, Voluntary};
        for (version, debugfs, command_line, expected) in [
            ("#1 SMP Debian 5.10.223-1 (2024-08-10)", "", "", Voluntary),
            (
                "#1 SMP PREEMPT_DYNAMIC Debian 6.1.1",
                "none (voluntary) full\n",
                "",
                Voluntary,
            ),
            (
                "#1 SMP PREEMPT_DYNAMIC Debian 6.1.1",
                "none voluntary (full)\n",
                "quiet preempt=none",
                Preemptible,
            ),
            (
                "#1 SMP PREEMPT_DYNAMIC Debian 7.2",
                "full (lazy)\n",
                "",
                Preemptible,
            ),
            (
                "#1 SMP PREEMPT_DYNAMIC Debian 6.1.1",
                "",
                "quiet preempt=voluntary",
                Voluntary,
            ),
            ("#1 SMP PREEMPT_DYNAMIC Debian 6.1.1", "", "quiet", Preemptible),
            ("#1 SMP PREEMPT_LAZY Debian 7.2", "", "", Preemptible),
            ("#1 SMP PREEMPT_RT Debian 6.1", "", "", Preemptible),
        ] {
            assert_eq!(
                preemption(version, debugfs, command_line),
                expected,
                "{version} {debugfs}"
            );
        }
    }
}

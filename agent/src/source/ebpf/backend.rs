//! The three backends: which kernel programs each has and where they are attached.

use super::kernel::Kernel;
use anyhow::{Context as _, Result, bail};
use aya::programs::{FEntry, FExit, KProbe, ProgramError, RawTracePoint};
use aya::{Btf, Ebpf};
use std::fmt;
use std::path::Path;

/// How the kernel is hooked. All yield the same events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Trampolines on the kernel's socket functions: cheapest.
    Fentry,
    /// Kprobes on the same functions, and on their returns.
    Kprobe,
    /// Raw tracepoints on system calls: sees no io_uring.
    Tracepoint,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Fentry => "fentry",
            Backend::Kprobe => "kprobe",
            Backend::Tracepoint => "tracepoint",
        })
    }
}

/// All, the best first.
pub const BACKENDS: [Backend; 3] = [Backend::Fentry, Backend::Kprobe, Backend::Tracepoint];

/// How a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    RawTracepoint,
    Fentry,
    Fexit,
    /// At a function's entry or return: the program knows which.
    Kprobe,
}

/// Where a kernel does without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Always,
    /// On kernels that have the function.
    IfThere,
    /// Where a program can be skipped for being active already on its CPU.
    Twin,
    /// Both of the above.
    TwinIfThere,
}

/// A program and what it is attached to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hook {
    pub(super) program: &'static str,
    target: &'static str,
    kind: Kind,
    presence: Presence,
}

const fn hook(kind: Kind, program: &'static str, target: &'static str, presence: Presence) -> Hook {
    Hook {
        program,
        target,
        kind,
        presence,
    }
}

use Kind::{Fentry, Fexit, Kprobe, RawTracepoint};
use Presence::{Always, IfThere, Twin, TwinIfThere};

/// Of every backend. Process events come first, so that no process slips through.
const COMMON: &[Hook] = &[
    hook(RawTracepoint, "redwire_fork", "sched_process_fork", Always),
    hook(RawTracepoint, "redwire_exec", "sched_process_exec", Always),
    hook(
        RawTracepoint,
        "redwire_exit_process",
        "sched_process_exit",
        Always,
    ),
    hook(RawTracepoint, "redwire_tcp_state", "inet_sock_set_state", Always),
    hook(RawTracepoint, "redwire_tcp_destroy", "tcp_destroy_sock", Always),
];

const TRACEPOINT: &[Hook] = &[
    hook(RawTracepoint, "redwire_exit", "sys_exit", Always),
    hook(RawTracepoint, "redwire_exit_twin", "sys_exit", Twin),
    hook(RawTracepoint, "redwire_enter", "sys_enter", Always),
];

const FENTRY: &[Hook] = &[
    hook(Fexit, "redwire_accept", "inet_accept", Always),
    hook(Fexit, "redwire_unix_accept", "unix_accept", Always),
    hook(Fexit, "redwire_connect", "inet_stream_connect", Always),
    hook(Fexit, "redwire_unix_connect", "unix_stream_connect", Always),
    hook(Fexit, "redwire_shutdown", "inet_shutdown", Always),
    hook(Fexit, "redwire_unix_shutdown", "unix_shutdown", Always),
    hook(Fentry, "redwire_unix_release", "unix_release", Always),
    hook(Fexit, "redwire_receive", "tcp_recvmsg", Always),
    hook(Fexit, "redwire_receive_twin", "tcp_recvmsg", Twin),
    hook(Fexit, "redwire_splice", "tcp_splice_read", Always),
    hook(Fexit, "redwire_splice_twin", "tcp_splice_read", Twin),
    hook(Fexit, "redwire_unix_receive", "unix_stream_recvmsg", Always),
    hook(Fexit, "redwire_unix_receive_twin", "unix_stream_recvmsg", Twin),
    hook(Fexit, "redwire_unix_splice", "unix_stream_splice_read", Always),
    hook(Fexit, "redwire_unix_splice_twin", "unix_stream_splice_read", Twin),
    hook(Fexit, "redwire_send", "tcp_sendmsg_locked", Always),
    hook(Fexit, "redwire_send_twin", "tcp_sendmsg_locked", Twin),
    hook(Fentry, "redwire_send_begin", "tcp_sendmsg_locked", Always),
    hook(Fexit, "redwire_send_page", "do_tcp_sendpages", IfThere),
    hook(Fexit, "redwire_send_page_twin", "do_tcp_sendpages", TwinIfThere),
    hook(Fexit, "redwire_unix_send", "unix_stream_sendmsg", Always),
    hook(Fexit, "redwire_unix_send_twin", "unix_stream_sendmsg", Twin),
    hook(Fentry, "redwire_unix_send_begin", "unix_stream_sendmsg", Always),
    hook(Fexit, "redwire_unix_send_page", "unix_stream_sendpage", IfThere),
    hook(
        Fexit,
        "redwire_unix_send_page_twin",
        "unix_stream_sendpage",
        TwinIfThere,
    ),
];

/// Returns come first: a call whose entry was seen and whose return was not would leave its arguments behind.
const KPROBE: &[Hook] = &[
    hook(Kprobe, "probe_accept_return", "inet_accept", Always),
    hook(Kprobe, "probe_accept", "inet_accept", Always),
    hook(Kprobe, "probe_accept_return", "unix_accept", Always),
    hook(Kprobe, "probe_accept", "unix_accept", Always),
    hook(Kprobe, "probe_connect_return", "inet_stream_connect", Always),
    hook(Kprobe, "probe_connect", "inet_stream_connect", Always),
    hook(Kprobe, "probe_connect_return", "unix_stream_connect", Always),
    hook(Kprobe, "probe_connect", "unix_stream_connect", Always),
    hook(Kprobe, "probe_shutdown_return", "inet_shutdown", Always),
    hook(Kprobe, "probe_shutdown", "inet_shutdown", Always),
    hook(Kprobe, "probe_shutdown_return", "unix_shutdown", Always),
    hook(Kprobe, "probe_shutdown", "unix_shutdown", Always),
    hook(Kprobe, "probe_unix_release", "unix_release", Always),
    hook(Kprobe, "probe_receive_return", "tcp_recvmsg", Always),
    hook(Kprobe, "probe_receive", "tcp_recvmsg", Always),
    hook(Kprobe, "probe_splice_return", "tcp_splice_read", Always),
    hook(Kprobe, "probe_splice", "tcp_splice_read", Always),
    hook(Kprobe, "probe_unix_receive_return", "unix_stream_recvmsg", Always),
    hook(Kprobe, "probe_receive", "unix_stream_recvmsg", Always),
    hook(Kprobe, "probe_splice_return", "unix_stream_splice_read", Always),
    hook(Kprobe, "probe_splice", "unix_stream_splice_read", Always),
    hook(Kprobe, "probe_send_return", "tcp_sendmsg_locked", Always),
    hook(Kprobe, "probe_send", "tcp_sendmsg_locked", Always),
    hook(Kprobe, "probe_send_page_return", "do_tcp_sendpages", IfThere),
    hook(Kprobe, "probe_send_page", "do_tcp_sendpages", IfThere),
    hook(Kprobe, "probe_unix_send_return", "unix_stream_sendmsg", Always),
    hook(Kprobe, "probe_send", "unix_stream_sendmsg", Always),
    hook(
        Kprobe,
        "probe_unix_send_page_return",
        "unix_stream_sendpage",
        IfThere,
    ),
    hook(Kprobe, "probe_send_page", "unix_stream_sendpage", IfThere),
];

/// Kernel functions that some hook is on where they are there.
pub fn optional_functions() -> Vec<&'static str> {
    FENTRY
        .iter()
        .filter(|hook| matches!(hook.presence, IfThere | TwinIfThere))
        .map(|hook| hook.target)
        .collect()
}

impl Backend {
    /// Whether its programs have twins on this kernel: see `agent-ebpf`, `scratch`.
    pub(super) fn has_twins(self, kernel: &Kernel) -> bool {
        match self {
            Backend::Fentry => kernel.preempts_trampolines(),
            // Kprobes run with preemption off.
            Backend::Kprobe => false,
            Backend::Tracepoint => kernel.preempts_syscall_tracepoints(),
        }
    }

    /// The hooks for this kernel; `functions` are the optional ones that it has.
    pub(super) fn hooks(self, kernel: &Kernel, functions: &[&str]) -> Vec<Hook> {
        let own = match self {
            Backend::Fentry => FENTRY,
            Backend::Kprobe => KPROBE,
            Backend::Tracepoint => TRACEPOINT,
        };
        let twins = self.has_twins(kernel);
        COMMON
            .iter()
            .chain(own)
            .filter(|hook| match hook.presence {
                Always => true,
                IfThere => functions.contains(&hook.target),
                Twin => twins,
                TwinIfThere => twins && functions.contains(&hook.target),
            })
            .copied()
            .collect()
    }

    /// Why this backend is not to be used on a kernel, where it is on the deny list.
    pub fn denied(self, kernel: &Kernel) -> Option<&'static str> {
        match self {
            Backend::Fentry if !kernel.is(5, 12) && kernel.preempts_trampolines() => Some(
                "before Linux 5.12, trampolines run a program again on a CPU where it was preempted (commit \
                 ca06f55b9002, \"bpf: Add per-program recursion prevention mechanism\"), and its memory is per CPU",
            ),
            Backend::Fentry if !kernel.is(5, 5) => Some("trampolines came with Linux 5.5"),
            _ => None,
        }
    }
}

/// Lines of the verifier's text that tell why it refused.
const TOLD: usize = 20;

/// Where the kernel shows that it has kprobes for perf_event_open(2).
const KPROBES: &str = "/sys/bus/event_source/devices/kprobe";

/// Loads the programs of `hooks`. Each that is refused is in the error, with the end of the verifier's text.
pub(super) fn load(ebpf: &mut Ebpf, hooks: &[Hook], btf: Option<&Btf>) -> Result<()> {
    if hooks.iter().any(|hook| hook.kind == Kprobe) && !Path::new(KPROBES).exists() {
        bail!("the kernel has no kprobes (CONFIG_KPROBES, CONFIG_KPROBE_EVENTS): there is no {KPROBES}");
    }
    let mut refused: Vec<String> = Vec::new();
    let mut loaded: Vec<&str> = Vec::new();
    for hook in hooks {
        if loaded.contains(&hook.program) {
            continue;
        }
        loaded.push(hook.program);
        let program = ebpf
            .program_mut(hook.program)
            .with_context(|| format!("the build has no kernel program {}", hook.program))?;
        let btf = || btf.context("no BTF");
        let result = match hook.kind {
            RawTracepoint => <&mut RawTracePoint>::try_from(program)?.load(),
            Kprobe => <&mut KProbe>::try_from(program)?.load(),
            Fentry => <&mut FEntry>::try_from(program)?.load(hook.target, btf()?),
            Fexit => <&mut FExit>::try_from(program)?.load(hook.target, btf()?),
        };
        let Err(error) = result else { continue };
        // A policy refuses all alike.
        if let ProgramError::LoadError { io_error, .. } = &error
            && io_error.raw_os_error() == Some(libc::EPERM)
        {
            bail!(
                "the kernel's policy or this process's privileges refuse {}: {io_error}",
                hook.program
            );
        }
        refused.push(refusal(hook, &error));
    }
    if refused.is_empty() {
        return Ok(());
    }
    bail!(
        "the kernel refuses {} programs\n{}",
        refused.len(),
        refused.join("\n")
    )
}

fn refusal(hook: &Hook, error: &ProgramError) -> String {
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return format!("{}: {:#}", hook.program, anyhow::Error::msg(error.to_string()));
    };
    let log = verifier_log.to_string();
    // Behind the line that tells come figures.
    let figures = ["verification time", "stack depth"];
    let lines: Vec<&str> = log
        .lines()
        .filter(|line| !line.trim().is_empty() && !figures.iter().any(|word| line.starts_with(word)))
        .collect();
    let told = &lines[lines.len().saturating_sub(TOLD)..];
    if told.is_empty() {
        return format!("{}: {io_error}", hook.program);
    }
    format!("{}: {io_error}\n    {}", hook.program, told.join("\n    "))
}

/// Attaches the programs of `hooks`.
pub(super) fn attach(ebpf: &mut Ebpf, hooks: &[Hook]) -> Result<()> {
    for hook in hooks {
        let program = ebpf
            .program_mut(hook.program)
            .with_context(|| format!("the build has no kernel program {}", hook.program))?;
        let result = match hook.kind {
            RawTracepoint => <&mut RawTracePoint>::try_from(program)?
                .attach(hook.target)
                .map(drop),
            Kprobe => <&mut KProbe>::try_from(program)?.attach(hook.target, 0).map(drop),
            Fentry => <&mut FEntry>::try_from(program)?.attach().map(drop),
            Fexit => <&mut FExit>::try_from(program)?.attach().map(drop),
        };
        result.with_context(|| format!("attaching {} to {}", hook.program, hook.target))?;
    }
    Ok(())
}

//! Empty programs on possible sets of hooks: what the hooks cost by themselves. For benchmarks.

use anyhow::{Context as _, Result};
use aya::programs::{RawTracePoint, TracePoint};
use aya::{Ebpf, EbpfLoader};

/// A set of hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hooks {
    /// Raw tracepoint `sys_exit`.
    RawExit,
    /// Raw tracepoints `sys_enter` and `sys_exit`: what the agent uses.
    RawBoth,
    /// Tracepoints `syscalls:sys_exit_*`, one per call.
    Exits,
    /// Tracepoints `syscalls:sys_enter_*` and `syscalls:sys_exit_*`, two per call.
    Both,
    /// Raw tracepoint `sys_exit` and tracepoints `syscalls:sys_enter_*` of the calls that write.
    RawExitAndWriteEntries,
}

const READS: &[&str] = &[
    "read", "readv", "recvfrom", "recvmsg", "recvmmsg", "preadv2", "accept", "accept4",
];
const WRITES: &[&str] = &[
    "write",
    "writev",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "sendfile64",
    "splice",
    "close",
    "pwritev2",
];

/// Attaches empty programs until the result is dropped.
///
/// # Errors
/// Where the kernel refuses one, or tracefs is not mounted.
pub fn attach(hooks: Hooks) -> Result<Ebpf> {
    let mut ebpf = EbpfLoader::new().load(super::PROGRAMS)?;
    let raw: &[(&str, &str)] = match hooks {
        Hooks::RawExit | Hooks::RawExitAndWriteEntries => &[("floor_exit", "sys_exit")],
        Hooks::RawBoth => &[("floor_exit", "sys_exit"), ("floor_enter", "sys_enter")],
        Hooks::Exits | Hooks::Both => &[],
    };
    for &(name, tracepoint) in raw {
        let program: &mut RawTracePoint = ebpf
            .program_mut(name)
            .with_context(|| format!("the build has no kernel program {name}"))?
            .try_into()?;
        program.load()?;
        program.attach(tracepoint)?;
    }
    let mut calls = Vec::new();
    if matches!(hooks, Hooks::Exits | Hooks::Both) {
        calls.extend(READS.iter().chain(WRITES).map(|call| format!("sys_exit_{call}")));
    }
    if hooks == Hooks::Both {
        calls.extend(READS.iter().chain(WRITES).map(|call| format!("sys_enter_{call}")));
    }
    if hooks == Hooks::RawExitAndWriteEntries {
        calls.extend(WRITES.iter().map(|call| format!("sys_enter_{call}")));
    }
    if !calls.is_empty() {
        let program = ebpf
            .program_mut("floor_call")
            .context("the build has no kernel program floor_call")?;
        let program: &mut TracePoint = program.try_into()?;
        program.load()?;
        for call in calls {
            program
                .attach("syscalls", &call)
                .with_context(|| format!("attaching to syscalls:{call}"))?;
        }
    }
    Ok(ebpf)
}

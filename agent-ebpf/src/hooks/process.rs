//! Raw tracepoints `sched_process_fork`, `sched_process_exec` and `sched_process_exit`: selection of processes.

use aya_ebpf::helpers::generated::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::helpers::{bpf_probe_read_user_buf, bpf_probe_read_user_str_bytes};
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::RawTracePointContext;
use redwire_common::{
    ENVIRONMENT, ExecEvent, Executable, ProcessEvent, ProcessState, counter, kind, verdict,
};

use crate::emit;
use crate::kernel;
use crate::maps::{EXECUTABLES, PROCESSES, count, selected_flag, setting};

/// Strings of an environment that are looked at.
const STRINGS: usize = 1_024;

/// Bytes of one string looked at in one step; a longer one takes several.
const STRING: usize = 256;

#[repr(C)]
pub struct Scratch {
    event: ExecEvent,
    environment: [u8; ENVIRONMENT],
    string: [u8; STRING],
    walk: Walk,
}

#[map]
static EXEC_SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

#[inline(always)]
fn select(tgid: u32, selected_by: u32) {
    let state = match PROCESSES.get_ptr_mut(&tgid) {
        Some(state) => {
            unsafe { (*state).selected_by |= selected_by };
            return;
        }
        None => ProcessState { selected_by },
    };
    if PROCESSES.insert(&tgid, &state, 0).is_err() {
        count(counter::PROCESSES_FULL, 1);
    } else if let Some(flag) = selected_flag(tgid) {
        unsafe { flag.write(1) };
    }
}

#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn redwire_fork(ctx: RawTracePointContext) -> i32 {
    let _ = fork(ctx.arg(0), ctx.arg(1));
    0
}

#[inline(always)]
fn fork(parent: u64, child: u64) -> Option<()> {
    if setting!(follow) == 0 {
        return None;
    }
    let parent = kernel::ids(parent)?.1;
    PROCESSES.get_ptr(&parent)?;
    let (tid, tgid) = kernel::ids(child)?;
    // A new thread is no new process.
    if tid != tgid {
        return None;
    }
    select(tgid, verdict::PARENT);
    let time = unsafe { bpf_ktime_get_ns() };
    emit::event(&ProcessEvent {
        kind: kind::FORK,
        tgid,
        time,
        parent,
        padding: 0,
    });
    Some(())
}

#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn redwire_exec(_ctx: RawTracePointContext) -> i32 {
    let _ = exec();
    0
}

#[inline(always)]
fn exec() -> Option<()> {
    let tgid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    let scratch = unsafe { &mut *EXEC_SCRATCH.get_ptr_mut(0)? };
    let (start, end) = kernel::environment()?;
    let (inode, device) = kernel::executable()?;
    let mut by = 0;
    if setting!(by_environment) != 0 && opts_in(start, end, scratch) {
        by |= verdict::ENVIRONMENT;
    }
    let mut unknown = false;
    if setting!(by_executable) != 0 {
        match EXECUTABLES.get_ptr(&Executable {
            inode,
            device,
            padding: 0,
        }) {
            Some(judged) if unsafe { *judged } == 1 => by |= verdict::EXECUTABLE,
            Some(_) => {}
            None => unknown = true,
        }
    }
    if by != 0 {
        select(tgid, by);
    }
    // Before this exec, too: by its parent, say.
    let by = match PROCESSES.get_ptr(&tgid) {
        Some(state) => unsafe { (*state).selected_by },
        None => 0,
    };
    let selected = by != 0;
    if !selected && !unknown {
        return None;
    }
    let size = (end - start) as u32;
    // The environment of a process that is not selected stays its own.
    let mut length = if selected { size as usize } else { 0 };
    if length > ENVIRONMENT {
        length = ENVIRONMENT;
    }
    let read = length > 0
        && unsafe {
            bpf_probe_read_user_buf(
                start as *const u8,
                scratch.environment.get_unchecked_mut(..length),
            )
        }
        .is_ok();
    if !read {
        length = 0;
    }
    let event = &mut scratch.event;
    event.kind = kind::EXEC;
    event.tgid = tgid;
    event.time = unsafe { bpf_ktime_get_ns() };
    event.device = device;
    event.verdict = by;
    event.inode = inode;
    event.environment = length as u32;
    event.environment_size = size;
    unsafe { bpf_get_current_comm(event.comm.as_mut_ptr().cast(), 16) };
    if length > ENVIRONMENT {
        return None;
    }
    let bytes = unsafe {
        core::slice::from_raw_parts(
            (&raw const *scratch).cast::<u8>(),
            size_of::<ExecEvent>() + length,
        )
    };
    emit::urgent(bytes);
    Some(())
}

/// Where the walk through an environment is. In a map and not in registers, so that the verifier sees the same
/// state in each turn of the loop.
#[repr(C)]
struct Walk {
    at: u64,
    begins: u64,
}

/// Whether the environment holds `REDWIRE_ENABLE=true`.
#[inline(always)]
fn opts_in(start: u64, end: u64, scratch: &mut Scratch) -> bool {
    let walk = &raw mut scratch.walk;
    unsafe { walk.write_volatile(Walk { at: start, begins: 1 }) };
    for _ in 0..STRINGS {
        let Walk { at, begins } = unsafe { walk.read_volatile() };
        if at >= end {
            break;
        }
        let string = unsafe { bpf_probe_read_user_str_bytes(at as *const u8, &mut scratch.string) };
        let Ok(length) = string.map(|string| string.len()) else {
            break;
        };
        if begins != 0 && length == OPT_IN_LENGTH && is_opt_in(&scratch.string) {
            return true;
        }
        // One that fills the buffer goes on behind what was read of it.
        let whole = u64::from(length < STRING - 1);
        unsafe {
            walk.write_volatile(Walk {
                at: at + length as u64 + whole,
                begins: whole,
            })
        };
    }
    false
}

/// Of `REDWIRE_ENABLE=true`.
const OPT_IN_LENGTH: usize = 19;

#[inline(always)]
fn is_opt_in(string: &[u8; STRING]) -> bool {
    let word = |from: usize| {
        u64::from_le_bytes([
            string[from],
            string[from + 1],
            string[from + 2],
            string[from + 3],
            string[from + 4],
            string[from + 5],
            string[from + 6],
            string[from + 7],
        ])
    };
    word(0) == u64::from_le_bytes(*b"REDWIRE_")
        && word(8) == u64::from_le_bytes(*b"ENABLE=t")
        && string[16] == b'r'
        && string[17] == b'u'
        && string[18] == b'e'
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn redwire_exit_process(ctx: RawTracePointContext) -> i32 {
    let _ = exit(ctx.arg(0));
    0
}

#[inline(always)]
fn exit(task: u64) -> Option<()> {
    let tgid = kernel::ids(task)?.1;
    PROCESSES.get_ptr(&tgid)?;
    if !kernel::is_last_thread(task) {
        return None;
    }
    let time = unsafe { bpf_ktime_get_ns() };
    emit::event(&ProcessEvent {
        kind: kind::EXIT,
        tgid,
        time,
        parent: 0,
        padding: 0,
    });
    let _ = PROCESSES.remove(&tgid);
    if let Some(flag) = selected_flag(tgid) {
        unsafe { flag.write(0) };
    }
    Some(())
}

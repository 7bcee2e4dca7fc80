//! Memory that a kernel program keeps while it runs.
//!
//! **The rule.** A CPU has one [`Slot`] for each program that uses one, and a program uses its own only. That is safe
//! also where a program can be preempted: the kernel keeps it on its CPU (`migrate_disable`), and skips a program that
//! is already active there (`prog->active`: trampolines since 5.12, raw tracepoints since 6.1; before that, raw
//! tracepoints, and kprobes and tracepoints ever, run with preemption off). So nobody else is in the slot. A program
//! of another kind (a uprobe) must not use one. What is skipped is in the program's `recursion_misses`, which user
//! space reads; where a kernel can skip, each program has a twin, and what the first was skipped for the second tells.
//!
//! What a loop carries from turn to turn is in a slot and not in registers, and what a turn does is a global function,
//! as is each part of the work that more than one call needs: the verifier looks at a global function once and by
//! itself (Linux 5.6, kernel/bpf/verifier.c, `do_check_subprogs`), and up to Linux 5.12 lets it take numbers alone. So
//! the parts find in the slot what they work on. No function that calls one takes a slot by reference: the compiler
//! would conclude that nobody else changes it meanwhile.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use redwire_common::{DataEvent, OpenEvent};

use crate::chunks::{Bytes, Walk as ChunkWalk, Window};
use crate::connection::{Caller, Transfer};
use crate::emit::Walk;
use crate::hooks::arch::Call;
use crate::kernel::Socket;

/// The slots, by program: each has one for itself and one for its twin.
pub mod slots {
    pub const SEND: u32 = 0;
    pub const RECEIVE: u32 = 2;
    pub const SPLICE: u32 = 4;
    pub const SEND_PAGE: u32 = 6;
    pub const UNIX_SEND: u32 = 8;
    pub const UNIX_RECEIVE: u32 = 10;
    pub const UNIX_SPLICE: u32 = 12;
    pub const UNIX_SEND_PAGE: u32 = 14;
    pub const SYSCALL: u32 = 16;
    pub const ACCEPT: u32 = 18;
    pub const CONNECT: u32 = 20;
    pub const UNIX_ACCEPT: u32 = 22;
    pub const UNIX_CONNECT: u32 = 24;
    pub const CLOSE: u32 = 26;
    pub const COUNT: u32 = 28;
}

#[repr(C)]
pub struct Slot {
    pub call: Call,
    pub caller: Caller,
    pub socket: Socket,
    pub transfer: Transfer,
    pub open: OpenEvent,
    pub header: DataEvent,
    pub walk: Walk,
    pub window_bytes: Bytes,
    pub window: Window,
    pub chunks: ChunkWalk,
}

#[map]
static SLOTS: PerCpuArray<Slot> = PerCpuArray::with_max_entries(slots::COUNT, 0);

/// A program's slot on this CPU.
#[inline(always)]
pub fn slot(index: u32) -> Option<&'static mut Slot> {
    SLOTS.get_ptr_mut(index).map(|slot| unsafe { &mut *slot })
}

//! Maps, counters and the loader's globals.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use core::arch::asm;
use redwire_common::{
    ConnectionState, Executable, NOT_NEEDED_SLOTS, NotNeeded, Offsets, PROCESSES_PER_ENTRY, ProcessFlags,
    ProcessState, Settings, counter,
};

#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = unsafe { core::mem::zeroed() };

#[unsafe(no_mangle)]
pub static SETTINGS: Settings = unsafe { core::mem::zeroed() };

/// Reads an offset; volatile, since the loader overwrites the zero that the compiler sees.
macro_rules! offset {
    ($member:ident) => {{
        #[allow(unused_unsafe, reason = "some callers are unsafe blocks")]
        unsafe {
            core::ptr::read_volatile(&raw const $crate::maps::OFFSETS.$member) as usize
        }
    }};
}

macro_rules! setting {
    ($member:ident) => {
        unsafe { core::ptr::read_volatile(&raw const $crate::maps::SETTINGS.$member) }
    };
}

pub(crate) use {offset, setting};

/// Events to user space. The loader sets the size.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(256 << 10, 0);

/// Which processes are selected. An array, since every call on the host asks it.
#[map]
pub static SELECTED: Array<ProcessFlags> = Array::with_max_entries((4 << 20) / PROCESSES_PER_ENTRY, 0);

/// Selected processes by tgid, and why.
#[map]
pub static PROCESSES: HashMap<u32, ProcessState> = HashMap::with_max_entries(16_384, 0);

/// Executables that user space has judged: 1 where they are selected.
#[map]
pub static EXECUTABLES: LruHashMap<Executable, u32> = LruHashMap::with_max_entries(4_096, 0);

/// Selected ports, in host order.
#[map]
pub static PORTS: HashMap<u16, u8> = HashMap::with_max_entries(1_024, 0);

/// Connections of selected processes by `struct sock`.
#[map]
pub static CONNECTIONS: LruHashMap<u64, ConnectionState> = LruHashMap::with_max_entries(65_536, 0);

/// What user space does not need, at `not_needed_slot(sock)`. Another connection may have the slot; the entry
/// tells.
#[map]
pub static NOT_NEEDED: Array<NotNeeded> = Array::with_max_entries(NOT_NEEDED_SLOTS, 0);

/// The arguments of a kernel function for the probe at its return, by thread and function.
#[map]
pub static ARGUMENTS: LruHashMap<u64, Arguments> = LruHashMap::with_max_entries(16_384, 0);

/// Arguments of a kernel function, and when it was called.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Arguments {
    pub args: [u64; 5],
    pub time: u64,
}

/// Bytes written to the ring buffer since the reader was woken.
#[map]
pub static UNANNOUNCED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(counter::COUNT, 0);

/// Adds to a counter of this CPU.
#[inline(always)]
pub fn count(index: u32, n: u64) {
    // Atomic: a program that adds can be preempted by another that does.
    if let Some(value) = COUNTERS.get_ptr_mut(index) {
        unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) value, in(reg) n, options(nostack)) };
    }
}

/// The byte that tells whether a process is selected.
#[inline(always)]
pub fn selected_flag(tgid: u32) -> Option<*mut u8> {
    let flags = SELECTED.get_ptr_mut(tgid / PROCESSES_PER_ENTRY)?;
    Some(unsafe { flags.cast::<u8>().add((tgid % PROCESSES_PER_ENTRY) as usize) })
}

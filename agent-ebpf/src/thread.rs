//! What a program remembers of a thread.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;

use crate::maps::setting;

/// Entries of [`THREADS`].
const SLOTS: u32 = 32_768;

/// By thread id modulo the number of slots. Two threads may have the same: the entry tells whose it is.
#[map]
static THREADS: Array<Thread> = Array::with_max_entries(SLOTS, 0);

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Thread {
    /// The thread whose call that writes began, and what it called.
    tid: u32,
    call: u32,
    time: u64,
    /// The thread whose call was told of, when the twin of the program has not been there yet, and which of the two it
    /// was.
    told: u32,
    teller: u32,
}

#[inline(always)]
fn thread(tid: u32) -> Option<&'static mut Thread> {
    THREADS.get_ptr_mut(tid % SLOTS).map(|slot| unsafe { &mut *slot })
}

/// Notes when a call begins that writes.
#[inline(always)]
pub fn begin(tid: u32, call: u64) {
    if let Some(thread) = thread(tid) {
        thread.tid = tid;
        thread.call = call as u32;
        thread.time = unsafe { bpf_ktime_get_ns() };
    }
}

/// When this call of this thread began. Where that was not noted, or another thread has taken the place since, it is
/// as late as now.
#[inline(always)]
pub fn began(tid: u32, call: u64) -> u64 {
    if let Some(thread) = thread(tid)
        && thread.tid == tid
        && thread.call == call as u32
    {
        thread.tid = 0;
        return thread.time;
    }
    unsafe { bpf_ktime_get_ns() }
}

/// Whether the twin of this program has told of the call, where no position shows that.
#[inline(always)]
pub fn twin_told(tid: u32, slot: u32) -> bool {
    if setting!(twins) == 0 {
        return false;
    }
    let Some(thread) = thread(tid) else {
        return false;
    };
    if thread.told == tid && thread.teller == slot ^ 1 {
        thread.told = 0;
        return true;
    }
    thread.told = tid;
    thread.teller = slot;
    false
}

//! Events into the ring buffer.

use aya_ebpf::helpers::generated::bpf_get_current_pid_tgid;
use core::arch::asm;
use redwire_common::{CALL_PIECES, CALL_STEPS, CALL_TAIL, DataEvent, PIECE, SCARCE_PIECES, counter};

use crate::maps::{EVENTS, UNANNOUNCED, count, setting};
use crate::memory::Memory;
use crate::scratch::{self, Slot};

const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;
const BPF_RB_AVAIL_DATA: u64 = 0;

/// How far a call is handed over. In a map and not in registers (see `scratch`).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Walk {
    memory: Memory,
    /// Bytes at the front that are not wanted.
    skip: u64,
    /// Bytes of the call not handed over yet.
    left: u64,
    captured: u64,
    /// Full pieces that may still be handed over.
    pieces: u64,
}

/// Thread id and thread group id.
#[inline(always)]
pub fn ids() -> (u32, u32) {
    let both = unsafe { bpf_get_current_pid_tgid() };
    (both as u32, (both >> 32) as u32)
}

/// Writes an event that must not be late or has no payload; the reader is woken.
#[inline(always)]
pub fn event<T>(event: &T) -> bool {
    let bytes = unsafe { core::slice::from_raw_parts((&raw const *event).cast::<u8>(), size_of::<T>()) };
    let written = EVENTS.output::<[u8]>(bytes, wake(size_of::<T>())).is_ok();
    if !written {
        count(counter::LOST_EVENTS, 1);
    }
    written
}

/// Writes an event and wakes the reader at once.
#[inline(always)]
pub fn urgent(bytes: &[u8]) -> bool {
    let written = EVENTS.output::<[u8]>(bytes, BPF_RB_FORCE_WAKEUP).is_ok();
    if !written {
        count(counter::LOST_EVENTS, 1);
    }
    written
}

/// Wake-ups are batched: the reader looks by itself every few milliseconds, and is woken for each `wake_every` bytes
/// that a CPU writes. How much waits is not asked, since that is where the reader writes all the time.
#[inline(always)]
pub fn wake(size: usize) -> u64 {
    let Some(unannounced) = UNANNOUNCED.get_ptr_mut(0) else {
        return BPF_RB_FORCE_WAKEUP;
    };
    let bytes = unsafe { &mut *unannounced };
    *bytes += size as u64;
    if *bytes < u64::from(setting!(wake_every)) {
        return BPF_RB_NO_WAKEUP;
    }
    *bytes = 0;
    BPF_RB_FORCE_WAKEUP
}

/// `n` as a register of which the verifier knows that it is no more than `MASK`, one less than a power of two. The
/// compiler sees no use in this where it knows `n` to be smaller; the verifier, which may know the bound of a copy of
/// it only, refuses `n` itself.
#[inline(always)]
pub fn bounded<const MASK: i32>(n: u64) -> u64 {
    let mut n = n;
    unsafe { asm!("{0} &= {mask}", inout(reg) n, mask = const MASK, options(pure, nomem, nostack)) };
    n
}

/// An event with room for `N` bytes of payload. The size of a reservation has to be known to the verifier; what is not
/// written costs room alone.
#[repr(C)]
struct Record<const N: usize> {
    header: DataEvent,
    bytes: [u8; N],
}

/// Hands over `length` bytes, at most `N`, of the buffer at hand. How many were readable.
#[inline(always)]
fn record<const N: usize>(header: &DataEvent, memory: &Memory, length: u64) -> u64 {
    const { assert!(N % 8 == 0) };
    let wake = wake(size_of::<Record<N>>());
    let Some(mut record) = EVENTS.reserve::<Record<N>>(0) else {
        count(counter::LOST_EVENTS, 1);
        count(counter::LOST_BYTES, length);
        return 0;
    };
    let event = record.as_mut_ptr();
    let read = unsafe { memory.read((&raw mut (*event).bytes).cast(), at_most::<N>(length)) };
    let captured = if read { length as u32 } else { 0 };
    unsafe { (&raw mut (*event).header).write(DataEvent { captured, ..*header }) };
    record.submit(wake);
    u64::from(captured)
}

/// `n`, or `N` where that is less, as a register of which the verifier knows so: see [`bounded`].
#[inline(always)]
fn at_most<const N: usize>(n: u64) -> u64 {
    let mut n = n;
    unsafe {
        asm!(
            "if {0} <= {most} goto +1",
            "{0} = {most}",
            inout(reg) n,
            most = const N,
            options(pure, nomem, nostack)
        );
    }
    n
}

/// [`record`] of the size that fits, for up to [`PIECE`] bytes: at most half of it again is left unused.
#[inline(always)]
fn piece(header: &DataEvent, memory: &Memory, length: u64) -> u64 {
    match length {
        ..SMALL => small(header, memory, length),
        ..=0x600 => record::<0x600>(header, memory, length),
        ..=0x800 => record::<0x800>(header, memory, length),
        ..=0xc00 => record::<0xc00>(header, memory, length),
        ..=0x1000 => record::<0x1000>(header, memory, length),
        ..=0x1400 => record::<0x1400>(header, memory, length),
        ..=0x1800 => record::<0x1800>(header, memory, length),
        ..=0x2000 => record::<0x2000>(header, memory, length),
        ..=0x3000 => record::<0x3000>(header, memory, length),
        _ => record::<PIECE>(header, memory, length),
    }
}

/// Below this, a call of one buffer is handed over without a walk: most requests and many answers are.
const SMALL: u64 = 0x400;

/// [`record`] of the size that fits, for less than [`SMALL`] bytes.
#[inline(always)]
fn small(header: &DataEvent, memory: &Memory, length: u64) -> u64 {
    match length {
        ..=0x80 => record::<0x80>(header, memory, length),
        ..=0x100 => record::<0x100>(header, memory, length),
        ..=0x200 => record::<0x200>(header, memory, length),
        _ => record::<0x400>(header, memory, length),
    }
}

/// Hands the `header.length` bytes of a slot's call to user space in pieces, without the first `skip`, which the header
/// does not cover. Returns how many bytes of payload it handed over. A global function (see `scratch`).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn redwire_data(slot: u32, skip: u64) -> u64 {
    let Some(state) = scratch::slot(slot) else {
        return 0;
    };
    let mut memory = state.transfer.memory;
    let length = u64::from(state.header.length);
    if length < SMALL && memory.refill() && memory.left >= skip + length {
        memory.advance(skip);
        return small(&state.header, &memory, length);
    }
    state.walk = Walk {
        memory,
        skip,
        left: length,
        captured: 0,
        pieces: pieces() as u64,
    };
    for _ in 0..CALL_STEPS {
        if redwire_step(slot) == 0 {
            break;
        }
    }
    let left = state.walk.left;
    if left > 0 {
        hole(&mut state.header, left);
    }
    state.walk.captured
}

/// Full pieces from the begin of one call: few where the reader is behind, since a long call is mostly body, and it
/// is better to lose the middle of some than all of others.
#[inline(always)]
fn pieces() -> usize {
    if EVENTS.query(BPF_RB_AVAIL_DATA) > u64::from(setting!(scarce_from)) {
        SCARCE_PIECES
    } else {
        CALL_PIECES
    }
}

/// [`step`] as a global function (see `scratch`). 0 where the walk is over.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn redwire_step(slot: u32) -> u64 {
    match scratch::slot(slot) {
        Some(slot) => u64::from(step(slot)),
        None => 0,
    }
}

/// Takes one step: what is left of a buffer, or a piece of it. `false` where nothing more can be handed over.
#[inline(always)]
fn step(slot: &mut Slot) -> bool {
    let Slot { walk, header, .. } = slot;
    if walk.left == 0 || !walk.memory.refill() {
        return false;
    }
    let unwanted = walk.skip.min(walk.memory.left);
    walk.skip -= unwanted;
    walk.memory.advance(unwanted);
    let tail = CALL_TAIL as u64;
    if walk.pieces == 0 && walk.left > tail {
        let unwanted = (walk.left - tail).min(walk.memory.left);
        walk.memory.advance(unwanted);
        walk.left -= unwanted;
        hole(header, unwanted);
    }
    let size = walk.left.min(walk.memory.left).min(PIECE as u64);
    if size > 0 {
        header.length = size as u32;
        walk.captured += piece(header, &walk.memory, size);
        header.position = header.position.wrapping_add(size as u32);
        walk.memory.advance(size);
        walk.left -= size;
        if size == PIECE as u64 {
            walk.pieces = walk.pieces.saturating_sub(1);
        }
    }
    true
}

/// Tells of `length` bytes that are not handed over.
#[inline(always)]
fn hole(header: &mut DataEvent, length: u64) {
    header.length = length as u32;
    if !event(header) {
        count(counter::LOST_BYTES, length);
    }
    header.position = header.position.wrapping_add(length as u32);
}

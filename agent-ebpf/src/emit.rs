//! Events into the ring buffer.

use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::helpers::bpf_probe_read_user_buf;
use redwire_common::{CALL_BUFFERS, CALL_PIECES, DataEvent, PIECE, counter, kind};

use crate::maps::{EVENTS, SCRATCH, count, setting};

const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;
const BPF_RB_AVAIL_DATA: u64 = 0;

/// Where an event is put together.
#[repr(C)]
pub struct Scratch {
    header: DataEvent,
    bytes: [u8; PIECE],
    walk: Walk,
}

/// How far a call is handed over. In a map and not in registers, so that the verifier sees the same state in each
/// turn of the loop.
#[repr(C)]
#[derive(Clone, Copy)]
struct Walk {
    buffers: Buffers,
    /// Bytes at the front that are not wanted.
    skip: u64,
    /// Bytes still to hand over.
    left: u64,
    captured: u64,
    /// Full pieces handed over.
    pieces: u64,
}

const HEADER: usize = size_of::<DataEvent>();

/// The memory of a call: one buffer, or a vector of them.
#[derive(Clone, Copy)]
pub struct Buffers {
    /// Next byte of the buffer at hand.
    pub base: u64,
    /// Bytes left in it.
    pub left: u64,
    /// Next `struct iovec`.
    pub vector: u64,
    /// How many are left.
    pub count: u64,
}

impl Buffers {
    #[inline(always)]
    pub fn one(base: u64, length: u64) -> Buffers {
        Buffers {
            base,
            left: length,
            vector: 0,
            count: 0,
        }
    }

    #[inline(always)]
    pub fn vector(vector: u64, count: u64) -> Buffers {
        Buffers {
            base: 0,
            left: 0,
            vector,
            count,
        }
    }

    #[inline(always)]
    pub fn none() -> Buffers {
        Buffers::one(0, 0)
    }
}

/// Writes an event that must not be late or has no payload; the reader is woken.
#[inline(always)]
pub fn event<T>(event: &T) -> bool {
    let bytes = unsafe { core::slice::from_raw_parts((&raw const *event).cast::<u8>(), size_of::<T>()) };
    let written = EVENTS.output::<[u8]>(bytes, wake()).is_ok();
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

/// Wake-ups are batched: the reader looks by itself every few milliseconds, and is woken when much waits.
#[inline(always)]
fn wake() -> u64 {
    if EVENTS.query(BPF_RB_AVAIL_DATA) >= u64::from(setting!(wake_at)) {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    }
}

/// Size of an event that is written in place, its header included: most requests and many answers fit.
const SMALL: usize = 512;

/// Hands over a call of one small buffer. `None` where it is none.
#[inline(always)]
fn small(header: &DataEvent, buffers: &mut Buffers) -> Option<u64> {
    if buffers.left == 0 && buffers.count > 0 {
        let iovec = unsafe { bpf_probe_read_user(buffers.vector as *const [u64; 2]) }.ok()?;
        *buffers = Buffers {
            base: iovec[0],
            left: iovec[1],
            vector: buffers.vector + 16,
            count: buffers.count - 1,
        };
    }
    let length = header.length as usize;
    if length == 0 || length > SMALL - HEADER || buffers.left < length as u64 {
        return None;
    }
    let Some(mut record) = EVENTS.reserve::<[u64; SMALL / 8]>(0) else {
        count(counter::LOST_EVENTS, 1);
        count(counter::LOST_BYTES, length as u64);
        return Some(0);
    };
    let base = record.as_mut_ptr().cast::<u8>();
    let bytes = unsafe { core::slice::from_raw_parts_mut(base.add(HEADER), length) };
    let read = unsafe { bpf_probe_read_user_buf(buffers.base as *const u8, bytes) }.is_ok();
    let captured = if read { length as u32 } else { 0 };
    unsafe { base.cast::<DataEvent>().write(DataEvent { captured, ..*header }) };
    record.submit(wake());
    Some(u64::from(captured))
}

/// Hands `header.length` bytes of a call to user space in pieces, without the first `skip`, which `header` does not
/// cover. Returns how many bytes of payload it handed over.
#[inline(never)]
pub fn data(header: &DataEvent, buffers: &Buffers, skip: u64) -> u64 {
    let mut buffers = *buffers;
    if skip == 0
        && let Some(captured) = small(header, &mut buffers)
    {
        return captured;
    }
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else {
        return 0;
    };
    let scratch = unsafe { &mut *scratch };
    scratch.header = *header;
    let walk = Walk {
        buffers,
        skip,
        left: u64::from(header.length),
        captured: 0,
        pieces: 0,
    };
    unsafe { (&raw mut scratch.walk).write_volatile(walk) };
    for _ in 0..CALL_BUFFERS + CALL_PIECES {
        if !piece(scratch) {
            break;
        }
    }
    let walk = unsafe { (&raw const scratch.walk).read_volatile() };
    if walk.left > 0 || header.length == 0 {
        scratch.header.length = walk.left as u32;
        scratch.header.captured = 0;
        output(scratch, 0, walk.left);
    }
    walk.captured
}

/// Takes one step: the next buffer, or the next piece of one. `false` where nothing more can be handed over.
#[inline(always)]
fn piece(scratch: &mut Scratch) -> bool {
    let mut walk = unsafe { (&raw const scratch.walk).read_volatile() };
    if walk.left == 0 || walk.pieces >= CALL_PIECES as u64 {
        return false;
    }
    if walk.buffers.left == 0 {
        if walk.buffers.count == 0 {
            return false;
        }
        let Ok(iovec) = (unsafe { bpf_probe_read_user(walk.buffers.vector as *const [u64; 2]) }) else {
            return false;
        };
        walk.buffers.vector += 16;
        walk.buffers.count -= 1;
        [walk.buffers.base, walk.buffers.left] = iovec;
    }
    let skip = if walk.skip < walk.buffers.left {
        walk.skip
    } else {
        walk.buffers.left
    };
    walk.skip -= skip;
    walk.buffers.base += skip;
    walk.buffers.left -= skip;
    let n = if walk.left < walk.buffers.left {
        walk.left
    } else {
        walk.buffers.left
    };
    let size = if n > PIECE as u64 { PIECE } else { n as usize };
    if size > 0 && size <= PIECE {
        let bytes = unsafe { scratch.bytes.get_unchecked_mut(..size) };
        if unsafe { bpf_probe_read_user_buf(walk.buffers.base as *const u8, bytes) }.is_err() {
            return false;
        }
        scratch.header.length = size as u32;
        scratch.header.captured = size as u32;
        if output(scratch, size, size as u64) {
            walk.captured += size as u64;
        }
        scratch.header.position = scratch.header.position.wrapping_add(size as u32);
        walk.buffers.base += size as u64;
        walk.buffers.left -= size as u64;
        walk.left -= size as u64;
        // Small buffers of a vector cost an event each, but only full pieces count towards the limit in bytes.
        walk.pieces += u64::from(size == PIECE);
    }
    unsafe { (&raw mut scratch.walk).write_volatile(walk) };
    true
}

/// Writes the header and `size` bytes behind it; what does not get through is counted as `length` bytes.
#[inline(always)]
fn output(scratch: &Scratch, size: usize, length: u64) -> bool {
    let record = unsafe { core::slice::from_raw_parts((&raw const *scratch).cast::<u8>(), HEADER + size) };
    let written = EVENTS.output::<[u8]>(record, wake()).is_ok();
    if !written {
        count(counter::LOST_EVENTS, 1);
        count(counter::LOST_BYTES, length);
    }
    written
}

/// The header of [`kind::DATA`] for a whole call.
#[inline(always)]
pub fn header(ids: (u32, u32), sock: u64, time: u64, position: u32, length: u32, direction: u8) -> DataEvent {
    DataEvent {
        kind: kind::DATA,
        tgid: ids.1,
        sock,
        time,
        position,
        length,
        captured: 0,
        tid: ids.0,
        direction,
        padding: [0; 7],
    }
}

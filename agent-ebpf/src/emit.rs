//! Events into the ring buffer.

use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::helpers::bpf_probe_read_user_buf;
use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use redwire_common::{CALL_BUFFERS, CALL_PIECES, CALL_TAIL, DataEvent, PIECE, SCARCE_PIECES, counter, kind};

use crate::maps::{EVENTS, UNANNOUNCED, count, setting};

const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;
const BPF_RB_AVAIL_DATA: u64 = 0;

/// Where an event is put together.
#[repr(C)]
pub struct Scratch {
    header: DataEvent,
    /// One piece; twice as long for the verifier, which adds the bounds of offset and length.
    bytes: [u8; 2 * PIECE],
    walk: Walk,
}

#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// How far a call is handed over. In a map and not in registers, so that the verifier sees the same state in each
/// turn of the loop.
#[repr(C)]
#[derive(Clone, Copy)]
struct Walk {
    buffers: Buffers,
    /// Bytes at the front that are not wanted.
    skip: u64,
    /// Bytes of the call behind those in `bytes`.
    left: u64,
    /// Bytes in `bytes`.
    filled: u64,
    captured: u64,
    /// Full pieces that may still be handed over.
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
        // What is of no account is not cleared: two zeros in a row are a loop of the compiler's.
        Buffers {
            base,
            left: length,
            vector: base,
            count: 0,
        }
    }

    #[inline(always)]
    pub fn vector(vector: u64, count: u64) -> Buffers {
        Buffers {
            base: vector,
            left: 0,
            vector,
            count,
        }
    }

    #[inline(always)]
    pub fn none() -> Buffers {
        Buffers::one(0, 0)
    }

    /// Goes on to the next buffer where the one at hand is used up. `false` where there is none, or none to be read.
    #[inline(always)]
    pub fn refill(&mut self) -> bool {
        if self.left > 0 {
            return true;
        }
        if self.count == 0 {
            return false;
        }
        let Ok(iovec) = (unsafe { bpf_probe_read_user(self.vector as *const [u64; 2]) }) else {
            return false;
        };
        self.vector += 16;
        self.count -= 1;
        [self.base, self.left] = iovec;
        true
    }

    /// Passes `n` bytes of the buffer at hand.
    #[inline(always)]
    pub fn advance(&mut self, n: u64) {
        self.base += n;
        self.left -= n;
    }
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

/// The largest event that is written in place, its header included: most requests and many answers fit.
const IN_PLACE: usize = 2048;

/// Hands over a call of one small buffer. `None` where it is none.
#[inline(always)]
fn small(header: &DataEvent, buffers: &mut Buffers) -> Option<u64> {
    let length = header.length as usize;
    if length == 0 || length > IN_PLACE - HEADER {
        return None;
    }
    if !buffers.refill() || buffers.left < length as u64 {
        return None;
    }
    // The size of a reservation has to be known to the verifier. What is not written costs room alone.
    Some(match length + HEADER {
        ..=192 => in_place::<[u64; 192 / 8]>(header, buffers.base, length),
        ..=384 => in_place::<[u64; 384 / 8]>(header, buffers.base, length),
        ..=768 => in_place::<[u64; 768 / 8]>(header, buffers.base, length),
        _ => in_place::<[u64; IN_PLACE / 8]>(header, buffers.base, length),
    })
}

/// Reserves an event of the size of `T` and reads `length` bytes at `base` into it.
#[inline(always)]
fn in_place<T: 'static>(header: &DataEvent, base: u64, length: usize) -> u64 {
    let wake = wake(size_of::<T>());
    let Some(mut record) = EVENTS.reserve::<T>(0) else {
        count(counter::LOST_EVENTS, 1);
        count(counter::LOST_BYTES, length as u64);
        return 0;
    };
    if length > size_of::<T>() - HEADER {
        record.discard(BPF_RB_NO_WAKEUP);
        return 0;
    }
    let event = record.as_mut_ptr().cast::<u8>();
    let bytes = unsafe { core::slice::from_raw_parts_mut(event.add(HEADER), length) };
    let read = unsafe { bpf_probe_read_user_buf(base as *const u8, bytes) }.is_ok();
    let captured = if read { length as u32 } else { 0 };
    unsafe { event.cast::<DataEvent>().write(DataEvent { captured, ..*header }) };
    record.submit(wake);
    u64::from(captured)
}

/// Tells user space of `header.length` bytes that went, without handing them over.
#[inline(never)]
pub fn length(header: &DataEvent) -> bool {
    event(header)
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
        filled: 0,
        captured: 0,
        pieces: pieces() as u64,
    };
    unsafe { (&raw mut scratch.walk).write_volatile(walk) };
    for _ in 0..CALL_BUFFERS + CALL_PIECES {
        if redwire_step() == 0 {
            break;
        }
    }
    let mut walk = unsafe { (&raw const scratch.walk).read_volatile() };
    flush(scratch, &mut walk);
    if walk.left > 0 || header.length == 0 {
        scratch.header.length = walk.left as u32;
        scratch.header.captured = 0;
        output(scratch, 0, walk.left);
    }
    walk.captured
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

/// [`step`] as a global function: those are verified once, not once a turn of the loop that calls them
/// (Linux 5.6, kernel/bpf/verifier.c, `do_check_subprogs`).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn redwire_step() -> u64 {
    match SCRATCH.get_ptr_mut(0) {
        Some(scratch) => u64::from(step(unsafe { &mut *scratch })),
        None => 0,
    }
}

/// Takes one step: the next buffer, or the next piece of one. `false` where nothing more can be handed over.
#[inline(always)]
fn step(scratch: &mut Scratch) -> bool {
    let mut walk = unsafe { (&raw const scratch.walk).read_volatile() };
    if walk.left == 0 {
        return false;
    }
    if !walk.buffers.refill() {
        return false;
    }
    let unwanted = walk.skip.min(walk.buffers.left);
    walk.skip -= unwanted;
    walk.buffers.advance(unwanted);
    let tail = CALL_TAIL as u64;
    if walk.pieces == 0 && walk.left > tail {
        flush(scratch, &mut walk);
        let hole = (walk.left - tail).min(walk.buffers.left);
        walk.buffers.advance(hole);
        walk.left -= hole;
        scratch.header.position = scratch.header.position.wrapping_add(hole as u32);
    }
    let at = walk.filled as usize;
    let room = PIECE as u64 - walk.filled;
    let size = walk.left.min(walk.buffers.left).min(room) as usize;
    if size > 0 && size <= PIECE && at < PIECE {
        let bytes = unsafe { scratch.bytes.get_unchecked_mut(at..at + size) };
        if unsafe { bpf_probe_read_user_buf(walk.buffers.base as *const u8, bytes) }.is_err() {
            return false;
        }
        walk.buffers.advance(size as u64);
        walk.left -= size as u64;
        walk.filled += size as u64;
    }
    if walk.filled >= PIECE as u64 {
        walk.pieces = walk.pieces.saturating_sub(1);
        flush(scratch, &mut walk);
    }
    unsafe { (&raw mut scratch.walk).write_volatile(walk) };
    true
}

/// Hands over what is in `bytes`.
#[inline(always)]
fn flush(scratch: &mut Scratch, walk: &mut Walk) {
    let size = walk.filled as usize;
    if size == 0 || size > PIECE {
        return;
    }
    scratch.header.length = size as u32;
    scratch.header.captured = size as u32;
    if output(scratch, size, size as u64) {
        walk.captured += size as u64;
    }
    scratch.header.position = scratch.header.position.wrapping_add(size as u32);
    walk.filled = 0;
}

/// Writes the header and `size` bytes behind it; what does not get through is counted as `length` bytes.
#[inline(always)]
fn output(scratch: &Scratch, size: usize, length: u64) -> bool {
    let record = unsafe { core::slice::from_raw_parts((&raw const *scratch).cast::<u8>(), HEADER + size) };
    let written = EVENTS.output::<[u8]>(record, wake(HEADER + size)).is_ok();
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
        direction: u32::from(direction),
        padding: 0,
    }
}

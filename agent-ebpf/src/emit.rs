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
        Buffers { base, left: length, vector: 0, count: 0 }
    }

    #[inline(always)]
    pub fn vector(vector: u64, count: u64) -> Buffers {
        Buffers { base: 0, left: 0, vector, count }
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

/// Hands `header.length` bytes of a call to user space in pieces, without the first `skip`, which `header` does not
/// cover. Returns how many bytes of payload it handed over.
#[inline(never)]
pub fn data(header: &DataEvent, buffers: &Buffers, skip: u64) -> u64 {
    let Some(scratch) = SCRATCH.get_ptr_mut(0) else { return 0 };
    let scratch = unsafe { &mut *scratch };
    scratch.header = *header;
    let mut buffers = *buffers;
    let mut skip = skip;
    let mut left = u64::from(header.length);
    let mut captured = 0;
    let mut pieces = 0;
    for _ in 0..CALL_BUFFERS + CALL_PIECES {
        if left == 0 || pieces == CALL_PIECES {
            break;
        }
        if buffers.left == 0 {
            if buffers.count == 0 {
                break;
            }
            let Ok(iovec) = (unsafe { bpf_probe_read_user(buffers.vector as *const [u64; 2]) }) else { break };
            buffers.vector += 16;
            buffers.count -= 1;
            buffers.base = iovec[0];
            buffers.left = iovec[1];
        }
        if skip > 0 {
            let n = if skip < buffers.left { skip } else { buffers.left };
            skip -= n;
            buffers.base += n;
            buffers.left -= n;
            continue;
        }
        let mut n = if left < buffers.left { left } else { buffers.left };
        if n > PIECE as u64 {
            n = PIECE as u64;
        }
        if n == 0 {
            continue;
        }
        let size = n as usize;
        // The verifier must see the bound on the register that is used.
        if size > PIECE {
            break;
        }
        let bytes = unsafe { scratch.bytes.get_unchecked_mut(..size) };
        if unsafe { bpf_probe_read_user_buf(buffers.base as *const u8, bytes) }.is_err() {
            break;
        }
        scratch.header.length = size as u32;
        scratch.header.captured = size as u32;
        let record = unsafe { core::slice::from_raw_parts((&raw const *scratch).cast::<u8>(), HEADER + size) };
        if EVENTS.output::<[u8]>(record, wake()).is_err() {
            count(counter::LOST_EVENTS, 1);
            count(counter::LOST_BYTES, n);
        } else {
            captured += n;
        }
        scratch.header.position = scratch.header.position.wrapping_add(size as u32);
        buffers.base += n;
        buffers.left -= n;
        left -= n;
        // Small buffers of a vector cost an event each, but only full pieces count towards the limit in bytes.
        pieces += (size == PIECE) as usize;
    }
    if left > 0 || header.length == 0 {
        scratch.header.length = left as u32;
        scratch.header.captured = 0;
        let record = unsafe { core::slice::from_raw_parts((&raw const *scratch).cast::<u8>(), HEADER) };
        if EVENTS.output::<[u8]>(record, wake()).is_err() {
            count(counter::LOST_EVENTS, 1);
            count(counter::LOST_BYTES, left);
        }
    }
    captured
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

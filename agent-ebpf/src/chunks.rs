//! Bodies in chunks (RFC 9112 § 7.1): their content is passed by, from the line with one chunk's size to the next.
//!
//! User space tells where a line is once it has read the chunk before, when the stream is further already. So the place
//! is sought where a line would be if chunks went on at the same length, and has to hold that very line. A wrong place
//! makes no false transaction: user space reads line by line itself, and finds a hole where it expects one.

use redwire_common::{
    CALL_STEPS, CHUNK_WINDOW, DataEvent, EGRESS, NotNeeded, counter, need, not_needed_slot,
};

use crate::emit::{bounded, wake};
use crate::maps::{EVENTS, NOT_NEEDED, count};
use crate::memory::Memory;
use crate::scratch::{self, Slot};

/// Chunks of one call that are passed by; what lies behind them is captured as ever.
const CHUNKS: usize = 32;

/// Digits of a chunk's size that are read.
const DIGITS: usize = 7;

/// What of the chunk before a line is captured with it: its last byte, whose time is needed, and CR LF.
const BEFORE: u32 = 3;

/// Room for the window; longer for the verifier, which adds the bounds of offset and length.
pub type Bytes = [u8; 4 * CHUNK_WINDOW];

/// Where the window is read. In a map and not in registers (see `scratch`).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Window {
    memory: Memory,
    /// Bytes to pass before the window.
    skip: u64,
    /// Bytes of the window, and those that are there.
    wanted: u64,
    filled: u64,
}

/// How far a call is passed by.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Walk {
    /// Where the call begins, and its bytes.
    position: u32,
    length: u32,
    stride: u32,
    /// Offset in the call of the next line.
    line: u32,
    /// 1: there is one, or was one before.
    certain: u32,
    /// Bytes before this offset are done with. How many of them were handed over.
    at: u32,
    captured: u32,
    /// Those that the ring buffer had no room for.
    lost: u32,
    /// 1: what follows is no chunk that can be passed by.
    over: u32,
}

/// Hands over the lines of chunks in a slot's call. Returns how many bytes of it are done with by that; the rest is
/// needed. A global function (see `scratch`).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn redwire_pass(slot: u32) -> u64 {
    let Some(state) = scratch::slot(slot) else {
        return 0;
    };
    let Some(known) = NOT_NEEDED.get_ptr_mut(not_needed_slot(state.socket.sock)) else {
        return 0;
    };
    u64::from(pass(slot, state, unsafe { &mut *known }))
}

#[inline(always)]
fn pass(slot: u32, state: *mut Slot, known: &mut NotNeeded) -> u32 {
    let state = unsafe { &mut *state };
    let header = &state.header;
    let way = if header.direction == u32::from(EGRESS) {
        0
    } else {
        1
    };
    let stride = known.stride[way];
    let mut line = known.until[way].wrapping_sub(header.position);
    let certain = line as i32 >= 0;
    if !certain {
        if stride == 0 {
            return 0;
        }
        let behind = line.wrapping_neg();
        line = behind.div_ceil(stride) * stride - behind;
        if line >= header.length {
            return 0;
        }
    }
    state.window = Window {
        memory: state.transfer.memory,
        skip: state.transfer.skip,
        wanted: 0,
        filled: 0,
    };
    state.chunks = Walk {
        position: header.position,
        length: header.length,
        stride,
        line,
        certain: u32::from(certain),
        at: 0,
        captured: 0,
        lost: 0,
        over: 0,
    };
    for _ in 0..CHUNKS {
        if redwire_chunk(slot) == 0 {
            break;
        }
    }
    let walk = &state.chunks;
    if walk.certain == 0 {
        return 0;
    }
    known.until[way] = header.position.wrapping_add(walk.line);
    let mut passed = walk.at;
    // More chunks in a call than are passed by are none, either.
    if walk.over != 0 || walk.line < walk.length {
        known.state[way] = need::ALL;
    } else {
        passed = walk.length;
    }
    count(counter::CAPTURED_BYTES, u64::from(walk.captured));
    count(counter::UNCAPTURED_BYTES, u64::from(walk.lost));
    let unneeded = passed.wrapping_sub(walk.captured).wrapping_sub(walk.lost);
    count(counter::UNNEEDED_BYTES, u64::from(unneeded));
    passed
}

/// [`chunk`] as a global function (see `scratch`).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn redwire_chunk(slot: u32) -> u64 {
    match scratch::slot(slot) {
        Some(state) => u64::from(chunk(slot, state)),
        None => 0,
    }
}

/// Hands over the next line. `false` where there is none in this call.
#[inline(always)]
fn chunk(slot: u32, state: *mut Slot) -> bool {
    let state = unsafe { &mut *state };
    let walk = &mut state.chunks;
    let from = walk.line.saturating_sub(BEFORE);
    if from >= walk.length {
        return false;
    }
    // A chunk so short that its line lies in the window before.
    walk.over = 1;
    if from >= walk.at {
        let wanted = (walk.length - from).min(CHUNK_WINDOW as u32);
        state.window.skip += u64::from(from - walk.at);
        state.window.wanted = u64::from(wanted);
        state.window.filled = 0;
        if redwire_window(slot) == u64::from(wanted) {
            let next = if walk.line >= walk.length {
                0
            } else {
                next(&state.window_bytes, walk.line - from, wanted)
            };
            let fits = walk.line >= walk.length || next > 0 && (walk.certain != 0 || next == walk.stride);
            if fits {
                walk.over = 0;
                walk.certain = 1;
                let position = walk.position.wrapping_add(from);
                if output(&state.header, &state.window_bytes, position, wanted) {
                    walk.captured += wanted;
                } else {
                    walk.lost += wanted;
                }
                walk.at = from + wanted;
                walk.line += next;
            } else {
                walk.at = from;
            }
        }
    }
    walk.over == 0 && walk.line < walk.length + BEFORE && walk.at < walk.length
}

/// Bytes from the line at `at` to the next one; 0 for the last chunk, or none.
#[inline(always)]
fn next(window: &Bytes, at: u32, length: u32) -> u32 {
    match size(window, at, length) {
        Some((digits, size)) if size > 0 => digits + 2 + size + 2,
        _ => 0,
    }
}

/// Reads the window. Returns how many bytes there are. A global function (see `scratch`).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn redwire_window(slot: u32) -> u64 {
    for _ in 0..CALL_STEPS {
        if redwire_gather(slot) == 0 {
            break;
        }
    }
    scratch::slot(slot).map_or(0, |state| state.window.filled)
}

/// [`step`] as a global function (see `scratch`).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn redwire_gather(slot: u32) -> u64 {
    match scratch::slot(slot) {
        Some(slot) => u64::from(step(slot)),
        None => 0,
    }
}

/// The next buffer, or the next piece of the window. `false` where it is full, or nothing is left.
#[inline(always)]
fn step(state: &mut Slot) -> bool {
    let window = &mut state.window;
    if window.filled >= window.wanted {
        return false;
    }
    if !window.memory.refill() {
        return false;
    }
    let unwanted = window.skip.min(window.memory.left);
    window.skip -= unwanted;
    window.memory.advance(unwanted);
    const MASK: i32 = 2 * CHUNK_WINDOW as i32 - 1;
    let at = bounded::<{ MASK >> 1 }>(window.filled) as usize;
    let size = (window.wanted - window.filled).min(window.memory.left);
    if size <= CHUNK_WINDOW as u64 {
        let to = unsafe { (&raw mut state.window_bytes).cast::<u8>().add(at) };
        if !unsafe { window.memory.read(to, bounded::<MASK>(size)) } {
            return false;
        }
        window.memory.advance(size);
        window.filled += size;
    }
    true
}

/// The size of a chunk in the line at `at`, and its number of digits. A line with extensions is none here.
#[inline(always)]
fn size(window: &Bytes, at: u32, length: u32) -> Option<(u32, u32)> {
    let mut size = 0u32;
    for digits in 0..=DIGITS as u32 {
        let place = u64::from(at + digits);
        if place + 1 >= u64::from(length) {
            return None;
        }
        const MASK: i32 = 2 * CHUNK_WINDOW as i32 - 1;
        let place = (&raw const *window)
            .cast::<u8>()
            .wrapping_add(bounded::<MASK>(place) as usize);
        let [byte, next] = unsafe { place.cast::<[u8; 2]>().read_unaligned() };
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if digits > 0 && next == b'\n' => return Some((digits, size)),
            _ => return None,
        };
        size = size << 4 | u32::from(digit);
    }
    None
}

/// The window as an event.
#[repr(C)]
struct Line {
    header: DataEvent,
    bytes: [u8; CHUNK_WINDOW],
}

/// Hands over the window, which begins at `position`.
#[inline(always)]
fn output(header: &DataEvent, window: &Bytes, position: u32, length: u32) -> bool {
    let Some(mut record) = EVENTS.reserve::<Line>(0) else {
        count(counter::LOST_EVENTS, 1);
        count(counter::LOST_BYTES, u64::from(length));
        return false;
    };
    let line = Line {
        header: DataEvent {
            position,
            length,
            captured: length,
            ..*header
        },
        bytes: *window.first_chunk().unwrap_or(&[0; CHUNK_WINDOW]),
    };
    record.write(line);
    record.submit(wake(size_of::<Line>()));
    true
}

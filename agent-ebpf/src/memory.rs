//! The memory that a call reads from or writes to: one buffer, a vector of them, or pages.

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user};
use aya_ebpf::helpers::{bpf_probe_read_kernel as read_kernel, bpf_probe_read_user as read_user};
use core::ffi::c_void;

use crate::connection::Transfer;
use crate::kernel;
use crate::maps::{count, offset, setting};
use crate::scratch::{self, Slot};
use redwire_common::counter;

/// The vector is an array of `struct iovec` in the memory of the process.
const USER_VECTOR: u64 = 0;
/// It is one in the memory of the kernel, which has copied it.
const KERNEL_VECTOR: u64 = 1;
/// It is an array of `struct bio_vec`, in the memory of the kernel as are the pages.
const PAGES: u64 = 2;

/// Bytes of a `struct iovec` and of a `struct bio_vec`.
const ELEMENT: u64 = 16;

/// Elements of a vector in the kernel: as many as there are bytes.
const UNCOUNTED: u64 = u64::MAX;

/// A place in the memory of a call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Memory {
    /// Next byte of the buffer at hand.
    pub base: u64,
    /// Bytes left in it.
    pub left: u64,
    /// Next element of the vector.
    vector: u64,
    /// How many are left.
    count: u64,
    kind: u64,
}

impl Memory {
    #[inline(always)]
    pub fn one(base: u64, length: u64) -> Memory {
        // What is of no account is not cleared: two zeros in a row are a loop of the compiler's.
        Memory {
            base,
            left: length,
            vector: base,
            count: 0,
            kind: USER_VECTOR,
        }
    }

    /// `count` elements of `struct iovec` in the memory of the process.
    #[inline(always)]
    pub fn vector(vector: u64, count: u64) -> Memory {
        Memory {
            base: vector,
            left: 0,
            vector,
            count,
            kind: USER_VECTOR,
        }
    }

    #[inline(always)]
    pub fn none() -> Memory {
        Memory::one(0, 0)
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
        let element = self.vector as *const [u64; 2];
        let element = if self.kind == USER_VECTOR {
            unsafe { read_user(element) }
        } else {
            unsafe { read_kernel(element) }
        };
        let Ok([base, left]) = element else {
            return false;
        };
        self.vector += ELEMENT;
        self.count -= 1;
        if self.kind == PAGES {
            // `bv_len` and `bv_offset` are halves of the second word.
            let Some(page) = page_address(base) else {
                return false;
            };
            self.base = page + (left >> 32);
            self.left = left & 0xffff_ffff;
        } else {
            self.base = base;
            self.left = left;
        }
        true
    }

    /// Passes `n` bytes of the buffer at hand.
    #[inline(always)]
    pub fn advance(&mut self, n: u64) {
        self.base += n;
        self.left -= n;
    }

    /// Copies `size` bytes of the buffer at hand.
    #[inline(always)]
    pub unsafe fn read(&self, to: *mut u8, size: u64) -> bool {
        let (to, from) = (to.cast::<c_void>(), self.base as *const c_void);
        if self.kind == PAGES {
            unsafe { bpf_probe_read_kernel(to, size as u32, from) == 0 }
        } else {
            unsafe { bpf_probe_read_user(to, size as u32, from) == 0 }
        }
    }
}

/// Where the kernel has the memory of a `struct page`: the direct map (Documentation/arch/x86/x86_64/mm.rst).
#[inline(always)]
fn page_address(page: u64) -> Option<u64> {
    let (vmemmap, direct_map) = (setting!(vmemmap_base), setting!(page_offset_base));
    if vmemmap == 0 || direct_map == 0 {
        return None;
    }
    let first: u64 = kernel::read(vmemmap, 0)?;
    let map: u64 = kernel::read(direct_map, 0)?;
    let number = page
        .wrapping_sub(first)
        .checked_div(setting!(page_struct).into())?;
    Some(map.wrapping_add(number << 12))
}

/// Turns of the walk back through a vector: UIO_MAXIOV (include/uapi/linux/uio.h).
const VECTOR: usize = 1_024;

/// Sets a slot's transfer to the memory of its bytes, which are the last that passed through the `struct iov_iter` of
/// a `struct msghdr`. None where it is not known, which is counted when they are missing.
///
/// The iterator stands behind those bytes when the call is over, and the array that it walks over is still there.
#[inline(always)]
pub fn passed(slot: u32, transfer: *mut Transfer, message: u64) {
    let transfer = unsafe { &mut *transfer };
    // Through the map: a trampoline's argument is a pointer to the verifier, which no global function takes.
    transfer.memory.vector = message;
    if redwire_passed(slot) == 0 {
        transfer.memory = Memory::none();
        transfer.skip = 0;
    }
}

/// 0 where the memory is not known. A global function (see `scratch`).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn redwire_passed(slot: u32) -> u64 {
    let found = scratch::slot(slot).and_then(|state| walk_back(slot, state));
    u64::from(found.is_some())
}

#[inline(always)]
fn walk_back(slot: u32, state: *mut Slot) -> Option<()> {
    let state = unsafe { &mut *state };
    let message = state.transfer.memory.vector;
    let iterator = message.wrapping_add(offset!(msghdr_msg_iter) as u64);
    let length = u64::from(state.transfer.length);
    let kind: u32 = kernel::read::<u8>(iterator, offset!(iov_iter_type))?.into();
    let kind = kind & setting!(iter_mask);
    let at: u64 = kernel::read(iterator, offset!(iov_iter_iov_offset))?;
    let vector: u64 = kernel::read(iterator, offset!(iov_iter_iov))?;
    state.transfer.skip = 0;
    if kind == setting!(iter_ubuf) {
        state.transfer.memory = Memory::one(vector.wrapping_add(at).wrapping_sub(length), length);
        return Some(());
    }
    let memory = &mut state.transfer.memory;
    memory.kind = if kind == setting!(iter_iovec) {
        KERNEL_VECTOR
    } else if kind == setting!(iter_bvec) {
        PAGES
    } else {
        return None;
    };
    memory.left = 0;
    memory.count = UNCOUNTED;
    memory.vector = vector;
    if at >= length {
        state.transfer.skip = at - length;
        return Some(());
    }
    state.transfer.skip = length - at;
    for _ in 0..VECTOR {
        if redwire_back(slot) == 0 {
            break;
        }
    }
    // The walk has found the first byte, or else has met memory that cannot be read.
    (state.transfer.memory.left != 0).then(|| state.transfer.memory.left = 0)
}

/// One element back; a global function (see `scratch`). 0 where the walk is over.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn redwire_back(slot: u32) -> u64 {
    match scratch::slot(slot) {
        Some(slot) => u64::from(back(slot)),
        None => 0,
    }
}

/// Bytes of the call that lie before `vector` are in `skip` up to there; then it is what of the element found does not
/// belong to the call, and `left` tells so.
#[inline(always)]
fn back(state: &mut Slot) -> bool {
    let Transfer { memory, skip, .. } = &mut state.transfer;
    memory.vector = memory.vector.wrapping_sub(ELEMENT);
    let Some([_, length]) = kernel::read::<[u64; 2]>(memory.vector, 0) else {
        return false;
    };
    let length = if memory.kind == PAGES {
        length & 0xffff_ffff
    } else {
        length
    };
    if length >= *skip {
        *skip = length - *skip;
        memory.left = 1;
        return false;
    }
    *skip -= length;
    true
}

/// Adds up `msg_len` of `count` messages of sendmmsg(2) or recvmmsg(2): each a `struct mmsghdr` of 64 bytes whose
/// length is at 56. A global function (see `scratch`).
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn redwire_lengths(messages: u64, count_of: u64) -> u64 {
    let mut sum = 0u64;
    for i in 0..VECTOR as u64 {
        if i >= count_of {
            break;
        }
        let length = messages.wrapping_add(i * 64 + 56) as *const u32;
        match unsafe { read_user(length) } {
            Ok(length) => sum += u64::from(length),
            Err(_) => count(counter::UNPLACED_CALLS, 1),
        }
    }
    sum
}

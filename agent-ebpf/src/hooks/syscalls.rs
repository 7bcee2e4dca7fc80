//! Raw tracepoints `sys_enter` and `sys_exit`: backend `tracepoint`.
//!
//! Calls are told at their exit, where their arguments are still in `pt_regs`. At their entry only the time is
//! noted, and only of those that write: a response begins when its write is called, a request has come when its read
//! returns. close(2) is looked at when its descriptor is still there.

use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use redwire_common::{EGRESS, INGRESS, opener};

use super::arch::{Call, number};
use crate::calls::{MSG_PEEK, MSG_TRUNC};
use crate::connection::{self, Transfer};
use crate::emit::ids;
use crate::kernel;
use crate::maps::CONNECTIONS;
use crate::memory::{Memory, redwire_lengths};
use crate::scratch::{self, Slot, slots};
use crate::thread;

/// Messages of one sendmmsg(2) or recvmmsg(2) that are handed over; those behind are a hole of known length.
const MESSAGES: u64 = 4;

#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn redwire_enter(ctx: RawTracePointContext) -> i32 {
    let call: u64 = ctx.arg(1);
    if matches!(
        call,
        number::WRITE
            | number::SENDTO
            | number::SENDMSG
            | number::WRITEV
            | number::SENDFILE
            | number::SPLICE
            | number::SENDMMSG
            | number::PWRITEV2
    ) {
        if let Some(caller) = connection::caller(ids()) {
            thread::begin(caller.tid, call);
        }
    } else if call == number::CLOSE {
        let regs: *const u8 = ctx.arg(0);
        let _ = close(regs);
    }
    0
}

/// close(2) of the last reference.
#[inline(always)]
fn close(regs: *const u8) -> Option<()> {
    let caller = connection::caller(ids())?;
    let call = &mut scratch::slot(slots::CLOSE)?.call;
    call.read(regs)?;
    let socket = kernel::socket(call.arg(0))?;
    let connection = CONNECTIONS.get_ptr(&socket.sock)?;
    let connection = unsafe { &*connection };
    if Some(connection.inode) != kernel::inode(&socket) || !kernel::is_last_reference(socket.file) {
        return None;
    }
    connection::close(connection, socket.sock, caller.tgid);
    Some(())
}

#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn redwire_exit(ctx: RawTracePointContext) -> i32 {
    let result: i64 = ctx.arg(1);
    // Failed calls move no bytes.
    if result >= 0 {
        let _ = exit(ctx.arg(0), result as u64, slots::SYSCALL);
    }
    0
}

/// The twin of [`redwire_exit`] (see `scratch`), for bytes alone.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn redwire_exit_twin(ctx: RawTracePointContext) -> i32 {
    let result: i64 = ctx.arg(1);
    if result > 0 {
        let _ = exit(ctx.arg(0), result as u64, slots::SYSCALL + 1);
    }
    0
}

#[inline(always)]
fn exit(regs: *const u8, result: u64, slot: u32) -> Option<()> {
    let caller = connection::caller(ids())?;
    let state = scratch::slot(slot)?;
    state.caller = caller;
    state.call.read(regs)?;
    match state.call.number() {
        number::READ
        | number::READV
        | number::RECVFROM
        | number::RECVMSG
        | number::RECVMMSG
        | number::PREADV2 => redwire_received(slot, result),
        number::WRITE
        | number::WRITEV
        | number::SENDTO
        | number::SENDMSG
        | number::SENDMMSG
        | number::SENDFILE
        | number::PWRITEV2 => redwire_sent(slot, result),
        number::SPLICE => {
            redwire_sent(slot, result);
            redwire_received(slot, result)
        }
        _ if slot != slots::SYSCALL => return None,
        number::CONNECT => redwire_opening(slot, state.call.arg(0), opener::LOCAL.into()),
        number::ACCEPT | number::ACCEPT4 => redwire_opening(slot, result, opener::REMOTE.into()),
        number::SHUTDOWN => redwire_shutting(slot),
        _ => return None,
    };
    Some(())
}

/// connect(2) or accept(2) succeeded. A global function (see `scratch`), as are the following.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn redwire_opening(slot: u32, fd: u64, opener: u32) -> u64 {
    let Some((state, socket)) = scratch::slot(slot).zip(kernel::socket(fd)) else {
        return 0;
    };
    let caller = state.caller;
    connection::opened(slot, &caller, &socket, opener as u8, unsafe {
        bpf_ktime_get_ns()
    });
    1
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn redwire_shutting(slot: u32) -> u64 {
    let Some(state) = scratch::slot(slot) else {
        return 0;
    };
    if let Some(socket) = kernel::socket(state.call.arg(0)) {
        let time = unsafe { bpf_ktime_get_ns() };
        connection::shut_down(&state.caller, socket.sock, state.call.arg(1), time);
    }
    1
}

/// Where the bytes of a call lie; `None` for a call that moves none.
#[inline(always)]
fn memory(call: &Call, result: u64) -> Option<Memory> {
    Some(match call.number() {
        number::READ | number::WRITE | number::SENDTO => Memory::one(call.arg(1), result),
        number::RECVFROM => flagged(call.arg(3), Memory::one(call.arg(1), result))?,
        number::READV | number::WRITEV | number::PREADV2 | number::PWRITEV2 => {
            Memory::vector(call.arg(1), call.arg(2))
        }
        number::SENDMSG => message(call.arg(1))?,
        number::RECVMSG => flagged(call.arg(2), message(call.arg(1))?)?,
        _ => Memory::none(),
    })
}

/// Peeked bytes were not read; with MSG_TRUNC (tcp(7)) they were read and thrown away.
#[inline(always)]
fn flagged(flags: u64, memory: Memory) -> Option<Memory> {
    if flags & MSG_PEEK != 0 {
        None
    } else if flags & MSG_TRUNC != 0 {
        Some(Memory::none())
    } else {
        Some(memory)
    }
}

/// `msg_iov` and `msg_iovlen` of a `struct user_msghdr`.
#[inline(always)]
fn message(header: u64) -> Option<Memory> {
    let [vector, count]: [u64; 2] =
        unsafe { bpf_probe_read_user(header.wrapping_add(16) as *const [u64; 2]) }.ok()?;
    Some(Memory::vector(vector, count))
}

/// Sets a slot's transfer to a call's bytes.
#[inline(always)]
fn whole(transfer: &mut Transfer, direction: u8, time: u64, length: u64, memory: Memory) {
    transfer.direction = u32::from(direction);
    transfer.time = time;
    transfer.length = length as u32;
    transfer.behind = 0;
    transfer.memory = memory;
    transfer.skip = 0;
    transfer.exact = 0;
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn redwire_received(slot: u32, result: u64) -> u64 {
    scratch::slot(slot).map_or(0, |state| u64::from(received(slot, state, result).is_some()))
}

#[inline(always)]
fn received(slot: u32, state: *mut Slot, result: u64) -> Option<()> {
    let state = unsafe { &mut *state };
    let memory = memory(&state.call, result)?;
    state.socket = kernel::socket(state.call.arg(0))?;
    let time = unsafe { bpf_ktime_get_ns() };
    if result == 0 {
        connection::ended(&state.caller, state.socket.sock, INGRESS, time);
        return Some(());
    }
    whole(&mut state.transfer, INGRESS, time, result, memory);
    if state.call.number() == number::RECVMMSG {
        return messages(slot, &mut state.transfer, state.call.arg(1), result);
    }
    connection::redwire_transferred(slot);
    Some(())
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn redwire_sent(slot: u32, result: u64) -> u64 {
    scratch::slot(slot).map_or(0, |state| u64::from(sent(slot, state, result).is_some()))
}

#[inline(always)]
fn sent(slot: u32, state: *mut Slot, result: u64) -> Option<()> {
    let state = unsafe { &mut *state };
    if result == 0 {
        return None;
    }
    let call = &state.call;
    // splice(2) has the descriptor that it writes to in third place.
    let descriptor = if call.number() == number::SPLICE {
        call.arg(2)
    } else {
        call.arg(0)
    };
    state.socket = kernel::socket(descriptor)?;
    let time = thread::began(state.caller.tid, call.number());
    whole(&mut state.transfer, EGRESS, time, result, memory(call, result)?);
    if call.number() == number::SENDMMSG {
        return messages(slot, &mut state.transfer, call.arg(1), result);
    }
    connection::redwire_transferred(slot);
    Some(())
}

/// The messages of recvmmsg(2) and sendmmsg(2).
#[inline(always)]
fn messages(slot: u32, transfer: *mut Transfer, vector: u64, count: u64) -> Option<()> {
    let transfer = unsafe { &mut *transfer };
    transfer.behind = redwire_lengths(vector, count) as u32;
    for i in 0..MESSAGES {
        if i >= count {
            break;
        }
        let length = redwire_lengths(vector.wrapping_add(i * 64), 1) as u32;
        transfer.behind = transfer.behind.wrapping_sub(length);
        transfer.length = length;
        transfer.memory = message(vector.wrapping_add(i * 64))?;
        if length > 0 {
            connection::redwire_transferred(slot);
        }
    }
    if transfer.behind > 0 {
        transfer.length = transfer.behind;
        transfer.behind = 0;
        transfer.memory = Memory::none();
        connection::redwire_transferred(slot);
    }
    Some(())
}

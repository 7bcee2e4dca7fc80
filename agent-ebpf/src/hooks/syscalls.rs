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

use super::arch::{self, Call, number};
use crate::connection::{self, Caller, Transfer};
use crate::emit::ids;
use crate::kernel::{self, Socket};
use crate::maps::CONNECTIONS;
use crate::memory::{Memory, redwire_lengths};
use crate::scratch::slots;
use crate::thread;

pub const MSG_PEEK: u64 = 2;
pub const MSG_TRUNC: u64 = 0x20;

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
    let socket = kernel::socket(arch::call(regs)?.args[0])?;
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
    let call = arch::call(regs)?;
    match call.number {
        number::READ
        | number::READV
        | number::RECVFROM
        | number::RECVMSG
        | number::RECVMMSG
        | number::PREADV2 => received(slot, &caller, &call, result),
        number::WRITE
        | number::WRITEV
        | number::SENDTO
        | number::SENDMSG
        | number::SENDMMSG
        | number::SENDFILE
        | number::PWRITEV2 => sent(slot, &caller, &call, result),
        number::SPLICE => {
            sent(slot, &caller, &call, result);
            received(slot, &caller, &call, result)
        }
        _ if slot != slots::SYSCALL => None,
        number::CONNECT => opened(slot, &caller, call.args[0], opener::LOCAL),
        number::ACCEPT | number::ACCEPT4 => opened(slot, &caller, result, opener::REMOTE),
        number::SHUTDOWN => {
            let socket = kernel::socket(call.args[0])?;
            let time = unsafe { bpf_ktime_get_ns() };
            connection::shut_down(&caller, socket.sock, call.args[1], time);
            Some(())
        }
        _ => None,
    }
}

#[inline(never)]
fn opened(slot: u32, caller: &Caller, fd: u64, opener: u8) -> Option<()> {
    let socket = kernel::socket(fd)?;
    connection::opened(slot, caller, &socket, opener, unsafe { bpf_ktime_get_ns() });
    Some(())
}

/// Where the bytes of a call lie; `None` for a call that moves none.
#[inline(always)]
fn memory(call: &Call, result: u64) -> Option<Memory> {
    Some(match call.number {
        number::READ | number::WRITE | number::SENDTO => Memory::one(call.args[1], result),
        number::RECVFROM => flagged(call.args[3], Memory::one(call.args[1], result))?,
        number::READV | number::WRITEV | number::PREADV2 | number::PWRITEV2 => {
            Memory::vector(call.args[1], call.args[2])
        }
        number::SENDMSG => message(call.args[1])?,
        number::RECVMSG => flagged(call.args[2], message(call.args[1])?)?,
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

/// A call's bytes, all of them.
#[inline(always)]
fn whole(direction: u8, time: u64, length: u64, memory: Memory) -> Transfer {
    Transfer {
        direction: u32::from(direction),
        time,
        length: length as u32,
        behind: 0,
        memory,
        skip: 0,
        exact: 0,
    }
}

#[inline(never)]
fn received(slot: u32, caller: &Caller, call: &Call, result: u64) -> Option<()> {
    let memory = memory(call, result)?;
    let socket = kernel::socket(call.args[0])?;
    let time = unsafe { bpf_ktime_get_ns() };
    if call.number == number::RECVMMSG {
        return messages(slot, caller, call, &socket, INGRESS, time, result);
    }
    if result == 0 {
        connection::ended(caller, socket.sock, INGRESS, time);
        return Some(());
    }
    connection::transferred(slot, caller, &socket, &whole(INGRESS, time, result, memory));
    Some(())
}

#[inline(never)]
fn sent(slot: u32, caller: &Caller, call: &Call, result: u64) -> Option<()> {
    if result == 0 {
        return None;
    }
    // splice(2) has the descriptor that it writes to in third place.
    let descriptor = if call.number == number::SPLICE {
        call.args[2]
    } else {
        call.args[0]
    };
    let socket = kernel::socket(descriptor)?;
    let time = thread::began(caller.tid, call.number);
    if call.number == number::SENDMMSG {
        return messages(slot, caller, call, &socket, EGRESS, time, result);
    }
    let memory = memory(call, result)?;
    connection::transferred(slot, caller, &socket, &whole(EGRESS, time, result, memory));
    Some(())
}

/// The messages of recvmmsg(2) and sendmmsg(2).
#[inline(always)]
fn messages(
    slot: u32,
    caller: &Caller,
    call: &Call,
    socket: &Socket,
    direction: u8,
    time: u64,
    count: u64,
) -> Option<()> {
    let vector = call.args[1];
    let mut transfer = whole(direction, time, 0, Memory::none());
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
            connection::transferred(slot, caller, socket, &transfer);
        }
    }
    if transfer.behind > 0 {
        transfer.length = transfer.behind;
        transfer.behind = 0;
        transfer.memory = Memory::none();
        connection::transferred(slot, caller, socket, &transfer);
    }
    Some(())
}

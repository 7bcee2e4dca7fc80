//! Raw tracepoints `sys_enter` and `sys_exit`.
//!
//! Calls are told at their exit, where their arguments are still in `pt_regs`. At their entry only the time is
//! noted, and only of those that write: a response begins when its write is called, a request has come when its read
//! returns. close(2) is looked at when its descriptor is still there.

use aya_ebpf::helpers::bpf_probe_read_user;
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use redwire_common::{EGRESS, INGRESS, opener};

use crate::arch::{self, Call, number};
use crate::connection::{self, Caller};
use crate::emit::Buffers;
use crate::kernel::{self, Socket};
use crate::maps::{BEGUN, BEGUN_SLOTS, Begun, CONNECTIONS};

const MSG_PEEK: u64 = 2;
const MSG_TRUNC: u64 = 0x20;

/// Messages of one sendmmsg(2) or recvmmsg(2) that are looked at.
const MESSAGES: u64 = 4;

/// Thread id and thread group id.
#[inline(always)]
fn ids() -> (u32, u32) {
    let both = unsafe { bpf_get_current_pid_tgid() };
    (both as u32, (both >> 32) as u32)
}

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
        let _ = begin(call);
    } else if call == number::CLOSE {
        let regs: *const u8 = ctx.arg(0);
        let _ = close(regs);
    }
    0
}

/// Notes when a call begins that writes.
#[inline(always)]
fn begin(call: u64) -> Option<()> {
    let tid = connection::caller(ids())?.ids.0;
    let slot = BEGUN.get_ptr_mut(tid % BEGUN_SLOTS)?;
    let time = unsafe { bpf_ktime_get_ns() };
    unsafe {
        *slot = Begun {
            tid,
            call: call as u32,
            time,
        }
    };
    Some(())
}

/// When this call of this thread began. Where that was not noted, or another thread has taken the place since, it is
/// as late as now.
#[inline(always)]
fn began(tid: u32, call: u64) -> u64 {
    if let Some(slot) = BEGUN.get_ptr_mut(tid % BEGUN_SLOTS) {
        let begun = unsafe { &mut *slot };
        if begun.tid == tid && begun.call == call as u32 {
            begun.tid = 0;
            return begun.time;
        }
    }
    unsafe { bpf_ktime_get_ns() }
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
    connection::close(connection, socket.sock, caller.ids.1);
    Some(())
}

#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn redwire_exit(ctx: RawTracePointContext) -> i32 {
    let result: i64 = ctx.arg(1);
    // Failed calls move no bytes.
    if result >= 0 {
        let regs: *const u8 = ctx.arg(0);
        let _ = exit(regs, result as u64);
    }
    0
}

#[inline(always)]
fn exit(regs: *const u8, result: u64) -> Option<()> {
    let caller = connection::caller(ids())?;
    let call = arch::call(regs)?;
    match call.number {
        number::READ
        | number::READV
        | number::RECVFROM
        | number::RECVMSG
        | number::RECVMMSG
        | number::PREADV2 => received(&caller, &call, result),
        number::WRITE
        | number::WRITEV
        | number::SENDTO
        | number::SENDMSG
        | number::SENDMMSG
        | number::SENDFILE
        | number::PWRITEV2 => sent(&caller, &call, result),
        number::SPLICE => {
            sent(&caller, &call, result);
            received(&caller, &call, result)
        }
        number::CONNECT => opened(&caller, call.args[0], opener::LOCAL),
        number::ACCEPT | number::ACCEPT4 => opened(&caller, result, opener::REMOTE),
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
fn opened(caller: &Caller, fd: u64, opener: u8) -> Option<()> {
    let socket = kernel::socket(fd)?;
    connection::opened(caller, &socket, opener, unsafe { bpf_ktime_get_ns() })
}

/// Where the bytes of a call lie; `None` for a call that moves none.
#[inline(always)]
fn buffers(call: &Call, result: u64) -> Option<Buffers> {
    Some(match call.number {
        number::READ | number::WRITE | number::SENDTO => Buffers::one(call.args[1], result),
        number::RECVFROM => flagged(call.args[3], Buffers::one(call.args[1], result))?,
        number::READV | number::WRITEV | number::PREADV2 | number::PWRITEV2 => {
            Buffers::vector(call.args[1], call.args[2])
        }
        number::SENDMSG => message(call.args[1])?,
        number::RECVMSG => flagged(call.args[2], message(call.args[1])?)?,
        _ => Buffers::none(),
    })
}

/// Peeked bytes were not read; with MSG_TRUNC (tcp(7)) they were read and thrown away.
#[inline(always)]
fn flagged(flags: u64, buffers: Buffers) -> Option<Buffers> {
    if flags & MSG_PEEK != 0 {
        None
    } else if flags & MSG_TRUNC != 0 {
        Some(Buffers::none())
    } else {
        Some(buffers)
    }
}

/// `msg_iov` and `msg_iovlen` of a `struct user_msghdr`.
#[inline(always)]
fn message(header: u64) -> Option<Buffers> {
    let [vector, count]: [u64; 2] =
        unsafe { bpf_probe_read_user(header.wrapping_add(16) as *const [u64; 2]) }.ok()?;
    Some(Buffers::vector(vector, count))
}

#[inline(never)]
fn received(caller: &Caller, call: &Call, result: u64) -> Option<()> {
    let buffers = buffers(call, result)?;
    let socket = kernel::socket(call.args[0])?;
    let time = unsafe { bpf_ktime_get_ns() };
    if call.number == number::RECVMMSG {
        return messages(caller, call, &socket, INGRESS, time, result);
    }
    if result == 0 {
        connection::ended(caller, socket.sock, INGRESS, time);
        return Some(());
    }
    connection::transferred(caller, &socket, INGRESS, time, result as u32, &buffers)
}

#[inline(never)]
fn sent(caller: &Caller, call: &Call, result: u64) -> Option<()> {
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
    let time = began(caller.ids.0, call.number);
    if call.number == number::SENDMMSG {
        return messages(caller, call, &socket, EGRESS, time, result);
    }
    let buffers = buffers(call, result)?;
    connection::transferred(caller, &socket, EGRESS, time, result as u32, &buffers)
}

/// The messages of recvmmsg(2) and sendmmsg(2): each a `struct mmsghdr` of 64 bytes whose length is at 56.
#[inline(always)]
fn messages(
    caller: &Caller,
    call: &Call,
    socket: &Socket,
    direction: u8,
    time: u64,
    count: u64,
) -> Option<()> {
    for i in 0..MESSAGES {
        if i >= count {
            break;
        }
        let header = call.args[1].wrapping_add(i * 64);
        let length: u32 = unsafe { bpf_probe_read_user(header.wrapping_add(56) as *const u32) }.ok()?;
        let buffers = message(header)?;
        connection::transferred(caller, socket, direction, time, length, &buffers)?;
    }
    Some(())
}

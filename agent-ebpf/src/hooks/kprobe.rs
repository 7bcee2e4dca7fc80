//! Kprobes on the kernel's socket functions, and on their returns: backend `kprobe`.
//!
//! The same functions and events as `fentry`. At its return a function's arguments are gone: the probe at its entry
//! keeps them.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::{kprobe, kretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};

use crate::calls;
use crate::connection;
use crate::emit::ids;
use crate::kernel::Socket;
use crate::maps::{ARGUMENTS, Arguments, setting};
use crate::scratch::slots;

/// Functions whose arguments are kept: a thread may be in one inside another.
mod function {
    pub const SEND: u64 = 0;
    pub const RECEIVE: u64 = 1;
    pub const SPLICE: u64 = 2;
    pub const SEND_PAGE: u64 = 3;
    pub const ACCEPT: u64 = 4;
    pub const CONNECT: u64 = 5;
    pub const SHUTDOWN: u64 = 6;
}

#[inline(always)]
fn key(function: u64) -> u64 {
    u64::from(ids().0) << 8 | function
}

#[inline(always)]
fn enter(ctx: &ProbeContext, function: u64) -> Option<()> {
    connection::caller(ids())?;
    let arguments = Arguments {
        args: [ctx.arg(0)?, ctx.arg(1)?, ctx.arg(2)?, ctx.arg(3)?, ctx.arg(4)?],
        time: unsafe { bpf_ktime_get_ns() },
    };
    let _ = ARGUMENTS.insert(&key(function), &arguments, 0);
    Some(())
}

/// The arguments, once.
#[inline(always)]
fn leave(function: u64) -> Option<Arguments> {
    connection::caller(ids())?;
    let key = key(function);
    let arguments = unsafe { *ARGUMENTS.get_ptr(&key)? };
    let _ = ARGUMENTS.remove(&key);
    Some(arguments)
}

macro_rules! entries {
    ($($name:ident: $function:expr),*) => {$(
        #[kprobe]
        pub fn $name(ctx: ProbeContext) -> u32 {
            let _ = enter(&ctx, $function);
            0
        }
    )*};
}

macro_rules! returns {
    ($($name:ident: $function:expr, |$call:ident, $result:ident| $body:expr;)*) => {$(
        #[kretprobe]
        pub fn $name(ctx: RetProbeContext) -> u32 {
            let $result: i32 = ctx.ret();
            if let Some($call) = leave($function) {
                let _ = $body;
            }
            0
        }
    )*};
}

entries!(
    probe_send: function::SEND,
    probe_receive: function::RECEIVE,
    probe_splice: function::SPLICE,
    probe_send_page: function::SEND_PAGE,
    probe_accept: function::ACCEPT,
    probe_connect: function::CONNECT,
    probe_shutdown: function::SHUTDOWN
);

returns!(
    probe_send_return: function::SEND, |call, result| {
        let [sock, message, ..] = call.args;
        calls::sent(slots::SEND, Socket::of_sock(sock), message, result, call.time)
    };
    probe_unix_send_return: function::SEND, |call, result| {
        let [socket, message, ..] = call.args;
        calls::sent(slots::UNIX_SEND, Socket::of_socket(socket), message, result, call.time)
    };
    probe_receive_return: function::RECEIVE, |call, result| {
        let [sock, message, ..] = call.args;
        // As in `fentry`.
        let flags = if setting!(recvmsg_arguments) == 6 { call.args[4] } else { call.args[3] };
        calls::received(slots::RECEIVE, Socket::of_sock(sock), message, flags & 0xffff_ffff, result)
    };
    probe_unix_receive_return: function::RECEIVE, |call, result| {
        let [socket, message, _, flags, _] = call.args;
        calls::received(slots::UNIX_RECEIVE, Socket::of_socket(socket), message, flags & 0xffff_ffff, result)
    };
    probe_splice_return: function::SPLICE, |call, result| {
        calls::received(slots::SPLICE, Socket::of_socket(call.args[0]), 0, 0, result)
    };
    probe_send_page_return: function::SEND_PAGE, |call, result| {
        calls::sent(slots::SEND_PAGE, Socket::of_sock(call.args[0]), 0, result, call.time)
    };
    probe_unix_send_page_return: function::SEND_PAGE, |call, result| {
        calls::sent(slots::UNIX_SEND_PAGE, Socket::of_socket(call.args[0]), 0, result, call.time)
    };
    probe_accept_return: function::ACCEPT, |call, _result| calls::accepted(slots::ACCEPT, call.args[1]);
    probe_connect_return: function::CONNECT, |call, result| calls::connected(slots::CONNECT, call.args[0], result);
    probe_shutdown_return: function::SHUTDOWN, |call, result| {
        calls::shut_down(call.args[0], call.args[1] & 0xffff_ffff, result)
    };
);

/// `unix_release(sock)`.
#[kprobe]
pub fn probe_unix_release(ctx: ProbeContext) -> u32 {
    if let Some(socket) = ctx.arg(0) {
        let _ = calls::released(socket);
    }
    0
}

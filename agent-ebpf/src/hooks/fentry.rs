//! Trampolines on the kernel's socket functions: backend `fentry`.
//!
//! Bytes are told when a function returns. Of those that write, the time is noted when they begin.
//! Behind its arguments, a context has what the function returned (kernel/bpf/btf.c, `btf_ctx_access`).

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::{fentry, fexit};
use aya_ebpf::programs::{FEntryContext, FExitContext};
use core::arch::asm;

use crate::calls;
use crate::connection;
use crate::emit::ids;
use crate::kernel::Socket;
use crate::maps::setting;
use crate::scratch::slots;
use crate::thread;

/// Notes when a function that writes begins, by the slot of the program at its end.
#[inline(always)]
fn begin(slot: u32) {
    if let Some(caller) = connection::caller(ids()) {
        thread::begin(caller.tid, slot.into());
    }
}

#[inline(always)]
fn began(slot: u32) -> u64 {
    thread::began(ids().0, slot.into())
}

/// When nobody noted the begin.
#[inline(always)]
fn now() -> u64 {
    unsafe { bpf_ktime_get_ns() }
}

/// The argument at an offset. By hand where one of two is read: the compiler would reckon where it is, and the verifier
/// wants a context to be read at a number.
#[inline(always)]
fn argument<const OFFSET: i32>(ctx: &FExitContext) -> u64 {
    let value: u64;
    unsafe {
        asm!(
            "{0} = *(u64 *)({1} + {offset})",
            out(reg) value,
            in(reg) ctx.as_ptr(),
            offset = const OFFSET,
            options(pure, readonly, nostack)
        );
    }
    value
}

/// A program and its twin (see `scratch`).
macro_rules! twins {
    ($(#[$doc:meta])* $name:ident, $twin:ident, $slot:expr, |$ctx:ident, $at:ident| $body:expr) => {
        $(#[$doc])*
        #[fexit]
        pub fn $name($ctx: FExitContext) -> i32 {
            let $at = $slot;
            let _ = $body;
            0
        }

        $(#[$doc])*
        #[fexit]
        pub fn $twin($ctx: FExitContext) -> i32 {
            let $at = $slot + 1;
            let _ = $body;
            0
        }
    };
}

/// `tcp_sendmsg_locked(sk, msg, size)`.
#[fentry]
pub fn redwire_send_begin(_ctx: FEntryContext) -> i32 {
    begin(slots::SEND);
    0
}

/// `unix_stream_sendmsg(sock, msg, size)`.
#[fentry]
pub fn redwire_unix_send_begin(_ctx: FEntryContext) -> i32 {
    begin(slots::UNIX_SEND);
    0
}

twins!(redwire_send, redwire_send_twin, slots::SEND, |ctx, slot| {
    let (sock, message, result): (u64, u64, i32) = (ctx.arg(0), ctx.arg(1), ctx.arg(3));
    if result > 0 {
        calls::sent(slot, Socket::of_sock(sock), message, result, began(slots::SEND))
    } else {
        None
    }
});

twins!(
    redwire_receive,
    redwire_receive_twin,
    slots::RECEIVE,
    |ctx, slot| {
        let (sock, message): (u64, u64) = (ctx.arg(0), ctx.arg(1));
        // `tcp_recvmsg(sk, msg, len, nonblock, flags, addr_len)` up to Linux 5.18, then without `nonblock`, and in 7.3
        // without `addr_len`.
        let (flags, result) = match setting!(recvmsg_arguments) {
            6 => (argument::<{ 4 * 8 }>(&ctx), argument::<{ 6 * 8 }>(&ctx)),
            5 => (argument::<{ 3 * 8 }>(&ctx), argument::<{ 5 * 8 }>(&ctx)),
            _ => (argument::<{ 3 * 8 }>(&ctx), argument::<{ 4 * 8 }>(&ctx)),
        };
        calls::received(
            slot,
            Socket::of_sock(sock),
            message,
            flags & 0xffff_ffff,
            result as i32,
        )
    }
);

twins!(
    /// `tcp_splice_read(sock, ppos, pipe, len, flags)`.
    redwire_splice, redwire_splice_twin, slots::SPLICE, |ctx, slot| {
        let result: i64 = ctx.arg(5);
        calls::received(slot, Socket::of_socket(ctx.arg(0)), 0, 0, result as i32)
    }
);

twins!(
    /// `do_tcp_sendpages(sk, page, offset, size, flags)`, up to Linux 6.4, with the socket locked; `tcp_sendpage_locked`
    /// around it may have been inlined.
    redwire_send_page, redwire_send_page_twin, slots::SEND_PAGE, |ctx, slot| {
        let sock: u64 = ctx.arg(0);
        calls::sent(slot, Socket::of_sock(sock), 0, ctx.arg(5), now())
    }
);

twins!(
    redwire_unix_send,
    redwire_unix_send_twin,
    slots::UNIX_SEND,
    |ctx, slot| {
        let (socket, message, result): (u64, u64, i32) = (ctx.arg(0), ctx.arg(1), ctx.arg(3));
        if result > 0 {
            calls::sent(
                slot,
                Socket::of_socket(socket),
                message,
                result,
                began(slots::UNIX_SEND),
            )
        } else {
            None
        }
    }
);

twins!(
    /// `unix_stream_recvmsg(sock, msg, size, flags)`.
    redwire_unix_receive, redwire_unix_receive_twin, slots::UNIX_RECEIVE, |ctx, slot| {
        let (socket, message, flags, result): (u64, u64, i32, i32) =
            (ctx.arg(0), ctx.arg(1), ctx.arg(3), ctx.arg(4));
        calls::received(slot, Socket::of_socket(socket), message, flags as u64, result)
    }
);

twins!(
    /// `unix_stream_splice_read(sock, ppos, pipe, size, flags)`.
    redwire_unix_splice, redwire_unix_splice_twin, slots::UNIX_SPLICE, |ctx, slot| {
        let result: i64 = ctx.arg(5);
        calls::received(slot, Socket::of_socket(ctx.arg(0)), 0, 0, result as i32)
    }
);

twins!(
    /// `unix_stream_sendpage(sock, page, offset, size, flags)`, up to Linux 6.4.
    redwire_unix_send_page, redwire_unix_send_page_twin, slots::UNIX_SEND_PAGE, |ctx, slot| {
        let (socket, result): (u64, i64) = (ctx.arg(0), ctx.arg(5));
        calls::sent(slot, Socket::of_socket(socket), 0, result as i32, now())
    }
);

/// `inet_accept(sock, newsock, …)`.
#[fexit]
pub fn redwire_accept(ctx: FExitContext) -> i32 {
    let _ = calls::accepted(slots::ACCEPT, ctx.arg(1));
    0
}

/// `unix_accept(sock, newsock, …)`.
#[fexit]
pub fn redwire_unix_accept(ctx: FExitContext) -> i32 {
    let _ = calls::accepted(slots::UNIX_ACCEPT, ctx.arg(1));
    0
}

/// `inet_stream_connect(sock, uaddr, addr_len, flags)`.
#[fexit]
pub fn redwire_connect(ctx: FExitContext) -> i32 {
    let _ = calls::connected(slots::CONNECT, ctx.arg(0), ctx.arg(4));
    0
}

/// `unix_stream_connect(sock, uaddr, addr_len, flags)`.
#[fexit]
pub fn redwire_unix_connect(ctx: FExitContext) -> i32 {
    let _ = calls::connected(slots::UNIX_CONNECT, ctx.arg(0), ctx.arg(4));
    0
}

/// `inet_shutdown(sock, how)`.
#[fexit]
pub fn redwire_shutdown(ctx: FExitContext) -> i32 {
    let _ = calls::shut_down(ctx.arg(0), ctx.arg::<u32>(1).into(), ctx.arg(2));
    0
}

/// `unix_shutdown(sock, mode)`.
#[fexit]
pub fn redwire_unix_shutdown(ctx: FExitContext) -> i32 {
    let _ = calls::shut_down(ctx.arg(0), ctx.arg::<u32>(1).into(), ctx.arg(2));
    0
}

/// `unix_release(sock)`.
#[fentry]
pub fn redwire_unix_release(ctx: FEntryContext) -> i32 {
    let _ = calls::released(ctx.arg(0));
    0
}

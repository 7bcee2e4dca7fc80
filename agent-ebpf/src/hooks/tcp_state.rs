//! Raw tracepoints `inet_sock_set_state` and `tcp_destroy_sock`: a TCP connection is over, whoever ended it.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;

use crate::connection;
use crate::maps::CONNECTIONS;

const TCP_CLOSE: i32 = 7;

/// The connection is over; its process may still read what has come. Which process is current here says nothing: this
/// may be a soft interrupt.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub fn redwire_tcp_state(ctx: RawTracePointContext) -> i32 {
    let state: i32 = ctx.arg(2);
    if state != TCP_CLOSE {
        return 0;
    }
    let sock: u64 = ctx.arg(0);
    if let Some(connection) = CONNECTIONS.get_ptr_mut(&sock) {
        let connection = unsafe { &mut *connection };
        connection.over = 1;
        connection::close_if_done(connection, sock, 0);
    }
    0
}

/// No descriptor is left, and nothing will be read any more.
#[raw_tracepoint(tracepoint = "tcp_destroy_sock")]
pub fn redwire_tcp_destroy(ctx: RawTracePointContext) -> i32 {
    let sock: u64 = ctx.arg(0);
    if let Some(connection) = CONNECTIONS.get_ptr_mut(&sock) {
        connection::close(unsafe { &*connection }, sock, 0);
    }
    0
}

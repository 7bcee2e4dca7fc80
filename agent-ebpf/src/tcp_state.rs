//! Raw tracepoint `inet_sock_set_state`: a TCP connection is over, whoever ended it.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use redwire_common::{CloseEvent, kind};

use crate::calls::forget;
use crate::maps::CONNECTIONS;

const TCP_CLOSE: i32 = 7;

#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub fn redwire_tcp_state(ctx: RawTracePointContext) -> i32 {
    let state: i32 = ctx.arg(2);
    if state != TCP_CLOSE {
        return 0;
    }
    let sock: u64 = ctx.arg(0);
    if CONNECTIONS.get_ptr(sock).is_some() {
        // Which process is current here says nothing: this may be a soft interrupt.
        let event = CloseEvent {
            kind: kind::CLOSE,
            sock,
            time: unsafe { bpf_ktime_get_ns() },
            ..CloseEvent::default()
        };
        forget(sock, &event);
    }
    0
}

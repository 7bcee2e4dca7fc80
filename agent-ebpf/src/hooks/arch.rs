//! Numbers and arguments of system calls, by architecture (syscall(2), "Architecture calling conventions").

use aya_ebpf::helpers::bpf_probe_read_kernel;

/// A system call as `struct pt_regs` still shows it at its exit.
#[derive(Clone, Copy)]
pub struct Call {
    pub number: u64,
    pub args: [u64; 4],
}

#[cfg(not(bpf_target_arch = "aarch64"))]
mod target {
    use super::*;

    /// From `r10` on: r10, r9, r8, ax, cx, dx, si, di, orig_ax (arch/x86/include/asm/ptrace.h).
    const R10: usize = 56;

    #[inline(always)]
    pub fn call(regs: *const u8) -> Option<Call> {
        let r = unsafe { bpf_probe_read_kernel(regs.wrapping_add(R10).cast::<[u64; 9]>()) }.ok()?;
        Some(Call {
            number: r[8],
            args: [r[7], r[6], r[5], r[0]],
        })
    }

    pub mod number {
        pub const READ: u64 = 0;
        pub const WRITE: u64 = 1;
        pub const CLOSE: u64 = 3;
        pub const READV: u64 = 19;
        pub const WRITEV: u64 = 20;
        pub const SENDFILE: u64 = 40;
        pub const CONNECT: u64 = 42;
        pub const ACCEPT: u64 = 43;
        pub const SENDTO: u64 = 44;
        pub const RECVFROM: u64 = 45;
        pub const SENDMSG: u64 = 46;
        pub const RECVMSG: u64 = 47;
        pub const SHUTDOWN: u64 = 48;
        pub const SPLICE: u64 = 275;
        pub const ACCEPT4: u64 = 288;
        pub const RECVMMSG: u64 = 299;
        pub const SENDMMSG: u64 = 307;
        pub const PREADV2: u64 = 327;
        pub const PWRITEV2: u64 = 328;
    }
}

#[cfg(bpf_target_arch = "aarch64")]
mod target {
    use super::*;

    /// `regs[1]`, `orig_x0` and `syscallno` of arch/arm64/include/asm/ptrace.h.
    const X1: usize = 8;
    const ORIG_X0: usize = 272;

    #[inline(always)]
    pub fn call(regs: *const u8) -> Option<Call> {
        let x = unsafe { bpf_probe_read_kernel(regs.wrapping_add(X1).cast::<[u64; 3]>()) }.ok()?;
        let o = unsafe { bpf_probe_read_kernel(regs.wrapping_add(ORIG_X0).cast::<[u64; 2]>()) }.ok()?;
        Some(Call {
            number: o[1] & 0xffff_ffff,
            args: [o[0], x[0], x[1], x[2]],
        })
    }

    pub mod number {
        pub const READ: u64 = 63;
        pub const WRITE: u64 = 64;
        pub const CLOSE: u64 = 57;
        pub const READV: u64 = 65;
        pub const WRITEV: u64 = 66;
        pub const SENDFILE: u64 = 71;
        pub const CONNECT: u64 = 203;
        pub const ACCEPT: u64 = 202;
        pub const SENDTO: u64 = 206;
        pub const RECVFROM: u64 = 207;
        pub const SENDMSG: u64 = 211;
        pub const RECVMSG: u64 = 212;
        pub const SHUTDOWN: u64 = 210;
        pub const SPLICE: u64 = 76;
        pub const ACCEPT4: u64 = 242;
        pub const RECVMMSG: u64 = 243;
        pub const SENDMMSG: u64 = 269;
        pub const PREADV2: u64 = 286;
        pub const PWRITEV2: u64 = 287;
    }
}

pub use target::{call, number};

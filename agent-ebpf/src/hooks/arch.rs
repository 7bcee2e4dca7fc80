//! Numbers and arguments of system calls, by architecture (syscall(2), "Architecture calling conventions").

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

/// A system call as `struct pt_regs` still shows it at its exit.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Call {
    registers: [u64; target::REGISTERS],
}

/// Copies registers.
#[inline(always)]
fn copy(to: &mut [u64], from: *const u8) -> Option<()> {
    let size = size_of_val(to) as u32;
    let copied = unsafe { bpf_probe_read_kernel(to.as_mut_ptr().cast(), size, from.cast()) };
    (copied == 0).then_some(())
}

#[cfg(not(bpf_target_arch = "aarch64"))]
mod target {
    use super::*;

    /// From `r10` on: r10, r9, r8, ax, cx, dx, si, di, orig_ax (arch/x86/include/asm/ptrace.h).
    pub const REGISTERS: usize = 9;
    const R10: usize = 56;

    impl Call {
        #[inline(always)]
        pub fn read(&mut self, regs: *const u8) -> Option<()> {
            copy(&mut self.registers, regs.wrapping_add(R10))
        }

        #[inline(always)]
        pub fn number(&self) -> u64 {
            self.registers[8]
        }

        #[inline(always)]
        pub fn arg(&self, n: usize) -> u64 {
            self.registers[[7, 6, 5, 0][n]]
        }
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

    /// `regs[1..4]`, `orig_x0` and `syscallno` of arch/arm64/include/asm/ptrace.h.
    pub const REGISTERS: usize = 5;
    const X1: usize = 8;
    const ORIG_X0: usize = 272;

    impl Call {
        #[inline(always)]
        pub fn read(&mut self, regs: *const u8) -> Option<()> {
            copy(&mut self.registers[..3], regs.wrapping_add(X1))?;
            copy(&mut self.registers[3..], regs.wrapping_add(ORIG_X0))
        }

        #[inline(always)]
        pub fn number(&self) -> u64 {
            self.registers[4] & 0xffff_ffff
        }

        #[inline(always)]
        pub fn arg(&self, n: usize) -> u64 {
            self.registers[[3, 0, 1, 2][n]]
        }
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

pub use target::number;

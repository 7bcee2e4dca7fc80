//! How often the kernel did not run a program that was due.

use aya::Ebpf;
use std::os::fd::{AsFd as _, AsRawFd as _};

/// Runs that were skipped since the programs were loaded, because the program, or with kprobes another, was active on
/// the CPU: `recursion_misses` (kernel/bpf/syscall.c, `bpf_prog_show_fdinfo`, Linux 5.12). 0 where the kernel does not
/// tell.
pub(super) fn runs(ebpf: &Ebpf) -> u64 {
    ebpf.programs()
        .filter_map(|(_, program)| {
            let fd = program.fd().ok()?.as_fd().as_raw_fd();
            let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
            parse(&text)
        })
        .sum()
}

fn parse(text: &str) -> Option<u64> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("recursion_misses:"))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fdinfo() {
        let text = "pos:\t0\nflags:\t02000002\nprog_type:\t26\nrun_cnt:\t7\nrecursion_misses:\t2169\nverified_insns:\t88\n";
        assert_eq!(parse(text), Some(2169));
        assert_eq!(parse("prog_type:\t26\n"), None);
    }
}

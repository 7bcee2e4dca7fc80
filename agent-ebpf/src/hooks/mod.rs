//! The hooks: one file per family.

pub mod arch;
mod fentry;
mod floor;
mod kprobe;
mod process;
mod syscalls;
mod tcp_state;

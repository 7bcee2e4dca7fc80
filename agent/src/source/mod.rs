//! Where connection events come from.

pub mod ebpf;

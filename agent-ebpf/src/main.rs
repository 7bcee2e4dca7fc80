//! The kernel programs of Redwire's `tracepoint` backend: one file per hook family.
//!
//! They follow a few system calls of the selected processes, resolve file descriptors to sockets and hand payload to
//! user space as [`redwire_common`] lays it out. Nothing is parsed here.
#![no_std]
#![no_main]

mod arch;
mod calls;
mod chunks;
mod connection;
mod emit;
mod floor;
mod kernel;
mod maps;
mod process;
mod tcp_state;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

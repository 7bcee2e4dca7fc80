//! The kernel programs of Redwire: `hooks` has one file per hook family, over shared selection, connections and events.
//!
//! They see what selected processes move through sockets, and hand it to user space as [`redwire_common`] lays it out.
//! Of three backends that see the same (`fentry`, `kprobe`, `tracepoint`), one is loaded. Nothing is parsed here.
#![no_std]
#![no_main]
#![expect(unstable_features, reason = "asm_experimental_arch: see `emit::bounded`")]
#![feature(asm_experimental_arch)]

mod calls;
mod chunks;
mod connection;
mod emit;
mod hooks;
mod kernel;
mod maps;
mod memory;
mod scratch;
mod thread;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

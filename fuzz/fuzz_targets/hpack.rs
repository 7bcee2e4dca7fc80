//! HPACK: `cargo +nightly fuzz run hpack`.
#![no_main]

use redwire_fuzz::run_hpack;

libfuzzer_sys::fuzz_target!(|data: &[u8]| run_hpack(data));

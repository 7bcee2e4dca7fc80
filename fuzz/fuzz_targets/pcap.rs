//! Capture files: `cargo +nightly fuzz run pcap`.
#![no_main]

use redwire_fuzz::run_capture;

libfuzzer_sys::fuzz_target!(|data: &[u8]| run_capture(data));

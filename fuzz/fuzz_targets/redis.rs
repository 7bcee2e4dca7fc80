//! Redis: `cargo +nightly fuzz run redis`.
#![no_main]

use redwire_fuzz::{REDIS, run};

libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data, REDIS));

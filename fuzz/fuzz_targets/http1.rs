//! HTTP/1: `cargo +nightly fuzz run http1`.
#![no_main]

use redwire_fuzz::{HTTP1, run};

libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data, HTTP1));

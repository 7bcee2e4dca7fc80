//! HTTP/2: `cargo +nightly fuzz run http2`.
#![no_main]

use redwire_fuzz::{HTTP2, run};

libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data, HTTP2));

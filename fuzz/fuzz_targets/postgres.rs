//! PostgreSQL: `cargo +nightly fuzz run postgres`.
#![no_main]

use redwire_fuzz::{POSTGRES, run};

libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data, POSTGRES));

//! AMQP 0-9-1: `cargo +nightly fuzz run amqp`.
#![no_main]

use redwire_fuzz::{AMQP, run};

libfuzzer_sys::fuzz_target!(|data: &[u8]| run(data, AMQP));

//! The pure part of Redwire: connection events in, transactions out.
//!
//! Nothing here reads a clock, makes a system call or knows where its bytes come from, so a live kernel,
//! a capture file, a fuzzer and a benchmark run the same code and get the same transactions.
//!
//! - [`stream`] puts the chunks of a connection in order, makes holes explicit and drives a protocol.
//! - [`protocol`] holds one folder per protocol: detection, frames, matching.
//! - [`transaction`] is what comes out, with the protocol's own [`record`] in it.
//!
//! Times are nanoseconds since the Unix epoch, everywhere.

pub mod connection;
pub mod loss;
pub mod output;
pub mod protocol;
pub mod record;
pub mod stream;
pub mod trace_context;
pub mod transaction;

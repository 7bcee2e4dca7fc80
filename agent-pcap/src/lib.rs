//! Capture files as a source of connection events.
//!
//! - `capture` reads the packets of a pcap or pcapng file in constant memory.
//! - `packet` finds the TCP segment in a packet, `fragments` puts IP fragments together.
//! - `tcp` turns segments into connections: who opened them, where their directions begin and end, what was
//!   provably never captured.
//! - [`replay`] runs all of it into [`Connections`](redwire_protocol::stream::Connections).
//!
//! Nothing here reads a clock: time is that of the packets, in nanoseconds since the Unix epoch.

mod capture;
mod fragments;
mod packet;
mod replay;
mod tcp;
#[cfg(test)]
mod testing;

pub use capture::{Cut, Damage, NotACapture};
pub use packet::Skip;
pub use replay::{ReplayError, Summary, limits, open, replay};

//! The Redwire agent: one folder per stage of the way from byte to span.

pub mod source;

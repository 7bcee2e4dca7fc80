//! The Redwire agent: one folder per stage of the way from byte to span.

pub mod cli;
pub mod command;
pub mod config;
pub mod discover;
pub mod peers;
pub mod source;
pub mod terminal;
pub mod worker;

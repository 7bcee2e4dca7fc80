//! What the end-to-end tests and the demonstration share: real services under real load, the agent, a real
//! collector, and what they wrote.

pub mod agent;
pub mod bpf;
pub mod client;
pub mod collector;
pub mod grpc;
pub mod load;
pub mod otlp;
pub mod postgres;
pub mod process;
pub mod rabbitmq;
pub mod redis;
pub mod service;
pub mod tcpdump;
pub mod tools;
pub mod transactions;
pub mod tshark;

use std::collections::BTreeMap;

/// Number of operations by what they were: `SELECT`, `SELECT 22012`.
pub type Totals = BTreeMap<String, u64>;

/// Number of responses by HTTP status code.
pub type Counts = BTreeMap<u16, u64>;

/// Adds `more` to `counts`.
pub fn add<K: Clone + Ord>(counts: &mut BTreeMap<K, u64>, more: &BTreeMap<K, u64>) {
    for (key, count) in more {
        *counts.entry(key.clone()).or_default() += count;
    }
}

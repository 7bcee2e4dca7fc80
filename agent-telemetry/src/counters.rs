//! What the agent counts about itself, for `redwire.*` metrics, `replay`'s summary and tests.

use redwire_protocol::loss::Loss;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Counts of what was lost, by protocol and reason. The protocols are few and known.
pub(crate) type Losses = Vec<(Option<&'static str>, [u64; Loss::ALL.len()])>;

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    Spans,
    /// Data points of metrics.
    Points,
}

impl Signal {
    /// Both.
    pub const ALL: [Signal; 2] = [Signal::Spans, Signal::Points];

    /// As an attribute value.
    pub fn as_str(self) -> &'static str {
        match self {
            Signal::Spans => "spans",
            Signal::Points => "points",
        }
    }
}

/// Why something was not exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drop {
    /// The queue was full and it was the oldest.
    QueueFull,
    /// The collector refused the request, or it could not be sent at all.
    Rejected,
    /// The collector did not take it in time, however often it was tried.
    RetriesExhausted,
    /// The collector took the request, and of it not this.
    PartialSuccess,
    /// The agent had to end.
    Shutdown,
}

impl Drop {
    /// All reasons.
    pub const ALL: [Drop; 5] = [
        Drop::QueueFull,
        Drop::Rejected,
        Drop::RetriesExhausted,
        Drop::PartialSuccess,
        Drop::Shutdown,
    ];

    /// As an attribute value.
    pub fn as_str(self) -> &'static str {
        match self {
            Drop::QueueFull => "queue_full",
            Drop::Rejected => "rejected",
            Drop::RetriesExhausted => "retries_exhausted",
            Drop::PartialSuccess => "partial_success",
            Drop::Shutdown => "shutdown",
        }
    }
}

/// Counters, shared by all.
#[derive(Debug, Default)]
pub struct Counters {
    losses: Mutex<BTreeMap<(Option<&'static str>, &'static str), u64>>,
    exported: [AtomicU64; Signal::ALL.len()],
    dropped: [[AtomicU64; Drop::ALL.len()]; Signal::ALL.len()],
}

impl Counters {
    /// What was lost before it became a transaction, by protocol (`None` before detection) and reason.
    pub fn losses(&self) -> BTreeMap<(Option<&'static str>, &'static str), u64> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How much the collector took.
    pub fn exported(&self, signal: Signal) -> u64 {
        self.exported[signal as usize].load(Ordering::Relaxed)
    }

    /// How much was dropped on its way out.
    pub fn dropped(&self, signal: Signal, reason: Drop) -> u64 {
        self.dropped[signal as usize][reason as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn count_exported(&self, signal: Signal, n: usize) {
        self.exported[signal as usize].fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_dropped(&self, signal: Signal, reason: Drop, n: usize) {
        self.dropped[signal as usize][reason as usize].fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(crate) fn count_losses(&self, losses: &Losses) {
        let mut counted = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        for (protocol, counts) in losses {
            for (loss, &n) in Loss::ALL.iter().zip(counts).filter(|(_, n)| **n > 0) {
                *counted.entry((*protocol, loss.as_str())).or_default() += n;
            }
        }
    }
}

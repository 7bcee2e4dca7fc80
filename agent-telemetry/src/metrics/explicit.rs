//! Explicit-bucket histograms (OpenTelemetry metrics data model, "Histogram").

use super::exponential::Exponential;

/// A histogram whose bucket `i` holds `(boundaries[i-1], boundaries[i]]`, with one more above the last.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Explicit {
    /// Upper bounds, ascending.
    pub boundaries: &'static [f64],
    /// Counts: one more than there are boundaries.
    pub buckets: Vec<u64>,
    /// The same values at the resolution that quantiles are told from.
    pub values: Exponential,
}

impl Explicit {
    /// An empty one.
    pub(crate) fn new(boundaries: &'static [f64]) -> Explicit {
        Explicit {
            boundaries,
            buckets: vec![0; boundaries.len() + 1],
            values: Exponential::default(),
        }
    }

    /// Counts `value`; one that is negative or no number counts as zero.
    pub(crate) fn record(&mut self, value: f64) {
        let value = if value > 0.0 { value.min(f64::MAX) } else { 0.0 };
        let at = self.boundaries.partition_point(|&bound| bound < value);
        self.buckets[at] += 1;
        self.values.record(value);
    }

    /// Adds what another with the same boundaries counted.
    pub(crate) fn merge(&mut self, other: &Explicit) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.values.merge(&other.values);
    }

    /// Forgets all values and keeps the memory.
    pub(crate) fn reset(&mut self) {
        self.buckets.fill(0);
        self.values.reset();
    }
}

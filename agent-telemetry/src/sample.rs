//! Which traces are recorded as spans. Metrics see all transactions regardless.

/// Samples a share of the traces, the same ones in every process (tracing SDK specification, `TraceIdRatioBased`);
/// for a span with a parent, the parent's flag decides instead (`ParentBased`), unless that is off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sampler {
    below: u64,
    parent_based: bool,
}

impl Sampler {
    /// Records `ratio` (0 to 1) of the traces.
    pub(crate) fn new(ratio: f64, parent_based: bool) -> Sampler {
        // The cast saturates, so that 1 means all and what is no number means none.
        Sampler {
            below: (ratio * 2_f64.powi(63)) as u64,
            parent_based,
        }
    }

    /// Whether a remote parent's flag decides.
    pub(crate) fn parent_based(&self) -> bool {
        self.parent_based
    }

    /// Whether the trace is recorded; by 63 bits of its random part, like OpenTelemetry's SDKs.
    pub(crate) fn samples(&self, trace_id: &[u8; 16]) -> bool {
        let mut low = [0; 8];
        low.copy_from_slice(&trace_id[8..]);
        u64::from_be_bytes(low) >> 1 < self.below
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Ids;

    #[test]
    fn ratio() {
        let mut ids = Ids::seeded(1);
        for (ratio, least, most) in [
            (0.0, 0, 0),
            (1.0, 10_000, 10_000),
            (0.1, 900, 1100),
            (f64::NAN, 0, 0),
            (7.0, 10_000, 10_000),
        ] {
            let sampler = Sampler::new(ratio, true);
            let sampled = (0..10_000).filter(|_| sampler.samples(&ids.trace_id())).count();
            assert!((least..=most).contains(&sampled), "{ratio}: {sampled}");
        }
    }
}

//! Exemplars: single measurements with their spans (OpenTelemetry metrics data model, "Exemplars").

use crate::id::Ids;
use arrayvec::ArrayVec;

/// A measurement with the span it was made in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exemplar {
    /// The value.
    pub value: f64,
    /// When, nanoseconds since the Unix epoch.
    pub time: u64,
    /// The span's trace.
    pub trace_id: [u8; 16],
    /// The span.
    pub span_id: [u8; 8],
}

/// Exemplars of one series and interval at most.
pub(super) const RESERVOIR: usize = 4;

/// A uniform sample of the exemplars offered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exemplars {
    kept: ArrayVec<Exemplar, RESERVOIR>,
    offered: u64,
}

impl Exemplars {
    /// Offers one (Vitter's algorithm R).
    pub(crate) fn offer(&mut self, exemplar: Exemplar, ids: &mut Ids) {
        self.offered += 1;
        if let Err(full) = self.kept.try_push(exemplar) {
            let at = ids.below(self.offered);
            if let Some(place) = self.kept.get_mut(usize::try_from(at).unwrap_or(usize::MAX)) {
                *place = full.element();
            }
        }
    }

    /// Takes those of another worker or a later interval in, in place of the oldest.
    pub(crate) fn merge(&mut self, other: &Exemplars) {
        self.offered += other.offered;
        for exemplar in &other.kept {
            if self.kept.is_full() {
                self.kept.remove(0);
            }
            self.kept.push(exemplar.clone());
        }
    }

    /// Those kept.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Exemplar> {
        self.kept.iter()
    }

    pub(crate) fn clear(&mut self) {
        self.kept.clear();
        self.offered = 0;
    }
}

//! What can be measured.

/// What is measured, with its name, unit and meaning.
#[derive(Debug)]
pub struct Instrument {
    /// Name, as in the semantic conventions.
    pub name: &'static str,
    /// UCUM unit.
    pub unit: &'static str,
    /// What it means.
    pub description: &'static str,
    /// How values are aggregated.
    pub kind: InstrumentKind,
}

/// How the values of an instrument are aggregated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum InstrumentKind {
    /// A distribution, with the boundaries for explicit buckets.
    Histogram(&'static [f64]),
    /// A sum that only grows.
    Counter,
    /// A sum that also falls.
    UpDownCounter,
}

//! RED aggregation: every transaction counts, whatever happens to its span.
//!
//! A worker aggregates into an [`Aggregates`] of its own and hands what came since the last time to the
//! pipeline, which adds it to the totals of all workers. The same type does both.

mod exemplar;
mod explicit;
mod exponential;

pub(crate) use exemplar::{Exemplar, Exemplars};
pub(crate) use explicit::Explicit;
pub(crate) use exponential::Exponential;

use crate::description::{Description, Kind, Status};
use crate::id::Ids;
use crate::instrument::{Instrument, InstrumentKind};
use crate::resource::Resource;
use crate::value::{Attribute, Key, OwnedAttribute, Value, same_text};
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

/// `otel.metric.overflow`, set on the series that takes what the cardinality limit keeps out (metrics SDK
/// specification, "Overflow attribute"; not among the semantic conventions' constants).
pub const OVERFLOW: &str = "otel.metric.overflow";

/// How histograms are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Histograms {
    /// Base-2 exponential.
    #[default]
    Exponential,
    /// The boundaries that the conventions advise.
    Explicit,
}

/// Bounds and form of the aggregation.
#[derive(Debug, Clone)]
pub struct MetricsConfig {
    /// How histograms are kept.
    pub histograms: Histograms,
    /// Series of one metric of one resource, the overflow series included (SDK specification: 2000).
    pub cardinality_limit: usize,
    /// Series of all metrics and resources; beyond, only overflow series are added.
    pub series_limit: usize,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        MetricsConfig {
            histograms: Histograms::Exponential,
            cardinality_limit: 2000,
            series_limit: 20_000,
        }
    }
}

/// The values of an instrument under one set of attributes.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    /// An exponential histogram.
    Exponential(Exponential),
    /// An explicit-bucket histogram.
    Explicit(Explicit),
    /// A counter or up-down counter.
    Sum(i64),
}

impl Data {
    fn new(instrument: &Instrument, histograms: Histograms) -> Data {
        match (instrument.kind, histograms) {
            (InstrumentKind::Histogram(_), Histograms::Exponential) => {
                Data::Exponential(Exponential::default())
            }
            (InstrumentKind::Histogram(boundaries), Histograms::Explicit) => {
                Data::Explicit(Explicit::new(boundaries))
            }
            (InstrumentKind::Counter | InstrumentKind::UpDownCounter, _) => Data::Sum(0),
        }
    }

    fn record(&mut self, value: f64) {
        match self {
            Data::Exponential(histogram) => histogram.record(value),
            Data::Explicit(histogram) => histogram.record(value),
            Data::Sum(sum) => *sum += value as i64,
        }
    }

    fn merge(&mut self, other: &Data) {
        match (self, other) {
            (Data::Exponential(mine), Data::Exponential(theirs)) => mine.merge(theirs),
            (Data::Explicit(mine), Data::Explicit(theirs)) => mine.merge(theirs),
            (Data::Sum(mine), Data::Sum(theirs)) => *mine += theirs,
            // An instrument has one kind, and all workers one configuration.
            _ => debug_assert!(false, "data of different kinds"),
        }
    }

    fn reset(&mut self) {
        match self {
            Data::Exponential(histogram) => histogram.reset(),
            Data::Explicit(histogram) => histogram.reset(),
            Data::Sum(sum) => *sum = 0,
        }
    }

    /// The distribution, where it is one.
    pub(crate) fn distribution(&self) -> Option<&Exponential> {
        match self {
            Data::Exponential(histogram) => Some(histogram),
            Data::Explicit(histogram) => Some(&histogram.values),
            Data::Sum(_) => None,
        }
    }
}

/// What a set of series is of.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Whose.
    pub resource: Arc<Resource>,
    /// The protocol, for people.
    pub protocol: &'static str,
    /// Name of the spans counted here; empty in the overflow series.
    pub name: Box<str>,
    /// Kind of the spans counted here.
    pub kind: Kind,
    /// Whether the spans counted here are errors.
    pub error: bool,
    /// The attributes of the metrics.
    pub attributes: Box<[OwnedAttribute]>,
    hash: u64,
}

impl Identity {
    fn is(&self, resource: u64, attributes: &[Attribute<'_>]) -> bool {
        // Mostly the very same constant, which need not be read.
        let same_key = |a: Key, b: Key| (a.as_ptr() == b.as_ptr() && a.len() == b.len()) || a == b;
        let same_value = |mine: &Value<Box<str>>, theirs: &Value<&str>| match (mine, theirs) {
            (Value::Str(mine), Value::Str(theirs)) => same_text(mine.as_bytes(), theirs.as_bytes()),
            (mine, theirs) => mine.map(|text| text.as_ref()) == *theirs,
        };
        let same = |mine: &OwnedAttribute, theirs: &Attribute<'_>| {
            same_key(mine.0, theirs.0) && same_value(&mine.1, &theirs.1)
        };
        self.resource.id() == resource
            && self.attributes.len() == attributes.len()
            && self
                .attributes
                .iter()
                .zip(attributes)
                .all(|(mine, theirs)| same(mine, theirs))
    }

    fn same(&self, other: &Identity) -> bool {
        self.hash == other.hash
            && self.resource.id() == other.resource.id()
            && self.protocol == other.protocol
            && self.kind == other.kind
            && self.attributes == other.attributes
    }
}

/// An instrument with its values.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    /// The instrument.
    pub instrument: &'static Instrument,
    /// Its values.
    pub data: Data,
    /// Some of them, with their spans.
    pub exemplars: Exemplars,
}

/// The instruments that share one set of attributes.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    /// What they are of.
    pub identity: Arc<Identity>,
    /// The instruments.
    pub cells: Vec<Cell>,
    /// From when on values are in it, nanoseconds since the Unix epoch.
    pub since: u64,
    active: bool,
    idle: u8,
}

impl Series {
    fn new(identity: Arc<Identity>, since: u64) -> Series {
        Series {
            identity,
            cells: Vec::new(),
            since,
            active: false,
            idle: 0,
        }
    }

    fn cell(&mut self, instrument: &'static Instrument, histograms: Histograms) -> &mut Cell {
        let at = match self
            .cells
            .iter()
            .position(|cell| std::ptr::eq(cell.instrument, instrument))
        {
            Some(at) => at,
            None => {
                self.cells.push(Cell {
                    instrument,
                    data: Data::new(instrument, histograms),
                    exemplars: Exemplars::default(),
                });
                self.cells.len() - 1
            }
        };
        &mut self.cells[at]
    }

    /// Whether something was added since the last [`Aggregates::settle`].
    pub(crate) fn is_active(&self) -> bool {
        self.active
    }

    fn reset(&mut self) {
        for cell in &mut self.cells {
            cell.data.reset();
            cell.exemplars.clear();
        }
    }

    fn is_overflow(&self) -> bool {
        matches!(&*self.identity.attributes, [(OVERFLOW, _)])
    }

    /// The overflow series has its place beside the others, whenever it comes.
    fn count(&self, scopes: &mut HashMap<Scope, usize>) {
        if !self.is_overflow() {
            *scopes.entry(self.scope()).or_default() += 1;
        }
    }

    /// The cardinality limit is counted per resource, protocol and kind, which share their metrics.
    fn scope(&self) -> Scope {
        (
            self.identity.resource.id(),
            self.identity.protocol,
            self.identity.kind,
        )
    }
}

type Scope = (u64, &'static str, Kind);

/// Settlements without a value after which a worker forgets a series.
const IDLE: u8 = 60;

/// Series by resource and attributes.
pub(crate) struct Aggregates {
    config: MetricsConfig,
    hasher: DefaultHashBuilder,
    table: HashTable<Series>,
    scopes: HashMap<Scope, usize>,
}

impl Aggregates {
    /// An empty table. All whose series are to be merged need the same `hasher`.
    pub(crate) fn new(config: MetricsConfig, hasher: DefaultHashBuilder) -> Aggregates {
        Aggregates {
            config,
            hasher,
            table: HashTable::new(),
            scopes: HashMap::new(),
        }
    }

    /// All series, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Series> {
        self.table.iter()
    }

    /// Adds the measurements of a transaction. `since` is when the current interval began.
    pub(crate) fn record(
        &mut self,
        resource: &Arc<Resource>,
        description: &Description<'_>,
        since: u64,
        exemplar: Option<&Exemplar>,
        ids: &mut Ids,
    ) {
        if description.measurements.is_empty() {
            return;
        }
        let histograms = self.config.histograms;
        let series = self.series(resource, description, since);
        series.active = true;
        for &(instrument, value) in &description.measurements {
            let cell = series.cell(instrument, histograms);
            cell.data.record(value);
            if let Some(exemplar) = exemplar {
                cell.exemplars.offer(
                    Exemplar {
                        value,
                        ..exemplar.clone()
                    },
                    ids,
                );
            }
        }
    }

    fn series(&mut self, resource: &Arc<Resource>, description: &Description<'_>, since: u64) -> &mut Series {
        let id = resource.id();
        let dimensions = description.dimensions.as_slice();
        let is = |series: &Series, attributes: &[Attribute<'_>]| {
            let identity = &series.identity;
            identity.is(id, attributes)
                && identity.protocol == description.protocol
                && identity.kind == description.kind
        };
        let hash = self.hash(id, description.kind, dimensions);
        if let Some(at) = self
            .table
            .find_bucket_index(hash, |series| is(series, dimensions))
        {
            return self.table.get_bucket_mut(at).expect("found just now");
        }
        let overflow: [Attribute<'_>; 1] = [(OVERFLOW, Value::Bool(true))];
        let (hash, attributes, name, error) = if self.has_room((id, description.protocol, description.kind)) {
            let error = description.status == Status::Error;
            (hash, dimensions, description.name, error)
        } else {
            (
                self.hash(id, description.kind, &overflow),
                overflow.as_slice(),
                "",
                false,
            )
        };
        let scopes = &mut self.scopes;
        self.table
            .entry(
                hash,
                |series| is(series, attributes),
                |series| series.identity.hash,
            )
            .or_insert_with(|| {
                let attributes = attributes
                    .iter()
                    .map(|(key, value)| (*key, value.map(|text| Box::from(*text))));
                let identity = Identity {
                    resource: resource.clone(),
                    protocol: description.protocol,
                    name: name.into(),
                    kind: description.kind,
                    error,
                    attributes: attributes.collect(),
                    hash,
                };
                let series = Series::new(Arc::new(identity), since);
                series.count(scopes);
                series
            })
            .into_mut()
    }

    /// Whether a series other than the overflow series may be added.
    fn has_room(&self, scope: Scope) -> bool {
        let used = self.scopes.get(&scope).copied().unwrap_or(0);
        used + 1 < self.config.cardinality_limit && self.table.len() < self.config.series_limit
    }

    fn hash(&self, resource: u64, kind: Kind, attributes: &[Attribute<'_>]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u64(resource);
        hasher.write_u8(kind as u8);
        for (key, value) in attributes {
            // Keys are told apart by the comparison; their length spreads well enough.
            hasher.write_usize(key.len());
            match value {
                Value::Str(text) => hasher.write(text.as_bytes()),
                other => other.hash(&mut hasher),
            }
        }
        hasher.finish()
    }
}

mod totals;

#[cfg(test)]
mod tests;

//! From a worker's interval to the totals of all workers.

use super::{Aggregates, IDLE, Identity, InstrumentKind, OVERFLOW, Series};
use crate::value::Value;
use std::sync::Arc;

impl Aggregates {
    /// Copies of the series that got values, which are emptied; those long without any are forgotten.
    pub(crate) fn take_interval(&mut self, now: u64) -> Vec<Series> {
        let mut interval = Vec::new();
        self.retain(|series| {
            if !series.active {
                series.idle = series.idle.saturating_add(1);
                return series.idle < IDLE;
            }
            // A gauge can change before any time is known.
            series.since = if series.since == 0 { now } else { series.since };
            interval.push(series.clone());
            series.reset();
            series.active = false;
            series.idle = 0;
            series.since = now;
            true
        });
        interval
    }

    /// Adds a series of a worker's interval.
    pub(crate) fn merge(&mut self, other: &Series) {
        let mut identity = other.identity.clone();
        let known = self
            .table
            .find(identity.hash, |series| series.identity.same(&identity))
            .is_some();
        if !known && !other.is_overflow() && !self.has_room(other.scope()) {
            identity = Arc::new(self.overflow_of(&identity));
        }
        let histograms = self.config.histograms;
        let scopes = &mut self.scopes;
        let series = self
            .table
            .entry(
                identity.hash,
                |series| series.identity.same(&identity),
                |series| series.identity.hash,
            )
            .or_insert_with(|| {
                let series = Series::new(identity.clone(), other.since);
                series.count(scopes);
                series
            })
            .into_mut();
        series.active = true;
        for theirs in &other.cells {
            let mine = series.cell(theirs.instrument, histograms);
            mine.data.merge(&theirs.data);
            mine.exemplars.merge(&theirs.exemplars);
        }
    }

    /// Begins the next interval of export: exemplars are forgotten, and with `delta` so are values, save those of
    /// up-down counters, which stay cumulative (OTLP exporter specification, "Temporality Preference").
    pub(crate) fn settle(&mut self, delta: bool, now: u64) {
        for series in &mut self.table {
            series.active = false;
            for cell in &mut series.cells {
                cell.exemplars.clear();
                if delta && cell.instrument.kind != InstrumentKind::UpDownCounter {
                    cell.data.reset();
                }
            }
            if delta
                && series
                    .cells
                    .iter()
                    .all(|cell| cell.instrument.kind != InstrumentKind::UpDownCounter)
            {
                series.since = now;
            }
        }
    }

    fn overflow_of(&self, identity: &Identity) -> Identity {
        Identity {
            resource: identity.resource.clone(),
            protocol: identity.protocol,
            name: "".into(),
            kind: identity.kind,
            error: false,
            attributes: [(OVERFLOW, Value::Bool(true))].into(),
            hash: self.hash(
                identity.resource.id(),
                identity.kind,
                &[(OVERFLOW, Value::Bool(true))],
            ),
        }
    }

    /// Forgets the series for which `keep` says no.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&mut Series) -> bool) {
        let scopes = &mut self.scopes;
        self.table.retain(|series| {
            let kept = keep(series);
            if !kept
                && !series.is_overflow()
                && let Some(used) = scopes.get_mut(&series.scope())
            {
                *used -= 1;
            }
            kept
        });
        self.scopes.retain(|_, used| *used > 0);
    }
}

use super::exemplar::RESERVOIR;
use super::exponential::{Exponential, MAX_BUCKETS, MAX_SCALE, bucket_index};
use super::*;
use crate::resource::{Resources, ServiceInstance};

/// Value, scale, index: computed with 80 decimal digits from the data model's definition,
/// `ceil(log2(value) * 2^scale) - 1`, at whole powers of the base, next to them and far from them.
const INDICES: &[(f64, i32, i32)] = &[
    (1.0, 20, -1),
    (2.0, 20, 1048575),
    (0.5, 20, -1048577),
    (4.0, 20, 2097151),
    (3.0, 20, 1661953),
    (1.0000000000000002, 20, 0),
    (0.9999999999999999, 20, -1),
    (2.0000000000000004, 20, 1048576),
    (1.0e-09, 20, -31349647),
    (0.005, 20, -8015165),
    (0.01, 20, -6966589),
    (1000000.0, 20, 20899764),
    (1.7976931348623157e+308, 20, 1073741823),
    (2.2250738585072014e-308, 20, -1071644673),
    (1.0000905661247756, 20, 137),
    (1.0000905661227755, 20, 136),
    (1.0, 14, -1),
    (2.0, 14, 16383),
    (0.5, 14, -16385),
    (4.0, 14, 32767),
    (3.0, 14, 25968),
    (1.0000000000000002, 14, 0),
    (0.9999999999999999, 14, -1),
    (2.0000000000000004, 14, 16384),
    (1.0e-09, 14, -489839),
    (0.005, 14, -125237),
    (0.01, 14, -108853),
    (1000000.0, 14, 326558),
    (1.7976931348623157e+308, 14, 16777215),
    (2.2250738585072014e-308, 14, -16744449),
    (0.9899397296924307, 14, -239),
    (0.9899397296904509, 14, -240),
    (1.0, 8, -1),
    (2.0, 8, 255),
    (0.5, 8, -257),
    (4.0, 8, 511),
    (3.0, 8, 405),
    (1.0000000000000002, 8, 0),
    (0.9999999999999999, 8, -1),
    (2.0000000000000004, 8, 256),
    (1.0e-09, 8, -7654),
    (0.005, 8, -1957),
    (0.01, 8, -1701),
    (1000000.0, 8, 5102),
    (1.7976931348623157e+308, 8, 262143),
    (2.2250738585072014e-308, 8, -261633),
    (2.0163117962388517, 8, 259),
    (2.016311796234819, 8, 258),
    (1.0, 3, -1),
    (2.0, 3, 7),
    (0.5, 3, -9),
    (4.0, 3, 15),
    (3.0, 3, 12),
    (1.0000000000000002, 3, 0),
    (0.9999999999999999, 3, -1),
    (2.0000000000000004, 3, 8),
    (1.0e-09, 3, -240),
    (0.005, 3, -62),
    (0.01, 3, -54),
    (1000000.0, 3, 159),
    (1.7976931348623157e+308, 3, 8191),
    (2.2250738585072014e-308, 3, -8177),
    (9.894100606172993e-06, 3, -133),
    (9.894100606153205e-06, 3, -134),
    (1.0, 1, -1),
    (2.0, 1, 1),
    (0.5, 1, -3),
    (4.0, 1, 3),
    (3.0, 1, 3),
    (1.0000000000000002, 1, 0),
    (0.9999999999999999, 1, -1),
    (2.0000000000000004, 1, 2),
    (1.0e-09, 1, -60),
    (0.005, 1, -16),
    (0.01, 1, -14),
    (1000000.0, 1, 39),
    (1.7976931348623157e+308, 1, 2047),
    (2.2250738585072014e-308, 1, -2045),
    (1.8268770466654557e+47, 1, 314),
    (1.8268770466618018e+47, 1, 313),
    (1.0, 0, -1),
    (2.0, 0, 0),
    (0.5, 0, -2),
    (4.0, 0, 1),
    (3.0, 0, 1),
    (1.0000000000000002, 0, 0),
    (0.9999999999999999, 0, -1),
    (2.0000000000000004, 0, 1),
    (1.0e-09, 0, -30),
    (0.005, 0, -8),
    (0.01, 0, -7),
    (1000000.0, 0, 19),
    (1.7976931348623157e+308, 0, 1023),
    (2.2250738585072014e-308, 0, -1023),
    (2.0568806966535646e+62, 0, 207),
    (2.0568806966494507e+62, 0, 206),
    (1.0, -1, -1),
    (2.0, -1, 0),
    (0.5, -1, -1),
    (4.0, -1, 0),
    (3.0, -1, 0),
    (1.0000000000000002, -1, 0),
    (0.9999999999999999, -1, -1),
    (2.0000000000000004, -1, 0),
    (1.0e-09, -1, -15),
    (0.005, -1, -4),
    (0.01, -1, -4),
    (1000000.0, -1, 9),
    (1.7976931348623157e+308, -1, 511),
    (2.2250738585072014e-308, -1, -512),
    (1.000000000001, -1, 0),
    (0.999999999999, -1, -1),
    (1.0, -4, -1),
    (2.0, -4, 0),
    (0.5, -4, -1),
    (4.0, -4, 0),
    (3.0, -4, 0),
    (1.0000000000000002, -4, 0),
    (0.9999999999999999, -4, -1),
    (2.0000000000000004, -4, 0),
    (1.0e-09, -4, -2),
    (0.005, -4, -1),
    (0.01, -4, -1),
    (1000000.0, -4, 1),
    (1.7976931348623157e+308, -4, 63),
    (2.2250738585072014e-308, -4, -64),
    (1.000000000001, -4, 0),
    (0.999999999999, -4, -1),
    (1.0, -10, -1),
    (2.0, -10, 0),
    (0.5, -10, -1),
    (4.0, -10, 0),
    (3.0, -10, 0),
    (1.0000000000000002, -10, 0),
    (0.9999999999999999, -10, -1),
    (2.0000000000000004, -10, 0),
    (1.0e-09, -10, -1),
    (0.005, -10, -1),
    (0.01, -10, -1),
    (1000000.0, -10, 0),
    (1.7976931348623157e+308, -10, 0),
    (2.2250738585072014e-308, -10, -1),
    (1.000000000001, -10, 0),
    (0.999999999999, -10, -1),
];

#[test]
fn bucket_indices() {
    for &(value, scale, index) in INDICES {
        assert_eq!(bucket_index(value, scale), index, "{value:e} at scale {scale}");
    }
}

#[test]
fn powers_of_two_are_upper_bounds_at_every_scale() {
    for exponent in -1022..=1023 {
        let value = f64::from(exponent).exp2();
        for scale in 0..=MAX_SCALE {
            assert_eq!(
                bucket_index(value, scale),
                (exponent << scale) - 1,
                "2^{exponent} at scale {scale}"
            );
        }
        for shift in 1..=10 {
            assert_eq!(
                bucket_index(value, -shift),
                (exponent - 1) >> shift,
                "2^{exponent} at scale -{shift}"
            );
        }
    }
}

#[test]
fn subnormal_numbers_count_as_the_smallest_normal_one() {
    for scale in [-4, 0, 20] {
        assert_eq!(
            bucket_index(5e-324, scale),
            bucket_index(f64::MIN_POSITIVE, scale)
        );
    }
}

fn histogram(values: impl IntoIterator<Item = f64>) -> Exponential {
    let mut histogram = Exponential::default();
    values.into_iter().for_each(|value| histogram.record(value));
    histogram
}

/// Values spread over many orders of magnitude, in no order.
fn spread() -> Vec<f64> {
    (0..10_000_u64)
        .map(|n| ((n * 7919 % 10_000) as f64 / 500.0 - 10.0).exp2())
        .collect()
}

/// The buckets say of every value what its index says.
fn check(histogram: &Exponential, values: &[f64]) {
    assert!(histogram.buckets.len() <= MAX_BUCKETS);
    assert_eq!(histogram.count, values.len() as u64);
    let mut expected = std::collections::BTreeMap::new();
    for &value in values.iter().filter(|value| **value > 0.0) {
        *expected
            .entry(bucket_index(value, histogram.scale))
            .or_insert(0_u64) += 1;
    }
    let buckets = histogram.buckets.iter().enumerate().filter(|(_, n)| **n > 0);
    let found: std::collections::BTreeMap<i32, u64> =
        buckets.map(|(i, n)| (histogram.offset + i as i32, *n)).collect();
    assert_eq!(found, expected);
    let zeros = values.iter().filter(|value| **value == 0.0).count();
    assert_eq!(histogram.zero_count, zeros as u64);
}

#[test]
fn one_value_has_the_finest_scale() {
    let one = histogram([0.25]);
    assert_eq!(
        (one.scale, one.offset, &one.buckets[..]),
        (20, (-2 << 20) - 1, &[1][..])
    );
    assert_eq!((one.count, one.sum, one.min, one.max), (1, 0.25, 0.25, 0.25));
}

#[test]
fn the_scale_falls_as_far_as_needed() {
    let values = spread();
    let all = histogram(values.iter().copied());
    check(&all, &values);
    // 20 octaves fit 160 buckets at 8 buckets an octave, with the ends in the bargain one scale less.
    assert_eq!(all.scale, 2);
    let extremes = [f64::MIN_POSITIVE, f64::MAX, 0.0, 1.0];
    let wide = histogram(extremes);
    check(&wide, &extremes);
    assert_eq!(wide.scale, -4);
}

#[test]
fn what_is_no_measurement_counts_as_zero() {
    let odd = histogram([0.0, -1.0, f64::NAN, f64::NEG_INFINITY, f64::INFINITY]);
    assert_eq!((odd.count, odd.zero_count, odd.max), (5, 4, f64::MAX));
    assert_eq!(odd.min, 0.0);
}

#[test]
fn merging_is_recording() {
    let values = spread();
    for split in [1, 17, 5000, 9999] {
        let (a, b) = values.split_at(split);
        let (mut left, right) = (histogram(a.iter().copied()), histogram(b.iter().copied()));
        left.merge(&right);
        check(&left, &values);
        assert_eq!(left.scale, histogram(values.iter().copied()).scale);
        let mut other = right.clone();
        other.merge(&histogram(a.iter().copied()));
        assert_eq!(other.buckets, left.buckets);
    }
    let mut none = Exponential::default();
    none.merge(&histogram([3.0]));
    assert_eq!(none, histogram([3.0]));
    none.merge(&Exponential::default());
    assert_eq!(none, histogram([3.0]));
    none.reset();
    assert_eq!(none, Exponential::default());
}

#[test]
fn quantiles_are_within_a_bucket() {
    let values: Vec<f64> = (1..=1000).map(|n| f64::from(n) / 1000.0).collect();
    let all = histogram(values);
    // At scale s a bucket is 2^(2^-s) wide.
    let width = f64::from(-all.scale).exp2().exp2();
    for (q, exact) in [(0.5, 0.5), (0.95, 0.95), (0.99, 0.99), (1.0, 1.0), (0.001, 0.001)] {
        let found = all.quantile(q).unwrap();
        assert!(found <= exact * width && found >= exact / width, "{q}: {found}");
    }
    assert_eq!(Exponential::default().quantile(0.5), None);
    assert_eq!(histogram([0.0, 0.0, 0.0, 5.0]).quantile(0.5), Some(0.0));
}

#[test]
fn explicit_buckets_hold_their_upper_bounds() {
    let mut histogram = Explicit::new(&[1.0, 2.0]);
    [0.0, 1.0, 1.5, 2.0, 2.1, f64::NAN]
        .into_iter()
        .for_each(|value| histogram.record(value));
    assert_eq!(histogram.buckets, [3, 2, 1]);
    let mut twice = histogram.clone();
    twice.merge(&histogram);
    assert_eq!(twice.buckets, [6, 4, 2]);
    assert_eq!(twice.values.count, 12);
}

#[test]
fn exemplars_are_a_uniform_sample() {
    let mut ids = Ids::seeded(3);
    let mut early = 0;
    for _ in 0..2000 {
        let mut exemplars = Exemplars::default();
        for n in 0..100 {
            let exemplar = Exemplar {
                value: f64::from(n),
                time: 0,
                trace_id: [1; 16],
                span_id: [1; 8],
            };
            exemplars.offer(exemplar, &mut ids);
        }
        assert_eq!(exemplars.iter().count(), RESERVOIR);
        early += exemplars.iter().filter(|exemplar| exemplar.value < 50.0).count();
    }
    // 8000 draws of probability one half: six standard deviations are 268.
    assert!((3732..=4268).contains(&early), "{early}");
}

static REQUESTS: Instrument = Instrument {
    name: "requests",
    unit: "{request}",
    description: "",
    kind: InstrumentKind::Counter,
};

fn count(aggregates: &mut Aggregates, resource: &Arc<Resource>, path: &str) {
    let mut description = Description::new("test", path, Kind::Server);
    description.metric("path", path);
    description.measure(&REQUESTS, 1.0);
    aggregates.record(resource, &description, 1, None, &mut Ids::seeded(1));
}

fn total(aggregates: &Aggregates, is: impl Fn(&Identity) -> bool) -> i64 {
    let series = aggregates.iter().filter(|series| is(&series.identity));
    series
        .flat_map(|series| &series.cells)
        .map(|cell| if let Data::Sum(n) = cell.data { n } else { 0 })
        .sum()
}

fn overflows(identity: &Identity) -> bool {
    identity
        .attributes
        .iter()
        .any(|(key, value)| *key == OVERFLOW && *value == Value::Bool(true))
}

#[test]
fn cardinality_is_bounded_and_nothing_is_lost() {
    let config = MetricsConfig {
        cardinality_limit: 10,
        ..MetricsConfig::default()
    };
    let hasher = DefaultHashBuilder::default();
    let resources = Resources::new(ServiceInstance::default(), ServiceInstance::default());
    let resource = resources.get(None);
    let mut workers = [0, 1].map(|_| Aggregates::new(config.clone(), hasher.clone()));
    let mut totals = Aggregates::new(config, hasher);
    for n in 0..1000 {
        for (w, worker) in workers.iter_mut().enumerate() {
            count(worker, &resource, &format!("/{w}/{n}"));
        }
        count(&mut workers[0], &resource, "/0/0");
    }
    for worker in &mut workers {
        assert_eq!(worker.iter().count(), 10);
        for series in worker.take_interval(2) {
            totals.merge(&series);
        }
        assert_eq!(total(worker, |_| true), 0);
    }
    assert_eq!(totals.iter().count(), 10);
    assert_eq!(total(&totals, |_| true), 3000);
    assert_eq!(
        totals.iter().filter(|series| overflows(&series.identity)).count(),
        1
    );
    let known = total(&totals, |identity| &*identity.name == "/0/0");
    assert!(known == 0 || known == 1001, "{known}");
    // Another resource has a limit of its own, until that of all is reached.
    resources.set(
        redwire_protocol::connection::ProcessId(1),
        ServiceInstance::new("x"),
    );
    let other = resources.get(Some(redwire_protocol::connection::ProcessId(1)));
    count(&mut workers[0], &other, "/mine");
    assert_eq!(total(&workers[0], |identity| &*identity.name == "/mine"), 1);
}

#[test]
fn the_limit_of_all_series_holds_too() {
    let config = MetricsConfig {
        series_limit: 5,
        ..MetricsConfig::default()
    };
    let mut aggregates = Aggregates::new(config, DefaultHashBuilder::default());
    let resource = Resources::new(ServiceInstance::default(), ServiceInstance::default()).get(None);
    (0..100).for_each(|n| count(&mut aggregates, &resource, &n.to_string()));
    assert_eq!(aggregates.iter().count(), 6);
    assert_eq!(total(&aggregates, overflows), 95);
}

#[test]
fn a_worker_forgets_what_is_idle() {
    let mut aggregates = Aggregates::new(MetricsConfig::default(), DefaultHashBuilder::default());
    let resource = Resources::new(ServiceInstance::default(), ServiceInstance::default()).get(None);
    count(&mut aggregates, &resource, "/a");
    assert_eq!(aggregates.take_interval(2).len(), 1);
    for _ in 0..IDLE - 1 {
        assert_eq!(aggregates.take_interval(3).len(), 0);
        assert_eq!(aggregates.iter().count(), 1);
    }
    aggregates.take_interval(3);
    assert_eq!(aggregates.iter().count(), 0);
    assert!(aggregates.scopes.is_empty());
}

//! Base-2 exponential histograms (OpenTelemetry metrics data model, "ExponentialHistogram").

/// Buckets at most (the SDK specification's default for `MaxSize`).
pub(super) const MAX_BUCKETS: usize = 160;

/// The finest resolution (the SDK specification's default for `MaxScale`).
pub(super) const MAX_SCALE: i32 = 20;

/// A histogram of non-negative values whose bucket `i` holds `(base^i, base^(i+1)]` with `base = 2^(2^-scale)`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exponential {
    /// Number of values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The least; positive infinity where there is none.
    pub min: f64,
    /// The greatest; negative infinity where there is none.
    pub max: f64,
    /// How many were zero.
    pub zero_count: u64,
    /// The resolution.
    pub scale: i32,
    /// Index of the first bucket of `buckets`.
    pub offset: i32,
    /// Counts of the buckets from `offset` on.
    pub buckets: Vec<u64>,
}

impl Default for Exponential {
    fn default() -> Self {
        Exponential {
            count: 0,
            sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            zero_count: 0,
            scale: MAX_SCALE,
            offset: 0,
            buckets: Vec::new(),
        }
    }
}

/// The bucket of `value > 0` at `scale`: the `i` with `base^i < value <= base^(i+1)`. Exact for powers of two and
/// for scales up to 0; else at worst one off within a rounding error of a boundary, as the data model allows.
pub(super) fn bucket_index(value: f64, scale: i32) -> i32 {
    const MANTISSA_BITS: u32 = 52;
    let bits = value.to_bits();
    let mantissa = bits & ((1 << MANTISSA_BITS) - 1);
    let exponent = (bits >> MANTISSA_BITS) as i32 & 0x7ff;
    // Subnormal numbers count as the smallest normal one (data model, "Producer Expectations").
    let (exponent, mantissa) = if exponent == 0 {
        (-1022, 0)
    } else {
        (exponent - 1023, mantissa)
    };
    if scale <= 0 {
        // The upper bound is inclusive: a power of two belongs below.
        let index = if mantissa == 0 { exponent - 1 } else { exponent };
        return index >> -scale;
    }
    if mantissa == 0 {
        return (exponent << scale) - 1;
    }
    let fraction = f64::from_bits(mantissa | 1023 << MANTISSA_BITS).log2();
    let steps = f64::from(1_u32 << scale);
    let within = ((fraction * steps).ceil() as i32 - 1).clamp(0, (1 << scale) - 1);
    (exponent << scale) + within
}

impl Exponential {
    /// Counts `value`; one that is negative or no number counts as zero.
    pub(crate) fn record(&mut self, value: f64) {
        let value = if value > 0.0 { value.min(f64::MAX) } else { 0.0 };
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if value == 0.0 {
            self.zero_count += 1;
            return;
        }
        let mut index = bucket_index(value, self.scale);
        let (low, high) = self.span_with(index, index);
        let shift = shift_to_fit(low, high);
        if shift > 0 {
            self.downscale(shift);
            index >>= shift;
        }
        self.add(index, 1);
    }

    /// Adds what another counted.
    pub(crate) fn merge(&mut self, other: &Exponential) {
        if other.count == 0 {
            return;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.zero_count += other.zero_count;
        if other.buckets.is_empty() {
            return;
        }
        let scale = self.scale.min(other.scale);
        self.downscale(self.scale - scale);
        let shift = other.scale - scale;
        let last = other.offset + other.buckets.len() as i32 - 1;
        let (low, high) = self.span_with(other.offset >> shift, last >> shift);
        let more = shift_to_fit(low, high);
        self.downscale(more);
        let shift = shift + more;
        for (i, &n) in other.buckets.iter().enumerate() {
            if n > 0 {
                self.add((other.offset + i as i32) >> shift, n);
            }
        }
    }

    /// Forgets all values and keeps the memory.
    pub(crate) fn reset(&mut self) {
        let mut buckets = std::mem::take(&mut self.buckets);
        buckets.clear();
        *self = Exponential {
            buckets,
            ..Exponential::default()
        };
    }

    /// The value below which a share `q` (0 to 1) of all lie, interpolated within its bucket; `None` where empty.
    pub(crate) fn quantile(&self, q: f64) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let rank = q.clamp(0.0, 1.0) * self.count as f64;
        let mut seen = self.zero_count as f64;
        if rank <= seen && self.zero_count > 0 {
            return Some(0.0);
        }
        for (i, &n) in self.buckets.iter().enumerate() {
            if n > 0 && seen + n as f64 >= rank {
                let within = (rank - seen) / n as f64;
                let exponent = f64::from(self.offset + i as i32) + within;
                let value = (exponent * f64::from(-self.scale).exp2()).exp2();
                return Some(value.clamp(self.min, self.max));
            }
            seen += n as f64;
        }
        Some(self.max)
    }

    /// First and last index in use if `low` to `high` were too.
    fn span_with(&self, low: i32, high: i32) -> (i32, i32) {
        if self.buckets.is_empty() {
            return (low, high);
        }
        let last = self.offset + self.buckets.len() as i32 - 1;
        (low.min(self.offset), high.max(last))
    }

    fn add(&mut self, index: i32, n: u64) {
        if self.buckets.is_empty() {
            self.offset = index;
        }
        if index < self.offset {
            let before = (self.offset - index) as usize;
            self.buckets.splice(0..0, std::iter::repeat_n(0, before));
            self.offset = index;
        }
        let at = (index - self.offset) as usize;
        if at >= self.buckets.len() {
            self.buckets.resize(at + 1, 0);
        }
        self.buckets[at] += n;
    }

    fn downscale(&mut self, shift: i32) {
        if shift <= 0 {
            return;
        }
        self.scale -= shift;
        let first = self.offset >> shift;
        for i in 0..self.buckets.len() {
            let n = std::mem::take(&mut self.buckets[i]);
            let to = ((self.offset + i as i32) >> shift) - first;
            self.buckets[to as usize] += n;
        }
        let last = (self.offset + self.buckets.len() as i32 - 1) >> shift;
        self.buckets.truncate((last - first + 1).max(0) as usize);
        self.offset = first;
    }
}

/// By how much the scale must fall for `low` to `high` to fit.
fn shift_to_fit(mut low: i32, mut high: i32) -> i32 {
    let mut shift = 0;
    while i64::from(high) - i64::from(low) >= MAX_BUCKETS as i64 {
        low >>= 1;
        high >>= 1;
        shift += 1;
    }
    shift
}

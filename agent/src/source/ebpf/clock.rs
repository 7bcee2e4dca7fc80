//! From the kernel's monotonic time to the time of day.

/// How far the time of day is ahead of CLOCK_MONOTONIC, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    ahead: i128,
}

/// A smaller change is jitter of the measurement.
const STEP: i128 = 1_000_000;

impl Clock {
    pub(super) fn new() -> Clock {
        Clock { ahead: measure() }
    }

    /// Follows steps of the time of day.
    pub(super) fn refresh(&mut self) {
        let ahead = measure();
        if (ahead - self.ahead).abs() > STEP {
            self.ahead = ahead;
        }
    }

    /// Nanoseconds since the Unix epoch, of a monotonic time.
    pub(super) fn unix(&self, monotonic: u64) -> u64 {
        u64::try_from(i128::from(monotonic) + self.ahead).unwrap_or(0)
    }

    pub(super) fn now(&self) -> u64 {
        self.unix(u64::try_from(read(libc::CLOCK_MONOTONIC)).unwrap_or(0))
    }
}

fn measure() -> i128 {
    // The shortest of a few readings had least time between its two clocks.
    let reading = || {
        let before = read(libc::CLOCK_MONOTONIC);
        let unix = read(libc::CLOCK_REALTIME);
        let after = read(libc::CLOCK_MONOTONIC);
        (after - before, unix - (before + after) / 2)
    };
    (0..5).map(|_| reading()).min().map_or(0, |(_, ahead)| ahead)
}

/// clock_gettime(2), in nanoseconds.
fn read(clock: libc::clockid_t) -> i128 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid place for the result.
    unsafe { libc::clock_gettime(clock, &mut time) };
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

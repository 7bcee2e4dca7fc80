//! Deadlines of calls (doc/PROTOCOL-HTTP2.md, "Timeout").

/// The value of a `grpc-timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// What it says, in nanoseconds.
    timeout: u64,
    /// By how much that may be more than what the client waits, in nanoseconds.
    rounding: u64,
}

impl Deadline {
    /// Reads the value of the header: at most eight digits and a unit.
    pub fn parse(value: &[u8]) -> Option<Deadline> {
        let (unit, digits) = value.split_last()?;
        let unit = match unit {
            b'H' => 3_600_000_000_000,
            b'M' => 60_000_000_000,
            b'S' => 1_000_000_000,
            b'm' => 1_000_000,
            b'u' => 1_000,
            b'n' => 1,
            _ => return None,
        };
        if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = digits
            .iter()
            .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
        let timeout: u64 = number.saturating_mul(unit);
        // Encoders round up to a whole unit, but for units so long that they are written only for what is one anyway.
        let rounding = if unit <= 1_000_000 { unit.min(timeout) } else { 0 };
        Some(Deadline { timeout, rounding })
    }

    /// Whether a call that ended after `elapsed` nanoseconds was at its deadline. What is seen is a little short of what
    /// was sent: the client's clock runs from before it writes the request, a busy server reads it late (11 ms were seen,
    /// at the begin of a connection), and C-core rounds longer timeouts up to a hundredth. A tenth of the timeout is the
    /// most that is forgiven.
    pub fn is_over(self, elapsed: u64) -> bool {
        const DELAY: u64 = 25_000_000;
        let waited = self.timeout - self.rounding;
        let forgiven = DELAY.min(waited / 10).max(waited / 100);
        elapsed >= waited - forgiven
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines() {
        const US: u64 = 1_000;
        const MS: u64 = 1_000_000;
        for (timeout, elapsed, over) in [
            ("150m", 150 * MS, true),
            ("150m", 135 * MS, true),
            ("150m", 133 * MS, false),
            // C-core, of 5 ms.
            ("6m", 5_200 * US, true),
            ("6m", 4_400 * US, false),
            ("1m", 0, true),
            ("2m", 500 * US, false),
            // Go, of 150 ms less what the call took to begin.
            ("149992u", 150 * MS, true),
            ("149992u", 134 * MS, false),
            ("1S", 975 * MS, true),
            ("1S", 974 * MS, false),
            ("10S", 9_900 * MS, true),
            ("10S", 9_800 * MS, false),
            ("1M", 50_000 * MS, false),
            ("0n", 0, true),
            ("99999999H", 10_000 * MS, false),
        ] {
            let deadline = Deadline::parse(timeout.as_bytes()).unwrap();
            assert_eq!(deadline.is_over(elapsed), over, "{elapsed} of {timeout}");
        }
    }

    #[test]
    fn timeouts() {
        let timeout = |value: &str| Deadline::parse(value.as_bytes()).map(|deadline| deadline.timeout);
        assert_eq!(timeout("101m"), Some(101_000_000));
        assert_eq!(timeout("1H"), Some(3_600_000_000_000));
        assert_eq!(timeout("99999999u"), Some(99_999_999_000));
        assert_eq!(timeout("99999999H"), Some(u64::MAX), "584 years are the most");
        for bad in ["", "m", "5", "1x", "-1S", "123456789n"] {
            assert_eq!(timeout(bad), None, "{bad}");
        }
    }
}

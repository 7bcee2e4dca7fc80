//! Trace and span ids.

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

/// A source of ids: fast, local, not for secrets.
pub(crate) struct Ids(SmallRng);

impl Ids {
    /// Seeded by the operating system.
    pub(crate) fn from_os() -> Ids {
        Ids(SmallRng::from_os_rng())
    }

    /// The same ids for the same seed.
    pub(crate) fn seeded(seed: u64) -> Ids {
        Ids(SmallRng::seed_from_u64(seed))
    }

    /// 16 bytes, not all zero.
    pub(crate) fn trace_id(&mut self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.number().to_be_bytes());
        id[8..].copy_from_slice(&self.number().to_be_bytes());
        id
    }

    /// 8 bytes, not all zero.
    pub(crate) fn span_id(&mut self) -> [u8; 8] {
        self.number().to_be_bytes()
    }

    /// A number below `n`, for reservoirs; 0 for `n` 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(n)) >> 64) as u64
    }

    fn number(&mut self) -> u64 {
        loop {
            let n = self.0.next_u64();
            if n != 0 {
                return n;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeded_ids_repeat_and_others_do_not() {
        let (mut a, mut b, mut os) = (Ids::seeded(7), Ids::seeded(7), Ids::from_os());
        assert_eq!(a.trace_id(), b.trace_id());
        assert_eq!(a.span_id(), b.span_id());
        assert_ne!(a.trace_id(), os.trace_id());
        assert!((0..1000).all(|_| a.below(3) < 3));
    }
}

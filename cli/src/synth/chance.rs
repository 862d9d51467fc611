//! Chance in whole numbers, from a cipher whose output is fixed by its specification.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

pub(crate) struct Chance(ChaCha8Rng);

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Chance(ChaCha8Rng::from_seed(bytes))
    }

    /// One of `0..n`, each about as likely; `n` is not zero.
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.0.next_u32()) * u64::from(n)) >> 32) as u32
    }

    /// One of `from..=to`.
    pub(crate) fn between(&mut self, from: u32, to: u32) -> u32 {
        from + self.below(to - from + 1)
    }

    /// One of `from..=to`, the middle more likely than the ends.
    pub(crate) fn around(&mut self, from: u32, to: u32) -> u32 {
        let half = (to - from) / 2;
        from + self.below(half + 1) + self.below(to - from - half + 1)
    }

    pub(crate) fn percent(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u32) as usize]
    }

    /// A draw from a distribution that is given by points of its quantile function, `(of 4096,
    /// value)`, and straight lines between them.
    pub(crate) fn quantile(&mut self, points: &[(u32, u32)]) -> u32 {
        let at = self.below(4096);
        let upper = points.iter().position(|(place, _)| *place > at).unwrap_or(points.len() - 1);
        let ((x0, y0), (x1, y1)) = (points[upper - 1], points[upper]);
        y0 + (y1 - y0) * (at - x0) / (x1 - x0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_where_they_should() {
        let mut chance = Chance::new(1);
        for _ in 0..10_000 {
            assert!(chance.below(7) < 7);
            assert!((3..=4).contains(&chance.between(3, 4)));
            assert!((10..=20).contains(&chance.around(10, 20)));
            assert!((1..=9).contains(&chance.quantile(&[(0, 1), (4000, 3), (4096, 9)])));
        }
    }
}

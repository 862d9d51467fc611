//! Chance, by a seed.

use curfew_engine::{GraceMode, OnFull, OnLimit, Policy, Retain, Span};

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    pub(crate) fn span(&mut self) -> Span {
        let short = 1 + self.below(20);
        let long = 20 + self.below(400);
        Span::from_millis(self.pick(&[0, short, short, long, long, 5000]))
    }

    pub(crate) fn policy(&mut self) -> Policy {
        let (idle, lifetime) = (self.span(), self.span());
        let idle = if idle.is_off() && lifetime.is_off() { Span::from_millis(50) } else { idle };
        Policy {
            idle,
            lifetime,
            grace: if self.one_in(3) { self.span() } else { Span::OFF },
            grace_mode: self.pick(&[GraceMode::Resume, GraceMode::Reauth]),
            max_per_subject: self.pick(&[0, 0, 1, 2, 3]),
            on_limit: self.pick(&[OnLimit::Deny, OnLimit::EndOldest, OnLimit::EndLeastRecent]),
            retain: if self.one_in(4) { Retain::UntilHardLimit } else { Retain::For(self.span()) },
            on_full: self.pick(&[OnFull::Refuse, OnFull::EvictEnded]),
            ..Policy::new()
        }
    }
}

//! What the targets share: decisions out of the fuzzer's bytes, regions and snapshots to damage.

pub mod regions;
pub mod snapshots;

#[path = "../../engine/tests/common/verbs.rs"]
mod verbs;

pub use verbs::{Chance, Random, call, every_verb, key, repair_and_end, subject, use_it};

/// Decisions that the bytes of a fuzzer make, one after the other; behind their end a seed goes on.
#[derive(Clone)]
pub struct Bytes<'a> {
    rest: &'a [u8],
    behind: Random,
}

impl<'a> Bytes<'a> {
    pub fn new(data: &'a [u8]) -> Bytes<'a> {
        Bytes { rest: data, behind: Random::new(data.len() as u64) }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What no decision has used.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// One of `0..bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        let size = match bound {
            0..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 8,
        };
        let Some((taken, rest)) = self.rest.split_at_checked(size) else {
            self.rest = &[];
            return self.behind.below(bound);
        };
        self.rest = rest;
        taken.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte)) % bound
    }

    pub fn index(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }
}

impl Chance for Bytes<'_> {
    fn below(&mut self, bound: u64) -> u64 {
        Bytes::below(self, bound)
    }
}

//! The limit: what memory allows anyone who keeps a 64-byte record a session.
//!
//! A preallocated open-addressing table with linear probing, at most two thirds full, so that a
//! session is nearly always in the first line looked at. A touch is a comparison of the key and one
//! plain store: no policy, no expiry, no removal, nobody else to agree with. The engine is measured
//! against this and not against nanoseconds, which every machine has others of.

use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::Result;

/// The same memory as a record of the engine.
#[repr(C, align(64))]
struct Record {
    key: [AtomicU64; 2],
    last: AtomicU64,
    _rest: [AtomicU64; 5],
}

/// The table.
pub struct Limit {
    map: MmapRaw,
    records: usize,
}

impl Limit {
    /// A table with room for `sessions`.
    ///
    /// # Errors
    /// When the system has no address space.
    pub fn new(sessions: usize, huge_pages: bool) -> Result<Limit> {
        let records = (sessions + sessions / 2 + 1).next_power_of_two();
        let map = MmapRaw::from(MmapOptions::new().len(records * size_of::<Record>()).map_anon()?);
        if huge_pages {
            // A hint, as in the engine.
            let _ = map.advise(Advice::HugePage);
        }
        Ok(Limit { map, records })
    }

    #[inline]
    fn records(&self) -> &[Record] {
        // SAFETY: the mapping is `records * size_of::<Record>()` bytes long, starts on a page, is
        // readable and writable and lives as long as `self`. It holds nothing but atomics, of which
        // every bit pattern is one, and is reached in no other way.
        unsafe { std::slice::from_raw_parts(self.map.as_mut_ptr().cast(), self.records) }
    }

    #[inline]
    fn home(&self, key: [u64; 2]) -> usize {
        key[0] as usize & (self.records - 1)
    }

    /// Adds a session. From one thread only, at most as often as [`Limit::new`] was told.
    pub fn insert(&self, key: [u64; 2]) {
        let mut at = self.home(key);
        while !self.records()[at].is(key) && !self.records()[at].is([0; 2]) {
            at = (at + 1) & (self.records - 1);
        }
        for (word, value) in self.records()[at].key.iter().zip(key) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Notes that a session was active; false when there is none of this key.
    #[inline]
    pub fn touch(&self, key: [u64; 2], now: u64) -> bool {
        let records = self.records();
        let mut at = self.home(key);
        loop {
            let record = &records[at];
            if record.is(key) {
                record.last.store(now, Ordering::Relaxed);
                return true;
            }
            if record.is([0; 2]) {
                return false;
            }
            at = (at + 1) & (self.records - 1);
        }
    }

    /// Touches many, asking for all their memory first; says how many there were.
    #[inline]
    pub fn touch_many(&self, keys: &[[u64; 2]], now: u64) -> usize {
        for key in keys {
            prefetch(&self.records()[self.home(*key)]);
        }
        keys.iter().filter(|key| self.touch(**key, now)).count()
    }
}

impl Record {
    #[inline]
    fn is(&self, key: [u64; 2]) -> bool {
        self.key[0].load(Ordering::Relaxed) == key[0] && self.key[1].load(Ordering::Relaxed) == key[1]
    }
}

#[inline]
fn prefetch(record: &Record) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint about an address that a reference vouches for; it reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(record).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = record;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_there_and_nothing_else_is() {
        let limit = Limit::new(3, false).unwrap();
        // All of one home, so that probing is needed.
        let keys = [[8, 1], [16, 2], [24, 3]];
        keys.iter().for_each(|key| limit.insert(*key));
        assert_eq!(limit.touch_many(&keys, 7), 3);
        assert!(!limit.touch([32, 4], 7));
    }
}

//! Advance: reclaims what has ended and reports it. Never what enforces: a touch is exact to the
//! millisecond whether this has run or not.

use std::sync::atomic::Ordering;

use crate::layout::header;
use crate::table::Table;
use crate::time::Tick;

/// Work done under one lock before others get their turn: some tens of microseconds.
const SLICE: usize = 256;

/// What an advance did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Advance {
    /// Units of work done, at most the budget: an entry of the timer, or a record looked at because
    /// a policy has changed.
    pub done: usize,
    /// Whether there is more that is due at this `now`.
    pub more: bool,
}

impl Table {
    /// Does what is due at `now`, at most `budget` units of it: ends sessions whose time has come,
    /// each in one event, forgets ended records that need not be kept, and catches up with changed
    /// policies. Call it again at once while there is `more`, else at [`Table::next_due`] or every
    /// now and then. Several threads and processes may call it at once and share the work.
    pub fn advance(&self, now: Tick, budget: usize) -> Advance {
        let now = now.as_now();
        let shards = self.region.layout.shards;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut done = 0;
        for shard in (0..shards).map(|nth| (turn + nth) & (shards - 1)) {
            while done < budget {
                let units = self.advance_shard(shard, now, SLICE.min(budget - done));
                done += units;
                if units == 0 {
                    break;
                }
            }
        }
        self.forget_old_policies();
        Advance { done, more: (0..shards).any(|shard| self.is_due(shard, now)) }
    }

    fn is_due(&self, shard: usize, now: Tick) -> bool {
        self.region.next_due(shard) <= now || self.is_unswept(shard)
    }

    fn is_unswept(&self, shard: usize) -> bool {
        self.region.swept(shard) < self.region.get(header::POLICY_CHANGES)
    }

    fn advance_shard(&self, shard: usize, now: Tick, budget: usize) -> usize {
        if !self.is_due(shard, now) {
            return 0;
        }
        let shard = self.region.lock_shard(shard);
        // First what a policy change has ended: it may have to be ended under the old version.
        let swept = shard.sweep(now, budget);
        swept + shard.advance(now, budget - swept)
    }

    /// Once every shard has been looked through, nobody needs the versions that policies had before.
    fn forget_old_policies(&self) {
        let shards = self.region.layout.shards;
        if !self.region.has_older_versions() {
            return;
        }
        let swept = (0..shards).map(|shard| self.region.swept(shard)).min();
        self.region.forget_versions(swept.unwrap_or(0));
    }

    /// The earliest tick at which [`Table::advance`] may have something to do; [`Tick::NEVER`] when
    /// there is nothing. It may be earlier than the next end: entries are filed anew on their way.
    #[must_use]
    pub fn next_due(&self) -> Tick {
        let shards = 0..self.region.layout.shards;
        shards
            .map(|shard| if self.is_unswept(shard) { Tick::ZERO } else { self.region.next_due(shard) })
            .min()
            .unwrap_or(Tick::NEVER)
    }
}

//! Check: is every invariant of `docs/protocol.md` true.

use crate::layout::LISTS;
use crate::record::Kind;
use crate::shard::{Shard, field};
use crate::state::deadlines;
use crate::table::Table;
use crate::wheel::{KEPT, LIVE};

/// Something in a region that is not as it must be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("shard {shard}: {what}")]
pub struct Damage {
    /// In which shard.
    pub shard: usize,
    /// What.
    pub what: String,
}

impl Table {
    /// Looks through the whole region, one shard after the other, and then through the subjects, for
    /// which it holds all shards: touches go on meanwhile, everything else waits.
    ///
    /// # Errors
    /// The first thing that is not as it must be.
    pub fn check(&self) -> Result<(), Damage> {
        for number in 0..self.region.layout.shards {
            // A change of a policy that is published and not counted yet is not to be seen here.
            let _policies = self.region.lock_policies();
            let shard = self.region.lock_shard(number);
            shard.check().map_err(|what| Damage { shard: number, what })?;
        }
        // Lists of subjects go across shards: nothing may move while they are looked at.
        let _all: Vec<_> = (0..self.region.layout.shards).map(|number| self.region.lock_shard(number)).collect();
        self.region.check_subjects().map_err(|what| Damage { shard: 0, what })
    }

    /// The words of the region that hold nothing but what [`Table::repair`] makes anew, whatever is
    /// in them: for tests that damage them.
    #[doc(hidden)]
    #[must_use]
    pub fn derived(&self) -> Vec<std::ops::Range<usize>> {
        self.region.layout.derived()
    }

    /// Puts everything that is derived right from the records: what opening a region that may have
    /// been damaged calls for. Costs a look at every record.
    pub fn repair(&self) {
        drop(self.region.lock_policies());
        for number in 0..self.region.layout.shards {
            self.region.lock_shard(number).rebuild();
        }
        self.region.rebuild_subjects();
    }
}

impl Shard<'_> {
    fn check(&self) -> Result<(), String> {
        let hash_at = |position: usize| self.region.view(self.first() + position).map(|view| view.key.0[0]);
        self.index.check(self.region, hash_at)?;

        let mut entries = vec![false; self.region.layout.slots];
        let mut stale = 0;
        self.timer.check(|list, entry| {
            // After 256 filings an entry may say the same as an old one that is still there. Of two
            // that are alike the first to fire is taken, and the other one is stale by then.
            if self.is_stale(list, entry) || entries[entry.slot()] {
                stale += 1;
            } else {
                entries[entry.slot()] = true;
            }
        })?;
        if stale != self.timer.stale() {
            return Err(format!("{stale} entries are stale and {} are counted", self.timer.stale()));
        }
        let (mut used, mut live) = (0, 0);
        for slot in self.slots() {
            let Some(view) = self.region.view(slot) else {
                if self.region.control(slot).is_filed() {
                    return Err(format!("slot {slot} is free and filed"));
                }
                continue;
            };
            used += 1;
            if self.region.shard_of(view.key) != self.number {
                return Err(format!("slot {slot} has a key of another shard"));
            }
            let Some(rules) = self.region.rules(view.control.policy()) else {
                return Err(format!("slot {slot} lives under policy {}, which is not there", view.control.policy()));
            };
            let (wheel, due) = match view.mark() {
                Some(_) if !view.is_kept() => return Err(format!("slot {slot} has ended and is not kept")),
                Some(_) if !view.control.is_reported() => return Err(format!("slot {slot} has ended unreported")),
                Some(_) => (KEPT, view.kept_until()),
                _ if view.control.is_moving() => return Err(format!("slot {slot} is becoming an alias")),
                None if view.control.kind() == Kind::Alias => return Err(format!("alias {slot} has no mark")),
                None => (LIVE, deadlines(&view.life(), &rules.policy).end.at),
            };
            live += u64::from(view.mark().is_none());
            let control = view.control;
            if control.is_filed() != entries[slot - self.first()] {
                return Err(format!("slot {slot} is filed and has no entry, or has one and is not"));
            }
            if !control.is_filed() && !due.is_never() && self.is_swept() {
                return Err(format!("slot {slot} is due at {due:?} and filed nowhere"));
            }
            // While shards are being swept after a policy change an entry may still fire too late.
            let fires = self.timer.start_of(control.list());
            let in_time = fires.as_millis() <= due.as_millis().max(self.timer.clock(wheel));
            if control.is_filed() && (control.list() / LISTS != wheel || (!in_time && self.is_swept())) {
                return Err(format!("slot {slot} is due at {due:?} and fires at {fires:?}"));
            }
        }
        if (used, live) != (self.get(field::USED), self.get(field::LIVE)) {
            return Err(format!("{used} records are used, {live} live; counted {:?}", self.get(field::USED)));
        }
        Ok(())
    }

    fn is_swept(&self) -> bool {
        self.get(field::SWEPT) >= self.region.get(crate::layout::header::POLICY_CHANGES)
    }
}

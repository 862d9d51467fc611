//! Moving sessions into another region, of another size: this is how a table grows.

use crate::cause::End;
use crate::error::CopyError;
use crate::key::Subject;
use crate::policies::PolicyId;
#[cfg(not(loom))]
use crate::policy::Policy;
use crate::record::{Birth, Kind, View};
use crate::shard::Room;
use crate::state::{State, keep_until};
use crate::table::Table;
use crate::time::Tick;

/// Units of due work done at once to make room.
const SLICE: usize = 4096;

/// A record on its way from one region into another.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Adopted {
    Live(Birth),
    /// One that had ended and was reported, and until when it is kept.
    Ended(Birth, Kind, End, Tick),
}

impl Table {
    /// Whether somebody else has this region open, so that what is copied out of it may be changed
    /// after. Always false for a private one.
    #[cfg(not(loom))]
    #[must_use]
    pub fn has_company(&self) -> bool {
        self.region.owner.has_company()
    }

    /// Copies every policy and every session that is alive or remembered at `now` into an empty
    /// region with the same secret, with their starts, activities, tokens and bindings; says how
    /// many. Aliases of rotated sessions become ended records: their overlap ends here. Sessions
    /// whose time had come are reported by neither region: advance this one first.
    ///
    /// Nobody else may change this region meanwhile, or the change may be lost.
    ///
    /// # Errors
    /// [`CopyError`]; this region is as it was, the other one may hold a part.
    pub fn copy_into(&self, other: &Table, now: Tick) -> Result<u64, CopyError> {
        let now = now.as_now();
        if self.secret != other.secret {
            return Err(CopyError::OtherSecret);
        }
        let mut policies = [PolicyId(0); 256];
        for (id, name, policy) in self.policies() {
            policies[usize::from(id.0)] = other.set_policy(&name, &policy, now).map_err(|_| CopyError::Policies)?;
        }
        for shard in 0..self.region.layout.shards {
            drop(self.region.lock_shard(shard));
        }
        let mut copied = 0;
        for slot in 0..self.region.layout.all_slots() {
            if let Some(view) = self.region.view(slot) {
                let policy = policies[usize::from(view.control.policy())];
                let fitted = self.copy_one(other, &view, policy, now).ok_or(CopyError::Full { copied })?;
                copied += u64::from(fitted);
            }
        }
        Ok(copied)
    }

    /// Copies one record unless it need not be kept; `None` when there is no room.
    fn copy_one(&self, other: &Table, view: &View, policy: PolicyId, now: Tick) -> Option<bool> {
        let Some(judged) = self.region.judge(view, now) else { return Some(false) };
        let life = view.life();
        let ended = match judged.state {
            State::Ended(end) => Some(end),
            _ => None,
        };
        let until = match (view.mark(), ended) {
            (Some(_), _) => view.kept_until(),
            (None, Some(end)) => keep_until(&life, &judged.policy, end),
            (None, None) => Tick::NEVER,
        };
        if until <= now {
            return Some(false);
        }
        let birth = Birth {
            key: view.key,
            policy: policy.0,
            start: life.start,
            last: life.last,
            token: life.token,
            binding: view.binding(),
            subject: view.subject(),
        };
        let record = match ended {
            Some(end) => Adopted::Ended(birth, Kind::Session, end, until),
            None => Adopted::Live(birth),
        };
        other.adopt(&record, false, now).map(|_| true)
    }

    /// Ends a session that was adopted and was over already.
    #[cfg(not(loom))]
    pub(crate) fn end_as(&self, slot: usize, end: End, version: &Policy, now: Tick) {
        let shard = self.region.lock_shard(slot / self.region.layout.slots);
        if let Some(view) = self.region.view(slot) {
            shard.end(slot, &view, end, version, now);
        }
    }

    /// Puts in a record of another region with the same secret as it was there, and says where.
    /// `None` when there is no room, also after doing what is due at `now` and, if `evict` allows
    /// it, giving up ended records.
    pub(crate) fn adopt(&self, record: &Adopted, evict: bool, now: Tick) -> Option<usize> {
        let region = &self.region;
        let (Adopted::Live(birth) | Adopted::Ended(birth, ..)) = record;
        let shard = region.lock_shard(region.shard_of(birth.key));
        // What is due may be more than one start would do to make room.
        while !shard.has_room() && shard.sweep(now, SLICE) + shard.advance(now, SLICE) > 0 {}
        loop {
            match shard.make_room(now, evict) {
                Room::Made => break,
                Room::None => return None,
                Room::Sorting => {}
            }
        }
        let policy = region.newest(birth.policy)?.policy;
        match record {
            Adopted::Ended(_, kind, end, until) => shard.insert_ended(birth, *kind, *end, *until),
            Adopted::Live(_) if birth.subject == Subject::NONE => shard.insert(birth, &policy),
            Adopted::Live(_) => {
                let subjects = region.subjects(birth.subject);
                if !subjects.has_room(birth.subject) {
                    return None;
                }
                let slot = shard.insert(birth, &policy)?;
                subjects.link(slot, birth.subject);
                Some(slot)
            }
        }
    }
}

//! Moving sessions into another region, of another size: this is how a table grows.

use crate::backing::Config;
use crate::error::CopyError;
use crate::key::Subject;
use crate::policies::PolicyId;
use crate::record::{Birth, Kind, View};
use crate::shard::Shard;
use crate::state::{State, keep_until};
use crate::table::Table;
use crate::time::Tick;
use crate::wheel::KEPT;

impl Table {
    /// With what a region must be created so that it can take over this one's sessions: the same
    /// secret, so that ids keep their keys, and the same epoch, so that times mean the same.
    #[must_use]
    pub fn config_for(&self, capacity: u64) -> Config {
        let mut secret = [0; 32];
        for (bytes, word) in secret.chunks_exact_mut(8).zip(self.secret.0) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Config { secret: Some(secret), epoch: self.epoch(), ..Config::new(capacity) }
    }

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
        let subject =
            if ended.is_some() || view.control.kind() == Kind::Alias { Subject::NONE } else { view.subject() };
        let birth = Birth {
            key: view.key,
            policy: policy.0,
            start: life.start,
            last: life.last,
            token: life.token,
            binding: view.binding(),
            subject,
        };
        let region = &other.region;
        let shard = region.lock_shard(region.shard_of(view.key));
        if !shard.make_room(now, false) {
            return None;
        }
        let rules = region.rules(policy.0)?;
        let slot = if subject == Subject::NONE {
            shard.insert(&birth, &rules)?
        } else {
            let subjects = region.subjects(subject);
            if !subjects.has_room(subject) {
                return None;
            }
            let slot = shard.insert(&birth, &rules)?;
            subjects.link(slot, subject);
            slot
        };
        if let Some(end) = ended {
            region.mark(slot, end);
            region.set_control(slot, region.control(slot).reported());
            shard.uncount_live();
            region.keep(slot, until);
            Shard::file(&shard, slot, KEPT, until);
        }
        Some(true)
    }
}

//! Putting a snapshot into an empty region.
//!
//! Records come in as they were, ticks and all; only the region's epoch is new. By the tick that it
//! is now the state of a session is what it would have been, had the region never been away, and
//! the next advance reports what ended meanwhile. Only what was over under an older version of its
//! policy is ended here, because older versions do not come along.

use std::collections::HashMap;
use std::path::Path;

use crate::backing::{self, Config};
use crate::cause::Cause;
use crate::error::{CreateError, RestoreError};
use crate::key::{Binding, Key, Subject};
use crate::layout::header;
use crate::moment::Moment;
use crate::policy::OnFull;
use crate::record::{Birth, Kind};
use crate::region::Region;
use crate::snapshot::format::{Entry, What};
use crate::snapshot::read::Snapshot;
use crate::state::State;
use crate::table::Table;
use crate::table::copy::Adopted;
use crate::time::{Span, Tick};
use crate::wheel::{KEPT, LIVE};

/// In an alias: the new record is gone.
const NOWHERE: (usize, u32) = (u32::MAX as usize, u32::MAX);

/// What came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Restored {
    /// Sessions that go on.
    pub live: u64,
    /// Sessions whose time has come. They have ended; the next [`Table::advance`] reports them.
    pub over: u64,
    /// Sessions that had ended before, and are still remembered.
    pub ended: u64,
    /// Sessions that had ended before, and need not be remembered any longer.
    pub forgotten: u64,
    /// The time that counts against every session.
    pub downtime: Span,
    /// The tick that it is now.
    pub now: Tick,
}

/// Aliases whose overlap goes on, by their keys: those of their sessions' new records.
type Overlaps = HashMap<Key, Key>;

impl Snapshot {
    /// Restores into memory of this process's own. Of `config` the capacity, the events and the
    /// pages count ([`Snapshot::config`] has those of the region before).
    ///
    /// From now on ticks must come from [`Table::tick_at`].
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn restore_private(&self, config: &Config, moment: &Moment) -> Result<(Table, Restored), RestoreError> {
        let (config, restored) = self.resume(config, moment)?;
        let table = Table::private(&config)?;
        let restored = self.fill(&table, restored)?;
        Ok((table, restored))
    }

    /// Restores into a new region file, which appears at `path` with everything in it or not at
    /// all. What is there already is never replaced: processes may still use it.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn restore(&self, path: &Path, config: &Config, moment: &Moment) -> Result<(Table, Restored), RestoreError> {
        let (config, mut restored) = self.resume(config, moment)?;
        let fill = |region: Region| -> Result<(), RestoreError> {
            restored = self.fill(&Table::new(region), restored)?;
            Ok(())
        };
        let region = backing::create_with(path, &config, fill)?;
        Ok((Table::new(region), restored))
    }

    /// Restores into the region that `make` makes.
    pub(super) fn restore_into(
        &self,
        config: &Config,
        moment: &Moment,
        make: impl FnOnce(&Config) -> Result<Region, CreateError>,
    ) -> Result<Restored, RestoreError> {
        let (config, restored) = self.resume(config, moment)?;
        self.fill(&Table::new(make(&config)?), restored)
    }

    fn resume(&self, config: &Config, moment: &Moment) -> Result<(Config, Restored), RestoreError> {
        let mut secret = [0; 32];
        for (bytes, word) in secret.as_chunks_mut().0.iter_mut().zip(self.head.secret) {
            *bytes = word.to_le_bytes();
        }
        if config.secret.is_some_and(|other| other != secret) {
            return Err(RestoreError::OtherSecret);
        }
        let downtime = self.downtime(moment)?;
        let now = self.tick_at(moment)?;
        // No machine has been up for so long; and a smaller epoch only makes it later.
        let steady = i64::try_from(moment.steady).unwrap_or(i64::MAX);
        let epoch = steady - now.as_millis() as i64;
        Ok((
            Config { secret: Some(secret), epoch, ..config.clone() },
            Restored { downtime, now, ..Restored::default() },
        ))
    }

    fn fill(&self, table: &Table, mut restored: Restored) -> Result<Restored, RestoreError> {
        let region = &table.region;
        // A reader's cursor stays good; what it had not read before is counted as missed.
        region.publish(header::RING_HEAD, self.head.event_head);
        for shard in 0..region.layout.shards {
            let shard = region.lock_shard(shard);
            for wheel in [LIVE, KEPT] {
                // What is due after this is filed where it is found in its turn.
                shard.timer.set_clock(wheel, self.head.tick);
            }
        }
        let mut evicts = false;
        for (id, policy) in self.head.policies.iter().enumerate() {
            if let Some(policy) = policy {
                region.adopt_policy(id as u8, &policy.name, policy.newest(), policy.since());
                evicts |= policy.newest().on_full == OnFull::EvictEnded;
            }
        }
        let mut overlaps = Overlaps::new();
        let sum = self.each(|number, entry| {
            let entry = entry.map_err(|_| RestoreError::Changed)?;
            if self.last_of.get(&entry.key).is_some_and(|last| *last != number) {
                return Ok(());
            }
            self.restore_one(table, &entry, evicts, &mut restored, &mut overlaps)
        })?;
        if sum != self.head.sum {
            return Err(RestoreError::Changed);
        }
        for (old, new) in overlaps {
            if let (Some((alias, _)), Some((slot, view))) = (region.find(old), region.find(new)) {
                let shard = region.lock_shard(region.shard_of(old));
                region.alias(alias, slot, view.control.generation());
                drop(shard);
            }
        }
        Ok(restored)
    }

    fn restore_one(
        &self,
        table: &Table,
        entry: &Entry,
        evicts: bool,
        restored: &mut Restored,
        overlaps: &mut Overlaps,
    ) -> Result<(), RestoreError> {
        let now = restored.now;
        let birth = |policy: u8, start: Tick, last: Tick, subject: Subject| Birth {
            key: entry.key,
            policy,
            start,
            last,
            token: Tick::NEVER,
            binding: Binding::NONE,
            subject,
        };
        // Also for an entry that comes to nothing: what counts for a key is the last one.
        forget_earlier(table, entry.key)?;
        overlaps.remove(&entry.key);
        let record = match entry.what {
            What::Gone => return Ok(()),
            What::Live { policy, life, binding, subject } => {
                Adopted::Live(Birth { token: life.token, binding, ..birth(policy, life.start, life.last, subject) })
            }
            What::Ended { until, .. } | What::Alias { until, .. } if until <= now => {
                restored.forgotten += 1;
                return Ok(());
            }
            What::Ended { policy, start, last, end, until, subject } => {
                Adopted::Ended(birth(policy, start, last, subject), Kind::Session, end, until)
            }
            What::Alias { policy, end, until, target } => {
                overlaps.extend(target.filter(|_| end.at > now).map(|target| (entry.key, target)));
                let nowhere = Subject(u64::from(NOWHERE.1) << 32 | NOWHERE.0 as u64);
                debug_assert_eq!(end.cause, Cause::Rotated);
                Adopted::Ended(birth(policy, Tick::ZERO, Tick::ZERO, nowhere), Kind::Alias, end, until)
            }
        };
        let full = RestoreError::Full { capacity: table.region.layout.capacity, entries: self.head.entries };
        let slot = table.adopt(&record, evicts, now).ok_or(full)?;
        if let What::Live { policy, life, .. } = entry.what
            && let Some((end, version)) = self.head.policy(policy).and_then(|policy| policy.over_before(&life))
        {
            restored.over += 1;
            table.end_as(slot, end, &version, now);
            return Ok(());
        }
        let judged = table.region.view(slot).and_then(|view| table.region.judge(&view, now));
        match (record, judged.map(|judged| judged.state)) {
            (Adopted::Ended(..), _) => restored.ended += 1,
            (Adopted::Live(_), Some(State::Active | State::Grace)) => restored.live += 1,
            (Adopted::Live(_), _) => restored.over += 1,
        }
        Ok(())
    }
}

/// Of two entries for one key the later one counts: the record was forgotten and the key started
/// anew while the snapshot was taken. That is no event, so the first is not known by one; but it had
/// ended.
fn forget_earlier(table: &Table, key: Key) -> Result<(), RestoreError> {
    let region = &table.region;
    let shard = region.lock_shard(region.shard_of(key));
    let Some((slot, view)) = region.find(key) else { return Ok(()) };
    if view.mark().is_none() {
        return Err(RestoreError::Twice);
    }
    shard.release(slot, &view);
    Ok(())
}

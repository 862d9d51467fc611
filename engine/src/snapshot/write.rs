//! Taking a snapshot, while others use the region.
//!
//! What is promised, and why it holds:
//!
//! - *A session that was there when this was called, and that nobody has ended, is in it.* Its
//!   record is read, unless the session changes records meanwhile. Each such step is an event that
//!   names the new record, written before the locks are let go; events are followed until none is
//!   left, and once more after every lock was held for a moment.
//! - *It is in it under one key.* The old key is in the same event, and is read again after it.
//! - *A session that was ended before is not alive in it.* The mark comes before the end returns. A
//!   session that ends meanwhile is read again because of its event.
//! - *Every ended record in it was reported.* One that is found between its mark and its event is
//!   read again under its shard's lock.
//!
//! If the ring of events goes round faster than it is followed, everything begins anew.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::Path;

use crate::backing;
use crate::cause::{Cause, End};
use crate::error::{MoveError, SnapshotError};
use crate::events::Event;
use crate::layout::{POLICIES, header};
use crate::moment::Moment;
use crate::policies::NAME_BYTES;
use crate::record::{Kind, View};
use crate::region::Region;
use crate::snapshot::format::{ENTRY, Entry, HEAD, Head, MAGIC, NamedPolicy, Policies, WRITING, What};
use crate::snapshot::read::Snapshot;
use crate::state::deadlines;
use crate::table::Table;
use crate::time::Tick;

/// Records looked at between two looks at the events.
const BATCH: usize = 512;
/// Times that everything is begun anew because events were lost.
const PASSES: usize = 16;
/// Rounds of following events in which a session has changed records once more each time.
const ROUNDS: usize = 256;
/// New ids of one session that are followed at once.
const HOPS: usize = 64;

/// What a snapshot holds. When sessions change while it is taken, some are counted twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Snapshotted {
    /// Sessions that nobody had ended.
    pub live: u64,
    /// Ended sessions that are still remembered.
    pub ended: u64,
    /// Records that were left out because nothing can be made of them: their policy is none, they
    /// lie where nobody finds them, or they were last active an hour from now.
    pub damaged: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

impl Table {
    /// Writes everything that the region holds to a file that outlives the machine's boot, while
    /// others go on using the region. Touches are not held up, and no lock is held longer than any
    /// other verb holds it. The file has mode 0600 and appears at `path` whole or not at all; what
    /// was there before is replaced only then, and only if it is a snapshot.
    ///
    /// The snapshot is of `moment`, which must be the present ([`Moment::now`]): what happens while
    /// it is written may be in it or not. A session whose start had returned and that was not ended
    /// is in it; one that was ended before is not alive in it. Statistics and events are not in it.
    ///
    /// # Errors
    /// [`SnapshotError`]; what is at `path` then is whole, and nearly always what was there before.
    pub fn snapshot(&self, path: &Path, moment: &Moment) -> Result<Snapshotted, SnapshotError> {
        let io = |source| SnapshotError::Io { path: path.into(), source };
        if is_foreign(path) {
            return Err(SnapshotError::Foreign { path: path.into() });
        }
        let (unfinished, file) = backing::temporary(path).map_err(io)?;
        let written = self.write_snapshot(&file, path, moment).and_then(|written| {
            file.sync_all().map_err(io)?;
            std::fs::rename(&unfinished, path).map_err(io)?;
            Ok(written)
        });
        if written.is_err() {
            let _ = std::fs::remove_file(&unfinished);
            return written;
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        written
    }

    /// The same in memory, to restore another region from in a moment.
    ///
    /// # Errors
    /// [`MoveError`].
    pub fn snapshot_in_memory(&self, moment: &Moment) -> Result<Snapshot, MoveError> {
        let path = Path::new("in memory");
        let file = backing::scratch().map_err(|source| SnapshotError::Io { path: path.into(), source })?;
        self.write_snapshot(&file, path, moment)?;
        Ok(Snapshot::from_file(file)?)
    }

    fn write_snapshot(&self, mut file: &File, path: &Path, moment: &Moment) -> Result<Snapshotted, SnapshotError> {
        let io = |source| SnapshotError::Io { path: path.into(), source };
        let tick = self.tick_at(moment.steady).as_now();
        for _ in 0..PASSES {
            file.set_len(HEAD as u64).map_err(io)?;
            file.seek(io::SeekFrom::Start(HEAD as u64)).map_err(io)?;
            let mut pass = Pass::new(&self.region, file, tick);
            if !pass.run().map_err(io)? {
                continue;
            }
            pass.out.flush().map_err(io)?;
            if pass.ahead > pass.written.live {
                return Err(SnapshotError::Ahead { by: pass.furthest.since(tick) });
            }
            let head = Head {
                moment: *moment,
                tick,
                newest: pass.newest,
                secret: std::array::from_fn(|word| self.region.get(header::SECRET + word)),
                event_head: pass.next_event,
                entries: pass.entries,
                capacity: self.region.layout.capacity,
                events: self.region.layout.events as u64,
                sum: *pass.sum.finalize().as_bytes(),
                policies: pass.policies,
            };
            file.seek(io::SeekFrom::Start(0)).map_err(io)?;
            file.write_all(&head.pack()).map_err(io)?;
            return Ok(Snapshotted { bytes: (HEAD + ENTRY * head.entries as usize) as u64, ..pass.written });
        }
        Err(SnapshotError::Overrun { passes: PASSES })
    }
}

/// Whether something else than a snapshot is there, such as the region itself, which others have open: somebody has
/// mistaken one path for another. What cannot be read may be anything.
fn is_foreign(path: &Path) -> bool {
    let meta = match path.symlink_metadata() {
        Ok(meta) => meta,
        // Nothing, or nothing that anybody can put a file beside.
        Err(_) => return false,
    };
    let is_snapshot = || {
        let mut magic = [0; 8];
        let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
        read.is_ok() && u64::from_le_bytes(magic) == MAGIC
    };
    !meta.is_file() || meta.len() > 0 && !is_snapshot()
}

/// One way through all records.
struct Pass<'a> {
    region: &'a Region,
    out: BufWriter<&'a File>,
    sum: blake3::Hasher,
    entries: u64,
    written: Snapshotted,
    tick: Tick,
    newest: Tick,
    /// Sessions that were active long after `tick`, and the latest such time. One comes from a call
    /// with a wrong `now`; if most are, all calls and the moment are of different clocks.
    ahead: u64,
    furthest: Tick,
    policies: Policies,
    next_event: u64,
    /// A rotation named a record that had changed hands again: there is another event to come.
    has_moved_on: bool,
}

impl<'a> Pass<'a> {
    fn new(region: &'a Region, file: &'a File, tick: Tick) -> Pass<'a> {
        Pass {
            region,
            out: BufWriter::with_capacity(1 << 18, file),
            sum: blake3::Hasher::new(),
            entries: 0,
            written: Snapshotted::default(),
            tick,
            newest: Tick::ZERO,
            ahead: 0,
            furthest: Tick::ZERO,
            policies: policies(region),
            next_event: region.event_head(),
            has_moved_on: false,
        }
    }

    /// False when events were lost.
    fn run(&mut self) -> io::Result<bool> {
        let layout = &self.region.layout;
        for first in (0..layout.all_slots()).step_by(BATCH) {
            self.policies = policies(self.region);
            for slot in first..(first + BATCH).min(layout.all_slots()) {
                self.scan(slot)?;
            }
            if !self.follow()? {
                return Ok(false);
            }
        }
        // A rotation that this has seen half of holds the locks of both its shards.
        for shard in 0..layout.shards {
            drop(self.region.lock_shard(shard));
        }
        // From here on nothing new counts: not a session under a policy that is not among these.
        self.policies = policies(self.region);
        for _ in 0..ROUNDS {
            self.has_moved_on = false;
            if !self.follow()? {
                return Ok(false);
            }
            if !self.has_moved_on {
                break;
            }
        }
        Ok(true)
    }

    fn scan(&mut self, slot: usize) -> io::Result<()> {
        let Some(view) = self.settled(slot) else { return Ok(()) };
        if self.region.shard_of(view.key) != slot / self.region.layout.slots {
            self.written.damaged += 1;
            return Ok(());
        }
        let what = self.describe(&view).or_else(|| {
            // Its policy may have come since the batch began.
            self.policies = policies(self.region);
            self.describe(&view)
        });
        match what {
            Some(what) => self.put(&Entry { key: view.key, again: false, what }),
            None => {
                self.written.damaged += 1;
                if self.is_ahead(&view) {
                    self.ahead += 1;
                    self.furthest = self.furthest.max(view.life().last);
                }
                Ok(())
            }
        }
    }

    /// Follows the events that have come up; false when some were lost.
    fn follow(&mut self) -> io::Result<bool> {
        let head = self.region.event_head();
        while self.next_event < head {
            let Some((event, target)) = self.region.read_rotation(self.next_event) else { return Ok(false) };
            self.again(&event)?;
            if let Some(target) = target {
                self.follow_rotation(target)?;
            }
            self.next_event += 1;
        }
        Ok(true)
    }

    /// Reads what an event was about again.
    fn again(&mut self, event: &Event) -> io::Result<()> {
        let found = self.region.find(event.key).and_then(|(slot, _)| self.settled(slot));
        let found = found.filter(|view| view.key == event.key);
        let what = found.and_then(|view| self.describe(&view)).unwrap_or(What::Gone);
        self.put(&Entry { key: event.key, again: true, what })
    }

    /// Reads the record that a session has moved to, and where that leads.
    fn follow_rotation(&mut self, (mut slot, mut generation): (usize, u32)) -> io::Result<()> {
        for _ in 0..HOPS {
            let there = if slot < self.region.layout.all_slots() { self.settled(slot) } else { None };
            let Some(view) = there.filter(|view| view.control.generation() == generation) else { break };
            if let Some(what) = self.describe(&view) {
                self.put(&Entry { key: view.key, again: true, what })?;
            }
            if view.control.kind() != Kind::Alias {
                return Ok(());
            }
            (slot, generation) = view.target();
        }
        self.has_moved_on = true;
        Ok(())
    }

    /// A record that nobody is in the middle of ending or rotating.
    fn settled(&self, slot: usize) -> Option<View> {
        let view = self.region.view(slot)?;
        let is_settled = match view.mark() {
            Some(_) => view.is_kept() && view.control.is_reported(),
            None => !view.is_frozen() && view.control.kind() == Kind::Session && !view.control.is_moving(),
        };
        if is_settled {
            return Some(view);
        }
        let _shard = self.region.lock_shard(slot / self.region.layout.slots);
        self.region.view(slot)
    }

    fn is_ahead(&self, view: &View) -> bool {
        view.mark().is_none() && view.life().last > self.tick.after(WRITING).as_now()
    }

    fn describe(&self, view: &View) -> Option<What> {
        let policy = view.control.policy();
        let rules = self.policies.get(usize::from(policy))?.as_ref()?;
        let life = view.life();
        Some(match (view.mark(), view.control.kind()) {
            (None, _) if self.is_ahead(view) || deadlines(&life, rules.newest()).end.at.is_never() => return None,
            (None, _) => What::Live { policy, life, binding: view.binding(), subject: view.subject() },
            (Some(end), Kind::Alias) => {
                let (slot, generation) = view.target();
                let target = self.region.view_at(slot).filter(|target| target.control.generation() == generation);
                What::Alias {
                    policy,
                    end: End { cause: Cause::Rotated, at: end.at.as_now() },
                    until: view.kept_until().as_now(),
                    target: target.map(|target| target.key),
                }
            }
            (Some(end), _) => What::Ended {
                policy,
                start: life.start,
                last: life.last.as_now(),
                end: End { at: end.at.as_now(), ..end },
                until: view.kept_until().as_now(),
                subject: view.subject(),
            },
        })
    }

    fn put(&mut self, entry: &Entry) -> io::Result<()> {
        match entry.what {
            What::Live { life, .. } => {
                self.written.live += 1;
                self.newest = self.newest.max(life.last);
            }
            What::Ended { .. } | What::Alias { .. } => self.written.ended += 1,
            What::Gone => {}
        }
        let bytes = entry.pack();
        self.sum.update(&bytes);
        self.entries += 1;
        self.out.write_all(&bytes)
    }
}

/// The policies as they are, but for damaged ones, on whose word nobody passes.
fn policies(region: &Region) -> Policies {
    let mut policies: Policies = (0..POLICIES).map(|id| policy(region, id)).collect();
    for id in 0..POLICIES {
        let (before, this) = policies.split_at_mut(id);
        let name = |policy: &Option<NamedPolicy>| policy.as_ref().map(|policy| policy.name.clone());
        if before.iter().any(|other| other.is_some() && name(other) == name(&this[0])) {
            this[0] = None;
        }
    }
    policies
}

fn policy(region: &Region, id: usize) -> Option<NamedPolicy> {
    let name = region.policy_name(id)?;
    // Only a policy that changes without pause is not read the first time.
    let rules = (0..64).find_map(|_| region.rules(id as u8))?;
    let mut latest = Tick::ZERO;
    let versions: Vec<_> = rules
        .versions()
        .map(|(policy, since)| {
            latest = latest.max(since.as_now());
            (policy, latest)
        })
        .collect();
    let is_sound =
        (1..NAME_BYTES).contains(&name.len()) && versions.iter().all(|(policy, _)| policy.validate().is_ok());
    is_sound.then_some(NamedPolicy { name, versions })
}

//! One shard of sessions, locked: the only place where records, index and timer meet.
//!
//! What is true of a shard whenever its lock is free (`Table::check` looks at all of it):
//!
//! - a record is in use exactly when the tag at its position is that of its key;
//! - a session without a mark has an entry in the wheel of live sessions, in a list that fires no
//!   later than its deadline; an ended record has one in the wheel of kept records; a record whose
//!   deadline is never has none; a free record has none;
//! - a session is in its subject's list exactly when it has a subject and no mark;
//! - every mark was reported in one event;
//! - the counters say what there is.

use crate::cause::{Cause, End};
use crate::events::{Event, What};
use crate::index::Index;
use crate::key::{Key, Subject};
use crate::layout::header;
use crate::lock::Lock;
use crate::policies::{PolicyId, Rules};
use crate::policy::Policy;
use crate::record::{Birth, Kind, View};
use crate::region::Region;
use crate::state::{State, deadlines, keep_until, state};
#[cfg(not(loom))]
use crate::subjects;
use crate::time::Tick;
use crate::wheel::{Damaged, Entry, KEPT, LIVE, Timer};

/// Words of a shard's own fields; 8 to 11 belong to the timer's pool.
pub(crate) mod field {
    pub(crate) const LOCK: usize = 0;
    /// No later than when the timer has something to do; read without the lock.
    pub(crate) const NEXT_DUE: usize = 1;
    pub(crate) const USED: usize = 2;
    pub(crate) const LIVE: usize = 3;
    /// The last policy change for which all records were looked at.
    pub(crate) const SWEPT: usize = 4;
    pub(crate) const SWEEP_TARGET: usize = 5;
    pub(crate) const SWEEP_CURSOR: usize = 6;
    pub(crate) const STARTED: usize = 16;
    pub(crate) const ROTATED: usize = 17;
    /// Plus the number of the cause.
    pub(crate) const ENDED: usize = 18;
    const _: () = assert!(ENDED + super::Cause::ALL.len() < crate::layout::SHARD_FIELDS);
}

/// Work of a start that finds its shard full, before it gives up.
const MAKE_ROOM: usize = 256;
/// Ended records among which the one to give up is looked for.
const EVICTION_CHOICE: usize = 4096;

/// A locked shard.
pub(crate) struct Shard<'a> {
    pub(crate) region: &'a Region,
    pub(crate) number: usize,
    pub(crate) index: Index,
    pub(crate) timer: Timer<'a>,
    _lock: Lock<'a>,
}

/// What the rules make of a record.
pub(crate) struct Judged {
    pub(crate) state: State,
    /// The version of the policy that decided.
    pub(crate) policy: Policy,
}

impl Region {
    #[inline]
    pub(crate) fn shard_of(&self, key: Key) -> usize {
        (key.0[0] >> 8) as usize & (self.layout.shards - 1)
    }

    #[inline]
    pub(crate) fn index(&self, shard: usize) -> Index {
        let groups = self.layout.groups;
        Index { at: self.layout.at_groups + shard * groups * 2, groups }
    }

    /// Finds the record of a key without a lock.
    #[inline]
    pub(crate) fn find(&self, key: Key) -> Option<(usize, View)> {
        let shard = self.shard_of(key);
        let first = shard * self.layout.slots;
        self.index(shard).find(self, key.0[0], |position| {
            let slot = first + position;
            if self.record_key(slot) != key {
                return None;
            }
            let view = self.view(slot)?;
            (view.key == key).then_some((slot, view))
        })
    }

    /// What the rules make of a session at `now`. `None` when its policy cannot be read.
    #[inline(always)]
    pub(crate) fn judge(&self, view: &View, now: Tick) -> Option<Judged> {
        if let Some(policy) = self.only_version(view.control.policy()) {
            return Some(Judged { state: state(&view.life(), &policy, judged_at(view, now)), policy });
        }
        let rules = self.rules(view.control.policy())?;
        Some(judge(&rules, view, now))
    }

    /// Locks a shard, and puts it right if its last owner died.
    pub(crate) fn lock_shard(&self, number: usize) -> Shard<'_> {
        let lock = self.lock(self.layout.shard(number) + field::LOCK);
        let inherited = lock.inherited;
        let timer = Timer { region: self, shard: number };
        let shard = Shard { region: self, number, index: self.index(number), timer, _lock: lock };
        if inherited {
            shard.rebuild();
        }
        shard
    }

    /// Marks as abandoned every lock whose holder cannot be at work. Whoever has only just come to
    /// a region holds none of its locks: a word that says otherwise is damage, and nobody would
    /// ever let go of it.
    #[cfg(not(loom))]
    pub(crate) fn abandon_locks(&self, is_gone: impl Fn(u64) -> bool) {
        let layout = &self.layout;
        let shards = (0..layout.shards)
            .flat_map(|shard| [layout.shard(shard) + field::LOCK, layout.subject_header(shard) + subjects::LOCK]);
        for at in [header::RING_LOCK, header::POLICY_LOCK].into_iter().chain(shards) {
            self.abandon(at, &is_gone);
        }
    }

    /// When a shard's timer has something to do, at the latest; read without its lock.
    pub(crate) fn next_due(&self, shard: usize) -> Tick {
        use crate::atomic::Ordering;
        // A region of zeroes has nothing due; the word holds the tick's complement.
        Tick::from_word(!self.word(self.layout.shard(shard) + field::NEXT_DUE).load(Ordering::Acquire))
    }
}

#[inline]
pub(crate) fn judge(rules: &Rules, view: &View, now: Tick) -> Judged {
    let (state, policy) = rules.state(&view.life(), judged_at(view, now));
    Judged { state, policy: *policy }
}

/// A session that is frozen is over: its time has come for somebody whose clock is ahead of ours.
#[inline(always)]
fn judged_at(view: &View, now: Tick) -> Tick {
    if view.is_frozen() { Tick::LAST } else { now }
}

impl Shard<'_> {
    fn at(&self, field: usize) -> usize {
        self.region.layout.shard(self.number) + field
    }

    pub(crate) fn get(&self, field: usize) -> u64 {
        self.region.get(self.at(field))
    }

    pub(crate) fn set(&self, field: usize, value: u64) {
        self.region.set(self.at(field), value);
    }

    pub(crate) fn count(&self, field: usize) {
        self.region.add(self.at(field), 1);
    }

    /// The first record of this shard, counted through all.
    pub(crate) fn first(&self) -> usize {
        self.number * self.region.layout.slots
    }

    pub(crate) fn slots(&self) -> std::ops::Range<usize> {
        self.first()..self.first() + self.region.layout.slots
    }

    /// The record of a key, brought up to `now`: ended if its time has come, and gone if it need
    /// not be kept any longer.
    pub(crate) fn settled(&self, key: Key, now: Tick) -> Option<(usize, View)> {
        let (slot, _) = self.region.find(key)?;
        self.settle(slot, now).map(|view| (slot, view))
    }

    /// As [`Shard::settled`], by slot.
    pub(crate) fn settle(&self, slot: usize, now: Tick) -> Option<View> {
        loop {
            let view = self.region.view(slot)?;
            if view.mark().is_some() {
                if view.kept_until() > now {
                    return Some(view);
                }
                self.release(slot, &view);
                return None;
            }
            let Some(judged) = self.region.judge(&view, now) else { return Some(view) };
            let State::Ended(end) = judged.state else { return Some(view) };
            // A touch that came first moves the deadline: look again. Touches of one session move
            // at most one step a tick, and only before its deadline, so this comes to an end.
            if self.region.freeze(slot, &view) {
                self.end(slot, &view, end, &judged.policy, now);
                return self.region.view(slot);
            }
        }
    }

    /// Ends a session: mark, list, event, counters, and what becomes of the record.
    pub(crate) fn end(&self, slot: usize, view: &View, end: End, policy: &Policy, now: Tick) {
        self.region.mark(slot, end);
        self.unlist(slot, view.subject());
        self.report(slot, view, end);
        self.finish(slot, view, end, policy, now);
    }

    fn unlist(&self, slot: usize, subject: Subject) {
        if subject != Subject::NONE {
            self.region.subjects(subject).unlink(slot, subject);
        }
    }

    pub(crate) fn event(view: &View, what: What, end: End) -> Event {
        let life = view.life();
        Event {
            what,
            at: end.at,
            key: view.key,
            subject: view.subject(),
            policy: PolicyId(view.control.policy()),
            cause: end.cause,
            age: end.at.since(life.start),
            idle: end.at.since(life.last),
        }
    }

    /// Reports an end in one event.
    pub(crate) fn report(&self, slot: usize, view: &View, end: End) {
        self.region.emit(&Shard::event(view, What::Ended, end));
        self.region.set_control(slot, self.region.control(slot).reported());
        self.region.sub(self.at(field::LIVE), 1);
        self.count(field::ENDED + end.cause as usize);
    }

    /// Keeps the record of an ended session as long as its policy says.
    pub(crate) fn finish(&self, slot: usize, view: &View, end: End, policy: &Policy, now: Tick) {
        let until = keep_until(&view.life(), policy, end);
        self.region.keep(slot, until);
        if until <= now {
            self.release(slot, view);
        } else {
            self.file(slot, KEPT, until);
        }
    }

    /// Frees a record.
    pub(crate) fn release(&self, slot: usize, view: &View) {
        let control = self.region.control(slot);
        if control.is_filed() {
            self.region.set_control(slot, control.unfiled());
            self.timer.grew_stale();
        }
        self.region.free(slot);
        self.index.vacate(self.region, slot - self.first(), view.key.0[0]);
        self.region.sub(self.at(field::USED), 1);
    }

    /// Files a record under its deadline, unless it is filed where it fires in time already.
    pub(crate) fn file(&self, slot: usize, wheel: usize, due: Tick) {
        if self.try_file(slot, wheel, due).is_err() {
            self.rebuild_timer();
        }
    }

    fn try_file(&self, slot: usize, wheel: usize, due: Tick) -> Result<(), Damaged> {
        let control = self.region.control(slot);
        if due.is_never() {
            if control.is_filed() {
                self.region.set_control(slot, control.unfiled());
                self.timer.grew_stale();
            }
            return Ok(());
        }
        let list = self.timer.list_for(wheel, due);
        if control.is_filed() {
            let same_wheel = control.list() / crate::layout::LISTS == wheel;
            if same_wheel && self.timer.start_of(control.list()) <= self.timer.start_of(list) {
                return Ok(());
            }
            self.timer.grew_stale();
        }
        let control = control.refiled(list);
        self.region.set_control(slot, control);
        if !self.timer.push(list, Entry::new(slot - self.first(), control.filing()))? {
            return Err(Damaged);
        }
        let start = self.timer.start_of(list);
        if start < self.region.next_due(self.number) {
            self.publish_next_due(start);
        }
        self.timer.purge(|list, entry| self.is_stale(list, entry))
    }

    pub(crate) fn publish_next_due(&self, due: Tick) {
        use crate::atomic::Ordering;
        self.region.word(self.at(field::NEXT_DUE)).store(!due.as_millis(), Ordering::Release);
    }

    /// Whether the record that an entry names is filed elsewhere.
    pub(crate) fn is_stale(&self, list: usize, entry: Entry) -> bool {
        if entry.slot() >= self.region.layout.slots {
            return true;
        }
        let control = self.region.control(self.first() + entry.slot());
        !control.is_filed() || control.filing() != entry.filing() || control.list() != list
    }

    /// Files everything in this shard anew.
    pub(crate) fn rebuild_timer(&self) {
        self.timer.clear();
        let mut known = Tick::ZERO;
        for slot in self.slots() {
            let control = self.region.control(slot);
            if control.is_filed() {
                self.region.set_control(slot, control.unfiled());
            }
            known = self.region.view(slot).map_or(known, |view| known.max(view.life().last));
        }
        // A clock that is ahead of all that has happened may be damage, and what is filed would fire
        // late; one that is behind costs some filing anew.
        for wheel in [LIVE, KEPT] {
            self.timer.set_clock(wheel, known.min(Tick::from_millis(self.timer.clock(wheel))));
        }
        for slot in self.slots() {
            let Some(view) = self.region.view(slot) else { continue };
            let (wheel, due) = match (view.mark(), self.region.rules(view.control.policy())) {
                (Some(_), _) => (KEPT, view.kept_until()),
                (None, Some(rules)) => (LIVE, deadlines(&view.life(), &rules.policy).end.at),
                (None, None) => continue,
            };
            // Everything fits once nothing is stale; if it does not, nothing will.
            let _ = self.try_file(slot, wheel, due);
        }
    }

    /// Does up to `budget` units of work that is due at `now`: an entry that fires is one. Says how
    /// many it did.
    pub(crate) fn advance(&self, now: Tick, budget: usize) -> usize {
        let mut done = 0;
        for wheel in [LIVE, KEPT] {
            match self.advance_wheel(wheel, now, budget - done) {
                Ok(units) => done += units,
                Err(Damaged) => {
                    self.rebuild_timer();
                    done += 1;
                }
            }
        }
        let next = [LIVE, KEPT].into_iter().filter_map(|wheel| self.timer.next(wheel)).map(|(_, start)| start).min();
        self.publish_next_due(next.unwrap_or(Tick::NEVER));
        done
    }

    fn advance_wheel(&self, wheel: usize, now: Tick, budget: usize) -> Result<usize, Damaged> {
        let mut done = 0;
        while done < budget {
            let next = self.timer.next(wheel).filter(|(_, start)| *start <= now);
            let Some((list, start)) = next else {
                let past = Tick::from_millis(now.as_millis() + 1).as_now();
                if past.as_millis() > self.timer.clock(wheel) {
                    self.timer.set_clock(wheel, past);
                }
                break;
            };
            self.timer.set_clock(wheel, start);
            for entry in self.timer.first_chunk(list) {
                if entry.slot() < self.region.layout.slots {
                    self.region.prefetch(self.region.layout.record(self.first() + entry.slot()));
                }
            }
            // One chunk, then the next one is prefetched.
            for _ in 0..crate::layout::CHUNK.min(budget - done) {
                let Some(entry) = self.timer.pop(list)? else { break };
                done += 1;
                if self.is_stale(list, entry) {
                    self.timer.dropped_stale();
                } else {
                    self.fire(self.first() + entry.slot(), now);
                }
            }
        }
        Ok(done)
    }

    /// An entry has fired: end, forget, or file anew.
    fn fire(&self, slot: usize, now: Tick) {
        self.region.set_control(slot, self.region.control(slot).unfiled());
        let Some(view) = self.settle(slot, now) else { return };
        if view.mark().is_some() {
            self.file(slot, KEPT, view.kept_until());
        } else if let Some(rules) = self.region.rules(view.control.policy()) {
            self.file(slot, LIVE, deadlines(&view.life(), &rules.policy).end.at);
        }
    }

    /// Looks at up to `budget` records because a policy has changed: ends those whose time has
    /// come, and files those whose deadline is nearer than where they are filed.
    pub(crate) fn sweep(&self, now: Tick, budget: usize) -> usize {
        let changes = self.region.word(header::POLICY_CHANGES).load(crate::atomic::Ordering::Acquire);
        if self.get(field::SWEPT) >= changes {
            return 0;
        }
        if self.get(field::SWEEP_TARGET) != changes {
            self.set(field::SWEEP_TARGET, changes);
            self.set(field::SWEEP_CURSOR, 0);
        }
        let from = (self.get(field::SWEEP_CURSOR) as usize).min(self.region.layout.slots);
        let to = (from + budget).min(self.region.layout.slots);
        for slot in self.first() + from..self.first() + to {
            if let Some(view) = self.settle(slot, now)
                && view.mark().is_none()
                && let Some(rules) = self.region.rules(view.control.policy())
            {
                self.file(slot, LIVE, deadlines(&view.life(), &rules.policy).end.at);
            }
        }
        self.set(field::SWEEP_CURSOR, to as u64);
        if to == self.region.layout.slots {
            self.set(field::SWEPT, changes);
        }
        to - from
    }

    /// Whether there is room for one more record, after doing what is due if that is needed, and
    /// giving up an ended record if `evict` allows it.
    pub(crate) fn make_room(&self, now: Tick, evict: bool) -> bool {
        if self.has_room() {
            return true;
        }
        self.sweep(now, MAKE_ROOM);
        self.advance(now, MAKE_ROOM);
        self.has_room() || (evict && self.evict())
    }

    pub(crate) fn has_room(&self) -> bool {
        (self.get(field::USED) as usize) < self.region.layout.limit
    }

    /// Gives up the ended record that would be forgotten soonest.
    fn evict(&self) -> bool {
        loop {
            let kept: Vec<_> = self.timer.soonest(KEPT).into_iter().map(|list| (list, self.kept_in(list))).collect();
            let Some((list, _)) = kept.iter().find(|(_, records)| records.is_empty()) else {
                let soonest =
                    kept.into_iter().flat_map(|(_, records)| records).min_by_key(|(_, view)| view.kept_until());
                if let Some((slot, view)) = &soonest {
                    self.release(*slot, view);
                }
                return soonest.is_some();
            };
            // Nothing there but what went stale, and it may hide a later list: out of the way.
            for _ in 0..EVICTION_CHOICE {
                match self.timer.pop(*list) {
                    Ok(Some(_)) => self.timer.dropped_stale(),
                    Ok(None) => break,
                    Err(Damaged) => {
                        self.rebuild_timer();
                        return false;
                    }
                }
            }
        }
    }

    /// The ended records among the first entries of a list.
    fn kept_in(&self, list: usize) -> Vec<(usize, View)> {
        let entries = self.timer.entries(list, EVICTION_CHOICE).into_iter();
        entries
            .filter(|entry| !self.is_stale(list, *entry))
            .filter_map(|entry| {
                let slot = self.first() + entry.slot();
                self.region.view(slot).filter(|view| view.mark().is_some()).map(|view| (slot, view))
            })
            .collect()
    }

    /// Makes a session. There must be room ([`Shard::make_room`]), and the subject's lock must be
    /// held by the caller if it has one.
    pub(crate) fn insert(&self, birth: &Birth, rules: &Rules) -> Option<usize> {
        let position = self.index.vacancy(self.region, birth.key.0[0])?;
        let slot = self.first() + position;
        self.region.begin(slot, birth);
        self.index.occupy(self.region, position, birth.key.0[0]);
        self.count(field::USED);
        self.count(field::LIVE);
        let life = crate::state::Life { start: birth.start, last: birth.last, token: birth.token, mark: None };
        self.file(slot, LIVE, deadlines(&life, &rules.policy).end.at);
        Some(slot)
    }

    /// Turns the record of a rotated session into an alias of its new one until `at`.
    pub(crate) fn make_alias(&self, slot: usize, view: &View, target: usize, at: Tick, policy: &Policy, now: Tick) {
        let end = End { cause: Cause::Rotated, at };
        let generation = self.region.control(target).generation();
        self.region.alias(slot, target, generation);
        self.region.mark(slot, end);
        self.region.emit(&Shard::event(view, What::Rotated, end));
        self.region.set_control(slot, self.region.control(slot).reported());
        self.region.sub(self.at(field::LIVE), 1);
        self.count(field::ROTATED);
        self.finish(slot, view, end, policy, now);
    }

    /// Puts everything derived in this shard right from its records, after an owner died in it.
    pub(crate) fn rebuild(&self) {
        self.region.add(header::RECOVERIES, 1);
        let mut used = 0;
        let mut live = 0;
        for slot in self.slots() {
            let Some(view) = self.region.view(slot) else {
                self.repair_free(slot);
                continue;
            };
            used += 1;
            live += u64::from(self.repair(slot, &view));
        }
        self.index.rebuild(self.region, |position| {
            let slot = self.first() + position;
            self.region.view(slot).map(|view| view.key.0[0])
        });
        self.set(field::USED, used);
        self.set(field::LIVE, live);
        self.set(field::SWEPT, 0);
        self.set(field::SWEEP_CURSOR, 0);
        self.rebuild_timer();
    }

    /// A record that is free is in nobody's list.
    fn repair_free(&self, slot: usize) {
        if self.region.is_linked(slot) {
            let subject = Subject(self.region.get(self.region.layout.record(slot) + 7));
            self.region.subjects(subject).unlink(slot, subject);
        }
        let control = self.region.control(slot);
        if control.kind() != Kind::Free {
            self.region.free(slot);
        }
    }

    /// Finishes what was begun with a record; says whether it is a live session.
    fn repair(&self, slot: usize, view: &View) -> bool {
        let rules = self.region.rules(view.control.policy());
        let policy = rules.map_or_else(Policy::new, |rules| rules.policy);
        let end = view.mark().or_else(|| match view.control.kind() {
            // The overlap is what is lost of the rotation that was under way.
            Kind::Alias => Some(End { cause: Cause::Rotated, at: view.start() }),
            _ if view.is_frozen() => Some(deadlines(&view.life(), &policy).end),
            _ => None,
        });
        let subject = view.subject();
        let Some(end) = end else {
            if subject != Subject::NONE {
                self.region.subjects(subject).link(slot, subject);
            }
            return true;
        };
        if view.mark().is_none() {
            self.region.mark(slot, end);
        }
        self.unlist(slot, subject);
        if !view.control.is_reported() {
            let what = if view.control.kind() == Kind::Alias { What::Rotated } else { What::Ended };
            let event = Shard::event(view, what, end);
            if !self.region.has_event(&event) {
                self.region.emit(&event);
            }
            self.region.set_control(slot, self.region.control(slot).reported());
        }
        if !view.is_kept() {
            self.region.keep(slot, keep_until(&view.life(), &policy, end));
        }
        false
    }
}

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
use crate::index::{Index, favourite_place};
use crate::key::{Key, Subject};
use crate::layout::header;
use crate::lock::Lock;
use crate::policies::{PolicyId, Rules};
use crate::policy::{Limits, Policy};
use crate::record::{Birth, Kind, View, incarnation};
use crate::region::Region;
use crate::state::{State, deadlines, deadlines_by, keep_until, state};
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
    /// A record that becomes an alias (one more than its position, zero for none), and the subject
    /// of the session that it was.
    pub(crate) const MOVING: usize = 12;
    pub(crate) const MOVING_SUBJECT: usize = 13;
    pub(crate) const STARTED: usize = 16;
    pub(crate) const ROTATED: usize = 17;
    /// Plus the number of the cause.
    pub(crate) const ENDED: usize = 18;
    const _: () = assert!(ENDED + super::Cause::ALL.len() < crate::layout::SHARD_FIELDS);
}

/// Work of a start that finds its shard full, before it gives up.
const MAKE_ROOM: usize = 256;
/// Unreported ends of which a rebuild asks whether the ring has them: an owner that dies leaves one.
/// More than a few are damage, and must not cost a look through the ring each.
const SEARCHES: usize = 16;
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
        self.layout.shard_of(key.0[0])
    }

    #[inline]
    pub(crate) fn index(&self, shard: usize) -> Index {
        Index::of(&self.layout, self.layout.at_groups, shard)
    }

    /// Asks for the memory that a key's session lies in, or will, before its shard is locked: the lock is not
    /// free again before that has come. To find out which record a new one will get was slower: its group
    /// has to come first.
    #[inline]
    pub(crate) fn ask_for(&self, key: Key) {
        let home = self.home(key.0[0]);
        home.prefetch_place(favourite_place(key.0[0]));
        home.prefetch();
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
    pub(crate) fn judge(&self, view: &View, now: Tick) -> Option<Judged> {
        let id = view.control.policy();
        if let Some(policy) = self.only_policy(id) {
            return Some(Judged { state: state(&view.life(), &policy, judged_at(view, now)), policy });
        }
        Some(judge(&self.rules(id)?, view, now))
    }

    /// When a session ends by its policy as it is now if nothing happens. `None` when the policy
    /// cannot be read.
    pub(crate) fn due(&self, view: &View) -> Option<Tick> {
        let id = view.control.policy();
        let only = self.only_limits(id).map(Limits::unpack);
        let limits = only.or_else(|| self.newest(id).map(|newest| newest.policy.limits()))?;
        Some(deadlines_by(&view.life(), &limits).end.at)
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

    /// The last change of a policy for which a shard was swept; read without its lock.
    pub(crate) fn swept(&self, shard: usize) -> u64 {
        self.load(self.layout.shard(shard) + field::SWEPT)
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
        // A region of zeroes has nothing due; the word holds the tick's complement.
        Tick::from_word(!self.load(self.layout.shard(shard) + field::NEXT_DUE))
    }
}

/// What an alias stands for, as events name it.
fn of_target(alias: &View) -> u64 {
    let (slot, generation) = alias.target();
    incarnation(slot, generation)
}

/// Frozen: its time has come for somebody whose clock is ahead of ours.
#[inline]
fn judged_at(view: &View, now: Tick) -> Tick {
    if view.is_frozen() { Tick::LAST } else { now }
}

#[inline]
pub(crate) fn judge(rules: &Rules, view: &View, now: Tick) -> Judged {
    let (state, policy) = rules.state(&view.life(), judged_at(view, now));
    Judged { state, policy: *policy }
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
            bytes: 0,
        }
    }

    /// Reports an end in one event.
    pub(crate) fn report(&self, slot: usize, view: &View, end: End) {
        self.region.emit(&Shard::event(view, What::Ended, end), self.region.incarnation(slot));
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
        let ask = |entry: Entry| self.region.prefetch(self.region.layout.record(self.first() + entry.slot()));
        self.timer.purge(|list, entry| self.is_stale(list, entry), ask)
    }

    pub(crate) fn publish_next_due(&self, due: Tick) {
        self.region.publish(self.at(field::NEXT_DUE), !due.as_millis());
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
            let (wheel, due) = match (view.mark(), self.region.due(&view)) {
                (Some(_), _) => (KEPT, view.kept_until()),
                (None, Some(due)) => (LIVE, due),
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
        let mut asked = None;
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
            // The records of a chunk are asked for while the chunk before it is worked on.
            if asked != Some(list) {
                self.ask_for(self.timer.chunk_at(list, 0));
            }
            self.ask_for(self.timer.chunk_at(list, 1));
            asked = Some(list);
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

    /// Asks for the memory that the entries of a chunk will need when they fire.
    fn ask_for(&self, entries: impl Iterator<Item = Entry>) {
        for entry in entries.filter(|entry| entry.slot() < self.region.layout.slots) {
            self.region.prefetch(self.region.layout.record(self.first() + entry.slot()));
            self.region.prefetch(self.index.word_of(entry.slot()));
        }
    }

    /// An entry has fired: end, forget, or file anew.
    fn fire(&self, slot: usize, now: Tick) {
        self.region.set_control(slot, self.region.control(slot).unfiled());
        let Some(view) = self.settle(slot, now) else { return };
        if view.mark().is_some() {
            self.file(slot, KEPT, view.kept_until());
        } else if let Some(due) = self.region.due(&view) {
            self.file(slot, LIVE, due);
        }
    }

    /// Looks at up to `budget` records because a policy has changed: ends those whose time has
    /// come, and files those whose deadline is nearer than where they are filed.
    pub(crate) fn sweep(&self, now: Tick, budget: usize) -> usize {
        let changes = self.region.load(header::POLICY_CHANGES);
        if self.get(field::SWEPT) >= changes {
            return 0;
        }
        if self.get(field::SWEEP_TARGET) != changes {
            // In this order: the other leaves a cursor at the end of a sweep that has not begun.
            self.set(field::SWEEP_CURSOR, 0);
            self.set(field::SWEEP_TARGET, changes);
        }
        let from = (self.get(field::SWEEP_CURSOR) as usize).min(self.region.layout.slots);
        let to = (from + budget).min(self.region.layout.slots);
        for slot in self.first() + from..self.first() + to {
            if let Some(view) = self.settle(slot, now)
                && view.mark().is_none()
                && let Some(due) = self.region.due(&view)
            {
                self.file(slot, LIVE, due);
            }
        }
        self.set(field::SWEEP_CURSOR, to as u64);
        if to == self.region.layout.slots {
            // Release: who forgets old versions on the word of this has seen every end that they
            // decided, and so has who reads the policy after that.
            self.region.publish(self.at(field::SWEPT), changes);
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
    pub(crate) fn insert(&self, birth: &Birth, policy: &Policy) -> Option<usize> {
        let position = self.index.vacancy(self.region, birth.key.0[0])?;
        let slot = self.first() + position;
        self.region.begin(slot, birth);
        self.index.occupy(self.region, position, birth.key.0[0]);
        self.count(field::USED);
        self.count(field::LIVE);
        let life = crate::state::Life { start: birth.start, last: birth.last, token: birth.token, mark: None };
        self.file(slot, LIVE, deadlines(&life, policy).end.at);
        Some(slot)
    }

    /// Puts in the record of a session that has ended elsewhere, where that was reported: it is
    /// never alive here. There must be room.
    pub(crate) fn insert_ended(&self, birth: &Birth, kind: Kind, end: End, until: Tick) -> Option<usize> {
        let position = self.index.vacancy(self.region, birth.key.0[0])?;
        let slot = self.first() + position;
        self.region.begin_ended(slot, birth, kind, end, until);
        self.index.occupy(self.region, position, birth.key.0[0]);
        self.count(field::USED);
        self.file(slot, KEPT, until);
        Some(slot)
    }

    /// Makes a session the alias of `target`. It must be in no list, and its subject's lock be held.
    pub(crate) fn alias(&self, slot: usize, subject: Subject, target: usize) {
        self.set(field::MOVING_SUBJECT, subject.0);
        self.set(field::MOVING, (slot - self.first()) as u64 + 1);
        // Before the alias, so that `end_all`, which finds one, also finds it counted. Release: who finds it
        // counted also finds the new record.
        self.region.publish(self.at(field::ROTATED), self.get(field::ROTATED).wrapping_add(1));
        self.region.alias(slot, target, self.region.control(target).generation());
    }

    /// The record that was becoming an alias when its owner died, and whose it was.
    fn moving(&self) -> Option<(usize, Subject)> {
        let position = (self.get(field::MOVING) as usize).checked_sub(1)?;
        let subject = Subject(self.get(field::MOVING_SUBJECT));
        (position < self.region.layout.slots).then_some((self.first() + position, subject))
    }

    /// Ends what has become an alias, at the end of its overlap. `view` is of the session it was.
    pub(crate) fn retire(&self, slot: usize, view: &View, at: Tick, policy: &Policy, now: Tick) {
        let end = End { cause: Cause::Rotated, at };
        self.region.hand_over(slot);
        self.region.mark(slot, end);
        let new = self.region.view(slot).map_or(0, |alias| of_target(&alias));
        self.region.emit(&Shard::event(view, What::Rotated, end), new);
        self.region.set_control(slot, self.region.control(slot).reported());
        self.set(field::MOVING, 0);
        self.region.sub(self.at(field::LIVE), 1);
        self.finish(slot, view, end, policy, now);
    }

    /// Puts everything derived in this shard right from its records, after an owner died in it.
    pub(crate) fn rebuild(&self) {
        self.region.bump(header::RECOVERIES);
        if let Some((slot, subject)) = self.moving() {
            self.region.unalias(slot, subject);
        }
        let mut used = 0;
        let mut live = 0;
        let mut searches = SEARCHES;
        for slot in self.slots() {
            let Some(view) = self.region.view(slot) else {
                self.repair_free(slot);
                continue;
            };
            used += 1;
            live += u64::from(self.repair(slot, &view, &mut searches));
        }
        self.set(field::MOVING, 0);
        self.index.rebuild(self.region, |position| {
            let slot = self.first() + position;
            self.region.view(slot).map(|view| view.key.0[0])
        });
        self.set(field::USED, used);
        self.set(field::LIVE, live);
        self.set(field::SWEPT, 0);
        self.set(field::SWEEP_TARGET, 0);
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

    /// Finishes what was begun with a record; says whether it is a live session. Looks into the ring
    /// of events at most `searches` times.
    fn repair(&self, slot: usize, view: &View, searches: &mut usize) -> bool {
        // What it is kept by is the version that decided, as for whoever ends it alive.
        let judged = self.region.rules(view.control.policy()).map(|rules| judge(&rules, view, Tick::ZERO));
        let policy = judged.as_ref().map_or_else(Policy::new, |judged| judged.policy);
        let end = view.mark().or_else(|| match view.control.kind() {
            // The overlap is what is lost of the rotation that was under way.
            Kind::Alias => {
                self.region.hand_over(slot);
                Some(End { cause: Cause::Rotated, at: view.start() })
            }
            _ if view.is_frozen() => Some(match judged {
                Some(Judged { state: State::Ended(end), .. }) => end,
                // A policy that has changed since, to one by which it would never have ended.
                _ => End { cause: Cause::Idle, at: view.life().last },
            }),
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
            let is_alias = view.control.kind() == Kind::Alias;
            let mut event = Shard::event(view, if is_alias { What::Rotated } else { What::Ended }, end);
            if let Some((_, subject)) = self.moving().filter(|(moving, _)| *moving == slot) {
                event.subject = subject;
            }
            let incarnation = if is_alias { of_target(view) } else { self.region.incarnation(slot) };
            let is_there = *searches > 0 && self.region.has_event(&event, incarnation);
            *searches = searches.saturating_sub(1);
            if !is_there {
                self.region.emit(&event, incarnation);
            }
            self.region.set_control(slot, self.region.control(slot).reported());
        }
        if !view.is_kept() {
            self.region.keep(slot, keep_until(&view.life(), &policy, end));
        }
        false
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::record::Kind;
    use crate::region::Region;
    use crate::{Binding, Cause, Config, Policy, Span, Start, Table, Tick, Verdict};

    fn at(millis: u64) -> Tick {
        Tick::from_millis(millis)
    }

    fn ms(millis: u64) -> Span {
        Span::from_millis(millis)
    }

    fn only_session(region: &Region) -> usize {
        let is_session = |slot: &usize| region.control(*slot).kind() == Kind::Session;
        (0..region.layout.all_slots()).find(is_session).unwrap()
    }

    #[test]
    fn an_end_that_a_dead_owner_froze_is_the_one_that_the_old_policy_decided() {
        let table = Table::private(&Config::new(100)).unwrap();
        let policy = table.set_policy("p", &Policy::new().idle(ms(10)), Tick::ZERO).unwrap();
        let key = table.key(b"id");
        table.start(key, &Start::under(policy), at(0)).unwrap();
        table.set_policy("p", &Policy::new().idle(ms(5000)), at(20)).unwrap();
        let slot = only_session(&table.region);
        let view = table.region.view(slot).unwrap();
        assert!(table.region.freeze(slot, &view));
        table.repair();
        let verdict = table.peek(key, Binding::NONE, at(30));
        assert!(matches!(verdict, Verdict::Ended(end) if (end.cause, end.at) == (Cause::Idle, at(10))), "{verdict:?}");
        assert_eq!(table.events().map(|event| event.at).collect::<Vec<_>>(), [at(10)]);
    }
}

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
use crate::wheel::{KEPT, LIVE, Timer};

mod rebuild;
mod timed;

pub(crate) use timed::Room;

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
    /// When that was begun.
    pub(crate) const MOVING_AT: usize = 14;
    /// A record of any shard whose session is being given a new one in this shard, plus one.
    pub(crate) const ARRIVING: usize = 15;
    pub(crate) const STARTED: usize = 16;
    pub(crate) const ROTATED: usize = 17;
    /// Plus the number of the cause.
    pub(crate) const ENDED: usize = 18;
    const _: () = assert!(ENDED + super::Cause::ALL.len() < crate::layout::SHARD_FIELDS);
}

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
    pub(crate) fn alias(&self, slot: usize, subject: Subject, target: usize, now: Tick) {
        self.set(field::MOVING_AT, now.as_millis());
        self.set(field::MOVING_SUBJECT, subject.0);
        self.set(field::MOVING, (slot - self.first()) as u64 + 1);
        // Before the alias, so that `end_all`, which finds one, also finds it counted. Release: who finds it
        // counted also finds the new record.
        self.region.publish(self.at(field::ROTATED), self.get(field::ROTATED).wrapping_add(1));
        self.region.alias(slot, target, self.region.control(target).generation());
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
}

//! A record: one session, 64 bytes, one cache line.
//!
//! ```text
//! word 0  control   kind 2 | filed 1 | reported 1 | list 10 | moving 1 | - 1 | policy 8 | filing 8 | generation 32
//! word 1  key       low half; its bits choose shard, group and tag
//! word 2  key       high half
//! word 3  last      tick 48 | low 15 bits of the generation | frozen 1
//! word 4  start     tick 48
//! word 5  limit     tick 48 | cause 8 | - 7 | mark 1
//! word 6  binding   digest; once the mark is set, the tick until which the record is kept
//! word 7  subject   digest; in an alias, the slot (32) and generation (32) it stands for
//! ```
//!
//! `limit` holds two things that are one: an outside limit on the session. Without the mark it is
//! the token's expiry; with it, the end that somebody decided, its time and its cause. So ending a
//! session is one store to a word that no touch ever writes, and nothing a touch does can undo it.
//!
//! Everything but `last` is written under the shard's lock. `last` is moved by touches, by
//! compare-and-swap and only forward; the generation in it makes the swap of a touch that was held
//! up fail once the record belongs to another session.
//!
//! Whoever ends a session because its time has come *freezes* `last` first, by the same swap. Then
//! either the touch came first, and the deadline is worked out again, or the freeze did, and the
//! touch finds that the session is over. No touch that was answered with `Active` is ignored.

use crate::atomic::{Ordering, fence};
use crate::cause::{Cause, End};
use crate::key::{Binding, Key, Subject};
use crate::layout::LINE;
use crate::region::Region;
use crate::state::Life;
use crate::time::{TICK_BITS, TICK_MASK, Tick};

mod look;

pub(crate) use look::{Held, Seen};

const MARK: u64 = 1 << 63;
const KEPT: u64 = 1 << 62;
const FROZEN: u64 = 1 << 63;
const MOVING: u64 = 1 << 14;
/// Attempts to move `last` forward: each failure means that another touch moved it.
const SWAPS: usize = 8;
/// Attempts to read a record that changes meanwhile. A session that is rotated changes five times
/// before it is gone (moving, alias, mark, kept, free), so whoever fails this often came for another.
const READS: usize = 6;

mod at {
    pub(super) const CONTROL: usize = 0;
    pub(super) const KEY: usize = 1;
    pub(super) const LAST: usize = 3;
    pub(super) const START: usize = 4;
    pub(super) const LIMIT: usize = 5;
    pub(super) const BINDING: usize = 6;
    pub(super) const SUBJECT: usize = 7;
}

/// What a record is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Free,
    /// A session, live or ended.
    Session,
    /// The old id of a session that was rotated.
    Alias,
}

/// The control word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Control(pub(crate) u64);

impl Control {
    /// What must stay the same for two reads to be of one session: everything but where the timer
    /// has it and whether its end is reported.
    const IDENTITY: u64 = !(0x3fff & !0b11) & !(0xff << 24);

    #[inline]
    pub(crate) fn kind(self) -> Kind {
        match self.0 & 3 {
            1 => Kind::Session,
            2 => Kind::Alias,
            _ => Kind::Free,
        }
    }

    pub(crate) fn is_filed(self) -> bool {
        self.0 >> 2 & 1 == 1
    }

    /// Whether the session is getting a new id, and its subject is no longer told by this record.
    pub(crate) fn is_moving(self) -> bool {
        self.0 & MOVING != 0
    }

    pub(crate) fn is_reported(self) -> bool {
        self.0 >> 3 & 1 == 1
    }

    /// The list of the timer that has it, when it is filed.
    pub(crate) fn list(self) -> usize {
        (self.0 >> 4 & 0x3ff) as usize
    }

    /// Whether it is a session under the policy of number zero.
    #[inline(always)]
    pub(crate) fn is_session_under_first(self) -> bool {
        self.0 & (0xff << 16 | 3) == Kind::Session as u64
    }

    #[inline]
    pub(crate) fn policy(self) -> u8 {
        (self.0 >> 16) as u8
    }

    pub(crate) fn filing(self) -> u8 {
        (self.0 >> 24) as u8
    }

    #[inline]
    pub(crate) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    pub(crate) fn same_session(self, other: Control) -> bool {
        (self.0 ^ other.0) & Control::IDENTITY == 0
    }

    /// Filed under a new number in `list`.
    pub(crate) fn refiled(self, list: usize) -> Control {
        let filing = self.filing().wrapping_add(1);
        Control(self.0 & !(0x3ff << 4 | 0xff << 24) | 1 << 2 | (list as u64) << 4 | u64::from(filing) << 24)
    }

    pub(crate) fn unfiled(self) -> Control {
        Control(self.0 & !(1 << 2))
    }

    pub(crate) fn reported(self) -> Control {
        Control(self.0 | 1 << 3)
    }

    fn freed(self) -> Control {
        let generation = u64::from(self.generation().wrapping_add(1));
        Control(generation << 32 | self.0 & (0xff << 24 | 0x3ff << 4 | 1 << 2))
    }

    fn begun(self, kind: Kind, policy: u8) -> Control {
        let generation = u64::from(self.generation().wrapping_add(1));
        Control(generation << 32 | self.0 & (0xff << 24) | u64::from(policy) << 16 | kind as u64)
    }
}

/// What a record said at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    pub(crate) control: Control,
    pub(crate) key: Key,
    last: u64,
    start: u64,
    limit: u64,
    binding: u64,
    subject: u64,
}

impl View {
    pub(crate) fn mark(&self) -> Option<End> {
        (self.limit & MARK != 0).then(|| End {
            // A number that is no cause can only be damage; the session has ended all the same.
            cause: Cause::from_number((self.limit >> TICK_BITS) as u8).unwrap_or(Cause::Revoked),
            at: Tick::from_word(self.limit),
        })
    }

    pub(crate) fn life(&self) -> Life {
        let start = self.start();
        let of_this_session = (self.last & !FROZEN) >> TICK_BITS == tag(self.control);
        Life {
            start,
            last: if of_this_session { start.max(Tick::from_word(self.last)) } else { start },
            token: if self.limit & MARK == 0 { Tick::from_word(self.limit) } else { Tick::NEVER },
            mark: self.mark(),
        }
    }

    pub(crate) fn start(&self) -> Tick {
        Tick::from_word(self.start).as_now()
    }

    /// Whether its time had come and nothing moves it any more.
    pub(crate) fn is_frozen(&self) -> bool {
        self.last & FROZEN != 0 && (self.last & !FROZEN) >> TICK_BITS == tag(self.control)
    }

    /// What the session is bound to; meaningless once the mark is set.
    pub(crate) fn binding(&self) -> Binding {
        Binding(self.binding)
    }

    /// Until when the record is kept; never for one whose end is still being written.
    pub(crate) fn kept_until(&self) -> Tick {
        if self.limit & KEPT == 0 { Tick::NEVER } else { Tick::from_word(self.binding) }
    }

    /// Whether its end was written to the last word.
    pub(crate) fn is_kept(&self) -> bool {
        self.limit & (MARK | KEPT) == MARK | KEPT
    }

    pub(crate) fn subject(&self) -> Subject {
        let is_told = self.control.kind() == Kind::Session && !self.control.is_moving();
        if is_told { Subject(self.subject) } else { Subject::NONE }
    }

    /// This session with what was last done with it under the id that it had before, which may not
    /// have been handed over yet.
    pub(crate) fn and_before(self, alias: &View) -> View {
        let before = alias.life().last;
        let is_later = !self.is_frozen() && before > self.life().last;
        View { last: if is_later { tag(self.control) << TICK_BITS | before.as_millis() } else { self.last }, ..self }
    }

    /// The slot and the generation that an alias stands for.
    pub(crate) fn target(&self) -> (usize, u32) {
        ((self.subject & 0xffff_ffff) as usize, (self.subject >> 32) as u32)
    }
}

/// The bits of a generation that `last` carries.
#[inline]
fn tag(control: Control) -> u64 {
    u64::from(control.generation() & 0x7fff)
}

/// A session as events name it: its record, and the record's generation.
pub(crate) fn incarnation(slot: usize, generation: u32) -> u64 {
    (slot as u64) << 32 | u64::from(generation)
}

fn end_word(end: End) -> u64 {
    (end.cause as u64) << TICK_BITS | end.at.as_millis()
}

/// What became of an attempt to move the last activity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moved {
    /// It is at the given time.
    Done,
    /// Others have moved it as far or further, or have moved it at every attempt. No swap says that
    /// the session goes on.
    Needless,
    /// The session's time had come first, or the record belongs to another session.
    Overtaken,
}

/// A new session's words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birth {
    pub(crate) key: Key,
    pub(crate) policy: u8,
    pub(crate) start: Tick,
    pub(crate) last: Tick,
    pub(crate) token: Tick,
    pub(crate) binding: Binding,
    pub(crate) subject: Subject,
}

impl Region {
    #[inline]
    fn field(&self, slot: usize, field: usize) -> usize {
        self.layout.record(slot) + field
    }

    #[inline]
    pub(crate) fn control(&self, slot: usize) -> Control {
        Control(self.load(self.field(slot, at::CONTROL)))
    }

    /// Changes where the timer has a record. Under the shard's lock.
    #[inline]
    pub(crate) fn set_control(&self, slot: usize, control: Control) {
        self.publish(self.field(slot, at::CONTROL), control.0);
    }

    #[inline]
    pub(crate) fn record_key(&self, slot: usize) -> Key {
        let at = self.field(slot, at::KEY);
        Key([self.get(at), self.get(at + 1)])
    }

    /// Reads a record as of one moment, without a lock and in a bounded number of steps. `None`
    /// when it is free, or changed hands at every attempt: then whatever session it belonged to
    /// when the caller came is gone.
    ///
    /// The `limit` that counts is read last, after a fence. A re-authentication writes `limit` before
    /// `start`: with a new start, or a touch that came after it, comes the new limit, so no mixture lives
    /// longer than both. It was read once before, because the words of an ended session take other
    /// meanings after the mark.
    #[inline]
    pub(crate) fn view(&self, slot: usize) -> Option<View> {
        let words = self.record(slot)?;
        let get = |field: usize| words[field].load(Ordering::Relaxed);
        for _ in 0..READS {
            let control = Control(words[at::CONTROL].load(Ordering::Acquire));
            if control.kind() == Kind::Free {
                return None;
            }
            let key = Key([get(at::KEY), get(at::KEY + 1)]);
            let start = get(at::START);
            let limit = words[at::LIMIT].load(Ordering::Acquire);
            let (last, binding, subject) = (get(at::LAST), get(at::BINDING), get(at::SUBJECT));
            fence(Ordering::Acquire);
            // Acquire: who sees the limit of the next session of this record sees its control word, too.
            let limit_now = words[at::LIMIT].load(Ordering::Acquire);
            let control_now = Control(get(at::CONTROL));
            let settled = (limit ^ limit_now) & (MARK | KEPT) == 0;
            if settled && control.same_session(control_now) {
                // As of the last look: a touch that this one saw may have come after a re-authentication.
                return Some(View { control, key, last, start, limit: limit_now, binding, subject });
            }
        }
        None
    }

    /// A record by a number that came out of the region.
    pub(crate) fn view_at(&self, slot: usize) -> Option<View> {
        if slot < self.layout.all_slots() { self.view(slot) } else { None }
    }

    /// Moves the last activity of the session that `view` saw forward to `now`. Wait-free: at most
    /// [`SWAPS`] attempts, and each that fails was beaten by another touch of this moment.
    #[inline]
    pub(crate) fn move_last(&self, slot: usize, view: &View, now: Tick) -> Moved {
        let at = self.field(slot, at::LAST);
        let tag = tag(view.control);
        let mut seen = view.last;
        for _ in 0..SWAPS {
            // Frozen, it differs too.
            if seen >> TICK_BITS != tag {
                return Moved::Overtaken;
            }
            if Tick::from_word(seen) >= now {
                return Moved::Needless;
            }
            let moved = tag << TICK_BITS | now.as_millis();
            // Who finds it frozen sees what was done before: the record may be an alias by now.
            match self.exchange(at, seen, moved) {
                Ok(_) => return Moved::Done,
                Err(other) => seen = other,
            }
        }
        Moved::Needless
    }

    /// Stops all touches of the session that `view` saw; false when one came first, and the caller
    /// has to look again. Under the shard's lock.
    pub(crate) fn freeze(&self, slot: usize, view: &View) -> bool {
        view.is_frozen() || self.exchange(self.field(slot, at::LAST), view.last, view.last | FROZEN).is_ok()
    }

    /// Fills a free record and makes it a session. Under the shard's lock; the tag follows.
    pub(crate) fn begin(&self, slot: usize, birth: &Birth) {
        let control = self.control(slot).begun(Kind::Session, birth.policy);
        self.fill(slot, control, birth, birth.token.as_millis(), birth.binding.0);
    }

    /// Fills a free record with a session, or an alias, that has ended already and was reported.
    /// Under the shard's lock; the tag follows.
    pub(crate) fn begin_ended(&self, slot: usize, birth: &Birth, kind: Kind, end: End, until: Tick) {
        let control = self.control(slot).begun(kind, birth.policy).reported();
        self.fill(slot, control, birth, MARK | KEPT | end_word(end), until.as_millis());
    }

    fn fill(&self, slot: usize, control: Control, birth: &Birth, limit: u64, binding: u64) {
        // Who sees this sees that the record was freed.
        self.replace(self.field(slot, at::LAST), tag(control) << TICK_BITS | birth.last.as_millis());
        // Pairs with the fences of readers: who sees one of the words below sees that, too, and no longer
        // exchanges the `last` that was there before.
        fence(Ordering::Release);
        self.set(self.field(slot, at::KEY), birth.key.0[0]);
        self.set(self.field(slot, at::KEY + 1), birth.key.0[1]);
        self.set(self.field(slot, at::START), birth.start.as_millis());
        self.set(self.field(slot, at::LIMIT), limit);
        self.set(self.field(slot, at::BINDING), binding);
        self.set(self.field(slot, at::SUBJECT), birth.subject.0);
        self.set_control(slot, control);
    }

    /// Restarts idle and lifetime. Under the shard's lock.
    pub(crate) fn restart(&self, slot: usize, token: Option<Tick>, now: Tick) {
        if let Some(token) = token {
            self.publish(self.field(slot, at::LIMIT), token.as_millis());
        }
        let start = self.field(slot, at::START);
        let later = Tick::from_word(self.get(start)).max(now);
        self.publish(start, later.as_millis());
    }

    /// Marks a session as ended. From this store on nothing brings it back. Under the shard's lock.
    pub(crate) fn mark(&self, slot: usize, end: End) {
        self.publish(self.field(slot, at::LIMIT), MARK | end_word(end));
    }

    /// Notes until when an ended record is kept. After the mark, by which readers know that the
    /// binding has lost its meaning.
    pub(crate) fn keep(&self, slot: usize, until: Tick) {
        fence(Ordering::Release);
        self.set(self.field(slot, at::BINDING), until.as_millis() & TICK_MASK);
        let limit = self.field(slot, at::LIMIT);
        self.publish(limit, self.get(limit) | KEPT);
    }

    /// Makes a session that is in no list the alias of another. Under the locks of both shards. The
    /// kind and `moving` are part of a session's identity, so readers see the session, or the session
    /// without a subject, or the alias.
    pub(crate) fn alias(&self, slot: usize, target: usize, generation: u32) {
        let control = self.control(slot);
        self.set_control(slot, Control(control.0 | MOVING));
        fence(Ordering::Release);
        self.set(self.field(slot, at::SUBJECT), u64::from(generation) << 32 | target as u64);
        self.set_control(slot, Control(control.0 & !3 | Kind::Alias as u64));
    }

    /// Ends all touches of an alias's own record, and passes on to the session it stands for what
    /// they did there. A touch that comes after finds the word frozen, and then the alias.
    pub(crate) fn hand_over(&self, slot: usize) {
        let last = self.raise(self.field(slot, at::LAST), FROZEN);
        let Some(alias) = self.view(slot) else { return };
        let (target, generation) = alias.target();
        if let Some(session) = self.view_at(target)
            && session.control.generation() == generation
            && (last & !FROZEN) >> TICK_BITS == tag(alias.control)
        {
            self.move_last(target, &session, Tick::from_word(last));
        }
    }

    /// [`Region::hand_over`] of a record that is an alias without an end of one of `targets`.
    pub(crate) fn hand_over_to(&self, slot: usize, targets: &std::ops::Range<usize>) {
        let is_it = |view: &View| {
            view.control.kind() == Kind::Alias && view.mark().is_none() && targets.contains(&view.target().0)
        };
        if self.view_at(slot).is_some_and(|view| is_it(&view)) {
            self.hand_over(slot);
        }
    }

    /// Makes a record that was to be an alias the session of `subject` that it was.
    pub(crate) fn unalias(&self, slot: usize, subject: Subject) {
        let control = self.control(slot);
        if control.kind() == Kind::Session && control.is_moving() {
            self.set(self.field(slot, at::SUBJECT), subject.0);
            self.set_control(slot, Control(control.0 & !MOVING));
        }
    }

    /// The record's session, as its event names it.
    pub(crate) fn incarnation(&self, slot: usize) -> u64 {
        incarnation(slot, self.control(slot).generation())
    }

    /// Frees a record. Under the shard's lock; the tag is cleared after.
    pub(crate) fn free(&self, slot: usize) {
        self.set_control(slot, self.control(slot).freed());
    }
}

const _: () = assert!(at::SUBJECT + 1 == LINE && TICK_MASK.count_ones() == TICK_BITS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refiling_changes_nothing_that_tells_sessions_apart() {
        let control = Control(0xdead_beef_0000_0000).begun(Kind::Session, 77);
        let filed = control.refiled(1023).reported();
        assert!(filed.is_filed() && filed.is_reported() && filed.list() == 1023);
        assert_eq!((filed.kind(), filed.policy(), filed.generation()), (Kind::Session, 77, 0xdead_bef0));
        assert!(control.same_session(filed));
        assert!(!control.same_session(control.freed()));
        assert!(!control.same_session(control.freed().begun(Kind::Session, 77)));
    }

    #[test]
    fn the_number_of_a_filing_outlives_the_session() {
        let control = Control(0).begun(Kind::Session, 1).refiled(5).refiled(6);
        assert_eq!(control.freed().filing(), 2);
        assert!(control.freed().is_filed());
        assert_eq!(control.freed().begun(Kind::Session, 1).filing(), 2);
        assert!(!control.freed().begun(Kind::Session, 1).is_filed());
    }
}

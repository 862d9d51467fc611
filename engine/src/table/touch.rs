//! Touch and peek: is the session alive, and for how long. Wait-free.

use std::hint::cold_path;

use crate::cause::{Cause, End};
use crate::index::favourite_place;
use crate::key::{Binding, Key};
use crate::layout::header;
use crate::policy::{GraceMode, OnMismatch, Policy};
use crate::record::{Held, Kind, Moved, Seen, View};
use crate::region::{First, Line, Region};
use crate::state::{State, Words, is_active, is_active_since, keep_until};
use crate::table::Table;
use crate::table::left::Left;
use crate::time::{TICK_MASK, Tick};

/// Rotations that an old id is followed through during their overlaps.
pub(crate) const HOPS: usize = 16;
/// Looks at a session that is ended or rotated meanwhile. Each that fails was overtaken by one of
/// the two; after so many in a few nanoseconds, whatever the caller came for is gone.
const LOOKS: usize = 4;

/// A session was presented without what it is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// Whether that has ended the session.
    pub ended: bool,
}

/// What a touch or a peek answers. Only `Active`, and `Grace` under a policy with
/// [`GraceMode::Resume`], let a request pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The session goes on.
    Active(Left),
    /// The session is past its idle timeout and not gone yet. Under [`GraceMode::Resume`] a touch
    /// has brought it back, and the time left is what it has now; under [`GraceMode::Reauth`]
    /// nothing has changed, and the user has to prove presence.
    Grace(Left),
    /// It has ended.
    Ended(End),
    /// It was presented without what it is bound to.
    Mismatch(Mismatch),
    /// No session has this key, or none that is still remembered.
    Unknown,
}

impl Verdict {
    /// Whether a request may pass on this answer to a touch; of a peek, whether a touch would have
    /// let it pass.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Verdict::Active(_) => true,
            Verdict::Grace(left) => left.resumes(),
            Verdict::Ended(_) | Verdict::Mismatch(_) | Verdict::Unknown => false,
        }
    }
}

/// Where a key leads.
pub(crate) enum Located {
    /// A session, and the end of the alias that led to it, if one did.
    Session(usize, View, Option<End>),
    /// It was rotated, the overlap is over, and the end is remembered.
    Dead(End),
    Unknown,
}

impl Region {
    /// The session that a key stands for at `now`: its own, or during the overlap after a rotation
    /// that of the new key.
    #[inline]
    pub(crate) fn locate(&self, key: Key, now: Tick) -> Located {
        let Some((mut slot, mut view)) = self.find(key) else { return Located::Unknown };
        let mut via = None;
        for _ in 0..=HOPS {
            if view.control.kind() != Kind::Alias {
                return Located::Session(slot, view, via);
            }
            let end = view.mark().unwrap_or(End { cause: Cause::Rotated, at: Tick::NEVER });
            if view.kept_until() <= now {
                return via.map_or(Located::Unknown, Located::Dead);
            }
            if end.at <= now {
                return Located::Dead(end);
            }
            via = Some(end);
            let (target, generation) = view.target();
            match self.view_at(target) {
                Some(next) if next.control.generation() == generation => {
                    (slot, view) = (target, next.and_before(&view));
                }
                _ => return Located::Dead(end),
            }
        }
        via.map_or(Located::Unknown, Located::Dead)
    }
}

impl Table {
    /// Decides whether a session may go on at `now`, and counts as activity if it may.
    ///
    /// Wait-free: no lock, no allocation, no system call, a bounded number of steps, whatever
    /// others do; except that a wrong binding under [`OnMismatch::End`] ends the session, which
    /// takes its shard's lock.
    ///
    /// `presented` is what the request proved to have; [`Binding::NONE`] for nothing. A session
    /// that is bound is not passed without its binding.
    #[inline(always)]
    pub fn touch(&self, key: Key, presented: Binding, now: Tick) -> Verdict {
        let now = now.as_now();
        match self.first(key) {
            Some(first) => self.touch_at(first.record(), key, presented, now),
            None => self.look_further(key.0[0], key.0[1], presented, now, true),
        }
    }

    /// Answers as [`Table::touch`] would and changes nothing.
    #[inline]
    #[must_use]
    pub fn peek(&self, key: Key, presented: Binding, now: Tick) -> Verdict {
        let now = now.as_now();
        let Some(first) = self.first(key) else { return self.look_further(key.0[0], key.0[1], presented, now, false) };
        let line = first.record();
        let Some(held) = Held::of(line, key) else {
            return self.look_further(key.0[0], key.0[1], presented, now, false);
        };
        if !held.control.is_session_under_first() {
            return self.look_again(line, key.0[0], key.0[1], presented, now, false);
        }
        match self.glance(0, held, presented, now) {
            Some(left) => Verdict::Active(left),
            None => self.look_closely(key, presented, now, false),
        }
    }

    /// The first record that may be of a key.
    #[inline(always)]
    fn first(&self, key: Key) -> Option<First<'_>> {
        let hash = key.0[0];
        let home = self.region.home(hash);
        // If its place was free when it came, its record is on its way now while the group that says where
        // it is has yet to come: what is waited for is one miss then, not two.
        home.prefetch_place(favourite_place(hash));
        home.first(hash)
    }

    /// Touches a session whose record this probably is.
    #[inline(always)]
    pub(crate) fn touch_at(&self, line: &Line, key: Key, presented: Binding, now: Tick) -> Verdict {
        let Some(seen) = Seen::of(line, key) else {
            return self.look_further(key.0[0], key.0[1], presented, now, true);
        };
        // The policy that was set first is that of most sessions: knowing its place, the processor need
        // not wait for the record to read it.
        if !seen.control.is_session_under_first() {
            return self.touch_under(line, key.0[0], key.0[1], presented, now);
        }
        match self.touch_seen(0, &seen, presented, now) {
            Some(left) => Verdict::Active(left),
            None => self.look_again(line, key.0[0], key.0[1], presented, now, true),
        }
    }

    /// Touches a session that lives under another policy than the first.
    #[inline(never)]
    fn touch_under(&self, line: &Line, low: u64, high: u64, presented: Binding, now: Tick) -> Verdict {
        let seen = Seen::of(line, Key([low, high])).filter(|seen| seen.control.kind() == Kind::Session);
        let left = seen.and_then(|seen| self.touch_seen(seen.control.policy(), &seen, presented, now));
        match left {
            Some(left) => Verdict::Active(left),
            None => self.look_again(line, low, high, presented, now, true),
        }
    }

    /// Nearly every touch: an active session under a policy of which nothing older is remembered, presented
    /// with what it is bound to, and not for the first time since it was re-authenticated or in this
    /// millisecond. What it does not answer it has not changed.
    #[inline(always)]
    fn touch_seen(&self, policy: u8, seen: &Seen<'_>, presented: Binding, now: Tick) -> Option<Left> {
        let words = seen.life_before(now)?;
        if seen.binding() != Binding::NONE {
            // Said, so that this is not made one comparison with the one before, which is longer.
            cold_path();
            if seen.binding() != presented {
                return None;
            }
        }
        let limits = self.region.only_limits(policy)?;
        let goes_on = is_active_since(&words, &limits, now) && self.region.move_seen(seen, now);
        goes_on.then(|| Left::new(Words { last: now.as_millis(), ..words }, now, limits, policy))
    }

    /// Goes through all places where a session may be.
    #[inline(never)]
    pub(crate) fn look_further(&self, low: u64, high: u64, presented: Binding, now: Tick, counts: bool) -> Verdict {
        let (region, key) = (&self.region, Key([low, high]));
        let shard = region.shard_of(key);
        let first = shard * region.layout.slots;
        let found = region.index(shard).find(region, key.0[0], |position| {
            let line = region.record(first + position)?;
            Held::of(line, key).map(|_| line)
        });
        match found {
            Some(line) if counts => self.touch_under(line, low, high, presented, now),
            Some(line) => self.look_again(line, low, high, presented, now, false),
            None => Verdict::Unknown,
        }
    }

    /// A session that is active, and is not to be touched or was already in this millisecond.
    #[inline(never)]
    fn look_again(&self, line: &Line, low: u64, high: u64, presented: Binding, now: Tick, counts: bool) -> Verdict {
        let key = Key([low, high]);
        let moves = |held: &Held| counts && held.last() < now;
        let held = Held::of(line, key).filter(|held| held.control.kind() == Kind::Session && !moves(held));
        match held.and_then(|held| self.glance(held.control.policy(), held, presented, now)) {
            Some(left) => Verdict::Active(left),
            None => self.look_closely(key, presented, now, counts),
        }
    }

    /// Nearly every peek, and a touch that moves nothing. What it does not answer is looked at closely.
    #[inline(always)]
    fn glance(&self, policy: u8, held: Held<'_>, presented: Binding, now: Tick) -> Option<Left> {
        let seen = self.region.glance(held)?;
        let words = seen.life();
        let words = Words { last: words.last.max(words.start), ..words };
        if words.last > TICK_MASK {
            return None;
        }
        if seen.binding() != Binding::NONE {
            cold_path();
            if seen.binding() != presented {
                return None;
            }
        }
        let limits = self.region.only_limits(policy)?;
        let goes_on = is_active(&words, &limits, now) && held.goes_on();
        goes_on.then(|| Left::new(words, now, limits, policy))
    }

    /// Everything else.
    #[cold]
    #[inline(never)]
    fn look_closely(&self, key: Key, presented: Binding, now: Tick, counts: bool) -> Verdict {
        for _ in 0..LOOKS {
            if let Some(verdict) = self.try_look(key, presented, now, counts) {
                return verdict;
            }
        }
        Verdict::Unknown
    }

    /// `None` when the session was ended or rotated between the look and the step.
    fn try_look(&self, key: Key, presented: Binding, now: Tick, counts: bool) -> Option<Verdict> {
        let region = &self.region;
        let (slot, view, via) = match region.locate(key, now) {
            Located::Session(slot, view, via) => (slot, view, via),
            Located::Dead(end) => return Some(Verdict::Ended(end)),
            Located::Unknown => return Some(Verdict::Unknown),
        };
        // A policy that cannot be read is damage: nobody passes on its word.
        let Some(judged) = region.judge(&view, now) else { return Some(Verdict::Unknown) };
        if let State::Ended(end) = judged.state {
            return Some(self.ended(&view, &judged.policy, end, via, now));
        }
        let mut mismatch = false;
        if view.binding() != Binding::NONE && view.binding() != presented {
            if counts {
                region.bump(header::MISMATCHES);
            }
            match judged.policy.on_mismatch {
                OnMismatch::Deny => return Some(Verdict::Mismatch(Mismatch { ended: false })),
                OnMismatch::End => {
                    let ended = counts && self.end(view.key, Cause::Binding, now).is_ok();
                    return Some(Verdict::Mismatch(Mismatch { ended }));
                }
                OnMismatch::Log => mismatch = true,
            }
        }
        let mut life = view.life();
        let resumes = judged.state == State::Active || judged.policy.grace_mode == GraceMode::Resume;
        let moved = if counts && resumes { region.move_last(slot, &view, now) } else { Moved::Needless };
        match moved {
            Moved::Done => {}
            // Its end may be marked, and the version of the policy that ended it forgotten, since
            // the record was read.
            Moved::Needless if region.goes_on(slot, view.control) => {}
            _ => return None,
        }
        if counts && resumes {
            life.last = life.last.max(now);
        }
        let left = Left::of(&life, now, &judged.policy.limits(), view.control.policy(), mismatch);
        Some(match judged.state {
            State::Grace => Verdict::Grace(left),
            _ => Verdict::Active(left),
        })
    }

    /// An end, as long as its record is kept, whether or not the timer has forgotten it yet.
    fn ended(&self, view: &View, policy: &Policy, end: End, via: Option<End>, now: Tick) -> Verdict {
        if remembered_until(view, policy, end) > now {
            Verdict::Ended(end)
        } else {
            via.map_or(Verdict::Unknown, Verdict::Ended)
        }
    }
}

/// Until when the record of a session that ended is kept.
pub(crate) fn remembered_until(view: &View, policy: &Policy, end: End) -> Tick {
    if view.mark().is_some() { view.kept_until() } else { keep_until(&view.life(), policy, end) }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::backing::Config;
    use crate::record::Control;
    use crate::table::start::Start;
    use crate::time::Span;

    #[test]
    fn a_time_with_a_bit_that_no_time_has_keeps_no_session_alive() {
        const START: usize = 4;
        let limit = Span::from_millis(100);
        for policy in [Policy::new().idle(limit), Policy::new().lifetime(limit)] {
            for bit in 48..64 {
                let (table, key) = begun(&policy);
                let (slot, _) = table.region.find(key).unwrap();
                let at = table.region.layout.record(slot) + START;
                table.region.set(at, table.region.get(at) | 1 << bit);
                let over = Tick::from_millis(5000);
                for verdict in [table.peek(key, Binding::NONE, over), table.touch(key, Binding::NONE, over)] {
                    assert!(!verdict.passes(), "bit {bit}: {verdict:?}");
                }
            }
        }
    }

    #[test]
    fn a_record_that_is_free_is_no_session_whatever_else_is_left_in_it() {
        let ((table, key), next) = (begun(&Policy::new().idle(Span::from_millis(100))), Tick::from_millis(30));
        let (slot, view) = table.region.find(key).unwrap();
        assert!(table.touch(key, Binding::NONE, Tick::from_millis(20)).passes());
        for kind in [0, 3] {
            table.region.set_control(slot, Control(view.control.0 & !3 | kind));
            for verdict in [table.peek(key, Binding::NONE, next), table.touch(key, Binding::NONE, next)] {
                assert_eq!(verdict, Verdict::Unknown, "kind {kind}");
            }
        }
    }

    /// A session that began at 10.
    fn begun(policy: &Policy) -> (Table, Key) {
        let table = Table::private(&Config::new(100)).unwrap();
        let policy = table.set_policy("p", policy, Tick::ZERO).unwrap();
        let key = table.key(b"a");
        table.start(key, &Start::under(policy), Tick::from_millis(10)).unwrap();
        (table, key)
    }
}

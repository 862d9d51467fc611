//! Everything derived in a shard, made anew from its records: after an owner died in it, and where the
//! timer turns out to be damaged.

use crate::cause::{Cause, End};
use crate::events::What;
use crate::key::Subject;
use crate::layout::header;
use crate::policy::Policy;
use crate::record::{Kind, View};
use crate::shard::{Judged, Shard, field, judge, of_target};
use crate::state::{State, keep_until};
use crate::time::Tick;
use crate::wheel::{KEPT, LIVE};

/// Unreported ends of which a rebuild asks whether the ring has them: an owner that dies leaves one.
/// More than a few are damage, and must not cost a look through the ring each.
const SEARCHES: usize = 16;

impl Shard<'_> {
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

    /// The record that was becoming an alias when its owner died, and whose it was.
    fn moving(&self) -> Option<(usize, Subject)> {
        let position = (self.get(field::MOVING) as usize).checked_sub(1)?;
        let subject = Subject(self.get(field::MOVING_SUBJECT));
        (position < self.region.layout.slots).then_some((self.first() + position, subject))
    }

    /// Puts everything derived in this shard right from its records, after an owner died in it.
    pub(crate) fn rebuild(&self) {
        self.region.bump(header::RECOVERIES);
        if let Some((slot, subject)) = self.moving() {
            self.region.unalias(slot, subject);
        }
        if let Some(slot) = (self.get(field::ARRIVING) as usize).checked_sub(1) {
            self.region.hand_over_to(slot, &self.slots());
        }
        self.set(field::ARRIVING, 0);
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
                let noted = self
                    .moving()
                    .filter(|(moving, _)| *moving == slot)
                    .map(|_| Tick::from_word(self.get(field::MOVING_AT)).as_now());
                Some(End { cause: Cause::Rotated, at: noted.unwrap_or(view.life().last).max(view.start()) })
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

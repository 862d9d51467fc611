//! What changes a session that is there: re-authentication, a new id, the end.

use crate::cause::{Cause, End};
use crate::error::{ChangeError, RotateError, StartError};
use crate::key::{Key, Subject};
use crate::policies::PolicyId;
use crate::policy::OnFull;
use crate::record::{Birth, Kind, View};
use crate::shard::{Room, Shard, field};
use crate::state::State;
use crate::table::Table;
use crate::table::start::Incarnation;
use crate::table::touch::{Located, remembered_until};
use crate::time::{Span, Tick};
use crate::wheel::LIVE;

/// Looks at a session that changes hands between finding and locking it.
const LOOKS: usize = 8;
/// Times that `end_subject` and `end_all` look again, because sessions were rotated meanwhile.
const PASSES: usize = 8;
/// Records of one shard that `end_all` looks at before it lets others have the lock.
const BATCH: usize = 128;

/// Which sessions [`Table::end_all`] ends: those for which everything that is set holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// Those under this policy.
    pub policy: Option<PolicyId>,
    /// Those that started, or were last re-authenticated, before this tick.
    pub started_before: Option<Tick>,
    /// Those whose last activity was before this tick.
    pub idle_since: Option<Tick>,
}

impl Filter {
    fn matches(&self, view: &View) -> bool {
        let life = view.life();
        self.policy.is_none_or(|policy| policy.0 == view.control.policy())
            && self.started_before.is_none_or(|tick| life.start < tick)
            && self.idle_since.is_none_or(|tick| life.last < tick)
    }
}

/// What a rotation did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rotated {
    /// Until when the old id answers as the new one.
    pub old_until: Tick,
}

impl From<StartError> for RotateError {
    fn from(error: StartError) -> RotateError {
        match error {
            StartError::Full => RotateError::Full,
            _ => RotateError::Taken,
        }
    }
}

impl Table {
    /// The user has proved presence: restarts idle and lifetime of a session that is `Active` or in
    /// `Grace`, and sets a new token expiry if there is one.
    ///
    /// Issue a new id as well ([`Table::rotate`]; OWASP ASVS 5.0, 7.2.4).
    ///
    /// # Errors
    /// [`ChangeError`]; the session is as it was then.
    pub fn reauthenticate(&self, key: Key, token: Option<Tick>, now: Tick) -> Result<(), ChangeError> {
        let now = now.as_now();
        self.change(key, now, |shard, slot, _| {
            if token.is_some_and(|token| token <= now) {
                return Err(ChangeError::TokenExpired);
            }
            self.region.restart(slot, token, now);
            // The restart may have brought the end nearer, by a token that expires sooner.
            if let Some(due) = self.region.view(slot).and_then(|view| self.region.due(&view)) {
                shard.file(slot, LIVE, due);
            }
            Ok(())
        })
    }

    /// Ends a session. Its id is dead from this call on, for every process.
    ///
    /// # Errors
    /// [`ChangeError::Unknown`], or [`ChangeError::Ended`] when it had ended already.
    pub fn end(&self, key: Key, cause: Cause, now: Tick) -> Result<(), ChangeError> {
        let now = now.as_now();
        self.change(key, now, |shard, slot, view| {
            let policy = self.region.newest(view.control.policy()).map(|newest| newest.policy).unwrap_or_default();
            shard.end(slot, view, End { cause, at: now }, &policy, now);
            Ok(())
        })
    }

    /// Ends all sessions of a subject; says how many. Costs what the subject has, not what the
    /// table holds. Sessions whose start has not returned when this is called may be missed; those
    /// that are rotated meanwhile are not.
    pub fn end_subject(&self, subject: Subject, cause: Cause, now: Tick) -> u64 {
        let now = now.as_now();
        let mut ended = 0;
        for _ in 0..PASSES {
            self.settle_rotations_of(subject);
            let sessions = self.incarnations_of(subject);
            if sessions.is_empty() {
                break;
            }
            // One that was rotated since is in the list again, under its new id.
            ended += sessions.into_iter().filter(|one| self.end_incarnation(*one, cause, now)).count();
        }
        ended as u64
    }

    /// Waits for rotations of this subject's sessions that are between their two records, and puts right
    /// those whose process died there: until then the old record is in no list, and alive again after.
    fn settle_rotations_of(&self, subject: Subject) {
        for shard in 0..self.region.layout.shards {
            let at = self.region.layout.shard(shard);
            if self.region.get(at + field::MOVING) != 0 && self.region.get(at + field::MOVING_SUBJECT) == subject.0 {
                drop(self.region.lock_shard(shard));
            }
        }
    }

    pub(crate) fn incarnations_of(&self, subject: Subject) -> Vec<Incarnation> {
        if subject == Subject::NONE {
            return Vec::new();
        }
        let subjects = self.region.subjects(subject);
        subjects.sessions(subject).map(|slot| (slot, self.region.control(slot).generation())).collect()
    }

    /// Ends all sessions that match; says how many. Looks at every record of the region, in steps
    /// between which others get their turn, and again while sessions are rotated meanwhile. Those
    /// that start meanwhile may or may not be among them.
    pub fn end_all(&self, filter: &Filter, cause: Cause, now: Tick) -> u64 {
        let now = now.as_now();
        let mut ended = 0;
        for _ in 0..PASSES {
            let rotations = self.rotations();
            ended += self.end_all_once(filter, cause, now);
            // A rotation may have moved a session from where we had yet to look to where we had been.
            if self.rotations() == rotations {
                break;
            }
        }
        ended
    }

    fn rotations(&self) -> u64 {
        let counted = |shard| self.region.load(self.region.layout.shard(shard) + field::ROTATED);
        (0..self.region.layout.shards).map(counted).fold(0, u64::wrapping_add)
    }

    fn end_all_once(&self, filter: &Filter, cause: Cause, now: Tick) -> u64 {
        let mut ended = 0;
        for first in (0..self.region.layout.all_slots()).step_by(BATCH) {
            let last = (first + BATCH).min(self.region.layout.all_slots());
            for slot in first..last {
                let is_meant =
                    |view: &View| view.control.kind() == Kind::Session && view.mark().is_none() && filter.matches(view);
                if let Some(view) = self.region.view(slot).filter(is_meant) {
                    ended += u64::from(self.end_incarnation((slot, view.control.generation()), cause, now));
                }
            }
        }
        ended
    }

    /// Gives a session a new id, against fixation: `new` becomes its key, and for `overlap` from now
    /// on `old` answers as the new one, for requests that are in flight; then `old` has ended. An id is
    /// followed through 16 rotations, each within the overlap of the one before.
    /// Everything else about the session stays as it is.
    ///
    /// # Errors
    /// [`RotateError`]; the session is as it was then.
    pub fn rotate(&self, old: Key, new: Key, overlap: Span, now: Tick) -> Result<Rotated, RotateError> {
        loop {
            if let Some(rotated) = self.try_rotate(old, new, overlap, now.as_now())? {
                return Ok(rotated);
            }
        }
    }

    /// `None` while room is being made.
    fn try_rotate(&self, old: Key, new: Key, overlap: Span, now: Tick) -> Result<Option<Rotated>, RotateError> {
        let region = &self.region;
        let (from, to) = (region.shard_of(old), region.shard_of(new));
        // Two locks of one kind are taken in the order of their numbers.
        let first = region.lock_shard(from.min(to));
        let second = (from != to).then(|| region.lock_shard(from.max(to)));
        let second = second.as_ref().unwrap_or(&first);
        let (from, to) = if from <= to { (&first, second) } else { (second, &first) };

        let (_, view) = from.settled(old, now).ok_or(RotateError::Unknown)?;
        match view.mark() {
            Some(end) if view.control.kind() == Kind::Alias && end.at > now => return Err(RotateError::Rotated),
            Some(end) => return Err(RotateError::Ended(end)),
            None => {}
        }
        let policy = region.newest(view.control.policy()).ok_or(RotateError::Unknown)?.policy;
        self.refuse_taken(to, new, now)?;
        match to.make_room(now, policy.on_full == OnFull::EvictEnded) {
            Room::Made => {}
            Room::None => return Err(RotateError::Full),
            Room::Sorting => return Ok(None),
        }
        // Making room does what is due, and the policy may have changed since the first look.
        let (slot, view) = from.settled(old, now).ok_or(RotateError::Unknown)?;
        if let Some(end) = view.mark() {
            return Err(RotateError::Ended(end));
        }
        let life = view.life();
        let birth = Birth {
            key: new,
            policy: view.control.policy(),
            start: life.start,
            last: life.last,
            token: life.token,
            binding: view.binding(),
            subject: view.subject(),
        };
        let old_until = now.after(overlap).min(Tick::LAST);
        // Held until the old record is an alias: whoever makes the lists anew meanwhile, because an
        // owner died in them, must not find it alive and link it again.
        let subjects = (birth.subject != Subject::NONE).then(|| region.subjects(birth.subject));
        let target = to.insert(&birth, &policy).ok_or(RotateError::Full)?;
        if let Some(subjects) = &subjects {
            subjects.link(target, birth.subject);
            subjects.unlink(slot, birth.subject);
        }
        to.set(field::ARRIVING, slot as u64 + 1);
        from.alias(slot, birth.subject, target, now);
        drop(subjects);
        from.retire(slot, &view, old_until, &policy, now);
        to.set(field::ARRIVING, 0);
        Ok(Some(Rotated { old_until }))
    }

    /// Finds a live session, also through an alias, locks its shard and changes it.
    fn change(
        &self,
        key: Key,
        now: Tick,
        how: impl Fn(&Shard<'_>, usize, &View) -> Result<(), ChangeError>,
    ) -> Result<(), ChangeError> {
        self.region.ask_for(key);
        for _ in 0..LOOKS {
            let (slot, seen, via) = match self.region.locate(key, now) {
                Located::Session(slot, view, via) => (slot, view, via),
                Located::Dead(end) => return Err(ChangeError::Ended(end)),
                Located::Unknown => return Err(ChangeError::Unknown),
            };
            let shard = self.region.lock_shard(slot / self.region.layout.slots);
            let Some(view) = self.region.view(slot).filter(|view| view.control.same_session(seen.control)) else {
                continue;
            };
            let unknown = via.map_or(ChangeError::Unknown, ChangeError::Ended);
            let Some(judged) = self.region.judge(&view, now) else { return Err(unknown) };
            if let State::Ended(end) = judged.state {
                let remembered = remembered_until(&view, &judged.policy, end) > now;
                return Err(if remembered { ChangeError::Ended(end) } else { unknown });
            }
            return how(&shard, slot, &view);
        }
        Err(ChangeError::Unknown)
    }
}

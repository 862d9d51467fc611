//! Start: a session begins.

use crate::cause::{Cause, End};
use crate::error::StartError;
use crate::key::{Binding, Key, Subject};
use crate::layout::header;
use crate::policies::{Newest, PolicyId};
use crate::policy::{OnFull, OnLimit, Policy};
use crate::record::{Birth, Kind};
use crate::shard::{Room, Shard, field};
use crate::state::State;
use crate::subjects::Subjects;
use crate::table::Table;
use crate::time::Tick;

/// Rounds of ending others to make place for a session of the same subject, while others of that
/// subject start too.
const ROUNDS: usize = 64;

/// What a session begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    /// The policy it lives under.
    pub policy: PolicyId,
    /// Whose it is, for revocation and limits by subject.
    pub subject: Subject,
    /// What it is bound to; every request must then present it.
    pub binding: Binding,
    /// When its token expires; [`Tick::NEVER`] if it has none.
    pub token: Tick,
}

impl Start {
    /// Nobody's session, bound to nothing and without a token.
    #[must_use]
    pub fn under(policy: PolicyId) -> Start {
        Start { policy, subject: Subject::NONE, binding: Binding::NONE, token: Tick::NEVER }
    }

    /// Sets whose it is.
    #[must_use]
    pub fn of(self, subject: Subject) -> Start {
        Start { subject, ..self }
    }

    /// Sets what it is bound to.
    #[must_use]
    pub fn bound_to(self, binding: Binding) -> Start {
        Start { binding, ..self }
    }

    /// Sets when its token expires.
    #[must_use]
    pub fn until(self, token: Tick) -> Start {
        Start { token, ..self }
    }
}

/// What a start did besides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Started {
    /// Sessions of the same subject that were ended to make place.
    pub displaced: u32,
}

/// A session at one moment of its record's life.
pub(crate) type Incarnation = (usize, u32);

enum Attempt {
    Started,
    /// Room is being made.
    Again,
    /// The subject has its share: these must end first.
    Displace(Vec<Incarnation>),
    /// There is room only because these are over by our clock: that must be on record first, or a
    /// touch by a clock that lags would bring one of them back beside the new one.
    Settle(Vec<Incarnation>),
}

impl Table {
    /// Begins a session. Locks the shard of its key, and that of its subject.
    ///
    /// Call it only on a trusted signal: the application has issued this very id just now, or an
    /// outer check has accepted the request. An id that a client made up must not become a session.
    ///
    /// # Errors
    /// [`StartError`]; nothing has changed then, except that sessions of the same subject may have
    /// been displaced when the start was overtaken by others.
    pub fn start(&self, key: Key, start: &Start, now: Tick) -> Result<Started, StartError> {
        let now = now.as_now();
        let mut displaced = 0;
        let mut rounds = 0;
        while rounds < ROUNDS {
            let attempt = self.try_start(key, start, now);
            // Whoever makes room comes nearer to it each time.
            rounds += usize::from(!matches!(attempt, Ok(Attempt::Again)));
            match attempt {
                Ok(Attempt::Started) => return Ok(Started { displaced }),
                Ok(Attempt::Again) => {}
                Ok(Attempt::Displace(sessions)) => {
                    for session in sessions {
                        displaced += u32::from(self.end_incarnation(session, Cause::Displaced, now));
                    }
                }
                Ok(Attempt::Settle(sessions)) => {
                    for (slot, generation) in sessions {
                        let shard = self.region.lock_shard(slot / self.region.layout.slots);
                        if self.region.control(slot).generation() == generation {
                            shard.settle(slot, now);
                        }
                    }
                }
                Err(error) => {
                    match error {
                        StartError::Full => self.region.bump(header::REFUSED_FULL),
                        StartError::Limited => self.region.bump(header::REFUSED_LIMITED),
                        _ => {}
                    }
                    return Err(error);
                }
            }
        }
        self.region.bump(header::REFUSED_LIMITED);
        Err(StartError::Limited)
    }

    fn try_start(&self, key: Key, start: &Start, now: Tick) -> Result<Attempt, StartError> {
        let region = &self.region;
        region.ask_for(key);
        let shard = region.lock_shard(region.shard_of(key));
        let Newest { policy, since } = region.newest(start.policy.0).ok_or(StartError::UnknownPolicy)?;
        if start.token <= now {
            return Err(StartError::TokenExpired);
        }
        self.refuse_taken(&shard, key, now)?;
        if policy.on_limit == OnLimit::Deny && !shard.has_room() && start.subject != Subject::NONE {
            // Who is refused for this must not have cost anybody a record.
            self.over_limit(&region.subjects(start.subject), start.subject, &policy, now)?;
        }
        match shard.make_room(now, policy.on_full == OnFull::EvictEnded) {
            Room::Made => {}
            Room::None => return Err(StartError::Full),
            Room::Sorting => return Ok(Attempt::Again),
        }
        let birth = Birth {
            key,
            policy: start.policy.0,
            start: now.max(since),
            last: now.max(since),
            token: start.token,
            binding: start.binding,
            subject: start.subject,
        };
        if start.subject == Subject::NONE {
            shard.insert(&birth, &policy).ok_or(StartError::Full)?;
        } else {
            let subjects = region.subjects(start.subject);
            if let Some(first) = self.over_limit(&subjects, start.subject, &policy, now)? {
                return Ok(first);
            }
            if !subjects.has_room(start.subject) {
                return Err(StartError::Full);
            }
            let slot = shard.insert(&birth, &policy).ok_or(StartError::Full)?;
            subjects.link(slot, start.subject);
        }
        shard.count(field::STARTED);
        Ok(Attempt::Started)
    }

    /// Refuses a key that has a record which is still kept.
    pub(crate) fn refuse_taken(&self, shard: &Shard<'_>, key: Key, now: Tick) -> Result<(), StartError> {
        let Some((_, view)) = shard.settled(key, now) else { return Ok(()) };
        match view.mark() {
            Some(end) if view.control.kind() == Kind::Alias && end.at > now => Err(StartError::Exists),
            Some(end) => Err(StartError::Ended(end)),
            None => Err(StartError::Exists),
        }
    }

    /// What must be done before this subject can have one session more; `None` when it can.
    fn over_limit(
        &self,
        subjects: &Subjects<'_>,
        subject: Subject,
        policy: &Policy,
        now: Tick,
    ) -> Result<Option<Attempt>, StartError> {
        let most = policy.max_per_subject as usize;
        if most == 0 {
            return Ok(None);
        }
        let (mut live, mut over) = (Vec::new(), Vec::new());
        for slot in subjects.sessions(subject) {
            let Some(view) = self.region.view(slot) else { continue };
            match self.region.judge(&view, now).map(|judged| judged.state) {
                Some(State::Active | State::Grace) => live.push((slot, view)),
                Some(State::Ended(_)) => over.push((slot, view.control.generation())),
                None => {}
            }
        }
        if live.len() < most {
            let matters = live.len() + over.len() >= most;
            return Ok(matters.then_some(Attempt::Settle(over)));
        }
        // The list has the newest first; of sessions that are alike the one that was there first goes.
        live.reverse();
        match policy.on_limit {
            OnLimit::Deny => return Err(StartError::Limited),
            OnLimit::EndOldest => live.sort_by_key(|(_, view)| view.life().start),
            OnLimit::EndLeastRecent => live.sort_by_key(|(_, view)| view.life().last),
        }
        let surplus = live.len() + 1 - most;
        let surplus = live[..surplus].iter().map(|(slot, view)| (*slot, view.control.generation()));
        Ok(Some(Attempt::Displace(surplus.collect())))
    }

    /// Ends the session that a record held, if it still holds it and it is alive; says whether.
    pub(crate) fn end_incarnation(&self, (slot, generation): Incarnation, cause: Cause, now: Tick) -> bool {
        let shard = self.region.lock_shard(slot / self.region.layout.slots);
        let is_it = |view: &crate::record::View| {
            view.control.kind() == Kind::Session && view.control.generation() == generation && view.mark().is_none()
        };
        if !self.region.view(slot).is_some_and(|view| is_it(&view)) {
            return false;
        }
        let Some(view) = shard.settle(slot, now).filter(is_it) else { return false };
        let policy = self.region.newest(view.control.policy()).map(|newest| newest.policy).unwrap_or_default();
        shard.end(slot, &view, End { cause, at: now }, &policy, now);
        true
    }
}

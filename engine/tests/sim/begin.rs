//! The same for calls that need a free key and a free record: starts and rotations.

use curfew_engine::{
    Cause, End, Life, OnFull, OnLimit, RotateError, Span, Start, StartError, Subject, Tick, What, keep_until,
};

use crate::acts::Answer;
use crate::common::rules::Told;
use crate::fates::{Fate, Session, only};
use crate::world::{KEYS, World};

impl World {
    pub(crate) fn is_crowded(&self) -> bool {
        let used = |fates: &Vec<Fate>| fates.iter().any(|fate| *fate != Fate::Absent);
        self.capacity < 16 && self.fates.iter().filter(|fates| used(fates)).count() >= self.capacity
    }

    /// Somebody may have given up an ended record to make room.
    pub(crate) fn evict(&mut self) {
        for fates in &mut self.fates {
            if fates.iter().any(|fate| matches!(fate, Fate::Ended { .. } | Fate::Alias { .. })) {
                only(fates, Fate::Absent);
            }
        }
    }

    /// What stands in the way of a session with this key, if this is the fate of the key.
    pub(crate) fn taken(&self, fate: &Fate, now: Tick) -> Option<StartError> {
        match *fate {
            Fate::Absent | Fate::Frozen(_) => None,
            Fate::Live(session) if self.is_over(&session, now).is_none() => Some(StartError::Exists),
            // What is over is exposed as ended besides.
            Fate::Live(session) => match self.answer(&session, now) {
                Told::Ended(end) => Some(StartError::Ended(end)),
                _ => None,
            },
            Fate::Ended { kept, .. } | Fate::Alias { kept, .. } if kept <= now => None,
            Fate::Alias { end, .. } if end.at > now => Some(StartError::Exists),
            Fate::Ended { end, .. } | Fate::Alias { end, .. } => Some(StartError::Ended(end)),
        }
    }

    pub(crate) fn learn_start(&mut self, key: usize, start: &Start, now: Tick, answer: &Answer) {
        let died = *answer == Answer::Died;
        let which = usize::from(start.policy.number());
        let policy = self.policy(which);
        if policy.on_full == OnFull::EvictEnded && self.is_crowded() {
            self.evict();
        }
        let is_rival = |fate: &Fate| {
            matches!(fate, Fate::Live(session)
            if session.subject == start.subject && self.is_over(session, now).is_none())
        };
        let limited = policy.max_per_subject > 0 && start.subject != Subject::NONE;
        let most = policy.max_per_subject as usize;
        let possible = self.fates.iter().filter(|fates| fates.iter().any(is_rival)).count();
        let definite = self.fates.iter().filter(|fates| fates.iter().all(is_rival)).count();
        let since = self.versions[which].last().unwrap().1;
        let begun = now.max(since);
        let session = |number| Session {
            number,
            policy: which,
            life: Life { start: begun, last: begun, token: start.token, mark: None },
            subject: start.subject,
        };
        match answer {
            Answer::Started(Err(StartError::Full)) => assert!(self.is_crowded(), "there is room"),
            Answer::Started(Err(StartError::Limited)) => {
                assert!(limited && policy.on_limit == OnLimit::Deny && possible >= most, "the subject may have more");
            }
            Answer::Started(Err(error)) => {
                let fits: Vec<Fate> =
                    self.fates[key].iter().filter(|fate| self.taken(fate, now) == Some(*error)).copied().collect();
                assert!(!fits.is_empty(), "key {key}: {error:?} fits none of {:#?}", self.fates[key]);
                self.keep(key, fits);
            }
            _ => {
                let free = self.fates[key].iter().any(|fate| self.taken(fate, now).is_none());
                assert!(free || died, "key {key} is taken: {:#?}", self.fates[key]);
                assert!(
                    died || !limited || policy.on_limit != OnLimit::Deny || definite < most,
                    "the subject has {definite} of {most}"
                );
                let displaces = limited && policy.on_limit != OnLimit::Deny && possible >= most;
                assert!(!matches!(answer, Answer::Started(Ok(1..))) || displaces, "nobody had to go");
                if displaces {
                    let end = End { cause: Cause::Displaced, at: now };
                    for this in 0..KEYS {
                        for fate in self.fates[this].clone() {
                            if let Fate::Live(session) = fate
                                && session.subject == start.subject
                                && self.is_over(&session, now).is_none()
                            {
                                let policy = self.policy(session.policy);
                                for ending in self.endings(&session, end, &policy, died) {
                                    only(&mut self.fates[this], ending);
                                    if matches!(ending, Fate::Ended { kept, .. } if kept <= now) {
                                        only(&mut self.fates[this], Fate::Absent);
                                    }
                                }
                            }
                        }
                    }
                }
                if free {
                    let number = self.new_session(key, start.subject, !died);
                    let live = Fate::Live(session(number));
                    if died {
                        only(&mut self.fates[key], Fate::Absent);
                        only(&mut self.fates[key], live);
                    } else {
                        self.fates[key] = vec![live];
                    }
                }
            }
        }
    }

    pub(crate) fn learn_rotate(&mut self, old: usize, new: usize, overlap: Span, now: Tick, answer: &Answer) {
        let died = *answer == Answer::Died;
        let rules_of = |session: &Session| self.policy(session.policy);
        let may_evict = self.fates[old]
            .iter()
            .any(|fate| matches!(fate, Fate::Live(session) if rules_of(session).on_full == OnFull::EvictEnded));
        if may_evict && self.is_crowded() {
            self.evict();
        }
        let old_until = now.after(overlap).min(Tick::LAST);
        let mut fits = Vec::new();
        let mut moved = Vec::new();
        for fate in self.fates[old].clone() {
            let expected = match fate {
                Fate::Live(session) => match self.is_over(&session, now) {
                    None => {
                        if self.fates[new].iter().any(|fate| self.taken(fate, now).is_none()) && old != new {
                            moved.push(session);
                        }
                        matches!(answer, Answer::Rotated(Err(RotateError::Taken | RotateError::Full)))
                    }
                    // Exposed as ended besides.
                    Some(_) => false,
                },
                Fate::Alias { end, kept, .. } if kept > now && end.at > now => {
                    *answer == Answer::Rotated(Err(RotateError::Rotated))
                }
                Fate::Ended { end, kept, .. } | Fate::Alias { end, kept, .. } if kept > now => {
                    *answer == Answer::Rotated(Err(RotateError::Ended(end)))
                }
                _ => *answer == Answer::Rotated(Err(RotateError::Unknown)),
            };
            if expected || died {
                only(&mut fits, fate);
            }
        }
        match answer {
            Answer::Rotated(Err(RotateError::Full)) => assert!(self.is_crowded(), "there is room"),
            Answer::Rotated(Err(RotateError::Taken)) => {
                let taken: Vec<Fate> =
                    self.fates[new].iter().filter(|fate| self.taken(fate, now).is_some()).copied().collect();
                assert!(!taken.is_empty(), "key {new} is free");
                if old != new {
                    self.keep(new, taken);
                }
            }
            Answer::Rotated(Ok(until)) => assert_eq!(*until, old_until),
            _ => {}
        }
        if died || matches!(answer, Answer::Rotated(Ok(_))) {
            let mut news = Vec::new();
            let certain = !died && moved.len() == 1;
            for session in moved {
                let number = self.new_session(new, session.subject, certain);
                let policy = self.policy(session.policy);
                let mut ends = vec![End { cause: Cause::Rotated, at: old_until }];
                if died {
                    // An overlap that was not written down is over.
                    ends.push(End { cause: Cause::Rotated, at: now.max(session.life.start) });
                }
                for end in ends {
                    self.accounts[session.number].ends.push((What::Rotated, end));
                    let lives = [session.life, Life { token: Tick::NEVER, ..session.life }];
                    for life in &lives[..if died { 2 } else { 1 }] {
                        let kept = keep_until(life, &policy, end);
                        let alias = Fate::Alias { session, end, kept, target: new, stands_for: number };
                        only(&mut fits, alias);
                        if kept <= now {
                            only(&mut fits, Fate::Absent);
                        }
                    }
                }
                news.push(Fate::Live(Session { number, ..session }));
            }
            assert!(!news.is_empty() || died, "nothing could be rotated");
            if died {
                if !news.is_empty() {
                    only(&mut self.fates[new], Fate::Absent);
                }
                news.into_iter().for_each(|fate| only(&mut self.fates[new], fate));
            } else {
                self.fates[new] = news;
            }
        }
        assert!(!fits.is_empty(), "key {old}: {answer:?} fits none of {:#?}", self.fates[old]);
        self.keep(old, fits);
    }
}

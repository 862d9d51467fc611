//! What the answer to a call leaves of the fates that were possible, and what a call that died adds.

use curfew_engine::{Cause, ChangeError, End, GraceMode, Policy, PolicyError, PolicyId, State, Tick};

use crate::acts::{Answer, Op};
use crate::common::rules::{self, Told};
use crate::fates::{Fate, Session, number, only};
use crate::world::{KEYS, World};

impl World {
    pub(crate) fn learn(&mut self, op: &Op, now: Tick, answer: &Answer) {
        let died = *answer == Answer::Died;
        match *op {
            Op::Touch { .. } | Op::Peek { .. } | Op::Reauthenticate { .. } | Op::SetPolicy { .. } => {}
            _ => self.expose(now, died),
        }
        match *op {
            Op::Start { key, start } => self.learn_start(key, &start, now, answer),
            Op::Touch { key } => self.learn_touch(key, now, answer),
            Op::Peek { key } => {
                if let Answer::Verdict(verdict) = answer {
                    self.observe(key, now, *verdict);
                }
            }
            Op::Reauthenticate { key, token } => self.learn_change(key, now, answer, |session| {
                let mut life = session.life;
                life.token = token.unwrap_or(life.token);
                let half = Fate::Live(Session { life, ..*session });
                life.start = life.start.max(now);
                life.last = life.last.max(life.start);
                (Fate::Live(Session { life, ..*session }), Some(half))
            }),
            Op::End { key, cause } => {
                let end = End { cause, at: now };
                self.learn_end(&|_| true, Some(key), end, now, answer);
            }
            Op::EndSubject { subject } => {
                let end = End { cause: Cause::Revoked, at: now };
                self.learn_end(&|session| session.subject == subject, None, end, now, answer);
            }
            Op::EndAll { policy } => {
                let end = End { cause: Cause::Revoked, at: now };
                self.learn_end(&|session| session.policy == policy, None, end, now, answer);
            }
            Op::Rotate { old, new, overlap } => self.learn_rotate(old, new, overlap, now, answer),
            Op::SetPolicy { which, policy } => self.learn_policy(which, policy, now, answer),
            Op::Advance { .. } | Op::Repair | Op::Check => {}
        }
    }

    pub(crate) fn learn_policy(&mut self, which: usize, policy: Policy, now: Tick, answer: &Answer) {
        // A call that died has changed it, or not: reading it tells.
        let is_set = self.observer.policy(PolicyId::from_number(which as u8)) == Some(policy);
        match answer {
            Answer::Policy(Ok(_)) => assert!(is_set),
            Answer::Policy(Err(error)) => assert_eq!(*error, PolicyError::Busy),
            _ => {}
        }
        let (current, since) = *self.versions[which].last().unwrap();
        if is_set && current != policy {
            self.versions[which].push((policy, since.max(now)));
            if !self.unsettled.is_empty() {
                self.keep_by(which, &policy);
            }
        }
        if *answer == Answer::Died {
            self.unsettled.push(KEYS);
        }
    }

    pub(crate) fn learn_touch(&mut self, key: usize, now: Tick, answer: &Answer) {
        let mut fates = Vec::new();
        for fate in self.fates[key].clone() {
            let mut after = fate;
            if let Fate::Live(session) = &mut after {
                let (state, policy) = self.judge(session, now);
                if state == State::Active || (state == State::Grace && policy.grace_mode == GraceMode::Resume) {
                    session.life.last = session.life.last.max(now);
                }
            }
            match answer {
                Answer::Verdict(verdict) => {
                    // A session in grace answers so, with the time it has now.
                    let fits = match (&fate, &after) {
                        (Fate::Live(before), Fate::Live(after)) => {
                            let (state, policy) = self.judge(before, now);
                            let left = rules::left(&after.life, &policy, after.policy, now, false);
                            match state {
                                State::Active => *verdict == Told::Active(left),
                                State::Grace => *verdict == Told::Grace(left),
                                State::Ended(_) => self.answer(before, now) == *verdict,
                            }
                        }
                        _ => self.answers(&fate, now, 4).contains(verdict),
                    };
                    if fits {
                        only(&mut fates, after);
                    }
                }
                _ => {
                    only(&mut fates, fate);
                    only(&mut fates, after);
                }
            }
        }
        assert!(!fates.is_empty(), "key {key}: {answer:?} fits none of {:#?}", self.fates[key]);
        self.keep(key, fates);
    }

    /// A change of one live session: what it becomes, and what it may be if the call died half-way.
    pub(crate) fn learn_change(
        &mut self,
        key: usize,
        now: Tick,
        answer: &Answer,
        change: impl Fn(&Session) -> (Fate, Option<Fate>),
    ) {
        let mut fates = Vec::new();
        for fate in self.fates[key].clone() {
            let (expected, after, half) = match fate {
                Fate::Live(session) if self.is_over(&session, now).is_none() => {
                    let (after, half) = change(&session);
                    (Ok(()), after, half)
                }
                _ => match self.answers(&fate, now, 4)[..] {
                    [Told::Ended(end)] => (Err(ChangeError::Ended(end)), fate, None),
                    _ => (Err(ChangeError::Unknown), fate, None),
                },
            };
            match answer {
                Answer::Died => [Some(fate), Some(after), half].iter().flatten().for_each(|one| only(&mut fates, *one)),
                other if *other == Answer::Changed(expected) => only(&mut fates, after),
                _ => {}
            }
        }
        assert!(!fates.is_empty(), "key {key}: {answer:?} fits none of {:#?}", self.fates[key]);
        self.keep(key, fates);
        if *answer == Answer::Died {
            self.unsettled.push(key);
        }
    }

    /// Some or all sessions are ended by somebody's wish.
    pub(crate) fn learn_end(
        &mut self,
        is_meant: &dyn Fn(&Session) -> bool,
        key: Option<usize>,
        end: End,
        now: Tick,
        answer: &Answer,
    ) {
        let died = *answer == Answer::Died;
        let (mut possible, mut definite) = (0, 0);
        for this in 0..KEYS {
            if key.is_some_and(|key| key != this) {
                continue;
            }
            let mut fates = Vec::new();
            let (mut ends, mut stays) = (false, false);
            for fate in self.fates[this].clone() {
                match fate {
                    Fate::Live(session) if is_meant(&session) && self.is_over(&session, now).is_none() => {
                        let policy = self.policy(session.policy);
                        let endings = self.endings(&session, end, &policy, died);
                        let gone =
                            endings.iter().any(|ending| matches!(ending, Fate::Ended { kept, .. } if *kept <= now));
                        if died || self.unsettled.contains(&this) {
                            only(&mut fates, fate);
                        }
                        if matches!(answer, Answer::Changed(Err(_))) {
                            continue;
                        }
                        ends = true;
                        endings.into_iter().for_each(|ending| only(&mut fates, ending));
                        if gone {
                            only(&mut fates, Fate::Absent);
                        }
                    }
                    _ => {
                        let verdict = self.answers(&fate, now, 4);
                        let fits = match answer {
                            Answer::Changed(Ok(())) => false,
                            Answer::Changed(Err(ChangeError::Ended(end))) => verdict.contains(&Told::Ended(*end)),
                            Answer::Changed(Err(_)) => verdict.contains(&Told::Unknown),
                            _ => true,
                        };
                        if fits {
                            stays = true;
                            only(&mut fates, fate);
                        }
                    }
                }
            }
            assert!(!fates.is_empty(), "key {this}: {answer:?} fits none of {:#?}", self.fates[this]);
            possible += u64::from(ends);
            definite += u64::from(ends && !stays && !self.unsettled.contains(&this));
            // It was there; which of two it was, if a call that died may have begun another, its event says.
            let mut numbers: Vec<usize> = fates.iter().filter_map(number).collect();
            numbers.sort_unstable();
            numbers.dedup();
            if matches!(answer, Answer::Changed(Ok(())))
                && let [number] = numbers[..]
            {
                self.accounts[number].certain = true;
            }
            self.keep(this, fates);
        }
        if let Answer::Ended(count) = answer {
            assert!((definite..=possible).contains(count), "{count} were ended, of {definite} to {possible}");
        }
    }
}

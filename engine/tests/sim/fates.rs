//! What may be true of a key, and what a look at it may say then.

use curfew_engine::{End, Life, State, Subject, Tick, keep_until};

use crate::common::rules::{self, Told};
use crate::world::World;

/// A session. Its number is not the table's.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Session {
    pub(crate) number: usize,
    pub(crate) policy: usize,
    pub(crate) life: Life,
    pub(crate) subject: Subject,
}

/// What may be true of a key.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Fate {
    Absent,
    Live(Session),
    /// Its time had come for somebody who died before writing down more than that.
    Frozen(Session),
    Ended {
        session: Session,
        end: End,
        kept: Tick,
    },
    Alias {
        session: Session,
        end: End,
        kept: Tick,
        target: usize,
        stands_for: usize,
    },
}

pub(crate) fn number(fate: &Fate) -> Option<usize> {
    match *fate {
        Fate::Absent => None,
        Fate::Live(session) | Fate::Frozen(session) | Fate::Ended { session, .. } | Fate::Alias { session, .. } => {
            Some(session.number)
        }
    }
}

pub(crate) fn only(fates: &mut Vec<Fate>, fate: Fate) {
    if !fates.contains(&fate) {
        fates.push(fate);
    }
}

impl World {
    /// What a peek may answer if this is the fate of the key.
    pub(crate) fn answers(&self, fate: &Fate, now: Tick, hops: usize) -> Vec<Told> {
        match fate {
            Fate::Absent => vec![Told::Unknown],
            Fate::Live(session) => vec![self.answer(session, now)],
            Fate::Frozen(_) => vec![],
            Fate::Ended { end, kept, .. } => vec![if *kept > now { Told::Ended(*end) } else { Told::Unknown }],
            Fate::Alias { kept, .. } if *kept <= now => vec![Told::Unknown],
            Fate::Alias { end, .. } if end.at <= now || hops == 0 => vec![Told::Ended(*end)],
            Fate::Alias { end, target, stands_for, .. } => {
                let mut answers = Vec::new();
                for fate in &self.fates[*target] {
                    if number(fate) == Some(*stands_for) {
                        answers.extend(self.answers(fate, now, hops - 1));
                    } else {
                        answers.push(Told::Ended(*end));
                    }
                }
                for answer in &mut answers {
                    if *answer == Told::Unknown {
                        *answer = Told::Ended(*end);
                    }
                }
                answers
            }
        }
    }

    pub(crate) fn answer(&self, session: &Session, now: Tick) -> Told {
        let (state, policy) = self.judge(session, now);
        let left = rules::left(&session.life, &policy, session.policy, now, false);
        match state {
            State::Active => Told::Active(left),
            State::Grace => Told::Grace(left),
            State::Ended(end) if keep_until(&session.life, &policy, end) > now => Told::Ended(end),
            State::Ended(_) => Told::Unknown,
        }
    }

    pub(crate) fn observe(&mut self, key: usize, now: Tick, verdict: Told) {
        let fits: Vec<Fate> =
            self.fates[key].iter().filter(|fate| self.answers(fate, now, 4).contains(&verdict)).copied().collect();
        assert!(!fits.is_empty(), "key {key} at {now:?}: {verdict:?} fits none of {:#?}", self.fates[key]);
        self.keep(key, fits);
    }

    pub(crate) fn keep(&mut self, key: usize, fates: Vec<Fate>) {
        if let [fate] = fates[..]
            && let Some(number) = number(&fate)
        {
            self.accounts[number].certain = true;
        }
        self.fates[key] = fates;
    }
}

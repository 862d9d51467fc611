//! How much time a session has, as a touch answers it: worked out when somebody asks.

use std::fmt;

use crate::policies::PolicyId;
use crate::policy::Limits;
use crate::state::{Deadlines, Life, Words, deadlines_by};
use crate::time::{Span, Tick};

/// How much time a session has. What is off is [`Span::NEVER`].
///
/// It holds the times and limits that the decision was made by, and every answer is worked out from
/// them when it is asked for: who only lets requests pass does not pay for the rest. Nothing that
/// happens to the session later changes it.
#[derive(Clone, Copy)]
pub struct Left {
    words: Words,
    now: u64,
    limits: [u64; Limits::PACKED],
    policy: PolicyId,
    mismatch: bool,
}

impl Left {
    #[inline(always)]
    pub(crate) fn new(words: Words, now: Tick, limits: [u64; Limits::PACKED], policy: u8) -> Left {
        Left { words, now: now.as_millis(), limits, policy: PolicyId(policy), mismatch: false }
    }

    pub(crate) fn of(life: &Life, now: Tick, limits: &Limits, policy: u8, mismatch: bool) -> Left {
        let words = Words { start: life.start.as_millis(), last: life.last.as_millis(), token: life.token.as_millis() };
        Left { mismatch, ..Left::new(words, now, limits.pack(), policy) }
    }

    fn life(&self) -> Life {
        let Words { start, last, token } = self.words;
        let start = Tick::from_word(start).as_now();
        Life { start, last: start.max(Tick::from_word(last)), token: Tick::from_word(token), mark: None }
    }

    fn limits(&self) -> Limits {
        Limits::unpack(self.limits)
    }

    fn deadlines(&self) -> Deadlines {
        deadlines_by(&self.life(), &self.limits())
    }

    /// When the session was looked at. A clock that lags must not promise more than a limit allows.
    fn now(&self) -> Tick {
        Tick::from_word(self.now).max(self.life().last)
    }

    /// Until the idle timeout; zero in grace.
    #[must_use]
    pub fn idle(&self) -> Span {
        self.deadlines().soft.since(self.now())
    }

    /// Until the lifetime is over.
    #[must_use]
    pub fn lifetime(&self) -> Span {
        self.life().start.limit(self.limits().lifetime).since(self.now())
    }

    /// Until the token expires.
    #[must_use]
    pub fn token(&self) -> Span {
        self.life().token.since(self.now())
    }

    /// Until the session ends if nothing happens: the least of the above, and grace.
    #[must_use]
    pub fn end(&self) -> Span {
        self.deadlines().end.at.since(self.now())
    }

    /// Since its start or last re-authentication.
    #[must_use]
    pub fn age(&self) -> Span {
        self.now().since(self.life().start)
    }

    /// The policy it lives under.
    #[must_use]
    pub fn policy(&self) -> PolicyId {
        self.policy
    }

    /// It was presented without what it is bound to, and the policy only logs that
    /// ([`crate::OnMismatch::Log`]).
    #[must_use]
    pub fn mismatch(&self) -> bool {
        self.mismatch
    }

    /// In grace: whether a touch brings it back ([`crate::GraceMode::Resume`]).
    #[must_use]
    pub fn resumes(&self) -> bool {
        self.limits().resumes
    }

    fn told(&self) -> ([Span; 5], PolicyId, [bool; 2]) {
        let spans = [self.idle(), self.lifetime(), self.token(), self.end(), self.age()];
        (spans, self.policy, [self.mismatch, self.resumes()])
    }
}

/// Two are equal when they answer the same.
impl PartialEq for Left {
    fn eq(&self, other: &Left) -> bool {
        self.told() == other.told()
    }
}

impl Eq for Left {}

impl fmt::Debug for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Left")
            .field("idle", &self.idle())
            .field("lifetime", &self.lifetime())
            .field("token", &self.token())
            .field("end", &self.end())
            .field("age", &self.age())
            .field("policy", &self.policy)
            .field("mismatch", &self.mismatch)
            .field("resumes", &self.resumes())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Span {
        Span::from_millis(millis)
    }

    #[test]
    fn what_is_left_is_counted_from_the_later_of_now_and_the_last_activity() {
        let limits = Limits { idle: ms(10), lifetime: ms(100), grace: ms(5), resumes: true };
        let left = |now| Left::new(Words { start: 50, last: 60, token: 200 }, Tick::from_millis(now), limits.pack(), 3);
        let told = |now| {
            let left = left(now);
            [left.idle(), left.lifetime(), left.token(), left.end(), left.age()].map(Span::as_millis)
        };
        assert_eq!(told(60), [10, 90, 140, 15, 10]);
        assert_eq!(told(64), [6, 86, 136, 11, 14]);
        assert_eq!(told(55), told(60), "a clock that lags promises no more than a limit allows");
        assert_eq!((left(60).policy().number(), left(60).mismatch(), left(60).resumes()), (3, false, true));
        assert_eq!(left(55), left(60));
        assert_ne!(left(60), left(61));
    }

    #[test]
    fn what_is_off_is_never() {
        let limits = Limits { idle: Span::OFF, lifetime: Span::OFF, grace: Span::OFF, resumes: false };
        let words = Words { start: 50, last: 60, token: Tick::NEVER.as_millis() };
        let left = Left::new(words, Tick::from_millis(70), limits.pack(), 0);
        assert!([left.idle(), left.lifetime(), left.token(), left.end()].iter().all(|span| span.is_never()));
        assert!(!left.resumes());
        assert!(format!("{left:?}").contains("idle: never"), "{left:?}");
    }

    #[test]
    fn no_words_make_an_answer_panic() {
        for word in [0, 1 << 47, (1 << 48) - 1, 1 << 48, 1 << 62, 1 << 63, u64::MAX] {
            let words = Words { start: word, last: word.rotate_left(1), token: word.rotate_left(2) };
            for limit in [0, 1, word] {
                let left = Left::new(words, Tick::from_millis(word), [limit, word, limit], 0);
                assert_eq!(left, left);
            }
        }
    }
}

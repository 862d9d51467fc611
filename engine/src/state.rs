//! What a session's state is: a pure function of (record, policy, now).
//!
//! The engine, the models and the replay all ask this file and nothing else. It has no atomics
//! and no clock. The rules, with every sum saturating at *never*:
//!
//! ```text
//! hard   = min(start + lifetime, token expiry)        a limit that is off is never
//! soft   = last + idle
//! end_at = min(hard, soft + grace)
//!
//!   ended mark set   Ended(cause of the mark), at the time the mark carries
//!   now >= end_at    Ended at end_at; Lifetime or Token when hard <= soft + grace, else Idle
//!   now >= soft      Grace
//!   otherwise        Active
//! ```
//!
//! Deadlines are exclusive: at exactly `last + idle` the session is over (NIST SP 800-63B speaks of
//! "inactivity lasting 30 minutes or longer").

use std::hint::cold_path;

use crate::cause::{Cause, End};
use crate::policy::{Limits, Policy, Retain};
use crate::time::{Span, TICK_MASK, Tick};

/// What the state of a session depends on besides its policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Life {
    /// Start, or last re-authentication.
    pub start: Tick,
    /// Last activity; not before `start`.
    pub last: Tick,
    /// Token expiry, or never.
    pub token: Tick,
    /// Set once the session was ended.
    pub mark: Option<End>,
}

/// The points in time at which a session's state changes if nothing else happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deadlines {
    /// Lifetime or token, whichever is earlier.
    pub hard: Tick,
    /// The idle timeout, where grace begins.
    pub soft: Tick,
    /// The end.
    pub end: End,
}

/// State of a session at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Usable.
    Active,
    /// Past the idle timeout, not gone yet.
    Grace,
    /// Over.
    Ended(End),
}

/// The deadlines of a life under a policy. The mark plays no part.
#[must_use]
#[inline(always)]
pub fn deadlines(life: &Life, policy: &Policy) -> Deadlines {
    deadlines_by(life, &policy.limits())
}

/// The same by the limits alone.
#[inline(always)]
pub(crate) fn deadlines_by(life: &Life, limits: &Limits) -> Deadlines {
    let by_lifetime = life.start.limit(limits.lifetime);
    let hard = by_lifetime.min(life.token);
    let soft = life.last.limit(limits.idle);
    let idle_out = soft.after(limits.grace);
    let end = if hard <= idle_out {
        End { at: hard, cause: if by_lifetime <= life.token { Cause::Lifetime } else { Cause::Token } }
    } else {
        End { at: idle_out, cause: Cause::Idle }
    };
    Deadlines { hard, soft, end }
}

/// The words of a life without a mark: start, last activity and the token's expiry. One of which the bits
/// above those of a tick are not all zero is none, and then there is no such life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    pub(crate) start: u64,
    pub(crate) last: u64,
    pub(crate) token: u64,
}

/// The same rules in three comparisons, for nearly every touch: whether such a life is active at `now`
/// under packed limits. No sum is made, so none saturates: what reaches past the last tick ends later
/// than any *now*, with and without a word for never.
///
/// What comes of the limits and `now` does not hang on the words of the life: the processor has to wait
/// for those, and the less there is to do once they have come, the sooner it can begin with the next
/// touch.
#[inline(always)]
pub(crate) fn is_active(words: &Words, limits: &[u64; Limits::PACKED], now: Tick) -> bool {
    let now = now.as_millis();
    // An activity, and a start, that is not later than these is over by now.
    let [too_idle, too_old] = [limits[0], limits[1]].map(|limit| (now as i64).wrapping_sub(limit as i64));
    let token_in = words.token.wrapping_sub(now + 1);
    words.last as i64 > too_idle && words.start as i64 > too_old && token_in < TICK_MASK - now
}

/// The same once more, for a life that is seen later than its last activity, which is not before its start.
/// In as few results as can be: the processor has a place for each until it is done with everything before
/// it, and while it waits for a record those places are what it runs out of.
#[inline(always)]
pub(crate) fn is_active_since(words: &Words, limits: &[u64; Limits::PACKED], now: Tick) -> bool {
    let now = now.as_millis();
    let too_old = words.start.wrapping_add(limits[1]);
    if words.token > TICK_MASK {
        // Said, so that this is not made one comparison with the next, which is longer.
        cold_path();
        return false;
    }
    now.wrapping_sub(words.last) < limits[0] && now < too_old && now < words.token
}

impl Deadlines {
    /// Whether the session is active at `now` if nobody has ended it.
    #[inline(always)]
    pub(crate) fn is_active(&self, now: Tick) -> bool {
        now < self.soft && now < self.end.at
    }
}

/// The state of a life under a policy at `now`.
#[must_use]
#[inline(always)]
pub fn state(life: &Life, policy: &Policy, now: Tick) -> State {
    if let Some(end) = life.mark {
        return State::Ended(end);
    }
    let deadlines = deadlines(life, policy);
    if deadlines.is_active(now) {
        State::Active
    } else if now < deadlines.end.at {
        State::Grace
    } else {
        State::Ended(deadlines.end)
    }
}

/// How a life has ended that was over under a version of its policy before, at `until`, the next took
/// over. One that began when the next had taken over never lived under this one.
#[inline]
pub(crate) fn over_before(life: &Life, version: &Policy, until: Tick) -> Option<End> {
    let end = deadlines(life, version).end;
    (life.start < until && end.at <= until).then_some(end)
}

/// Until when the record of a session that ended at `end` is kept; at the most until the last tick.
#[must_use]
pub fn keep_until(life: &Life, policy: &Policy, end: End) -> Tick {
    let until = match policy.retain {
        Retain::For(span) => end.at.after(span),
        Retain::UntilHardLimit => {
            let hard = deadlines(life, policy).hard;
            if hard.is_never() { end.at.after(Span::DAY) } else { hard.max(end.at) }
        }
    };
    until.min(Tick::LAST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::GraceMode;

    /// The bit of a limit's word that a session that was ended has.
    const MARK: u64 = 1 << 63;

    fn at(millis: u64) -> Tick {
        Tick::from_millis(millis)
    }

    fn ms(millis: u64) -> Span {
        Span::from_millis(millis)
    }

    fn life(start: u64, last: u64) -> Life {
        Life { start: at(start), last: at(last), token: Tick::NEVER, mark: None }
    }

    fn ended(cause: Cause, millis: u64) -> State {
        State::Ended(End { cause, at: at(millis) })
    }

    #[test]
    fn at_exactly_last_plus_idle_the_session_is_over() {
        let policy = Policy::new().idle(ms(100));
        assert_eq!(state(&life(0, 50), &policy, at(149)), State::Active);
        assert_eq!(state(&life(0, 50), &policy, at(150)), ended(Cause::Idle, 150));
    }

    #[test]
    fn an_end_is_recorded_at_its_deadline_however_late_it_is_noticed() {
        let policy = Policy::new().idle(ms(100));
        assert_eq!(state(&life(0, 50), &policy, Tick::LAST), ended(Cause::Idle, 150));
    }

    #[test]
    fn grace_follows_idle_and_the_hard_limit_cuts_it_short() {
        let policy = Policy::new().idle(ms(100)).lifetime(ms(130)).grace(ms(50), GraceMode::Resume);
        assert_eq!(state(&life(0, 0), &policy, at(100)), State::Grace);
        assert_eq!(state(&life(0, 0), &policy, at(129)), State::Grace);
        assert_eq!(state(&life(0, 0), &policy, at(130)), ended(Cause::Lifetime, 130));
    }

    #[test]
    fn when_hard_and_idle_fall_together_the_hard_limit_is_the_cause() {
        let policy = Policy::new().idle(ms(100)).lifetime(ms(100));
        assert_eq!(state(&life(0, 0), &policy, at(100)), ended(Cause::Lifetime, 100));
        let token = Life { token: at(100), ..life(0, 0) };
        assert_eq!(state(&token, &Policy::new().idle(ms(100)), at(100)), ended(Cause::Token, 100));
    }

    #[test]
    fn the_mark_wins_over_every_deadline() {
        let end = End { cause: Cause::Logout, at: at(7) };
        let marked = Life { mark: Some(end), ..life(0, 0) };
        assert_eq!(state(&marked, &Policy::new().idle(ms(5)), at(3)), State::Ended(end));
    }

    #[test]
    fn a_limit_that_is_off_is_never_reached() {
        let policy = Policy::new().lifetime(ms(10)).grace(ms(99), GraceMode::Resume);
        assert_eq!(state(&life(0, 0), &policy, at(9)), State::Active);
        assert_eq!(state(&life(0, 0), &policy, at(10)), ended(Cause::Lifetime, 10));
    }

    #[test]
    fn an_ended_record_is_kept_until_the_hard_limit_or_a_day() {
        let end = End { cause: Cause::Logout, at: at(50) };
        let policy = Policy::new().idle(ms(100)).lifetime(ms(1000));
        assert_eq!(keep_until(&life(0, 0), &policy, end), at(1000));
        assert_eq!(keep_until(&life(0, 0), &Policy::new().idle(ms(100)), end), at(50).after(Span::DAY));
        assert_eq!(keep_until(&life(0, 0), &policy.retain(Retain::For(ms(3))), end), at(53));
    }

    const ODD: [u64; 14] = [
        0,
        1,
        2,
        3,
        1000,
        1001,
        (1 << 46) - 1,
        1 << 46,
        (1 << 47) - 1,
        1 << 47,
        TICK_MASK - 2,
        TICK_MASK - 1,
        TICK_MASK,
        1 << 48 | 5,
    ];

    #[test]
    fn three_comparisons_say_what_the_rules_say_of_any_times_and_limits() {
        let mut active = 0;
        let spans = ODD.iter().filter(|millis| **millis < TICK_MASK).map(|millis| Span::from_millis(*millis));
        let limits: Vec<_> = spans
            .clone()
            .flat_map(|idle| spans.clone().map(move |lifetime| (idle, lifetime)))
            .flat_map(|(idle, lifetime)| {
                [0, 2, 1 << 46].map(|grace| Limits { idle, lifetime, grace: Span::from_millis(grace), resumes: true })
            })
            .collect();
        let times = || ODD.iter().filter(|millis| **millis < TICK_MASK);
        for now in ODD.map(Tick::from_millis).map(Tick::as_now) {
            for (start, last) in times().flat_map(|start| times().map(move |last| (*start, last.max(start)))) {
                for token in ODD {
                    let words = Words { start, last: *last, token };
                    let [from, last] = [start, *last].map(Tick::from_millis);
                    let life = Life { start: from, last, token: Tick::from_word(token), mark: None };
                    for limits in &limits {
                        let said = is_active(&words, &limits.pack(), now);
                        // A word that is no time is never one of a session that goes on.
                        let expected = token <= TICK_MASK && deadlines_by(&life, limits).is_active(now);
                        assert_eq!(said, expected, "{words:?} {limits:?} {now:?}");
                        if words.last < now.as_millis() {
                            let said = is_active_since(&words, &limits.pack(), now);
                            assert_eq!(said, expected, "since: {words:?} {limits:?} {now:?}");
                            active += usize::from(said);
                        }
                    }
                }
            }
        }
        assert!(active > 1000, "{active}");
    }

    #[test]
    fn a_life_whose_words_are_damaged_is_not_active_or_judged_as_any_other() {
        for word in [MARK, u64::MAX, 1 << 48, 1 << 62] {
            let limits = Limits { idle: ms(10), lifetime: ms(20), grace: Span::OFF, resumes: false };
            let words = Words { start: 0, last: 0, token: word };
            assert!(!is_active(&words, &limits.pack(), at(1)), "{word:x}");
            assert!(!is_active_since(&words, &limits.pack(), at(1)), "since: {word:x}");
        }
        // Whatever is in the words of a policy, this neither overflows nor panics.
        for (idle, lifetime) in [(u64::MAX, 0), (1 << 63, 1 << 63), (0, u64::MAX)] {
            for now in [0, TICK_MASK - 1] {
                let words = Words { start: now, last: u64::MAX, token: now };
                is_active(&words, &[idle, lifetime, 0], at(now));
                is_active_since(&words, &[idle, lifetime, 0], at(now));
            }
        }
    }
}

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

use crate::cause::{Cause, End};
use crate::policy::{Limits, Policy, Retain};
use crate::time::{Span, TICK_BITS, TICK_MASK, Tick};

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

/// How much time an active session has; what is off is [`Span::NEVER`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rest {
    pub(crate) idle: Span,
    pub(crate) lifetime: Span,
    pub(crate) token: Span,
    pub(crate) end: Span,
    pub(crate) age: Span,
}

/// The words of a life without a mark: start, last activity and the token's expiry. One of which the bits
/// above those of a tick are not all zero is none, and then there is no such life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    pub(crate) start: u64,
    pub(crate) last: u64,
    pub(crate) token: u64,
}

/// Bits of the times and limits that [`rest`] works with: 2,200 years. Three of them added up come to
/// less than never, so that no sum saturates.
const NEAR_BITS: u32 = TICK_BITS - 2;
/// A limit that is off: longer than every time that is near, and no sum with three of them overflows.
const OFF: i64 = 1 << 62;

/// The same rules in few steps, for nearly every touch: what is left to a session that is active at
/// `now`, once `now` has been counted as activity if it `counts`. `None` if it is not active, or a time
/// is so far off that a sum might saturate: then [`deadlines_by`] tells. Also `None` if it is to count
/// `LATER` than the last activity and does not.
///
/// What comes of the limits and `now` is worked out before the words are looked at: the processor has
/// to wait for them, and the less there is to do once they have come, the sooner it can begin with the
/// next touch.
#[inline(always)]
pub(crate) fn rest<const LATER: bool>(words: Words, limits: &Limits, now: Tick, counts: bool) -> Option<Rest> {
    let [idle, lifetime, grace, now] =
        [limits.idle.as_millis(), limits.lifetime.as_millis(), limits.grace.as_millis(), now.as_millis()];
    if (idle | lifetime | grace | now) >> NEAR_BITS != 0 {
        return None;
    }
    let or_off = |limit: u64| if limit == 0 { OFF } else { limit as i64 };
    let [by_idle, by_lifetime] = [idle, lifetime].map(or_off);
    // An activity, and a start, that is not later than these is over by now.
    let (too_idle, too_old) = (now as i64 - by_idle, now as i64 - by_lifetime);

    let Words { start, last, token } = words;
    let last = last.max(start);
    if token > TICK_MASK || if LATER { last >= now } else { last >> NEAR_BITS != 0 } {
        return None;
    }
    if last as i64 <= too_idle || start as i64 <= too_old || token <= now {
        return None;
    }
    // A clock that lags must not promise more than a limit allows.
    let seen = if LATER { now } else { last.max(now) };
    let since_last = if LATER || counts { 0 } else { (seen - last) as i64 };
    let never_or = |limit: u64, left: i64| if limit == 0 { Span::NEVER } else { Span::near(left) };
    let lifetime = if LATER { start as i64 - too_old } else { (start as i64 + by_lifetime - seen as i64).max(0) };
    let [idle, lifetime] = [never_or(idle, by_idle - since_last), never_or(limits.lifetime.as_millis(), lifetime)];
    let token = Tick::from_word(token).since(Tick::from_word(seen));
    let end = Span::from_millis((by_idle - since_last + grace as i64) as u64).min(lifetime).min(token);
    Some(Rest { idle, lifetime, token, end, age: Span::near((seen - start) as i64) })
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
}

//! What the plain rules say, for every model.

use curfew_engine::{
    End, GraceMode, Left, Life, Mismatch, Policy, PolicyId, Span, State, Tick, Verdict, deadlines, state,
};

/// The state of a life at `now`, and the version of its policy that decided. `versions` are all that
/// there were, the oldest first, each with the tick since when it holds.
#[allow(unreachable_pub)]
pub fn judge(versions: &[(Policy, Tick)], life: &Life, now: Tick) -> (State, Policy) {
    for pair in versions.windows(2) {
        let end = deadlines(life, &pair[0].0).end;
        if life.mark.is_none() && life.start < pair[1].1 && end.at <= pair[1].1 {
            return (State::Ended(end), pair[0].0);
        }
    }
    let newest = versions.last().unwrap().0;
    (state(life, &newest, now), newest)
}

/// An answer to a touch or a peek, with what it says is left worked out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(unreachable_pub)]
pub enum Told {
    Active(Times),
    Grace(Times),
    Ended(End),
    Mismatch(Mismatch),
    Unknown,
}

/// What an answer says is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(unreachable_pub)]
pub struct Times {
    pub idle: Span,
    pub lifetime: Span,
    pub token: Span,
    pub end: Span,
    pub age: Span,
    pub policy: PolicyId,
    pub mismatch: bool,
    pub resumes: bool,
}

impl From<Left> for Times {
    fn from(left: Left) -> Times {
        Times {
            idle: left.idle(),
            lifetime: left.lifetime(),
            token: left.token(),
            end: left.end(),
            age: left.age(),
            policy: left.policy(),
            mismatch: left.mismatch(),
            resumes: left.resumes(),
        }
    }
}

impl From<Verdict> for Told {
    fn from(verdict: Verdict) -> Told {
        match verdict {
            Verdict::Active(left) => Told::Active(left.into()),
            Verdict::Grace(left) => Told::Grace(left.into()),
            Verdict::Ended(end) => Told::Ended(end),
            Verdict::Mismatch(mismatch) => Told::Mismatch(mismatch),
            Verdict::Unknown => Told::Unknown,
        }
    }
}

/// What an answer at `now` should say is left.
#[allow(unreachable_pub)]
pub fn left(life: &Life, policy: &Policy, number: usize, now: Tick, mismatch: bool) -> Times {
    let now = now.max(life.last);
    let all = deadlines(life, policy);
    let lifetime = if policy.lifetime.is_off() { Tick::NEVER } else { life.start.after(policy.lifetime) };
    Times {
        idle: all.soft.since(now),
        lifetime: lifetime.since(now),
        token: life.token.since(now),
        end: all.end.at.since(now),
        age: now.since(life.start),
        policy: PolicyId::from_number(number as u8),
        mismatch,
        resumes: policy.grace_mode == GraceMode::Resume,
    }
}

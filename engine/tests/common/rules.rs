//! What the plain rules say, for every model.

use curfew_engine::{GraceMode, Left, Life, Policy, PolicyId, State, Tick, deadlines, state};

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

/// What an answer at `now` says is left.
#[allow(unreachable_pub)]
pub fn left(life: &Life, policy: &Policy, number: usize, now: Tick, mismatch: bool) -> Left {
    let now = now.max(life.last);
    let all = deadlines(life, policy);
    let lifetime = if policy.lifetime.is_off() { Tick::NEVER } else { life.start.after(policy.lifetime) };
    Left {
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

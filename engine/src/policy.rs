//! What a policy says, and how it lies in five words.

use crate::error::PolicyError;
use crate::time::{Span, TICK_BITS, TICK_MASK};

/// What happens in the window after the idle timeout.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum GraceMode {
    /// The session waits for the user to prove presence again ([`crate::Table::reauthenticate`]);
    /// a touch changes nothing.
    #[default]
    Reauth,
    /// A touch brings the session back and counts as activity.
    Resume,
}

/// What happens when a session is presented without what it is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnMismatch {
    /// This request is refused; the session goes on for its rightful holder.
    #[default]
    Deny,
    /// The session ends with cause [`crate::Cause::Binding`].
    End,
    /// The request passes; it is counted, and the verdict says so.
    Log,
}

/// What happens when a subject that has `max_per_subject` sessions starts another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnLimit {
    /// The new session is refused.
    #[default]
    Deny,
    /// The session that started first ends with cause [`crate::Cause::Displaced`].
    EndOldest,
    /// The session that has been idle longest ends with cause [`crate::Cause::Displaced`].
    EndLeastRecent,
}

/// How long an ended record is kept, so that an id which has ended cannot be started anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Retain {
    /// Until the session's hard limit (its lifetime or its token's expiry, whichever is earlier);
    /// 24 hours after its end when it had none.
    #[default]
    UntilHardLimit,
    /// So long after its end; zero forgets at once.
    For(Span),
}

/// What `start` does when there is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnFull {
    /// Answers [`crate::StartError::Full`].
    #[default]
    Refuse,
    /// Gives up the ended record that would be forgotten soonest; `Full` when there is none.
    /// Live sessions are never given up.
    EvictEnded,
}

/// A named set of limits. A duration of zero switches that limit off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    /// Longest time between two activities.
    pub idle: Span,
    /// Longest time from start or last re-authentication to end, whatever the activity.
    pub lifetime: Span,
    /// Window after the idle timeout in which the session is not usable as before but not gone.
    pub grace: Span,
    /// What that window allows.
    pub grace_mode: GraceMode,
    /// What a wrong binding does.
    pub on_mismatch: OnMismatch,
    /// Most live sessions of one subject; zero for no limit.
    pub max_per_subject: u32,
    /// What happens at that limit.
    pub on_limit: OnLimit,
    /// How long an ended record is kept.
    pub retain: Retain,
    /// What `start` does when there is no room.
    pub on_full: OnFull,
}

/// What of a policy says when a session's time has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Limits {
    pub(crate) idle: Span,
    pub(crate) lifetime: Span,
    pub(crate) grace: Span,
    /// Whether a touch brings a session back from grace.
    pub(crate) resumes: bool,
}

/// Words that a packed policy takes; its limits are the first ones.
pub(crate) const PACKED: usize = 5;
/// A limit that is off, packed: longer than every time, so that *now* less it is before every start, and
/// a touch need not ask whether there is a limit.
const OFF: u64 = 1 << 62;
/// Of the third word of a packed policy.
const RESUMES: u64 = 1 << TICK_BITS;

impl Policy {
    /// A policy with every limit off; set at least `idle` or `lifetime`.
    #[must_use]
    pub fn new() -> Policy {
        Policy::default()
    }

    /// Sets the idle timeout.
    #[must_use]
    pub fn idle(self, idle: Span) -> Policy {
        Policy { idle, ..self }
    }

    /// Sets the lifetime.
    #[must_use]
    pub fn lifetime(self, lifetime: Span) -> Policy {
        Policy { lifetime, ..self }
    }

    /// Sets the grace window and what it allows.
    #[must_use]
    pub fn grace(self, grace: Span, grace_mode: GraceMode) -> Policy {
        Policy { grace, grace_mode, ..self }
    }

    /// Sets how long an ended record is kept.
    #[must_use]
    pub fn retain(self, retain: Retain) -> Policy {
        Policy { retain, ..self }
    }

    /// Sets the most sessions of one subject and what happens at that limit.
    #[must_use]
    pub fn max_per_subject(self, max_per_subject: u32, on_limit: OnLimit) -> Policy {
        Policy { max_per_subject, on_limit, ..self }
    }

    /// Refuses a policy under which a session would never end.
    ///
    /// # Errors
    /// [`PolicyError::NoLimit`] when neither `idle` nor `lifetime` is set (or both are "never");
    /// [`PolicyError::TooLong`] for a finite limit that reaches past the last tick.
    pub fn validate(&self) -> Result<(), PolicyError> {
        for (field, span) in [("idle", self.idle), ("lifetime", self.lifetime), ("grace", self.grace)] {
            if span.is_never() {
                return Err(PolicyError::TooLong { field });
            }
        }
        if self.idle.is_off() && self.lifetime.is_off() {
            return Err(PolicyError::NoLimit);
        }
        Ok(())
    }

    pub(crate) fn pack(&self) -> [u64; PACKED] {
        let (keep, kept) = match self.retain {
            Retain::UntilHardLimit => (0, Span::OFF),
            Retain::For(span) => (1, span),
        };
        let flags = (self.on_mismatch as u64) << 1
            | (self.on_limit as u64) << 3
            | u64::from(self.on_full == OnFull::EvictEnded) << 5
            | keep << 6;
        let [idle, lifetime, grace] = self.limits().pack();
        [idle, lifetime, grace | flags << TICK_BITS, kept.as_millis(), u64::from(self.max_per_subject)]
    }

    #[inline(always)]
    pub(crate) fn limits(&self) -> Limits {
        let resumes = self.grace_mode == GraceMode::Resume;
        Limits { idle: self.idle, lifetime: self.lifetime, grace: self.grace, resumes }
    }

    /// Any five words are some policy: what a region holds is not trusted to be one of ours.
    pub(crate) fn unpack(words: [u64; PACKED]) -> Policy {
        let flags = words[2] >> TICK_BITS;
        let span = |word: u64| Span::from_millis(word & TICK_MASK);
        let Limits { idle, lifetime, grace, resumes } = Limits::unpack([words[0], words[1], words[2]]);
        Policy {
            idle,
            lifetime,
            grace,
            grace_mode: if resumes { GraceMode::Resume } else { GraceMode::Reauth },
            on_mismatch: match flags >> 1 & 3 {
                1 => OnMismatch::End,
                2 => OnMismatch::Log,
                _ => OnMismatch::Deny,
            },
            max_per_subject: words[4] as u32,
            on_limit: match flags >> 3 & 3 {
                1 => OnLimit::EndOldest,
                2 => OnLimit::EndLeastRecent,
                _ => OnLimit::Deny,
            },
            on_full: if flags >> 5 & 1 == 0 { OnFull::Refuse } else { OnFull::EvictEnded },
            retain: if flags >> 6 & 1 == 0 { Retain::UntilHardLimit } else { Retain::For(span(words[3])) },
        }
    }
}

impl Limits {
    /// Words that packed limits take.
    pub(crate) const PACKED: usize = 3;

    pub(crate) fn pack(&self) -> [u64; Limits::PACKED] {
        let limit = |span: Span| if span.is_off() { OFF } else { span.as_millis() };
        let resumes = if self.resumes { RESUMES } else { 0 };
        [limit(self.idle), limit(self.lifetime), self.grace.as_millis() | resumes]
    }

    /// Other bits of the third word are not looked at: in a policy they say something else.
    #[inline]
    pub(crate) fn unpack(words: [u64; Limits::PACKED]) -> Limits {
        let limit = |word: u64| if word > TICK_MASK { Span::OFF } else { Span::from_millis(word) };
        Limits {
            idle: limit(words[0]),
            lifetime: limit(words[1]),
            grace: Span::from_millis(words[2] & TICK_MASK),
            resumes: words[2] & RESUMES != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_survives_packing_whatever_it_says() {
        for grace_mode in [GraceMode::Reauth, GraceMode::Resume] {
            for on_mismatch in [OnMismatch::Deny, OnMismatch::End, OnMismatch::Log] {
                for on_limit in [OnLimit::Deny, OnLimit::EndOldest, OnLimit::EndLeastRecent] {
                    for on_full in [OnFull::Refuse, OnFull::EvictEnded] {
                        for retain in [Retain::UntilHardLimit, Retain::For(Span::OFF), Retain::For(Span::DAY)] {
                            let policy = Policy {
                                idle: Span::from_millis(TICK_MASK - 1),
                                lifetime: Span::from_millis(7),
                                grace: Span::from_millis(9),
                                grace_mode,
                                on_mismatch,
                                max_per_subject: u32::MAX,
                                on_limit,
                                retain,
                                on_full,
                            };
                            assert_eq!(Policy::unpack(policy.pack()), policy);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_policy_under_which_nothing_ends_is_refused() {
        assert_eq!(Policy::new().grace(Span::DAY, GraceMode::Resume).validate(), Err(PolicyError::NoLimit));
        assert_eq!(Policy::new().idle(Span::NEVER).validate(), Err(PolicyError::TooLong { field: "idle" }));
        assert!(Policy::new().lifetime(Span::from_millis(1)).validate().is_ok());
    }
}

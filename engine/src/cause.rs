//! How sessions end.

use crate::time::Tick;

/// Why a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Cause {
    /// No activity for the idle timeout (and grace, if there is one).
    Idle = 1,
    /// The policy's lifetime has passed since the start or the last re-authentication.
    Lifetime = 2,
    /// The session's own token has expired.
    Token = 3,
    /// The user logged out.
    Logout = 4,
    /// Somebody in charge ended it.
    Revoked = 5,
    /// It was presented without what it is bound to, and the policy ends such sessions.
    Binding = 6,
    /// Its subject started one more session than the policy allows.
    Displaced = 7,
    /// It was given up to make room. The engine itself never does this to a live session.
    Evicted = 8,
    /// It goes on under a new id; this one is dead.
    Rotated = 9,
}

impl Cause {
    /// Every cause, in the order of their numbers.
    pub const ALL: [Cause; 9] = [
        Cause::Idle,
        Cause::Lifetime,
        Cause::Token,
        Cause::Logout,
        Cause::Revoked,
        Cause::Binding,
        Cause::Displaced,
        Cause::Evicted,
        Cause::Rotated,
    ];

    /// The cause with this number, which never changes meaning.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Cause> {
        Cause::ALL.get(usize::from(number).wrapping_sub(1)).copied()
    }

    /// Its name in lower case, as logs and metrics have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Cause::Idle => "idle",
            Cause::Lifetime => "lifetime",
            Cause::Token => "token",
            Cause::Logout => "logout",
            Cause::Revoked => "revoked",
            Cause::Binding => "binding",
            Cause::Displaced => "displaced",
            Cause::Evicted => "evicted",
            Cause::Rotated => "rotated",
        }
    }
}

/// How and when a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct End {
    /// Why.
    pub cause: Cause,
    /// When: the deadline itself, not the moment somebody noticed.
    pub at: Tick,
}

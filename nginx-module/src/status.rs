//! What became of a request: the words of `$curfew_status`, and the answer that each leads to.

use curfew_engine::{Cause, StartError};

/// The module's word on one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    /// The session goes on; it may have begun with this request.
    Active,
    /// The session is past its idle timeout and not gone yet; by policy it goes on.
    Grace,
    /// The same, and by policy the user must prove presence first.
    Reauthenticate,
    /// The session has ended.
    Ended(Cause),
    /// The session was presented without what it is bound to.
    BindingMismatch,
    /// No session has this id.
    Unknown,
    /// The request has no id.
    NoId,
    /// The request has several values for the cookie that names its session.
    AmbiguousId,
    /// The id that is to begin a session is that of a live one of another subject, or one that is not bound.
    Taken,
    /// The token's expiry cannot be read.
    TokenInvalid,
    /// The subject has as many sessions as the policy allows.
    Limited,
    /// The zone is full.
    Full,
    /// The zone cannot be used, or its policy is missing.
    Error,
}

impl Status {
    /// As variables and logs have it.
    pub(crate) fn name(self) -> &'static str {
        self.names().0
    }

    /// The same with the suffix of `curfew_dry_run`.
    pub(crate) fn dry_run_name(self) -> &'static str {
        self.names().1
    }

    fn names(self) -> (&'static str, &'static str) {
        macro_rules! both {
            ($name:literal) => {
                ($name, concat!($name, "_DRY_RUN"))
            };
        }
        match self {
            Status::Active => both!("ACTIVE"),
            Status::Grace | Status::Reauthenticate => both!("GRACE"),
            Status::Ended(Cause::Idle) => both!("IDLE_EXPIRED"),
            Status::Ended(Cause::Lifetime) => both!("LIFETIME_EXPIRED"),
            Status::Ended(Cause::Token) => both!("TOKEN_EXPIRED"),
            Status::Ended(Cause::Logout) => both!("LOGGED_OUT"),
            Status::Ended(Cause::Revoked) => both!("REVOKED"),
            Status::Ended(Cause::Displaced) => both!("DISPLACED"),
            Status::Ended(Cause::Evicted) => both!("EVICTED"),
            Status::Ended(Cause::Rotated) => both!("ROTATED"),
            Status::Ended(Cause::Binding) | Status::BindingMismatch => both!("BINDING_MISMATCH"),
            Status::Unknown => both!("UNKNOWN"),
            Status::NoId => both!("NO_ID"),
            Status::AmbiguousId => both!("AMBIGUOUS_ID"),
            Status::Taken => both!("TAKEN"),
            Status::TokenInvalid => both!("TOKEN_INVALID"),
            Status::Limited => both!("LIMITED"),
            Status::Full => both!("FULL"),
            Status::Error => both!("ERROR"),
        }
    }

    /// Whether a session goes on.
    pub(crate) fn is_alive(self) -> bool {
        matches!(self, Status::Active | Status::Grace)
    }
}

impl From<StartError> for Status {
    fn from(error: StartError) -> Status {
        match error {
            StartError::Exists => Status::Taken,
            StartError::Ended(end) => Status::Ended(end.cause),
            StartError::Full => Status::Full,
            StartError::Limited => Status::Limited,
            StartError::TokenExpired => Status::Ended(Cause::Token),
            _ => Status::Error,
        }
    }
}

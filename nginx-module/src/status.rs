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
        match self {
            Status::Active => "ACTIVE",
            Status::Grace | Status::Reauthenticate => "GRACE",
            Status::Ended(Cause::Idle) => "IDLE_EXPIRED",
            Status::Ended(Cause::Lifetime) => "LIFETIME_EXPIRED",
            Status::Ended(Cause::Token) => "TOKEN_EXPIRED",
            Status::Ended(Cause::Logout) => "LOGGED_OUT",
            Status::Ended(Cause::Revoked) => "REVOKED",
            Status::Ended(Cause::Displaced) => "DISPLACED",
            Status::Ended(Cause::Evicted) => "EVICTED",
            Status::Ended(Cause::Rotated) => "ROTATED",
            Status::Ended(Cause::Binding) | Status::BindingMismatch => "BINDING_MISMATCH",
            Status::Unknown => "UNKNOWN",
            Status::NoId => "NO_ID",
            Status::AmbiguousId => "AMBIGUOUS_ID",
            Status::TokenInvalid => "TOKEN_INVALID",
            Status::Limited => "LIMITED",
            Status::Full => "FULL",
            Status::Error => "ERROR",
        }
    }

    /// The same with the suffix of `curfew_dry_run`.
    pub(crate) fn dry_run_name(self) -> &'static str {
        match self {
            Status::Active => "ACTIVE_DRY_RUN",
            Status::Grace | Status::Reauthenticate => "GRACE_DRY_RUN",
            Status::Ended(Cause::Idle) => "IDLE_EXPIRED_DRY_RUN",
            Status::Ended(Cause::Lifetime) => "LIFETIME_EXPIRED_DRY_RUN",
            Status::Ended(Cause::Token) => "TOKEN_EXPIRED_DRY_RUN",
            Status::Ended(Cause::Logout) => "LOGGED_OUT_DRY_RUN",
            Status::Ended(Cause::Revoked) => "REVOKED_DRY_RUN",
            Status::Ended(Cause::Displaced) => "DISPLACED_DRY_RUN",
            Status::Ended(Cause::Evicted) => "EVICTED_DRY_RUN",
            Status::Ended(Cause::Rotated) => "ROTATED_DRY_RUN",
            Status::Ended(Cause::Binding) | Status::BindingMismatch => "BINDING_MISMATCH_DRY_RUN",
            Status::Unknown => "UNKNOWN_DRY_RUN",
            Status::NoId => "NO_ID_DRY_RUN",
            Status::AmbiguousId => "AMBIGUOUS_ID_DRY_RUN",
            Status::TokenInvalid => "TOKEN_INVALID_DRY_RUN",
            Status::Limited => "LIMITED_DRY_RUN",
            Status::Full => "FULL_DRY_RUN",
            Status::Error => "ERROR_DRY_RUN",
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
            StartError::Exists => Status::Active,
            StartError::Ended(end) => Status::Ended(end.cause),
            StartError::Full => Status::Full,
            StartError::Limited => Status::Limited,
            StartError::TokenExpired => Status::Ended(Cause::Token),
            _ => Status::Error,
        }
    }
}

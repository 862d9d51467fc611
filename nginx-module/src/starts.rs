//! A session begins; or its id has one already, and this is a start of the same once more, or is not.

use curfew_engine::{Binding, Start, StartError, State, Subject};

use crate::access::Shown;
use crate::status::Status;

/// Begins the session. A start of one that is live changes nothing, so that an application may give out an id
/// with each response: but only if it is the same user's. Who logs in on another one's id would have a session
/// that does not count as his and does not end with his.
pub(crate) fn begin(shown: &Shown, start: &Start) -> Status {
    match shown.table.start(shown.key, start, shown.now) {
        Ok(_) => Status::Active,
        Err(StartError::Exists) => begin_again(shown, start),
        Err(error) => Status::from(error),
    }
}

fn begin_again(shown: &Shown, start: &Start) -> Status {
    let Some(session) = shown.table.session(shown.key, shown.now) else { return Status::Unknown };
    // An old id, too, which stands for a session but is none: `ROTATED`.
    if let State::Ended(end) = session.state {
        return Status::Ended(end.cause);
    }
    // Nobody is named by responses that come after the login, as most applications have it.
    let is_anothers = start.subject != Subject::NONE && start.subject != session.subject;
    let is_unbound = start.binding != Binding::NONE && !session.bound;
    if is_anothers || is_unbound {
        return Status::Taken;
    }
    if shown.is_mismatch() { Status::BindingMismatch } else { Status::Active }
}

//! `$curfew_cookies`: what a login may hand to the application.
//!
//! The application does not know that its session is over here. Handed the cookie of one that is, it would
//! take the user for logged in, and might give out a new id, with which the session would go on.

use curfew_engine::Verdict;

use crate::access::Shown;
use crate::ambiguity;
use crate::conf::{LocConf, choice};
use crate::nginx::Request;
use crate::status::Status;
use crate::values::{Place, values};

/// The request's cookies, without that of a session that may not go on.
pub(crate) fn of_what_goes_on(request: Request<'_>, conf: &LocConf) -> Vec<u8> {
    let headers = request.headers(b"cookie");
    if ambiguity::is_no_cookie(conf.id) || goes_on(request, conf) {
        return join(headers);
    }
    // Of a text that is put together, nobody knows which of them it is.
    let Some(name) = ambiguity::cookie_name(conf.id) else { return Vec::new() };
    let pairs = headers.flat_map(|header| header.split(|byte| *byte == b';'));
    join(pairs.filter(|pair| values(Place::Cookie, pair, name).next().is_none()))
}

fn goes_on(request: Request<'_>, conf: &LocConf) -> bool {
    if conf.is_dry_run() || conf.id.is_null() {
        return true;
    }
    match Shown::read(request, conf, conf.id) {
        Ok(shown) if shown.token.is_some_and(|token| token <= shown.now) => false,
        Ok(shown) => match shown.peek() {
            Verdict::Unknown => conf.unknown == choice::PASS && !shown.is_respelt(request, conf.id),
            verdict => verdict.passes(),
        },
        Err(Status::Error) => conf.on_error == choice::PASS,
        Err(_) => false,
    }
}

fn join<'r>(pairs: impl Iterator<Item = &'r [u8]>) -> Vec<u8> {
    let mut joined = Vec::new();
    for pair in pairs.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(pair);
    }
    joined
}

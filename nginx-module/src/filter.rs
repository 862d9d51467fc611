//! The header filter: what a response says about sessions. The application may just have begun one,
//! given one a new id, or had its user prove presence; a request that did not fail counts as activity;
//! and the headers go out.

use std::fmt::Write;
use std::ptr::addr_of_mut;
use std::sync::atomic::Ordering;

use curfew_engine::{Cause, ChangeError, RotateError, Span};
use nginx_sys::{
    NGX_LOG_WARN, ngx_http_filter_finalize_request, ngx_http_output_header_filter_pt, ngx_http_request_t, ngx_int_t,
};
use ngx::ngx_log_error;

use crate::access::{self, Shown, is_true, judge};
use crate::conf::{self, LocConf, Value, choice};
use crate::nginx::{ERROR, Request, fence};
use crate::record::{self, Record};
use crate::status::Status;
use crate::zone::Zone;
use crate::{activity, ambiguity, module};

/// The filter after this one. Set once, while a configuration is read.
pub(crate) static mut NEXT: ngx_http_output_header_filter_pt = None;
/// How long an id answers as the one that has replaced it, for requests that are under way.
const OVERLAP: Span = Span::from_secs(10);
/// What is refused where a session would have begun.
const START: &str = "the start of a session";
const SWITCHING_PROTOCOLS: usize = 101;
/// The challenge of a 401 when the configuration has none.
const CHALLENGE: &[u8] = b"Session realm=\"curfew\"";

pub(crate) unsafe extern "C" fn header_filter(raw: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx calls this with a live request.
    let (request, conf) = unsafe { (Request::new(raw), conf::of_request(raw)) };
    let failed = if request.is_replaced() { ERROR } else { 500 };
    let answer = fence(request.log(), Err(failed), || if request.is_main() { filter(request, conf) } else { Ok(()) });
    match answer {
        // SAFETY: the next filter was there when this one was put before it.
        Ok(()) => unsafe { NEXT.map_or(ERROR, |next| next(raw)) },
        Err(ERROR) => ERROR,
        // SAFETY: this is what nginx has for a header filter that must not let a response through.
        Err(status) => unsafe {
            ngx_http_filter_finalize_request(raw, addr_of_mut!(module::ngx_http_curfew_module), status)
        },
    }
}

/// Lets a response through, or says with which status it is replaced.
fn filter(request: Request<'_>, conf: &LocConf) -> Result<(), ngx_int_t> {
    if !request.is_replaced() && request.status() < 400 {
        // Where there is nobody else to answer, `return` does, before the access phase. Where there is, that may
        // be how a place asks for something else first.
        if conf.end != choice::OFF && (!request.has_handler() || conf.ends_on_condition) {
            record::of(request).ok_or(ERROR)?;
            access::end(request, conf).or_else(|status| refused(request, conf, "a logout", status))?;
        }
        if let Some(record) = record::find(request) {
            count(request, record);
            if request.status() == SWITCHING_PROTOCOLS {
                activity::upgrade(request, record).ok_or(ERROR)?;
            }
        }
        if !conf.reauthenticated.is_null() {
            reauthenticate(request, conf)?;
        }
        if !conf.rotate.is_null() {
            rotate(request, conf)?;
        }
        if !conf.start.is_null() {
            start(request, conf)?;
        }
    }
    headers(request, conf).ok_or(ERROR)
}

/// The request counts as activity, as of its arrival.
fn count(request: Request<'_>, record: &mut Record) {
    if !record.counts {
        return;
    }
    record.counts = false;
    let (Some(table), Some(key)) = (record.zone().and_then(|zone| zone.table(request.log())), record.key) else {
        return;
    };
    let verdict = table.touch(key, record.presented, record.arrived);
    // It has passed. If its session ended while the application was at work, nobody is told otherwise.
    record.left = None;
    record.status = Some(judge(&table, verdict, record));
}

/// What becomes of a response whose session could not be begun or changed.
fn refused(request: Request<'_>, conf: &LocConf, what: &str, status: Status) -> Result<(), ngx_int_t> {
    // Of an application that gives out an id again, so that nobody wonders why users cannot log in.
    let advice = match status {
        Status::Taken | Status::Ended(_) | Status::BindingMismatch if what == START => {
            "; the application must issue a new id at each login"
        }
        _ => "",
    };
    ngx_log_error!(NGX_LOG_WARN, request.log(), "curfew: {} was refused, {}{}", what, status.name(), advice);
    let refusal = match status {
        _ if conf.is_dry_run() => None,
        Status::Full | Status::Error if conf.on_error == choice::PASS => None,
        Status::Full | Status::Error => Some(503),
        Status::Limited => Some(403),
        _ => Some(conf.deny_status),
    };
    if let Some(record) = record::of(request) {
        if let Some(counters) = conf.zone().and_then(Zone::counters) {
            // A request counts once, whatever it was refused for before.
            let was_error = record.status == Some(Status::Error);
            counters.errors.fetch_add(u64::from(status == Status::Error && !was_error), Ordering::Relaxed);
            counters.denied.fetch_add(u64::from(refusal.is_some() && !record.denied), Ordering::Relaxed);
        }
        record.status = Some(status);
        record.dry_run = conf.is_dry_run();
        record.denied = refusal.is_some();
        record.refused = request.path();
    }
    refusal.map_or(Ok(()), Err)
}

/// Whether a text is what PHP and Django set a cookie to when they take it away, and no id.
fn is_cleared(request: Request<'_>, id: Value) -> bool {
    matches!(request.evaluate(id), Some(b"deleted" | b"\"\""))
}

fn start(request: Request<'_>, conf: &LocConf) -> Result<(), ngx_int_t> {
    if !conf.start_if.is_null() && !is_true(request.evaluate(conf.start_if).ok_or(ERROR)?) {
        return Ok(());
    }
    if is_cleared(request, conf.start) {
        return Ok(());
    }
    let shown = match Shown::read(request, conf, conf.start) {
        Ok(shown) => shown,
        Err(Status::NoId) => return Ok(()),
        Err(status) => return refused(request, conf, START, status),
    };
    if request.evaluate(conf.start).is_none_or(|id| ambiguity::has_spellings(conf.start, id)) {
        return refused(request, conf, START, Status::AmbiguousId);
    }
    match shown.start(request, conf) {
        Status::Active => {
            let Some(record) = record::of(request) else { return Err(ERROR) };
            record.key = Some(shown.key);
            record.zone = conf.zone().map_or(std::ptr::null(), std::ptr::from_ref);
            record.status = Some(judge(&shown.table, shown.peek(), record));
            Ok(())
        }
        status => refused(request, conf, START, status),
    }
}

fn rotate(request: Request<'_>, conf: &LocConf) -> Result<(), ngx_int_t> {
    if is_cleared(request, conf.rotate) {
        return Ok(());
    }
    let (old, new) = match (Shown::read(request, conf, conf.id), Shown::read(request, conf, conf.rotate)) {
        (Ok(old), Ok(new)) if old.key != new.key => (old, new),
        (Err(Status::NoId), _) | (_, Err(Status::NoId)) | (Ok(_), Ok(_)) => return Ok(()),
        (Err(status), _) | (_, Err(status)) => return refused(request, conf, "a new id", status),
    };
    if old.is_mismatch() {
        return refused(request, conf, "a new id", Status::BindingMismatch);
    }
    match old.table.rotate(old.key, new.key, OVERLAP, old.now) {
        Ok(_) => {
            if let Some(record) = record::of(request) {
                record.key = Some(new.key);
            }
            Ok(())
        }
        // Two requests of one session that were answered at once: the first has done it.
        Err(RotateError::Rotated | RotateError::Taken) => Ok(()),
        Err(RotateError::Full) => refused(request, conf, "a new id", Status::Full),
        Err(RotateError::Ended(end)) => refused(request, conf, "a new id", Status::Ended(end.cause)),
        Err(_) => refused(request, conf, "a new id", Status::Unknown),
    }
}

fn reauthenticate(request: Request<'_>, conf: &LocConf) -> Result<(), ngx_int_t> {
    match request.evaluate(conf.reauthenticated) {
        Some(value) if is_true(value) => {}
        Some(_) => return Ok(()),
        None => return Err(ERROR),
    }
    let shown = match Shown::read(request, conf, conf.id) {
        Ok(shown) => shown,
        Err(status) => return refused(request, conf, "a re-authentication", status),
    };
    if shown.is_mismatch() {
        return refused(request, conf, "a re-authentication", Status::BindingMismatch);
    }
    match shown.table.reauthenticate(shown.key, shown.token, shown.now) {
        Ok(()) => {
            let Some(record) = record::of(request) else { return Err(ERROR) };
            record.key = Some(shown.key);
            record.zone = conf.zone().map_or(std::ptr::null(), std::ptr::from_ref);
            record.status = Some(judge(&shown.table, shown.peek(), record));
            Ok(())
        }
        Err(ChangeError::Ended(end)) => refused(request, conf, "a re-authentication", Status::Ended(end.cause)),
        Err(ChangeError::TokenExpired) => refused(request, conf, "a re-authentication", Status::Ended(Cause::Token)),
        Err(_) => refused(request, conf, "a re-authentication", Status::Unknown),
    }
}

/// Puts on the response what it must and may say.
fn headers(request: Request<'_>, conf: &LocConf) -> Option<()> {
    let Some(record) = record::find(request) else { return Some(()) };
    if record.denied {
        request.drop_header(b"cache-control");
        request.add_header("Cache-Control", b"no-store")?;
        // SAFETY: the request is live.
        let has_challenge = unsafe { !(*request.raw()).headers_out.www_authenticate.is_null() };
        if request.status() == 401 && !has_challenge {
            let challenge = if conf.challenge.is_null() { CHALLENGE } else { request.evaluate(conf.challenge)? };
            let header = request.add_header("WWW-Authenticate", challenge)?;
            // SAFETY: as above; the header is the request's own.
            unsafe { (*request.raw()).headers_out.www_authenticate = header };
        }
        return Some(());
    }
    if !conf.has_headers() {
        return Some(());
    }
    if let Some(name) = record.status_name() {
        request.add_header("Session-Status", name.as_bytes())?;
    }
    let Some(left) = record.left else { return Some(()) };
    for (name, span) in [
        ("Session-Idle-Timeout-Remaining", left.idle()),
        ("Session-Lifetime-Remaining", left.lifetime()),
        ("Session-Token-Remaining", left.token()),
    ] {
        if !span.is_never() {
            let mut text = String::with_capacity(16);
            let _ = write!(text, "{}", span.as_millis() / 1000);
            request.add_header(name, text.as_bytes())?;
        }
    }
    Some(())
}

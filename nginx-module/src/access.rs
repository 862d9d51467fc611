//! The access phase: may this request pass?
//!
//! It runs after nginx's own access modules and never speaks for a request: who passes here is
//! declined, so that with `satisfy any` nobody gets in on a session's word alone.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use curfew_engine::{Binding, Cause, GraceMode, Key, Start, Table, Tick, Verdict};
use nginx_sys::{
    NGX_DECLINED, NGX_HTTP_GET, NGX_HTTP_HEAD, NGX_LOG_ERR, NGX_LOG_INFO, NGX_LOG_WARN, ngx_http_request_t, ngx_int_t,
};
use ngx::ngx_log_error;

use crate::conf::{self, LocConf, Value, choice};
use crate::nginx::{Request, bytes, fence};
use crate::record::{self, Record};
use crate::status::Status;
use crate::zone::Zone;
use crate::{ambiguity, clock, navigation, spellings, starts, streams};

const DECLINED: ngx_int_t = NGX_DECLINED as ngx_int_t;
/// Ids of one request that a logout ends. More are no user's, and it is not said to be done.
const MOST_IDS: usize = 16;
/// How often a token's expiry that cannot be read is written to the log by one worker.
const COMPLAIN_EVERY_MS: u64 = 60_000;

pub(crate) unsafe extern "C" fn access(raw: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx calls this with a live request.
    let (request, conf) = unsafe { (Request::new(raw), conf::of_request(raw)) };
    if !request.is_main() || !conf.is_guarded() && conf.end == choice::OFF || request.is_refused() {
        return DECLINED;
    }
    fence(request.log(), refuse_status(conf, Status::Error).unwrap_or(DECLINED), || {
        let Some(record) = record::of(request) else { return 500 };
        if conf.is_guarded() {
            // What was refused a moment ago is on its way to its error page. That must not be what it was
            // refused: what an upstream gives for the path that the client wanted, the file of that path, or
            // what it was to write there.
            if record.denied {
                let refusal = record.status.and_then(|status| refuse_status(conf, status));
                return refusal.filter(|_| !is_another_file(request, record)).unwrap_or(DECLINED);
            }
            let status = check(request, conf);
            let Some(record) = record::find(request) else { return 500 };
            record.status = Some(status);
            record.dry_run = conf.is_dry_run();
            if let (Status::Error, Some(counters)) = (status, conf.zone().and_then(Zone::counters)) {
                counters.errors.fetch_add(1, Ordering::Relaxed);
            }
            // Who has logged himself out with this request comes by again when it is redirected inside.
            let has_ended_itself = record.passed && record.ended;
            match refuse_status(conf, status).filter(|_| !has_ended_itself) {
                Some(refusal) => return refuse(request, conf, status, refusal),
                None => record.passed = true,
            }
        }
        if let Err(status) = end(request, conf)
            && let Some(refusal) = could_not_end(request, conf, status)
        {
            return refusal;
        }
        streams::follow(request, conf);
        DECLINED
    })
}

/// After the access phase, which `satisfy any` may have cut short: what ends here ends all the same.
pub(crate) unsafe extern "C" fn precontent(raw: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx calls this with a live request.
    let (request, conf) = unsafe { (Request::new(raw), conf::of_request(raw)) };
    if !request.is_main() || conf.end == choice::OFF {
        return DECLINED;
    }
    fence(request.log(), 500, || {
        if record::of(request).is_none() {
            return 500;
        }
        end(request, conf).err().and_then(|status| could_not_end(request, conf, status)).unwrap_or(DECLINED)
    })
}

/// The status with which a request is refused; `None` if it passes.
fn refuse_status(conf: &LocConf, status: Status) -> Option<ngx_int_t> {
    let passes = match status {
        _ if conf.is_dry_run() => true,
        Status::Active | Status::Grace => true,
        Status::Unknown => conf.unknown == choice::PASS,
        Status::NoId => conf.no_id == choice::PASS,
        Status::Error | Status::Full => conf.on_error == choice::PASS,
        _ => false,
    };
    if passes {
        return None;
    }
    Some(match status {
        Status::Error | Status::Full => 503,
        Status::Limited => 403,
        _ => conf.deny_status,
    })
}

/// What one location makes of a request: the session it names, and what it shows for it.
pub(crate) struct Shown {
    pub(crate) table: Rc<Table>,
    pub(crate) key: Key,
    pub(crate) binding: Binding,
    pub(crate) token: Option<Tick>,
    pub(crate) now: Tick,
}

impl Shown {
    /// Reads `id` and nothing else.
    pub(crate) fn read_id(request: Request<'_>, conf: &LocConf, id: Value) -> Result<Shown, Status> {
        let table = conf.zone().and_then(|zone| zone.table(request.log())).ok_or(Status::Error)?;
        let now = clock::now(&table);
        let source = id;
        let id = request.evaluate(source).ok_or(Status::Error)?;
        if ambiguity::is_ambiguous(request, source, id) {
            return Err(Status::AmbiguousId);
        }
        if id.is_empty() {
            return Err(Status::NoId);
        }
        let key = table.key(id);
        Ok(Shown { table, key, binding: Binding::NONE, token: None, now })
    }

    /// Reads `id` and what stands beside it.
    pub(crate) fn read(request: Request<'_>, conf: &LocConf, id: Value) -> Result<Shown, Status> {
        let mut shown = Shown::read_id(request, conf, id)?;
        if !conf.binding.is_null() {
            shown.binding = shown.table.binding(request.evaluate(conf.binding).ok_or(Status::Error)?);
        }
        if !conf.expires.is_null() {
            let text = request.evaluate(conf.expires).ok_or(Status::Error)?;
            if !text.is_empty() {
                let Some(date) = clock::parse_date(text) else {
                    complain_about_token(request);
                    return Err(Status::TokenInvalid);
                };
                shown.token = Some(clock::tick_of_date(date, shown.now));
            }
        }
        Ok(shown)
    }

    /// Whether `id`, which is that of no session, is another text for one that there is or was.
    pub(crate) fn is_respelt(&self, request: Request<'_>, id: Value) -> bool {
        let Some(text) = request.evaluate(id) else { return true };
        let is_known = |text: &[u8]| self.table.peek(self.table.key(text), self.binding, self.now) != Verdict::Unknown;
        // What would take too long to tell does not pass.
        spellings::take_long(text) || spellings::others(text).iter().any(|text| is_known(text))
    }

    /// Whether the session is bound to what the request does not show. Then that is counted, and ends the
    /// session if the policy says so.
    pub(crate) fn is_mismatch(&self) -> bool {
        matches!(self.peek(), Verdict::Mismatch(_)) && matches!(self.touch(), Verdict::Mismatch(_))
    }

    /// Asks about the session.
    pub(crate) fn peek(&self) -> Verdict {
        self.table.peek(self.key, self.binding, self.now)
    }

    fn touch(&self) -> Verdict {
        self.table.touch(self.key, self.binding, self.now)
    }

    /// Begins the session.
    pub(crate) fn start(&self, request: Request<'_>, conf: &LocConf) -> Status {
        let policy = conf.zone().and_then(|zone| zone.policies.borrow().get(conf.policy()).copied().flatten());
        let Some(policy) = policy else { return Status::Error };
        let mut start = Start::under(policy).bound_to(self.binding).until(self.token.unwrap_or(Tick::NEVER));
        if !conf.subject.is_null() {
            let Some(subject) = request.evaluate(conf.subject) else { return Status::Error };
            start = start.of(self.table.subject(subject));
        }
        starts::begin(self, &start)
    }
}

fn complain_about_token(request: Request<'_>) {
    thread_local!(static NOT_BEFORE: Cell<u64> = const { Cell::new(0) });
    let now = clock::boot_millis();
    if NOT_BEFORE.get() <= now {
        NOT_BEFORE.set(now.saturating_add(COMPLAIN_EVERY_MS));
        let message = "curfew: curfew_expires is not a time in seconds since 1970 (nor are milliseconds); such requests are denied";
        ngx_log_error!(NGX_LOG_ERR, request.log(), "{}", message);
    }
}

fn check(request: Request<'_>, conf: &LocConf) -> Status {
    let shown = match Shown::read(request, conf, conf.id) {
        Ok(shown) => shown,
        Err(status) => {
            // Where it was let through before says nothing about here.
            if let Some(record) = record::find(request) {
                record.passed = false;
            }
            return status;
        }
    };
    let zone = conf.zone().map_or(std::ptr::null(), std::ptr::from_ref);
    let Some(record) = record::find(request) else { return Status::Error };
    let is_over = shown.token.is_some_and(|token| token <= shown.now);
    if let (Some(status), true) = (record.status, record.zone == zone && record.key == Some(shown.key)) {
        // It comes by a second time, redirected inside; perhaps to where a token is asked for.
        record.token = shown.token.or(record.token);
        return if is_over && status.is_alive() { Status::Ended(Cause::Token) } else { status };
    }
    record.zone = zone;
    record.key = Some(shown.key);
    record.presented = shown.binding;
    record.arrived = shown.now;
    record.token = shown.token;
    record.passed = false;
    if is_over {
        return Status::Ended(Cause::Token);
    }
    let counts = conf.activity.is_null()
        || match request.evaluate(conf.activity) {
            Some(value) => is_true(value),
            None => return Status::Error,
        };
    let Some(record) = record::find(request) else { return Status::Error };
    record.is_activity = counts;
    record.counts = counts && conf.activity_at == choice::RESPONSE;
    let touches = counts && !record.counts;
    let mut verdict = if touches { shown.touch() } else { shown.peek() };
    if let (Verdict::Mismatch(_), false) = (&verdict, touches) {
        // Only a touch counts it, and ends the session if the policy says so.
        verdict = shown.touch();
    }
    let status = judge(&shown.table, verdict, record);
    if status == Status::Unknown && conf.unknown == choice::PASS && shown.is_respelt(request, conf.id) {
        return Status::AmbiguousId;
    }
    if status == Status::Unknown && conf.begins_unknown() {
        let is_literal = conf.unknown == choice::START_LITERAL;
        let has_spellings = |id| ambiguity::has_spellings(conf.id, id);
        // What cannot be told from an honest id by its looks, as an id with an equals sign behind it, may be
        // told by what is known.
        if !is_literal && (request.evaluate(conf.id).is_none_or(has_spellings) || shown.is_respelt(request, conf.id)) {
            return Status::AmbiguousId;
        }
        let started = shown.start(request, conf);
        return match record::find(request) {
            Some(record) if started == Status::Active => judge(&shown.table, shown.peek(), record),
            _ => started,
        };
    }
    status
}

/// What a verdict means here.
pub(crate) fn judge(table: &Table, verdict: Verdict, record: &mut Record) -> Status {
    match verdict {
        Verdict::Active(left) => {
            record.left = Some(left);
            Status::Active
        }
        Verdict::Grace(left) => {
            record.left = Some(left);
            match table.policy(left.policy()).map(|policy| policy.grace_mode) {
                Some(GraceMode::Resume) => Status::Grace,
                Some(GraceMode::Reauth) => Status::Reauthenticate,
                None => Status::Error,
            }
        }
        Verdict::Ended(end) => Status::Ended(end.cause),
        Verdict::Mismatch(_) => Status::BindingMismatch,
        Verdict::Unknown => Status::Unknown,
    }
}

/// Whether a request that was refused now asks for a file, and for another one than it did.
fn is_another_file(request: Request<'_>, record: &Record) -> bool {
    // SAFETY: both are of this request and live as long as it does.
    let is_another = unsafe { bytes(record.refused) != bytes(request.path()) };
    is_another && matches!(request.method(), NGX_HTTP_GET | NGX_HTTP_HEAD) && !request.has_handler()
}

/// Whether a variable says yes: as in nginx's own conditions, empty and "0" are no.
pub(crate) fn is_true(value: &[u8]) -> bool {
    !value.is_empty() && value != b"0"
}

fn refuse(request: Request<'_>, conf: &LocConf, status: Status, refusal: ngx_int_t) -> ngx_int_t {
    let Some(record) = record::find(request) else { return 500 };
    record.denied = true;
    record.refused = request.path();
    record.counts = false;
    streams::forget(&mut record.stream);
    if let Some(counters) = conf.zone().and_then(Zone::counters) {
        counters.denied.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(key) = record.key {
        ngx_log_error!(NGX_LOG_INFO, request.log(), "curfew: denied, {}, session {}", status.name(), key);
    } else {
        ngx_log_error!(NGX_LOG_INFO, request.log(), "curfew: denied, {}", status.name());
    }
    if refusal != conf.deny_status || conf.deny_redirect.is_null() || !navigation::is_navigation(request) {
        return refusal;
    }
    let Some(to) = request.evaluate(conf.deny_redirect) else { return 500 };
    if to.is_empty() {
        return refusal;
    }
    let Some(location) = request.add_header("Location", to) else { return 500 };
    // SAFETY: the request is live, and the header one of its own.
    unsafe { (*request.raw()).headers_out.location = location };
    if matches!(request.method(), NGX_HTTP_GET | NGX_HTTP_HEAD) { 302 } else { 303 }
}

/// Does what `curfew_end` says, or says why it cannot.
pub(crate) fn end(request: Request<'_>, conf: &LocConf) -> Result<(), Status> {
    let cause = match conf.end {
        choice::LOGOUT => Cause::Logout,
        choice::REVOKED => Cause::Revoked,
        _ => return Ok(()),
    };
    if request.is_refused() || record::find(request).is_none_or(|record| record.ended || record.denied) {
        return Ok(());
    }
    // What has an end must not hang on anything but the id.
    match Shown::read_id(request, conf, conf.id) {
        Ok(shown) => end_one(request, conf, &shown, cause),
        Err(Status::NoId) => {}
        Err(Status::AmbiguousId) => end_all(request, conf, cause)?,
        Err(status) => return Err(status),
    }
    Ok(())
}

/// Nobody is told of a logout that was none.
fn could_not_end(request: Request<'_>, conf: &LocConf, status: Status) -> Option<ngx_int_t> {
    ngx_log_error!(NGX_LOG_WARN, request.log(), "curfew: a session could not be ended, {}", status.name());
    let record = record::find(request)?;
    record.status = Some(status);
    record.dry_run = conf.is_dry_run();
    refuse_status(conf, status).map(|refusal| refuse(request, conf, status, refusal))
}

/// Whatever value the application takes for its user's: a cookie that somebody has planted beside it must not
/// keep him from logging out.
fn end_all(request: Request<'_>, conf: &LocConf, cause: Cause) -> Result<(), Status> {
    let table = conf.zone().and_then(|zone| zone.table(request.log())).ok_or(Status::Error)?;
    let now = clock::now(&table);
    let mut ids = vec![request.evaluate(conf.id).ok_or(Status::Error)?];
    let mut all = 0;
    ambiguity::each(request, conf.id, |id| {
        all += 1;
        if ids.len() <= MOST_IDS {
            ids.push(id);
        }
    });
    for key in ids.into_iter().filter(|id| !id.is_empty()).map(|id| table.key(id)) {
        let shown = Shown { table: Rc::clone(&table), key, binding: Binding::NONE, token: None, now };
        end_one(request, conf, &shown, cause);
    }
    if all <= MOST_IDS { Ok(()) } else { Err(Status::AmbiguousId) }
}

fn end_one(request: Request<'_>, conf: &LocConf, shown: &Shown, cause: Cause) {
    let Some(record) = record::find(request) else { return };
    record.ended = true;
    record.counts = false;
    // Its own response is to come whole.
    streams::forget(&mut record.stream);
    record.left = None;
    let ended = shown.table.end(shown.key, cause, shown.now);
    // The word on what it was checked as elsewhere is none on a session that could not be ended.
    if ended.is_ok() || record.key.is_none() {
        record.key = Some(shown.key);
        record.zone = conf.zone().map_or(std::ptr::null(), std::ptr::from_ref);
    }
    match ended {
        Ok(()) => record.status = Some(Status::Ended(cause)),
        Err(error) => {
            let log = request.log();
            ngx_log_error!(NGX_LOG_INFO, log, "curfew: nothing to end, session {}: {}", shown.key, error);
        }
    }
}

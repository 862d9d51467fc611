//! What begins, changes and ends sessions.

use curfew_engine::{Binding, Cause, Filter, Key, Span, Start, Subject, Table, Tick};

use crate::boundary::{Answer, Output, bytes, guarded, read, value};
use crate::handles::{curfew_table, with};
use crate::policies::policy_id;
use crate::status::curfew_status;
use crate::touch::key;
use crate::types::{
    CURFEW_BY_POLICY, CURFEW_IDLE_SINCE, CURFEW_STARTED_BEFORE, curfew_filter, curfew_key, curfew_start_options,
    curfew_subject, curfew_tick,
};

pub(crate) fn cause(number: u32) -> Answer<Cause> {
    u8::try_from(number).ok().and_then(Cause::from_number).ok_or(curfew_status::CURFEW_INVALID_ARGUMENT)
}

/// # Safety
/// `from` is null or points to the options.
unsafe fn options(from: *const curfew_start_options) -> Answer<Start> {
    // SAFETY: passed on.
    let options = unsafe { read(from) }?;
    if options.reserved != 0 {
        return Err(curfew_status::CURFEW_UNSUPPORTED);
    }
    Ok(Start {
        policy: policy_id(options.policy)?,
        subject: Subject::from_u64(options.subject),
        binding: Binding::from_u64(options.binding),
        token: Tick::from_millis(options.token),
    })
}

fn start(table: &Table, key: Key, start: &Start, now: curfew_tick, displaced: Output<u32>) -> Answer {
    let started = table.start(key, start, Tick::from_millis(now))?;
    displaced.set(started.displaced);
    Ok(())
}

/// Begins a session. Call it only on a trusted signal: the application has issued this very id just now. An
/// id that a client made up must not become a session.
///
/// `displaced`, which may be null, gets how many sessions of the same subject were ended to make place.
/// Answers `CURFEW_SESSION_EXISTS`, `CURFEW_SESSION_ENDED` (the id has ended and is still remembered),
/// `CURFEW_FULL`, `CURFEW_LIMITED`, `CURFEW_TOKEN_EXPIRED` or `CURFEW_UNKNOWN_POLICY`. Locks a shard, for a
/// bounded time.
///
/// # Safety
/// `key` and `options` are null or point to one; `displaced` can be written or is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_start(
    table: curfew_table,
    key: *const curfew_key,
    options: *const curfew_start_options,
    now: curfew_tick,
    displaced: *mut u32,
) -> curfew_status {
    guarded(|| {
        // SAFETY: as the header asks.
        let (key, options, displaced) =
            unsafe { (self::key(key)?, self::options(options)?, Output::optional(displaced)) };
        with(table, |table| start(table, key, &options, now, displaced))?
    })
}

/// `curfew_derive_key` and `curfew_start` in one.
///
/// # Safety
/// `id` points to `length` bytes; the others as for `curfew_start`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_start_id(
    table: curfew_table,
    id: *const u8,
    length: usize,
    options: *const curfew_start_options,
    now: curfew_tick,
    displaced: *mut u32,
) -> curfew_status {
    guarded(|| {
        // SAFETY: as the header asks.
        let (options, displaced) = unsafe { (self::options(options)?, Output::optional(displaced)) };
        // SAFETY: as the header asks.
        let key = unsafe { bytes(id, length, |id| with(table, |table| table.key(id))) }??;
        with(table, |table| start(table, key, &options, now, displaced))?
    })
}

/// The user has proved presence: restarts idle and lifetime of a session that is active or in grace.
///
/// `token`, if not null, is the new token expiry (`CURFEW_NEVER`: it has none any more); null leaves it. Issue
/// a new id as well (`curfew_rotate`). Answers `CURFEW_UNKNOWN_SESSION`, `CURFEW_SESSION_ENDED` or
/// `CURFEW_TOKEN_EXPIRED`; the session is as it was then.
///
/// # Safety
/// `key` is null or points to a key, `token` to a tick.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_reauthenticate(
    table: curfew_table,
    key: *const curfew_key,
    token: *const curfew_tick,
    now: curfew_tick,
) -> curfew_status {
    guarded(|| {
        // SAFETY: as the header asks.
        let (key, token) = unsafe { (self::key(key)?, value(token).ok().map(Tick::from_millis)) };
        with(table, |table| table.reauthenticate(key, token, Tick::from_millis(now)))??;
        Ok(())
    })
}

/// Gives a session a new id, against fixation: `new_key` becomes its key, and for `overlap_ms` from now on
/// `old_key` answers as the new one, for requests that are in flight; then it has ended (at once if the
/// session is rotated sixteen times more meanwhile). `old_until`, which
/// may be null, gets the tick at which it does.
///
/// Answers `CURFEW_UNKNOWN_SESSION`, `CURFEW_SESSION_ENDED`, `CURFEW_ROTATED_ALREADY`, `CURFEW_KEY_TAKEN` or
/// `CURFEW_FULL`; the session is as it was then.
///
/// # Safety
/// `old_key` and `new_key` are null or point to a key; `old_until` can be written or is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_rotate(
    table: curfew_table,
    old_key: *const curfew_key,
    new_key: *const curfew_key,
    overlap_ms: u64,
    now: curfew_tick,
    old_until: *mut curfew_tick,
) -> curfew_status {
    guarded(|| {
        // SAFETY: as the header asks.
        let (old, new, output) = unsafe { (key(old_key)?, key(new_key)?, Output::optional(old_until)) };
        let (overlap, now) = (Span::from_millis(overlap_ms), Tick::from_millis(now));
        let rotated = with(table, |table| table.rotate(old, new, overlap, now))??;
        output.set(rotated.old_until.as_millis());
        Ok(())
    })
}

/// Ends a session, for a `curfew_cause`. Its id is dead from this call on, in every process.
///
/// Answers `CURFEW_UNKNOWN_SESSION`, or `CURFEW_SESSION_ENDED` when it had ended already.
///
/// # Safety
/// `key` is null or points to a key.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_end(
    table: curfew_table,
    key: *const curfew_key,
    cause: u32,
    now: curfew_tick,
) -> curfew_status {
    guarded(|| {
        // SAFETY: as the header asks.
        let key = unsafe { self::key(key) }?;
        let cause = self::cause(cause)?;
        with(table, |table| table.end(key, cause, Tick::from_millis(now)))??;
        Ok(())
    })
}

/// Ends all sessions of a subject, for a `curfew_cause`; `ended`, which may be null, gets how many. Costs what
/// the subject has, not what the table holds. None is no error, and nobody (zero) has none.
///
/// # Safety
/// `ended` can be written or is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_end_subject(
    table: curfew_table,
    subject: curfew_subject,
    cause: u32,
    now: curfew_tick,
    ended: *mut u64,
) -> curfew_status {
    // SAFETY: as the header asks.
    let output = unsafe { Output::optional(ended) };
    guarded(|| {
        let cause = self::cause(cause)?;
        let subject = Subject::from_u64(subject);
        output.set(with(table, |table| table.end_subject(subject, cause, Tick::from_millis(now)))?);
        Ok(())
    })
}

/// Ends all sessions that match, for a `curfew_cause`; `ended`, which may be null, gets how many. Looks at
/// every record, in steps between which others get their turn.
///
/// # Safety
/// `filter` is null or points to one; `ended` can be written or is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_end_all(
    table: curfew_table,
    filter: *const curfew_filter,
    cause: u32,
    now: curfew_tick,
    ended: *mut u64,
) -> curfew_status {
    guarded(|| {
        // SAFETY: as the header asks.
        let (filter, output) = unsafe { (read(filter)?, Output::optional(ended)) };
        if filter.set & !(CURFEW_BY_POLICY | CURFEW_STARTED_BEFORE | CURFEW_IDLE_SINCE) != 0 {
            return Err(curfew_status::CURFEW_UNSUPPORTED);
        }
        let is_set = |flag| filter.set & flag != 0;
        let filter = Filter {
            policy: is_set(CURFEW_BY_POLICY).then(|| policy_id(filter.policy)).transpose()?,
            started_before: is_set(CURFEW_STARTED_BEFORE).then(|| Tick::from_millis(filter.started_before)),
            idle_since: is_set(CURFEW_IDLE_SINCE).then(|| Tick::from_millis(filter.idle_since)),
        };
        let cause = self::cause(cause)?;
        output.set(with(table, |table| table.end_all(&filter, cause, Tick::from_millis(now)))?);
        Ok(())
    })
}

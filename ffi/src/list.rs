//! Looking at sessions.

use curfew_engine::{SessionInfo, State, Subject, Tick};

use crate::boundary::{Output, Outputs, guarded};
use crate::handles::{curfew_table, with};
use crate::status::curfew_status;
use crate::types::{curfew_key, curfew_session, curfew_state, curfew_subject, curfew_tick};

impl curfew_session {
    fn of(info: &SessionInfo) -> curfew_session {
        let (state, cause) = match info.state {
            State::Active => (curfew_state::CURFEW_ACTIVE, 0),
            State::Grace => (curfew_state::CURFEW_GRACE, 0),
            State::Ended(end) => (curfew_state::CURFEW_ENDED, end.cause as u32),
        };
        curfew_session {
            struct_size: size_of::<curfew_session>(),
            key: curfew_key::from_engine(info.key),
            subject: info.subject.as_u64(),
            start: info.start.as_millis(),
            last: info.last.as_millis(),
            token: info.token.as_millis(),
            end: info.end.as_millis(),
            state: state as u32,
            cause,
            policy: u32::from(info.policy.number()),
            bound: u32::from(info.bound),
            rotated: u32::from(info.rotated),
            reserved: 0,
        }
    }
}

/// All sessions, live and ended ones that are still remembered, in pages: up to `room` of them from
/// `*cursor` on, which is zero to begin with and is moved to the next page; after the last it is
/// `CURFEW_LAST_PAGE`. `count` gets how many there were; a page may be empty and not the last.
///
/// Takes no lock: a session that comes or goes meanwhile may or may not be among them; every other one is,
/// once.
///
/// # Safety
/// `cursor` can be read and written; `sessions` as every output array; `count` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_list(
    table: curfew_table,
    now: curfew_tick,
    cursor: *mut u64,
    sessions: *mut curfew_session,
    room: usize,
    count: *mut usize,
) -> curfew_status {
    guarded(|| {
        // SAFETY: as the header asks.
        let (from, next, outputs, count) = unsafe {
            (crate::boundary::value(cursor)?, Output::new(cursor)?, Outputs::new(sessions, room)?, Output::new(count)?)
        };
        if room == 0 {
            return Err(curfew_status::CURFEW_INVALID_ARGUMENT);
        }
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let (page, after) = with(table, |table| table.page(from, room, Tick::from_millis(now)))?;
        for (nth, info) in page.iter().enumerate() {
            outputs.set(nth, curfew_session::of(info));
        }
        next.set(after.map_or(CURFEW_LAST_PAGE, |slot| slot as u64));
        count.set(page.len());
        Ok(())
    })
}

/// The cursor of `curfew_list` after the last page.
pub const CURFEW_LAST_PAGE: u64 = 18_446_744_073_709_551_615;

/// The live sessions of a subject, the newest first. `count` gets how many there are, which may be more than
/// the `room` there was; `sessions` may be null when `room` is zero.
///
/// # Safety
/// `sessions` as every output array; `count` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_list_subject(
    table: curfew_table,
    subject: curfew_subject,
    now: curfew_tick,
    sessions: *mut curfew_session,
    room: usize,
    count: *mut usize,
) -> curfew_status {
    guarded(|| {
        // SAFETY: as the header asks.
        let (outputs, count) = unsafe { (Outputs::new(sessions, room)?, Output::new(count)?) };
        let subject = Subject::from_u64(subject);
        let found = with(table, |table| table.sessions_of(subject, Tick::from_millis(now)))?;
        for (nth, info) in found.iter().enumerate() {
            outputs.set(nth, curfew_session::of(info));
        }
        count.set(found.len());
        Ok(())
    })
}

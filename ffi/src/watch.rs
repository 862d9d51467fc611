//! What is open of a session: asked about again and again, and cut when the session is over.

use curfew_engine::{Binding, Table, Tick, Verdict, Watch};

use crate::boundary::{Answer, Output, guarded, read};
use crate::handles::{curfew_table, with};
use crate::sessions::cause;
use crate::status::curfew_status;
use crate::types::{curfew_key, curfew_tick, curfew_verdict, curfew_watch};

impl curfew_watch {
    fn to_engine(self) -> Watch {
        Watch::new(self.key.to_engine(), Binding::from_u64(self.binding))
    }
}

/// A number that is another one whenever a session was ended on record, got a new id, or had its policy
/// changed since it was read last, by whichever process. About as cheap as calling a function: read it often,
/// and ask about what is open (`curfew_peek_watched`) when it has changed.
///
/// Read it before you ask: then who sees it unchanged the next time has missed nothing. A deadline that has
/// passed is on record only once some `curfew_advance` has come by it, so mind the nearest `end_left_ms` that
/// you were told, too. The number means nothing in itself, and may change when nothing has happened that
/// matters.
///
/// # Safety
/// `changes` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_changes(table: curfew_table, changes: *mut u64) -> curfew_status {
    // SAFETY: as the header asks.
    let output = unsafe { Output::new(changes) };
    guarded(|| {
        output?.set(with(table, Table::changes)?);
        Ok(())
    })
}

/// Answers about a watched session as `curfew_peek` would, except that a session which got a new id goes on
/// under it, also when the overlap of the old one is over: `watch->key` is then the new one. Ask at least once
/// while a rotation's overlap lasts; `curfew_changes` tells of each.
///
/// What was open of a session is to be cut when the verdict is `CURFEW_ENDED`, or `CURFEW_UNKNOWN`: ended, and
/// not remembered any longer. Takes no lock, makes no system call. A watch is for one thread at a time.
///
/// # Safety
/// `watch` is null or points to a watch that can be read and written; `verdict` as every output struct.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_peek_watched(
    table: curfew_table,
    watch: *mut curfew_watch,
    now: curfew_tick,
    verdict: *mut curfew_verdict,
) -> curfew_status {
    // SAFETY: as the header asks.
    unsafe {
        judge_watch(watch, verdict, |watch| with(table, |table| table.peek_watched(watch, Tick::from_millis(now))))
    }
}

/// Counts as activity of a watched session what `curfew_touch` would, such as bytes that came from the client,
/// and answers like it. Follows the session through rotations, as `curfew_peek_watched` does. Costs what a
/// touch costs; a session's time has whole milliseconds, so one of them is enough in each.
///
/// # Safety
/// As for `curfew_peek_watched`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_touch_watched(
    table: curfew_table,
    watch: *mut curfew_watch,
    now: curfew_tick,
    verdict: *mut curfew_verdict,
) -> curfew_status {
    // SAFETY: as the header asks.
    unsafe {
        judge_watch(watch, verdict, |watch| with(table, |table| table.touch_watched(watch, Tick::from_millis(now))))
    }
}

/// # Safety
/// `watch` is null or points to a watch that can be read and written; `verdict` as every output struct.
unsafe fn judge_watch(
    watch: *mut curfew_watch,
    verdict: *mut curfew_verdict,
    how: impl FnOnce(&mut Watch) -> Answer<Verdict>,
) -> curfew_status {
    guarded(|| {
        // SAFETY: passed on.
        let (from, to, output) = unsafe { (read(watch)?, Output::sized(watch)?, Output::sized(verdict)?) };
        let mut own = from.to_engine();
        let answer = how(&mut own)?;
        output.set_sized(curfew_verdict::of(&answer));
        to.set_sized(curfew_watch { key: curfew_key::from_engine(own.key()), ..from });
        Ok(())
    })
}

/// Reports that what was open of an ended session was cut off, after `bytes` were sent to the client: one event,
/// `CURFEW_EVENT_CUT`, for whoever reads events. `cause` is the `curfew_cause` of the session's end. Changes
/// nothing else, and moves `curfew_changes`. Takes a lock, for a bounded time.
///
/// # Safety
/// `watch` is null or points to a watch.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_report_cut(
    table: curfew_table,
    watch: *const curfew_watch,
    cause: u32,
    bytes: u64,
    now: curfew_tick,
) -> curfew_status {
    guarded(|| {
        // SAFETY: as the header asks.
        let watch = unsafe { read(watch) }?.to_engine();
        let cause = self::cause(cause)?;
        with(table, |table| table.report_cut(&watch, cause, bytes, Tick::from_millis(now)))
    })
}

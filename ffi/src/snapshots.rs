//! Snapshots, and the way back from them.

use std::ffi::c_char;

use curfew_engine::{Config, Moment, Restored, Snapshot, Snapshotted, Span};

use crate::boundary::{Output, explained, read};
use crate::handles::{self, curfew_table, with};
use crate::region::path;
use crate::status::{Refusal, curfew_status};
use crate::types::{CURFEW_HUGE_PAGES, curfew_error, curfew_restore_options, curfew_restored, curfew_snapshotted};

/// What all clocks say.
fn moment() -> Result<Moment, Refusal> {
    let unnamed = |error: std::io::Error| Refusal {
        os_error: error.raw_os_error().unwrap_or(0),
        ..Refusal::new(
            curfew_status::CURFEW_SYSTEM,
            format!("cannot tell which boot this is (is /proc there?): {error}"),
        )
    };
    Moment::now().map_err(unnamed)
}

impl curfew_snapshotted {
    fn of(written: &Snapshotted) -> curfew_snapshotted {
        curfew_snapshotted {
            struct_size: size_of::<curfew_snapshotted>(),
            live: written.live,
            ended: written.ended,
            damaged: written.damaged,
            bytes: written.bytes,
        }
    }
}

impl curfew_restored {
    fn of(restored: &Restored) -> curfew_restored {
        curfew_restored {
            struct_size: size_of::<curfew_restored>(),
            live: restored.live,
            over: restored.over,
            ended: restored.ended,
            forgotten: restored.forgotten,
            downtime_ms: restored.downtime.as_millis(),
            now: restored.now.as_millis(),
        }
    }
}

/// Writes everything that the region holds to a file that outlives the machine's boot, while all others go on:
/// a touch is not held up. The file has mode 0600 and appears at `path` whole or not at all; a snapshot that
/// was there before is replaced only then. Some 0.2 us for each session: call it every few minutes, and before
/// going down.
///
/// A session whose start had returned and that was not ended is in it; one whose end had returned is not alive
/// in it. Events and statistics are not in it, nor are ids. For regions whose time is `curfew_now`.
///
/// Answers `CURFEW_EXISTS` when the file at `path` is no snapshot, such as the region itself; `CURFEW_OVERRUN` when
/// sessions ended faster than they could be followed; `CURFEW_CLOCKS` when ticks were not taken from `curfew_now`;
/// `CURFEW_NOT_FOUND`, `CURFEW_NO_SPACE` or `CURFEW_SYSTEM` for what the file system said. What is at `path` then is
/// whole, and nearly always what was there before. `error` and `snapshotted` may be null.
///
/// # Safety
/// `path` ends with a zero; `error` as everywhere; `snapshotted` as every output struct, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_snapshot(
    table: curfew_table,
    path: *const c_char,
    error: *mut curfew_error,
    snapshotted: *mut curfew_snapshotted,
) -> curfew_status {
    // SAFETY: as the header asks.
    unsafe {
        explained(error, || {
            let output = Output::optional_sized(snapshotted)?;
            let path = self::path(path)?;
            let moment = moment()?;
            let written = with(table, |table| table.snapshot(&path, &moment))??;
            output.into_iter().for_each(|output| output.set_sized(curfew_snapshotted::of(&written)));
            Ok(())
        })
    }
}

/// Creates a region file at `path` with everything that is in the snapshot file `snapshot`, and opens it. The
/// file appears with everything in it or not at all, and never replaces another: to change the size of a
/// region, take a snapshot, close the region everywhere, remove its file, and restore with another capacity.
///
/// The time from the snapshot to now counts against every limit of every session: one whose time came meanwhile
/// is over at the first touch, and the next `curfew_advance` reports it. Keys are the same as before, and so are
/// the cursors of readers of events; statistics begin anew. An old snapshot is an old truth: what was ended
/// after it was taken is alive in it (`curfew_end_all`).
///
/// `options` may be null: as large as it was, by the clocks. `error` and `restored` may be null. The whole
/// snapshot is looked at before anything of it is used. Answers
///
/// - `CURFEW_NOT_FOUND`, `CURFEW_UNSAFE_FILE` when there is no snapshot, or it is not this user's alone,
/// - `CURFEW_NOT_A_SNAPSHOT`, `CURFEW_SNAPSHOT_VERSION`, `CURFEW_SNAPSHOT_TRUNCATED`,
///   `CURFEW_SNAPSHOT_DAMAGED` when it is none, or not as it was written,
/// - `CURFEW_CLOCKS` when the clocks cannot tell how long ago it was taken: set them, or state it,
/// - `CURFEW_EXISTS` when there is something at `path`, which is left alone,
/// - `CURFEW_FULL` when the capacity is too small for what is in it, `CURFEW_OUT_OF_RANGE` when there can be
///   no such region, and as `curfew_create` besides;
///
/// no region is made then, and the snapshot stays what it is. On `CURFEW_OK` the table is yours, to be closed with
/// `curfew_close`. Takes some 0.7 us for each session; until it is done, forks and other calls that open or
/// close tables in this process wait.
///
/// # Safety
/// `snapshot` and `path` end with a zero; `options` is null or its `struct_size` is right; `error` as everywhere;
/// `restored` as every output struct, or null; `table` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_restore(
    snapshot: *const c_char,
    path: *const c_char,
    options: *const curfew_restore_options,
    error: *mut curfew_error,
    restored: *mut curfew_restored,
    table: *mut curfew_table,
) -> curfew_status {
    // SAFETY: as the header asks.
    unsafe {
        explained(error, || {
            let (output, told) = (Output::new(table)?, Output::optional_sized(restored)?);
            let path = self::path(path)?;
            let (snapshot, config) = source(snapshot, options)?;
            let mut what = Restored::default();
            let opened = handles::open(|| {
                let table;
                (table, what) = snapshot.restore(&path, &config, &moment()?)?;
                Ok(table)
            })?;
            output.set(opened);
            told.into_iter().for_each(|told| told.set_sized(curfew_restored::of(&what)));
            Ok(())
        })
    }
}

/// The same into memory of this process's own, for its threads.
///
/// # Safety
/// As for `curfew_restore`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_restore_private(
    snapshot: *const c_char,
    options: *const curfew_restore_options,
    error: *mut curfew_error,
    restored: *mut curfew_restored,
    table: *mut curfew_table,
) -> curfew_status {
    // SAFETY: as the header asks.
    unsafe {
        explained(error, || {
            let (output, told) = (Output::new(table)?, Output::optional_sized(restored)?);
            let (snapshot, config) = source(snapshot, options)?;
            // It has nothing that a forked child would inherit: forks need not wait for it.
            let (own, what) = snapshot.restore_private(&config, &moment()?)?;
            output.set(handles::open(|| Ok(own))?);
            told.into_iter().for_each(|told| told.set_sized(curfew_restored::of(&what)));
            Ok(())
        })
    }
}

/// The snapshot to restore, and the region to restore it into.
///
/// # Safety
/// `snapshot` is null or ends with a zero; `options` is null or its `struct_size` is right.
unsafe fn source(
    snapshot: *const c_char,
    options: *const curfew_restore_options,
) -> Result<(Snapshot, Config), Refusal> {
    // SAFETY: passed on.
    let (path, options) = unsafe { (path(snapshot)?, if options.is_null() { None } else { Some(read(options)?) }) };
    if options.is_some_and(|options| options.flags & !CURFEW_HUGE_PAGES != 0 || options.reserved != 0) {
        return Err(curfew_status::CURFEW_UNSUPPORTED.into());
    }
    let snapshot = Snapshot::open(&path)?;
    let before = snapshot.config();
    let Some(options) = options else { return Ok((snapshot, before)) };
    let or = |number: u64, before: u64| if number == 0 { before } else { number };
    let config = Config {
        capacity: or(options.capacity, before.capacity),
        events: or(options.events, before.events),
        huge_pages: options.flags & CURFEW_HUGE_PAGES != 0,
        ..before
    };
    let stated = Span::from_millis(options.downtime_ms);
    Ok((if stated == Span::OFF { snapshot } else { snapshot.with_downtime(stated) }, config))
}

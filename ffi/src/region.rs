//! Opening and closing, clocks, upkeep.

use std::ffi::{OsString, c_char, c_void};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use curfew_engine::{Config, Memory, Table, Tick};
use nix::time::{ClockId, clock_gettime};

use crate::boundary::{Answer, Output, explained, guarded, read, text, value};
use crate::handles::{self, curfew_table, with};
use crate::status::{Refusal, curfew_status};
use crate::types::{CURFEW_HUGE_PAGES, CURFEW_OWN_EPOCH, curfew_config, curfew_error, curfew_stats, curfew_tick};

/// Longest path, with its final zero.
const MOST_PATH: usize = 4096;

/// What a clock says, in milliseconds.
fn clock(id: ClockId) -> Result<i64, Refusal> {
    let time = clock_gettime(id).map_err(|error| Refusal::system(&error.into(), "the system has no such clock"))?;
    Ok(time.tv_sec() * 1000 + time.tv_nsec() / 1_000_000)
}

/// # Safety
/// `from` is null or a text that ends with a zero.
pub(crate) unsafe fn path(from: *const c_char) -> Answer<PathBuf> {
    // SAFETY: passed on.
    Ok(PathBuf::from(OsString::from_vec(unsafe { text(from, MOST_PATH) }?)))
}

/// # Safety
/// `from` is null or points to a config, whose secret is null or 32 bytes.
unsafe fn config(from: *const curfew_config) -> Result<Config, Refusal> {
    // SAFETY: passed on.
    let config = unsafe { read(from) }?;
    if config.flags & !(CURFEW_HUGE_PAGES | CURFEW_OWN_EPOCH) != 0 || config.reserved != 0 {
        return Err(curfew_status::CURFEW_UNSUPPORTED.into());
    }
    let epoch = if config.flags & CURFEW_OWN_EPOCH == 0 { clock(ClockId::CLOCK_BOOTTIME)? } else { config.epoch };
    // SAFETY: the caller's promise.
    let secret = if config.secret.is_null() { None } else { Some(unsafe { value(config.secret.cast::<[u8; 32]>()) }?) };
    Ok(Config {
        events: config.events,
        secret,
        epoch,
        huge_pages: config.flags & CURFEW_HUGE_PAGES != 0,
        ..Config::new(config.capacity)
    })
}

/// Opens a table, or says why not: what all that open one have in common.
///
/// # Safety
/// `error` is null or a struct that can be written; `table` is null or can be written.
unsafe fn opened(
    error: *mut curfew_error,
    table: *mut curfew_table,
    make: impl FnOnce() -> Result<Table, Refusal>,
) -> curfew_status {
    // SAFETY: passed on.
    unsafe {
        explained(error, || {
            let output = Output::new(table)?;
            output.set(handles::open(make)?);
            Ok(())
        })
    }
}

/// Bytes of a region with this configuration, for memory that you provide (`curfew_create_in`).
///
/// Answers `CURFEW_OUT_OF_RANGE` when there can be no such region.
///
/// # Safety
/// `config` and `error` as everywhere; `bytes` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_bytes_needed(
    config: *const curfew_config,
    error: *mut curfew_error,
    bytes: *mut usize,
) -> curfew_status {
    // SAFETY: as the header asks.
    unsafe {
        explained(error, || {
            let output = Output::new(bytes)?;
            output.set(Table::bytes_needed(&self::config(config)?)?);
            Ok(())
        })
    }
}

/// Creates a region in memory of this process's own, for its threads. Memory is taken as it is used.
///
/// `error` may be null. On `CURFEW_OK` the table is yours, to be closed with `curfew_close`.
///
/// # Safety
/// `config` and `error` as everywhere; `table` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_create_private(
    config: *const curfew_config,
    error: *mut curfew_error,
    table: *mut curfew_table,
) -> curfew_status {
    // SAFETY: as the header asks.
    unsafe { opened(error, table, || Ok(Table::private(&self::config(config)?)?)) }
}

/// Creates a region file at `path`, with mode 0600, which other processes of this user can open. The
/// file must be on a file system of this machine (/run, /dev/shm); it takes all of its room at
/// once. Who cuts it short kills all that have it open (SIGBUS).
///
/// Answers `CURFEW_EXISTS` when there is something at `path`, which is left alone. `error` may be
/// null. On `CURFEW_OK` the table is yours, to be closed with `curfew_close`; the file stays.
///
/// # Safety
/// `path` ends with a zero; `config` and `error` as everywhere; `table` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_create(
    path: *const c_char,
    config: *const curfew_config,
    error: *mut curfew_error,
    table: *mut curfew_table,
) -> curfew_status {
    // SAFETY: as the header asks.
    unsafe { opened(error, table, || Ok(Table::create(&self::path(path)?, &self::config(config)?)?)) }
}

/// Opens the region file at `path`, which another process has created, or this one before.
///
/// Answers `CURFEW_NOT_FOUND` when there is none; `CURFEW_OTHER_VERSION`, `CURFEW_DAMAGED`,
/// `CURFEW_UNSAFE_FILE` and their like, and changes nothing, when what is there cannot be used.
/// `error` may be null. On `CURFEW_OK` the table is yours, to be closed with `curfew_close`.
///
/// # Safety
/// `path` ends with a zero; `error` as everywhere; `table` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_open(
    path: *const c_char,
    error: *mut curfew_error,
    table: *mut curfew_table,
) -> curfew_status {
    // SAFETY: as the header asks.
    unsafe { opened(error, table, || Ok(Table::open(&self::path(path)?)?)) }
}

/// Opens the region file at `path`, or creates it when there is none. Of several processes that do
/// this at once, one creates it and the others open what it made.
///
/// Otherwise as `curfew_create` and `curfew_open`.
///
/// # Safety
/// As for `curfew_create`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_open_or_create(
    path: *const c_char,
    config: *const curfew_config,
    error: *mut curfew_error,
    table: *mut curfew_table,
) -> curfew_status {
    // SAFETY: as the header asks.
    unsafe { opened(error, table, || Ok(Table::open_or_create(&self::path(path)?, &self::config(config)?)?)) }
}

/// Creates a region in memory that you own: `bytes` bytes at `memory`, aligned to 64, at least as
/// many as `curfew_bytes_needed` says. What stands there is overwritten, but for a region.
///
/// Until the table is closed the memory must stay where it is, and nothing else may write to it.
///
/// With `lock_path` other processes that have the same memory can open the region with
/// `curfew_open_in`. The file, made if it is missing, stays empty; its bytes are locked to show who
/// lives. Without (null) the region is for the threads of this process, and opening it a second
/// time is refused.
///
/// Answers `CURFEW_MEMORY` when the memory is too small or not aligned, `CURFEW_EXISTS` when there is
/// a region in it: open that, or clear the memory. `error` may be null. On `CURFEW_OK` the table is
/// yours, to be closed with `curfew_close`; the memory stays yours.
///
/// # Safety
/// `memory` is null or `bytes` bytes that can be written, as above; `lock_path` is null or ends with a
/// zero; `config` and `error` as everywhere; `table` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_create_in(
    memory: *mut c_void,
    bytes: usize,
    lock_path: *const c_char,
    config: *const curfew_config,
    error: *mut curfew_error,
    table: *mut curfew_table,
) -> curfew_status {
    // SAFETY: as the header asks.
    unsafe {
        opened(error, table, || {
            let (lent, config) = (lent(memory, bytes)?, self::config(config)?);
            let locks = if lock_path.is_null() { None } else { Some(path(lock_path)?) };
            Ok(Table::create_in(&lent, locks.as_deref(), &config)?)
        })
    }
}

/// Opens the region that another process has created with `curfew_create_in` in memory which this
/// one has too, at whatever address. `lock_path` must lead to the same file as there, under whatever
/// name.
///
/// Answers `CURFEW_NOT_SHARED` when the region was created without a lock file, or with another one.
/// Otherwise as `curfew_open`.
///
/// # Safety
/// As for `curfew_create_in`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_open_in(
    memory: *mut c_void,
    bytes: usize,
    lock_path: *const c_char,
    error: *mut curfew_error,
    table: *mut curfew_table,
) -> curfew_status {
    // SAFETY: as the header asks.
    unsafe { opened(error, table, || Ok(Table::open_in(&lent(memory, bytes)?, &path(lock_path)?)?)) }
}

/// # Safety
/// As for `curfew_create_in`.
unsafe fn lent(memory: *mut c_void, bytes: usize) -> Answer<Memory> {
    if memory.is_null() {
        return Err(curfew_status::CURFEW_NULL_ARGUMENT);
    }
    if isize::try_from(bytes).is_err() || (memory as usize).checked_add(bytes).is_none() {
        return Err(curfew_status::CURFEW_INVALID_ARGUMENT);
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { Memory::new(memory.cast(), bytes) })
}

/// Closes a table: waits for the calls that other threads are in, and gives back its memory. A region
/// file stays, with everything in it.
///
/// Answers `CURFEW_CLOSED` when it was closed already; calls that come later answer that too. Also a
/// child that was forked should close what its parent had open. Must not be called from a signal
/// handler.
#[unsafe(no_mangle)]
pub extern "C" fn curfew_close(table: curfew_table) -> curfew_status {
    guarded(|| handles::close(table))
}

/// The present time of a region, for the `now` of every other call: milliseconds of `CLOCK_BOOTTIME`
/// since its epoch. So all processes agree, whenever they opened the region, and time goes on while the
/// machine sleeps. About 50 ns; an event loop may as well ask once per round.
///
/// Not for regions that were created with `CURFEW_OWN_EPOCH` and another clock: those have their own.
///
/// # Safety
/// `now` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_now(table: curfew_table, now: *mut curfew_tick) -> curfew_status {
    // SAFETY: as the header asks.
    let output = unsafe { Output::new(now) };
    guarded(|| {
        let output = output?;
        output.set(self::now(table)?.as_millis());
        Ok(())
    })
}

fn now(table: curfew_table) -> Answer<Tick> {
    let clock = clock(ClockId::CLOCK_BOOTTIME).map_err(|refusal| refusal.status)?;
    let clock = u64::try_from(clock).unwrap_or(0);
    Ok(with(table, |table| table.tick_at(clock))?.min(Tick::LAST))
}

/// The tick at which the wall clock, as it goes now, will show `unix_seconds` since 1970: for the
/// expiry of a token (its `exp`). A time before the region's epoch gives tick zero, which is long
/// past; one that is too far away gives `CURFEW_NEVER`.
///
/// For regions whose time is `curfew_now`.
///
/// # Safety
/// `tick` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_tick_of_unix_time(
    table: curfew_table,
    unix_seconds: i64,
    tick: *mut curfew_tick,
) -> curfew_status {
    // SAFETY: as the header asks.
    let output = unsafe { Output::new(tick) };
    guarded(|| {
        let output = output?;
        let now = i128::from(now(table)?.as_millis());
        let wall = clock(ClockId::CLOCK_REALTIME).map_err(|refusal| refusal.status)?;
        let then = now + i128::from(unix_seconds) * 1000 - i128::from(wall);
        output.set(Tick::from_millis(u64::try_from(then.max(0)).unwrap_or(u64::MAX)).as_millis());
        Ok(())
    })
}

/// Does what is due at `now`, at most `budget` units of it (some tens of nanoseconds each): ends
/// sessions whose time has come, each in one event, forgets ended ones that need not be remembered, and
/// catches up with changed policies. Never what enforces: a touch is exact whether this has run or not.
///
/// `done` gets the units that were used, `more` 1 if there is more due at `now`: call again at once. Either
/// may be null. Otherwise call it at `curfew_next_due`, or every now and then. Several threads and processes
/// may call it and share the work.
///
/// # Safety
/// `done` and `more` can be written or are null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_advance(
    table: curfew_table,
    now: curfew_tick,
    budget: usize,
    done: *mut usize,
    more: *mut u32,
) -> curfew_status {
    // SAFETY: as the header asks.
    let (done, more) = unsafe { (Output::optional(done), Output::optional(more)) };
    guarded(|| {
        let advance = with(table, |table| table.advance(Tick::from_millis(now), budget))?;
        done.set(advance.done);
        more.set(u32::from(advance.more));
        Ok(())
    })
}

/// The earliest tick at which `curfew_advance` may have something to do, `CURFEW_NEVER` if there is none: an
/// event loop may sleep until then. It may be earlier than the next end, and later calls, of any process,
/// may bring it nearer: sleep no longer than you would like an end to be reported late.
///
/// # Safety
/// `due` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_next_due(table: curfew_table, due: *mut curfew_tick) -> curfew_status {
    // SAFETY: as the header asks.
    let output = unsafe { Output::new(due) };
    guarded(|| {
        let output = output?;
        output.set(with(table, Table::next_due)?.as_millis());
        Ok(())
    })
}

/// What a table holds, and has counted. The figures are read one after the other while others go on.
///
/// # Safety
/// `stats` as every output struct.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_get_stats(table: curfew_table, stats: *mut curfew_stats) -> curfew_status {
    // SAFETY: as the header asks.
    let output = unsafe { Output::sized(stats) };
    guarded(|| {
        let output = output?;
        let stats = with(table, Table::stats)?;
        let mut ended = [0; 10];
        ended[1..].copy_from_slice(&stats.ended);
        output.set_sized(curfew_stats {
            struct_size: size_of::<curfew_stats>(),
            capacity: stats.capacity,
            bytes: stats.bytes,
            used: stats.used,
            live: stats.live,
            started: stats.started,
            ended,
            rotated: stats.rotated,
            refused_full: stats.refused_full,
            refused_limited: stats.refused_limited,
            mismatches: stats.mismatches,
            events: stats.events,
            recoveries: stats.recoveries,
        });
        Ok(())
    })
}

/// Looks through the whole region for anything that is not as it must be, while others go on. For tests
/// and after an accident; takes its time.
///
/// Answers `CURFEW_DAMAGED`, and says in `error`, which may be null, what it found first.
///
/// # Safety
/// `error` as everywhere.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_check(table: curfew_table, error: *mut curfew_error) -> curfew_status {
    // SAFETY: as the header asks.
    unsafe {
        explained(error, || {
            let damage = with(table, |table| table.check().map_err(|damage| damage.to_string()))?;
            damage.map_err(|damage| Refusal::new(curfew_status::CURFEW_DAMAGED, damage))
        })
    }
}

/// Makes everything that can be told from the sessions themselves anew, while others go on: what a region
/// that may have been damaged calls for. Looks at every record.
#[unsafe(no_mangle)]
pub extern "C" fn curfew_repair(table: curfew_table) -> curfew_status {
    guarded(|| with(table, Table::repair))
}

//! What the module knows about one request, from its arrival to its log line.
//!
//! nginx clears a module's context when a request is redirected inside (`error_page`, `try_files`,
//! `index`), but not the cleanups of its pool. So the record hangs there, and a request that comes by
//! twice is recognised: it is checked once, and counts once.

use std::ffi::c_void;
use std::ptr::{addr_of, null_mut};

use curfew_engine::{Binding, Key, Left, Tick};
use nginx_sys::ngx_str_t;

use crate::nginx::{Request, add_cleanup, fence};
use crate::status::Status;
use crate::streams::Stream;
use crate::zone::Zone;
use crate::{module, streams};

const MAGIC: u64 = 0x6375_7266_6577_2e72;

/// What became of a request so far.
pub(crate) struct Record {
    magic: u64,
    /// The word on it, once there is one.
    pub(crate) status: Option<Status>,
    pub(crate) dry_run: bool,
    /// It was refused.
    pub(crate) denied: bool,
    /// The path that it had then, decoded.
    pub(crate) refused: ngx_str_t,
    /// It was let through, as what stands below.
    pub(crate) passed: bool,
    /// `curfew_end` was done.
    pub(crate) ended: bool,
    /// It is to count as activity, once its response is known to be none of failure.
    pub(crate) counts: bool,
    /// Where and as what it was checked.
    pub(crate) zone: *const Zone,
    pub(crate) key: Option<Key>,
    pub(crate) presented: Binding,
    pub(crate) arrived: Tick,
    pub(crate) left: Option<Left>,
    /// The expiry of the token that it came with, if that is known.
    pub(crate) token: Option<Tick>,
    /// Whether the request counted as activity, or will: what is open of it counts then, too.
    pub(crate) is_activity: bool,
    /// What ended it while it went on, and the bytes that had been sent by then.
    pub(crate) cut: Option<(Status, u64)>,
    pub(crate) stream: Stream,
}

impl Record {
    const NEW: Record = Record {
        magic: MAGIC,
        status: None,
        dry_run: false,
        denied: false,
        refused: ngx_str_t { len: 0, data: null_mut() },
        passed: false,
        ended: false,
        counts: false,
        zone: std::ptr::null(),
        key: None,
        presented: Binding::NONE,
        arrived: Tick::ZERO,
        left: None,
        token: None,
        is_activity: false,
        cut: None,
        stream: Stream::NEW,
    };

    /// The name of its status, as variables and logs have it.
    pub(crate) fn status_name(&self) -> Option<&'static str> {
        self.status.map(|status| self.name_of(status))
    }

    /// Whether it was ended with its session while it went on.
    fn is_cut(&self) -> bool {
        self.cut.is_some() && !self.dry_run
    }

    pub(crate) fn name_of(&self, status: Status) -> &'static str {
        if self.dry_run { status.dry_run_name() } else { status.name() }
    }

    /// The zone in which it was checked.
    pub(crate) fn zone<'r>(&self) -> Option<&'r Zone> {
        // SAFETY: the zones of a request's configuration outlive it, and nobody keeps
        // them beyond a callback.
        unsafe { self.zone.as_ref() }
    }
}

/// Marks the cleanup that holds a record. It changes something, so that the compiler does not make
/// it one with another function, and it would not be told from that one's cleanups.
unsafe extern "C" fn forget(record: *mut c_void) {
    // SAFETY: nginx passes what `of` has put there.
    unsafe {
        let record = record.cast::<Record>();
        fence(null_mut(), (), || streams::leave(&mut (*record).stream, (*record).is_cut()));
        (&raw mut (*record).magic).write_volatile(0);
    }
}

/// The place of a request's record among the contexts of the modules.
fn context(request: Request<'_>) -> *mut *mut c_void {
    // SAFETY: a live request has a context for each http module.
    unsafe { (*request.raw()).ctx.add((*addr_of!(module::ngx_http_curfew_module)).ctx_index) }
}

/// The record of a request, if it has one. One thread: nobody keeps it over a call that gives it out again,
/// and evaluating a directive's text may be one (`$curfew_status`).
pub(crate) fn find<'r>(request: Request<'r>) -> Option<&'r mut Record> {
    // SAFETY: the context and the cleanups live as long as the request; a cleanup with our handler and
    // our number holds a record that `of` has written.
    unsafe {
        let context = context(request);
        if !(*context).is_null() {
            return Some(&mut *(*context).cast::<Record>());
        }
        let mut cleanup = (*request.pool()).cleanup;
        while !cleanup.is_null() {
            let is_ours = (*cleanup).handler.is_some_and(|handler| handler as usize == forget as *const () as usize);
            if is_ours {
                let record = (*cleanup).data.cast::<Record>();
                if (*record).magic == MAGIC {
                    *context = record.cast();
                    return Some(&mut *record);
                }
            }
            cleanup = (*cleanup).next;
        }
    }
    None
}

/// Where the place of a request in the list of what is open is; null if the request has no record. A
/// pointer that stays good while the record is borrowed anew in other callbacks.
pub(crate) fn stream_of(request: Request<'_>) -> *mut Stream {
    // SAFETY: what is in the context is null or a record.
    unsafe {
        let record = (*context(request)).cast::<Record>();
        if record.is_null() { null_mut() } else { &raw mut (*record).stream }
    }
}

/// The record of a request, made if it has none; `None` when nginx is out of memory.
pub(crate) fn of<'r>(request: Request<'r>) -> Option<&'r mut Record> {
    if let Some(record) = find(request) {
        return Some(record);
    }
    // SAFETY: the pool is the request's; the record is written whole before anybody reads it.
    unsafe {
        let record = add_cleanup::<Record>(request.pool(), forget)?;
        record.write(Record::NEW);
        *context(request) = record.cast();
        Some(&mut *record)
    }
}

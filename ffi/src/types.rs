//! The structs. They grow at their ends only; the assertions at the end of this file hold them.

use std::ffi::c_char;

use crate::boundary::Growing;
use crate::status::{Refusal, curfew_status};

/// Engine time: milliseconds since the region's epoch, which `curfew_now` counts for you. A tick is
/// a point in time; lengths of time are milliseconds too, and their names end in `_ms`.
pub type curfew_tick = u64;

/// The tick that never comes, and the length of time that is never over.
pub const CURFEW_NEVER: u64 = 281_474_976_710_655;

/// The keyed digest of whom a session belongs to (`curfew_derive_subject`). Zero for nobody.
pub type curfew_subject = u64;

/// The keyed digest of what a session is bound to, or of what a request has presented
/// (`curfew_derive_binding`). Zero for nothing.
pub type curfew_binding = u64;

/// The keyed digest of a session id (`curfew_derive_key`): the only form in which an id exists in
/// memory, files, events and lists. Fit for logs (`curfew_key_text`).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct curfew_key {
    /// The digest.
    pub bytes: [u8; 16],
}

/// Why a call was refused, for a person. Written only when the answer is not `CURFEW_OK`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curfew_error {
    /// `sizeof(curfew_error)`, set by you.
    pub struct_size: usize,
    /// The answer, once more.
    pub status: i32,
    /// What the system said (`errno`), or zero.
    pub os_error: i32,
    /// What was wrong, where, and what to do; ends with a zero. Never holds a session id.
    pub message: [c_char; 496],
}

impl curfew_error {
    pub(crate) fn new(refusal: &Refusal) -> curfew_error {
        let mut error = curfew_error {
            struct_size: size_of::<curfew_error>(),
            status: refusal.status as i32,
            os_error: refusal.os_error,
            message: [0; 496],
        };
        let text = match &refusal.message {
            Some(text) => text.as_str(),
            None => crate::names::status_text(refusal.status as i32).to_str().unwrap_or_default(),
        };
        // Cut at the end, between characters.
        let most = error.message.len() - 1;
        let end = (0..=text.len().min(most)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        for (to, byte) in error.message.iter_mut().zip(&text.as_bytes()[..end]) {
            *to = *byte as c_char;
        }
        error
    }
}

/// Ask the system for 2 MiB pages, which make large regions faster. A hint. A region file in memory
/// (tmpfs) takes all of its memory at once then; other files have small pages.
pub const CURFEW_HUGE_PAGES: u32 = 1;
/// Take `epoch` from this struct. Without it the epoch is the moment of creation by
/// `CLOCK_BOOTTIME`, which is what `curfew_now` counts from.
pub const CURFEW_OWN_EPOCH: u32 = 2;

/// What a new region is to be.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curfew_config {
    /// `sizeof(curfew_config)`, set by you or by `curfew_config_init`.
    pub struct_size: usize,
    /// Sessions, live and ended ones that are still remembered, that it has room for: 1 to 2^30.
    pub capacity: u64,
    /// Events that are remembered until they are overwritten: 16 to 2^26; zero for a number that
    /// goes with the capacity.
    pub events: u64,
    /// 32 bytes that digests are keyed with; null for random ones, which is right unless two regions
    /// must give the same keys.
    pub secret: *const u8,
    /// With `CURFEW_OWN_EPOCH`: what your clock says, in milliseconds, at tick zero.
    pub epoch: i64,
    /// `CURFEW_HUGE_PAGES`, `CURFEW_OWN_EPOCH`, or zero.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}

/// What the window after the idle timeout allows.
#[repr(u32)]
pub enum curfew_grace_mode {
    /// The session waits for `curfew_reauthenticate`; a touch changes nothing.
    CURFEW_GRACE_REAUTH = 0,
    /// A touch brings the session back.
    CURFEW_GRACE_RESUME = 1,
}

/// What happens when a session is presented without what it is bound to.
#[repr(u32)]
pub enum curfew_on_mismatch {
    /// The request does not pass; the session goes on for its rightful holder.
    CURFEW_MISMATCH_DENY = 0,
    /// The session ends.
    CURFEW_MISMATCH_END = 1,
    /// The request passes, and the verdict says so.
    CURFEW_MISMATCH_LOG = 2,
}

/// What happens when a subject that has `max_per_subject` sessions starts another.
#[repr(u32)]
pub enum curfew_on_limit {
    /// The new session is refused.
    CURFEW_LIMIT_DENY = 0,
    /// The session that started first ends.
    CURFEW_LIMIT_END_OLDEST = 1,
    /// The session that has been idle longest ends.
    CURFEW_LIMIT_END_LEAST_RECENT = 2,
}

/// What a start does when the region is full. Live sessions are never given up.
#[repr(u32)]
pub enum curfew_on_full {
    /// It is refused.
    CURFEW_FULL_REFUSE = 0,
    /// The ended session that would be forgotten soonest is forgotten now.
    CURFEW_FULL_EVICT_ENDED = 1,
}

/// How long an ended session is remembered, so that its id cannot start anew.
#[repr(u32)]
pub enum curfew_retain_mode {
    /// Until its lifetime or its token would have been over; 24 hours if it had neither.
    CURFEW_RETAIN_UNTIL_HARD_LIMIT = 0,
    /// For `retain_ms` after its end; zero forgets at once.
    CURFEW_RETAIN_FOR = 1,
}

/// A named set of limits. A length of zero switches a limit off; `idle_ms` or `lifetime_ms` must be
/// set.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curfew_policy {
    /// `sizeof(curfew_policy)`, set by you or by `curfew_policy_init`.
    pub struct_size: usize,
    /// Longest time between two activities.
    pub idle_ms: u64,
    /// Longest time from start or last re-authentication to end, whatever the activity.
    pub lifetime_ms: u64,
    /// Window after the idle timeout in which the session is not usable as before but not gone.
    pub grace_ms: u64,
    /// With `CURFEW_RETAIN_FOR`: how long an ended session is remembered.
    pub retain_ms: u64,
    /// A `curfew_retain_mode`.
    pub retain_mode: u32,
    /// A `curfew_grace_mode`.
    pub grace_mode: u32,
    /// A `curfew_on_mismatch`.
    pub on_mismatch: u32,
    /// Most live sessions of one subject; zero for no limit.
    pub max_per_subject: u32,
    /// A `curfew_on_limit`.
    pub on_limit: u32,
    /// A `curfew_on_full`.
    pub on_full: u32,
}

/// What a session begins with.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curfew_start_options {
    /// `sizeof(curfew_start_options)`, set by you or by `curfew_start_options_init`.
    pub struct_size: usize,
    /// The policy it lives under (`curfew_set_policy`).
    pub policy: u32,
    /// Zero.
    pub reserved: u32,
    /// Whose it is; zero for nobody.
    pub subject: curfew_subject,
    /// What every request must then present; zero for nothing.
    pub binding: curfew_binding,
    /// When its token expires (`curfew_tick_of_unix_time`). `CURFEW_NEVER` if it has none, which is what
    /// `curfew_start_options_init` sets; zero is long past.
    pub token: curfew_tick,
}

/// What a session is.
#[repr(u32)]
pub enum curfew_state {
    /// Usable.
    CURFEW_ACTIVE = 1,
    /// Past the idle timeout and not gone yet.
    CURFEW_GRACE = 2,
    /// Over; `cause` says why.
    CURFEW_ENDED = 3,
    /// Presented without what it is bound to. Only in verdicts.
    CURFEW_MISMATCH = 4,
    /// No session has this key, or none that is still remembered. Only in verdicts.
    CURFEW_UNKNOWN = 5,
}

/// Why a session ended.
#[repr(u32)]
pub enum curfew_cause {
    /// It did not end.
    CURFEW_CAUSE_NONE = 0,
    /// No activity for the idle timeout, and grace if there is one.
    CURFEW_CAUSE_IDLE = 1,
    /// Its lifetime is over.
    CURFEW_CAUSE_LIFETIME = 2,
    /// Its token has expired.
    CURFEW_CAUSE_TOKEN = 3,
    /// The user logged out.
    CURFEW_CAUSE_LOGOUT = 4,
    /// Somebody in charge ended it.
    CURFEW_CAUSE_REVOKED = 5,
    /// It was presented without what it is bound to.
    CURFEW_CAUSE_BINDING = 6,
    /// Its subject started one more session than the policy allows.
    CURFEW_CAUSE_DISPLACED = 7,
    /// It was given up to make room. Curfew itself does this to ended sessions only.
    CURFEW_CAUSE_EVICTED = 8,
    /// It goes on under a new id; this one is dead.
    CURFEW_CAUSE_ROTATED = 9,
}

/// The answer to a touch or a peek. Look at `passes`; the rest is for telling people why, and for
/// how long.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curfew_verdict {
    /// `sizeof(curfew_verdict)`, set by you or by `curfew_verdict_init`.
    pub struct_size: usize,
    /// 1 if the request may pass: `CURFEW_ACTIVE`, or `CURFEW_GRACE` under `CURFEW_GRACE_RESUME`.
    /// Else 0. Of a peek: whether a touch would have let it pass.
    pub passes: u32,
    /// A `curfew_state`.
    pub state: u32,
    /// A `curfew_cause`: of the end, or `CURFEW_CAUSE_BINDING` if this mismatch has ended the session.
    pub cause: u32,
    /// 1 if the session was presented without what it is bound to, also where that may pass.
    pub mismatch: u32,
    /// The policy it lives under, in `CURFEW_ACTIVE` and `CURFEW_GRACE`.
    pub policy: u32,
    /// Zero.
    pub reserved: u32,
    /// In `CURFEW_ENDED`: when it ended, which may be before anybody noticed.
    pub ended_at: curfew_tick,
    /// In `CURFEW_ACTIVE` and `CURFEW_GRACE`: until the idle timeout, zero in grace that waits for
    /// re-authentication. `CURFEW_NEVER` if the limit is off, here and below.
    pub idle_left_ms: u64,
    /// Until the lifetime is over.
    pub lifetime_left_ms: u64,
    /// Until the token expires.
    pub token_left_ms: u64,
    /// Until the session ends if nothing happens: the least of the above, and grace.
    pub end_left_ms: u64,
    /// Since its start or last re-authentication.
    pub age_ms: u64,
}

/// Which sessions `curfew_end_all` ends: those for which everything that `set` names holds.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curfew_filter {
    /// `sizeof(curfew_filter)`, set by you or by `curfew_filter_init`.
    pub struct_size: usize,
    /// What counts: `CURFEW_BY_POLICY`, `CURFEW_STARTED_BEFORE`, `CURFEW_IDLE_SINCE`. Zero means all
    /// sessions there are.
    pub set: u32,
    /// Those under this policy.
    pub policy: u32,
    /// Those that started, or were last re-authenticated, before this tick.
    pub started_before: curfew_tick,
    /// Those whose last activity was before this tick.
    pub idle_since: curfew_tick,
}

/// In `curfew_filter`: `policy` counts.
pub const CURFEW_BY_POLICY: u32 = 1;
/// In `curfew_filter`: `started_before` counts.
pub const CURFEW_STARTED_BEFORE: u32 = 2;
/// In `curfew_filter`: `idle_since` counts.
pub const CURFEW_IDLE_SINCE: u32 = 4;

/// A session as it was at one moment.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curfew_session {
    /// `sizeof(curfew_session)`. In an array you set the first one's.
    pub struct_size: usize,
    /// Its key.
    pub key: curfew_key,
    /// Whose it is; zero for nobody.
    pub subject: curfew_subject,
    /// Start or last re-authentication.
    pub start: curfew_tick,
    /// Last activity.
    pub last: curfew_tick,
    /// Token expiry, or `CURFEW_NEVER`; that also once it was ended.
    pub token: curfew_tick,
    /// When it ends if nothing happens; when it ended, if it has.
    pub end: curfew_tick,
    /// A `curfew_state`: `CURFEW_ACTIVE`, `CURFEW_GRACE` or `CURFEW_ENDED`.
    pub state: u32,
    /// A `curfew_cause`.
    pub cause: u32,
    /// The policy it lives under.
    pub policy: u32,
    /// 1 if it is bound to something.
    pub bound: u32,
    /// 1 if this is the old key of a session that was rotated.
    pub rotated: u32,
    /// Zero.
    pub reserved: u32,
}

/// What happened to a session.
#[repr(u32)]
pub enum curfew_what {
    /// It ended. Every session that ends does so in exactly one such event.
    CURFEW_EVENT_ENDED = 1,
    /// It got a new id; the event has the old key.
    CURFEW_EVENT_ROTATED = 2,
    /// Something that was still open of a session that had ended was cut off (`curfew_report_cut`), as often
    /// as there was something to cut.
    CURFEW_EVENT_CUT = 3,
}

/// Something that happened to a session.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curfew_event {
    /// `sizeof(curfew_event)`. In an array you set the first one's.
    pub struct_size: usize,
    /// Its number. Events are numbered from zero over the whole life of a region.
    pub number: u64,
    /// When; of an end by a deadline, the deadline; of a cut, when it was made.
    pub at: curfew_tick,
    /// The session's key.
    pub key: curfew_key,
    /// Whose it was; zero for nobody's.
    pub subject: curfew_subject,
    /// From its start or last re-authentication to `at`.
    pub age_ms: u64,
    /// From its last activity to `at`.
    pub idle_ms: u64,
    /// A `curfew_what`.
    pub what: u32,
    /// A `curfew_cause`.
    pub cause: u32,
    /// The policy it lived under.
    pub policy: u32,
    /// Zero.
    pub reserved: u32,
    /// Of `CURFEW_EVENT_CUT`, the bytes that had been sent to the client by then; else zero.
    pub bytes: u64,
}

/// A session that something is open of: a WebSocket, a download, a long poll. It is yours: copy it, keep it
/// where you keep the connection; there is nothing to give back. It knows its session by the key: if the
/// same id is begun anew after its session was ended and forgotten, all between two looks, the new one is
/// taken for it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curfew_watch {
    /// `sizeof(curfew_watch)`, set by you or by `curfew_watch_init`.
    pub struct_size: usize,
    /// The session's key. Calls put the new one here when the session got a new id.
    pub key: curfew_key,
    /// What the request proved to have when it was let through; zero for nothing.
    pub binding: curfew_binding,
}

/// What a table holds, and has counted.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curfew_stats {
    /// `sizeof(curfew_stats)`, set by you or by `curfew_stats_init`.
    pub struct_size: usize,
    /// Sessions the region has room for.
    pub capacity: u64,
    /// Bytes of the region.
    pub bytes: u64,
    /// Records in use: live sessions and ended ones that are still remembered.
    pub used: u64,
    /// Sessions that were not ended yet, those included whose time has come since the last advance.
    pub live: u64,
    /// Sessions started.
    pub started: u64,
    /// Sessions ended, by `curfew_cause`.
    pub ended: [u64; 10],
    /// Sessions that got a new id.
    pub rotated: u64,
    /// Starts that were refused because the region was full.
    pub refused_full: u64,
    /// Starts that were refused because the subject had enough sessions.
    pub refused_limited: u64,
    /// Requests that did not present what their session is bound to.
    pub mismatches: u64,
    /// Events written.
    pub events: u64,
    /// Times that something was rebuilt because its last user had died in the middle.
    pub recoveries: u64,
}

/// What a snapshot holds. When sessions change while it is taken, some are counted twice.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curfew_snapshotted {
    /// `sizeof(curfew_snapshotted)`, set by you or by `curfew_snapshotted_init`.
    pub struct_size: usize,
    /// Sessions that nobody had ended.
    pub live: u64,
    /// Ended sessions that are still remembered.
    pub ended: u64,
    /// Records that were left out because nothing can be made of them (`curfew_repair`).
    pub damaged: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// What a region that is restored from a snapshot is to be, where it differs from the one before.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curfew_restore_options {
    /// `sizeof(curfew_restore_options)`, set by you or by `curfew_restore_options_init`.
    pub struct_size: usize,
    /// Sessions it has room for; zero for as many as before.
    pub capacity: u64,
    /// Events that are remembered; zero for as many as before.
    pub events: u64,
    /// How long it was from the snapshot to now, where the clocks cannot tell (`CURFEW_CLOCKS`) or tell it wrong;
    /// zero to go by the clocks. What has certainly passed, which is the time since the boot at least, counts in
    /// any case.
    pub downtime_ms: u64,
    /// `CURFEW_HUGE_PAGES`, or zero.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
}

/// What came back from a snapshot.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct curfew_restored {
    /// `sizeof(curfew_restored)`, set by you or by `curfew_restored_init`.
    pub struct_size: usize,
    /// Sessions that go on.
    pub live: u64,
    /// Sessions whose time has come meanwhile. They have ended; the next `curfew_advance` reports them.
    pub over: u64,
    /// Sessions that had ended before, and are still remembered.
    pub ended: u64,
    /// Sessions that had ended before, and need not be remembered any longer.
    pub forgotten: u64,
    /// The time that counts against every session.
    pub downtime_ms: u64,
    /// The tick that it is now.
    pub now: curfew_tick,
}

/// Holds for every struct: no padding, and the sizes of the first versions.
macro_rules! growing {
    ($($name:ident: $($field:ty),+ = $first:literal;)+) => {$(
        // SAFETY: `repr(C)`; the assertions: as large as its fields together, so nothing lies
        // between them; the size comes first; they are numbers and pointers, of which any bits are one.
        unsafe impl Growing for $name {
            const FIRST: usize = $first;
        }
        const _: () = {
            assert!(size_of::<$name>() == size_of::<usize>() $(+ size_of::<$field>())+);
            assert!(std::mem::offset_of!($name, struct_size) == 0 && size_of::<$name>() >= $first);
        };
    )+};
}

#[cfg(target_pointer_width = "64")]
growing! {
    curfew_error: [i32; 2], [c_char; 496] = 512;
    curfew_config: [u64; 2], *const u8, i64, [u32; 2] = 48;
    curfew_policy: [u64; 4], [u32; 6] = 64;
    curfew_start_options: [u32; 2], [u64; 3] = 40;
    curfew_verdict: [u32; 6], [u64; 6] = 80;
    curfew_filter: [u32; 2], [u64; 2] = 32;
    curfew_session: curfew_key, [u64; 5], [u32; 6] = 88;
    curfew_event: [u64; 2], curfew_key, [u64; 3], [u32; 4], u64 = 80;
    curfew_watch: curfew_key, u64 = 32;
    curfew_stats: [u64; 5], [u64; 10], [u64; 6] = 176;
    curfew_snapshotted: [u64; 4] = 40;
    curfew_restore_options: [u64; 3], [u32; 2] = 40;
    curfew_restored: [u64; 6] = 56;
}

const _: () = assert!(CURFEW_NEVER == curfew_engine::Tick::NEVER.as_millis());
const _: () = assert!(curfew_status::CURFEW_OK as i32 == 0);

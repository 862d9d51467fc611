//! Snapshots: what a region holds, in a file that outlives the boot, and the way back.
//!
//! Regions live in memory, and their times are of one boot. A snapshot ties the times to the clocks
//! (moment.rs), so that a region restored from it, of whatever size, counts the time in between
//! against every session. Ticks are not converted: the new region's epoch is chosen such that *now*
//! is the snapshot's tick plus that time, and everything that was going to happen, happens.
//!
//! **Taking one** (write.rs) locks nobody out. Records are read as touches read them, one after the
//! other, and the events that come up meanwhile are followed, because records change hands under
//! one's eyes: a session that gets a new id moves from a record that was not looked at yet to one
//! that was, and would be missed; or the other way round, and be there twice. So whatever an event
//! names is read again and written again, and of the entries for one key the last one counts.
//! Then every lock is taken once and let go, so that no rotation is halfway, and the events are
//! followed to their end. Policies are read last, when nothing is written any more that was judged
//! by an older one without it being known.
//!
//! **Reading one** (read.rs) believes nothing: owner, mode and length of the file, two checksums,
//! every field of every entry; all of it before any of it is used.
//!
//! **Moving** (moving.rs) is both at once, into another region of the same file, under the eyes of those
//! who use it.
//!
//! **Restoring** (restore.rs) puts the records into an empty region as they were. What has ended
//! meanwhile has ended by the state function like everything else; the next advance reports it.

mod format;
mod moving;
mod read;
mod restore;
mod write;

pub use moving::Move;
pub use read::Snapshot;
pub use restore::Restored;
pub use write::Snapshotted;

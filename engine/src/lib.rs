//! Curfew's engine: decides whether a session may go on.
//!
//! A [`Table`] holds sessions in a region of memory, private or shared between processes, and
//! answers for each request whether its session is active, in grace, or over, and why. It has no
//! clock, no threads and no I/O of its own: every verb takes `now`.
//!
//! ```
//! use curfew_engine::{Binding, Config, Policy, Span, Start, Table, Tick, Verdict};
//!
//! let table = Table::private(&Config::new(100_000))?;
//! let staff = Policy::new().idle(Span::from_mins(15)).lifetime(Span::from_mins(8 * 60));
//! let staff = table.set_policy("staff", &staff, Tick::ZERO)?;
//!
//! let key = table.key(b"the session id, as the cookie has it");
//! table.start(key, &Start::under(staff).of(table.subject(b"alice")), Tick::ZERO)?;
//!
//! let minute = |n| Tick::ZERO.after(Span::from_mins(n));
//! assert!(matches!(table.touch(key, Binding::NONE, minute(14)), Verdict::Active(_)));
//! assert!(matches!(table.touch(key, Binding::NONE, minute(28)), Verdict::Active(_)));
//! // At exactly 15 minutes without activity the session is over.
//! assert!(matches!(table.touch(key, Binding::NONE, minute(43)), Verdict::Ended(_)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Consistency
//!
//! [`Table::touch`] and [`Table::peek`] are wait-free and exact to the millisecond of the `now` they
//! are given, whatever [`Table::advance`] has or has not processed. A session that was ended by a
//! call that returned is ended for every call that begins afterwards, in every process; nothing
//! brings it back. A touch that was answered with `Active` counts as activity. A process that dies
//! at any point takes along at most the call it was in; the next one that needs what it had locked
//! puts that right from the records. `docs/protocol.md` says how.
//!
//! What is in a region is not trusted: foreign bytes can give wrong answers about the sessions they
//! claim to be, and nothing worse.
//!
//! # Several at once
//!
//! A step waits for memory more than for anything else. Who has several requests at hand can have their memory asked for while
//! others are answered: [`Table::touch_many`] for touches, [`Table::ahead`] for steps of any kind.
//!
//! # Time and restarts
//!
//! `now` is [`Table::tick_at`] of the steady clock of [`Moment::now`], for every process of a region.
//! [`Table::snapshot`] writes a region to a file while others use it, and [`Snapshot`] restores it
//! after a reboot, or into a region of another size, with the downtime counted against every
//! session. `docs/snapshots.md` and `docs/time.md` say what that promises.

#![deny(missing_docs)]
#![deny(unsafe_code)]

mod atomic;
mod backing;
mod cause;
#[cfg(feature = "crash-points")]
pub mod crash;
mod error;
mod events;
mod index;
mod key;
mod layout;
mod lock;
#[cfg(all(test, loom))]
mod models;
mod moment;
#[cfg(not(loom))]
mod moving;
mod owner;
mod policies;
mod policy;
mod record;
#[allow(unsafe_code)]
mod region;
mod shard;
#[cfg(not(loom))]
mod snapshot;
mod state;
mod subjects;
mod table;
mod time;
mod wheel;

pub use backing::Config;
pub use cause::{Cause, End};
pub use error::{
    ChangeError, ClockError, CopyError, CreateError, MoveError, OpenError, PolicyError, RestoreError, RotateError,
    SnapshotError, SnapshotOpenError, StartError,
};
pub use events::{Event, EventReader, What};
pub use key::{Binding, Key, Subject};
pub use moment::Moment;
#[cfg(not(loom))]
pub use moving::Moving;
pub use policies::PolicyId;
pub use policy::{GraceMode, OnFull, OnLimit, OnMismatch, Policy, Retain};
#[cfg(not(loom))]
pub use region::Memory;
#[cfg(not(loom))]
pub use snapshot::{Move, Restored, Snapshot, Snapshotted};
pub use state::{Deadlines, Life, State, deadlines, keep_until, state};
pub use table::{
    Advance, Ahead, Batched, Changed, Damage, Filter, Left, Mismatch, Rotated, Seen, SessionInfo, Start, Started,
    Stats, Table, Verdict, Watch,
};
pub use time::{Span, Tick};

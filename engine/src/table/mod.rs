//! The public face: a table of sessions, and one file for each group of its verbs.

mod advance;
mod ahead;
mod change;
mod check;
pub(crate) mod copy;
mod left;
mod list;
mod start;
pub(crate) mod touch;
mod watch;

#[cfg(not(loom))]
use std::ffi::CStr;
#[cfg(not(loom))]
use std::os::fd::{BorrowedFd, OwnedFd};
#[cfg(not(loom))]
use std::path::Path;
use std::sync::atomic::AtomicUsize;

pub use advance::Advance;
pub use ahead::{Ahead, Batched};
pub use change::{Filter, Rotated};
pub use check::Damage;
pub use left::Left;
pub use list::SessionInfo;
pub use start::{Start, Started};
pub use touch::{Mismatch, Verdict};
pub use watch::{Changed, Seen, Watch};

use crate::backing::{self, Config};
use crate::cause::Cause;
#[cfg(not(loom))]
use crate::error::OpenError;
use crate::error::{CreateError, PolicyError};
use crate::events::EventReader;
use crate::key::{Binding, Key, Secret, Subject};
use crate::layout::header;
use crate::policies::PolicyId;
use crate::policy::Policy;
#[cfg(not(loom))]
use crate::region::Memory;
use crate::region::Region;
use crate::shard::field;
use crate::time::Tick;

/// A table of sessions in a region.
///
/// Every verb takes `&self` and may be called from any thread; a file region may be used by
/// several processes at once, each of which opens it for itself. Every verb takes `now`, a time
/// that the caller reads from a clock that does not go backwards, in milliseconds since the
/// region's epoch; callers may disagree about it by their lag without harm.
pub struct Table {
    pub(crate) region: Region,
    secret: Secret,
    /// Where the next `advance` begins, so that a small budget reaches every shard.
    turn: AtomicUsize,
}

/// What a table has counted, and what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Sessions the region has room for.
    pub capacity: u64,
    /// Bytes of the region.
    pub bytes: u64,
    /// Records in use: live sessions and ended ones that are still kept.
    pub used: u64,
    /// Sessions that were not ended yet. Those whose time has come since the last advance count.
    pub live: u64,
    /// Sessions started.
    pub started: u64,
    /// Sessions ended, by cause, in the order of [`Cause::ALL`].
    pub ended: [u64; 9],
    /// Sessions that got a new id.
    pub rotated: u64,
    /// Starts that were refused because the region was full.
    pub refused_full: u64,
    /// Starts that were refused because the subject had enough sessions.
    pub refused_limited: u64,
    /// Requests that presented another binding than their session's.
    pub mismatches: u64,
    /// Events written since the region was created.
    pub events: u64,
    /// Times that something was rebuilt because its last user had died in the middle.
    pub recoveries: u64,
}

impl Stats {
    /// Sessions ended, whatever the cause.
    #[must_use]
    pub fn ended_in_all(&self) -> u64 {
        self.ended.iter().copied().fold(0, u64::saturating_add)
    }

    /// Sessions ended for one cause.
    #[must_use]
    pub fn ended_by(&self, cause: Cause) -> u64 {
        self.ended[cause as usize - 1]
    }
}

impl Table {
    pub(crate) fn new(region: Region) -> Table {
        let secret = Secret(std::array::from_fn(|word| region.get(header::SECRET + word)));
        Table { region, secret, turn: AtomicUsize::new(0) }
    }

    /// A table in memory of this process's own. Memory is taken as it is used.
    ///
    /// # Errors
    /// [`CreateError`] when the configuration is out of range or the system has no address space.
    pub fn private(config: &Config) -> Result<Table, CreateError> {
        backing::private(config).map(Table::new)
    }

    /// Creates a region file with mode 0600, which other processes of this user can open. It takes all of
    /// its room at once, so that nobody is killed for want of it later, where the file system can
    /// promise that. It must be on a file system of this machine.
    ///
    /// # Errors
    /// [`CreateError::Exists`] when there is something at `path`, which is then left alone;
    /// [`CreateError`] otherwise.
    #[cfg(not(loom))]
    pub fn create(path: &Path, config: &Config) -> Result<Table, CreateError> {
        backing::create(path, config).map(Table::opened)
    }

    /// Opens a region file that another process has created, or this one has before.
    ///
    /// # Errors
    /// [`OpenError`] when it is a symbolic link, another user's, readable by others, truncated,
    /// damaged, of another version, or from before the machine's last boot.
    #[cfg(not(loom))]
    pub fn open(path: &Path) -> Result<Table, OpenError> {
        backing::open(path, None, false).map(Table::opened)
    }

    /// A table of this process's own that holds what a region held when somebody read these bytes:
    /// to look into a copy of a region file without taking part in it, also one from another
    /// machine or from before the last boot. What is a good `now` for it is for the caller to know.
    ///
    /// A copy that was made while others were at work may be torn; [`Table::repair`] mends what a
    /// process that died at that moment would have left.
    ///
    /// # Errors
    /// [`OpenError`] when the bytes are truncated, damaged in the header, of another version, or no
    /// region at all.
    #[cfg(not(loom))]
    pub fn from_bytes(bytes: &[u8]) -> Result<Table, OpenError> {
        let region = backing::copy_of(bytes)?;
        region.abandon_locks(|_| true);
        Ok(Table::new(region))
    }

    /// A region that this process has only just opened: it holds none of the locks.
    #[cfg(not(loom))]
    fn opened(region: Region) -> Table {
        region.abandon_locks(|holder| holder == region.owner.id);
        Table::new(region)
    }

    /// Opens a region file that belongs to `owner`, which this process, as root, may do in its place.
    ///
    /// # Errors
    /// As [`Table::open`].
    #[cfg(not(loom))]
    pub fn open_owned_by(path: &Path, owner: u32) -> Result<Table, OpenError> {
        backing::open(path, Some(owner), false).map(Table::opened)
    }

    /// Creates a region in memory that other processes can map and that has no name: whoever
    /// inherits the descriptor opens it with [`Table::open_fd`]. It is gone when the last descriptor
    /// and the last table are. `/proc` shows it as `/memfd:NAME`, with at most 249 bytes of `name`.
    ///
    /// # Errors
    /// As [`Table::create`].
    #[cfg(not(loom))]
    pub fn create_memfd(name: &CStr, config: &Config) -> Result<OwnedFd, CreateError> {
        backing::create_memfd(name, config)
    }

    /// Opens the region behind a descriptor, which may have been inherited: each process, and each
    /// call, becomes an opener of its own. The descriptor is only looked at. The region must belong to
    /// `owner`, or to this process's user when there is none.
    ///
    /// # Errors
    /// As [`Table::open`].
    #[cfg(not(loom))]
    pub fn open_fd(fd: BorrowedFd<'_>, owner: Option<u32>) -> Result<Table, OpenError> {
        backing::open_fd(fd, owner).map(Table::opened)
    }

    /// Opens the region file at `path`, or creates it when there is none. Of several processes that
    /// do this at once, one creates it and the others open what it made.
    ///
    /// # Errors
    /// As [`Table::create`] and [`Table::open`].
    #[cfg(not(loom))]
    pub fn open_or_create(path: &Path, config: &Config) -> Result<Table, CreateError> {
        match Table::create(path, config) {
            Err(CreateError::Exists { .. }) => {
                Ok(Table::opened(backing::open(path, config.owner, config.huge_pages).map_err(CreateError::Open)?))
            }
            other => other,
        }
    }

    /// Bytes of a region with this configuration.
    ///
    /// # Errors
    /// [`CreateError`] when the configuration is out of range.
    pub fn bytes_needed(config: &Config) -> Result<usize, CreateError> {
        config.layout().map(|layout| layout.bytes())
    }

    /// Creates a region in memory that the caller owns, and clears it first. With `locks`, a file
    /// that is made if it is missing, other processes that have the same memory can open the region
    /// ([`Table::open_in`]) while they name the same file; without, it is for this process's threads.
    ///
    /// # Errors
    /// [`CreateError::Memory`] and [`CreateError::Unaligned`] when the memory will not do,
    /// [`CreateError::Occupied`] when there is a region in it; [`CreateError`] otherwise.
    #[cfg(not(loom))]
    pub fn create_in(memory: &Memory, locks: Option<&Path>, config: &Config) -> Result<Table, CreateError> {
        backing::create_in(memory, locks, config).map(Table::new)
    }

    /// Opens a region that another process has created in memory which this one has too.
    ///
    /// # Errors
    /// As [`Table::open`]; [`OpenError::NotShared`] and [`OpenError::OtherLocks`] when those who have
    /// it open could not tell whether this process lives.
    #[cfg(not(loom))]
    pub fn open_in(memory: &Memory, locks: &Path) -> Result<Table, OpenError> {
        backing::open_in(memory, locks).map(Table::opened)
    }

    /// The descriptor by which other processes tell that this one lives. A child that is forked
    /// while the table is open has a copy of it, and as long as it does, its parent seems to live: the
    /// child must replace its copy (`dup2`) or close it, and open the region for itself to use it.
    #[cfg(not(loom))]
    #[must_use]
    pub fn liveness(&self) -> Option<BorrowedFd<'_>> {
        self.region.owner.descriptor()
    }

    /// The key of a session id. About 0.1 us; the id is not kept anywhere.
    #[must_use]
    pub fn key(&self, id: &[u8]) -> Key {
        self.secret.key(id)
    }

    /// The digest of a user's name; [`Subject::NONE`] for an empty one.
    #[must_use]
    pub fn subject(&self, name: &[u8]) -> Subject {
        self.secret.subject(name)
    }

    /// The digest of what a session is bound to; [`Binding::NONE`] for nothing.
    #[must_use]
    pub fn binding(&self, what: &[u8]) -> Binding {
        self.secret.binding(what)
    }

    /// What the steady clock said at tick zero ([`Config::epoch`]).
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.region.get(header::EPOCH) as i64
    }

    /// The tick of a reading of the steady clock ([`crate::Moment::steady`]): what every process
    /// that uses the region passes as `now`.
    #[must_use]
    pub fn tick_at(&self, steady: u64) -> Tick {
        let millis = i128::from(steady) - i128::from(self.epoch());
        Tick::from_millis(u64::try_from(millis.max(0)).unwrap_or(u64::MAX))
    }

    /// Adds a policy, or changes the one of this name for all sessions that live under it.
    ///
    /// A change applies at once: the next touch of any session sees it, and a session that had
    /// ended under the old policy before `now` stays ended. The timer catches up in the calls of
    /// [`Table::advance`] that follow, which look at every record once, within their budgets.
    ///
    /// # Errors
    /// [`PolicyError`] when the policy makes no sense, the name is empty or longer than 31 bytes,
    /// there are 64 policies already, or this one changed three times and the timer has not caught
    /// up yet ([`PolicyError::Busy`]).
    pub fn set_policy(&self, name: &str, policy: &Policy, now: Tick) -> Result<PolicyId, PolicyError> {
        self.region.set_policy(name, policy, now.as_now())
    }

    /// The policy of this name.
    #[must_use]
    pub fn policy_id(&self, name: &str) -> Option<PolicyId> {
        self.region.policy_by_name(name).map(|id| PolicyId(id as u8))
    }

    /// What a policy says now.
    #[must_use]
    pub fn policy(&self, id: PolicyId) -> Option<Policy> {
        self.region.rules(id.0).map(|rules| rules.policy)
    }

    /// All policies, by number.
    pub fn policies(&self) -> impl Iterator<Item = (PolicyId, String, Policy)> + '_ {
        (0..crate::layout::POLICIES).filter_map(|id| {
            let name = self.region.policy_name(id)?;
            let rules = self.region.rules(id as u8)?;
            Some((PolicyId(id as u8), name, rules.policy))
        })
    }

    /// A reader that begins with the oldest event that is still there.
    #[must_use]
    pub fn events(&self) -> EventReader<'_> {
        let oldest = self.region.event_head().saturating_sub(self.region.layout.events as u64 - 1);
        EventReader::new(&self.region, oldest)
    }

    /// A reader that goes on where [`EventReader::cursor`] said.
    #[must_use]
    pub fn events_from(&self, cursor: u64) -> EventReader<'_> {
        EventReader::new(&self.region, cursor)
    }

    /// A reader of what happens from now on.
    #[must_use]
    pub fn new_events(&self) -> EventReader<'_> {
        EventReader::new(&self.region, self.region.event_head())
    }

    /// What the table has counted. The figures are read one after the other while others go on.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let region = &self.region;
        // What stands in the region is not trusted, not even to add up.
        let sum = |of: usize| {
            let counts = (0..region.layout.shards).map(|shard| region.get(region.layout.shard(shard) + of));
            counts.fold(0, u64::saturating_add)
        };
        Stats {
            capacity: region.layout.capacity,
            bytes: region.layout.bytes() as u64,
            used: sum(field::USED),
            live: sum(field::LIVE),
            started: sum(field::STARTED),
            ended: Cause::ALL.map(|cause| sum(field::ENDED + cause as usize)),
            rotated: sum(field::ROTATED),
            refused_full: region.get(header::REFUSED_FULL),
            refused_limited: region.get(header::REFUSED_LIMITED),
            mismatches: region.get(header::MISMATCHES),
            events: region.event_head(),
            recoveries: region.get(header::RECOVERIES),
        }
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("layout", &self.region.layout).finish_non_exhaustive()
    }
}

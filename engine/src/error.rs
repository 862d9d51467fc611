//! What can go wrong, one type per verb.

use std::io;
use std::path::PathBuf;

use crate::cause::End;
use crate::time::Span;

/// Why a region could not be created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The capacity is zero or more than one region can hold.
    #[error("capacity {capacity} is out of range: 1 to {most} sessions")]
    Capacity {
        /// What was asked for.
        capacity: u64,
        /// The most there can be.
        most: u64,
    },
    /// The size of the event ring is out of range.
    #[error("an event ring of {events} is out of range: 0 (by capacity) or 16 to {most}")]
    Events {
        /// What was asked for.
        events: u64,
        /// The most there can be.
        most: u64,
    },
    /// Something is there already. It was not touched.
    #[error("{} exists: open it, or remove it first", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// The file system has no room for the region.
    #[error("{} needs {needed} bytes, and the file system has {free} left", path.display())]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// Bytes of the region.
        needed: u64,
        /// Bytes left.
        free: u64,
    },
    /// The system refused.
    #[error("cannot create {}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The memory that was lent does not begin where a region must.
    #[error("a region must begin at an address that is a multiple of {alignment}")]
    Unaligned {
        /// Of what.
        alignment: usize,
    },
    /// The memory that was lent is too small.
    #[error("the memory has {bytes} bytes, and the region needs {needed}")]
    Memory {
        /// What there is.
        bytes: u64,
        /// Bytes of the region.
        needed: u64,
    },
    /// The memory that was lent holds a region already. It was not touched.
    #[error("this memory holds a region already: open it, or clear the memory first")]
    Occupied,
    /// The system gave no memory or no random bytes for a private region.
    #[error("cannot create a region: {0}")]
    System(io::Error),
    /// The region was created and could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Why a region could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The system refused.
    #[error("cannot open {}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// Another process is moving it into a region of another size, which takes a moment.
    #[error("the region is being moved into one of another size: try again")]
    Moving,
    /// The system gave no memory for a copy.
    #[error("cannot copy the region: {0}")]
    System(io::Error),
    /// The path is a symbolic link, which could be made to point anywhere.
    #[error("{} is a symbolic link: name the file itself", path.display())]
    Symlink {
        /// Where.
        path: PathBuf,
    },
    /// Not a regular file.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// Where.
        path: PathBuf,
    },
    /// Another user's file: that user could change it under us.
    #[error("{} belongs to user {owner}, and should belong to user {me}", path.display())]
    Owner {
        /// Where.
        path: PathBuf,
        /// The file's owner.
        owner: u32,
        /// Whose it should be: the process's effective user, unless the caller named another.
        me: u32,
    },
    /// Others may read or write it; it holds the key of all digests.
    #[error("{} has mode {mode:03o}: others can read or write it; chmod 600", path.display())]
    Mode {
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Too short, or not as long as its header says.
    #[error("the region is {bytes} bytes long and should be {expected}: it was truncated, or is something else")]
    Length {
        /// What is there.
        bytes: u64,
        /// What should be.
        expected: u64,
    },
    /// Does not begin as a region does.
    #[error("this is not a Curfew region")]
    Magic,
    /// Written by a version with another layout.
    #[error(
        "the region has layout version {found}, this program uses {expected}: remove it, or use the program that made it"
    )]
    Version {
        /// What is there.
        found: u64,
        /// What this program uses.
        expected: u64,
    },
    /// The header does not agree with itself.
    #[error("the region's header is damaged: {what}")]
    Header {
        /// Which part.
        what: &'static str,
    },
    /// The region is from before the machine's last boot, so its times mean nothing now.
    #[error(
        "the region is from an earlier boot of this machine (or from another one): its times cannot be compared with today's: \
         remove it, and restore a snapshot"
    )]
    OtherBoot,
    /// There was another file at the path a moment later.
    #[error("{} was replaced while it was being opened: try again", path.display())]
    Replaced {
        /// Where.
        path: PathBuf,
    },
    /// The memory that was lent does not begin where a region must.
    #[error("a region begins at an address that is a multiple of {alignment}")]
    Unaligned {
        /// Of what.
        alignment: usize,
    },
    /// The region is in lent memory and was created without a file to lock: it is for the process
    /// that created it.
    #[error("the region was created for one process: create it with a lock file to share it")]
    NotShared,
    /// The region is in lent memory, and the processes that have it open lock another file.
    #[error("{} is not the lock file that this region was created with", path.display())]
    OtherLocks {
        /// Where.
        path: PathBuf,
    },
    /// Too many processes have it open.
    #[error("{most} processes have this region open already, which is the most there can be")]
    TooManyProcesses {
        /// The most.
        most: u64,
    },
    /// The file is there and is still empty: another process is creating it, or died doing so.
    #[error("the region was never finished: remove it")]
    Unfinished,
}

/// Why the time between two moments is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClockError {
    /// The clock that only goes forward says that it went back within one boot: the two moments
    /// are not of one machine, or not of one time namespace.
    #[error(
        "the clock since boot is {} ms earlier than before, in the same boot: read it in the same time namespace, \
         or state the downtime", .by.as_millis()
    )]
    SteadyBack {
        /// By how much.
        by: Span,
    },
    /// The machine was booted in between, and the clock on the wall says that it is earlier now.
    #[error(
        "the machine was booted meanwhile, and its wall clock is {} ms earlier than before: set the clock, \
         or state the downtime", .by.as_millis()
    )]
    WallBack {
        /// By how much.
        by: Span,
    },
    /// Sessions were active at times that have not come yet by the clocks.
    #[error(
        "sessions were active {} ms later than the clocks say it is: take ticks from the clock since boot \
         (Table::tick_at), or state the downtime", .by.as_millis()
    )]
    Ahead {
        /// By how much.
        by: Span,
    },
}

/// Why a policy was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Nothing would ever end.
    #[error("a policy needs idle or lifetime: with neither, no session would ever end")]
    NoLimit,
    /// A limit past the last tick.
    #[error("{field} is longer than time can be here (8,900 years); 0 switches a limit off")]
    TooLong {
        /// Which limit.
        field: &'static str,
    },
    /// Name empty or too long.
    #[error("a policy's name has 1 to 31 bytes, this one has {bytes}")]
    Name {
        /// Its length.
        bytes: usize,
    },
    /// No room for another.
    #[error("a region holds {most} policies, and all are taken")]
    TooMany {
        /// The most.
        most: usize,
    },
    /// This policy has changed too often since the sessions under it were last looked through.
    #[error(
        "this policy changed several times and its sessions are still being looked through: advance first, then try again"
    )]
    Busy,
}

/// Why a session was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The key's session is live.
    #[error("a session with this key is live")]
    Exists,
    /// The key's session has ended, and its record is still kept.
    #[error("a session with this key has ended ({})", .0.cause.name())]
    Ended(End),
    /// No room.
    #[error("the region is full")]
    Full,
    /// The subject has as many sessions as its policy allows.
    #[error("the subject has as many sessions as the policy allows")]
    Limited,
    /// The token has expired already.
    #[error("the token has expired already")]
    TokenExpired,
    /// No such policy in this region.
    #[error("there is no such policy")]
    UnknownPolicy,
}

/// Why a session was not changed (re-authenticated, rotated or ended).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// No session has this key.
    #[error("no session has this key")]
    Unknown,
    /// It has ended.
    #[error("the session has ended ({})", .0.cause.name())]
    Ended(End),
    /// The new token has expired already.
    #[error("the token has expired already")]
    TokenExpired,
}

/// Why an id was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RotateError {
    /// No session has the old key.
    #[error("no session has this key")]
    Unknown,
    /// The old session has ended.
    #[error("the session has ended ({})", .0.cause.name())]
    Ended(End),
    /// The old key has been rotated a moment ago, by a parallel request.
    #[error("this key has been rotated a moment ago")]
    Rotated,
    /// The new key is taken, by a live session or an ended one.
    #[error("the new key is taken")]
    Taken,
    /// No room for the new record.
    #[error("the region is full")]
    Full,
}

/// Why sessions could not be copied into another region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The other region has another secret, so the same id has another key there.
    #[error("the other region has another secret: create it with this one's")]
    OtherSecret,
    /// The other region has no room for all.
    #[error("the other region is full: {copied} sessions were copied")]
    Full {
        /// How many fitted.
        copied: u64,
    },
    /// The other region has no room for this one's policies.
    #[error("the other region has no room for the policies of this one")]
    Policies,
}

/// Why a snapshot was not taken. What was at its path is still there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The system refused.
    #[error("cannot write the snapshot {}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// There is a file at its path that is no snapshot. It was not touched.
    #[error("{} is no snapshot, and is not replaced by one: name another file, or remove it first", path.display())]
    Foreign {
        /// Where.
        path: PathBuf,
    },
    /// Sessions were active much later than the moment of the snapshot: ticks are not taken from
    /// the clock that the moment was read from, and a snapshot could not tell how old they are.
    #[error(
        "sessions were active {} ms later than the moment of the snapshot: take ticks from the clock since boot \
         (Table::tick_at)", .by.as_millis()
    )]
    Ahead {
        /// By how much.
        by: Span,
    },
    /// More ended at once than the ring of events can hold, again and again.
    #[error(
        "sessions ended faster than they could be followed, {passes} times over: try again when it is quieter, \
         or give the region a larger event ring"
    )]
    Overrun {
        /// How often it was tried.
        passes: usize,
    },
}

/// Why a region was not moved into one of another size. It is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// What it holds could not be written down.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// What was written down cannot be read.
    #[error(transparent)]
    Read(#[from] SnapshotOpenError),
    /// The new region could not be made or filled; it may be too small.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// Another process uses the region and has not paused, or has called the move off.
    #[error("another process uses the region and takes no part in moving it")]
    InUse,
    /// The file was moved so often that it should be made anew.
    #[error("the region was moved {most} times: stop all that use it, and restore a snapshot")]
    TooOften {
        /// Moves of one file.
        most: usize,
    },
}

/// Why a snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotOpenError {
    /// The file is not this user's own, or is no file, or the system refused.
    #[error(transparent)]
    File(#[from] OpenError),
    /// Too short, or not as long as its head says.
    #[error("the snapshot is {bytes} bytes long and should be {expected}: it was truncated, or is something else")]
    Length {
        /// What is there.
        bytes: u64,
        /// What should be; of a file without a whole head, the least there can be.
        expected: u64,
    },
    /// Does not begin as a snapshot does.
    #[error("this is not a Curfew snapshot")]
    Magic,
    /// Written by a version with another format.
    #[error("the snapshot has format version {found}, this program reads {expected}: use the program that made it")]
    Version {
        /// What is there.
        found: u64,
        /// What this program reads.
        expected: u64,
    },
    /// It is not as it was written.
    #[error("the snapshot is damaged: {what}")]
    Damaged {
        /// Which part is wrong.
        what: &'static str,
    },
    /// It has a policy under which sessions would never end.
    #[error("the snapshot has a policy {name:?} that cannot be: {source}")]
    Policy {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: PolicyError,
    },
    /// It has an entry that no region can have held.
    #[error("entry {number} of the snapshot is wrong: {what}")]
    Entry {
        /// Which, counted from zero.
        number: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Why a snapshot was not restored. No region was made, and those that are there are as they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Nobody knows how long ago the snapshot was taken.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// The new region could not be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The new region has no room for what the snapshot holds.
    #[error("a region for {capacity} sessions has no room for what the snapshot holds (up to {entries})")]
    Full {
        /// Of the new region.
        capacity: u64,
        /// Entries of the snapshot.
        entries: u64,
    },
    /// The configuration asks for another secret than the snapshot's.
    #[error("the snapshot was taken of a region with another secret: leave the secret out")]
    OtherSecret,
    /// The snapshot has one key alive twice.
    #[error("the snapshot has a session twice")]
    Twice,
    /// The file was changed after it was opened.
    #[error("the snapshot was changed while it was read")]
    Changed,
    /// The system refused to read on.
    #[error("cannot read the snapshot: {0}")]
    Read(#[from] io::Error),
}

//! What can go wrong, one type per verb.

use std::io;
use std::path::PathBuf;

use crate::cause::End;

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
    /// The path is a symbolic link, which could be made to point anywhere.
    #[error("{} is a symbolic link: name the region file itself", path.display())]
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
        "the region is from an earlier boot of this machine (or from another one): its times cannot be compared with today's"
    )]
    OtherBoot,
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

//! What functions answer. The numbers are fixed: a status may be added, never changed or reused.

use std::io;

use curfew_engine::{
    ChangeError, CreateError, OpenError, PolicyError, RestoreError, RotateError, SnapshotError, SnapshotOpenError,
    StartError,
};

/// What a function answers. `CURFEW_OK` is zero; the numbers never change meaning, and later
/// versions may add some. Outputs are written if and only if the answer is `CURFEW_OK`.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum curfew_status {
    /// Done.
    CURFEW_OK = 0,
    /// A pointer that must not be null is.
    CURFEW_NULL_ARGUMENT = 1,
    /// An argument is out of range, or arrays overlap.
    CURFEW_INVALID_ARGUMENT = 2,
    /// `struct_size` is not the size of this struct in any version: it was not set.
    CURFEW_STRUCT_SIZE = 3,
    /// The caller was built for a later version and asks for what this library does not know.
    CURFEW_UNSUPPORTED = 4,
    /// Not an open table: it was closed, or never was one.
    CURFEW_CLOSED = 5,
    /// The table was opened before this process was forked: open it in this process.
    CURFEW_FORKED = 6,
    /// A defect in Curfew; the call did not happen, or only in part. The region stays usable.
    CURFEW_PANIC = 7,
    /// The system refused; `curfew_error` has its number.
    CURFEW_SYSTEM = 8,
    /// As many tables are open in this process as there can be.
    CURFEW_TOO_MANY_TABLES = 9,
    /// The buffer is too small for the text and its final zero.
    CURFEW_BUFFER_TOO_SMALL = 10,

    /// There is something at this path, or a region in this memory, already. It was left alone.
    CURFEW_EXISTS = 20,
    /// There is nothing at this path.
    CURFEW_NOT_FOUND = 21,
    /// The file system has no room for the region.
    CURFEW_NO_SPACE = 22,
    /// This is something else than a region.
    CURFEW_NOT_A_REGION = 23,
    /// The region was made by a version of Curfew with another layout.
    CURFEW_OTHER_VERSION = 24,
    /// The region is truncated or damaged.
    CURFEW_DAMAGED = 25,
    /// The file is a link, another user's, or others can read or write it.
    CURFEW_UNSAFE_FILE = 26,
    /// The region is from before this machine's last boot: its times mean nothing now. Remove it, and restore a
    /// snapshot.
    CURFEW_OTHER_BOOT = 27,
    /// As many processes have the region open as there can be.
    CURFEW_TOO_MANY_PROCESSES = 28,
    /// The region was never finished, or the file was replaced just now.
    CURFEW_UNFINISHED = 29,
    /// The configuration is out of range.
    CURFEW_OUT_OF_RANGE = 30,
    /// The memory that was passed is too small or not aligned to 64 bytes.
    CURFEW_MEMORY = 31,
    /// The memory is not shared, or with another lock file.
    CURFEW_NOT_SHARED = 32,

    /// A policy needs `idle_ms` or `lifetime_ms`: with neither, no session would ever end.
    CURFEW_NO_LIMIT = 40,
    /// A limit is longer than time can be.
    CURFEW_TOO_LONG = 41,
    /// A policy's name has 1 to 31 bytes of UTF-8.
    CURFEW_BAD_NAME = 42,
    /// The region has as many policies as there can be.
    CURFEW_TOO_MANY_POLICIES = 43,
    /// The policy changed several times and its sessions are still being looked through: call
    /// `curfew_advance`, then try again.
    CURFEW_POLICY_BUSY = 44,
    /// There is no such policy in this region.
    CURFEW_UNKNOWN_POLICY = 45,

    /// A session with this key is live.
    CURFEW_SESSION_EXISTS = 60,
    /// The session has ended; `curfew_peek` says why and when.
    CURFEW_SESSION_ENDED = 61,
    /// The region is full.
    CURFEW_FULL = 62,
    /// The subject has as many sessions as the policy allows.
    CURFEW_LIMITED = 63,
    /// The token has expired already.
    CURFEW_TOKEN_EXPIRED = 64,
    /// No session has this key, or none that is still remembered.
    CURFEW_UNKNOWN_SESSION = 65,
    /// The key was rotated a moment ago, by a parallel request.
    CURFEW_ROTATED_ALREADY = 66,
    /// The new key belongs to a session, live or ended.
    CURFEW_KEY_TAKEN = 67,

    /// This is something else than a snapshot.
    CURFEW_NOT_A_SNAPSHOT = 80,
    /// The snapshot was made by a version of Curfew with another format.
    CURFEW_SNAPSHOT_VERSION = 81,
    /// The snapshot is not as long as it says; or it is too short to be one.
    CURFEW_SNAPSHOT_TRUNCATED = 82,
    /// The snapshot is not as it was written, or holds what no region can hold.
    CURFEW_SNAPSHOT_DAMAGED = 83,
    /// The clocks cannot tell how long ago the snapshot was taken, or how old its sessions are.
    CURFEW_CLOCKS = 84,
    /// Sessions ended faster than a snapshot could follow: try again when it is quieter.
    CURFEW_OVERRUN = 85,
}

/// Why a call was refused, in a number and, where there is more to say, in words.
pub(crate) struct Refusal {
    pub(crate) status: curfew_status,
    pub(crate) message: Option<String>,
    pub(crate) os_error: i32,
}

impl From<curfew_status> for Refusal {
    fn from(status: curfew_status) -> Refusal {
        Refusal { status, message: None, os_error: 0 }
    }
}

impl Refusal {
    pub(crate) fn new(status: curfew_status, message: impl ToString) -> Refusal {
        Refusal { status, message: Some(message.to_string()), os_error: 0 }
    }

    pub(crate) fn system(source: &io::Error, message: impl ToString) -> Refusal {
        let status = match source.kind() {
            io::ErrorKind::NotFound => curfew_status::CURFEW_NOT_FOUND,
            io::ErrorKind::StorageFull => curfew_status::CURFEW_NO_SPACE,
            _ => curfew_status::CURFEW_SYSTEM,
        };
        Refusal { os_error: source.raw_os_error().unwrap_or(0), ..Refusal::new(status, message) }
    }
}

impl From<CreateError> for Refusal {
    fn from(error: CreateError) -> Refusal {
        use curfew_status::*;
        let status = match &error {
            CreateError::Open(_) => {
                let CreateError::Open(error) = error else { return CURFEW_SYSTEM.into() };
                return error.into();
            }
            CreateError::Io { source, .. } | CreateError::System(source) => {
                return Refusal::system(source, &error);
            }
            CreateError::Capacity { .. } | CreateError::Events { .. } => CURFEW_OUT_OF_RANGE,
            CreateError::Exists { .. } | CreateError::Occupied => CURFEW_EXISTS,
            CreateError::NoSpace { .. } => CURFEW_NO_SPACE,
            CreateError::Unaligned { .. } | CreateError::Memory { .. } => CURFEW_MEMORY,
            _ => CURFEW_SYSTEM,
        };
        Refusal::new(status, error)
    }
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Refusal {
        use curfew_status::*;
        let status = match &error {
            OpenError::Io { source, .. } => return Refusal::system(source, &error),
            OpenError::NotAFile { .. } | OpenError::Magic => CURFEW_NOT_A_REGION,
            OpenError::Symlink { .. } | OpenError::Owner { .. } | OpenError::Mode { .. } => CURFEW_UNSAFE_FILE,
            OpenError::Length { .. } | OpenError::Header { .. } => CURFEW_DAMAGED,
            OpenError::Version { .. } => CURFEW_OTHER_VERSION,
            OpenError::OtherBoot => CURFEW_OTHER_BOOT,
            OpenError::TooManyProcesses { .. } => CURFEW_TOO_MANY_PROCESSES,
            OpenError::Unfinished | OpenError::Replaced { .. } | OpenError::Moving => CURFEW_UNFINISHED,
            OpenError::Unaligned { .. } => CURFEW_MEMORY,
            OpenError::NotShared | OpenError::OtherLocks { .. } => CURFEW_NOT_SHARED,
            _ => CURFEW_SYSTEM,
        };
        Refusal::new(status, error)
    }
}

impl From<PolicyError> for Refusal {
    fn from(error: PolicyError) -> Refusal {
        use curfew_status::*;
        let status = match error {
            PolicyError::NoLimit => CURFEW_NO_LIMIT,
            PolicyError::TooLong { .. } => CURFEW_TOO_LONG,
            PolicyError::Name { .. } => CURFEW_BAD_NAME,
            PolicyError::TooMany { .. } => CURFEW_TOO_MANY_POLICIES,
            PolicyError::Busy => CURFEW_POLICY_BUSY,
            _ => CURFEW_INVALID_ARGUMENT,
        };
        Refusal::new(status, error)
    }
}

impl From<SnapshotError> for Refusal {
    fn from(error: SnapshotError) -> Refusal {
        use curfew_status::*;
        let status = match &error {
            SnapshotError::Io { source, .. } => return Refusal::system(source, &error),
            SnapshotError::Foreign { .. } => CURFEW_EXISTS,
            SnapshotError::Ahead { .. } => CURFEW_CLOCKS,
            SnapshotError::Overrun { .. } => CURFEW_OVERRUN,
            _ => CURFEW_SYSTEM,
        };
        Refusal::new(status, error)
    }
}

impl From<SnapshotOpenError> for Refusal {
    fn from(error: SnapshotOpenError) -> Refusal {
        use curfew_status::*;
        let status = match &error {
            SnapshotOpenError::File(OpenError::NotAFile { .. }) | SnapshotOpenError::Magic => CURFEW_NOT_A_SNAPSHOT,
            SnapshotOpenError::File(_) => {
                let SnapshotOpenError::File(error) = error else { return CURFEW_SYSTEM.into() };
                return error.into();
            }
            SnapshotOpenError::Length { .. } => CURFEW_SNAPSHOT_TRUNCATED,
            SnapshotOpenError::Version { .. } => CURFEW_SNAPSHOT_VERSION,
            _ => CURFEW_SNAPSHOT_DAMAGED,
        };
        Refusal::new(status, error)
    }
}

impl From<RestoreError> for Refusal {
    fn from(error: RestoreError) -> Refusal {
        use curfew_status::*;
        let status = match &error {
            RestoreError::Create(_) => {
                let RestoreError::Create(error) = error else { return CURFEW_SYSTEM.into() };
                return error.into();
            }
            RestoreError::Read(source) => return Refusal::system(source, &error),
            RestoreError::Clock(_) => CURFEW_CLOCKS,
            RestoreError::Full { .. } => CURFEW_FULL,
            RestoreError::Twice | RestoreError::Changed => CURFEW_SNAPSHOT_DAMAGED,
            _ => CURFEW_SYSTEM,
        };
        Refusal::new(status, error)
    }
}

impl From<StartError> for curfew_status {
    fn from(error: StartError) -> curfew_status {
        use curfew_status::*;
        match error {
            StartError::Exists => CURFEW_SESSION_EXISTS,
            StartError::Ended(_) => CURFEW_SESSION_ENDED,
            StartError::Full => CURFEW_FULL,
            StartError::Limited => CURFEW_LIMITED,
            StartError::TokenExpired => CURFEW_TOKEN_EXPIRED,
            StartError::UnknownPolicy => CURFEW_UNKNOWN_POLICY,
            _ => CURFEW_INVALID_ARGUMENT,
        }
    }
}

impl From<ChangeError> for curfew_status {
    fn from(error: ChangeError) -> curfew_status {
        use curfew_status::*;
        match error {
            ChangeError::Unknown => CURFEW_UNKNOWN_SESSION,
            ChangeError::Ended(_) => CURFEW_SESSION_ENDED,
            ChangeError::TokenExpired => CURFEW_TOKEN_EXPIRED,
            _ => CURFEW_INVALID_ARGUMENT,
        }
    }
}

impl From<RotateError> for curfew_status {
    fn from(error: RotateError) -> curfew_status {
        use curfew_status::*;
        match error {
            RotateError::Unknown => CURFEW_UNKNOWN_SESSION,
            RotateError::Ended(_) => CURFEW_SESSION_ENDED,
            RotateError::Rotated => CURFEW_ROTATED_ALREADY,
            RotateError::Taken => CURFEW_KEY_TAKEN,
            RotateError::Full => CURFEW_FULL,
            _ => CURFEW_INVALID_ARGUMENT,
        }
    }
}

//! Reading a snapshot: everything is looked at before anything of it is used.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::{fmt, io};

use crate::backing::{self, Config};
use crate::error::{ClockError, OpenError, SnapshotOpenError};
use crate::key::Key;
use crate::moment::Moment;
use crate::snapshot::format::{ENTRY, Entry, HEAD, Head};
use crate::time::{Span, Tick};

/// Entries read at once.
const BATCH: usize = 1024;
/// By how much clocks of processes of one machine may differ.
const SKEW: Span = Span::from_mins(1);

/// A snapshot that is whole and makes sense, to restore regions from.
pub struct Snapshot {
    source: Source,
    pub(super) head: Head,
    /// Of the keys that were written again, the number of the entry that counts.
    pub(super) last_of: HashMap<Key, u64>,
    downtime: Option<Span>,
}

enum Source {
    File(File),
    Bytes(Vec<u8>),
}

impl Source {
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        match self {
            Source::File(file) => file.read_exact_at(bytes, at),
            Source::Bytes(all) => {
                let from = usize::try_from(at).ok().and_then(|at| all.get(at..at.checked_add(bytes.len())?));
                bytes.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}

impl Snapshot {
    /// Opens a snapshot file and looks through all of it: whether it belongs to this user alone, is
    /// no link, is as long as it says, has the right checksums, and whether every field of every
    /// entry is one that a region can hold.
    ///
    /// # Errors
    /// [`SnapshotOpenError`] says what is wrong with it.
    pub fn open(path: &Path) -> Result<Snapshot, SnapshotOpenError> {
        let (file, meta) = backing::open_own(path, OpenOptions::new().read(true))?;
        let bytes = meta.len();
        Snapshot::read(Source::File(file), bytes).map_err(|error| match error {
            ReadError::Io(source) => OpenError::Io { path: path.into(), source }.into(),
            ReadError::Refused(error) => error,
        })
    }

    /// The same from a file that was written just now and has no name.
    pub(super) fn from_file(file: File) -> Result<Snapshot, SnapshotOpenError> {
        let io = |source| OpenError::Io { path: "in memory".into(), source };
        let bytes = file.metadata().map_err(io)?.len();
        Snapshot::read(Source::File(file), bytes).map_err(|error| match error {
            ReadError::Io(source) => io(source).into(),
            ReadError::Refused(error) => error,
        })
    }

    /// The same from bytes in memory.
    ///
    /// # Errors
    /// [`SnapshotOpenError`] says what is wrong with them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Snapshot, SnapshotOpenError> {
        let length = bytes.len() as u64;
        Snapshot::read(Source::Bytes(bytes.to_vec()), length).map_err(|error| match error {
            ReadError::Io(_) => SnapshotOpenError::Length { bytes: length, expected: HEAD as u64 },
            ReadError::Refused(error) => error,
        })
    }

    fn read(source: Source, length: u64) -> Result<Snapshot, ReadError> {
        if length < HEAD as u64 {
            return Err(SnapshotOpenError::Length { bytes: length, expected: HEAD as u64 }.into());
        }
        let mut head = vec![0; HEAD];
        source.read_at(&mut head, 0)?;
        let head = Head::unpack(&head, length)?;
        let mut snapshot = Snapshot { source, head, last_of: HashMap::new(), downtime: None };
        let mut last_of = HashMap::new();
        let mut wrong = None;
        let sum = snapshot.each(|number, entry| {
            match entry {
                Err(what) if wrong.is_none() => wrong = Some(SnapshotOpenError::Entry { number, what }),
                Ok(entry) if entry.again || last_of.contains_key(&entry.key) => {
                    last_of.insert(entry.key, number);
                }
                _ => {}
            }
            Ok::<_, ReadError>(())
        })?;
        // A wrong checksum explains what is wrong with an entry better than the entry does.
        if sum != snapshot.head.sum {
            return Err(SnapshotOpenError::Damaged { what: "the checksum of its entries" }.into());
        }
        if let Some(wrong) = wrong {
            return Err(wrong.into());
        }
        snapshot.last_of = last_of;
        Ok(snapshot)
    }

    /// Gives `each` every entry with its number; says what the checksum of all is.
    pub(super) fn each<E: From<io::Error>>(
        &self,
        mut each: impl FnMut(u64, Result<Entry, &'static str>) -> Result<(), E>,
    ) -> Result<[u8; 32], E> {
        let mut sum = blake3::Hasher::new();
        let mut batch = vec![0; BATCH * ENTRY];
        for first in (0..self.head.entries).step_by(BATCH) {
            let count = (self.head.entries - first).min(BATCH as u64) as usize;
            let bytes = &mut batch[..count * ENTRY];
            self.source.read_at(bytes, HEAD as u64 + first * ENTRY as u64)?;
            sum.update(bytes);
            for (nth, bytes) in bytes.chunks_exact(ENTRY).enumerate() {
                each(first + nth as u64, Entry::unpack(bytes, &self.head))?;
            }
        }
        Ok(*sum.finalize().as_bytes())
    }

    /// The moment at which it was taken.
    #[must_use]
    pub fn taken(&self) -> Moment {
        self.head.moment
    }

    /// Entries in it: sessions, and ended ones that were still remembered.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.head.entries
    }

    /// A region as large as the one that the snapshot was taken of. Change the capacity, the events
    /// or the pages; the secret and the epoch are the snapshot's in any case.
    #[must_use]
    pub fn config(&self) -> Config {
        Config { events: self.head.events, ..Config::new(self.head.capacity) }
    }

    /// States how long it was from the snapshot to now, when clocks cannot tell, or tell it wrong. What has certainly passed counts all the same, if this is less.
    #[must_use]
    pub fn with_downtime(self, downtime: Span) -> Snapshot {
        Snapshot { downtime: Some(downtime), ..self }
    }

    /// The time between the snapshot and `moment`, all of which counts against every session.
    ///
    /// # Errors
    /// [`ClockError`] when the clocks cannot tell, and nobody has stated it.
    pub fn downtime(&self, moment: &Moment) -> Result<Span, ClockError> {
        match self.downtime {
            Some(stated) => Ok(stated.max(moment.at_least_since(&self.head.moment))),
            None => moment.since(&self.head.moment),
        }
    }

    /// The tick that it is at `moment`. Not before any activity in the snapshot.
    pub(super) fn tick_at(&self, moment: &Moment) -> Result<Tick, ClockError> {
        let now = self.head.tick.after(self.downtime(moment)?).as_now();
        if self.downtime.is_none() && self.head.newest > now.after(SKEW) {
            return Err(ClockError::Ahead { by: self.head.newest.since(now) });
        }
        Ok(now.max(self.head.newest))
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("taken", &self.head.moment).field("entries", &self.head.entries).finish()
    }
}

#[derive(Debug)]
enum ReadError {
    Io(io::Error),
    Refused(SnapshotOpenError),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> ReadError {
        ReadError::Io(error)
    }
}

impl From<SnapshotOpenError> for ReadError {
    fn from(error: SnapshotOpenError) -> ReadError {
        ReadError::Refused(error)
    }
}

//! Regions in memory that the caller lends: shared memory that a proxy has anyway.
//!
//! Such memory has no file whose bytes could be locked to show who lives, so processes that share
//! it name one beside it. The region notes which: two processes that locked the bytes of different
//! files would each take the other for dead. Without such a file a region has one owner, the
//! process that made it, and cannot be opened again.

use std::fs::{Metadata, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::bytes::check_header;
use super::file::{claim, open_own};
use super::{Config, check_whole, initialise};
use crate::atomic::Ordering;
use crate::error::{CreateError, OpenError};
use crate::layout::{HEADER, MAGIC, header};
use crate::moment::boot_marker;
use crate::owner::{Owner, Place};
use crate::region::{Memory, Region};

/// Creates a region in `memory`.
pub(crate) fn create_in(memory: &Memory, locks: Option<&Path>, config: &Config) -> Result<Region, CreateError> {
    let layout = config.layout()?;
    if !memory.is_aligned() {
        return Err(CreateError::Unaligned { alignment: Memory::ALIGNMENT });
    }
    if memory.bytes() < layout.bytes() {
        return Err(CreateError::Memory { bytes: memory.bytes() as u64, needed: layout.bytes() as u64 });
    }
    let words = &memory.words()[..layout.words];
    if words[header::MAGIC].load(Ordering::Acquire) == MAGIC {
        return Err(CreateError::Occupied);
    }
    let secret = config.secret().map_err(CreateError::System)?;
    let boot = boot_marker().map_err(CreateError::System)?;
    // Pages that are zero already need not become dirty.
    for word in words.iter().filter(|word| word.load(Ordering::Relaxed) != 0) {
        word.store(0, Ordering::Relaxed);
    }
    let mut region = Region::lent(memory, layout, Owner::private());
    if let Some(path) = locks {
        let mut options = OpenOptions::new();
        let (file, meta) = open_own(path, options.read(true).write(true).create(true).truncate(false).mode(0o600))?;
        region.owner = claim(file, path, Place::default(), &region)?;
        region.set(header::LOCKS, identity(&meta));
    }
    initialise(&region, config, secret, boot);
    Ok(region)
}

/// Opens the region that is in `memory`.
pub(crate) fn open_in(memory: &Memory, locks: &Path) -> Result<Region, OpenError> {
    if !memory.is_aligned() {
        return Err(OpenError::Unaligned { alignment: Memory::ALIGNMENT });
    }
    let words = memory.words();
    let bytes = memory.bytes() as u64;
    if words.len() < HEADER {
        return Err(OpenError::Length { bytes, expected: (HEADER * 8) as u64 });
    }
    let layout = check_header(|at| words[at].load(Ordering::Acquire))?;
    if words.len() < layout.words {
        return Err(OpenError::Length { bytes, expected: layout.bytes() as u64 });
    }
    let mut region = Region::lent(memory, layout, Owner::private());
    check_whole(&region, boot_marker().map_err(|source| OpenError::Io { path: locks.into(), source })?)?;
    let (file, meta) = open_own(locks, OpenOptions::new().read(true).write(true))?;
    match region.get(header::LOCKS) {
        0 => return Err(OpenError::NotShared),
        noted if noted != identity(&meta) => return Err(OpenError::OtherLocks { path: locks.into() }),
        _ => {}
    }
    region.owner = claim(file, locks, Place::default(), &region)?;
    Ok(region)
}

/// Which file this is, whatever it is called; not zero.
fn identity(meta: &Metadata) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&meta.dev().to_le_bytes()).update(&meta.ino().to_le_bytes());
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    u64::from_le_bytes(bytes) | 1
}

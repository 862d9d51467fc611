//! What bytes must be to be a region of ours, and a copy of one that is.

use super::{checksum, zeroes};
use crate::error::OpenError;
use crate::layout::{HEADER, Layout, MAGIC, MOST_CAPACITY, MOST_EVENTS, VERSION, header};
use crate::region::Region;

/// A region of this process's own that holds what another one held. Whatever clock its ticks were
/// counted by, and whoever had its locks, is not here.
pub(crate) fn copy_of(bytes: &[u8]) -> Result<Region, OpenError> {
    check_length(bytes.len() as u64)?;
    let words = || bytes.chunks_exact(8).map(|word| u64::from_le_bytes(*word.first_chunk().expect("eight bytes")));
    let layout = check_header(|at| words().nth(at).unwrap_or(0))?;
    if bytes.len() != layout.bytes() {
        return Err(OpenError::Length { bytes: bytes.len() as u64, expected: layout.bytes() as u64 });
    }
    let region = zeroes(layout, false).map_err(OpenError::System)?;
    // Pages of zeroes are there already, and need not be taken.
    words().enumerate().filter(|(_, word)| *word != 0).for_each(|(at, word)| region.set(at, word));
    check_sum(&region)?;
    Ok(region)
}

/// A region has a header at least.
pub(super) fn check_length(bytes: u64) -> Result<(), OpenError> {
    match bytes {
        0 => Err(OpenError::Unfinished),
        _ if bytes < (HEADER * 8) as u64 => Err(OpenError::Length { bytes, expected: (HEADER * 8) as u64 }),
        _ => Ok(()),
    }
}

/// What a header must say to be one of ours; the region that it heads.
pub(super) fn check_header(word: impl Fn(usize) -> u64) -> Result<Layout, OpenError> {
    if word(header::MAGIC) != MAGIC {
        return Err(OpenError::Magic);
    }
    if word(header::VERSION) != VERSION {
        return Err(OpenError::Version { found: word(header::VERSION), expected: VERSION });
    }
    let (capacity, events) = (word(header::CAPACITY), word(header::EVENTS));
    if !(1..=MOST_CAPACITY).contains(&capacity) {
        return Err(OpenError::Header { what: "its capacity" });
    }
    if !(16..=MOST_EVENTS).contains(&events) {
        return Err(OpenError::Header { what: "the size of its event ring" });
    }
    let layout = Layout::new(capacity, events);
    if word(header::WORDS) != layout.words as u64 || word(header::GEOMETRY) != layout.geometry() {
        return Err(OpenError::Header { what: "its geometry" });
    }
    Ok(layout)
}

pub(super) fn check_sum(region: &Region) -> Result<(), OpenError> {
    if region.get(header::SUM) == checksum(region) { Ok(()) } else { Err(OpenError::Header { what: "its checksum" }) }
}

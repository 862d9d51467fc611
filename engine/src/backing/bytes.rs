//! What bytes must be to be a region of ours, and a copy of one that is.

use super::{checksum, zeroes};
use crate::error::OpenError;
use crate::layout::{HEADER, Layout, MAGIC, MOST_CAPACITY, MOST_EVENTS, VERSION, header};
use crate::moving;
use crate::region::Region;

/// A region of this process's own that holds what another one held. Whatever clock its ticks were
/// counted by, and whoever had its locks, is not here.
pub(crate) fn copy_of(all: &[u8]) -> Result<Region, OpenError> {
    let mut from = 0;
    for _ in 0..=moving::MOST {
        let region = copy_of_one(all.get(from as usize..).unwrap_or_default(), from)?;
        match moving::target(region.get(header::MOVE), from) {
            Some(to) => from = to,
            None => {
                // Nobody moves a copy.
                region.set(header::MOVE, 0);
                return Ok(region);
            }
        }
    }
    Err(OpenError::Header { what: "where it has moved to" })
}

fn copy_of_one(bytes: &[u8], from: u64) -> Result<Region, OpenError> {
    check_length(bytes.len() as u64, from)?;
    let words = || bytes.chunks_exact(8).map(|word| u64::from_le_bytes(*word.first_chunk().expect("eight bytes")));
    let layout = check_header(|at| words().nth(at).unwrap_or(0))?;
    if !may_be_long(bytes.len() as u64, layout.bytes() as u64) {
        return Err(OpenError::Length { bytes: bytes.len() as u64, expected: layout.bytes() as u64 });
    }
    let region = zeroes(layout, false).map_err(OpenError::System)?;
    // Pages of zeroes are there already, and need not be taken.
    words().take(layout.words).enumerate().filter(|(_, word)| *word != 0).for_each(|(at, word)| region.set(at, word));
    check_sum(&region)?;
    Ok(region)
}

/// Whether a region of `expected` bytes can have `bytes` from its beginning to the end of its file: no
/// less, and more only if another region, one that it moves to, has been begun behind it.
pub(super) fn may_be_long(bytes: u64, expected: u64) -> bool {
    bytes == expected || bytes > expected.next_multiple_of(moving::PLACE)
}

/// A region has a header at least, also one that begins at `from`, to where another has moved.
pub(super) fn check_length(bytes: u64, from: u64) -> Result<(), OpenError> {
    match bytes {
        0 if from == 0 => Err(OpenError::Unfinished),
        0 => Err(OpenError::Header { what: "where it has moved to" }),
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
    if region.get(header::SUM) == checksum(|at| region.get(at)) {
        Ok(())
    } else {
        Err(OpenError::Header { what: "its checksum" })
    }
}

//! Pages of 2 MiB, with which touches of large regions miss the TLB less often.
//!
//! Private memory has them as it is used, if it asks for them. A file in memory (tmpfs, a memfd) has them in that
//! way only where /sys/kernel/mm/transparent_hugepage/shmem_enabled says so, and it says *never* nearly
//! everywhere; but what lies in small pages can be put together by who asks for that (Linux 6.1). Two things
//! are needed for it:
//!
//! - pages that are there: so all of the region's memory is taken at once;
//! - in each process that is to have it so, a mapping that begins as far beyond a multiple of 2 MiB as what it
//!   shows does in the file. The system sees to this only where it gives such pages by itself.
//!
//! Where the system cannot, pages are small.

use std::fs::File;
use std::io;

use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use crate::region::Region;

/// A multiple of [`crate::moving::PLACE`].
pub(super) const HUGE_PAGE: usize = 2 << 20;
const _: () = assert!((HUGE_PAGE as u64).is_multiple_of(crate::moving::PLACE));
/// Places that are tried for a mapping.
const PLACES: usize = 9;
/// Times that pages are put together before those that were in use each time stay small.
const ATTEMPTS: usize = 4;

/// Maps `len` bytes of a file from the byte `from` on, where pages of 2 MiB can lie.
///
/// The system lays a mapping as high as it can, so one that is longer begins lower by as much, unless another
/// thread maps something in between. What is beyond the region in it, and perhaps beyond the file, is looked at
/// by nobody.
pub(super) fn map(file: &File, from: u64, len: usize) -> io::Result<MmapRaw> {
    let mut longer_by = 0;
    for _ in 1..PLACES {
        let Ok(map) = MmapOptions::new().offset(from).len(len + longer_by).map_raw(file) else { break };
        let beyond = map.as_mut_ptr().addr().wrapping_sub(from as usize) % HUGE_PAGE;
        if len < HUGE_PAGE || beyond == 0 {
            return Ok(map);
        }
        longer_by = (longer_by + beyond) % HUGE_PAGE;
    }
    MmapOptions::new().offset(from).len(len).map_raw(file)
}

/// Asks for pages of 2 MiB as the memory is used.
pub(super) fn ask_for_huge(map: &MmapRaw) {
    let _ = map.advise(Advice::HugePage);
}

/// Takes the memory of a region at once, if it is a file in memory; says whether it has.
///
/// # Errors
/// When there is not enough, as whoever used it would find out in a worse way.
pub(super) fn take(file: &File, map: &MmapRaw, len: usize) -> io::Result<bool> {
    if fstatfs(file).map_err(io::Error::from)?.filesystem_type() != TMPFS_MAGIC {
        return Ok(false);
    }
    match map.advise_range(Advice::PopulateWrite, 0, len) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            // Linux before 5.14.
            Some(nix::libc::EINVAL) => Ok(false),
            Some(nix::libc::EFAULT) => Err(io::Error::from_raw_os_error(nix::libc::ENOSPC)),
            _ => Err(error),
        },
    }
}

/// Puts the pages of a region, whose memory is taken, together.
pub(super) fn put_together(region: &Region) {
    let _ = (0..ATTEMPTS).any(|_| region.put_together());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_one_page_of_2_mib_of_a_file_lies_in_one_of_memory() {
        let file = super::super::file::scratch().unwrap();
        file.set_len(32 << 20).unwrap();
        for from in [0, crate::moving::PLACE, 5 << 20] {
            // Other tests map memory meanwhile, so that one attempt may not be enough.
            let is_so = |_| {
                let map = map(&file, from, 8 << 20).unwrap();
                map.as_mut_ptr().addr() % HUGE_PAGE == from as usize % HUGE_PAGE
            };
            assert!((0..100).any(is_so), "from {from}");
        }
    }

    #[test]
    fn memory_that_is_not_there_is_an_error_and_not_found_out_by_who_uses_it() {
        let file = super::super::file::scratch().unwrap();
        // Beyond its end a file has as little as a full file system has left.
        file.set_len(4 << 20).unwrap();
        let map = map(&file, 0, 8 << 20).unwrap();
        // Linux before 5.14 takes none, there or not.
        if take(&file, &map, 4 << 20).unwrap() {
            assert_eq!(take(&file, &map, 8 << 20).unwrap_err().kind(), io::ErrorKind::StorageFull);
        }
    }
}

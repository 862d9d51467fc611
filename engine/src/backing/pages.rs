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
//! All of it is a hint: where something is missing, pages are small.

use std::fs::File;
use std::io;

use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use crate::region::Region;

const HUGE_PAGE: usize = 2 << 20;
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
        let map = MmapOptions::new().offset(from).len(len + longer_by).map_raw(file)?;
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
pub(super) fn take(file: &File, map: &MmapRaw, len: usize) -> bool {
    let is_in_memory = fstatfs(file).is_ok_and(|system| system.filesystem_type() == TMPFS_MAGIC);
    is_in_memory && map.advise_range(Advice::PopulateWrite, 0, len).is_ok()
}

/// Puts the pages of a region, whose memory is taken, together.
pub(super) fn put_together(region: &Region) {
    let _ = (0..ATTEMPTS).any(|_| region.put_together());
}

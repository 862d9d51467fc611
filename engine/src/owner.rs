//! Who holds a lock, and whether they still live.
//!
//! A process that opens a region file claims one of its owner numbers by an *open file
//! description lock* on a byte far behind the end of the file. The kernel gives that lock back
//! when the process is gone, however it went, and answers for it across pid namespaces, where a
//! process id would mean something else. A claim also raises the number's epoch, so that a later
//! process with the same number is not taken for the earlier one.
//!
//! An owner id is `epoch << 16 | number + 1`, never zero. Its holder is alive when it is this
//! process, or when the number's epoch is still the same and its byte is locked. All threads of a
//! process are one owner: a thread does not die alone without unwinding, and unwinding hands the
//! lock on (see lock.rs).
//!
//! A private region has one owner.

#[cfg(not(loom))]
use std::fs::File;

use crate::atomic::{Ordering, Word};
use crate::layout::{OWNERS, header};

/// Where the bytes that owners lock begin: no file is so long.
#[cfg(not(loom))]
const LOCK_BYTES: i64 = 1 << 60;

/// This process's place among the owners of a region.
pub(crate) struct Owner {
    pub(crate) id: u64,
    #[cfg(not(loom))]
    file: Option<File>,
}

impl Owner {
    /// The one owner of a private region.
    pub(crate) fn private() -> Owner {
        Owner {
            id: 1 << 16 | 1,
            #[cfg(not(loom))]
            file: None,
        }
    }

    /// Claims a number through `file`, an open file description of this process's own. `None` when
    /// all are taken.
    #[cfg(not(loom))]
    pub(crate) fn claim(file: File, words: &[Word]) -> std::io::Result<Option<Owner>> {
        for number in 0..OWNERS {
            if try_lock_byte(&file, number)? {
                // Only the holder of the byte writes the epoch.
                let epoch = words[header::EPOCHS + number].load(Ordering::Relaxed).wrapping_add(1) & 0xffff_ffff;
                words[header::EPOCHS + number].store(epoch, Ordering::Release);
                return Ok(Some(Owner { id: epoch << 16 | (number as u64 + 1), file: Some(file) }));
            }
        }
        Ok(None)
    }

    /// Whether another opener of the region is there, in this process or in another one.
    #[cfg(not(loom))]
    pub(crate) fn has_company(&self) -> bool {
        // The byte of this owner is not reported: a lock does not conflict with its own holder.
        self.file.as_ref().is_some_and(|file| (0..OWNERS).any(|number| is_byte_locked(file, number)))
    }

    /// Whether the holder of `id` can still be at work.
    pub(crate) fn is_alive(&self, id: u64, words: &[Word]) -> bool {
        if id == self.id {
            return true;
        }
        let Some(number) = (id & 0xffff).checked_sub(1).map(|number| number as usize) else { return false };
        if number >= OWNERS || words[header::EPOCHS + number].load(Ordering::Acquire) != id >> 16 {
            return false;
        }
        #[cfg(not(loom))]
        return self.file.as_ref().is_some_and(|file| is_byte_locked(file, number));
        #[cfg(loom)]
        false
    }
}

#[cfg(not(loom))]
fn byte(number: usize) -> nix::libc::flock {
    nix::libc::flock {
        l_type: nix::libc::F_WRLCK as i16,
        l_whence: nix::libc::SEEK_SET as i16,
        l_start: LOCK_BYTES + number as i64,
        l_len: 1,
        l_pid: 0,
    }
}

#[cfg(not(loom))]
fn try_lock_byte(file: &File, number: usize) -> std::io::Result<bool> {
    use nix::errno::Errno;
    match nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_OFD_SETLK(&byte(number))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(other) => Err(other.into()),
    }
}

#[cfg(not(loom))]
fn is_byte_locked(file: &File, number: usize) -> bool {
    let mut answer = byte(number);
    // An error is no answer: who cannot be shown dead is treated as alive.
    match nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_OFD_GETLK(&mut answer)) {
        Ok(_) => i32::from(answer.l_type) != nix::libc::F_UNLCK,
        Err(_) => true,
    }
}

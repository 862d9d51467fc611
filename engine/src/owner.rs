//! Who holds a lock, and whether they still live.
//!
//! A process that opens a region file claims one of its owner numbers by an *open file
//! description lock* on a byte far behind the end of the file. The kernel gives that lock back
//! when the process is gone, however it went, and answers for it across pid namespaces, where a
//! process id would mean something else. A claim also raises the number's epoch, so that a later
//! process with the same number is not taken for the earlier one. Each number has two bytes, and the
//! holder of an epoch locks that of its parity: so a process that has locked its byte and not raised
//! the epoch yet, for however long, does not make the one before it look alive.
//!
//! An owner id is `epoch << 16 | number + 1`, never zero. Its holder is alive when it is this
//! process, or when the number's epoch is still the same and the byte of that is locked. All threads of a
//! process are one owner: a thread does not die alone without unwinding, and unwinding hands the
//! lock on (see lock.rs).
//!
//! A private region has one owner.
//!
//! A forked child has a copy of the descriptor: the byte stays locked until the child, too, has let
//! go of it. It is therefore not the descriptor through which the region was mapped (a mapping
//! cannot be made to let go), and [`Owner::descriptor`] says which it is.

#[cfg(not(loom))]
use std::fs::File;
#[cfg(not(loom))]
use std::os::fd::{AsFd, BorrowedFd};

use crate::atomic::{Ordering, Word};
use crate::layout::{OWNERS, header};

/// Where the bytes that owners lock begin: no file is so long.
#[cfg(not(loom))]
const LOCK_BYTES: i64 = 1 << 60;

/// Where a region begins in the file whose bytes are locked: regions of one file have bytes of their own.
#[cfg(not(loom))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Place(pub(crate) u64);

/// This process's place among the owners of a region.
pub(crate) struct Owner {
    pub(crate) id: u64,
    #[cfg(not(loom))]
    locks: Option<Locks>,
}

/// The bytes that the owners of one region lock.
#[cfg(not(loom))]
struct Locks {
    file: File,
    place: Place,
}

impl Owner {
    /// The one owner of a private region.
    pub(crate) fn private() -> Owner {
        Owner {
            id: 1 << 16 | 1,
            #[cfg(not(loom))]
            locks: None,
        }
    }

    /// Claims a number through `file`, an open file description of this process's own. `None` when
    /// all are taken.
    #[cfg(not(loom))]
    pub(crate) fn claim(file: File, place: Place, words: &[Word]) -> std::io::Result<Option<Owner>> {
        let locks = Locks { file, place };
        for number in 0..OWNERS {
            let word = &words[header::EPOCHS + number];
            let last = word.load(Ordering::Acquire);
            let epoch = last.wrapping_add(1) & 0xffff_ffff;
            if !locks.try_lock(number, epoch)? {
                continue;
            }
            // From `last` only the holder of this byte leads on, so what is true now stays true.
            if word.load(Ordering::Acquire) == last && !locks.is_locked(number, last) {
                #[cfg(feature = "crash-points")]
                crate::crash::step_in_header();
                word.store(epoch, Ordering::Release);
                return Ok(Some(Owner { id: epoch << 16 | (number as u64 + 1), locks: Some(locks) }));
            }
            locks.unlock(number, epoch)?;
        }
        Ok(None)
    }

    /// Claims a number. Under loom its byte, which the kernel keeps, is a word of the header.
    #[cfg(loom)]
    pub(crate) fn claim(number: usize, words: &[Word]) -> Owner {
        let epoch = words[header::EPOCHS + number].load(Ordering::Relaxed) + 1;
        words[header::LOCKED + number].store(1, Ordering::Release);
        words[header::EPOCHS + number].store(epoch, Ordering::Release);
        Owner { id: epoch << 16 | (number as u64 + 1) }
    }

    /// What the kernel does when the process is gone: after everything that the process did.
    #[cfg(all(test, loom))]
    pub(crate) fn dies(&self, words: &[Word]) {
        words[header::LOCKED + (self.id & 0xffff) as usize - 1].store(0, Ordering::Release);
    }

    /// What the byte is locked through.
    #[cfg(not(loom))]
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.locks.as_ref().map(|locks| locks.file.as_fd())
    }

    /// Whether another opener of the region is there, in this process or in another one.
    #[cfg(not(loom))]
    pub(crate) fn has_company(&self) -> bool {
        self.others().next().is_some()
    }

    /// The numbers of the other openers.
    #[cfg(not(loom))]
    pub(crate) fn others(&self) -> impl Iterator<Item = usize> + '_ {
        // The byte of this owner is not reported: a lock does not conflict with its own holder.
        let locks = self.locks.iter();
        locks.flat_map(|locks| {
            (0..OWNERS).filter(|number| [0, 1].into_iter().any(|epoch| locks.is_locked(*number, epoch)))
        })
    }

    /// Where the region begins in its file.
    #[cfg(not(loom))]
    pub(crate) fn place(&self) -> u64 {
        self.locks.as_ref().map_or(0, |locks| locks.place.0)
    }

    /// This process's own number.
    #[cfg(not(loom))]
    pub(crate) fn number(&self) -> usize {
        (self.id & 0xffff) as usize - 1
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
        return self.locks.as_ref().is_some_and(|locks| locks.is_locked(number, id >> 16));
        #[cfg(loom)]
        return words[header::LOCKED + number].load(Ordering::Acquire) == 1;
    }
}

#[cfg(not(loom))]
impl Locks {
    fn byte(&self, number: usize, epoch: u64, kind: i32) -> nix::libc::flock {
        nix::libc::flock {
            l_type: kind as i16,
            l_whence: nix::libc::SEEK_SET as i16,
            l_start: LOCK_BYTES + self.place.0 as i64 + number as i64 * 2 + (epoch & 1) as i64,
            l_len: 1,
            l_pid: 0,
        }
    }

    fn try_lock(&self, number: usize, epoch: u64) -> std::io::Result<bool> {
        use nix::errno::Errno;
        let byte = self.byte(number, epoch, nix::libc::F_WRLCK);
        match nix::fcntl::fcntl(&self.file, nix::fcntl::FcntlArg::F_OFD_SETLK(&byte)) {
            Ok(_) => Ok(true),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }

    fn unlock(&self, number: usize, epoch: u64) -> std::io::Result<()> {
        let byte = self.byte(number, epoch, nix::libc::F_UNLCK);
        nix::fcntl::fcntl(&self.file, nix::fcntl::FcntlArg::F_OFD_SETLK(&byte))?;
        Ok(())
    }

    fn is_locked(&self, number: usize, epoch: u64) -> bool {
        let mut answer = self.byte(number, epoch, nix::libc::F_WRLCK);
        // An error is no answer: who cannot be shown dead is treated as alive.
        match nix::fcntl::fcntl(&self.file, nix::fcntl::FcntlArg::F_OFD_GETLK(&mut answer)) {
            Ok(_) => i32::from(answer.l_type) != nix::libc::F_UNLCK,
            Err(_) => true,
        }
    }
}

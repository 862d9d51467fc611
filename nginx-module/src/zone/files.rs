//! Where the region of a zone lies.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::ZoneError;

/// A path without links, as far as it is there.
pub(super) fn canonical(path: &Path) -> PathBuf {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(found), ..) => found,
        (Err(_), Some(folder), Some(name)) => canonical(folder).join(name),
        _ => path.to_owned(),
    }
}

/// The descriptor that workers open the region by.
pub(super) fn open_file(path: &Path) -> Result<OwnedFd, ZoneError> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC;
    let file: std::io::Result<File> = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    file.map(OwnedFd::from).map_err(|error| ZoneError::System("cannot open the region", error))
}

pub(super) fn copy_of(fd: BorrowedFd<'_>) -> Result<OwnedFd, ZoneError> {
    fd.try_clone_to_owned().map_err(|error| ZoneError::System("cannot copy a descriptor", error))
}

/// Whether a descriptor is of the file that was at `path`, and is there no more.
pub(super) fn was_removed(fd: BorrowedFd<'_>, path: &Path) -> bool {
    let mut removed = path.as_os_str().to_owned();
    removed.push(" (deleted)");
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).is_ok_and(|found| found == *removed)
}

/// Refuses a path whose folder is missing, with the one above.
pub(super) fn has_folder(path: &Path) -> Result<(), ZoneError> {
    let Some(folder) = path.parent() else { return Ok(()) };
    match folder.parent() {
        Some(above) if !folder.is_dir() && !above.is_dir() => Err(ZoneError::NoFolder(above.to_owned())),
        _ => Ok(()),
    }
}

/// Makes the last folder of the path, which under /run has to be made after every boot.
pub(super) fn make_folder_of(path: &Path) -> Result<(), ZoneError> {
    let made = match path.parent() {
        Some(folder) if !folder.exists() => std::fs::create_dir(folder),
        _ => Ok(()),
    };
    made.map_err(|error| ZoneError::System("cannot make the folder of the region", error))
}

//! The file that is written to: whole in the end, or as it was before.
//!
//! Half a log looks like a log. So it is written to a file without a name, which the system drops
//! together with a process that ends early, however it ends, and which gets its name at last. Where
//! that cannot be (a device, a pipe, a file system without such files) it is written in place. So is a
//! file of somebody else's that could not stay theirs: it would be ours without a word, and the folder's
//! permissions would have decided about it instead of its own.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, OFlags, linkat};

pub(crate) struct Place {
    pub(crate) file: File,
    /// What it is going to be called; none when it has its name already.
    name: Option<PathBuf>,
}

impl Place {
    pub(crate) fn new(path: &Path) -> io::Result<Place> {
        // A link to the file stays one.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let before = fs::symlink_metadata(&path);
        let replaceable = before.as_ref().map_or_else(
            |error| error.kind() == io::ErrorKind::NotFound,
            |metadata| metadata.is_file() && !metadata.permissions().readonly(),
        );
        if replaceable && let Ok(file) = unnamed(folder(&path), before.ok().as_ref()) {
            return Ok(Place { file, name: Some(path) });
        }
        Ok(Place { file: File::create(&path)?, name: None })
    }

    /// Gives the file its name.
    pub(crate) fn keep(self) -> io::Result<()> {
        let Some(name) = self.name else { return Ok(()) };
        // A name can be taken over only by a file that has one.
        let mut passing = name.clone().into_os_string();
        passing.push(format!(".{}", std::process::id()));
        let unnamed = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        linkat(CWD, unnamed, CWD, &passing, AtFlags::SYMLINK_FOLLOW)?;
        fs::rename(&passing, &name).inspect_err(|_| {
            // The rename's error is the one to tell.
            let _ = fs::remove_file(&passing);
        })
    }
}

/// A file without a name, with the owner, group and mode of the one that it is to replace.
fn unnamed(folder: &Path, before: Option<&Metadata>) -> io::Result<File> {
    let file = OpenOptions::new().write(true).custom_flags(OFlags::TMPFILE.bits().cast_signed()).open(folder)?;
    if let Some(before) = before {
        let made = file.metadata()?;
        // Not where it changes nothing: there are file systems that know no owners.
        if (made.uid(), made.gid()) != (before.uid(), before.gid()) {
            // Before the mode, of which a new owner takes bits away.
            fchown(&file, Some(before.uid()), Some(before.gid()))?;
        }
        file.set_permissions(before.permissions())?;
    }
    Ok(file)
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_as_it_was_until_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        fs::write(&path, "before").unwrap();
        let mut place = Place::new(&path).unwrap();
        place.file.write_all(b"half").unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(folder.path()).len()), ("before", 1));
        drop(place);
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(folder.path()).len()), ("before", 1));

        let mut place = Place::new(&path).unwrap();
        place.file.write_all(b"whole").unwrap();
        place.keep().unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(folder.path()).len()), ("whole", 1));
    }

    #[test]
    fn a_link_to_a_file_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("a.log"), folder.path().join("link"));
        fs::write(&path, "before").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut place = Place::new(&link).unwrap();
        place.file.write_all(b"whole").unwrap();
        place.keep().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_device_is_written_in_place() {
        let place = Place::new(Path::new("/dev/null")).unwrap();
        assert!(place.name.is_none());
        place.keep().unwrap();
    }
}

//! Region files: created whole or not at all, opened only if they are ours and in order.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use memmap2::MmapOptions;

use super::bytes::{check_header, check_length, check_sum};
use super::{Config, advise, boot_marker, initialise};
use crate::error::{CreateError, OpenError};
use crate::layout::{Layout, header};
use crate::owner::Owner;
use crate::region::Region;

/// Creates a region file. It appears at `path` whole or not at all.
pub(crate) fn create(path: &Path, config: &Config) -> Result<Region, CreateError> {
    let layout = config.layout()?;
    let io = |source| CreateError::Io { path: path.into(), source };
    let (unfinished, file) = temporary(path).map_err(io)?;
    let result = (|| {
        check_space(path, &file, layout.bytes() as u64)?;
        file.set_len(layout.bytes() as u64).map_err(io)?;
        let map = MmapOptions::new().len(layout.bytes()).map_raw(&file).map_err(io)?;
        let region = Region::new(map, layout, Owner::private());
        initialise(&region, config, config.secret().map_err(CreateError::System)?);
        // Unlike a rename, a link replaces nothing that somebody else made meanwhile.
        std::fs::hard_link(&unfinished, path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => CreateError::Exists { path: path.into() },
            _ => CreateError::Io { path: path.into(), source },
        })
    })();
    let _ = std::fs::remove_file(&unfinished);
    result?;
    Ok(open(path, config.huge_pages)?)
}

fn temporary(path: &Path) -> io::Result<(PathBuf, File)> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{:016x}.new", u64::from_le_bytes(random)));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&name)?;
    Ok((name.into(), file))
}

/// A file with holes that meets a full file system kills the process that fills them: better to be
/// refused now.
fn check_space(path: &Path, file: &File, needed: u64) -> Result<(), CreateError> {
    let Ok(system) = nix::sys::statvfs::fstatvfs(file) else { return Ok(()) };
    let free = system.blocks_available().saturating_mul(system.fragment_size());
    if free < needed {
        return Err(CreateError::NoSpace { path: path.into(), needed, free });
    }
    Ok(())
}

/// Opens a region file that exists.
pub(crate) fn open(path: &Path, huge_pages: bool) -> Result<Region, OpenError> {
    let io = |source| OpenError::Io { path: path.into(), source };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC | nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(|source| match source.raw_os_error() {
            Some(nix::libc::ELOOP) => OpenError::Symlink { path: path.into() },
            _ if path.is_dir() => OpenError::NotAFile { path: path.into() },
            _ => io(source),
        })?;
    let meta = file.metadata().map_err(io)?;
    let me = nix::unistd::geteuid().as_raw();
    if !meta.is_file() {
        return Err(OpenError::NotAFile { path: path.into() });
    }
    if meta.uid() != me {
        return Err(OpenError::Owner { path: path.into(), owner: meta.uid(), me });
    }
    if meta.mode() & 0o077 != 0 {
        return Err(OpenError::Mode { path: path.into(), mode: meta.mode() & 0o777 });
    }
    let layout = read_layout(&file, meta.len()).map_err(|error| match error {
        ReadLayout::Io(source) => io(source),
        ReadLayout::Refused(error) => error,
    })?;
    let map = MmapOptions::new().len(layout.bytes()).map_raw(&file).map_err(io)?;
    advise(&map, huge_pages);
    let mut region = Region::new(map, layout, Owner::private());
    check_sum(&region)?;
    if region.get(header::BOOT) != boot_marker() {
        return Err(OpenError::OtherBoot);
    }
    let claimed = Owner::claim(file, region.words()).map_err(io)?;
    region.owner = claimed.ok_or(OpenError::TooManyProcesses { most: crate::layout::OWNERS as u64 })?;
    Ok(region)
}

enum ReadLayout {
    Io(io::Error),
    Refused(OpenError),
}

/// Reads the geometry from the file, not from the mapping, so that a short file is never touched
/// beyond its end.
fn read_layout(file: &File, bytes: u64) -> Result<Layout, ReadLayout> {
    use std::os::unix::fs::FileExt;
    check_length(bytes).map_err(ReadLayout::Refused)?;
    let mut head = [0; (header::SUM + 1) * 8];
    file.read_exact_at(&mut head, 0).map_err(ReadLayout::Io)?;
    let word = |at: usize| head[at * 8..at * 8 + 8].iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
    check_header(word, bytes).map_err(ReadLayout::Refused)
}

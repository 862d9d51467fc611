//! Region files, with a name and without: created whole or not at all, opened only if they are
//! ours and in order.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use memmap2::MmapOptions;

use super::bytes::{check_header, check_length};
use super::{Config, advise, check_whole, initialise};
use crate::error::{CreateError, OpenError};
use crate::layout::{Layout, header};
use crate::moment::boot_marker;
use crate::owner::Owner;
use crate::region::Region;

/// Creates a region file. It appears at `path` whole or not at all.
pub(crate) fn create(path: &Path, config: &Config) -> Result<Region, CreateError> {
    create_with(path, config, |_| Ok(()))
}

/// The same, with what `fill` puts into the region before anybody else can see it.
pub(crate) fn create_with<E: From<CreateError>>(
    path: &Path,
    config: &Config,
    fill: impl FnOnce(Region) -> Result<(), E>,
) -> Result<Region, E> {
    let layout = config.layout()?;
    let io = |source| CreateError::Io { path: path.into(), source };
    // What is there already is not worth filling another one for.
    if path.symlink_metadata().is_ok() {
        return Err(CreateError::Exists { path: path.into() }.into());
    }
    let (unfinished, file) = temporary(path).map_err(io)?;
    let result = (|| -> Result<(), E> {
        check_space(path, &file, layout.bytes() as u64)?;
        fill(write_new(&file, layout, config, io)?)?;
        // Unlike a rename, a link replaces nothing that somebody else made meanwhile.
        std::fs::hard_link(&unfinished, path).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => CreateError::Exists { path: path.into() },
            _ => CreateError::Io { path: path.into(), source },
        })?;
        Ok(())
    })();
    let _ = std::fs::remove_file(&unfinished);
    result?;
    Ok(open(path, config.owner, config.huge_pages).map_err(CreateError::Open)?)
}

/// Creates a region in memory that has no name: it lives as long as somebody holds the descriptor,
/// or a mapping.
pub(crate) fn create_memfd(config: &Config) -> Result<OwnedFd, CreateError> {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let layout = config.layout()?;
    let system = |error: nix::Error| CreateError::System(error.into());
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = File::from(memfd_create(c"curfew", flags).map_err(system)?);
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(CreateError::System)?;
    write_new(&file, layout, config, CreateError::System)?;
    // Nobody cuts it short under those who have it mapped.
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(system)?;
    Ok(file.into())
}

/// Makes an empty file the region that `config` describes.
fn write_new(
    file: &File,
    layout: Layout,
    config: &Config,
    io: impl Fn(io::Error) -> CreateError,
) -> Result<Region, CreateError> {
    file.set_len(layout.bytes() as u64).map_err(&io)?;
    let map = MmapOptions::new().len(layout.bytes()).map_raw(file).map_err(&io)?;
    advise(&map, config.huge_pages);
    let region = Region::new(map, layout, Owner::private());
    initialise(&region, config, config.secret().map_err(CreateError::System)?, boot_marker().map_err(&io)?);
    if let Some(owner) = config.owner {
        std::os::unix::fs::fchown(file, Some(owner), None).map_err(&io)?;
    }
    Ok(region)
}

/// A file of this user's alone beside `path`, for what is not whole yet.
pub(crate) fn temporary(path: &Path) -> io::Result<(PathBuf, File)> {
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

/// Opens a file that must be this user's alone.
pub(crate) fn open_own(path: &Path, options: &mut OpenOptions) -> Result<(File, Metadata), OpenError> {
    open_owned_by(path, None, options)
}

/// Opens a file that must be one user's alone: `owner`'s, or this process's.
fn open_owned_by(path: &Path, owner: Option<u32>, options: &mut OpenOptions) -> Result<(File, Metadata), OpenError> {
    let io = |source| OpenError::Io { path: path.into(), source };
    let file = options
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC | nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(|source| match source.raw_os_error() {
            Some(nix::libc::ELOOP) => OpenError::Symlink { path: path.into() },
            _ if path.is_dir() => OpenError::NotAFile { path: path.into() },
            _ => io(source),
        })?;
    let meta = check_owner(&file, path, owner)?;
    Ok((file, meta))
}

fn check_owner(file: &File, path: &Path, owner: Option<u32>) -> Result<Metadata, OpenError> {
    let meta = file.metadata().map_err(|source| OpenError::Io { path: path.into(), source })?;
    let me = owner.unwrap_or_else(|| nix::unistd::geteuid().as_raw());
    if !meta.is_file() {
        return Err(OpenError::NotAFile { path: path.into() });
    }
    if meta.uid() != me {
        return Err(OpenError::Owner { path: path.into(), owner: meta.uid(), me });
    }
    if meta.mode() & 0o077 != 0 {
        return Err(OpenError::Mode { path: path.into(), mode: meta.mode() & 0o777 });
    }
    Ok(meta)
}

/// Opens a region file that exists.
pub(crate) fn open(path: &Path, owner: Option<u32>, huge_pages: bool) -> Result<Region, OpenError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    attach(path, huge_pages, || open_owned_by(path, owner, &mut options))
}

/// Opens a region file anew by a descriptor of it that this process has, perhaps by inheritance:
/// an opener of its own, which shares nothing with the others that hold the descriptor.
pub(crate) fn open_fd(fd: BorrowedFd<'_>, owner: Option<u32>) -> Result<Region, OpenError> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(nix::libc::O_CLOEXEC | nix::libc::O_NONBLOCK);
    attach(&path, false, || {
        let file = options.open(&path).map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let meta = check_owner(&file, &path, owner)?;
        Ok((file, meta))
    })
}

fn attach(
    path: &Path,
    huge_pages: bool,
    mut open: impl FnMut() -> Result<(File, Metadata), OpenError>,
) -> Result<Region, OpenError> {
    let io = |source| OpenError::Io { path: path.into(), source };
    let (file, meta) = open()?;
    // Opened twice: a mapping keeps alive the description through which it was made, so that a
    // forked child, which has a copy of the mapping, could never let go of its parent's byte.
    let (locks, again) = open()?;
    if (meta.dev(), meta.ino()) != (again.dev(), again.ino()) {
        return Err(OpenError::Replaced { path: path.into() });
    }
    let layout = read_layout(&file, meta.len()).map_err(|error| match error {
        ReadLayout::Io(source) => io(source),
        ReadLayout::Refused(error) => error,
    })?;
    let map = MmapOptions::new().len(layout.bytes()).map_raw(&file).map_err(io)?;
    advise(&map, huge_pages);
    let mut region = Region::new(map, layout, Owner::private());
    check_whole(&region, boot_marker().map_err(io)?)?;
    region.owner = claim(locks, path, &region)?;
    Ok(region)
}

/// Takes a place among the owners of a region, through a file whose bytes are locked.
pub(super) fn claim(locks: File, path: &Path, region: &Region) -> Result<Owner, OpenError> {
    let claimed = Owner::claim(locks, region.words()).map_err(|source| OpenError::Io { path: path.into(), source })?;
    claimed.ok_or(OpenError::TooManyProcesses { most: crate::layout::OWNERS as u64 })
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
    let layout = check_header(word).map_err(ReadLayout::Refused)?;
    let expected = layout.bytes() as u64;
    if bytes == expected { Ok(layout) } else { Err(ReadLayout::Refused(OpenError::Length { bytes, expected })) }
}

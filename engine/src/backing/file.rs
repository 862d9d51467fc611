//! Region files, with a name and without: created whole or not at all, opened only if they are
//! ours and in order.

use std::ffi::CStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use memmap2::MmapOptions;

use super::bytes::{check_header, check_length, may_be_long};
use super::{Config, check_whole, initialise, pages};
use crate::error::{CreateError, OpenError};
use crate::layout::{HEADER, Layout, header};
use crate::moment::boot_marker;
use crate::moving::{self, Moving};
use crate::owner::{Owner, Place};
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
        fill(write_new(path, &file, 0, layout, config, io)?)?;
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
pub(crate) fn create_memfd(name: &CStr, config: &Config) -> Result<OwnedFd, CreateError> {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let layout = config.layout()?;
    let system = |error: nix::Error| CreateError::System(error.into());
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = File::from(memfd_create(name, flags).map_err(system)?);
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(CreateError::System)?;
    write_new(Path::new("memory"), &file, 0, layout, config, CreateError::System)?;
    // Nobody cuts it short under those who have it mapped.
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(system)?;
    Ok(file.into())
}

/// Makes the region that `config` describes at the end of a file, from the byte `from` on.
fn write_new(
    path: &Path,
    file: &File,
    from: u64,
    layout: Layout,
    config: &Config,
    io: impl Fn(io::Error) -> CreateError,
) -> Result<Region, CreateError> {
    check_space(path, file, layout.bytes() as u64)?;
    file.set_len(from + layout.bytes() as u64).map_err(&io)?;
    let map = pages::map(file, from, layout.bytes()).map_err(&io)?;
    let mut is_taken = false;
    if config.huge_pages {
        pages::ask_for_huge(&map);
        is_taken = pages::take(file, &map, layout.bytes()).map_err(&io)?;
    }
    if !is_taken {
        reserve(path, file, from, layout.bytes() as u64, &io)?;
    }
    let region = Region::new(map, layout, Owner::private());
    if is_taken {
        pages::put_together(&region);
    }
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

/// What the file system of a file has free. Memory without a name has no limit of its own, which is shown as no
/// blocks at all.
fn free_space(file: &File) -> Option<u64> {
    let system = nix::sys::statvfs::fstatvfs(file).ok().filter(|system| system.blocks() > 0)?;
    Some(system.blocks_available().saturating_mul(system.fragment_size()))
}

/// Tells of too little space before any is taken, and where none can be reserved.
fn check_space(path: &Path, file: &File, needed: u64) -> Result<(), CreateError> {
    match free_space(file) {
        Some(free) if free < needed => Err(CreateError::NoSpace { path: path.into(), needed, free }),
        _ => Ok(()),
    }
}

/// Takes the space of a region at once, if there is an end to it: a mapped file with holes that meets a full file
/// system kills the process that fills them (SIGBUS), and all the others after it.
fn reserve(
    path: &Path,
    file: &File,
    from: u64,
    needed: u64,
    io: impl Fn(io::Error) -> CreateError,
) -> Result<(), CreateError> {
    use nix::errno::Errno;
    use nix::fcntl::{FallocateFlags, fallocate};
    if free_space(file).is_none() {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), from as i64, needed as i64) {
        // What a file system cannot promise, it may have all the same.
        Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
        Err(Errno::ENOSPC | Errno::EDQUOT) => {
            Err(CreateError::NoSpace { path: path.into(), needed, free: free_space(file).unwrap_or(0) })
        }
        Err(error) => Err(io(error.into())),
    }
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
    let mut open_again = || {
        let (locks, again) = open()?;
        if (meta.dev(), meta.ino()) != (again.dev(), again.ino()) {
            return Err(OpenError::Replaced { path: path.into() });
        }
        Ok(locks)
    };
    let mut from = 0;
    for _ in 0..=moving::MOST {
        let layout = read_layout(&file, from).map_err(|error| match error {
            ReadLayout::Io(source) => io(source),
            ReadLayout::Refused(error) => error,
        })?;
        let map = pages::map(&file, from, layout.bytes()).map_err(io)?;
        if huge_pages {
            pages::ask_for_huge(&map);
        }
        let mut region = Region::new(map, layout, Owner::private());
        check_whole(&region, boot_marker().map_err(io)?)?;
        if moving::target(region.load(header::MOVE), from).is_none() {
            region.owner = claim(open_again()?, path, Place(from), &region)?;
            region.forget_answer();
        }
        // It may have moved in this very moment; the mover does not wait for those it does not see.
        match region.moving() {
            Moving::Paused => return Err(OpenError::Moving),
            Moving::No | Moving::Announced => return Ok(region),
            // From here on the word does not change, but to lead further.
            Moving::Done => {
                let to = moving::target(region.load(header::MOVE), from);
                from = to.ok_or(OpenError::Header { what: "where it has moved to" })?;
            }
        }
    }
    Err(OpenError::Header { what: "where it has moved to" })
}

/// Makes room for another region at the end of a file, and makes it; says where it begins.
pub(crate) fn append(file: &File, config: &Config) -> Result<(u64, Region), CreateError> {
    let layout = config.layout()?;
    let place = if config.huge_pages { pages::HUGE_PAGE as u64 } else { moving::PLACE };
    let from = file.metadata().map_err(CreateError::System)?.len().next_multiple_of(place);
    let made = write_new(Path::new("the file of the region"), file, from, layout, config, CreateError::System);
    // What it has taken before it failed is not kept from those who use the region that is there.
    made.inspect_err(|_| give_back(file, from, &layout)).map(|region| (from, region))
}

/// How often the region of a file has moved before it came to begin at the byte `place`.
pub(crate) fn moves(file: &File, place: u64) -> usize {
    use std::os::unix::fs::FileExt;
    let (mut from, mut moves) = (0, 0);
    while from != place && moves < moving::MOST {
        let mut word = [0; 8];
        let at = from + header::MOVE as u64 * 8;
        let read = file.read_exact_at(&mut word, at).ok();
        let Some(to) = read.and_then(|()| moving::target(u64::from_le_bytes(word), from)) else { break };
        (from, moves) = (to, moves + 1);
    }
    moves
}

/// Lets the first region of a file, where everybody begins, lead straight to where its successors have
/// come to: a short way, and nothing wrong if it is not done.
pub(crate) fn lead_on(file: &File, to: u64) {
    let first = read_layout(file, 0).ok().and_then(|layout| {
        let map = MmapOptions::new().len(layout.bytes()).map_raw(file).ok()?;
        Some(Region::new(map, layout, Owner::private()))
    });
    if let Some(first) = first
        && moving::target(first.load(header::MOVE), 0).is_some_and(|old| old < to)
    {
        first.publish(header::MOVE, moving::leads_to(to));
    }
}

/// A file without a name, in memory.
pub(crate) fn scratch() -> io::Result<File> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    Ok(File::from(memfd_create(c"curfew-scratch", MFdFlags::MFD_CLOEXEC)?))
}

/// Gives back what a region took that has moved, but for its header, which says where to.
pub(crate) fn give_back(file: &File, from: u64, layout: &Layout) {
    use nix::fcntl::{FallocateFlags, fallocate};
    let (header, all) = ((HEADER * 8) as i64, layout.bytes() as i64);
    // If the file system cannot, the room stays taken.
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let _ = fallocate(file, flags, from as i64 + header, all - header);
}

/// Takes a place among the owners of a region, through a file whose bytes are locked.
pub(super) fn claim(locks: File, path: &Path, place: Place, region: &Region) -> Result<Owner, OpenError> {
    let claimed =
        Owner::claim(locks, place, region.words()).map_err(|source| OpenError::Io { path: path.into(), source })?;
    claimed.ok_or(OpenError::TooManyProcesses { most: crate::layout::OWNERS as u64 })
}

enum ReadLayout {
    Io(io::Error),
    Refused(OpenError),
}

/// Reads the geometry from the file, not from the mapping, so that a short file is never touched
/// beyond its end. Behind a region there may be another one that it moves to.
fn read_layout(file: &File, from: u64) -> Result<Layout, ReadLayout> {
    use std::os::unix::fs::FileExt;
    let bytes = file.metadata().map_err(ReadLayout::Io)?.len().saturating_sub(from);
    check_length(bytes, from).map_err(ReadLayout::Refused)?;
    let mut head = [0; (header::SUM + 1) * 8];
    file.read_exact_at(&mut head, from).map_err(ReadLayout::Io)?;
    let word = |at: usize| head[at * 8..at * 8 + 8].iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
    let layout = check_header(word).map_err(ReadLayout::Refused)?;
    let expected = layout.bytes() as u64;
    if may_be_long(bytes, expected) {
        Ok(layout)
    } else {
        Err(ReadLayout::Refused(OpenError::Length { bytes, expected }))
    }
}

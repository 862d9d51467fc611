//! A file, a pipe or standard input as a stream of plain bytes, unpacked when its first bytes say it is packed.

use super::error::InputError;
use crate::say;
use flate2::bufread::GzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) struct Source {
    bytes: Box<dyn Read + Send>,
    pub(crate) packing: Option<&'static str>,
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(into)
    }
}

/// Counts what is read from the disk, for a progress bar.
struct Counted<R> {
    bytes: R,
    progress: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(into)?;
        self.progress.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// The members of a gzip file, one after the other, and zeros behind the last one, with which tapes and
/// disks fill up their blocks.
struct Members<R> {
    /// None when there are no more.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Members<R> {
    fn new(packed: R) -> Members<R> {
        Members { member: Some(GzDecoder::new(packed)) }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = member.read(into)?;
            if count > 0 || into.is_empty() {
                return Ok(count);
            }
            let more = skip_zeros(member.get_mut())?;
            self.member = self.member.take().filter(|_| more).map(|member| GzDecoder::new(member.into_inner()));
        }
        Ok(0)
    }
}

/// Whether there is anything behind the zeros.
fn skip_zeros(bytes: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let held = bytes.fill_buf()?;
        let (length, zeros) = (held.len(), held.iter().take_while(|byte| **byte == 0).count());
        bytes.consume(zeros);
        if zeros < length || length == 0 {
            return Ok(length > 0);
        }
    }
}

pub(crate) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The name of a file in messages.
pub(crate) fn title(path: &Path) -> String {
    if is_stdin(path) { "standard input".into() } else { path.display().to_string() }
}

/// Opens a file that is none of a directory or missing.
pub(crate) fn open(path: &Path) -> Result<File, InputError> {
    let failed = |cause| InputError::Open { file: title(path), cause };
    let file = File::open(path).map_err(failed)?;
    match file.metadata().map_err(failed)?.is_dir() {
        true => Err(InputError::Directory { file: title(path) }),
        false => Ok(file),
    }
}

/// Looks at the first bytes and puts the decoder they ask for in front.
pub(crate) fn unpack(
    path: &Path,
    bytes: impl Read + Send + 'static,
    progress: &Arc<AtomicU64>,
) -> Result<Source, InputError> {
    let failed = |cause| InputError::Read { file: title(path), line: 0, cause };
    let mut bytes = Counted { bytes, progress: Arc::clone(progress) };
    let head = read_up_to(&mut bytes, 6).map_err(failed)?;
    match head[..] {
        [0xfd, b'7', b'z', b'X', b'Z', 0] => return foreign(path, "packed with xz", "xzcat"),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41] => return foreign(path, "packed with bzip2", "bzcat"),
        [b'P', b'K', 3, 4, ..] => return foreign(path, "packed with zip", "unzip -p"),
        _ => {}
    }
    let gzip = head.starts_with(&[0x1f, 0x8b]);
    // A zstd file may begin with a skippable frame instead of one with data.
    let zstd = matches!(head[..], [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
    let bytes = Cursor::new(head).chain(bytes);
    let (mut bytes, packing): (Box<dyn Read + Send>, _) = if gzip {
        (Box::new(Members::new(BufReader::with_capacity(1 << 16, bytes))), Some("gzip"))
    } else if zstd {
        let mut frames = zstd::stream::read::Decoder::new(bytes).map_err(failed)?;
        frames.window_log_max(WIDEST_WINDOW).map_err(failed)?;
        (Box::new(frames), Some("zstd"))
    } else {
        (Box::new(bytes), None)
    };
    let head = read_up_to(&mut bytes, TAR_MAGIC.end).map_err(|cause| broken(path, packing, 0, cause))?;
    if head.get(TAR_MAGIC) == Some(b"ustar") {
        // Whatever packs it, tar finds out by the name alone.
        return foreign(path, "an archive of files", "tar -xOf");
    }
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return foreign(path, "written in UTF-16", "iconv -f UTF-16 -t UTF-8");
    }
    Ok(Source { bytes: Box::new(Cursor::new(head).chain(bytes)), packing })
}

/// What `zstd --long=31` writes and no more can be unpacked, though the library allows less unless asked. Memory is only
/// taken for as much of a window as is filled.
const WIDEST_WINDOW: u32 = 31;

/// Where an archive of tar says that it is one.
const TAR_MAGIC: std::ops::Range<usize> = 257..262;

fn foreign(path: &Path, kind: &'static str, tool: &str) -> Result<Source, InputError> {
    Err(InputError::Foreign { file: title(path), kind, tool: applied(tool, path) })
}

/// A tool with the file it is for, as a shell takes it.
fn applied(tool: &str, path: &Path) -> String {
    if is_stdin(path) { format!("... | {tool}") } else { format!("{tool} {}", say::quoted(path)) }
}

/// The first bytes; fewer than `most` when there are no more.
fn read_up_to(bytes: &mut impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(most);
    bytes.take(most as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Tells a damaged archive from a disk that cannot be read, as only the latter has an error of the operating system, and
/// from one that needs more memory than there is.
pub(crate) fn broken(path: &Path, packing: Option<&'static str>, line: u64, cause: io::Error) -> InputError {
    match packing {
        Some("zstd") if cause.to_string().contains("memory") => {
            InputError::Window { file: title(path), tool: applied("zstd -dc --long=31", path), cause }
        }
        Some(packing) if cause.raw_os_error().is_none() => {
            InputError::Damaged { file: title(path), packing, line, cause }
        }
        _ => InputError::Read { file: title(path), line, cause },
    }
}

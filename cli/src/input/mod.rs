//! Reads access logs: opens and unpacks them, tells their format, and gives one time and one key a line.
//!
//! A line that the format cannot read is `Unparsed`; one whose key is missing, or what logs write for nobody, is
//! `NoKey`; blank lines are passed over. Nothing here knows of sessions.

mod address;
mod clf;
mod columns;
mod detect;
mod error;
mod head;
mod json;
mod lines;
mod names;
pub(crate) mod probe;
mod quoting;
mod seek;
mod source;
#[cfg(test)]
mod tests;
mod time;

pub(crate) use detect::ReadFields;
pub(crate) use error::InputError;
pub(crate) use source::{is_stdin, title};
pub(crate) use time::PLAUSIBLE;

use lines::{Blocks, Record};
use source::Source;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// What the caller asks for.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The files of the log; `-` is standard input.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) format: FormatChoice,
    /// The key as typed; without one it is `ip`.
    pub(crate) key: Option<String>,
    /// The field with the time, for formats that have names for their fields.
    pub(crate) time: Option<String>,
    /// The columns of csv and tsv without a header line.
    pub(crate) columns: Option<Vec<String>>,
}

impl Options {
    /// The names of all files in a message.
    pub(crate) fn titles(&self) -> String {
        self.files.iter().map(|path| title(path)).collect::<Vec<_>>().join(", ")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum FormatChoice {
    /// Decided on the first lines, and said
    Auto,
    /// Common and combined, also with a virtual host before it or fields after it
    Clf,
    /// One object a line, as nginx, Caddy and Traefik write them
    Json,
    /// With a header line or --columns
    Csv,
    /// The same with tabs, and no quotes
    Tsv,
}

/// One line that is not blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// Its number in its file, from 1; of a csv record that quotes spread over lines, that of the first.
    pub(crate) number: u64,
    /// Which of the files, from 0.
    pub(crate) file: usize,
    pub(crate) what: What<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What<'a> {
    Event { time_ms: i64, key: &'a [u8] },
    NoKey,
    Unparsed,
}

/// What is known of the whole log once it has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    /// A time had no zone, and was taken to be UTC.
    pub(crate) zoneless: bool,
    /// For each file that was read, what packs it.
    pub(crate) packings: Vec<Option<&'static str>>,
}

/// Reads a line on its own.
trait LineParser {
    fn line<'a>(&'a mut self, line: &'a [u8]) -> What<'a>;
}

enum Parser {
    Clf(clf::Clf),
    Json(json::Json),
    Columns(columns::Columns),
}

impl Parser {
    fn known(&self, packings: Vec<Option<&'static str>>) -> Known {
        let zoneless = match self {
            // A stamp without a zone is none.
            Parser::Clf(_) => false,
            Parser::Json(json) => json.zoneless,
            Parser::Columns(columns) => columns.zoneless,
        };
        Known { zoneless, packings }
    }
}

/// A log that is open and understood, and not yet read.
pub(crate) struct Input {
    files: Vec<(PathBuf, State)>,
    plan: detect::Plan,
    has_header: bool,
    total: Option<u64>,
    can_reopen: bool,
    progress: Arc<AtomicU64>,
}

enum State {
    /// A file that can be opened; it was tried, and closed so that a log of a thousand files needs no thousand handles.
    Regular,
    /// A pipe, which gives what it holds only once, so that it stays open.
    Pipe(File),
    Stdin,
    /// Looked into already.
    Started(Blocks<Source>),
}

impl Input {
    /// Opens all files, so that a missing last one is said at once, and tells the format by the first lines.
    pub(crate) fn open(options: &Options) -> Result<Input, InputError> {
        let progress = Arc::new(AtomicU64::new(0));
        let mut files = Vec::with_capacity(options.files.len());
        let mut total = Some(0);
        for path in &options.files {
            let state = if is_stdin(path) {
                if files.iter().any(|(_, state)| matches!(state, State::Stdin)) {
                    return Err(InputError::StdinTwice);
                }
                total = None;
                State::Stdin
            } else {
                let file = source::open(path)?;
                match file.metadata() {
                    Ok(metadata) if metadata.is_file() => {
                        total = total.map(|sum| sum + metadata.len());
                        State::Regular
                    }
                    _ => {
                        total = None;
                        State::Pipe(file)
                    }
                }
            };
            files.push((path.clone(), state));
        }
        if files.is_empty() {
            return Err(InputError::NoFiles);
        }
        Input::planned(options, files, total, progress)
    }

    /// The same for what is in memory, taken up in blocks of `block` bytes, and with no line longer
    /// than `longest`.
    pub(crate) fn of_bytes(
        options: &Options,
        bytes: impl io::Read + Send + 'static,
        block: usize,
        longest: usize,
    ) -> Result<Input, InputError> {
        let (path, progress) = (PathBuf::from("log"), Arc::new(AtomicU64::new(0)));
        let source = source::unpack(&path, bytes, &progress)?;
        let packing = source.packing;
        let blocks = Blocks::sized(source, block, longest).map_err(|cause| source::broken(&path, packing, 0, cause))?;
        Input::planned(options, vec![(path, State::Started(blocks))], None, progress)
    }

    fn planned(
        options: &Options,
        mut files: Vec<(PathBuf, State)>,
        total: Option<u64>,
        progress: Arc<AtomicU64>,
    ) -> Result<Input, InputError> {
        let can_reopen = files.iter().all(|(_, state)| matches!(state, State::Regular));
        let plan = first_look(options, &mut files, &progress)?;
        let has_header = options.columns.is_none() && matches!(plan.parser, Parser::Columns(_));
        Ok(Input { files, plan, has_header, total, can_reopen, progress })
    }

    pub(crate) fn format_name(&self) -> &str {
        &self.plan.format
    }

    /// How the format and the fields were chosen, where the caller did not name them.
    pub(crate) fn format_note(&self) -> Option<&str> {
        self.plan.note.as_deref()
    }

    pub(crate) fn key_name(&self) -> &str {
        &self.plan.key
    }

    /// The fields that are read, where they have names.
    pub(crate) fn fields(&self) -> Option<&ReadFields> {
        self.plan.fields.as_ref()
    }

    /// Whether the log can be read a second time; standard input and pipes cannot.
    pub(crate) fn can_reopen(&self) -> bool {
        self.can_reopen
    }

    /// The sizes of the files on the disk, if all of them have one.
    pub(crate) fn total_bytes(&self) -> Option<u64> {
        self.total
    }

    /// Bytes read so far, as they are on the disk; it grows while `read` is at work.
    pub(crate) fn progress(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.progress)
    }

    /// Calls `sink` for every line that is not blank, until it returns false.
    pub(crate) fn read(mut self, mut sink: impl FnMut(Line<'_>) -> bool) -> Result<Known, InputError> {
        let mut packings = Vec::with_capacity(self.files.len());
        for (index, (path, state)) in self.files.into_iter().enumerate() {
            let mut blocks = start(&path, state, &self.progress)?;
            packings.push(blocks.source.packing);
            let done = match &mut self.plan.parser {
                Parser::Clf(clf) => read_lines(&mut blocks, clf, index, &mut sink),
                Parser::Json(json) => read_lines(&mut blocks, json, index, &mut sink),
                Parser::Columns(columns) => {
                    if self.has_header {
                        read_header(&path, &mut blocks, columns)?;
                    }
                    if columns.quotes() {
                        read_records(&mut blocks, columns, index, &mut sink)
                    } else {
                        read_lines(&mut blocks, columns, index, &mut sink)
                    }
                }
            };
            match done {
                Ok(true) => {}
                Ok(false) => return Ok(self.plan.parser.known(packings)),
                Err(cause) => return Err(broken(&path, &blocks, cause)),
            }
        }
        match &self.plan.parser {
            Parser::Json(json) if !json.key_seen && !self.plan.known.0.is_empty() => {
                Err(InputError::KeyNeverSeen { name: self.plan.key, names: self.plan.known })
            }
            parser => Ok(parser.known(packings)),
        }
    }
}

/// Starts reading files until one has a line, and plans by what it holds.
fn first_look(
    options: &Options,
    files: &mut [(PathBuf, State)],
    progress: &Arc<AtomicU64>,
) -> Result<detect::Plan, InputError> {
    for (path, state) in files.iter_mut() {
        let mut blocks = start(path, std::mem::replace(state, State::Regular), progress)?;
        let plan = match blocks.sample() {
            Ok(sample) if sample.iter().all(|byte| matches!(byte, b'\r' | b'\n')) => None,
            Ok(sample) => Some(detect::plan(options, &title(path), sample)),
            Err(cause) => return Err(broken(path, &blocks, cause)),
        };
        if plan.is_none() && blocks.is_within_a_line() {
            let file = title(path);
            match options.format {
                FormatChoice::Auto => return Err(InputError::LongFirstLine { file }),
                FormatChoice::Csv | FormatChoice::Tsv if options.columns.is_none() => {
                    return Err(InputError::NoHeader { file });
                }
                _ => {}
            }
        }
        *state = State::Started(blocks);
        if let Some(plan) = plan {
            return plan;
        }
    }
    detect::plan(options, &options.titles(), b"")
}

fn start(path: &Path, state: State, progress: &Arc<AtomicU64>) -> Result<Blocks<Source>, InputError> {
    let source = match state {
        State::Started(blocks) => return Ok(blocks),
        State::Regular => source::unpack(path, source::open(path)?, progress)?,
        State::Pipe(file) => source::unpack(path, file, progress)?,
        State::Stdin => source::unpack(path, io::stdin(), progress)?,
    };
    let packing = source.packing;
    Blocks::new(source).map_err(|cause| source::broken(path, packing, 0, cause))
}

fn broken(path: &Path, blocks: &Blocks<Source>, cause: io::Error) -> InputError {
    source::broken(path, blocks.source.packing, blocks.lines_read(), cause)
}

fn is_blank(line: &[u8]) -> bool {
    quoting::without_returns(line).is_empty()
}

/// `Ok(false)` when the sink wants no more.
fn read_lines(
    blocks: &mut Blocks<impl io::Read>,
    parser: &mut impl LineParser,
    file: usize,
    sink: &mut impl FnMut(Line<'_>) -> bool,
) -> io::Result<bool> {
    while let Some(Record { number, bytes }) = blocks.next_line()? {
        let what = match bytes.map(quoting::without_returns) {
            Some([]) => continue,
            Some(line) => parser.line(line),
            None => What::Unparsed,
        };
        if !sink(Line { number, file, what }) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read_records(
    blocks: &mut Blocks<impl io::Read>,
    columns: &mut columns::Columns,
    file: usize,
    sink: &mut impl FnMut(Line<'_>) -> bool,
) -> io::Result<bool> {
    while let Some(Record { number, bytes }) = blocks.next_record(columns.delimiter)? {
        let what = match bytes {
            Some(record) if is_blank(record) => continue,
            Some(record) => columns.record(record),
            None => What::Unparsed,
        };
        if !sink(Line { number, file, what }) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Every file has a header of its own. One without any line needs none.
fn read_header(path: &Path, blocks: &mut Blocks<Source>, columns: &mut columns::Columns) -> Result<(), InputError> {
    loop {
        let record = if columns.quotes() { blocks.next_record(columns.delimiter) } else { blocks.next_line() };
        match record {
            Ok(None) => return Ok(()),
            Ok(Some(Record { bytes: Some(bytes), .. })) if is_blank(bytes) => {}
            Ok(Some(Record { bytes: Some(bytes), .. })) => {
                return columns.place(&title(path), &columns::split(bytes, columns.delimiter));
            }
            Ok(Some(Record { bytes: None, .. })) => return Err(InputError::NoHeader { file: title(path) }),
            Err(cause) => return Err(broken(path, blocks, cause)),
        }
    }
}

/// Whether a key is what logs write for nobody; two quotes are Apache's for an empty name.
#[inline]
fn is_nobody(key: &[u8]) -> bool {
    matches!(key, b"" | b"-" | b"\"\"")
}

/// Stands between the parts of a key that is made of two.
const JOINT: u8 = b'\t';

fn join(into: &mut Vec<u8>, first: &[u8], second: &[u8]) {
    into.clear();
    into.extend_from_slice(first);
    into.push(JOINT);
    into.extend_from_slice(second);
}

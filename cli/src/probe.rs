//! Doors through which fuzz targets reach the parsers. No interface: nothing here is kept stable.

use std::io::Read;
use std::ops::Range;
use std::path::Path;

use crate::args::SynthArgs;
use crate::input::{self, FormatChoice, Input, What};
use crate::policy::{self, Named, PolicyError};
use crate::synth;

/// What a line of a log says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// Somebody did something.
    Event {
        /// Milliseconds since 1970.
        time_ms: i64,
        /// Who.
        key: Vec<u8>,
    },
    /// Nobody is named.
    NoKey,
    /// The format has no such line.
    Unparsed,
}

impl Said {
    fn of(what: What<'_>) -> Said {
        match what {
            What::Event { time_ms, key } => Said::Event { time_ms, key: key.into() },
            What::NoKey => Said::NoKey,
            What::Unparsed => Said::Unparsed,
        }
    }
}

/// How a log is to be read: the options of `curfew replay`.
#[derive(Clone, Default, Debug)]
pub struct Options {
    /// `auto`, `clf`, `json`, `csv` or `tsv`.
    pub format: String,
    /// `--key`.
    pub key: Option<String>,
    /// `--time`.
    pub time: Option<String>,
    /// `--columns`.
    pub columns: Option<Vec<String>>,
}

/// How bytes reach the reader.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Bytes that one read gives at most.
    pub drip: usize,
    /// Bytes of the reader's block at first.
    pub block: usize,
    /// The longest line that is read.
    pub longest: usize,
}

struct Drip(std::io::Cursor<Vec<u8>>, usize);

impl Read for Drip {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let most = self.1.max(1).min(into.len());
        self.0.read(&mut into[..most])
    }
}

/// The format that was chosen, and the number of every line that is not blank with what it says; or
/// the message of the error.
///
/// # Errors
/// What `curfew replay` would say.
pub fn log(bytes: &[u8], options: &Options, flow: Flow) -> Result<(String, Vec<(u64, Said)>), String> {
    let format = <FormatChoice as clap::ValueEnum>::from_str(&options.format, false)?;
    let options = input::Options {
        files: vec!["log".into()],
        format,
        key: options.key.clone(),
        time: options.time.clone(),
        columns: options.columns.clone(),
    };
    let bytes = Drip(std::io::Cursor::new(bytes.to_vec()), flow.drip);
    let input = Input::of_bytes(&options, bytes, flow.block, flow.longest).map_err(|error| error.to_string())?;
    let format = input.format_name().to_owned();
    let mut lines = Vec::new();
    let done = input.read(|line| {
        lines.push((line.number, Said::of(line.what)));
        true
    });
    done.map_err(|error| error.to_string())?;
    Ok((format, lines))
}

/// What one line of the common or combined format says; `key` is ip, ident, user or ip+ua.
#[must_use]
pub fn clf(line: &[u8], key: &str) -> Option<Said> {
    input::probe::clf(line, key, Said::of)
}

/// A time of any known kind.
#[must_use]
pub fn time(text: &[u8]) -> Option<i64> {
    input::probe::guess(text)
}

/// A policy with its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// What it says.
    pub limits: curfew_engine::Policy,
    /// Words that say nothing about a replay.
    pub unused: Vec<&'static str>,
}

impl From<Named> for Policy {
    fn from(named: Named) -> Policy {
        Policy { name: named.name, limits: named.limits, unused: named.unused }
    }
}

/// What is wrong with a policy, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// All that is printed.
    pub text: String,
    /// Line and column from 1, in a file.
    pub place: Option<(usize, usize)>,
    /// The line that is shown, and which of its characters are marked.
    pub excerpt: Option<(String, Range<usize>)>,
}

impl From<PolicyError> for Fault {
    fn from(error: PolicyError) -> Fault {
        let text = error.to_string();
        let (place, excerpt) = match error {
            PolicyError::Spec { excerpt, .. } => (None, Some(excerpt)),
            PolicyError::File { line, column, excerpt, .. } => (Some((line, column)), Some(excerpt)),
            _ => (None, None),
        };
        Fault { text, place, excerpt: excerpt.map(|excerpt| (excerpt.text, excerpt.mark)) }
    }
}

/// One policy, as `--policy` gives it.
///
/// # Errors
/// What is wrong with it.
pub fn spec(text: &str) -> Result<Policy, Fault> {
    Ok(policy::parse_spec(text)?.into())
}

/// The policies of a file.
///
/// # Errors
/// What is wrong with it.
pub fn policies(text: &str) -> Result<Vec<Policy>, Fault> {
    Ok(policy::parse_file(Path::new("policies.toml"), text)?.into_iter().map(Policy::from).collect())
}

/// A limit as it would be typed.
#[must_use]
pub fn span(ms: u64) -> String {
    policy::Exact(ms).to_string()
}

/// The log that `curfew synth` makes; `start` is year, month and day.
///
/// # Errors
/// When there is no such day or it cannot be written.
pub fn synth(seed: u64, users: u32, pollers: u32, days: u32, start: (i16, i8, i8)) -> Result<Vec<u8>, String> {
    let start = jiff::civil::Date::new(start.0, start.1, start.2).map_err(|error| error.to_string())?;
    let args = SynthArgs { seed, users, pollers, days, start, output: "-".into() };
    let mut bytes = Vec::new();
    synth::write(&args, &mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

//! What can be wrong with a log. Every message says what, where, and what to do about it.

use std::{fmt, io};

#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("no log is named; name one or more files, or `-` for standard input")]
    NoFiles,
    #[error("`-` is named more than once; standard input can be read only once")]
    StdinTwice,
    #[error("cannot open {file}: {cause}; check the name and that it may be read")]
    Open { file: String, cause: io::Error },
    #[error("{file} is a directory; name the log files in it")]
    Directory { file: String },
    #[error("{file} is {kind}, which is not read here; pipe in what is in it: {tool} | curfew replay -")]
    Foreign { file: String, kind: &'static str, tool: String },
    #[error("cannot read {file} beyond line {line}: {cause}; the numbers would be wrong, so none are given")]
    Read { file: String, line: u64, cause: io::Error },
    #[error(
        "{file} is damaged: its {packing} data breaks after line {line} ({cause}); get a whole copy, or unpack what can be saved and give that"
    )]
    Damaged { file: String, packing: &'static str, line: u64, cause: io::Error },
    #[error(
        "{file} was packed with a window for which there is not the memory here ({cause}); unpack it where there is, and pipe it in: {tool} | curfew replay -"
    )]
    Window { file: String, tool: String, cause: io::Error },
    #[error("the log is empty: nothing is recorded in {files}; is it the right file?")]
    NoLines { files: String },
    #[error(
        "the first line of {file} is longer than {} MiB, so the format cannot be told; if it is a log, name it with --format",
        super::lines::LONGEST >> 20
    )]
    LongFirstLine { file: String },
    #[error("{file} is not a log: it is binary, not text")]
    Binary { file: String },
    #[error(
        "the format of {file} was not recognised (tried {tried}); its first line is \"{first}\"; name the format with --format, and for csv or tsv without a header line name the columns with --columns"
    )]
    NotRecognised { file: String, tried: &'static str, first: String },
    #[error("{file} has no header line; name its columns with --columns")]
    NoHeader { file: String },
    #[error("{file} has no {noun} `{name}`, which should hold the {role}; there are: {names}")]
    UnknownField { file: String, noun: &'static str, role: &'static str, name: String, names: Names },
    #[error("no {noun} of {file} has a usual name for the time; name it with --time; there are: {names}")]
    NoTimeField { file: String, noun: &'static str, names: Names },
    #[error("no {noun} of {file} has a usual name for {role}; name one with --key; there are: {names}")]
    NoKeyField { file: String, noun: &'static str, role: &'static str, names: Names },
    #[error("no line has the field `{name}`, which --key asks for; the first lines have: {names}")]
    KeyNeverSeen { name: String, names: Names },
    #[error("the format {format} has no key `{key}`; it has: {available}")]
    KeyUnavailable { key: String, format: String, available: &'static str },
    #[error("{option} means nothing for the format {format}; leave it out, or name another format with --format")]
    OptionUnused { option: &'static str, format: String },
}

/// Field names, as an error message lists them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names(pub(crate) Vec<String>);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 60;
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (at, name) in self.0.iter().take(SHOWN).enumerate() {
            // A wrong --format can make a whole line a "name", so names are cut and kept to one line.
            let short: String = name.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect();
            write!(
                f,
                "{}{}{}",
                if at > 0 { ", " } else { "" },
                short,
                if short.len() < name.len() { "..." } else { "" }
            )?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

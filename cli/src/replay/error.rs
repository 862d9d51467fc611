use std::io;

use super::census::Census;
use super::court::CourtError;
use crate::input::{InputError, Options};
use crate::policy::{PolicyError, thousands};

/// Why a replay came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(
        "none of {} lines could be used: they could not be read as {format}\nTry another --format, or --key and --time to name the fields.",
        thousands((*lines).into())
    )]
    AllUnreadable { lines: u64, format: String },
    #[error(
        "none of {} lines could be used: {} no {key}{}\nTry another --key if they are people's requests all the same.",
        thousands((*lines).into()),
        if *nokey == 1 { String::from("1 has") } else { format!("{} have", thousands((*nokey).into())) },
        if nokey < lines { ", the others could not be read" } else { "" }
    )]
    NoKeys { lines: u64, nokey: u64, key: String },
    #[error("there are more than 4 billion different keys; is the key the right field?")]
    TooManyKeys,
    #[error(transparent)]
    Court(#[from] CourtError),
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
}

impl ReplayError {
    /// Why there is not one event in a log that was read to its end.
    pub(crate) fn no_events(options: &Options, format: String, key: String, census: &Census) -> ReplayError {
        match census.nokey + census.unparsed {
            0 => InputError::NoLines { files: options.titles() }.into(),
            lines if census.nokey == 0 => ReplayError::AllUnreadable { lines, format },
            lines => ReplayError::NoKeys { lines, nokey: census.nokey, key },
        }
    }

    /// Whoever read our output has had enough, which is fine.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, ReplayError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

use std::io;

use super::court::CourtError;
use crate::input::InputError;
use crate::policy::PolicyError;

/// Why a replay came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("there are more than 4 billion different keys; is the key the right field?")]
    TooManyKeys,
    #[error(transparent)]
    Court(#[from] CourtError),
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
}

impl ReplayError {
    /// Whoever read our output has had enough, which is fine.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, ReplayError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

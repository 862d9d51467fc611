//! Why a zone cannot be used.

use std::path::PathBuf;

use curfew_engine::{CreateError, OpenError};

/// Names that a message has of many.
const NAMES: usize = 10;

#[derive(Debug)]
pub(super) enum ZoneError {
    Create(CreateError),
    Open(OpenError),
    System(&'static str, std::io::Error),
    /// The folder above that of the region is not there.
    NoFolder(PathBuf),
    /// A policy finds no number among those of the region.
    NoNumber {
        policy: String,
        /// Policies of the region, and those of them that the configuration does not have.
        count: usize,
        unused: Vec<String>,
    },
}

impl std::fmt::Display for ZoneError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ZoneError::Create(error) => error.fmt(f),
            ZoneError::Open(error) => error.fmt(f),
            ZoneError::System(what, error) => write!(f, "{what}: {error}"),
            ZoneError::NoFolder(folder) => {
                write!(
                    f,
                    "there is no folder {}; make it (the last one of the path is made by itself)",
                    folder.display()
                )
            }
            ZoneError::NoNumber { policy, count, unused } => write!(
                f,
                "it holds {count} policies of this configuration and former ones, and has no room for \"{policy}\"; call it \
                 as one that is not used any more ({}{}), or begin with another zone",
                unused[..unused.len().min(NAMES)].join(", "),
                if unused.len() > NAMES { ", ..." } else { "" }
            ),
        }
    }
}

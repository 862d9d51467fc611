//! `curfew`: what a session policy does, before anyone is logged out for real.
//!
//! A library only so that the fuzz targets reach it ([`probe`]); nobody else should.

#![deny(missing_docs)]

// Its comments are help texts.
#[allow(rustdoc::broken_intra_doc_links)]
mod args;
mod input;
mod policy;
#[doc(hidden)]
pub mod probe;
mod replay;
mod say;
mod synth;

use std::io::{self, Write};
use std::process::ExitCode;

use args::{Cli, Verb};
use clap::Parser;

/// It could not be done. 1 is kept for "the answer is no"; clap uses 2 as well.
const FAILED: u8 = 2;

/// Does what the command line says.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(mistake) if mistake.use_stderr() => mistake.exit(),
        Err(help) => return conclude(tell(&help), |unwritten| unwritten.0.kind() == io::ErrorKind::BrokenPipe),
    };
    match cli.verb {
        Verb::Replay(args) => conclude(replay::run(&args), replay::ReplayError::is_broken_pipe),
        Verb::Synth(args) => conclude(synth::run(&args), synth::SynthError::is_broken_pipe),
    }
}

/// What was asked for instead of a verb: a help text or the version.
#[derive(Debug, thiserror::Error)]
#[error("cannot write what was asked for: {0}")]
struct Unwritten(io::Error);

fn tell(help: &clap::Error) -> Result<(), Unwritten> {
    help.print().and_then(|()| io::stdout().flush()).map_err(Unwritten)
}

/// A reader that went away early (`curfew ... | head`) is not an error.
fn conclude<E: std::fmt::Display>(result: Result<(), E>, is_broken_pipe: impl Fn(&E) -> bool) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say::error(error);
            ExitCode::from(FAILED)
        }
    }
}

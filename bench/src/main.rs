//! `curfew-bench`: the figures that criterion cannot give.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use curfew_bench::{expire, fill, instructions, touch, turns};

/// Measures the engine on this machine and prints Markdown tables
#[derive(Parser, Debug)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Nanoseconds per touch, against what memory allows
    Touch(touch::Options),
    /// Many sessions that end at once, and what touches of others see of it
    Expire(expire::Options),
    /// Creating, filling, touching and emptying a table, and its memory
    Fill(fill::Options),
    /// Touches on demand, for `make bench-ffi`
    Turns(turns::Options),
    /// Instructions of each step, counted by callgrind
    Instructions(instructions::Options),
    /// Does one step many times, for callgrind
    #[command(hide = true)]
    Step {
        #[arg(value_enum)]
        step: instructions::Step,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Touch(options) => touch::run(&options),
        Command::Expire(options) => expire::run(&options),
        Command::Fill(options) => fill::run(&options),
        Command::Turns(options) => turns::run(&options),
        Command::Instructions(options) => instructions::run(&options),
        Command::Step { step } => instructions::step(step),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("curfew-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

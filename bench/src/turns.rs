//! Touches on demand: for whoever measures the engine beside what is built on it. `ffi/bench/run`
//! has one such program for each language, and asks them in turn.
//!
//! A line of standard input names what to do; the answer is nanoseconds of processor time per touch.

use std::io::{BufRead, Write};

use nix::time::{ClockId, clock_gettime};

use crate::Result;
use crate::sessions::{draws, keys, lasting, table};
use crate::touch::{A_MILLISECOND, engine, engine_many};

#[derive(clap::Args, Debug)]
pub struct Options {
    /// Live sessions
    #[arg(long, default_value_t = 1_000_000)]
    sessions: usize,
    /// Touches of one turn
    #[arg(long, default_value_t = 1_000_000)]
    touches: usize,
}

/// Takes turns until its input ends. `touch` is one by one, `isolated` the same with each ended before the next begins, a
/// number is a batch of so many.
///
/// # Errors
/// When the table cannot be made, a session was not there, or a line says something else.
pub fn run(options: &Options) -> Result<()> {
    let all = keys(options.sessions, 0);
    let table = table(options.sessions, &all, &lasting(), false)?;
    let drawn = draws(&all, options.touches, 1);
    let mut out = std::io::stdout().lock();
    let mut now = 1;
    writeln!(out, "ready")?;
    for what in std::io::stdin().lock().lines() {
        let what = what?;
        let begin = processor_time()?;
        let there = match what.as_str() {
            "touch" => engine::<false>(&table, &drawn, now),
            "isolated" => engine::<true>(&table, &drawn, now),
            size => engine_many(&table, &drawn, size.parse()?, now),
        };
        let took = (processor_time()? - begin) / options.touches as f64;
        if there != options.touches {
            return Err(format!("{what}: not every session was found active").into());
        }
        writeln!(out, "{took}")?;
        out.flush()?;
        now += (options.touches / A_MILLISECOND) as u64 + 1;
    }
    Ok(())
}

/// Nanoseconds that this process has had. Whoever else had the processor meanwhile does not count.
fn processor_time() -> Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
    Ok(time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64)
}

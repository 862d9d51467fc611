//! `curfew synth`: a log to try things on, the same bytes for the same seed everywhere.
//!
//! Whole numbers only: no floating point means no library whose last digit depends on the machine.
//! Everyone in the log is a small record with a time to act next; a heap finds who is first. So the
//! log is in order as it is written, and memory grows with people, not with lines.

mod agenda;
mod chance;
mod line;
mod people;
mod place;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::args::SynthArgs;
use chance::Chance;
use line::Lines;
use people::Crowd;
use place::Place;

/// Why no log was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SynthError {
    #[error("there is nobody to write about; give --users or --pollers")]
    Nobody,
    #[error("cannot create {}: {source}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot write the log: {0}")]
    Write(#[from] io::Error),
}

impl SynthError {
    /// Whoever read the log has had enough, which is fine.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, SynthError::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

pub(crate) fn run(args: &SynthArgs) -> Result<(), SynthError> {
    if args.users == 0 && args.pollers == 0 {
        return Err(SynthError::Nobody);
    }
    if args.output == Path::new("-") {
        write(args, io::stdout().lock())
    } else {
        let create = |source| SynthError::Create { path: args.output.clone(), source };
        let place = Place::new(&args.output).map_err(create)?;
        write(args, &place.file)?;
        place.keep().map_err(create)
    }
}

pub(crate) fn write(args: &SynthArgs, to: impl Write) -> Result<(), SynthError> {
    let mut to = BufWriter::with_capacity(1 << 20, to);
    let mut chance = Chance::new(args.seed);
    let first_weekday = args.start.weekday().to_monday_zero_offset().unsigned_abs().into();
    let (mut crowd, first) = Crowd::new(args.users, args.pollers, first_weekday, &mut chance);
    let mut lines = Lines::new(args.start);
    let end = u64::from(args.days) * agenda::DAY;

    let mut next: BinaryHeap<_> = first.into_iter().zip(0..).map(Reverse).collect();
    while let Some(Reverse((time, who))) = next.pop() {
        if time >= end {
            // Everybody else comes later still.
            break;
        }
        let after = crowd.act(who, time, &mut chance, |step, chance| lines.write(&mut to, time, &step, chance))?;
        next.push(Reverse((after, who)));
    }
    to.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn log(seed: u64, users: u32, days: u32) -> String {
        let start = date(2025, 3, 3);
        let args = SynthArgs { seed, users, pollers: 1, days, start, output: "-".into() };
        let mut bytes = Vec::new();
        write(&args, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_one_others() {
        assert_eq!(log(1, 5, 2), log(1, 5, 2));
        assert_ne!(log(1, 5, 2), log(2, 5, 2));
    }

    /// The bytes of one seed, pinned: they may change only on purpose, and never by machine.
    #[test]
    fn the_bytes_of_a_seed_are_those_they_have_always_been() {
        let log = log(7, 40, 3);
        let sum = log
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        assert_eq!((log.lines().count(), sum), (68_822, 0xfbff_9619_fe7f_0205));
    }

    #[test]
    fn a_poller_asks_at_night_and_people_do_not() {
        let log = log(3, 30, 1);
        let night: Vec<&str> = log.lines().filter(|line| line.contains(":03:")).collect();
        let at_three: Vec<&&str> = night.iter().filter(|line| line.contains("2025:03:")).collect();
        assert!(!at_three.is_empty());
        assert!(at_three.iter().all(|line| line.contains(" monitor1 ")), "{at_three:?}");
    }

    #[test]
    fn weekends_are_quiet() {
        let log = log(3, 60, 7);
        let on = |day: &str| log.lines().filter(|line| line.contains(day) && !line.contains("monitor1")).count();
        assert!(on("[08/Mar/2025") * 5 < on("[05/Mar/2025"));
    }
}

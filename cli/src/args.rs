//! What can be typed. The first paragraph of each comment is `-h`, all of it is `--help`.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand};
use jiff::civil::Date;

use crate::input::{FormatChoice, Options};
use crate::replay::Format;

/// Decides whether a session may go on, and shows what a policy would do before it does it
#[derive(Debug, Parser)]
#[command(name = "curfew", version, propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Replay(ReplayArgs),
    Synth(SynthArgs),
}

/// Replay recorded access logs through candidate session policies
///
/// Reads access logs once and tells, for each policy side by side, how many people would have been
/// logged out while they were still there, and for how long sessions that nobody used any more would
/// have stayed open. The verdicts come from the same engine that would enforce the policy.
#[derive(Debug, Args)]
#[command(after_help = "More with --help.", after_long_help = REPLAY_EXAMPLES)]
pub(crate) struct ReplayArgs {
    /// Logs; several are one log, "-" is standard input
    ///
    /// May be compressed with gzip or zstd. Lines need not be in order of time; when files are given
    /// oldest first, less memory is needed.
    #[arg(value_name = "LOG", required = true)]
    files: Vec<PathBuf>,

    /// A policy to try, as [NAME:]idle=15m,lifetime=8h (repeatable)
    ///
    /// Words: idle, lifetime and grace (durations like 90s, 15m, 8h, 1h30m, 2d; 0 is off) and
    /// grace_mode (reauth or resume). on_mismatch, max_per_subject, on_limit, retain and on_full are
    /// understood and play no part in a replay. Without --policy and --policies: idle for 5, 15, 30 and
    /// 60 minutes.
    #[arg(short, long, value_name = "SPEC")]
    pub(crate) policy: Vec<String>,

    /// A TOML file of policies, one table for each
    ///
    /// The words are those of --policy:
    ///
    ///     [staff]
    ///     idle = "15m"
    ///     lifetime = "8h"
    #[arg(long, value_name = "FILE", verbatim_doc_comment)]
    pub(crate) policies: Option<PathBuf>,

    /// Who a request belongs to: ip, user, ident, ip+ua, or a field
    ///
    /// In common and combined logs: ip (the default), user, ident, or ip+ua for address and browser
    /// together. In JSON, CSV and TSV: ip, user and ip+ua, looked for by their usual names, or the name
    /// of any field. Lines without it are counted and left out.
    #[arg(short, long, value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    key: Option<String>,

    /// Format of the log
    #[arg(short, long, value_name = "FORMAT", default_value = "auto")]
    format: FormatChoice,

    /// Field that holds the time (JSON, CSV, TSV)
    ///
    /// Seconds, milli-, micro- or nanoseconds since 1970, RFC 3339, or a stamp as in common logs.
    /// Without it the usual names are looked for.
    #[arg(short, long, value_name = "FIELD", value_parser = NonEmptyStringValueParser::new())]
    time: Option<String>,

    /// Names of the columns, when CSV or TSV has no header line
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    columns: Option<Vec<String>>,

    /// How to write the result
    #[arg(short, long, value_name = "OUTPUT", default_value = "text")]
    pub(crate) output: Format,

    /// No notes and warnings on standard error
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

const REPLAY_EXAMPLES: &str = "\
Examples:
  Four usual idle timeouts, one session for each address:
      curfew replay access.log
  A week of rotated logs, oldest first, two policies for each logged-in user:
      curfew replay --key user -p office:idle=15m -p strict:idle=5m,grace=2m log.1.gz log
  One-hour lifetime in a JSON log of Caddy, for a script:
      curfew replay --key user_id --policy lifetime=1h --output json caddy.json
  From another program:
      zcat access.log.*.gz | curfew replay --policies policies.toml -

Exit status: 0 when the log was replayed, 2 when it could not be.";

impl ReplayArgs {
    pub(crate) fn input(&self) -> Options {
        Options {
            files: self.files.clone(),
            format: self.format,
            key: self.key.clone(),
            time: self.time.clone(),
            columns: self.columns.clone(),
        }
    }
}

/// Make up an access log to try things on
///
/// Writes a log in combined format, in order of time: people who work on weekdays, pause, have lunch
/// and come back, and pollers that never sleep. The same options always give the same bytes, on every
/// machine.
#[derive(Debug, Args)]
#[command(after_help = "More with --help.", after_long_help = SYNTH_EXAMPLES)]
pub(crate) struct SynthArgs {
    /// Another seed, another log
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,

    /// People
    #[arg(short, long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(crate) users: u32,

    /// Programs that ask every minute or so, day and night, under a user name of their own
    #[arg(short, long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) pollers: u32,

    /// Length of the log in days
    #[arg(short, long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=3660))]
    pub(crate) days: u32,

    /// First day
    #[arg(short, long, value_name = "YYYY-MM-DD", default_value = "2025-03-03", value_parser = first_day)]
    pub(crate) start: Date,

    /// Where to write; "-" is standard output
    ///
    /// A file that is there is replaced once the log is whole, and keeps its owner, group and mode; where
    /// that cannot be, it is written in place.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub(crate) output: PathBuf,
}

const SYNTH_EXAMPLES: &str = "\
Examples:
  A working week of a hundred people, and what four timeouts would do to them:
      curfew synth --output week.log
      curfew replay --key user week.log
  Ten million lines:
      curfew synth --users 3900 --output big.log

Exit status: 0 when the log was written, 2 when it could not be.";

/// Logs have four digits for the year.
fn first_day(text: &str) -> Result<Date, String> {
    let date: Date = text.parse().map_err(|_| String::from("not a date; write it like 2025-03-03"))?;
    // Parsing drops a time of day.
    if date.to_string() != text {
        return Err(format!("a log begins at midnight; write its first day like {date}"));
    }
    if (1970..=9000).contains(&date.year()) { Ok(date) } else { Err("the year must be from 1970 to 9000".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_agrees_with_itself() {
        Cli::command().debug_assert();
    }
}

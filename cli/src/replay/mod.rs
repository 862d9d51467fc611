//! `curfew replay`: what would these policies have done to the people in this log?

mod census;
mod court;
mod error;
mod interner;
mod judge;
mod order;
mod output;
mod progress;
mod reading;
mod report;
#[cfg(test)]
mod tests;
mod ticket;
mod warnings;

use std::io::{self, Write};
use std::thread;

pub(crate) use error::ReplayError;
pub(crate) use output::Format;

use crate::args::ReplayArgs;
use crate::input::{Input, Options, ReadFields};
use crate::policy::{self, Named};
use crate::say;
use court::Judged;
use order::Order;
use progress::Progress;
use reading::Read;
use report::{InputReport, PolicyReport, Report};

pub(crate) fn run(args: &ReplayArgs) -> Result<(), ReplayError> {
    let policies = policies(args)?;
    let options = args.input();
    let replay = replay(&options, &policies, args.quiet)?;
    let input = input_report(&options, &replay);
    let warnings = warnings::warnings(&options, &input, &replay.read);
    let report = Report {
        version: report::VERSION,
        input,
        policies: policies
            .iter()
            .zip(&replay.judged)
            .map(|(policy, judged)| PolicyReport::new(policy, judged))
            .collect(),
        warnings: warnings.iter().map(|warning| warning.to_string().replace('\n', ". ")).collect(),
    };
    let text = output::render(args.output, &report, &replay.read.census);
    let written = write(&text);
    if !args.quiet {
        warnings.iter().for_each(say::warn);
    }
    Ok(written?)
}

fn policies(args: &ReplayArgs) -> Result<Vec<Named>, ReplayError> {
    let mut policies = policy::gather(&args.policy, args.policies.as_deref())?;
    let note = |text: String| {
        if !args.quiet {
            say::note(text)
        }
    };
    if policies.is_empty() {
        note(
            "no policy given, so these are the usual idle timeouts; try your own with --policy idle=15m,lifetime=8h"
                .into(),
        );
        policies = policy::usual();
    }
    policies.iter().filter_map(Named::note).for_each(note);
    Ok(policies)
}

/// A log read to its end and judged.
struct Replay {
    format: String,
    key: String,
    fields: Option<ReadFields>,
    read: Read,
    judged: Vec<Judged>,
}

fn replay(options: &Options, policies: &[Named], quiet: bool) -> Result<Replay, ReplayError> {
    let note = |text: &str| {
        if !quiet {
            say::note(text)
        }
    };
    let mut input = Input::open(options)?;
    if let Some(text) = input.format_note() {
        note(text);
    }
    // What can be read only once is held from the beginning.
    let mut order = if input.can_reopen() { Order::windowed() } else { Order::holding_all() };
    loop {
        let (format, key) = (input.format_name().to_owned(), input.key_name().to_owned());
        let fields = input.fields().cloned();
        if let Some((read, judged)) = pass(input, order, policies, quiet)? {
            if read.census.events == 0 {
                return Err(ReplayError::no_events(options, format, key, &read.census));
            }
            return Ok(Replay { format, key, fields, read, judged });
        }
        note(
            "the log is far from being in order of time, so it is read once more, with all events held in memory; giving the oldest file first may avoid this",
        );
        input = Input::open(options)?;
        order = Order::holding_all();
    }
}

/// None when the order could not be put right, which never happens when all events are held.
fn pass(
    input: Input,
    order: Order,
    policies: &[Named],
    quiet: bool,
) -> Result<Option<(Read, Vec<Judged>)>, ReplayError> {
    let limits: Vec<_> = policies.iter().map(|policy| policy.limits).collect();
    let progress = Progress::of(&input, quiet);
    let (read, judged) = court::hold(&limits, judges(), |docket| reading::pass(input, order, docket, progress));
    // An input that broke off is the cause of what the judges say then, never the other way round.
    match (read?, judged?) {
        (Some(read), Some(judged)) => Ok(Some((read, judged))),
        _ => Ok(None),
    }
}

/// Threads beside the one that reads.
fn judges() -> usize {
    thread::available_parallelism().map_or(1, |all| all.get() - 1)
}

fn input_report(options: &Options, replay: &Replay) -> InputReport {
    let census = &replay.read.census;
    InputReport {
        files: options.files.iter().map(|file| file.display().to_string()).collect(),
        format: replay.format.clone(),
        key: replay.key.clone(),
        key_field: replay.fields.as_ref().map(|fields| fields.key.clone()),
        time_field: replay.fields.as_ref().map(|fields| fields.time.clone()),
        events: census.events,
        keys: replay.read.keys.len() as u64,
        unparsed: census.unparsed,
        nokey: census.nokey,
        out_of_order: census.out_of_order,
        first: census.span.map(|(first, _)| census::rfc3339(first)),
        last: census.span.map(|(_, last)| census::rfc3339(last)),
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

//! What looks wrong about a log or an answer: what happened, and what to try.

use std::fmt;
use std::path::{Path, PathBuf};

use super::census::rfc3339;
use super::reading::Read;
use super::report::InputReport;
use crate::input::{self, Options, PLAUSIBLE};
use crate::policy::thousands;
use crate::say::{self, printable};

/// Lines in a hundred that may be unreadable before it is worth a word.
const UNREADABLE_PERCENT: u64 = 1;
/// Events below which nothing can be said about how they lie in time.
const FEW: u64 = 20;
const HOUR_MS: u64 = 3_600_000;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Warning {
    NoKeys { lines: u64, key: String },
    Unreadable { lines: u64, of: u64, format: String, file: PathBuf, packing: Option<&'static str>, line: u64 },
    Strangers { files: Vec<String>, format: String },
    NoZone,
    SameMinute { minute: u32, events: u64 },
    StrangeDates { first: String, last: String },
    OneKey { key: String, name: String },
    MostlyOneKey { key: String, name: String, percent: u64 },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::NoKeys { lines, key } => write!(
                f,
                "{} lines were left out because they have no {key}\nTry another --key if they are people's requests all the same.",
                thousands((*lines).into())
            ),
            Warning::Unreadable { lines, of, format, file, packing, line } => write!(
                f,
                "{} of {} lines could not be read as {format} and were left out; the first is line {line} of {}\n{}, or try another --format.",
                thousands((*lines).into()),
                thousands((*of).into()),
                input::title(file),
                look(file, *packing, *line),
            ),
            Warning::Strangers { files, format } => write!(
                f,
                "no line of {} could be read as {format}\nSeveral files are one log in one format; replay what has another on its own.",
                files.join(", ")
            ),
            Warning::NoZone => write!(
                f,
                "times have no zone and are taken as UTC\nWhere clocks were changed an hour is missing or comes twice, and sessions end or go on that did not. Name a field with a zone, or with seconds since 1970, by --time, or leave out the days of the change."
            ),
            Warning::SameMinute { minute, events } => write!(
                f,
                "the times are not plausible: all {} events lie in minute {minute:02} of some hour\nSomebody has overwritten the minutes of this log; timeouts cannot be judged with it.",
                thousands((*events).into())
            ),
            Warning::StrangeDates { first, last } => write!(
                f,
                "the times are not plausible: they go from {first} to {last}\nIs --time the right field, and are its units what they seem?"
            ),
            Warning::OneKey { key, name } => write!(
                f,
                "every event has the same {name}, \"{key}\"\nTry another --key; behind a proxy the address is often the proxy's."
            ),
            Warning::MostlyOneKey { key, name, percent } => write!(
                f,
                "{percent} % of all events have the same {name}, \"{key}\"\nA monitor, or many people behind one address? Take it out of the log or try another --key to see the others better."
            ),
        }
    }
}

/// What to do to see the line.
fn look(file: &Path, packing: Option<&str>, line: u64) -> String {
    if input::is_stdin(file) {
        return String::from("Look at what is piped in");
    }
    let name = say::quoted(file);
    match packing {
        Some("gzip") => format!("Look at it with zcat <{name} | sed -n {line}p"),
        Some(_) => format!("Look at it with zstd -dc --long=31 <{name} | sed -n {line}p"),
        None => format!("Look at it with sed -n {line}p {name}"),
    }
}

pub(crate) fn warnings(options: &Options, about: &InputReport, read: &Read) -> Vec<Warning> {
    let census = &read.census;
    let lines = census.events + census.unparsed + census.nokey;
    let mut warnings = Vec::new();
    if census.nokey * 2 > lines {
        warnings.push(Warning::NoKeys { lines: census.nokey, key: about.key.clone() });
    }
    if let Some((file, line)) = census.first_unparsed
        && census.unparsed * 100 >= lines * UNREADABLE_PERCENT
    {
        let packing = census.packings.get(file).copied().flatten();
        let file = options.files.get(file).cloned().unwrap_or_default();
        warnings.push(Warning::Unreadable {
            lines: census.unparsed,
            of: lines,
            format: about.format.clone(),
            file,
            packing,
            line,
        });
    }
    if !census.strangers.is_empty() {
        let files = census.strangers.iter().filter_map(|file| options.files.get(*file)).map(|file| input::title(file));
        warnings.push(Warning::Strangers { files: files.collect(), format: about.format.clone() });
    }
    if census.zoneless {
        warnings.push(Warning::NoZone);
    }
    if let Some(minute) = census.only_minute()
        && census.events >= FEW
        && census.length() > 2 * HOUR_MS
    {
        warnings.push(Warning::SameMinute { minute, events: census.events });
    }
    if let Some((first, last)) = census.span
        && !(PLAUSIBLE.contains(&first) && PLAUSIBLE.contains(&last))
    {
        warnings.push(Warning::StrangeDates { first: rfc3339(first), last: rfc3339(last) });
    }
    if let Some(busiest) = read.keys.busiest()
        && census.events >= FEW
    {
        let (key, name) = (printable(busiest.key), about.key.clone());
        let events = u64::from(busiest.events);
        if about.keys == 1 {
            warnings.push(Warning::OneKey { key, name });
        } else if events * 2 > census.events {
            warnings.push(Warning::MostlyOneKey { key, name, percent: events * 100 / census.events });
        }
    }
    warnings
}

//! The life of a whole table: created, filled, touched, ended, forgotten; and the memory it takes.

use std::path::PathBuf;
use std::time::Instant;

use curfew_engine::{Config, Key, Policy, Span, Start, Table, Tick, Verdict};
use rand::seq::SliceRandom;
use serde_json::json;

use crate::Result;
use crate::report::{Spread, markdown, publish, resident, thousands};
use crate::sessions::{UNBOUND, keys, random};

/// Units of work of one call of advance.
const BUDGET: usize = 4096;

#[derive(clap::Args, Debug)]
pub struct Options {
    /// Sessions, and the capacity of the region
    #[arg(long, default_value_t = 10_000_000)]
    sessions: usize,
    /// How often, each time with a new region
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Ask for 2 MiB pages
    #[arg(long)]
    huge_pages: bool,
    /// Write the figures to this file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is timed in each round.
const STEPS: [&str; 5] = ["create the region", "start all", "touch each once, at random", "end all", "forget all"];

struct Round {
    seconds: [f64; STEPS.len()],
    region: u64,
    resident: u64,
}

/// Runs and prints it.
///
/// # Errors
/// When a table cannot be made, what it did was wrong, or the file cannot be written.
pub fn run(options: &Options) -> Result<()> {
    let starting = keys(options.sessions, 0);
    let mut touching = starting.clone();
    touching.shuffle(&mut random(1));
    let rounds = (0..options.rounds.max(1))
        .map(|_| round(&starting, &touching, options.huge_pages))
        .collect::<Result<Vec<_>>>()?;

    let sessions = options.sessions as f64;
    let spreads =
        std::array::from_fn::<_, { STEPS.len() }, _>(|step| Spread::of(rounds.iter().map(|round| round.seconds[step])));
    let row = |(name, seconds): (&str, &Spread)| {
        vec![
            name.to_owned(),
            format!("{:.1} ms", seconds.median * 1e3),
            format!("{:.1} - {:.1} ms", seconds.min * 1e3, seconds.max * 1e3),
            format!("{:.1} ns", seconds.median * 1e9 / sessions),
        ]
    };
    let rows: Vec<_> = STEPS.into_iter().zip(&spreads).map(row).collect();
    let (region, resident) = (rounds[0].region, rounds[0].resident);
    let text = format!(
        "{} sessions; median of {} rounds.\n\n{}\nThe region: {} bytes, {:.1} per session of capacity. In use with all sessions started and touched: {} bytes, {:.1} per session.\n",
        thousands(options.sessions as u64),
        rounds.len(),
        markdown(&["", "time", "min - max", "per session"], &rows),
        thousands(region),
        region as f64 / sessions,
        thousands(resident),
        resident as f64 / sessions,
    );
    let seconds: serde_json::Map<_, _> =
        STEPS.into_iter().zip(&spreads).map(|(name, seconds)| (name.to_owned(), seconds.json())).collect();
    let figures = json!({
        "sessions": options.sessions, "rounds": rounds.len(), "huge_pages": options.huge_pages,
        "region_bytes": region, "resident_bytes": resident, "seconds": seconds,
    });
    publish(&text, "fill", &figures, options.json.as_deref())
}

fn round(starting: &[Key], touching: &[Key], huge_pages: bool) -> Result<Round> {
    let before = resident();
    let mut begin = Instant::now();
    let mut lap = || std::mem::replace(&mut begin, Instant::now()).elapsed().as_secs_f64();

    let table = Table::private(&Config { huge_pages, ..Config::new(starting.len() as u64) })?;
    let create = lap();
    let policy = Policy::new().idle(Span::from_mins(30)).lifetime(Span::from_mins(8 * 60));
    let start = Start::under(table.set_policy("bench", &policy, Tick::ZERO)?);
    for key in starting {
        table.start(*key, &start, Tick::ZERO)?;
    }
    let fill = lap();
    let active = touching.iter().enumerate().filter(|(nth, key)| {
        let now = Tick::from_millis(*nth as u64 / 1000);
        matches!(table.touch(**key, UNBOUND, now), Verdict::Active(_))
    });
    let active = active.count();
    let touch = lap();
    let resident = resident().saturating_sub(before);

    lap();
    // Two hours on they have been idle for too long; their records are kept until their lifetime is
    // over.
    advance(&table, Tick::ZERO.after(Span::from_mins(2 * 60)));
    let end = lap();
    let ended = table.stats();
    lap();
    advance(&table, Tick::ZERO.after(Span::from_mins(8 * 60)));
    let forget = lap();
    let forgotten = table.stats();

    let all = starting.len() as u64;
    if active as u64 != all || ended.live != 0 || ended.ended_in_all() != all || forgotten.used != 0 {
        return Err(format!("{all} sessions, {active} were active; then {ended:?}; then {forgotten:?}").into());
    }
    Ok(Round { seconds: [create, fill, touch, end, forget], region: forgotten.bytes, resident })
}

fn advance(table: &Table, now: Tick) {
    while table.advance(now, BUDGET).more {}
}

//! The mix as tables grow: a curve, not a point.

use curfew_bench::Result;
use curfew_bench::report::{markdown, thousands};
use serde_json::{Value, json};

use crate::field::Who;
use crate::mix::{self, Draw, From, Work};
use crate::room;

/// Those that are drawn.
const WHO: [Who; 4] = [Who::Curfew, Who::CurfewHuge, Who::Limit, Who::DashmapWheel];

#[derive(clap::Args, Debug, Clone)]
pub(crate) struct Options {
    /// Live sessions, one table after the other
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,100000,1000000,10000000,50000000")]
    pub(crate) sessions: Vec<usize>,
    /// Rounds, in each of which everyone has a turn
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Steps in each turn, at the most: a small table is not to grow by what starts in a turn
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) steps: usize,
}

/// Runs it; the table, and the figures.
pub(crate) fn run(options: &Options) -> Result<(String, Vec<Value>)> {
    let mut rows = Vec::new();
    let mut figures = Vec::new();
    for sessions in &options.sessions {
        let only = room::who_fits_of(&WHO, *sessions, room::free());
        if only.is_empty() {
            continue;
        }
        let mix = mix::Options {
            sessions: vec![*sessions],
            threads: vec![1],
            draw: vec![Draw::Uniform],
            from: vec![From::Key],
            work: Work::Mix,
            rounds: options.rounds,
            steps: (*sessions).clamp(10_000, 1_000_000).min(options.steps),
            only,
        };
        let (_, found) = mix::run(&mix)?;
        let found = found[0]["rows"].as_array().cloned().unwrap_or_default();
        rows.push(row(*sessions, &found));
        figures.push(json!({ "sessions": sessions, "rows": found }));
    }
    let mut head = vec!["sessions".to_owned()];
    head.extend(
        WHO.iter().flat_map(|who| [format!("{}: ns per step", who.name()), "touch p50".into(), "p99.9".into()]),
    );
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let title = "The mix as it grows, uniform, 1 thread, from a key; empty where memory does not suffice";
    Ok((format!("{title}\n\n{}\n", markdown(&head, &rows)), figures))
}

fn row(sessions: usize, found: &[Value]) -> Vec<String> {
    let mut cells = vec![thousands(sessions as u64)];
    for who in WHO {
        let of_it = found.iter().find(|row| row["who"] == who.name());
        let number = |value: &Value| value.as_f64().map_or_else(String::new, |ns| thousands(ns.round() as u64));
        let cell = |read: fn(&Value) -> &Value| of_it.map_or_else(String::new, |row| number(read(row)));
        cells.push(cell(|row| &row["ns"]["median"]));
        cells.push(cell(|row| &row["touch_p50_p99_p999_longest"][0]));
        cells.push(cell(|row| &row["touch_p50_p99_p999_longest"][2]));
    }
    cells
}

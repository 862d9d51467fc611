//! Curfew beside its peers and the limit, in one run: `make bench`, or
//! `cargo bench -p curfew-bench --bench peers -- mix --sessions 1000000`.

mod alone;
mod contender;
mod crowd;
mod field;
mod grows;
mod maps;
mod mix;
mod ours;
mod page;
mod room;
mod timers;
mod wheel;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use curfew_bench::Result;
use curfew_bench::report::publish;
use serde_json::{Value, json};

/// Measures Curfew beside its peers, and prints Markdown tables
#[derive(Parser, Debug)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Write the figures to this file too
    #[arg(long, value_name = "FILE", global = true)]
    json: Option<PathBuf>,
    /// Draw them, on a page by itself
    #[arg(long, value_name = "FILE", global = true)]
    html: Option<PathBuf>,
    /// Without a command: no table with more sessions than these
    #[arg(long, value_name = "SESSIONS")]
    up_to: Option<usize>,
    /// What `cargo bench` says
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Touches, starts and ends, and the tails of touches
    Mix(mix::Options),
    /// Many sessions that fall due in the same millisecond
    Crowd(crowd::Options),
    /// The mix in tables of a thousand to fifty million sessions
    Grows(grows::Options),
    /// Bytes per session
    Memory {
        #[arg(long, default_value_t = 1_000_000)]
        sessions: usize,
    },
    /// Two processes on one region file
    Processes {
        #[arg(long, default_value_t = 1_000_000)]
        sessions: usize,
        #[arg(long, default_value_t = 7)]
        rounds: usize,
        #[arg(long, default_value_t = 2_000_000)]
        touches: usize,
    },
    /// Holds sessions, for `memory`
    #[command(hide = true)]
    Hold { who: field::Who, sessions: usize },
    /// Touches sessions, for `processes`
    #[command(hide = true)]
    TouchRegion { region: PathBuf, sessions: usize, touches: usize, seed: u64 },
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let mut text = String::new();
    let mut figures = json!({});
    let mut took_part = |name: &str, (more, new): (String, Value)| {
        text.push_str(&more);
        figures[name] = new;
    };
    let several = |(text, figures): (String, Vec<Value>)| (text, Value::Array(figures));
    match &arguments.command {
        Some(Command::Hold { who, sessions }) => return alone::hold(*who, *sessions),
        Some(Command::TouchRegion { region, sessions, touches, seed }) => {
            return alone::touch_region(region, *sessions, *touches, *seed);
        }
        Some(Command::Mix(options)) => took_part("mix", several(mix::run(options)?)),
        Some(Command::Crowd(options)) => took_part("crowd", several(crowd::run(options)?)),
        Some(Command::Grows(options)) => took_part("grows", several(grows::run(options)?)),
        Some(Command::Memory { sessions }) => took_part("memory", several(alone::memory(*sessions)?)),
        Some(Command::Processes { sessions, rounds, touches }) => {
            took_part("processes", several(alone::processes(*sessions, *rounds, *touches)?));
        }
        None => {
            let most = |sessions: usize| arguments.up_to.map_or(sessions, |most| most.min(sessions));
            let mut mix = Usual::parse_from(["usual"]).mix;
            mix.sessions.retain(|sessions| *sessions == most(*sessions));
            let ids = mix::Options {
                sessions: vec![most(1_000_000)],
                threads: vec![1],
                draw: vec![mix::Draw::Uniform],
                from: vec![mix::From::Id],
                ..mix.clone()
            };
            let (mut text, mut figures) = each_as_it_fits(&mix)?;
            let (more, new) = mix::run(&ids)?;
            text.push_str(&more);
            figures.extend(new);
            let (more, new) = each_as_it_fits(&mix::Options {
                threads: vec![1],
                draw: vec![mix::Draw::Uniform],
                work: mix::Work::Touches,
                ..mix.clone()
            })?;
            text.push_str(&more);
            figures.extend(new);
            took_part("mix", (text, Value::Array(figures)));
            let mut grows = UsualGrows::parse_from(["usual"]).grows;
            grows.sessions.retain(|sessions| *sessions == most(*sessions));
            took_part("grows", several(grows::run(&grows)?));
            let crowd = UsualCrowd::parse_from(["usual"]).crowd;
            let live = room::live_that_fit(most(crowd.live), room::free());
            took_part("crowd", several(crowd::run(&crowd::Options { live, due: crowd.due.min(live / 10), ..crowd })?));
            took_part("memory", several(alone::memory(most(1_000_000))?));
            took_part("processes", several(alone::processes(most(1_000_000), 7, 2_000_000)?));
        }
    }
    if let Some(file) = &arguments.html {
        page::write(file, &figures)?;
    }
    publish(&text, "peers", &figures, arguments.json.as_deref())
}

fn each_as_it_fits(usual: &mix::Options) -> Result<(String, Vec<Value>)> {
    let (mut text, mut figures) = (String::new(), Vec::new());
    for sessions in &usual.sessions {
        let (only, note) = room::who_fits(*sessions, room::free());
        text.extend(note);
        if !only.is_empty() {
            let (more, new) = mix::run(&mix::Options { sessions: vec![*sessions], only, ..usual.clone() })?;
            text.push_str(&more);
            figures.extend(new);
        }
    }
    Ok((text, figures))
}

/// What each part does if nothing else is said.
#[derive(Parser)]
struct Usual {
    #[command(flatten)]
    mix: mix::Options,
}

#[derive(Parser)]
struct UsualGrows {
    #[command(flatten)]
    grows: grows::Options,
}

#[derive(Parser)]
struct UsualCrowd {
    #[command(flatten)]
    crowd: crowd::Options,
}

//! Many sessions that end in one and the same millisecond, and what a thread that touches others
//! sees of it.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use curfew_engine::{Config, Key, Policy, Retain, Span, Start, Table, Tick, Verdict};
use hdrhistogram::Histogram;
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use crate::Result;
use crate::clock::{Clock, histogram};
use crate::report::{markdown, millis, publish, thousands};
use crate::sessions::{UNBOUND, draws, keys, lasting};

/// When they end.
const DUE: u64 = 60_000;
/// Touches after which the toucher's `now` moves on by a millisecond.
const A_MILLISECOND: u64 = 1000;
/// Keys the toucher goes through again and again.
const DRAWS: usize = 1 << 22;

#[derive(clap::Args, Debug)]
pub struct Options {
    /// Live sessions
    #[arg(long, default_value_t = 10_000_000)]
    live: usize,
    /// How many of them end in the same millisecond
    #[arg(long, default_value_t = 1_000_000)]
    due: usize,
    /// Units of work of one call of advance
    #[arg(long, default_value_t = 256)]
    budget: usize,
    /// Milliseconds of touching before, for comparison
    #[arg(long, default_value_t = 1000)]
    before: u64,
    /// Keep the records of what has ended for a day, instead of forgetting them at once
    #[arg(long)]
    keep: bool,
    /// Sessions of each user; zero for sessions that are nobody's
    #[arg(long, default_value_t = 0)]
    per_user: usize,
    /// Ask for 2 MiB pages
    #[arg(long)]
    huge_pages: bool,
    /// Write the figures to this file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What the advancing thread is doing: the toucher keeps one histogram of each.
const PHASES: [&str; 3] = ["touch, before", "touch, while entries are filed anew", "touch, while they end"];
/// The `now` with which the toucher begins each phase.
const NOWS: [u64; PHASES.len()] = [DUE / 2, DUE - 1, DUE];

/// What it took to advance to one tick.
struct Work {
    cpu: Duration,
    wall: Duration,
    units: usize,
    calls: usize,
    longest_call: Duration,
}

/// What the toucher has seen.
struct Seen {
    histograms: Vec<Histogram<u64>>,
    preempted: Vec<i64>,
    refused: u64,
}

/// Runs and prints it.
///
/// # Errors
/// When a table cannot be made, something ended that should not have, or the file cannot be written.
pub fn run(options: &Options) -> Result<()> {
    if options.due >= options.live {
        return Err("--due must be less than --live: somebody has to be touched".into());
    }
    let (table, others) = prepare(options)?;
    let clock = Clock::new();
    let alone = clock.alone(Duration::from_millis(options.before));
    let phase = AtomicUsize::new(0);
    let together = Barrier::new(2);
    let (filed, ended, seen) = std::thread::scope(|scope| {
        let toucher = scope.spawn(|| {
            together.wait();
            touch_others(&table, &others, &clock, &phase)
        });
        together.wait();
        std::thread::sleep(Duration::from_millis(options.before));
        phase.store(1, Ordering::Release);
        // What is due is filed closer to its time on the way there. In life that has been spread
        // over the hours before; here all of it happens in this step.
        let filed = advance(&table, Tick::from_millis(DUE - 1), options.budget);
        phase.store(2, Ordering::Release);
        let ended = advance(&table, Tick::from_millis(DUE), options.budget);
        phase.store(PHASES.len(), Ordering::Release);
        (filed, ended, toucher.join().expect("a thread that only touches"))
    });
    let stats = table.stats();
    if stats.ended_in_all() != options.due as u64 || seen.refused != 0 {
        let (ended, due) = (stats.ended_in_all(), options.due);
        return Err(format!("{ended} ended of {due} that were due, {} others were refused", seen.refused).into());
    }
    let text = format!(
        "{} live sessions, {} of them due in the same millisecond, {} per call of advance{}.\n\n{}\n{}\n{} events. Reading the clock twice takes {} ns (median), which is in every figure of a touch.\n",
        thousands(options.live as u64),
        thousands(options.due as u64),
        options.budget,
        if options.keep { ", records kept" } else { ", records forgotten" },
        work_table(&[("filing anew", &filed), ("ending", &ended)], options.due),
        touch_table(&alone, &seen),
        thousands(stats.events),
        alone.value_at_quantile(0.5),
    );
    let figures = json!({
        "live": options.live, "due": options.due, "budget": options.budget, "keep": options.keep,
        "per_user": options.per_user, "huge_pages": options.huge_pages, "events": stats.events,
        "filing": work_json(&filed), "ending": work_json(&ended),
        "clock": histogram_json(&alone),
        "touch": seen.histograms.iter().zip(PHASES).map(|(seen, name)| (name.to_owned(), histogram_json(seen))).collect::<serde_json::Map<_, _>>(),
    });
    publish(&text, "expire", &figures, options.json.as_deref())
}

/// The table, and keys of sessions that are not due.
fn prepare(options: &Options) -> Result<(Table, Vec<Key>)> {
    let table = Table::private(&Config { huge_pages: options.huge_pages, ..Config::new(options.live as u64) })?;
    let retain = Retain::For(if options.keep { Span::DAY } else { Span::OFF });
    let due = table.set_policy("due", &Policy::new().idle(Span::from_millis(DUE)).retain(retain), Tick::ZERO)?;
    let other = table.set_policy("other", &lasting(), Tick::ZERO)?;
    let keys = keys(options.live, 0);
    for (nth, key) in keys.iter().enumerate() {
        let mut start = Start::under(if nth < options.due { due } else { other });
        if let Some(user) = nth.checked_div(options.per_user) {
            start = start.of(table.subject(&user.to_le_bytes()));
        }
        table.start(*key, &start, Tick::ZERO)?;
    }
    let others = draws(&keys[options.due..], DRAWS.min(options.live * 4), 1);
    Ok((table, others))
}

fn touch_others(table: &Table, others: &[Key], clock: &Clock, phase: &AtomicUsize) -> Seen {
    let mut seen =
        Seen { histograms: PHASES.map(|_| histogram()).into(), preempted: vec![0; PHASES.len()], refused: 0 };
    let mut keys = others.iter().cycle();
    for (nth, (histogram, begin)) in seen.histograms.iter_mut().zip(NOWS).enumerate() {
        let preempted = preempted();
        let mut touches = 0;
        while phase.load(Ordering::Acquire) == nth {
            let Some(key) = keys.next() else { break };
            let now = Tick::from_millis(begin + touches / A_MILLISECOND);
            let from = clock.read();
            let verdict = table.touch(*key, UNBOUND, now);
            black_box(&verdict);
            histogram.saturating_record(clock.nanos(from, clock.read()));
            seen.refused += u64::from(!matches!(verdict, Verdict::Active(_)));
            touches += 1;
        }
        seen.preempted[nth] = self::preempted() - preempted;
    }
    seen
}

/// How often the system took the processor from this thread, which no engine can help.
fn preempted() -> i64 {
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| usage.involuntary_context_switches())
}

fn advance(table: &Table, now: Tick, budget: usize) -> Work {
    let cpu = processor_time();
    let begin = Instant::now();
    let mut work = Work { cpu: Duration::ZERO, wall: Duration::ZERO, units: 0, calls: 0, longest_call: Duration::ZERO };
    loop {
        let call = Instant::now();
        let advance = table.advance(now, budget);
        work.longest_call = work.longest_call.max(call.elapsed());
        work.calls += 1;
        work.units += advance.done;
        if !advance.more {
            break;
        }
    }
    Work { cpu: processor_time().saturating_sub(cpu), wall: begin.elapsed(), ..work }
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

fn work_table(works: &[(&str, &Work)], due: usize) -> String {
    let row = |(name, work): &(&str, &Work)| {
        vec![
            (*name).to_owned(),
            millis(work.cpu),
            millis(work.wall),
            format!("{:.1} ns", work.cpu.as_nanos() as f64 / due as f64),
            thousands(work.units as u64),
            thousands(work.calls as u64),
            format!("{:.1} us", work.longest_call.as_secs_f64() * 1e6),
        ]
    };
    let head = ["advancing thread", "CPU", "wall", "CPU per session", "units", "calls", "longest call"];
    markdown(&head, &works.iter().map(row).collect::<Vec<_>>())
}

fn touch_table(alone: &Histogram<u64>, seen: &Seen) -> String {
    let row = |name: &str, seen: &Histogram<u64>, preempted: String| {
        let mut row = vec![name.to_owned(), thousands(seen.len())];
        row.extend([0.5, 0.99, 0.999, 0.9999].map(|part| thousands(seen.value_at_quantile(part))));
        row.extend([thousands(seen.max()), preempted]);
        row
    };
    let mut rows = vec![row("clock alone", alone, String::new())];
    for (nth, name) in PHASES.iter().enumerate() {
        rows.push(row(name, &seen.histograms[nth], seen.preempted[nth].to_string()));
    }
    markdown(&["ns", "times", "p50", "p99", "p99.9", "p99.99", "longest", "preempted"], &rows)
}

fn work_json(work: &Work) -> Value {
    json!({
        "cpu_ms": work.cpu.as_secs_f64() * 1e3, "wall_ms": work.wall.as_secs_f64() * 1e3, "units": work.units,
        "calls": work.calls, "longest_call_us": work.longest_call.as_secs_f64() * 1e6,
    })
}

fn histogram_json(seen: &Histogram<u64>) -> Value {
    let at = |part| seen.value_at_quantile(part);
    json!({
        "times": seen.len(), "p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "p9999": at(0.9999),
        "longest": seen.max(),
    })
}

//! Many sessions that end in the same millisecond: what it costs to forget them, and what somebody
//! who touches others sees of it.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use curfew_bench::Result;
use curfew_bench::clock::{Clock, histogram};
use curfew_bench::report::{markdown, thousands};
use curfew_bench::sessions::random;
use hdrhistogram::Histogram;
use nix::time::{ClockId, clock_gettime};
use rand::Rng;
use serde_json::{Value, json};

use crate::contender::{A_MILLISECOND, IDLE, SHORT};
use crate::field::Who;

#[derive(clap::Args, Debug, Clone)]
pub(crate) struct Options {
    /// Live sessions
    #[arg(long, default_value_t = 10_000_000)]
    pub(crate) live: usize,
    /// How many of them fall due together
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) due: usize,
    /// Only these
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) only: Vec<Who>,
}

/// Runs it; the table, and the figures.
pub(crate) fn run(options: &Options) -> Result<(String, Vec<Value>)> {
    if options.due >= options.live {
        return Err("--due must be less than --live: somebody has to be touched".into());
    }
    let (mut rows, mut figures) = (Vec::new(), Vec::new());
    let chosen = if options.only.is_empty() { Who::value_variants() } else { &options.only };
    for who in chosen.iter().filter(|who| who.expires() && !matches!(who, Who::Moka | Who::CurfewAhead)) {
        eprintln!(
            "{}: {} of {} sessions fall due",
            who.name(),
            thousands(options.due as u64),
            thousands(options.live as u64)
        );
        let (cpu, [before, meanwhile]) = one(*who, options)?;
        let at = |seen: &Histogram<u64>, part| seen.value_at_quantile(part);
        rows.push(vec![
            who.name().to_owned(),
            format!("{:.0} ms", cpu.as_secs_f64() * 1e3),
            thousands(at(&before, 0.5)),
            thousands(at(&meanwhile, 0.5)),
            thousands(at(&before, 0.999)),
            thousands(at(&meanwhile, 0.999)),
            thousands(meanwhile.max()),
        ]);
        figures.push(json!({
            "who": who.name(), "live": options.live, "due": options.due, "cpu_ms": cpu.as_secs_f64() * 1e3,
            "before": { "p50": at(&before, 0.5), "p999": at(&before, 0.999), "longest": before.max() },
            "meanwhile": { "p50": at(&meanwhile, 0.5), "p999": at(&meanwhile, 0.999), "longest": meanwhile.max() },
        }));
    }
    let head = ["", "CPU for all", "touch p50 before", "meanwhile", "p99.9 before", "meanwhile", "longest"];
    let text = format!(
        "{} of {} sessions fall due in one millisecond; touches of others meanwhile, in ns\n\n{}\n",
        thousands(options.due as u64),
        thousands(options.live as u64),
        markdown(&head, &rows),
    );
    Ok((text, figures))
}

/// What it takes one of them: processor time of the thread that advances, and the touches of others
/// before and meanwhile.
fn one(who: Who, options: &Options) -> Result<(Duration, [Histogram<u64>; 2])> {
    let mut random = random(7);
    let keys: Vec<u128> = (0..options.live).map(|_| random.random()).collect();
    let contender = who.make::<u128>(options.live + 1000)?;
    let (due, others) = keys.split_at(options.due);
    due.iter().for_each(|key| contender.start(*key, SHORT, 0));
    let began = Instant::now();
    others.iter().for_each(|key| contender.start(*key, IDLE, 0));
    let touched: Vec<_> = (0..1 << 21).map(|_| others[random.random_range(0..others.len())]).collect();
    // Up to the moment before; in life this has been spread over the minute.
    contender.advance(SHORT - 1);
    if who.has_a_clock() {
        std::thread::sleep((Duration::from_millis(SHORT) + Duration::from_secs(2)).saturating_sub(began.elapsed()));
    }
    let contender = contender.as_ref();
    let clock = Clock::new();
    let phase = AtomicUsize::new(0);
    let together = Barrier::new(2);
    let (cpu, seen) = std::thread::scope(|scope| {
        let toucher = scope.spawn(|| {
            together.wait();
            let mut seen = [histogram(), histogram()];
            let mut nth = 0;
            while phase.load(Ordering::Acquire) < seen.len() {
                let now = SHORT - 1 + u64::from(phase.load(Ordering::Acquire) == 1);
                let key = touched[nth % touched.len()];
                let from = clock.read();
                let passed = contender.touch(key, now);
                let took = clock.nanos(from, clock.read());
                assert!(passed, "a session that was not due has ended");
                // Where it began.
                seen[(now - (SHORT - 1)) as usize].saturating_record(took);
                nth += 1;
            }
            seen
        });
        together.wait();
        std::thread::sleep(Duration::from_millis(500));
        let before = processor_time();
        phase.store(1, Ordering::Release);
        let mut done = contender.advance(SHORT);
        // Who has queues of its own may not be through with them at once.
        while who.has_a_clock() && done < options.due {
            let more = contender.advance(SHORT);
            if more == 0 {
                break;
            }
            done += more;
        }
        let cpu = processor_time().saturating_sub(before);
        phase.store(2, Ordering::Release);
        (cpu, toucher.join().expect("a thread that only touches"))
    });
    let left = due.iter().step_by(A_MILLISECOND).filter(|key| contender.touch(**key, SHORT)).count();
    if left != 0 {
        return Err(format!("{}: {left} of those looked at had not ended", who.name()).into());
    }
    Ok((cpu, seen))
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

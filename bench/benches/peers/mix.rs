//! The daily work: 95 % touches, 4 % starts, 1 % ends, or touches alone; everyone in turn, round after
//! round, so that whatever disturbs the machine for a while disturbs all.

use std::sync::Barrier;
use std::time::Instant;

use clap::ValueEnum;
use curfew_bench::Result;
use curfew_bench::clock::{Clock, histogram};
use curfew_bench::report::{Spread, markdown, thousands};
use curfew_bench::sessions::random;
use hdrhistogram::Histogram;
use rand::Rng;
use rand::distr::Distribution;
use rand::distr::StandardUniform;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand_distr::Zipf;
use serde_json::{Value, json};

use crate::contender::{A_MILLISECOND, Contender, IDLE, Step};
use crate::field::Who;
use crate::ours::Keyed;

#[derive(clap::Args, Debug, Clone)]
pub(crate) struct Options {
    /// Live sessions, one table after the other
    #[arg(long, value_delimiter = ',', default_value = "100000,1000000,10000000")]
    pub(crate) sessions: Vec<usize>,
    /// Threads that work at once
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    pub(crate) threads: Vec<usize>,
    /// How sessions are chosen
    #[arg(long, value_enum, value_delimiter = ',', default_value = "uniform,zipf")]
    pub(crate) draw: Vec<Draw>,
    /// What is presented: a key, or an id of 32 bytes that has to be made one
    #[arg(long, value_enum, value_delimiter = ',', default_value = "key")]
    pub(crate) from: Vec<From>,
    /// What is done
    #[arg(long, value_enum, default_value = "mix")]
    pub(crate) work: Work,
    /// Rounds, in each of which everyone has a turn
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Steps of each thread in each turn
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) steps: usize,
    /// Only these
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) only: Vec<Who>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Draw {
    /// Each as likely as the other
    Uniform,
    /// Some far more often than others: Zipf with exponent 0.99
    Zipf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum From {
    Key,
    Id,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Work {
    /// 95 % touches, 4 % starts, 1 % ends
    Mix,
    /// Nothing but touches
    Touches,
}

/// What the threads of one round do.
struct Plan<K> {
    steps: Vec<Vec<Step<K>>>,
    /// Touches alone, for measuring each.
    touches: Vec<K>,
    started: Vec<K>,
    ended: Vec<K>,
}

/// Runs it; the tables, and the figures.
pub(crate) fn run(options: &Options) -> Result<(String, Vec<Value>)> {
    let mut text = String::new();
    let mut figures = Vec::new();
    for from in &options.from {
        for count in &options.sessions {
            let (more, new) = match from {
                From::Key => of::<u128>(options, *count, "a key")?,
                From::Id => of::<[u8; 32]>(options, *count, "an id of 32 bytes")?,
            };
            text.push_str(&more);
            figures.extend(new);
        }
    }
    Ok((text, figures))
}

fn of<K: Keyed>(options: &Options, count: usize, from: &str) -> Result<(String, Vec<Value>)>
where
    StandardUniform: Distribution<K>,
{
    let mut random = random(count as u64);
    let live: Vec<K> = (0..count).map(|_| random.random()).collect();
    let everyone = if options.only.is_empty() { Who::value_variants() } else { &options.only };
    let most = options.threads.iter().copied().max().unwrap_or(1);
    let room = count + options.steps * most / 20 + 1000;
    let mut field: Vec<(Who, Box<dyn Contender<K>>, f64)> = Vec::new();
    for who in everyone {
        eprintln!("{}: {} sessions start", who.name(), thousands(count as u64));
        let contender = who.make::<K>(room)?;
        let begin = Instant::now();
        live.iter().for_each(|key| contender.start(*key, IDLE, 0));
        field.push((*who, contender, begin.elapsed().as_nanos() as f64 / count as f64));
    }
    let clock = Clock::new();
    let mut now = 1;
    let (mut text, mut figures) = (String::new(), Vec::new());
    for draw in &options.draw {
        for threads in &options.threads {
            let plan = plan(&live, options, *draw, *threads, &mut random);
            let (turns, tails) = measure(&field, &plan, options.rounds, &clock, &mut now)?;
            let heading = format!(
                "{} sessions, {}, {threads} thread{}, from {from}{}",
                thousands(count as u64),
                if *draw == Draw::Uniform { "uniform" } else { "Zipf 0.99" },
                if *threads == 1 { "" } else { "s" },
                if options.work == Work::Touches { ", touches alone" } else { "" },
            );
            let rows = rows(&field, &turns, &tails);
            text.push_str(&format!("{heading}\n\n{}\n", table(&rows)));
            figures.push(json!({
                "sessions": count, "threads": threads, "draw": format!("{draw:?}"), "from": from,
                "work": format!("{:?}", options.work), "heading": heading,
                "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
            }));
        }
    }
    Ok((text, figures))
}

fn plan<K: Keyed>(live: &[K], options: &Options, draw: Draw, threads: usize, random: &mut SmallRng) -> Plan<K>
where
    StandardUniform: Distribution<K>,
{
    let zipf = Zipf::<f64>::new(live.len() as f64, 0.99).expect("there are sessions");
    let pick = |random: &mut SmallRng| match draw {
        Draw::Uniform => live[random.random_range(0..live.len())],
        Draw::Zipf => {
            let rank: f64 = Distribution::<f64>::sample(&zipf, random);
            live[(rank as usize - 1).min(live.len() - 1)]
        }
    };
    let steps = options.steps;
    let changes = if options.work == Work::Mix { 5 } else { 0 };
    // Nobody is logged out twice.
    let leaving = if changes == 0 { 0 } else { (steps * threads / 100).min(live.len() / 4) };
    let mut ended: Vec<K> = live.to_vec();
    ended.partial_shuffle(random, leaving);
    let ended = ended.split_off(live.len() - leaving);
    let mut leaving = ended.iter().copied();
    let mut started = Vec::new();
    let steps: Vec<Vec<_>> = (0..threads)
        .map(|_| {
            let each = (0..steps).map(|_| match random.random_range(0..100) {
                nth if nth >= changes => Step::Touch(pick(random)),
                0 => leaving.next().map_or_else(|| Step::Touch(pick(random)), Step::End),
                _ => {
                    started.push(random.random());
                    Step::Start(started[started.len() - 1])
                }
            });
            each.collect()
        })
        .collect();
    let touches = (0..(steps[0].len() / 4).max(1)).map(|_| pick(random)).collect();
    Plan { steps, touches, started, ended }
}

type Field<K> = [(Who, Box<dyn Contender<K>>, f64)];
/// Nanoseconds per step, by round and who; and what single touches took each of them.
type Measured = (Vec<Vec<f64>>, Vec<Histogram<u64>>);

/// Measures all rounds. The first is for warming up, and for seeing that all come to the same answers.
fn measure<K: Keyed>(
    field: &Field<K>,
    plan: &Plan<K>,
    rounds: usize,
    clock: &Clock,
    now: &mut u64,
) -> Result<Measured> {
    let mut all = Vec::new();
    let mut tails: Vec<_> = field.iter().map(|_| histogram()).collect();
    for round in 0..=rounds {
        let mut turns = vec![0.0; field.len()];
        let mut passed: Option<usize> = None;
        for nth in 0..field.len() {
            let turn = (round + nth) % field.len();
            let (who, contender, _) = &field[turn];
            let contender = contender.as_ref();
            let (nanos, of_them) = take_turn(contender, plan, *now);
            turns[turn] = nanos;
            *now += (plan.steps[0].len() / A_MILLISECOND) as u64 + 1;
            if who.expires() && plan.steps.len() == 1 && *passed.get_or_insert(of_them) != of_them {
                return Err(format!("{}: {of_them} requests passed, {passed:?} with another", who.name()).into());
            }
            // As it was before, without being measured.
            for key in &plan.started {
                contender.end(*key, *now);
            }
            contender.advance(*now);
            for key in &plan.ended {
                contender.start(*key, IDLE, *now);
            }
            let there = contender.touch_each(&plan.touches, clock, *now, &mut tails[turn]);
            *now += (plan.touches.len() / A_MILLISECOND) as u64 + 1;
            if there != plan.touches.len() {
                return Err(format!("{}: {there} of {} were there", who.name(), plan.touches.len()).into());
            }
            if round == 0 {
                tails[turn].reset();
            }
        }
        if round > 0 {
            all.push(turns);
        }
    }
    Ok((all, tails))
}

fn take_turn<K: Keyed>(contender: &dyn Contender<K>, plan: &Plan<K>, now: u64) -> (f64, usize) {
    let together = Barrier::new(plan.steps.len());
    let done: Vec<_> = std::thread::scope(|scope| {
        let work = |(nth, steps)| {
            let together = &together;
            let steps: &Vec<_> = steps;
            scope.spawn(move || {
                together.wait();
                let begin = Instant::now();
                let passed = contender.work(steps, now, nth == 0);
                (begin.elapsed(), passed)
            })
        };
        let threads: Vec<_> = plan.steps.iter().enumerate().map(work).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread that only works")).collect()
    });
    let each = done.iter().map(|(time, _)| time.as_nanos() as f64 / plan.steps[0].len() as f64);
    (each.sum::<f64>() / done.len() as f64, done.iter().map(|(_, passed)| passed).sum())
}

struct Row {
    who: Who,
    step: Spread,
    times_the_limit: Spread,
    times_curfew: Option<Spread>,
    tails: [u64; 4],
    start: f64,
}

fn rows<K: Keyed>(field: &Field<K>, turns: &[Vec<f64>], tails: &[Histogram<u64>]) -> Vec<Row> {
    let place = |who: Who| field.iter().position(|(other, ..)| *other == who);
    let against = |own: usize, other: usize| Spread::of(turns.iter().map(|turn| turn[own] / turn[other]));
    let rows = field.iter().enumerate().map(|(own, (who, _, start))| Row {
        who: *who,
        step: Spread::of(turns.iter().map(|turn| turn[own])),
        times_the_limit: against(own, place(Who::Limit).unwrap_or(own)),
        times_curfew: place(Who::Curfew).map(|curfew| against(own, curfew)),
        tails: [0.5, 0.99, 0.999, 1.0].map(|part| tails[own].value_at_quantile(part)),
        start: *start,
    });
    rows.collect()
}

fn table(rows: &[Row]) -> String {
    let head =
        ["", "ns per step", "min - max", "x the limit", "x Curfew", "touch p50", "p99", "p99.9", "longest", "start"];
    let cells = |row: &Row| {
        let mut cells = vec![
            row.who.name().to_owned(),
            format!("{:.0}", row.step.median),
            format!("{:.0} - {:.0}", row.step.min, row.step.max),
            format!("{:.2}", row.times_the_limit.median),
            row.times_curfew.map_or_else(String::new, |times| format!("{:.2}", times.median)),
        ];
        cells.extend(row.tails.map(thousands));
        cells.push(format!("{:.0}", row.start));
        cells
    };
    markdown(&head, &rows.iter().map(cells).collect::<Vec<_>>())
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "who": self.who.name(), "ns": self.step.json(), "times_the_limit": self.times_the_limit.json(),
            "times_curfew": self.times_curfew.map(|times| times.json()),
            "touch_p50_p99_p999_longest": self.tails, "ns_per_start": self.start,
        })
    }
}

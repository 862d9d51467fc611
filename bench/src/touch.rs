//! What a touch costs, against the limit, in one interleaved run: whatever disturbs the machine for
//! a while disturbs all of them.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Barrier;
use std::time::Instant;

use curfew_engine::{Batched, Key, Table, Tick, Verdict};
use serde_json::{Value, json};

use crate::clock::barrier;
use crate::limit::Limit;
use crate::report::{Spread, markdown, publish, thousands};
use crate::sessions::{UNBOUND, draws, keys, lasting, table};
use crate::{Result, sessions};

/// `now` moves on by a millisecond after so many touches, so that touches store as often as in life.
pub(crate) const A_MILLISECOND: usize = 1000;

#[derive(clap::Args, Debug)]
pub struct Options {
    /// Live sessions, one table after the other
    #[arg(long, value_delimiter = ',', default_value = "100000,1000000,10000000")]
    sessions: Vec<usize>,
    /// Threads that touch at once
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,
    /// Rounds, in each of which everyone has a turn
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Touches of each thread in each turn
    #[arg(long, default_value_t = 2_000_000)]
    touches: usize,
    /// Ask for 2 MiB pages, for the engine and the limit
    #[arg(long)]
    huge_pages: bool,
    /// Write the figures to this file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Who takes a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    Engine,
    EngineMany(usize),
    /// One that has ended before the next begins, as it is for a proxy, which does other things in
    /// between. In a loop the processor works on as many touches at once as it has room for.
    EngineAlone,
    Limit,
    LimitMany(usize),
    LimitAlone,
}

impl Who {
    const ALL: [Who; 7] = [
        Who::Engine,
        Who::EngineAlone,
        Who::EngineMany(16),
        Who::EngineMany(256),
        Who::Limit,
        Who::LimitAlone,
        Who::LimitMany(16),
    ];

    fn name(self) -> String {
        match self {
            Who::Engine => "engine, touch".into(),
            Who::EngineAlone => "engine, touch, isolated".into(),
            Who::EngineMany(size) => format!("engine, touch_many of {size}"),
            Who::Limit => "limit, one by one".into(),
            Who::LimitAlone => "limit, isolated".into(),
            Who::LimitMany(size) => format!("limit, batches of {size}"),
        }
    }

    /// The limit of what this one does.
    fn limit(self) -> Who {
        match self {
            Who::Engine | Who::Limit => Who::Limit,
            Who::EngineAlone | Who::LimitAlone => Who::LimitAlone,
            Who::EngineMany(_) | Who::LimitMany(_) => Who::LimitMany(16),
        }
    }
}

struct Field {
    table: Table,
    limit: Limit,
}

/// The keys that one thread touches, as each side takes them.
struct Share {
    keys: Vec<Key>,
    words: Vec<[u64; 2]>,
}

impl Share {
    fn new(keys: Vec<Key>) -> Share {
        let words = keys.iter().map(|key| words(*key)).collect();
        Share { keys, words }
    }
}

fn words(key: Key) -> [u64; 2] {
    let bytes = u128::from_le_bytes(key.to_bytes());
    [bytes as u64, (bytes >> 64) as u64]
}

/// Runs and prints it.
///
/// # Errors
/// When a table cannot be made, a session was not there, or the file cannot be written.
pub fn run(options: &Options) -> Result<()> {
    let mut rows = Vec::new();
    let mut figures = Vec::new();
    for count in &options.sessions {
        let field = prepare(*count, options.huge_pages)?;
        let most = options.threads.iter().copied().max().unwrap_or(1);
        let all = keys(*count, 0);
        let shares: Vec<_> =
            (0..most).map(|thread| Share::new(draws(&all, options.touches, 1 + thread as u64))).collect();
        drop(all);
        let mut clock = 1;
        for threads in &options.threads {
            let turns = measure(&field, &shares[..*threads], options.rounds, &mut clock)?;
            for who in Who::ALL {
                let (row, figure) = line(*count, *threads, who, &turns);
                rows.push(row);
                figures.push(figure);
            }
        }
    }
    let pages = if options.huge_pages { "2 MiB" } else { "4 KiB" };
    let head = ["who", "sessions", "threads", "ns per touch", "min - max", "million/s in all", "times the limit"];
    let text = format!(
        "Nanoseconds per touch as each thread sees it, uniform random keys, {pages} pages; median of {} rounds of {} touches.\n\n{}",
        options.rounds,
        thousands(options.touches as u64),
        markdown(&head, &rows),
    );
    let figures = json!({ "huge_pages": options.huge_pages, "rounds": options.rounds, "touches": options.touches, "rows": figures });
    publish(&text, "touch", &figures, options.json.as_deref())
}

fn prepare(count: usize, huge_pages: bool) -> Result<Field> {
    let keys = sessions::keys(count, 0);
    let limit = Limit::new(count, huge_pages)?;
    keys.iter().for_each(|key| limit.insert(words(*key)));
    Ok(Field { table: table(count, &keys, &lasting(), huge_pages)?, limit })
}

/// Nanoseconds per touch, by round and who. Each round begins with another one; the first round is
/// for warming up and does not count.
fn measure(field: &Field, shares: &[Share], rounds: usize, clock: &mut u64) -> Result<Vec<Vec<f64>>> {
    let mut all = Vec::new();
    for round in 0..=rounds {
        let mut turns = vec![0.0; Who::ALL.len()];
        for nth in 0..Who::ALL.len() {
            let turn = (round + nth) % Who::ALL.len();
            turns[turn] = take_turn(field, shares, Who::ALL[turn], *clock)?;
            *clock += (shares[0].keys.len() / A_MILLISECOND) as u64 + 1;
        }
        if round > 0 {
            all.push(turns);
        }
    }
    Ok(all)
}

fn take_turn(field: &Field, shares: &[Share], who: Who, now: u64) -> Result<f64> {
    let together = Barrier::new(shares.len());
    let times: Vec<_> = std::thread::scope(|scope| {
        let touch = |share| {
            let together = &together;
            scope.spawn(move || {
                together.wait();
                let begin = Instant::now();
                let there = touch_all(field, share, who, now);
                (begin.elapsed(), there)
            })
        };
        let threads: Vec<_> = shares.iter().map(touch).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread that only touches")).collect()
    });
    let touches = shares[0].keys.len();
    if times.iter().any(|(_, there)| *there != touches) {
        return Err(format!("{}: not every session was found active", who.name()).into());
    }
    let each = times.iter().map(|(time, _)| time.as_nanos() as f64 / touches as f64);
    Ok(each.sum::<f64>() / times.len() as f64)
}

/// Touches the whole share; says how many sessions were there and active.
fn touch_all(field: &Field, share: &Share, who: Who, now: u64) -> usize {
    match who {
        Who::Engine => engine::<false>(&field.table, &share.keys, now),
        Who::EngineAlone => engine::<true>(&field.table, &share.keys, now),
        Who::EngineMany(size) => engine_many(&field.table, &share.keys, size, now),
        Who::Limit => limit::<false>(&field.limit, &share.words, now),
        Who::LimitAlone => limit::<true>(&field.limit, &share.words, now),
        Who::LimitMany(size) => limit_many(&field.limit, &share.words, size, now),
    }
}

#[inline(never)]
pub(crate) fn engine<const ALONE: bool>(table: &Table, keys: &[Key], now: u64) -> usize {
    let mut active = 0;
    for (nth, keys) in keys.chunks(A_MILLISECOND).enumerate() {
        let now = Tick::from_millis(now + nth as u64);
        for key in keys {
            let verdict = table.touch(*key, UNBOUND, now);
            // The whole answer is wanted, not only what is looked at here.
            black_box(&verdict);
            active += usize::from(matches!(verdict, Verdict::Active(_)));
            if ALONE {
                barrier();
            }
        }
    }
    active
}

#[inline(never)]
pub(crate) fn engine_many(table: &Table, keys: &[Key], size: usize, now: u64) -> usize {
    let mut batch = vec![Batched::new(keys[0], UNBOUND); size];
    let mut active = 0;
    for (nth, keys) in keys.chunks(size).enumerate() {
        let now = Tick::from_millis(now + (nth * size / A_MILLISECOND) as u64);
        // Filling the batch is part of using it.
        let batch = &mut batch[..keys.len()];
        batch.iter_mut().zip(keys).for_each(|(one, key)| one.key = *key);
        table.touch_many(batch, now);
        active += batch.iter().filter(|one| matches!(one.verdict, Verdict::Active(_))).count();
    }
    active
}

#[inline(never)]
fn limit<const ALONE: bool>(limit: &Limit, keys: &[[u64; 2]], now: u64) -> usize {
    let mut there = 0;
    for (nth, keys) in keys.chunks(A_MILLISECOND).enumerate() {
        let now = now + nth as u64;
        for key in keys {
            there += usize::from(black_box(limit.touch(*key, now)));
            if ALONE {
                barrier();
            }
        }
    }
    there
}

#[inline(never)]
fn limit_many(limit: &Limit, keys: &[[u64; 2]], size: usize, now: u64) -> usize {
    let chunks = keys.chunks(size).enumerate();
    chunks.map(|(nth, keys)| limit.touch_many(keys, now + (nth * size / A_MILLISECOND) as u64)).sum()
}

fn line(sessions: usize, threads: usize, who: Who, turns: &[Vec<f64>]) -> (Vec<String>, Value) {
    let place = |who: Who| Who::ALL.iter().position(|other| *other == who).unwrap_or_default();
    let (own, limit) = (place(who), place(who.limit()));
    let cost = Spread::of(turns.iter().map(|turn| turn[own]));
    // Of each round by itself: a slow moment of the machine is in both of its figures.
    let ratio = Spread::of(turns.iter().map(|turn| turn[own] / turn[limit]));
    let in_all = threads as f64 * 1e3 / cost.median;
    let row = vec![
        who.name(),
        thousands(sessions as u64),
        threads.to_string(),
        format!("{:.1}", cost.median),
        format!("{:.1} - {:.1}", cost.min, cost.max),
        format!("{in_all:.1}"),
        if own == limit { "1".into() } else { format!("{:.2}", ratio.median) },
    ];
    let figure = json!({
        "sessions": sessions,
        "threads": threads,
        "who": who.name(),
        "ns": cost.json(),
        "rounds_ns": turns.iter().map(|turn| turn[own]).collect::<Vec<_>>(),
        "times_the_limit": ratio.json(),
    });
    (row, figure)
}

//! The engine under loom: every interleaving of a few steps, within a bound on preemptions, and
//! for each of them every value that a load may return.
//!
//! `make loom` runs these. Each model says what it would catch; `scripts/mutants` weakens the engine
//! in all the ways that `docs/verification.md` lists, and expects the model named there to fail.
//!
//! A model that was cut by its bound on time says so on standard error, where no harness hides it.

mod advance;
mod events;
mod locks;
mod policies;
mod records;
mod rotation;
mod starts;
mod subjects;
mod touches;
mod watch;

use std::cell::Cell;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use loom::sync::Arc;
use loom::thread;

use crate::owner::Owner;
use crate::{Binding, Config, Event, Key, Policy, PolicyId, Retain, Span, Start, Subject, Table, Tick, Verdict, What};

fn at(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

fn ms(millis: u64) -> Span {
    Span::from_millis(millis)
}

fn asked<T: std::str::FromStr>(variable: &str) -> Option<T> {
    std::env::var(variable).ok().and_then(|value| value.parse().ok())
}

/// Runs a model in every interleaving with up to `preemptions` preemptions. Loom begins with changes to what
/// happens last. Where half of the time is too short for all, the rest is for the other side of the race going first.
fn explore(preemptions: usize, model: impl Fn() + Sync + Send + Copy + 'static) {
    // A longer run looks further: `CURFEW_LOOM_PREEMPTIONS=4 CURFEW_LOOM_SECONDS=3600 make loom`.
    let preemptions = asked("CURFEW_LOOM_PREEMPTIONS").unwrap_or(preemptions);
    let most = Duration::from_secs(asked("CURFEW_LOOM_SECONDS").unwrap_or(16));
    let began = Instant::now();
    let (mut looked_at, mut is_whole) = explore_from(false, preemptions, most / 2, model);
    if !is_whole {
        let (more, rest) = (most.saturating_sub(began.elapsed()), looked_at);
        (looked_at, is_whole) = explore_from(true, preemptions, more, model);
        looked_at += if is_whole { 0 } else { rest };
    }
    let whole = if is_whole { "all" } else { "CUT, not all" };
    let thread = std::thread::current();
    let line = format!(
        "loom: {}: {looked_at} interleavings in {:.1} s, {whole} with up to {preemptions} preemptions\n",
        thread.name().unwrap_or("?").trim_start_matches("models::"),
        began.elapsed().as_secs_f64(),
    );
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// How many interleavings there were, and whether these are all.
fn explore_from(
    other_first: bool,
    preemptions: usize,
    most: Duration,
    model: impl Fn() + Sync + Send + 'static,
) -> (u64, bool) {
    OTHER_FIRST.set(other_first);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 1_000_000;
    builder.max_duration = Some(most);
    // How often loom looks at the clock.
    builder.checkpoint_interval = 100;
    let runs = std::sync::Arc::new(AtomicU64::new(0));
    let counted = runs.clone();
    let began = Instant::now();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    (runs.load(Ordering::Relaxed), began.elapsed() < most)
}

std::thread_local! {
    /// Which side of a race goes first when nothing else says so. Loom's threads all run in the test's own.
    static OTHER_FIRST: Cell<bool> = const { Cell::new(false) };
}

/// Runs both sides, each in a thread of its own, until both are done.
///
/// Neither of them is the model's own thread. That one has come all the way from the beginning when the
/// sides meet, and a bound on preemptions has loom let the other go first only where a thread's run began: there
/// was no other yet. What begins with the other side would be missed, but for what a preemption is spent on.
fn race<A: 'static, B: 'static>(
    table: &Arc<Table>,
    one: impl FnOnce(&Table) -> A + 'static,
    other: impl FnOnce(&Table) -> B + 'static,
) -> (A, B) {
    meet((table.clone(), one), (table.clone(), other))
}

/// The same of two processes.
fn race_of_processes<A: 'static, B: 'static>(
    table: &Arc<Table>,
    one: impl FnOnce(&Table) -> A + 'static,
    other: impl FnOnce(&Table) -> B + 'static,
) -> (A, B) {
    meet((table.clone(), one), (Arc::new(process(table, 1)), other))
}

/// The same of two sides that have a table each.
fn meet<A: 'static, B: 'static>(
    (table, one): (Arc<Table>, impl FnOnce(&Table) -> A + 'static),
    (others, other): (Arc<Table>, impl FnOnce(&Table) -> B + 'static),
) -> (A, B) {
    let one = move || one(&table);
    let other = move || other(&others);
    // Of threads that can go on loom takes the one that was spawned first.
    let (one, other) = if OTHER_FIRST.get() {
        let other = thread::spawn(other);
        (thread::spawn(one), other)
    } else {
        (thread::spawn(one), thread::spawn(other))
    };
    (one.join().unwrap(), other.join().unwrap())
}

/// A table of one shard with one policy: idle 10 ms, an ended session is forgotten at once.
fn table() -> (Arc<Table>, PolicyId) {
    table_for(4)
}

/// A table of two shards.
fn table_of_two_shards() -> (Arc<Table>, PolicyId) {
    let (table, policy) = table_for(8);
    assert_eq!(table.region.layout.shards, 2);
    assert_eq!([1, 2].map(|number| table.region.shard_of(key(number))), [1, 0]);
    (table, policy)
}

fn table_for(capacity: u64) -> (Arc<Table>, PolicyId) {
    let config = Config { events: 16, secret: Some([7; 32]), ..Config::new(capacity) };
    let table = Table::private(&config).unwrap();
    let policy = table.set_policy("p", &Policy::new().idle(ms(10)).retain(Retain::For(Span::OFF)), Tick::ZERO).unwrap();
    (Arc::new(table), policy)
}

/// The table as another process has it open, with a number among the owners of its own.
fn process(table: &Table, number: usize) -> Table {
    Table::new(table.region.opened_by(Owner::claim(number, table.region.words())))
}

/// A key in shard `number % 2` of two.
fn key(number: u8) -> Key {
    let number = u64::from(number);
    // The highest bit chooses one of two shards.
    Key([number << 63 | number << 8 | (number + 1), number])
}

/// In the first subject shard of two.
const ALICE: Subject = Subject(5 << 32 | 9);

fn ends(table: &Table) -> Vec<Event> {
    table.events().filter(|event| event.what == What::Ended).collect()
}

fn is_active(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Active(_))
}

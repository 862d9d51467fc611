//! A simulation: several actors on one tiny region, each with a clock of its own that lags, stands
//! still or steps, who do anything, and die at any step of it. One thread and one seed: a seed makes
//! the same run again. `SEEDS=1000` runs that many, `SEED=7` one, with everything that it did.
//!
//! The checker keeps, for every key, the set of all that may be true of it. A call that returned
//! leaves what fits its answer; a call that died adds what it may have done to what was before; an
//! advance adds that sessions whose time has come by its clock were ended, or not yet. An answer that
//! fits nothing in the set is a fault: a session that was lost, came back, ended too early, or has
//! other limits than it should. Sessions have numbers, and each is in one event at its end, with a
//! time and a cause that were possible, and is in no second one.

mod account;
mod acts;
mod begin;
#[path = "../common/mod.rs"]
mod common;
mod fates;
mod learn;
mod random;
mod time;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use world::World;

const STEPS: usize = 120;

/// Runs one seed; how often somebody died.
fn run(seed: u64, directory: &Path, loud: bool) -> u64 {
    let mut world = World::new(seed, directory);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..STEPS {
            world.step();
        }
        world.finish();
    }));
    if loud || outcome.is_err() {
        let shown = if loud { world.log.len() } else { 25 };
        eprintln!("seed {seed}: capacity {}, policies {:#?}", world.capacity, world.versions);
        world.log.iter().skip(world.log.len().saturating_sub(shown)).for_each(|line| eprintln!("  {line}"));
    }
    std::fs::remove_file(&world.path).unwrap();
    if let Err(cause) = outcome {
        eprintln!("SEED={seed} make sim  makes this run again");
        resume_unwind(cause);
    }
    world.deaths
}

#[test]
fn actors_with_clocks_of_their_own_who_die_at_any_step_break_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let memory = Path::new("/dev/shm");
    let directory = tempfile::tempdir_in(if memory.is_dir() { memory } else { Path::new("/tmp") }).unwrap();
    if let Some(seed) = number("SEED") {
        println!("seed {seed}");
        run(seed, directory.path(), true);
        return;
    }
    let first = number("FIRST").unwrap_or(0);
    let seeds = number("SEEDS").unwrap_or(300);
    println!("seeds {first} to {}", first + seeds - 1);
    let mut deaths = 0;
    for seed in first..first + seeds {
        deaths += run(seed, directory.path(), false);
        if (seed + 1 - first).is_multiple_of(1000) {
            println!("{} seeds, {deaths} deaths", seed + 1 - first);
        }
    }
    println!("{} steps, {deaths} deaths", seeds * STEPS as u64);
    assert!(deaths > seeds, "they die");
}

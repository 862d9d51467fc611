//! Keys, and tables with sessions in them.

use curfew_engine::{Binding, Config, Key, Policy, Retain, Span, Start, Table, Tick};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::Result;

/// What every touch here presents: the sessions are bound to nothing.
pub const UNBOUND: Binding = Binding::NONE;

/// Random numbers that are the same in every run.
#[must_use]
pub fn random(stream: u64) -> SmallRng {
    SmallRng::seed_from_u64(0x000c_0ffe_e000 + stream)
}

/// So many different keys. A key is a digest and as good as random, so random bytes are as good as
/// a key, and nothing here pays for hashing.
#[must_use]
pub fn keys(count: usize, stream: u64) -> Vec<Key> {
    let mut random = random(stream);
    (0..count).map(|_| Key::from_bytes(random.random())).collect()
}

/// So many keys drawn from `keys`, each draw by itself.
#[must_use]
pub fn draws(keys: &[Key], count: usize, stream: u64) -> Vec<Key> {
    let mut random = random(stream);
    (0..count).map(|_| keys[random.random_range(0..keys.len())]).collect()
}

/// A policy under which nothing ends while a benchmark runs, and that forgets at once what is ended
/// on purpose.
#[must_use]
pub fn lasting() -> Policy {
    Policy::new().idle(Span::from_mins(8 * 60)).lifetime(Span::from_mins(30 * 24 * 60)).retain(Retain::For(Span::OFF))
}

/// A table with room for `capacity` sessions, in which those of `keys` have been started at tick
/// zero under `policy`.
///
/// # Errors
/// Those of the engine, which mean that the sizes asked for are impossible.
pub fn table(capacity: usize, keys: &[Key], policy: &Policy, huge_pages: bool) -> Result<Table> {
    let table = Table::private(&Config { huge_pages, ..Config::new(capacity as u64) })?;
    let start = Start::under(table.set_policy("bench", policy, Tick::ZERO)?);
    for key in keys {
        table.start(*key, &start, Tick::ZERO)?;
    }
    Ok(table)
}

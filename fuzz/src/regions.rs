//! Regions as bytes: where the header ends, and some with a history.

use std::sync::LazyLock;

use curfew_engine::{Config, Table};

use crate::verbs::{Random, use_it};

/// Words of the header that its checksum covers; the checksum follows them.
pub const SUMMED: usize = 12;
/// Words behind which everything may be damaged and a region still be opened.
pub const HEAD: usize = SUMMED + 1;
/// Keys that the histories name.
pub const KEYS: u64 = 50;

/// A region with a history.
pub struct Base {
    pub bytes: Vec<u8>,
    /// When the history ended.
    pub now: u64,
    /// The words behind the header in which something is.
    pub used: Vec<usize>,
}

/// Young and old regions, with room and full.
pub static BASES: LazyLock<Vec<Base>> = LazyLock::new(|| {
    // Sessions, a seed, calls.
    let made =
        [(1, 1, 9), (7, 2, 300), (20, 3, 60), (20, 4, 1000), (45, 5, 200), (45, 6, 3000), (60, 7, 400), (90, 8, 900)];
    let base = |(capacity, seed, calls)| {
        let (bytes, now) = used(capacity, seed, calls);
        let used = (HEAD..bytes.len() / 8).filter(|at| get(&bytes, *at) != 0).collect();
        Base { bytes, now, used }
    };
    made.into_iter().map(base).collect()
});

/// The bytes of a region for `capacity` sessions after so many calls, and the time of the last.
pub fn used(capacity: u64, seed: u64, calls: u64) -> (Vec<u8>, u64) {
    let directory = tempfile::tempdir().expect("a folder for temporary files");
    let path = directory.path().join("fuzz.region");
    let config = Config { events: 16, secret: Some([9; 32]), ..Config::new(capacity) };
    let table = Table::create(&path, &config).expect("a new region");
    let now = use_it(&table, &mut Random::new(seed), KEYS, calls);
    (std::fs::read(&path).expect("the region that was just made"), now)
}

pub fn get(bytes: &[u8], at: usize) -> u64 {
    bytes[at * 8..][..8].iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

pub fn set(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at * 8..][..8].copy_from_slice(&word.to_le_bytes());
}

/// Makes the checksum of the header right: no damage gets past it otherwise.
pub fn sum(bytes: &mut [u8]) {
    let hash = blake3::hash(&bytes[..SUMMED * 8]);
    bytes[SUMMED * 8..][..8].copy_from_slice(&hash.as_bytes()[..8]);
}

//! Snapshots as bytes: some that were taken of regions with a history, checksums made right, and a
//! second reading of their entries, as slow as it is simple.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use curfew_engine::{Config, Key, Moment, Table, Tick};

use crate::verbs::{Random, use_it};

/// Bytes of the head: 24 words, 64 policies of 32 words each, and a checksum.
pub const HEAD: usize = (24 + 64 * 32 + 4) * 8;
/// Bytes of an entry.
pub const ENTRY: usize = 64;
/// The word of the head that says how many entries follow it.
pub const ENTRIES: usize = 12;
/// The word at which the checksum of the entries begins.
const SUM: usize = 16;
/// Keys that the histories name.
pub const KEYS: u64 = 40;

/// A snapshot of a region with a history.
pub struct Taken {
    pub bytes: Vec<u8>,
    /// When it was taken; ticks are its steady time.
    pub moment: Moment,
    pub capacity: u64,
    /// The words of the head in which something is, but for its checksum.
    pub used: Vec<usize>,
}

impl Taken {
    pub fn entries(&self) -> usize {
        (self.bytes.len() - HEAD) / ENTRY
    }
}

/// Of young and old regions, with room and full; the first has no session, nor a policy.
pub static TAKEN: LazyLock<Vec<Taken>> = LazyLock::new(|| {
    let made =
        [(1, 0, 0), (1, 1, 9), (7, 2, 300), (20, 3, 60), (20, 4, 1000), (45, 5, 200), (45, 6, 3000), (60, 7, 400)];
    made.into_iter().map(|(capacity, seed, calls)| taken(capacity, seed, calls)).collect()
});

fn taken(capacity: u64, seed: u64, calls: u64) -> Taken {
    let table = Table::private(&Config { events: 16, secret: Some([9; 32]), ..Config::new(capacity) });
    let table = table.expect("a region in memory");
    let steady = if calls == 0 { 5000 } else { use_it(&table, &mut Random::new(seed), KEYS, calls) };
    let moment = Moment { steady, wall: 1_700_000_000_000, boot: 1 };
    let bytes = take(&table, &moment).expect("a region that nobody damaged can be written down");
    assert_eq!(bytes, summed(bytes.clone()), "the head ends, and the checksums are, where this file says");
    let used = (2..HEAD / 8 - 4).filter(|at| !(SUM..SUM + 4).contains(at) && word(&bytes, *at) != 0).collect();
    Taken { bytes, moment, capacity, used }
}

/// The bytes of a snapshot of `table`; `None` when the engine takes none.
pub fn take(table: &Table, moment: &Moment) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = folder.path().join("fuzz.snapshot");
    table.snapshot(&path, moment).ok()?;
    Some(std::fs::read(&path).expect("the snapshot that was just taken"))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    crate::regions::get(bytes, at)
}

/// Makes both checksums right: nothing gets past them otherwise.
pub fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some((head, entries)) = bytes.split_at_mut_checked(HEAD) {
        head[SUM * 8..][..32].copy_from_slice(blake3::hash(entries).as_bytes());
        let sum = blake3::hash(&head[..HEAD - 32]);
        head[HEAD - 32..].copy_from_slice(sum.as_bytes());
    }
    bytes
}

/// A session that nobody had ended, by the entry that counts for its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lived {
    pub policy: u8,
    pub last: Tick,
    pub start: Tick,
    pub token: Tick,
    pub bound: bool,
    pub subject: u64,
}

/// The sessions in a snapshot that nobody had ended: of all entries for a key the last one counts.
pub fn lived(bytes: &[u8]) -> BTreeMap<Key, Lived> {
    let mut lived = BTreeMap::new();
    for entry in bytes[HEAD..].chunks_exact(ENTRY) {
        let [head, _, _, last, start, token, binding, subject] = std::array::from_fn(|at| word(entry, at));
        let [last, start, token] = [last, start, token].map(Tick::from_millis);
        let key = Key::from_bytes(*entry[8..].first_chunk().expect("an entry has 64 bytes"));
        if head & 0xff == 1 {
            lived.insert(key, Lived { policy: (head >> 16) as u8, last, start, token, bound: binding != 0, subject });
        } else {
            lived.remove(&key);
        }
    }
    lived
}

/// How many versions the policy of this number has in a snapshot.
pub fn versions(bytes: &[u8], policy: u8) -> u64 {
    word(bytes, 24 + usize::from(policy) * 32) >> 8
}

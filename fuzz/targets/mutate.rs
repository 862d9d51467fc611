//! Regions with a history, damaged where the fuzzer says, then used and repaired.
//!
//! The fuzzer chooses the region, the words that are damaged and how, and the calls; the header's
//! checksum is right. What is damaged beyond repair must be said by `check`, not by a panic.

#![no_main]

use curfew_engine::Table;
use curfew_fuzz::regions::{BASES, Base, HEAD, KEYS, get, set};
use curfew_fuzz::{Bytes, Chance, every_verb, repair_and_end};
use libfuzzer_sys::fuzz_target;

/// Words that are damaged at most.
const WORDS: u64 = 24;

fn place(base: &Base, bytes: &mut Bytes<'_>) -> usize {
    match bytes.below(4) {
        0 => HEAD + bytes.index(base.bytes.len() / 8 - HEAD),
        _ => base.used[bytes.index(base.used.len())],
    }
}

fn damage(base: &Base, bytes: &mut Bytes<'_>) -> Vec<u8> {
    let mut region = base.bytes.clone();
    for _ in 0..=bytes.below(WORDS) {
        let at = place(base, bytes);
        let word = match bytes.below(4) {
            // What stands elsewhere: a link into another list, another record's control word.
            0 => get(&region, place(base, bytes)),
            _ => bytes.word(get(&region, at)),
        };
        set(&mut region, at, word);
    }
    region
}

fuzz_target!(|data: &[u8]| {
    let bytes = &mut Bytes::new(data);
    let base = &BASES[bytes.index(BASES.len())];
    let region = damage(base, bytes);
    // Where a region has moved to stands behind the header's checksum.
    let Ok(table) = Table::from_bytes(&region) else { return };
    let _ = table.check();
    if bytes.below(3) == 0 {
        table.repair();
    }
    assert!(every_verb(&table, bytes, base.now, KEYS, |_| {}), "advance comes to no end");
    repair_and_end(&table, base.now, |_| {});
});

//! Attaching to arbitrary bytes: a typed error, or a table of which every verb comes back.
//!
//! The first byte says what follows. An even one: nothing but the bytes of the region. An odd one:
//! how many sessions the region is for, a seed for the calls, where in it the bytes begin, and then
//! they; the header and the length are those of a real region, with its checksum made right.

#![no_main]

use std::collections::HashMap;
use std::sync::LazyLock;

use curfew_engine::Table;
use curfew_fuzz::regions::{HEAD, KEYS, SUMMED, sum, used};
use curfew_fuzz::{Bytes, Random, every_verb, repair_and_end};
use libfuzzer_sys::fuzz_target;

const CAPACITIES: [u64; 4] = [1, 14, 15, 60];

/// An empty region of each capacity.
static EMPTY: LazyLock<HashMap<u64, Vec<u8>>> =
    LazyLock::new(|| CAPACITIES.iter().map(|capacity| (*capacity, used(*capacity, 1, 0).0)).collect());

fn region(data: &[u8]) -> (Vec<u8>, u64) {
    let mut bytes = Bytes::new(data);
    if bytes.below(2) == 0 {
        return (bytes.rest().to_vec(), 0);
    }
    let mut region = EMPTY[&CAPACITIES[bytes.index(4)]].clone();
    let seed = bytes.below(0x1_0000);
    let from = bytes.index(region.len() / 8).min(0xffff) * 8;
    if from >= HEAD * 8 {
        region[HEAD * 8..].fill(0);
    }
    let body = &bytes.rest()[..bytes.rest().len().min(region.len() - from)];
    region[from..from + body.len()].copy_from_slice(body);
    if region.len() > (SUMMED + 1) * 8 {
        sum(&mut region);
    }
    (region, seed)
}

fuzz_target!(|data: &[u8]| {
    let (region, seed) = region(data);
    let Ok(table) = Table::from_bytes(&region) else { return };
    let mut random = Random::new(seed);
    if seed % 2 == 1 {
        table.repair();
    }
    assert!(every_verb(&table, &mut random, 5000 + seed, KEYS, |_| {}), "advance comes to no end");
    repair_and_end(&table, 5000 + seed, |_| {});
});

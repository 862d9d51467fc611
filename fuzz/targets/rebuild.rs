//! Regions with a history of which only derived parts are damaged: a repair mends all of it.
//!
//! After it `check` is true, and two tables, one damaged and repaired and one only repaired, give the
//! same answers to whatever calls the fuzzer chooses.

#![no_main]

use std::sync::LazyLock;

use curfew_engine::{Binding, Span, Stats, Table, Tick};
use curfew_fuzz::regions::{BASES, KEYS, get, set};
use curfew_fuzz::{Bytes, Chance, call, key, subject};
use libfuzzer_sys::fuzz_target;

/// Words that are damaged at most, and calls that are made afterwards.
const WORDS: u64 = 32;
const CALLS: u64 = 40;

/// For each region the words that are derived; those in which something is come first.
static DERIVED: LazyLock<Vec<(usize, Vec<usize>)>> = LazyLock::new(|| {
    let derived = |base: &curfew_fuzz::regions::Base| {
        let table = Table::from_bytes(&base.bytes).expect("a whole region");
        let all = table.derived().into_iter().flatten();
        let (mut some, none): (Vec<_>, Vec<_>) = all.partition(|at| get(&base.bytes, *at) != 0);
        let first = some.len();
        some.extend(none);
        (first, some)
    };
    BASES.iter().map(derived).collect()
});

fn place(bytes: &mut Bytes<'_>, (first, all): &(usize, Vec<usize>)) -> usize {
    let among = if bytes.below(4) == 0 { all.len() } else { *first };
    all[bytes.index(among)]
}

/// How far a small budget gets hangs on where the timer has what; all of what is due does not.
fn catch_up(table: &Table, now: Tick) {
    assert!((0..1000).any(|_| !table.advance(now, 1000).more), "advance comes to no end");
}

fn compare(whole: &Table, damaged: &Table, now: Tick) {
    catch_up(whole, now);
    catch_up(damaged, now);
    assert_eq!((whole.check(), damaged.check()), (Ok(()), Ok(())));
    for number in 0..KEYS {
        let key = key(whole, number);
        for binding in [Binding::NONE, whole.binding(b"bound")] {
            assert_eq!(damaged.peek(key, binding, now), whole.peek(key, binding, now), "key {number} at {now:?}");
        }
    }
    let counted = |table: &Table| Stats { recoveries: 0, ..table.stats() };
    assert_eq!(counted(damaged), counted(whole));
    for number in 0..6 {
        let sessions = |table: &Table| table.sessions_of(subject(table, number), now).len();
        assert_eq!(sessions(damaged), sessions(whole), "subject {number}");
    }
}

fuzz_target!(|data: &[u8]| {
    let bytes = &mut Bytes::new(data);
    let which = bytes.index(BASES.len());
    let (base, derived) = (&BASES[which], &DERIVED[which]);
    let mut region = base.bytes.clone();
    for _ in 0..=bytes.below(WORDS) {
        let at = place(bytes, derived);
        let word = match bytes.below(4) {
            0 => get(&region, place(bytes, derived)),
            _ => bytes.word(get(&region, at)),
        };
        set(&mut region, at, word);
    }
    let whole = Table::from_bytes(&base.bytes).expect("a whole region");
    let damaged = Table::from_bytes(&region).expect("the header is whole");
    whole.repair();
    damaged.repair();
    let now = Tick::from_millis(base.now);
    compare(&whole, &damaged, now);
    let mut now = now;
    for _ in 0..CALLS {
        // Which of several that are alike a full table gives up hangs on where the timer has them.
        if whole.stats().used + 1 >= whole.stats().capacity {
            break;
        }
        now = now.after(Span::from_millis(bytes.below(40)));
        let mut again = bytes.clone();
        call(&whole, bytes, now, KEYS);
        call(&damaged, &mut again, now, KEYS);
        compare(&whole, &damaged, now);
    }
});

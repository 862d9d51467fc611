//! Starts against starts.

use loom::thread;

use super::*;
use crate::{OnLimit, StartError};

/// Catches two sessions of one key.
#[test]
fn of_two_starts_of_one_key_one_succeeds() {
    explore(3, || {
        let (table, policy) = table();
        let other = {
            let table = process(&table, 1);
            thread::spawn(move || table.start(key(1), &Start::under(policy), at(1)))
        };
        let mine = table.start(key(1), &Start::under(policy), at(1));
        let other = other.join().unwrap();
        assert!(mine.is_ok() != other.is_ok(), "{mine:?} {other:?}");
        assert!([mine, other].contains(&Err(StartError::Exists)));
        table.check().unwrap();
    });
}

/// Catches two starts that each take the last place of their subject.
#[test]
fn of_two_starts_for_the_last_place_of_a_subject_one_succeeds() {
    explore(2, || {
        let (table, _) = table_of_two_shards();
        let policy = Policy::new().idle(ms(10)).max_per_subject(1, OnLimit::Deny);
        let policy = table.set_policy("one", &policy, Tick::ZERO).unwrap();
        let start = Start::under(policy).of(ALICE);
        let other = {
            let table = process(&table, 1);
            thread::spawn(move || table.start(key(1), &start, at(1)))
        };
        let mine = table.start(key(2), &start, at(1));
        let other = other.join().unwrap();
        assert!(mine.is_ok() != other.is_ok(), "{mine:?} {other:?}");
        assert!([mine, other].contains(&Err(StartError::Limited)));
        table.check().unwrap();
    });
}

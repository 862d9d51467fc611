//! Starts against starts.

use super::*;
use crate::{OnLimit, StartError};

/// Catches two sessions of one key.
#[test]
fn of_two_starts_of_one_key_one_succeeds() {
    explore(6, || {
        let (table, policy) = table();
        let start = move |table: &Table| table.start(key(1), &Start::under(policy), at(1));
        let (one, other) = race_of_processes(&table, start, start);
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
        assert!([one, other].contains(&Err(StartError::Exists)));
        table.check().unwrap();
    });
}

/// Catches two starts that each take the last place of their subject.
#[test]
fn of_two_starts_for_the_last_place_of_a_subject_one_succeeds() {
    explore(6, || {
        let (table, _) = table_of_two_shards();
        let policy = Policy::new().idle(ms(10)).max_per_subject(1, OnLimit::Deny);
        let policy = table.set_policy("one", &policy, Tick::ZERO).unwrap();
        let start = Start::under(policy).of(ALICE);
        let (one, other) = race_of_processes(
            &table,
            move |table| table.start(key(2), &start, at(1)),
            move |table| table.start(key(1), &start, at(1)),
        );
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
        assert!([one, other].contains(&Err(StartError::Limited)));
        table.check().unwrap();
    });
}

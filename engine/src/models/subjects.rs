//! The end of all sessions of a subject against what else is done with them.

use super::*;
use crate::Cause;

fn against_a_start((table, policy): (Arc<Table>, PolicyId), first: Key, second: Key) {
    table.start(first, &Start::under(policy).of(ALICE), at(0)).unwrap();
    let (ended, _) = race_of_processes(
        &table,
        |table| table.end_subject(ALICE, Cause::Revoked, at(1)),
        move |table| table.start(second, &Start::under(policy).of(ALICE), at(1)).unwrap(),
    );
    assert!(!is_active(table.peek(first, Binding::NONE, at(1))));
    assert_eq!(is_active(table.peek(second, Binding::NONE, at(1))), ended == 1);
    table.check().unwrap();
}

/// Catches a session of a revoked subject that survives although its start had returned, and lists
/// that come apart.
#[test]
fn ending_a_subject_against_a_start_of_the_same_subject() {
    explore(5, || against_a_start(table(), key(1), key(2)));
}

/// The same with the two sessions in two shards, and the subject in one of them.
#[test]
fn ending_a_subject_against_a_start_in_another_shard() {
    explore(5, || against_a_start(table_of_two_shards(), key(1), key(2)));
}

//! A session that gets a new id, while others use the old one.

use super::*;
use crate::{Cause, RotateError};

/// Catches a rotation that loses a touch of the old id which was answered with Active.
#[test]
fn a_touch_of_the_old_id_during_a_rotation_counts() {
    explore(3, || {
        let (table, policy) = table();
        table.start(key(1), &Start::under(policy), at(0)).unwrap();
        race(
            &table,
            |table| table.rotate(key(1), key(2), ms(100), at(1)).unwrap(),
            |table| {
                let first = table.touch(key(1), Binding::NONE, at(9));
                assert!(is_active(first), "{first:?}");
                let second = table.peek(key(1), Binding::NONE, at(12));
                assert!(is_active(second), "{second:?}");
            },
        );
        let after = table.peek(key(2), Binding::NONE, at(18));
        assert!(is_active(after), "{after:?}");
        assert!(!is_active(table.peek(key(2), Binding::NONE, at(19))));
        table.check().unwrap();
    });
}

/// Catches a touch through an alias that misses the session, or its end.
#[test]
fn a_touch_through_an_alias_against_the_end_of_the_session() {
    explore(2, || {
        let (table, _) = table();
        let kept = table.set_policy("kept", &Policy::new().idle(ms(10)), Tick::ZERO).unwrap();
        table.start(key(1), &Start::under(kept), at(0)).unwrap();
        table.rotate(key(1), key(2), ms(100), at(1)).unwrap();
        race(
            &table,
            |table| {
                table.end(key(1), Cause::Logout, at(2)).unwrap();
                let after = table.touch(key(1), Binding::NONE, at(2));
                assert!(matches!(after, Verdict::Ended(end) if end.cause == Cause::Logout), "{after:?}");
            },
            |table| {
                let first = table.touch(key(1), Binding::NONE, at(2));
                let second = table.touch(key(1), Binding::NONE, at(2));
                assert!(is_active(first) || matches!(second, Verdict::Ended(_)), "{first:?} then {second:?}");
            },
        );
    });
}

/// Catches a reader that takes what an alias stands for as the user of its session.
#[test]
fn a_reader_during_a_rotation_sees_the_subject_or_none() {
    explore(2, || {
        let (table, policy) = table();
        table.start(key(1), &Start::under(policy).of(ALICE), at(0)).unwrap();
        let (_, subject) = race(
            &table,
            |table| table.rotate(key(1), key(2), ms(5), at(1)).unwrap(),
            |table| table.region.find(key(1)).map(|(_, view)| view.subject()),
        );
        assert!([Some(ALICE), Some(Subject::NONE)].contains(&subject), "{subject:?}");
    });
}

/// Catches a list that gets the old record of a rotated session back, from an heir who rebuilds it
/// meanwhile: the next session of that record would not be in its subject's list.
#[test]
fn a_rebuild_of_the_lists_during_a_rotation_leaves_the_old_record_out() {
    explore(2, || {
        let (table, policy) = table();
        table.start(key(1), &Start::under(policy).of(ALICE), at(0)).unwrap();
        let (dying, heir) = (process(&table, 1), process(&table, 2));
        race(
            &table,
            |table| table.rotate(key(1), key(2), ms(5), at(1)).unwrap(),
            move |_| {
                std::mem::forget(dying.region.subjects(ALICE));
                dying.region.owner.dies(dying.region.words());
                drop(heir.region.subjects(ALICE));
            },
        );
        table.check().unwrap();
    });
}

/// Catches a session that survives the revocation of its user because it gets a new id meanwhile.
#[test]
fn no_session_escapes_the_end_of_its_subject_by_a_rotation() {
    explore(4, || {
        let (table, policy) = table();
        table.start(key(1), &Start::under(policy).of(ALICE), at(0)).unwrap();
        let (_, rotated) = race(
            &table,
            |table| table.end_subject(ALICE, Cause::Revoked, at(1)),
            |table| table.rotate(key(1), key(2), ms(5), at(1)),
        );
        assert!(matches!(rotated, Ok(_) | Err(RotateError::Unknown | RotateError::Ended(_))), "{rotated:?}");
        for id in [key(1), key(2)] {
            assert!(!is_active(table.peek(id, Binding::NONE, at(1))), "{rotated:?}");
        }
        assert_eq!(ends(&table).len(), 1);
        table.check().unwrap();
    });
}

/// Catches a session that survives the end of all because it moves to a record already passed.
#[test]
fn no_session_escapes_the_end_of_all_by_a_rotation() {
    explore(2, || {
        let (table, policy) = table();
        // The first record is free when the rotation looks for one.
        table.start(key(3), &Start::under(policy), at(0)).unwrap();
        table.start(key(1), &Start::under(policy), at(0)).unwrap();
        table.end(key(3), Cause::Logout, at(0)).unwrap();
        let (_, rotated) = race(
            &table,
            |table| table.end_all(&crate::Filter::default(), Cause::Revoked, at(1)),
            |table| table.rotate(key(1), key(2), ms(5), at(1)),
        );
        for id in [key(1), key(2)] {
            assert!(!is_active(table.peek(id, Binding::NONE, at(1))), "{rotated:?}");
        }
    });
}

/// Catches a rotation and an end that both succeed, after which the session goes on.
#[test]
fn an_end_of_the_old_id_during_a_rotation_ends_the_session() {
    explore(2, || {
        let (table, policy) = table();
        table.start(key(1), &Start::under(policy), at(0)).unwrap();
        race(
            &table,
            |table| table.end(key(1), Cause::Logout, at(1)).unwrap(),
            |table| table.rotate(key(1), key(2), ms(5), at(1)).is_ok(),
        );
        for id in [key(1), key(2)] {
            assert!(!is_active(table.peek(id, Binding::NONE, at(1))));
        }
        assert_eq!(ends(&table).len(), 1);
        table.check().unwrap();
    });
}

/// Catches two that wait for each other's shard.
#[test]
fn rotations_in_opposite_directions_between_two_shards_do_not_wait_for_each_other() {
    explore(6, || {
        let (table, policy) = table_of_two_shards();
        table.start(key(1), &Start::under(policy), at(0)).unwrap();
        table.start(key(2), &Start::under(policy), at(0)).unwrap();
        race(
            &table,
            |table| table.rotate(key(2), key(3), ms(5), at(1)).unwrap(),
            |table| table.rotate(key(1), key(4), ms(5), at(1)).unwrap(),
        );
        for id in 1..=4 {
            assert!(is_active(table.peek(key(id), Binding::NONE, at(1))), "{id}");
        }
        table.check().unwrap();
    });
}

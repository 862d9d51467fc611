//! Those who watch over what is open of a session.

use super::*;
use crate::{Cause, Watch};

/// Catches a change that is told before what it tells of can be seen: who looks then, and only then,
/// would find the session alive and not look again.
#[test]
fn who_sees_that_something_has_changed_sees_the_end() {
    explore(3, || {
        let (table, _) = table();
        let kept = table.set_policy("kept", &Policy::new().idle(ms(10)), Tick::ZERO).unwrap();
        table.start(key(1), &Start::under(kept), at(0)).unwrap();
        let before = table.changes();
        race(
            &table,
            |table| table.end(key(1), Cause::Logout, at(5)).unwrap(),
            move |table| {
                let mut watch = Watch::new(key(1), Binding::NONE);
                let has_changed = table.changes() != before;
                let verdict = table.peek_watched(&mut watch, at(5));
                assert!(!has_changed || matches!(verdict, Verdict::Ended(_)), "{verdict:?}");
            },
        );
        assert_ne!(table.changes(), before);
    });
}

/// Catches a watch that goes over to the new record before a touch of the old id was handed over to it.
#[test]
fn a_watch_that_follows_a_rotation_misses_no_touch() {
    explore(3, || {
        let (table, policy) = table();
        table.start(key(1), &Start::under(policy), at(0)).unwrap();
        let (_, mut watch) = race(
            &table,
            |table| table.rotate(key(1), key(2), ms(100), at(1)).unwrap(),
            |table| {
                let mut watch = Watch::new(key(1), Binding::NONE);
                let first = table.touch_watched(&mut watch, at(9));
                assert!(is_active(first), "{first:?}");
                for _ in 0..2 {
                    let later = table.peek_watched(&mut watch, at(12));
                    assert!(is_active(later), "{later:?}");
                }
                watch
            },
        );
        assert!(is_active(table.peek_watched(&mut watch, at(18))));
        assert_eq!(watch.key(), key(2));
    });
}

/// Catches a watch that loses its session when its id changes under it, whatever comes first.
#[test]
fn a_watch_that_sees_a_rotation_has_followed_it_when_the_old_id_is_over() {
    explore(3, || {
        let (table, policy) = table();
        table.start(key(1), &Start::under(policy), at(0)).unwrap();
        let before = table.changes();
        let (_, mut watch) = race(
            &table,
            |table| table.rotate(key(1), key(2), ms(1), at(1)).unwrap(),
            move |table| {
                let mut watch = Watch::new(key(1), Binding::NONE);
                let has_changed = table.changes() != before;
                let verdict = table.peek_watched(&mut watch, at(2));
                assert!(is_active(verdict), "{verdict:?}");
                assert!(!has_changed || watch.key() == key(2));
                watch
            },
        );
        assert!(is_active(table.peek_watched(&mut watch, at(2))));
    });
}

//! Verbs that are overtaken between their look and their step: by a rotation, by a change of the
//! policy, and by what follows it.

use loom::thread;

use super::{at, ends, explore, is_active, key, ms, table};
use crate::{Binding, Cause, Filter, GraceMode, Policy, Retain, Span, Start, Tick, Verdict};

/// Catches a touch that was answered with Active and whose activity stays behind in the old record,
/// and one that takes the rotation for an end.
#[test]
fn a_touch_of_the_old_id_that_is_overtaken_by_a_rotation_counts_for_the_new_one() {
    explore(3, || {
        let (table, policy) = table();
        let (old, new) = (key(&table, 1), key(&table, 2));
        table.start(old, &Start::under(policy), at(0)).unwrap();
        let touch = {
            let table = table.clone();
            thread::spawn(move || table.touch(old, Binding::NONE, at(9)))
        };
        table.rotate(old, new, ms(5), at(9)).unwrap();
        let verdict = touch.join().unwrap();
        assert!(is_active(verdict), "{verdict:?} of a session that is alive");
        let after = table.peek(new, Binding::NONE, at(15));
        assert!(is_active(after), "touched at 9, and at 15 {after:?}");
        table.check().unwrap();
    });
}

/// Catches a session that gets away from its subject's revocation under a new id.
#[test]
fn ending_a_subject_against_a_rotation_of_one_of_its_sessions() {
    explore(2, || {
        let (table, policy) = table();
        let subject = table.subject(b"alice");
        let (old, new) = (key(&table, 1), key(&table, 2));
        table.start(old, &Start::under(policy).of(subject), at(0)).unwrap();
        let rotation = {
            let table = table.clone();
            thread::spawn(move || table.rotate(old, new, Span::OFF, at(1)))
        };
        let ended = table.end_subject(subject, Cause::Revoked, at(1));
        let rotated = rotation.join().unwrap();
        assert!(!is_active(table.peek(old, Binding::NONE, at(1))));
        assert!(!is_active(table.peek(new, Binding::NONE, at(1))), "{rotated:?}, and {ended} ended");
        assert_eq!((ended, ends(&table).len()), (1, 1));
        table.check().unwrap();
    });
}

/// Catches a session that a rotation moves from where `end_all` has not been yet to where it was.
#[test]
fn ending_all_against_a_rotation_into_a_record_that_was_looked_at_already() {
    explore(2, || {
        let (table, policy) = table();
        let (first, old, new) = (key(&table, 1), key(&table, 2), key(&table, 3));
        table.start(first, &Start::under(policy), at(0)).unwrap();
        table.start(old, &Start::under(policy), at(0)).unwrap();
        table.end(first, Cause::Logout, at(0)).unwrap();
        let rotation = {
            let table = table.clone();
            thread::spawn(move || table.rotate(old, new, Span::OFF, at(1)))
        };
        let ended = table.end_all(&Filter::default(), Cause::Revoked, at(1));
        let rotated = rotation.join().unwrap();
        assert!(!is_active(table.peek(old, Binding::NONE, at(1))));
        assert!(!is_active(table.peek(new, Binding::NONE, at(1))), "{rotated:?}, and {ended} ended");
        assert_eq!(ended, 1);
    });
}

/// Catches a peek that reads the record before its end under the old policy is marked, and the
/// policy after the old version is forgotten.
#[test]
fn a_peek_against_a_change_of_the_policy_that_is_swept_and_forgotten_meanwhile() {
    explore(3, || {
        let (table, policy) = table();
        let session = key(&table, 1);
        table.start(session, &Start::under(policy), at(0)).unwrap();
        table.set_policy("p", &Policy::new().idle(ms(1000)).lifetime(ms(2000)), at(20)).unwrap();
        let peek = {
            let table = table.clone();
            thread::spawn(move || table.peek(session, Binding::NONE, at(20)))
        };
        while table.advance(at(20), 100).more {}
        let verdict = peek.join().unwrap();
        assert!(!is_active(verdict), "over since 10, and {verdict:?}");
    });
}

/// Catches an old version that is read while a new one is written over it.
#[test]
fn a_peek_against_a_version_that_takes_the_place_of_the_oldest() {
    explore(3, || {
        let (table, _) = table();
        let retain = Retain::UntilHardLimit;
        let version = |idle, grace| Policy::new().idle(ms(idle)).grace(ms(grace), GraceMode::Resume).retain(retain);
        let policy = table.set_policy("versions", &version(1000, 0), Tick::ZERO).unwrap();
        let session = key(&table, 1);
        table.start(session, &Start::under(policy), at(0)).unwrap();
        for (n, now) in [50, 51, 52].into_iter().enumerate() {
            table.set_policy("versions", &version(1001 + n as u64, 0), at(now)).unwrap();
        }
        table.region.lock_shard(0).sweep(at(60), 100);
        let peek = {
            let table = table.clone();
            thread::spawn(move || table.peek(session, Binding::NONE, at(60)))
        };
        // Forgets the older versions; then the new one takes the place of the oldest. No version
        // ends the session before 1000; with the new idle and the old grace it would end at 5.
        table.advance(at(60), 0);
        table.set_policy("versions", &version(5, 1000), at(60)).unwrap();
        let verdict = peek.join().unwrap();
        assert!(matches!(verdict, Verdict::Active(_) | Verdict::Grace(_)), "{verdict:?}");
    });
}

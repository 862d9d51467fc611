//! What a reader makes of a record that is written meanwhile.

use loom::thread;

use super::*;
use crate::Cause;

/// Catches a reader that takes the words of one session for those of another: the old session is
/// bound, the new one in the same record is not, so that a mixture would let anybody pass.
#[test]
fn a_reader_of_a_record_that_is_reused_sees_one_session() {
    explore(2, || {
        let (table, policy) = table();
        let bound = Start::under(policy).bound_to(Binding(7));
        table.start(key(1), &bound, at(0)).unwrap();
        let touch = {
            let table = table.clone();
            thread::spawn(move || table.touch(key(1), Binding::NONE, at(1)))
        };
        table.end(key(1), Cause::Logout, at(1)).unwrap();
        table.start(key(2), &Start::under(policy), at(1)).unwrap();
        let verdict = touch.join().unwrap();
        assert!(matches!(verdict, Verdict::Mismatch(_) | Verdict::Ended(_) | Verdict::Unknown), "{verdict:?}");
    });
}

/// Catches a reader that finds a new session by a tag that was there before, and takes what is left
/// of the old one for it: here its lack of a binding.
#[test]
fn a_reader_of_a_session_that_begins_sees_all_of_it() {
    explore(2, || {
        let (table, policy) = table();
        // The same tag, group and record.
        let (old, new) = (Key([0x100 | 7, 1]), Key([0x200 | 7, 2]));
        table.start(old, &Start::under(policy), at(0)).unwrap();
        let touch = {
            let table = table.clone();
            thread::spawn(move || table.touch(new, Binding::NONE, at(1)))
        };
        table.end(old, Cause::Logout, at(1)).unwrap();
        table.start(new, &Start::under(policy).bound_to(Binding(7)), at(1)).unwrap();
        let verdict = touch.join().unwrap();
        assert!(matches!(verdict, Verdict::Mismatch(_) | Verdict::Unknown), "{verdict:?}");
    });
}

/// Catches a reader that takes the tick until which a record is kept for what its session is bound to.
#[test]
fn what_becomes_of_the_binding_of_an_ended_session_is_not_taken_for_a_binding() {
    explore(3, || {
        let (table, _) = table();
        let policy = Policy::new().idle(ms(10)).retain(Retain::For(ms(1000)));
        let policy = table.set_policy("kept", &policy, Tick::ZERO).unwrap();
        table.start(key(1), &Start::under(policy).bound_to(Binding(7)), at(0)).unwrap();
        let touch = {
            let table = table.clone();
            thread::spawn(move || table.touch(key(1), Binding(7), at(8)))
        };
        table.end(key(1), Cause::Logout, at(8)).unwrap();
        let verdict = touch.join().unwrap();
        assert!(matches!(verdict, Verdict::Active(_) | Verdict::Ended(_)), "{verdict:?}");
    });
}

/// Catches a mixture of old and new terms that lets a session live longer than either.
#[test]
fn a_touch_against_a_reauthentication_whose_token_expires_sooner() {
    explore(3, || {
        let (table, _) = table();
        let policy = Policy::new().lifetime(ms(10)).retain(Retain::UntilHardLimit);
        let policy = table.set_policy("lifetime", &policy, Tick::ZERO).unwrap();
        table.start(key(1), &Start::under(policy).until(at(100)), at(0)).unwrap();
        let touch = {
            let table = table.clone();
            // At 11 the old terms are over (lifetime) and so are the new ones (token).
            thread::spawn(move || table.touch(key(1), Binding::NONE, at(11)))
        };
        let renewed = table.reauthenticate(key(1), Some(at(10)), at(9));
        let verdict = touch.join().unwrap();
        assert!(!is_active(verdict), "{verdict:?} {renewed:?}");
    });
}

/// Catches a start that has returned, and that a touch which begins later does not find.
#[test]
fn a_session_that_has_begun_is_found_by_whoever_hears_of_it() {
    use loom::sync::atomic::{AtomicBool, Ordering};
    explore(3, || {
        let (table, policy) = table();
        let told = Arc::new(AtomicBool::new(false));
        let other = {
            let (table, told) = (table.clone(), told.clone());
            thread::spawn(move || {
                let told = told.load(Ordering::Acquire);
                let verdict = table.touch(key(1), Binding(7), at(1));
                assert!(is_active(verdict) || (!told && verdict == Verdict::Unknown), "{told}: {verdict:?}");
            })
        };
        table.start(key(1), &Start::under(policy).bound_to(Binding(7)), at(0)).unwrap();
        told.store(true, Ordering::Release);
        other.join().unwrap();
    });
}

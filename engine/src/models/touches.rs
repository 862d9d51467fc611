//! Touches against the end of their session.

use super::*;
use crate::{Cause, OnMismatch};
use loom::sync::atomic::{AtomicBool, Ordering};

/// A session as nearly all are, which a touch needs but a glance at.
fn plain(policy: PolicyId) -> Start {
    Start::under(policy)
}

/// A session whose touches are looked at closely: it is presented without what it is bound to, and
/// its policy only logs that.
fn mismatched(table: &Table) -> Start {
    let policy = Policy { on_mismatch: OnMismatch::Log, ..Policy::new() }.idle(ms(10)).retain(Retain::For(Span::OFF));
    Start::under(table.set_policy("logs", &policy, Tick::ZERO).unwrap()).bound_to(Binding(77))
}

/// Catches an end that a touch in flight undoes, or that a touch which begins later misses.
#[test]
fn no_touch_brings_back_a_session_that_was_ended() {
    explore(3, || {
        let (table, _) = table();
        let kept = table.set_policy("kept", &Policy::new().idle(ms(10)), Tick::ZERO).unwrap();
        table.start(key(1), &Start::under(kept), at(0)).unwrap();
        let returned = Arc::new(AtomicBool::new(false));
        let hears = returned.clone();
        race(
            &table,
            move |table| {
                table.end(key(1), Cause::Logout, at(5)).unwrap();
                returned.store(true, Ordering::Release);
                let after = table.touch(key(1), Binding::NONE, at(5));
                let meant = |end: crate::End| end.cause == Cause::Logout && end.at == at(5);
                assert!(matches!(after, Verdict::Ended(end) if meant(end)), "{after:?}");
            },
            move |table| {
                let first = table.touch(key(1), Binding::NONE, at(5));
                let surely = hears.load(Ordering::Acquire);
                let second = table.touch(key(1), Binding::NONE, at(6));
                let ended = matches!(second, Verdict::Ended(_));
                assert!(ended || (is_active(first) && !surely), "{first:?}, {surely}, {second:?}");
            },
        );
        assert!(matches!(table.peek(key(1), Binding::NONE, at(6)), Verdict::Ended(_)));
        assert_eq!(ends(&table).len(), 1);
    });
}

/// Catches an advance that ends a session although a touch in time was answered with Active, and a
/// touch in flight that moves the last activity of the next session in the same record.
#[test]
fn a_touch_against_expiry_and_reuse_of_the_record() {
    against_expiry_and_reuse(|_, policy| plain(policy));
}

/// The same for a touch that no glance answers.
#[test]
fn a_close_look_against_expiry_and_reuse_of_the_record() {
    against_expiry_and_reuse(|table, _| mismatched(table));
}

fn against_expiry_and_reuse(start: fn(&Table, PolicyId) -> Start) {
    explore(2, move || {
        let (table, policy) = table();
        let start = start(&table, policy);
        table.start(key(1), &start, at(0)).unwrap();
        let (alive, verdict) = race(
            &table,
            move |table| {
                while table.advance(at(10), 10).more {}
                let alive = is_active(table.peek(key(1), Binding::NONE, at(10)));
                table.start(key(2), &start, at(10)).unwrap();
                alive
            },
            |table| table.touch(key(1), Binding::NONE, at(9)),
        );
        let still = is_active(table.peek(key(1), Binding::NONE, at(10)));
        assert!(!is_active(verdict) || still, "an acknowledged touch is lost");
        assert!(is_active(verdict) || !alive || still);
        let Verdict::Active(left) = table.peek(key(2), Binding::NONE, at(10)) else { panic!("it has begun") };
        assert_eq!((left.idle(), left.age()), (ms(10), Span::OFF));
        table.check().unwrap();
    });
}

/// Catches a touch that moves the activity of another session by a clock that is ahead.
#[test]
fn a_touch_that_was_held_up_does_not_prolong_the_next_session_of_its_record() {
    that_was_held_up(|_, policy| plain(policy));
}

/// The same for a touch that no glance answers.
#[test]
fn a_close_look_that_was_held_up_does_not_prolong_the_next_session_of_its_record() {
    that_was_held_up(|table, _| mismatched(table));
}

fn that_was_held_up(start: fn(&Table, PolicyId) -> Start) {
    explore(2, move || {
        let (table, policy) = table();
        let start = start(&table, policy);
        table.start(key(1), &start, at(0)).unwrap();
        race(
            &table,
            move |table| {
                table.end(key(1), Cause::Logout, at(1)).unwrap();
                table.start(key(2), &start, at(2)).unwrap();
            },
            |table| table.touch(key(1), Binding::NONE, at(8)),
        );
        let Verdict::Active(left) = table.peek(key(2), Binding::NONE, at(2)) else { panic!("it has begun") };
        assert_eq!(left.idle(), ms(10));
        assert!(!is_active(table.peek(key(2), Binding::NONE, at(12))));
        assert!(is_active(table.touch(key(2), Binding::NONE, at(5))));
        assert!(is_active(table.peek(key(2), Binding::NONE, at(14))));
    });
}

/// Catches a touch that sets the last activity back.
#[test]
fn of_two_touches_the_later_counts() {
    the_later_counts(|_, policy| plain(policy));
}

/// The same for touches that no glance answers.
#[test]
fn of_two_close_looks_the_later_counts() {
    the_later_counts(|table, _| mismatched(table));
}

fn the_later_counts(start: fn(&Table, PolicyId) -> Start) {
    explore(6, move || {
        let (table, policy) = table();
        table.start(key(1), &start(&table, policy), at(0)).unwrap();
        race(
            &table,
            |table| assert!(is_active(table.touch(key(1), Binding::NONE, at(9)))),
            |table| assert!(is_active(table.touch(key(1), Binding::NONE, at(4)))),
        );
        assert!(is_active(table.peek(key(1), Binding::NONE, at(18))));
        assert!(!is_active(table.peek(key(1), Binding::NONE, at(19))));
    });
}

/// Catches a freeze that a lagging clock does not respect: over for one is over for all.
#[test]
fn a_session_whose_time_has_come_for_one_clock_is_over_for_a_clock_that_lags() {
    explore(3, || {
        let (table, _) = table();
        let policy = Policy::new().idle(ms(10)).retain(Retain::For(ms(1000)));
        let policy = table.set_policy("kept", &policy, Tick::ZERO).unwrap();
        table.start(key(1), &Start::under(policy), at(0)).unwrap();
        let (_, touched) = race(
            &table,
            |table| table.advance(at(10), 10),
            |table| {
                let first = table.touch(key(1), Binding::NONE, at(8));
                let second = table.touch(key(1), Binding::NONE, at(9));
                assert!(is_active(first) || matches!(second, Verdict::Ended(_)), "{first:?} then {second:?}");
                is_active(second)
            },
        );
        assert_eq!(is_active(table.peek(key(1), Binding::NONE, at(9))), touched);
        assert_eq!(ends(&table).len(), usize::from(!touched));
    });
}

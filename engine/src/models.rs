//! The engine under loom: every interleaving of a few steps, within a bound on preemptions.
//!
//! `make loom` runs these. Each model says what it would catch; `docs/verification.md` lists the
//! weakenings of the engine that were tried, and which model fails for each.

use loom::sync::Arc;
use loom::thread;

use crate::layout::header;
use crate::shard::field;
use crate::{
    Binding, Cause, Config, Event, Key, Policy, PolicyId, Retain, Span, Start, StartError, Table, Tick, Verdict, What,
};

fn at(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

fn ms(millis: u64) -> Span {
    Span::from_millis(millis)
}

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    // A longer run looks further: `CURFEW_LOOM_PREEMPTIONS=4 make loom`.
    let asked = std::env::var("CURFEW_LOOM_PREEMPTIONS").ok().and_then(|bound| bound.parse().ok());
    builder.preemption_bound = Some(asked.unwrap_or(preemptions));
    builder.max_branches = 1_000_000;
    // What is not explored by then is left to a longer run: `CURFEW_LOOM_SECONDS=3600 make loom`.
    let seconds = std::env::var("CURFEW_LOOM_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(20);
    builder.max_duration = Some(std::time::Duration::from_secs(seconds));
    builder.check(model);
}

/// A table with one policy: idle 10 ms, an ended session is forgotten at once.
fn table() -> (Arc<Table>, PolicyId) {
    let config = Config { events: 16, secret: Some([7; 32]), ..Config::new(4) };
    let table = Table::private(&config).unwrap();
    let policy = table.set_policy("p", &Policy::new().idle(ms(10)).retain(Retain::For(Span::OFF)), Tick::ZERO).unwrap();
    (Arc::new(table), policy)
}

fn key(table: &Table, number: u8) -> Key {
    table.key(&[number])
}

fn ends(table: &Table) -> Vec<Event> {
    table.events().filter(|event| event.what == What::Ended).collect()
}

fn is_active(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Active(_))
}

/// Catches an end that a touch in flight undoes, or that a touch which begins later misses.
#[test]
fn no_touch_brings_back_a_session_that_was_ended() {
    explore(3, || {
        let (table, policy) = table();
        let policy_kept = table.set_policy("kept", &Policy::new().idle(ms(10)), Tick::ZERO).unwrap();
        assert_ne!(policy, policy_kept);
        let session = key(&table, 1);
        table.start(session, &Start::under(policy_kept), at(0)).unwrap();
        let other = {
            let table = table.clone();
            thread::spawn(move || {
                let first = table.touch(session, Binding::NONE, at(5));
                let second = table.touch(session, Binding::NONE, at(6));
                assert!(is_active(first) || matches!(second, Verdict::Ended(_)), "{first:?} then {second:?}");
            })
        };
        table.end(session, Cause::Logout, at(5)).unwrap();
        let after = table.touch(session, Binding::NONE, at(5));
        assert!(matches!(after, Verdict::Ended(end) if end.cause == Cause::Logout && end.at == at(5)), "{after:?}");
        other.join().unwrap();
        assert!(matches!(table.peek(session, Binding::NONE, at(6)), Verdict::Ended(_)));
        assert_eq!(ends(&table).len(), 1);
    });
}

/// Catches an advance that ends a session although a touch in time was answered with Active, and a
/// touch in flight that moves the last activity of the next session in the same record.
#[test]
fn a_touch_against_expiry_and_reuse_of_the_record() {
    explore(2, || {
        let (table, policy) = table();
        let (old, new) = (key(&table, 1), key(&table, 2));
        table.start(old, &Start::under(policy), at(0)).unwrap();
        let touch = {
            let table = table.clone();
            thread::spawn(move || table.touch(old, Binding::NONE, at(9)))
        };
        while table.advance(at(10), 10).more {}
        let alive = is_active(table.peek(old, Binding::NONE, at(10)));
        table.start(new, &Start::under(policy), at(10)).unwrap();
        let verdict = touch.join().unwrap();
        assert!(
            !is_active(verdict) || is_active(table.peek(old, Binding::NONE, at(10))),
            "an acknowledged touch is lost"
        );
        assert!(is_active(verdict) || !alive || is_active(table.peek(old, Binding::NONE, at(10))));
        let Verdict::Active(left) = table.peek(new, Binding::NONE, at(10)) else { panic!("the new session is there") };
        assert_eq!((left.idle, left.age), (ms(10), Span::OFF));
        table.check().unwrap();
    });
}

/// Catches a touch that moves the activity of another session by a clock that is ahead.
#[test]
fn a_touch_that_was_held_up_does_not_prolong_the_next_session_of_its_record() {
    explore(2, || {
        let (table, policy) = table();
        let (old, new) = (key(&table, 1), key(&table, 2));
        table.start(old, &Start::under(policy), at(0)).unwrap();
        let touch = {
            let table = table.clone();
            thread::spawn(move || table.touch(old, Binding::NONE, at(8)))
        };
        table.end(old, Cause::Logout, at(1)).unwrap();
        table.start(new, &Start::under(policy), at(2)).unwrap();
        touch.join().unwrap();
        let Verdict::Active(left) = table.peek(new, Binding::NONE, at(2)) else { panic!("the new session is there") };
        assert_eq!(left.idle, ms(10));
        assert!(!is_active(table.peek(new, Binding::NONE, at(12))));
    });
}

/// Catches a mixture of old and new terms that lets a session live longer than either.
#[test]
fn a_touch_against_a_reauthentication_whose_token_expires_sooner() {
    explore(3, || {
        let (table, _) = table();
        let policy = Policy::new().lifetime(ms(10)).retain(Retain::UntilHardLimit);
        let policy = table.set_policy("lifetime", &policy, Tick::ZERO).unwrap();
        let session = key(&table, 1);
        table.start(session, &Start::under(policy).until(at(100)), at(0)).unwrap();
        let touch = {
            let table = table.clone();
            // At 11 the old terms are over (lifetime) and so are the new ones (token).
            thread::spawn(move || table.touch(session, Binding::NONE, at(11)))
        };
        let renewed = table.reauthenticate(session, Some(at(10)), at(9));
        let verdict = touch.join().unwrap();
        assert!(!is_active(verdict), "{verdict:?} {renewed:?}");
    });
}

/// Catches a session that is over under the old policy and comes back under the new one, and a
/// policy of which half is old.
#[test]
fn a_touch_against_a_change_of_the_policy() {
    explore(3, || {
        let (table, policy) = table();
        let session = key(&table, 1);
        table.start(session, &Start::under(policy), at(0)).unwrap();
        let touch = {
            let table = table.clone();
            thread::spawn(move || table.touch(session, Binding::NONE, at(20)))
        };
        table.set_policy("p", &Policy::new().idle(ms(1000)).lifetime(ms(30)), at(20)).unwrap();
        while table.advance(at(20), 100).more {}
        assert!(!is_active(touch.join().unwrap()));
        assert!(!is_active(table.peek(session, Binding::NONE, at(20))));
        assert_eq!(ends(&table).iter().map(|event| event.at).collect::<Vec<_>>(), [at(10)]);
    });
}

/// Catches two sessions of one key.
#[test]
fn of_two_starts_of_one_key_one_succeeds() {
    explore(3, || {
        let (table, policy) = table();
        let session = key(&table, 1);
        let other = {
            let table = table.clone();
            thread::spawn(move || table.start(session, &Start::under(policy), at(1)))
        };
        let mine = table.start(session, &Start::under(policy), at(1));
        let other = other.join().unwrap();
        assert!(mine.is_ok() != other.is_ok(), "{mine:?} {other:?}");
        assert!([mine, other].contains(&Err(StartError::Exists)));
        table.check().unwrap();
    });
}

/// Catches a session of a revoked subject that survives although its start had returned, and lists
/// that come apart.
#[test]
fn ending_a_subject_against_a_start_of_the_same_subject() {
    explore(2, || {
        let (table, policy) = table();
        let subject = table.subject(b"alice");
        let (first, second) = (key(&table, 1), key(&table, 2));
        table.start(first, &Start::under(policy).of(subject), at(0)).unwrap();
        let other = {
            let table = table.clone();
            thread::spawn(move || table.start(second, &Start::under(policy).of(subject), at(1)).unwrap())
        };
        let ended = table.end_subject(subject, Cause::Revoked, at(1));
        other.join().unwrap();
        assert!(!is_active(table.peek(first, Binding::NONE, at(1))));
        assert_eq!(is_active(table.peek(second, Binding::NONE, at(1))), ended == 1);
        table.check().unwrap();
    });
}

/// Catches an end that is reported twice, or never.
#[test]
fn two_that_advance_at_once_report_each_end_once() {
    explore(2, || {
        let (table, policy) = table();
        table.start(key(&table, 1), &Start::under(policy), at(0)).unwrap();
        table.start(key(&table, 2), &Start::under(policy), at(0)).unwrap();
        let other = {
            let table = table.clone();
            thread::spawn(move || table.advance(at(10), 1))
        };
        table.advance(at(10), 1);
        other.join().unwrap();
        while table.advance(at(10), 1).more {}
        assert_eq!(ends(&table).len(), 2);
        assert_eq!(table.stats().used, 0);
        table.check().unwrap();
    });
}

/// Catches an event that is half of one and half of another.
#[test]
fn a_reader_that_is_overrun_gets_whole_events_and_the_number_of_those_it_missed() {
    explore(1, || {
        let (table, _) = table();
        let event = |number: u64| Event {
            what: What::Ended,
            at: at(number),
            key: Key([number, number]),
            subject: crate::Subject(number),
            policy: PolicyId(0),
            cause: Cause::Idle,
            age: ms(number),
            idle: ms(number),
        };
        for number in 1..=15 {
            table.region.emit(&event(number), number);
        }
        let reader = {
            let table = table.clone();
            thread::spawn(move || {
                let mut reader = table.events_from(0);
                let mut seen = 0;
                for found in reader.by_ref().take(2) {
                    assert_eq!(found, event(found.at.as_millis()));
                    seen += 1;
                }
                assert_eq!(reader.cursor(), seen + reader.missed());
            })
        };
        for number in 16..=18 {
            table.region.emit(&event(number), number);
        }
        reader.join().unwrap();
    });
}

/// Catches two heirs of one dead owner, and an heir that trusts what the dead left behind.
#[test]
fn of_two_that_find_the_owner_dead_one_inherits_and_puts_things_right() {
    explore(2, || {
        let (table, policy) = table();
        let session = key(&table, 1);
        table.start(session, &Start::under(policy), at(0)).unwrap();
        // An owner of another epoch died in the shard, with the timer half-written.
        let shard = table.region.layout.shard(0);
        table.region.set(table.region.layout.wheel(0, 0) + 8, u64::MAX);
        table.region.set(shard + field::USED, 77);
        table.region.set(shard + field::LOCK, 9 << 16 | 3);
        let other = {
            let table = table.clone();
            thread::spawn(move || table.end(session, Cause::Logout, at(1)).is_ok())
        };
        let mine = table.end(session, Cause::Logout, at(1)).is_ok();
        assert!(mine != other.join().unwrap());
        assert_eq!(table.region.get(header::RECOVERIES), 1);
        assert_eq!(ends(&table).len(), 1);
        table.check().unwrap();
    });
}

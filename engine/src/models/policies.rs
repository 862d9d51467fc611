//! Policies that change while sessions live under them.

use super::*;
use crate::GraceMode;

/// Catches a session that is over under the old policy and comes back under the new one, and a
/// policy of which half is old.
#[test]
fn a_touch_against_a_change_of_the_policy() {
    explore(3, || {
        let (table, policy) = table();
        table.start(key(1), &Start::under(policy), at(0)).unwrap();
        let ((), touched) = race(
            &table,
            |table| {
                table.set_policy("p", &Policy::new().idle(ms(1000)).lifetime(ms(30)), at(20)).unwrap();
                while table.advance(at(20), 100).more {}
            },
            |table| table.touch(key(1), Binding::NONE, at(20)),
        );
        assert!(!is_active(touched));
        assert!(!is_active(table.peek(key(1), Binding::NONE, at(20))));
        assert_eq!(ends(&table).iter().map(|event| event.at).collect::<Vec<_>>(), [at(10)]);
    });
}

/// Catches a process that forgets the older version of a policy before it can see what another,
/// which looked at the sessions, has marked.
#[test]
fn whoever_forgets_an_older_version_sees_what_was_ended_under_it() {
    explore(3, || {
        let (table, policy) = table();
        table.set_policy("p", &Policy::new().idle(ms(1000)), at(0)).unwrap();
        while table.advance(at(0), 100).more {}
        table.start(key(1), &Start::under(policy), at(0)).unwrap();
        // It has ended at 10, and the timer does not know.
        table.set_policy("p", &Policy::new().idle(ms(10)), at(0)).unwrap();
        table.set_policy("p", &Policy::new().idle(ms(2000)), at(20)).unwrap();
        let (verdict, _) = race(
            &table,
            |table| {
                table.advance(at(20), 100);
                table.peek(key(1), Binding::NONE, at(20))
            },
            |table| table.advance(at(20), 100),
        );
        assert!(!is_active(verdict), "{verdict:?}");
    });
}

/// A version whose parts are alike, and nothing older is remembered.
fn set_version(table: &Table, number: u64) {
    table.set_policy("p", &Policy::new().idle(ms(number)).lifetime(ms(number)), at(0)).unwrap();
    while table.advance(at(0), 100).more {}
}

/// Catches a policy that is half of one version and half of another.
#[test]
fn a_policy_is_read_whole_while_its_versions_are_reused() {
    explore(1, || {
        let (table, policy) = table();
        set_version(&table, 100);
        let ((), read) = race(
            &table,
            |table| (101..105).for_each(|number| set_version(table, number)),
            move |table| table.policy(policy).unwrap(),
        );
        assert_eq!(read.idle, read.lifetime, "{read:?}");
    });
}

/// The same for the way of a touch, which reads a policy without older versions in one go.
#[test]
fn a_touch_reads_a_whole_policy_while_its_versions_are_reused() {
    explore(1, || {
        let (table, policy) = table();
        set_version(&table, 100);
        let ((), read) = race(
            &table,
            |table| (101..105).for_each(|number| set_version(table, number)),
            move |table| table.region.only_limits(policy.0),
        );
        if let Some([idle, lifetime, _]) = read {
            assert_eq!(idle, lifetime);
        }
    });
}

/// Catches a peek that reads the record before its end under the old policy is marked, and the
/// policy after the old version is forgotten.
#[test]
fn a_peek_against_a_change_of_the_policy_that_is_swept_and_forgotten_meanwhile() {
    explore(3, || {
        let (table, policy) = table();
        let session = key(1);
        table.start(session, &Start::under(policy), at(0)).unwrap();
        table.set_policy("p", &Policy::new().idle(ms(1000)).lifetime(ms(2000)), at(20)).unwrap();
        let ((), verdict) = race(
            &table,
            |table| while table.advance(at(20), 100).more {},
            move |table| table.peek(session, Binding::NONE, at(20)),
        );
        assert!(!is_active(verdict), "over since 10, and {verdict:?}");
    });
}

/// The same where the record is kept, so that its mark alone tells.
#[test]
fn a_peek_of_a_record_that_is_kept_against_a_change_that_is_swept_and_forgotten_meanwhile() {
    explore(3, || {
        let (table, _) = table();
        let version = |idle| Policy::new().idle(ms(idle)).retain(Retain::For(ms(1000)));
        let policy = table.set_policy("kept", &version(10), Tick::ZERO).unwrap();
        table.start(key(1), &Start::under(policy), at(0)).unwrap();
        table.set_policy("kept", &version(1000), at(20)).unwrap();
        let ((), verdict) = race(
            &table,
            |table| while table.advance(at(20), 100).more {},
            |table| table.peek(key(1), Binding::NONE, at(20)),
        );
        assert!(matches!(verdict, Verdict::Ended(_)), "over since 10, and {verdict:?}");
    });
}

/// Catches an old version that is read while a new one is written over it.
#[test]
fn a_peek_against_a_version_that_takes_the_place_of_the_oldest() {
    explore(3, || {
        let (table, _) = table();
        let retain = Retain::UntilHardLimit;
        let version =
            move |idle, grace| Policy::new().idle(ms(idle)).grace(ms(grace), GraceMode::Resume).retain(retain);
        let policy = table.set_policy("versions", &version(1000, 0), Tick::ZERO).unwrap();
        let session = key(1);
        table.start(session, &Start::under(policy), at(0)).unwrap();
        for (n, now) in [50, 51, 52].into_iter().enumerate() {
            table.set_policy("versions", &version(1001 + n as u64, 0), at(now)).unwrap();
        }
        table.region.lock_shard(0).sweep(at(60), 100);
        let ((), verdict) = race(
            &table,
            move |table| {
                // Forgets the older versions; then the new one takes the place of the oldest. No version
                // ends the session before 1000; with the new idle and the old grace it would end at 5.
                table.advance(at(60), 0);
                table.set_policy("versions", &version(5, 1000), at(60)).unwrap();
            },
            move |table| table.peek(session, Binding::NONE, at(60)),
        );
        assert!(matches!(verdict, Verdict::Active(_) | Verdict::Grace(_)), "{verdict:?}");
    });
}

//! Cases that random histories on a few keys do not reach: long chains, numbers that come round
//! again, and clocks that disagree where two sessions of one subject meet.

use curfew_engine::{
    Binding, Cause, Config, Key, OnLimit, Policy, Retain, Span, Start, StartError, State, Table, Tick, Verdict,
};

fn at(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

fn ms(millis: u64) -> Span {
    Span::from_millis(millis)
}

#[test]
fn an_old_id_is_followed_through_every_rotation_of_its_overlap() {
    let table = Table::private(&Config::new(100)).unwrap();
    let policy = table.set_policy("p", &Policy::new().idle(Span::from_mins(15)), Tick::ZERO).unwrap();
    let key = |number: u8| table.key(&[number]);
    table.start(key(0), &Start::under(policy), at(0)).unwrap();
    for number in 0..12 {
        table.rotate(key(number), key(number + 1), ms(1000), at(u64::from(number))).unwrap();
        let first = table.touch(key(0), Binding::NONE, at(u64::from(number)));
        assert!(matches!(first, Verdict::Active(_)), "after {} rotations: {first:?}", number + 1);
    }
    assert!(matches!(table.touch(key(0), Binding::NONE, at(1000)), Verdict::Ended(end) if end.cause == Cause::Rotated));
    assert!(matches!(table.touch(key(11), Binding::NONE, at(1010)), Verdict::Active(_)));
}

#[test]
fn a_check_is_content_with_a_record_that_was_filed_256_times() {
    let table = Table::private(&Config::new(100_000)).unwrap();
    let policy = Policy::new().idle(Span::from_mins(15)).retain(Retain::For(Span::OFF));
    let policy = table.set_policy("p", &policy, Tick::ZERO).unwrap();
    for round in 0..300 {
        table.start(table.key(b"one"), &Start::under(policy), at(round)).unwrap();
        if round > 250 {
            table.check().unwrap_or_else(|damage| panic!("round {round}: {damage}"));
        }
        table.end(table.key(b"one"), Cause::Logout, at(round)).unwrap();
    }
    while table.advance(Tick::LAST, 1000).more {}
    table.check().unwrap();
    assert_eq!(table.stats().used, 0);
}

#[test]
fn a_key_tells_whose_session_it_is_and_an_old_one_only_that_it_is_old() {
    let table = Table::private(&Config::new(100)).unwrap();
    let policy = Policy::new().idle(ms(50)).retain(Retain::For(ms(100)));
    let policy = table.set_policy("p", &policy, Tick::ZERO).unwrap();
    let [first, second] = [b"a", b"b"].map(|id| table.key(id));
    let (alice, card) = (table.subject(b"alice"), table.binding(b"card"));
    assert_eq!(table.session(first, at(0)), None);
    table.start(first, &Start::under(policy).of(alice).bound_to(card), at(0)).unwrap();
    let of_alice = table.session(first, at(10)).unwrap();
    assert_eq!((of_alice.key, of_alice.subject, of_alice.bound), (first, alice, true));
    assert_eq!((of_alice.state, of_alice.rotated), (State::Active, false));
    table.rotate(first, second, ms(20), at(10)).unwrap();
    let (old, new) = (table.session(first, at(11)).unwrap(), table.session(second, at(11)).unwrap());
    assert!(old.rotated && matches!(old.state, State::Ended(end) if end.cause == Cause::Rotated), "{old:?}");
    assert_eq!((new.subject, new.state, new.rotated), (alice, State::Active, false));
    let ended = table.session(second, at(60)).unwrap();
    assert!(matches!(ended.state, State::Ended(end) if end.cause == Cause::Idle), "{ended:?}");
    assert_eq!((ended.subject, table.session(second, at(160))), (alice, None));
}

/// A session that a start did not count because its time had come must not live on by a clock that
/// lags: there would be two where one is allowed.
#[test]
fn a_session_that_made_place_by_its_deadline_does_not_come_back_by_a_clock_that_lags() {
    for on_limit in [OnLimit::Deny, OnLimit::EndOldest, OnLimit::EndLeastRecent] {
        let table = Table::private(&Config::new(100)).unwrap();
        let policy = Policy::new().idle(ms(10)).max_per_subject(1, on_limit);
        let policy = table.set_policy("p", &policy, Tick::ZERO).unwrap();
        let alice = table.subject(b"alice");
        let [first, second, third]: [Key; 3] = [1, 2, 3].map(|number| table.key(&[number]));
        table.start(first, &Start::under(policy).of(alice), at(0)).unwrap();
        assert_eq!(table.start(second, &Start::under(policy).of(alice), at(10)).unwrap().displaced, 0);
        let late = table.touch(first, Binding::NONE, at(9));
        assert!(matches!(late, Verdict::Ended(end) if end.cause == Cause::Idle), "{on_limit:?}: {late:?}");
        assert_eq!(table.sessions_of(alice, at(9)).len(), 1);
        if on_limit == OnLimit::Deny {
            assert_eq!(table.start(third, &Start::under(policy).of(alice), at(11)), Err(StartError::Limited));
        }
        assert_eq!(table.events().map(|event| event.cause).collect::<Vec<_>>(), [Cause::Idle]);
        table.check().unwrap();
    }
}

#[test]
fn a_configuration_that_is_printed_does_not_show_the_secret() {
    let printed = format!("{:?}", Config { secret: Some([0xa7; 32]), ..Config::new(7) });
    assert!(printed.contains("capacity: 7"), "{printed}");
    assert!(!printed.contains("167"), "{printed}");
}

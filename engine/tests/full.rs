//! A full region that gives up ended records: the soonest first, each once, and quickly.

use curfew_engine::{
    Binding, Cause, Config, Key, OnFull, Policy, PolicyId, Retain, Span, Start, StartError, Table, Tick, Verdict,
};

fn at(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

fn key(table: &Table, number: u64) -> Key {
    table.key(&number.to_le_bytes())
}

fn evicting(table: &Table, name: &str, retain: Span) -> PolicyId {
    let policy = Policy { on_full: OnFull::EvictEnded, ..Policy::new().idle(Span::from_mins(15)) };
    table.set_policy(name, &policy.retain(Retain::For(retain)), Tick::ZERO).unwrap()
}

fn is_known(table: &Table, number: u64, now: Tick) -> bool {
    table.peek(key(table, number), Binding::NONE, now) != Verdict::Unknown
}

#[test]
fn what_is_given_up_is_what_would_be_forgotten_soonest_however_many_there_are() {
    let many = 12_000;
    let table = Table::private(&Config::new(many)).unwrap();
    let policy = Start::under(evicting(&table, "p", Span::DAY));
    for number in 0..many {
        table.start(key(&table, number), &policy, at(0)).unwrap();
    }
    // In an order that nothing else has.
    let ends = |number: u64| 100_000 + number * 7919 % many;
    for number in 0..many {
        table.end(key(&table, number), Cause::Logout, at(ends(number))).unwrap();
    }
    let now = at(200_000);
    for new in 0..2000 {
        table.start(key(&table, many + new), &policy, now).unwrap();
    }
    for number in 0..many {
        assert_eq!(is_known(&table, number, now), ends(number) >= 102_000, "{number}, which ended at {}", ends(number));
    }
    table.check().unwrap();
}

#[test]
fn what_ended_last_is_remembered_in_a_region_that_stays_full() {
    let many = 50_000;
    let table = Table::private(&Config::new(many)).unwrap();
    let policy = Start::under(evicting(&table, "p", Span::DAY));
    let more = 20_000;
    for number in 0..many + more {
        let now = at(number / 100);
        table.start(key(&table, number), &policy, now).unwrap();
        table.end(key(&table, number), Cause::Logout, now).unwrap();
        if number % 10_000 == 0 {
            table.check().unwrap();
        }
    }
    let now = at((many + more) / 100);
    // Of one millisecond a hundred ended, which are all as soon.
    assert!((0..more - 100).all(|number| !is_known(&table, number, now)));
    assert!((more + 100..many + more).all(|number| is_known(&table, number, now)));
}

#[test]
fn giving_up_loses_no_record_and_in_the_end_nothing_is_left() {
    let many = 250_000;
    let table = Table::private(&Config::new(many)).unwrap();
    let policy = Start::under(evicting(&table, "p", Span::DAY));
    for number in 0..many {
        table.start(key(&table, number), &policy, at(0)).unwrap();
    }
    for number in 0..many {
        table.end(key(&table, number), Cause::Logout, at(10)).unwrap();
    }
    for number in many..2 * many {
        table.start(key(&table, number), &policy, at(20)).unwrap();
    }
    table.check().unwrap();
    let later = at(20).after(Span::from_mins(15));
    while table.advance(later, 100_000).more {}
    while table.advance(later.after(Span::DAY), 100_000).more {}
    assert_eq!(table.stats().used, 0);
    table.check().unwrap();
}

#[test]
fn what_is_kept_for_less_long_goes_first_and_no_later_than_it_would_have() {
    let many = 1000;
    let table = Table::private(&Config::new(many)).unwrap();
    let (day, minute) = (evicting(&table, "day", Span::DAY), evicting(&table, "minute", Span::from_mins(1)));
    let minutes = evicting(&table, "minutes", Span::from_mins(2));
    let begin = |number, policy, now| table.start(key(&table, number), &Start::under(policy), now);
    for number in 0..many {
        begin(number, day, at(0)).unwrap();
        table.end(key(&table, number), Cause::Logout, at(number)).unwrap();
    }
    // The wheel is turned a day ahead by this, and what follows is filed behind it.
    begin(5000, day, at(2000)).unwrap();
    assert!(!is_known(&table, 0, at(2000)));
    for (number, policy) in [(6000, minute), (6001, minutes)] {
        begin(number, policy, at(2000)).unwrap();
    }
    for number in [6000, 6001] {
        table.end(key(&table, number), Cause::Logout, at(3000)).unwrap();
    }
    begin(7000, day, at(4000)).unwrap();
    assert!(!is_known(&table, 6000, at(4000)) && is_known(&table, 6001, at(4000)));
    begin(7001, day, at(4000)).unwrap();
    assert!(!is_known(&table, 6001, at(4000)) && is_known(&table, 3, at(4000)));

    table.end(key(&table, 7000), Cause::Logout, at(4000)).unwrap();
    begin(8000, minute, at(5000)).unwrap();
    table.end(key(&table, 8000), Cause::Logout, at(5000)).unwrap();
    // Who gives nothing up has its place once its minute is over.
    let refusing = Policy::new().idle(Span::from_mins(15));
    let refusing = table.set_policy("refusing", &refusing, at(5000)).unwrap();
    assert_eq!(begin(9000, refusing, at(64_999)), Err(StartError::Full));
    begin(9000, refusing, at(65_000)).unwrap();
    assert!(!is_known(&table, 3, at(65_000)) && is_known(&table, 4, at(65_000)));
    table.check().unwrap();
}

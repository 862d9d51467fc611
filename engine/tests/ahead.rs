//! Steps whose memory is asked for ahead of time: the same steps, in the same order, with the same answers.

use std::cell::Cell;

use curfew_engine::{Binding, Cause, ChangeError, Config, Key, Policy, PolicyId, Span, Start, StartError, Table, Tick};

fn table() -> (Table, PolicyId) {
    let table = Table::private(&Config::new(1000)).unwrap();
    let policy = table.set_policy("p", &Policy::new().idle(Span::from_millis(50)), Tick::ZERO).unwrap();
    (table, policy)
}

fn key(table: &Table, number: usize) -> Key {
    table.key(&number.to_le_bytes())
}

#[test]
fn every_item_comes_once_and_in_its_order_however_many_there_are() {
    let (table, policy) = table();
    for there in (0..600).step_by(2) {
        table.start(key(&table, there), &Start::under(policy), Tick::ZERO).unwrap();
    }
    for count in (0..50).chain([255, 256, 600]) {
        let mut ahead = table.ahead(0..count, |number| key(&table, *number));
        for number in 0..count {
            assert_eq!(ahead.size_hint(), (count - number, Some(count - number)));
            assert_eq!(ahead.next(), Some(number), "of {count}");
        }
        assert_eq!((ahead.next(), ahead.next()), (None, None), "nothing after {count}");
    }
}

#[test]
fn sixteen_items_are_taken_before_the_first_is_given_and_then_one_for_each() {
    let (table, _) = table();
    let taken = Cell::new(0);
    let items = (0..100).inspect(|_| taken.set(taken.get() + 1));
    let mut ahead = table.ahead(items, |number| key(&table, *number));
    assert_eq!(taken.get(), 16);
    ahead.next();
    ahead.next();
    assert_eq!(taken.get(), 18);
}

#[derive(Clone, Copy)]
enum Step {
    Start(Key),
    Touch(Key),
    End(Key),
}

fn key_of(step: &Step) -> Key {
    let (Step::Start(key) | Step::Touch(key) | Step::End(key)) = *step;
    key
}

/// What the steps answer.
fn answers(
    table: &Table,
    policy: PolicyId,
    steps: impl Iterator<Item = Step>,
) -> Vec<(bool, Option<StartError>, Option<ChangeError>)> {
    let each = steps.enumerate().map(|(nth, step)| {
        let now = Tick::from_millis(nth as u64);
        match step {
            Step::Start(key) => (true, table.start(key, &Start::under(policy), now).err(), None),
            Step::Touch(key) => (table.touch(key, Binding::NONE, now).passes(), None, None),
            Step::End(key) => (true, None, table.end(key, Cause::Logout, now).err()),
        }
    });
    each.collect()
}

#[test]
fn a_session_that_begins_or_ends_between_asking_and_touching_is_found_as_it_is() {
    // Keys come again at all distances below and above those at which memory is asked for.
    let steps = |table: &Table| -> Vec<_> {
        let each = (0..4000_usize).map(|nth| {
            let key = key(table, nth * nth % 97 + nth / 40 % 3);
            [Step::Touch(key), Step::Start(key), Step::Touch(key), Step::End(key), Step::Touch(key)][nth * 7 % 5]
        });
        each.collect()
    };
    let (plain, policy) = table();
    let (known, its_policy) = table();
    let expected = answers(&plain, policy, steps(&plain).into_iter());
    assert_eq!(answers(&known, its_policy, known.ahead(steps(&known), key_of)), expected);
    assert!(expected.iter().filter(|(passed, ..)| !passed).count() > 500, "many find nothing");
    assert!(expected.iter().filter(|(_, refused, _)| refused.is_some()).count() > 50, "many are refused");
    assert_eq!(plain.stats().live, known.stats().live);
    assert_eq!(known.check(), Ok(()));
}

#[test]
fn who_stops_in_the_middle_has_done_what_was_done() {
    let (table, policy) = table();
    for number in table.ahead(0..100, |number| key(&table, *number)).take(10) {
        table.start(key(&table, number), &Start::under(policy), Tick::ZERO).unwrap();
    }
    assert_eq!(table.stats().live, 10);
}

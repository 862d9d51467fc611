//! A reader of events against their writers.

use super::*;
use crate::Cause;

fn event(number: u64) -> Event {
    Event {
        what: What::Ended,
        at: at(number),
        key: Key([number, number]),
        subject: Subject(number),
        policy: PolicyId(0),
        cause: Cause::Idle,
        age: ms(number),
        idle: ms(number),
        bytes: 0,
    }
}

/// Catches an event that is half of one and half of another.
#[test]
fn a_reader_that_is_overrun_gets_whole_events_and_the_number_of_those_it_missed() {
    explore(1, || {
        let (table, _) = table();
        for number in 1..=15 {
            table.region.emit(&event(number), number);
        }
        race(
            &table,
            |table| {
                for number in 16..=17 {
                    table.region.emit(&event(number), number);
                }
            },
            |table| {
                let mut reader = table.events_from(0);
                let mut seen = 0;
                for found in reader.by_ref().take(1) {
                    assert_eq!(found, event(found.at.as_millis()));
                    seen += 1;
                }
                assert_eq!(reader.cursor(), seen + reader.missed());
            },
        );
    });
}

/// Catches an event that is read before it is written: the first of a region, whose number is that of zeroes, too.
#[test]
fn the_first_event_is_read_whole_or_not_at_all() {
    explore(6, || {
        let (table, _) = table();
        race(
            &table,
            |table| table.region.emit(&event(1), 1),
            |table| assert!(table.events().all(|found| found == event(1))),
        );
        assert_eq!(table.events().count(), 1);
    });
}

/// Catches two writers that take one place, and an event that is seen before it is whole.
#[test]
fn events_of_two_processes_come_one_after_the_other_and_whole() {
    explore(6, || {
        let (table, _) = table();
        race_of_processes(
            &table,
            |table| {
                table.region.emit(&event(2), 2);
                for found in table.events() {
                    assert_eq!(found, event(found.at.as_millis()));
                }
            },
            |table| table.region.emit(&event(1), 1),
        );
        let mut seen: Vec<_> = table.events().collect();
        seen.sort_by_key(|event| event.at);
        assert_eq!(seen, [event(1), event(2)]);
    });
}

//! Two that advance at once.

use super::*;

/// Catches an end that is reported twice, or never.
#[test]
fn two_processes_that_advance_at_once_report_each_end_once() {
    explore(6, || {
        let (table, policy) = table();
        table.start(key(1), &Start::under(policy), at(0)).unwrap();
        table.start(key(2), &Start::under(policy), at(0)).unwrap();
        race_of_processes(&table, |table| table.advance(at(10), 1), |table| table.advance(at(10), 1));
        while table.advance(at(10), 1).more {}
        assert_eq!(ends(&table).len(), 2);
        assert_eq!(table.stats().used, 0);
        table.check().unwrap();
    });
}

/// Catches an end that the timer comes to know of too late.
#[test]
fn an_advance_that_follows_a_start_does_what_it_made_due() {
    use loom::sync::atomic::{AtomicBool, Ordering};
    explore(6, || {
        let (table, policy) = table();
        let told = Arc::new(AtomicBool::new(false));
        let hears = told.clone();
        race_of_processes(
            &table,
            move |table| {
                table.start(key(1), &Start::under(policy), at(0)).unwrap();
                told.store(true, Ordering::Release);
            },
            move |table| {
                if hears.load(Ordering::Acquire) {
                    while table.advance(at(10), 10).more {}
                    assert_eq!(ends(table).len(), 1);
                }
            },
        );
    });
}

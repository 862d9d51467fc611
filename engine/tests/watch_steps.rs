//! Somebody who watches a session comes by between any two stores of a rotation, and of an end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use curfew_engine::{Binding, Cause, Config, Policy, Span, Start, Table, Tick, Verdict, Watch, crash};

fn at(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

fn ms(millis: u64) -> Span {
    Span::from_millis(millis)
}

/// A session that began at 0 and ends at 10 if nobody uses it.
fn table() -> Rc<Table> {
    let table = Table::private(&Config { secret: Some([5; 32]), ..Config::new(64) }).unwrap();
    let policy = table.set_policy("p", &Policy::new().idle(ms(10)), Tick::ZERO).unwrap();
    table.start(table.key(b"old"), &Start::under(policy), at(0)).unwrap();
    Rc::new(table)
}

/// Does something, and before each of its stores calls `between` with the store's number; says how many
/// there were.
fn step_by_step(act: impl FnOnce(), mut between: impl FnMut(usize) + 'static) -> usize {
    let steps = Rc::new(Cell::new(0));
    let counted = steps.clone();
    crash::on_step(move |_| {
        counted.set(counted.get() + 1);
        between(counted.get());
    });
    act();
    crash::clear();
    steps.get()
}

fn is_active(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Active(_))
}

/// A touch of the old id may fall anywhere in a rotation, and a look after it, too: the session lasts for ten
/// more from the touch, whatever the watch goes by.
#[test]
fn a_watch_misses_no_touch_wherever_in_a_rotation_it_looks() {
    let rotate = |table: &Table| _ = table.rotate(table.key(b"old"), table.key(b"new"), ms(100), at(1)).unwrap();
    let steps = {
        let table = table();
        step_by_step(|| rotate(&table), |_| ())
    };
    assert!(steps > 10, "{steps}");
    for touched in 1..=steps {
        for looked in touched..=steps {
            let table = table();
            let watch = Rc::new(RefCell::new(Watch::new(table.key(b"old"), Binding::NONE)));
            let between = {
                let (table, watch) = (table.clone(), watch.clone());
                move |step| {
                    let watch = &mut *watch.borrow_mut();
                    if step == touched {
                        assert!(is_active(table.touch_watched(watch, at(9))), "touched before store {touched}");
                    }
                    if step == looked {
                        for _ in 0..2 {
                            let verdict = table.peek_watched(watch, at(12));
                            assert!(is_active(verdict), "touched {touched}, looked {looked}: {verdict:?}");
                        }
                    }
                }
            };
            step_by_step(|| rotate(&table), between);
            let watch = &mut *watch.borrow_mut();
            assert!(is_active(table.peek_watched(watch, at(12))));
            assert_eq!(watch.key(), table.key(b"new"));
        }
    }
}

/// Who is told that something has changed finds the end, wherever in it he looks.
#[test]
fn what_is_told_to_have_changed_has() {
    let table = table();
    let mut seen = table.seen();
    let (watched, told) = (table.clone(), Rc::new(Cell::new(false)));
    let tells = told.clone();
    let between = move |step| {
        if watched.changed_since(&mut seen, 10) != curfew_engine::Changed::Nothing {
            tells.set(true);
        }
        let mut watch = Watch::new(watched.key(b"old"), Binding::NONE);
        let verdict = watched.peek_watched(&mut watch, at(5));
        assert!(!tells.get() || !is_active(verdict), "before store {step}");
    };
    step_by_step(|| table.end(table.key(b"old"), Cause::Logout, at(5)).unwrap(), between);
    assert!(told.get(), "while its record was put away");
}

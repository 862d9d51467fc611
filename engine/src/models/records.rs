//! What a reader makes of a record that is written meanwhile: first on the record alone, where every
//! interleaving can be looked at, then through the verbs.

use super::*;
use crate::record::{Birth, Held, Kind, Moved, Seen, View};
use crate::region::Region;
use crate::table::touch::Located;
use crate::{Cause, End};

fn birth(number: u64) -> Birth {
    Birth {
        key: Key([number, number]),
        policy: 0,
        start: at(number),
        last: at(number),
        token: at(number + 1000),
        binding: Binding(number),
        subject: Subject(number),
    }
}

/// Whether all words are of the session that `birth(number)` made.
fn is_of(view: &View, number: u64) -> bool {
    let life = view.life();
    (view.key, life.start, life.last, life.token) == (Key([number, number]), at(number), at(number), at(number + 1000))
        && (view.binding(), view.subject()) == (Binding(number), Subject(number))
}

/// Reads record 0 while `write` goes on with it, which belongs to session 1.
fn while_it_is_written(write: fn(&Region), look: fn(Option<View>)) {
    let (table, _) = table();
    table.region.begin(0, &birth(1));
    race(&table, move |table| write(&table.region), move |table| look(table.region.view(0)));
}

/// Catches a reader that takes the words of one session for those of another.
#[test]
fn a_view_is_of_one_session() {
    explore(3, || {
        while_it_is_written(
            |region| {
                region.free(0);
                region.begin(0, &birth(2));
            },
            |view| assert!(view.is_none_or(|view| is_of(&view, 1) || is_of(&view, 2)), "{view:?}"),
        );
    });
}

/// Catches a glance that takes the words of the next session of its record for those of the one it came for.
#[test]
fn a_glance_is_of_one_session() {
    explore(3, || {
        let (table, _) = table();
        table.region.begin(0, &birth(1));
        race(
            &table,
            |table| {
                table.region.free(0);
                table.region.begin(0, &birth(2));
            },
            |table| {
                let held = table.region.record(0).and_then(|line| Held::of(line, Key([1, 1])));
                let Some(seen) = held.and_then(|held| table.region.glance(held)) else { return };
                let life = seen.life();
                assert_eq!((life.start, life.last, life.token, seen.binding()), (1, 1, 1001, Binding(1)));
            },
        );
    });
}

/// Catches a touch that moves a session's last activity on the words of another. Both have the same key: it
/// was started again.
#[test]
fn what_a_touch_has_seen_is_of_one_session_if_its_exchange_succeeds() {
    explore(3, || {
        let (table, _) = table();
        table.region.begin(0, &birth(1));
        race(
            &table,
            |table| {
                table.region.free(0);
                table.region.begin(0, &Birth { key: Key([1, 1]), ..birth(2) });
            },
            |table| {
                let Some(seen) = Seen::of(table.region.record(0).unwrap(), Key([1, 1])) else { return };
                let Some(life) = seen.life_before(at(500)) else { return };
                if seen.control.is_session_under_first() && table.region.move_seen(&seen, at(500)) {
                    let words = (life.start, life.last, life.token, seen.binding());
                    assert!(words == (1, 1, 1001, Binding(1)) || words == (2, 2, 1002, Binding(2)), "{words:?}");
                }
            },
        );
    });
}

/// Catches a touch of a session that never began, on the words of the next in its record: the first start died
/// before it wrote the control word, and the second writes the same last activity.
#[test]
fn a_touch_of_a_session_whose_start_died_is_not_one_of_the_next_in_its_record() {
    explore(3, || {
        let (table, _) = table();
        let free = table.region.control(0);
        table.region.begin(0, &birth(1));
        table.region.set_control(0, free);
        let next = Birth { start: at(1), last: at(1), ..birth(2) };
        race(
            &table,
            move |table| table.region.begin(0, &next),
            |table| {
                let Some(seen) = Seen::of(table.region.record(0).unwrap(), Key([1, 1])) else { return };
                if seen.life_before(at(500)).is_some() && seen.control.is_session_under_first() {
                    assert!(!table.region.move_seen(&seen, at(500)), "{:?}", seen.binding());
                }
            },
        );
    });
}

/// The same when it is the same session, started once more and bound to something this time.
#[test]
fn a_touch_of_a_session_whose_start_was_repeated_has_the_words_of_the_second() {
    explore(3, || {
        let (table, _) = table();
        let free = table.region.control(0);
        table.region.begin(0, &Birth { binding: Binding::NONE, ..birth(1) });
        table.region.set_control(0, free);
        race(
            &table,
            |table| table.region.begin(0, &birth(1)),
            |table| {
                let Some(seen) = Seen::of(table.region.record(0).unwrap(), Key([1, 1])) else { return };
                let lives = seen.life_before(at(500)).is_some() && seen.control.is_session_under_first();
                if lives && table.region.move_seen(&seen, at(500)) {
                    assert_eq!(seen.binding(), Binding(1));
                }
            },
        );
    });
}

/// Catches a reader that takes the tick until which a record is kept for a binding, or a binding
/// for that tick.
#[test]
fn a_view_has_a_binding_or_the_time_until_which_the_record_is_kept() {
    explore(6, || {
        while_it_is_written(
            |region| {
                region.mark(0, End { cause: Cause::Logout, at: at(5) });
                region.keep(0, at(77));
            },
            |view| {
                let view = view.unwrap();
                let kept = if view.is_kept() { at(77) } else { Tick::NEVER };
                assert!(view.mark().is_some() || view.binding() == Binding(1), "{view:?}");
                assert_eq!(view.kept_until(), kept, "{view:?}");
            },
        );
    });
}

/// Catches a reader that takes what an alias stands for as the subject of a session, and one that
/// gives up on a session which is there all the time.
#[test]
fn a_view_of_a_session_that_is_rotated_has_its_subject_or_none() {
    explore(3, || {
        while_it_is_written(
            |region| {
                region.alias(0, 5, 9);
                region.mark(0, End { cause: Cause::Rotated, at: at(5) });
                region.keep(0, at(77));
            },
            |view| {
                let view = view.expect("a rotation changes a record four times, a reader tries six");
                assert!([Subject(1), Subject::NONE].contains(&view.subject()), "{view:?}");
                assert!(view.control.kind() != Kind::Alias || view.target() == (5, 9), "{view:?}");
            },
        );
    });
}

/// Catches a reader that takes the words of one session for those of another: the old session is
/// bound, the new one in the same record is not, so that a mixture would let anybody pass.
#[test]
fn a_reader_of_a_record_that_is_reused_sees_one_session() {
    explore(2, || {
        let (table, policy) = table();
        let bound = Start::under(policy).bound_to(Binding(7));
        table.start(key(1), &bound, at(0)).unwrap();
        let ((), verdict) = race(
            &table,
            move |table| {
                table.end(key(1), Cause::Logout, at(1)).unwrap();
                table.start(key(2), &Start::under(policy), at(1)).unwrap();
            },
            |table| table.touch(key(1), Binding::NONE, at(1)),
        );
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
        let ((), verdict) = race(
            &table,
            move |table| {
                table.end(old, Cause::Logout, at(1)).unwrap();
                table.start(new, &Start::under(policy).bound_to(Binding(7)), at(1)).unwrap();
            },
            move |table| table.touch(new, Binding::NONE, at(1)),
        );
        assert!(matches!(verdict, Verdict::Mismatch(_) | Verdict::Unknown), "{verdict:?}");
    });
}

/// Catches a reader that takes the tick until which a record is kept for what its session is bound to.
#[test]
fn what_becomes_of_the_binding_of_an_ended_session_is_not_taken_for_a_binding() {
    ended_meanwhile(Binding(7), |verdict| matches!(verdict, Verdict::Active(_) | Verdict::Ended(_)));
}

/// Catches the opposite: nobody passes by presenting that tick.
#[test]
fn the_time_until_which_a_record_is_kept_is_not_what_its_session_is_bound_to() {
    ended_meanwhile(Binding(1008), |verdict| matches!(verdict, Verdict::Mismatch(_) | Verdict::Ended(_)));
}

/// Of a session that is bound to 7 and, once it has ended, kept until 1008.
fn ended_meanwhile(presented: Binding, may_be: fn(Verdict) -> bool) {
    explore(3, move || {
        let (table, _) = table();
        let policy = Policy::new().idle(ms(10)).retain(Retain::For(ms(1000)));
        let policy = table.set_policy("kept", &policy, Tick::ZERO).unwrap();
        table.start(key(1), &Start::under(policy).bound_to(Binding(7)), at(0)).unwrap();
        let ((), verdict) = race(
            &table,
            |table| table.end(key(1), Cause::Logout, at(8)).unwrap(),
            move |table| table.touch(key(1), presented, at(8)),
        );
        assert!(may_be(verdict), "{verdict:?}");
    });
}

/// Catches a mixture of old and new terms that lets a session live longer than either.
#[test]
fn a_touch_against_a_reauthentication_whose_token_expires_sooner() {
    against_a_sooner_token(|table| table.touch(key(1), Binding::NONE, at(11)));
}

/// The same for a peek.
#[test]
fn a_peek_against_a_reauthentication_whose_token_expires_sooner() {
    against_a_sooner_token(|table| table.peek(key(1), Binding::NONE, at(11)));
}

fn against_a_sooner_token(ask: fn(&Table) -> Verdict) {
    explore(6, move || {
        let (table, _) = table();
        let policy = Policy::new().lifetime(ms(10)).retain(Retain::UntilHardLimit);
        let policy = table.set_policy("lifetime", &policy, Tick::ZERO).unwrap();
        table.start(key(1), &Start::under(policy).until(at(100)), at(0)).unwrap();
        let (renewed, verdict) = race(
            &table,
            |table| table.reauthenticate(key(1), Some(at(10)), at(9)),
            // At 11 the old terms are over (lifetime) and so are the new ones (token).
            move |table| ask(table),
        );
        assert!(!is_active(verdict), "{verdict:?} {renewed:?}");
    });
}

/// Catches a look that takes a touch which came after a re-authentication, and not the token that this one
/// has set: by a clock that is ahead, both what was before and what is after it are over.
#[test]
fn a_peek_against_a_reauthentication_and_a_touch_by_a_clock_that_lags() {
    explore(6, || {
        let (table, policy) = table();
        table.start(key(1), &Start::under(policy).until(at(100)), at(0)).unwrap();
        let ((), verdict) = race(
            &table,
            |table| {
                table.reauthenticate(key(1), Some(at(11)), at(1)).unwrap();
                table.touch(key(1), Binding::NONE, at(10));
            },
            // Idle since 0, at 12; and the new token expires at 11.
            |table| table.peek(key(1), Binding::NONE, at(12)),
        );
        assert!(!is_active(verdict), "{verdict:?}");
    });
}

/// Catches a start that has returned, and that a touch which begins later does not find.
#[test]
fn a_session_that_has_begun_is_found_by_whoever_hears_of_it() {
    use loom::sync::atomic::{AtomicBool, Ordering};
    explore(6, || {
        let (table, policy) = table();
        let told = Arc::new(AtomicBool::new(false));
        let hears = told.clone();
        race(
            &table,
            move |table| {
                table.start(key(1), &Start::under(policy).bound_to(Binding(7)), at(0)).unwrap();
                told.store(true, Ordering::Release);
            },
            move |table| {
                let told = hears.load(Ordering::Acquire);
                let verdict = table.touch(key(1), Binding(7), at(1));
                assert!(is_active(verdict) || (!told && verdict == Verdict::Unknown), "{told}: {verdict:?}");
            },
        );
    });
}

/// Catches a touch and a freeze that both succeed: an acknowledged touch that is ignored.
#[test]
fn of_a_touch_and_a_freeze_one_comes_first() {
    explore(6, || {
        let (table, _) = table();
        table.region.begin(0, &birth(1));
        let view = table.region.view(0).unwrap();
        let (frozen, touched) = race(
            &table,
            move |table| table.region.freeze(0, &view),
            move |table| table.region.move_last(0, &view, at(9)) == Moved::Done,
        );
        assert!(frozen != touched);
        assert_eq!(table.region.view(0).unwrap().life().last, if frozen { at(1) } else { at(9) });
    });
}

/// Catches a touch that a rotation overtakes and that is neither handed over nor told of the alias,
/// and one that is forgotten for as long as the handing over takes.
#[test]
fn a_touch_that_a_rotation_overtakes_is_handed_over_or_finds_the_alias() {
    explore(3, || {
        let (table, policy) = table();
        table.start(key(1), &Start::under(policy), at(0)).unwrap();
        table.start(key(2), &Start::under(policy), at(0)).unwrap();
        let (old, seen) = table.region.find(key(1)).unwrap();
        let (new, session) = table.region.find(key(2)).unwrap();
        let ((), touched) = race(
            &table,
            move |table| {
                table.region.alias(old, new, session.control.generation());
                table.region.hand_over(old);
            },
            move |table| {
                let done = table.region.move_last(old, &seen, at(9)) == Moved::Done;
                if done {
                    let Located::Session(_, view, _) = table.region.locate(key(1), at(9)) else { panic!("it lives") };
                    assert_eq!(view.life().last, at(9));
                } else {
                    assert_eq!(table.region.view(old).unwrap().control.kind(), Kind::Alias);
                }
                done
            },
        );
        if touched {
            assert_eq!(table.region.view(new).unwrap().life().last, at(9));
        }
    });
}

//! Every story that clocks can tell between a snapshot and its restoring, with injected clocks:
//! each limit counts the time in between, and what the clocks leave open is not decided in the
//! session's favour. `docs/time.md` is this table in words.

use std::path::PathBuf;

use curfew_engine::{
    Binding, Cause, ClockError, Config, GraceMode, Key, Moment, Policy, PolicyId, RestoreError, Retain, Snapshot,
    SnapshotError, Span, Start, StartError, Table, Tick, Verdict,
};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
/// When snapshots are taken here: the machine has been up for five hours.
const TAKEN: Moment = Moment { steady: 5 * HOUR, wall: 1_700_000_000_000, boot: 1 };

fn mins(mins: u64) -> Span {
    Span::from_mins(mins)
}

/// A moment of the same boot.
fn later(by: u64) -> Moment {
    Moment { steady: TAKEN.steady + by, wall: TAKEN.wall + by, ..TAKEN }
}

/// A moment of the next boot, `up` after it.
fn rebooted(up: u64, wall: u64) -> Moment {
    Moment { steady: up, wall, boot: 2 }
}

struct Taken {
    table: Table,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Taken {
    /// A region whose ticks are milliseconds since the boot, what `fill` put into it half an hour
    /// before the snapshot, and the snapshot.
    fn of<R>(fill: impl Fn(&Table, Tick) -> R) -> Taken {
        let table = Table::private(&Config::new(100)).unwrap();
        fill(&table, table.tick_at(TAKEN.steady - 30 * MINUTE));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot");
        table.snapshot(&path, &TAKEN).unwrap();
        Taken { table, path, _folder: folder }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot::open(&self.path).unwrap()
    }

    fn restored(&self, moment: &Moment) -> Table {
        self.snapshot().restore_private(&Config::new(100), moment).unwrap().0
    }

    fn verdict(&self, moment: &Moment) -> Verdict {
        let table = self.restored(moment);
        table.check().unwrap();
        table.peek(key(&table), Binding::NONE, table.tick_at(moment.steady))
    }
}

fn key(table: &Table) -> Key {
    table.key(b"session")
}

fn start(table: &Table, policy: &Policy, token: Option<Span>, now: Tick) -> PolicyId {
    let retain = if policy.retain == Retain::default() { Retain::For(mins(1 << 20)) } else { policy.retain };
    let id = table.set_policy("staff", &policy.retain(retain), now).unwrap();
    let token = token.map_or(Tick::NEVER, |span| now.after(span));
    table.start(key(table), &Start::under(id).until(token), now).unwrap();
    id
}

/// What clocks can tell of a pause whose real length is `real`: the name of the story, the moment
/// at which the snapshot is restored, and the time that counts, or what is refused.
fn stories(real: u64) -> Vec<(&'static str, Moment, Result<u64, ClockError>)> {
    let back = |by| ClockError::WallBack { by: Span::from_millis(by) };
    vec![
        ("restarted", later(real), Ok(real)),
        // The steady clock counts sleep.
        ("slept", later(real), Ok(real)),
        ("the wall clock stepped forward", Moment { wall: TAKEN.wall + 90 * HOUR, ..later(real) }, Ok(real)),
        ("the wall clock stepped back", Moment { wall: TAKEN.wall - 90 * HOUR, ..later(real) }, Ok(real)),
        ("rebooted", rebooted(real / 2, TAKEN.wall + real), Ok(real)),
        ("rebooted, the wall clock forward", rebooted(real / 2, TAKEN.wall + real + HOUR), Ok(real + HOUR)),
        (
            "rebooted, the wall clock back by less than the pause",
            rebooted(real - 1, TAKEN.wall + 1),
            Ok((real - 1).max(1)),
        ),
        ("rebooted, the wall clock standing", rebooted(real - 1, TAKEN.wall), Ok(real - 1)),
        ("rebooted, the wall clock before the snapshot", rebooted(real, TAKEN.wall - 1), Err(back(1))),
        ("rebooted without a clock on the wall", rebooted(real, 0), Err(back(TAKEN.wall))),
    ]
}

#[test]
fn the_time_that_counts_is_the_one_that_the_clocks_prove() {
    let taken = Taken::of(|table, now| start(table, &Policy::new().idle(mins(900)), None, now));
    for real in [1, MINUTE, 7 * HOUR, 4000 * HOUR] {
        for (story, moment, counts) in stories(real) {
            let counts = counts.map(Span::from_millis);
            assert_eq!(taken.snapshot().downtime(&moment), counts, "{story}");
            match taken.snapshot().restore_private(&Config::new(100), &moment) {
                Ok((table, restored)) => {
                    assert_eq!(Ok(restored.downtime), counts, "{story}");
                    let tick = Tick::from_millis(TAKEN.steady).after(restored.downtime);
                    assert_eq!((restored.now, table.tick_at(moment.steady)), (tick, tick), "{story}");
                    assert_eq!(table.tick_at(moment.steady + 7), tick.after(Span::from_millis(7)));
                }
                Err(RestoreError::Clock(error)) => assert_eq!(Err(error), counts, "{story}"),
                Err(other) => panic!("{story}: {other}"),
            }
        }
    }
}

#[test]
fn every_limit_counts_the_downtime_to_the_millisecond_whatever_the_clocks_do() {
    let idle = Policy::new().idle(mins(40));
    let grace = Policy::new().idle(mins(10)).grace(mins(30), GraceMode::Reauth);
    // Each limit runs out ten minutes after the snapshot.
    let limits = [
        ("idle", idle, None, Cause::Idle),
        ("lifetime", Policy::new().lifetime(mins(40)), None, Cause::Lifetime),
        ("token", Policy::new().idle(mins(900)), Some(mins(40)), Cause::Token),
        ("grace", grace, None, Cause::Idle),
    ];
    for (limit, policy, token, cause) in limits {
        let taken = Taken::of(|table, now| start(table, &policy, token, now));
        let deadline = Tick::from_millis(TAKEN.steady + 10 * MINUTE);
        for real in [10 * MINUTE - 1, 10 * MINUTE] {
            for (story, moment, counts) in stories(real) {
                let Ok(counts) = counts else { continue };
                let (verdict, over) = (taken.verdict(&moment), counts >= 10 * MINUTE);
                match verdict {
                    Verdict::Ended(end) => {
                        assert!(over && end.cause == cause && end.at == deadline, "{limit}, {story}: {end:?}");
                    }
                    Verdict::Active(left) | Verdict::Grace(left) => {
                        assert!(!over, "{limit}, {story}: {left:?}");
                        assert_eq!(left.end(), Span::from_millis(10 * MINUTE - counts), "{limit}, {story}");
                        assert_eq!(matches!(verdict, Verdict::Grace(_)), limit == "grace");
                    }
                    other => panic!("{limit}, {story}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn what_was_to_be_in_grace_by_now_is() {
    let policy = Policy::new().idle(mins(35)).grace(mins(10), GraceMode::Resume);
    let taken = Taken::of(|table, now| start(table, &policy, None, now));
    assert!(matches!(taken.verdict(&later(5 * MINUTE - 1)), Verdict::Active(_)));
    assert!(matches!(taken.verdict(&later(5 * MINUTE)), Verdict::Grace(_)));
    assert!(matches!(taken.verdict(&rebooted(1, TAKEN.wall + 15 * MINUTE)), Verdict::Ended(_)));
}

#[test]
fn an_ended_record_is_kept_as_long_as_it_was_to_be_and_its_id_starts_nothing_until_then() {
    let policy = Policy::new().idle(mins(900)).retain(Retain::For(mins(40)));
    let taken = Taken::of(|table, now| {
        start(table, &policy, None, now);
        table.end(key(table), Cause::Logout, now).unwrap();
    });
    for (story, moment, counts) in stories(10 * MINUTE - 1).into_iter().chain(stories(10 * MINUTE)) {
        let Ok(counts) = counts else { continue };
        let table = taken.restored(&moment);
        let now = table.tick_at(moment.steady);
        let started = table.start(key(&table), &Start::under(PolicyId::from_number(0)), now);
        match counts < 10 * MINUTE {
            true => assert!(matches!(started, Err(StartError::Ended(end)) if end.cause == Cause::Logout), "{story}"),
            false => assert!(started.is_ok(), "{story}"),
        }
        assert_eq!(table.new_events().cursor(), taken.table.new_events().cursor(), "{story}: reported twice");
    }
}

#[test]
fn a_session_outlives_no_number_of_restarts_and_reboots() {
    let policy = Policy::new().idle(mins(60)).lifetime(mins(100));
    let mut taken = Taken::of(|table, now| start(table, &policy, None, now));
    let (mut moment, mut verdict) = (TAKEN, Verdict::Unknown);
    for round in 0..7 {
        // Ten minutes each, by turns in this boot and across another.
        moment = match round % 2 {
            0 => Moment { steady: moment.steady + 10 * MINUTE, wall: moment.wall + 10 * MINUTE, ..moment },
            _ => Moment { steady: 1, wall: moment.wall + 10 * MINUTE, boot: moment.boot + 1 },
        };
        let table = taken.restored(&moment);
        verdict = table.touch(key(&table), Binding::NONE, table.tick_at(moment.steady));
        assert!(table.epoch() < 0 || round == 0, "tick zero was before this boot");
        table.snapshot(&taken.path, &moment).unwrap();
        taken.table = table;
        // Half an hour before the first snapshot, and ten minutes a round.
        match verdict {
            Verdict::Active(left) => assert_eq!(left.age(), mins(30 + 10 * (round + 1))),
            _ => assert_eq!(round, 6),
        }
    }
    assert!(matches!(verdict, Verdict::Ended(end) if end.cause == Cause::Lifetime), "{verdict:?}");
}

#[test]
fn a_downtime_that_is_stated_counts_but_not_less_than_what_has_certainly_passed() {
    let taken = Taken::of(|table, now| start(table, &Policy::new().idle(mins(900)), None, now));
    let counts = |moment: &Moment, stated| {
        let snapshot = taken.snapshot().with_downtime(stated);
        snapshot.restore_private(&Config::new(100), moment).unwrap().1.downtime
    };
    let lost = rebooted(3 * MINUTE, 0);
    assert_eq!(counts(&lost, mins(20)), mins(20));
    assert_eq!(counts(&lost, mins(2)), mins(3), "the machine is up for longer than that");
    assert_eq!(counts(&later(10 * MINUTE), mins(2)), mins(10));
    assert_eq!(counts(&later(10 * MINUTE), mins(12)), mins(12));
    let namespaces = Moment { steady: TAKEN.steady - 1, ..TAKEN };
    let back = ClockError::SteadyBack { by: Span::from_millis(1) };
    assert_eq!(taken.snapshot().downtime(&namespaces), Err(back));
    assert_eq!(counts(&namespaces, mins(1)), mins(1));
}

#[test]
fn clocks_that_are_a_little_apart_make_nothing_live_longer_and_clocks_that_have_nothing_in_common_are_refused() {
    let table = Table::private(&Config::new(100)).unwrap();
    let policy = Policy::new().idle(mins(30));
    // A process whose clock is twenty seconds ahead.
    let ahead = table.tick_at(TAKEN.steady + 20_000);
    start(&table, &policy, None, ahead);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot");
    table.snapshot(&path, &TAKEN).unwrap();
    let (restored, what) = Snapshot::open(&path).unwrap().restore_private(&Config::new(100), &TAKEN).unwrap();
    assert_eq!(what.now, ahead, "it is not earlier than anything that has happened");
    assert!(
        matches!(restored.peek(key(&restored), Binding::NONE, what.now), Verdict::Active(left) if left.end() == mins(30))
    );

    // Written while the snapshot was taken, for longer than the downtime that the clocks show.
    let much_later = table.tick_at(TAKEN.steady + 10 * MINUTE);
    assert!(matches!(table.touch(key(&table), Binding::NONE, much_later), Verdict::Active(_)));
    table.snapshot(&path, &TAKEN).unwrap();
    let refused = Snapshot::open(&path).unwrap().restore_private(&Config::new(100), &TAKEN);
    let by = Span::from_millis(10 * MINUTE);
    assert!(matches!(refused, Err(RestoreError::Clock(ClockError::Ahead { by: found })) if found == by));
    Snapshot::open(&path).unwrap().restore_private(&Config::new(100), &later(10 * MINUTE)).unwrap();

    // A caller whose ticks are of the clock on the wall.
    let wall = Table::private(&Config::new(100)).unwrap();
    start(&wall, &policy, None, Tick::from_millis(TAKEN.wall));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(wall.snapshot(&path, &TAKEN), Err(SnapshotError::Ahead { .. })));
    assert!(!path.exists());
}

#[test]
fn one_call_with_a_wrong_time_does_not_keep_the_others_from_being_saved() {
    let taken = Taken::of(|table, now| {
        let id = start(table, &Policy::new().idle(mins(60)), None, now);
        for number in 0..5_u8 {
            table.start(table.key(&[number]), &Start::under(id), now).unwrap();
        }
        assert!(matches!(table.touch(table.key(&[3]), Binding::NONE, now), Verdict::Active(_)));
        table.start(table.key(b"wrong"), &Start::under(id), Tick::from_millis(TAKEN.wall)).unwrap();
    });
    let written = taken.table.snapshot(&taken.path, &TAKEN).unwrap();
    assert_eq!((written.live, written.damaged), (6, 1));
    let table = taken.restored(&later(1));
    let now = table.tick_at(later(1).steady);
    assert!(matches!(table.peek(table.key(&[3]), Binding::NONE, now), Verdict::Active(_)));
    assert_eq!(table.peek(table.key(b"wrong"), Binding::NONE, now), Verdict::Unknown);
}

#[test]
fn no_clock_however_wrong_makes_a_restored_session_younger() {
    let policy = Policy::new().idle(mins(60)).lifetime(mins(80));
    let taken = Taken::of(|table, now| start(table, &policy, None, now));
    let at_snapshot = taken.table.peek(key(&taken.table), Binding::NONE, taken.table.tick_at(TAKEN.steady));
    let Verdict::Active(before) = at_snapshot else { panic!("{at_snapshot:?}") };
    for boot in [1, 2] {
        for steady in [0, 1, TAKEN.steady - 1, TAKEN.steady, TAKEN.steady + MINUTE, 1 << 47, 1 << 62, u64::MAX] {
            for wall in [0, TAKEN.wall - 1, TAKEN.wall, TAKEN.wall + MINUTE, 1 << 48, u64::MAX] {
                let moment = Moment { steady, wall, boot };
                for snapshot in [taken.snapshot(), taken.snapshot().with_downtime(Span::OFF)] {
                    let Ok((table, what)) = snapshot.restore_private(&Config::new(100), &moment) else { continue };
                    assert!(table.tick_at(steady) >= what.now, "{moment:?}");
                    match table.peek(key(&table), Binding::NONE, table.tick_at(steady)) {
                        Verdict::Active(left) => {
                            assert!(
                                left.idle() <= before.idle()
                                    && left.end() <= before.end()
                                    && left.age() >= before.age()
                            );
                        }
                        Verdict::Ended(_) | Verdict::Unknown => {}
                        other => panic!("{moment:?}: {other:?}"),
                    }
                }
            }
        }
    }
}

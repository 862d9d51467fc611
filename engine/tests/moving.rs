//! Moving a region into one of another size under the eyes of those who use it.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use curfew_engine::{
    Binding, Cause, Config, Key, Moment, MoveError, Moving, OpenError, Policy, PolicyId, RestoreError, Span, Start,
    Table, Tick, Verdict,
};

fn now(table: &Table) -> Tick {
    table.tick_at(Moment::now().unwrap().steady)
}

fn staff(table: &Table) -> PolicyId {
    let policy = Policy::new().idle(Span::from_mins(15)).lifetime(Span::from_mins(480));
    table.set_policy("staff", &policy, Tick::ZERO).unwrap()
}

fn new_region(capacity: u64) -> OwnedFd {
    let epoch = Moment::now().unwrap().steady as i64 - 1_000_000;
    Table::create_memfd(c"test", &Config { epoch, ..Config::new(capacity) }).unwrap()
}

fn open(fd: &OwnedFd) -> Table {
    loop {
        match Table::open_fd(fd.as_fd(), None) {
            Err(OpenError::Moving) => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

/// What one that takes part does between its calls.
fn settle(table: &mut Table, fd: &OwnedFd) {
    loop {
        match table.moving() {
            Moving::No => return,
            Moving::Announced => return table.get_ready(),
            Moving::Paused => {
                table.pause();
                std::thread::yield_now();
            }
            Moving::Done => match Table::open_fd(fd.as_fd(), None) {
                Ok(new) => *table = new,
                Err(OpenError::Moving) => {}
                Err(error) => panic!("{error}"),
            },
        }
    }
}

/// Moves the region, with everybody who is in `others`.
fn resize(fd: &OwnedFd, others: &mut [&mut Table], capacity: u64) -> Result<(), MoveError> {
    let mover = open(fd);
    let mut step = mover.announce_move().expect("nobody else is at it");
    others.iter_mut().for_each(|other| settle(other, fd));
    assert!(step.are_all_ready() && !step.have_all_paused());
    step.pause();
    for other in &mut *others {
        assert!(!step.have_all_paused());
        assert_eq!(other.moving(), Moving::Paused);
        other.pause();
    }
    assert!(step.have_all_paused());
    step.finish(fd.as_fd(), &Config::new(capacity), &Moment::now().unwrap())?;
    others.iter_mut().for_each(|other| settle(other, fd));
    Ok(())
}

fn is_active(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Active(_))
}

#[test]
fn everything_moves_along_and_everybody_follows() {
    let fd = new_region(100);
    let (mut first, mut second) = (open(&fd), open(&fd));
    let policy = staff(&first);
    let start = |table: &Table, id: &[u8]| {
        let key = table.key(id);
        let alice = table.subject(b"alice");
        table.start(key, &Start::under(policy).of(alice).bound_to(table.binding(b"phone")), now(table)).unwrap();
        key
    };
    let keys: Vec<Key> = (0..60_u8).map(|number| start(&first, &[number])).collect();
    let device = first.binding(b"phone");
    first.end(keys[0], Cause::Logout, now(&first)).unwrap();
    let renewed = first.key(b"renewed");
    first.rotate(keys[1], renewed, Span::from_mins(5), now(&first)).unwrap();
    let (epoch, cursor) = (first.epoch(), first.new_events().cursor());

    resize(&fd, &mut [&mut first, &mut second], 10_000).unwrap();
    for table in [&first, &second, &open(&fd)] {
        assert_eq!((table.stats().capacity, table.epoch(), table.new_events().cursor()), (10_000, epoch, cursor));
        assert_eq!(table.policy_id("staff"), Some(policy));
        assert!(matches!(table.touch(keys[0], device, now(table)), Verdict::Ended(end) if end.cause == Cause::Logout));
        for key in keys[1..].iter().chain([&renewed]) {
            assert!(is_active(table.touch(*key, device, now(table))), "the old id of a rotated one included");
        }
        assert!(matches!(table.touch(keys[5], Binding::NONE, now(table)), Verdict::Mismatch(_)));
        table.check().unwrap();
    }
    assert_eq!(first.end_subject(first.subject(b"alice"), Cause::Revoked, now(&first)), 59);
    assert!(matches!(second.touch(keys[9], device, now(&second)), Verdict::Ended(_)), "they share the new one");

    // Again, and back to a smaller one; what the former regions took is given back.
    start(&first, b"another");
    for capacity in [200_000, 300] {
        resize(&fd, &mut [&mut first, &mut second], capacity).unwrap();
        assert_eq!(open(&fd).stats().capacity, capacity);
    }
    assert!(is_active(second.touch(second.key(b"another"), device, now(&second))));
    let file = std::fs::File::from(fd);
    let taken = file.metadata().unwrap().blocks() * 512;
    assert!(taken < 2 * first.stats().bytes, "{taken} bytes are taken, of which {} are used", first.stats().bytes);
}

#[test]
fn a_file_that_has_moved_is_opened_by_its_path_and_read_from_a_copy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.region");
    let mut table = Table::create(&path, &Config::new(100)).unwrap();
    let key = table.key(b"id");
    table.start(key, &Start::under(staff(&table)), now(&table)).unwrap();
    let fd: OwnedFd = std::fs::File::options().read(true).write(true).open(&path).unwrap().into();
    resize(&fd, &mut [&mut table], 1000).unwrap();
    drop(table);
    let table = Table::open(&path).unwrap();
    assert_eq!(table.stats().capacity, 1000);
    assert!(is_active(table.touch(key, Binding::NONE, now(&table))));
    let copy = Table::from_bytes(&std::fs::read(&path).unwrap()).unwrap();
    assert!(copy.stats().capacity == 1000 && is_active(copy.touch(key, Binding::NONE, now(&table))));
    assert!(!table.has_company(), "those of the old region are not company");
}

#[test]
fn who_does_not_take_part_keeps_it_from_happening() {
    let fd = new_region(100);
    let (mut one, deaf) = (open(&fd), open(&fd));
    let mover = open(&fd);
    let mut step = mover.announce_move().unwrap();
    assert!(mover.announce_move().is_none() && one.announce_move().is_none(), "one at a time");
    settle(&mut one, &fd);
    assert!(!step.are_all_ready());
    // Also who has come only now.
    drop(deaf);
    assert!(step.are_all_ready());
    let late = open(&fd);
    assert!(!step.are_all_ready());
    drop(late);
    step.pause();
    assert!(matches!(Table::open_fd(fd.as_fd(), None), Err(OpenError::Moving)));
    let refused = step.finish(fd.as_fd(), &Config::new(1000), &Moment::now().unwrap());
    assert!(matches!(refused, Err(MoveError::InUse)), "{refused:?}");
    assert_eq!((one.moving(), open(&fd).stats().capacity), (Moving::No, 100));
}

#[test]
fn an_answer_to_a_move_that_was_called_off_answers_no_other_one() {
    let fd = new_region(100);
    let (one, mover) = (open(&fd), open(&fd));
    for _ in 0..3 {
        let mut step = mover.announce_move().unwrap();
        assert!(!step.are_all_ready());
        one.get_ready();
        assert!(step.are_all_ready());
        step.pause();
        assert!(!step.have_all_paused());
        one.pause();
        assert!(step.have_all_paused());
        drop(step);
        assert_eq!(one.moving(), Moving::No);
    }
}

#[test]
fn a_pause_that_comes_late_is_none_for_a_move_that_has_only_been_announced() {
    let fd = new_region(100);
    let (one, mover) = (open(&fd), open(&fd));
    let mut step = mover.announce_move().unwrap();
    one.get_ready();
    step.pause();
    assert_eq!(one.moving(), Moving::Paused);
    drop(step);
    let mut step = mover.announce_move().unwrap();
    // What it had begun to do for the first, and now does.
    one.pause();
    step.pause();
    assert!(!step.have_all_paused());
    one.pause();
    assert!(step.have_all_paused());
}

#[test]
fn a_mover_that_dies_leaves_everybody_where_they_were() {
    let fd = new_region(100);
    let one = open(&fd);
    let mover = open(&fd);
    let mut step = mover.announce_move().unwrap();
    one.get_ready();
    step.pause();
    one.pause();
    // As the kernel does it: the byte is let go of, the word stays.
    std::mem::forget(step);
    drop(mover);
    assert_eq!(one.moving(), Moving::No);
    let next = open(&fd);
    let step = next.announce_move().unwrap();
    assert_eq!(one.moving(), Moving::Announced);
    assert!(!step.are_all_ready());
}

#[test]
fn a_region_that_is_too_small_is_refused_and_the_old_one_goes_on() {
    let fd = new_region(1000);
    let mut table = open(&fd);
    let policy = staff(&table);
    for number in 0..500_u64 {
        table.start(table.key(&number.to_le_bytes()), &Start::under(policy), now(&table)).unwrap();
    }
    let refused = resize(&fd, &mut [&mut table], 100);
    assert!(matches!(refused, Err(MoveError::Restore(RestoreError::Full { .. }))), "{refused:?}");
    settle(&mut table, &fd);
    assert_eq!(open(&fd).stats().capacity, 1000);
    for number in 0..500_u64 {
        assert!(is_active(table.touch(table.key(&number.to_le_bytes()), Binding::NONE, now(&table))));
    }
    resize(&fd, &mut [&mut table], 2000).unwrap();
    assert_eq!(table.stats().live, 500);
}

struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_start_end_or_touch_is_lost_while_threads_work() {
    let fd = new_region(2000);
    let policy = staff(&open(&fd));
    let (stop, begun) = (AtomicBool::new(false), AtomicU64::new(0));
    let results: Vec<Vec<(Key, Option<Tick>)>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3_u64)
            .map(|worker| {
                let (fd, stop, begun) = (&fd, &stop, &begun);
                scope.spawn(move || {
                    let mut table = open(fd);
                    let mut mine: Vec<(Key, Option<Tick>)> = Vec::new();
                    for number in 0_u64.. {
                        settle(&mut table, fd);
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let at = now(&table);
                        if mine.len() < 300 {
                            let key = table.key(&(worker << 32 | number).to_le_bytes());
                            table.start(key, &Start::under(policy), at).unwrap();
                            mine.push((key, Some(at)));
                            begun.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        let which = number as usize * 7 % mine.len();
                        let (key, last) = &mut mine[which];
                        let Some(used) = last else {
                            assert!(matches!(table.touch(*key, Binding::NONE, at), Verdict::Ended(_)), "it came back");
                            continue;
                        };
                        if number % 50 == 0 {
                            table.end(*key, Cause::Logout, at).unwrap();
                            *last = None;
                        } else {
                            assert!(is_active(table.touch(*key, Binding::NONE, at)));
                            *used = at.max(*used);
                        }
                    }
                    mine
                })
            })
            .collect();
        // Also when something here fails.
        let stops = Stops(&stop);
        let mut moves = 0;
        while moves < 60 {
            let mover = open(&fd);
            let Some(mut step) = mover.announce_move() else { continue };
            while !step.are_all_ready() {
                std::thread::yield_now();
            }
            step.pause();
            while !step.have_all_paused() {
                std::thread::yield_now();
            }
            let capacity = 2000 + moves % 3 * 1000;
            step.finish(fd.as_fd(), &Config::new(capacity), &Moment::now().unwrap()).unwrap();
            moves += 1;
        }
        drop(stops);
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let table = open(&fd);
    table.check().unwrap();
    assert_eq!(begun.load(Ordering::Relaxed), 900);
    for (key, last) in results.into_iter().flatten() {
        let found = table.peek(key, Binding::NONE, now(&table));
        match last {
            None => assert!(matches!(found, Verdict::Ended(end) if end.cause == Cause::Logout), "{found:?}"),
            Some(used) => {
                let (list, _) = table.page(0, 3000, now(&table));
                let info = list.into_iter().find(|info| info.key == key).expect("it is there");
                assert!(is_active(found) && info.last >= used, "{found:?}: {:?} is before {used:?}", info.last);
            }
        }
    }
}

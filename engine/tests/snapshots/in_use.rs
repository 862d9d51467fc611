//! Snapshots that are taken while others work, and by a process that is killed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use curfew_engine::{
    Binding, Cause, Config, Key, Moment, Policy, PolicyId, Retain, Snapshot, SnapshotError, Span, Start, State, Table,
    Tick,
};

use crate::{TAKEN, at, is_alive, later, ms, now, number, place};

/// What several threads do to one table while snapshots are taken of it.
struct Work {
    table: Table,
    stop: AtomicBool,
    clock: AtomicU64,
    /// Sessions `n` of the second thread: started below the first figure, ended below the second.
    started: AtomicU64,
    ended: AtomicU64,
    /// When the third thread's session was last touched, and the call had returned.
    touched: AtomicU64,
    policy: PolicyId,
}

/// Sessions that are rotated for ever, each of a user of its own.
const CHAINS: u64 = 24;
/// Sessions of the second thread that are alive at a time.
const ALIVE: u64 = 50;

impl Work {
    fn new(capacity: u64, events: u64) -> Work {
        let table = Table::private(&Config { events, ..Config::new(capacity) }).unwrap();
        // An old id is gone at once: the hardest case.
        let policy = Policy::new().idle(Span::DAY).retain(Retain::For(Span::OFF));
        let policy = table.set_policy("staff", &policy, at(0)).unwrap();
        for chain in 0..CHAINS {
            let start = Start::under(policy).of(table.subject(&chain.to_le_bytes()));
            table.start(Work::link(&table, chain, 0), &start, now()).unwrap();
        }
        table.start(table.key(b"touched"), &Start::under(policy), now()).unwrap();
        Work {
            table,
            stop: AtomicBool::new(false),
            clock: AtomicU64::new(TAKEN.steady),
            started: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            touched: AtomicU64::new(TAKEN.steady),
            policy,
        }
    }

    fn link(table: &Table, chain: u64, round: u64) -> Key {
        table.key(&[chain.to_le_bytes(), round.to_le_bytes()].concat())
    }

    fn one(table: &Table, number: u64) -> Key {
        table.key(&[b"one", &number.to_le_bytes()[..]].concat())
    }

    fn tick(&self) -> Tick {
        at(self.clock.load(Ordering::SeqCst))
    }

    fn until_there_is_room(&self, attempt: impl Fn() -> bool) {
        while !self.stop.load(Ordering::Relaxed) && !attempt() {
            std::thread::yield_now();
        }
    }

    fn rotate_for_ever(&self) {
        for round in 0.. {
            for chain in 0..CHAINS {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                let (old, new) = (Work::link(&self.table, chain, round), Work::link(&self.table, chain, round + 1));
                // The region may be full of old ids whose overlap goes on.
                self.until_there_is_room(|| self.table.rotate(old, new, ms(chain % 3), self.tick()).is_ok());
            }
        }
    }

    fn start_and_end_for_ever(&self) {
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let key = Work::one(&self.table, number);
            self.until_there_is_room(|| self.table.start(key, &Start::under(self.policy), self.tick()).is_ok());
            self.started.store(number + 1, Ordering::SeqCst);
            if number >= ALIVE {
                self.table.end(Work::one(&self.table, number - ALIVE), Cause::Logout, self.tick()).unwrap();
                self.ended.store(number - ALIVE + 1, Ordering::SeqCst);
            }
        }
    }

    fn touch_and_advance_for_ever(&self) {
        let key = self.table.key(b"touched");
        while !self.stop.load(Ordering::Relaxed) {
            let time = self.clock.fetch_add(1, Ordering::SeqCst) + 1;
            assert!(is_alive(self.table.touch(key, Binding::NONE, at(time))));
            self.touched.store(time, Ordering::SeqCst);
            self.table.advance(at(time), 100);
        }
    }

    /// Takes a snapshot, restores it, and compares it with what is certain. False when events came
    /// faster than they could be followed.
    fn look(&self, path: &Path) -> bool {
        let steady = self.clock.load(Ordering::SeqCst);
        let moment = Moment { steady, ..TAKEN };
        let (ended, touched) = (self.ended.load(Ordering::SeqCst), self.touched.load(Ordering::SeqCst));
        let started = self.started.load(Ordering::SeqCst);
        let written = match self.table.snapshot(path, &moment) {
            Ok(written) => written,
            Err(SnapshotError::Overrun { .. }) => return false,
            Err(other) => panic!("{other}"),
        };
        let ended_after = self.ended.load(Ordering::SeqCst);
        let snapshot = Snapshot::open(path).unwrap();
        // Old ids of which the overlap goes on are many when the thread that moves the clock gets no processor.
        let capacity = (written.live + written.ended).max(2000);
        let moment = Moment { steady: self.clock.load(Ordering::SeqCst), ..TAKEN };
        let (back, what) = snapshot.restore_private(&Config::new(capacity), &moment).unwrap();
        back.check().unwrap();
        for chain in 0..CHAINS {
            let sessions = back.sessions_of(back.subject(&chain.to_le_bytes()), what.now);
            assert_eq!(sessions.len(), 1, "chain {chain}: {sessions:?}");
        }
        let one = |number: u64| is_alive(back.peek(Work::one(&back, number), Binding::NONE, what.now));
        for number in ended.saturating_sub(3000)..ended {
            assert!(!one(number), "{number} of {ended} had ended");
        }
        // The one at `ended_after` may have been ended without it having been said yet.
        for number in ended_after + 1..started {
            assert!(one(number), "{number} had started, and {ended_after} have ended");
        }
        let session = back.sessions(what.now).find(|session| session.key == back.key(b"touched")).unwrap();
        assert!(session.last >= at(touched) && session.state == State::Active);
        assert_eq!(back.sessions(what.now).filter(|s| matches!(s.state, State::Active)).count() as u64, what.live);
        true
    }

    fn run(&self, time: Duration) -> (u32, u32) {
        let (_folder, path) = place();
        let (mut taken, mut overrun) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| self.rotate_for_ever());
            scope.spawn(|| self.start_and_end_for_ever());
            scope.spawn(|| self.touch_and_advance_for_ever());
            let until = Instant::now() + time;
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                while Instant::now() < until {
                    if self.look(&path) { taken += 1 } else { overrun += 1 }
                }
            }));
            self.stop.store(true, Ordering::Relaxed);
            if let Err(panic) = result {
                std::panic::resume_unwind(panic);
            }
        });
        (taken, overrun)
    }
}

fn seconds() -> Duration {
    Duration::from_secs(std::env::var("CURFEW_THREAD_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(3))
}

#[test]
fn a_snapshot_has_every_session_once_while_others_start_touch_end_and_rotate() {
    // A large region takes a while to look through, and has several shards to move between.
    for capacity in [1000, 600_000] {
        let (taken, overrun) = Work::new(capacity, 1 << 20).run(seconds() / 2);
        println!("{taken} snapshots of a region for {capacity}, {overrun} overrun");
        assert!(taken > 0);
    }
}

#[test]
fn a_ring_that_goes_round_too_fast_is_noticed_and_nothing_is_missed_for_it() {
    let (taken, overrun) = Work::new(1000, 16).run(seconds() / 3);
    println!("{taken} snapshots, {overrun} overrun");
    assert!(taken + overrun > 0);
}

/// What the test below runs as another process.
#[test]
fn take_snapshots_until_killed() {
    let Ok(path) = std::env::var("CURFEW_SNAPSHOT_TO") else { return };
    let table = Table::private(&Config::new(20_000)).unwrap();
    let policy = table.set_policy("staff", &Policy::new().idle(Span::DAY), at(0)).unwrap();
    for round in 1.. {
        for key in 0..1000 {
            let _ = table.start(number(&table, (round - 1) % 15 * 1000 + key), &Start::under(policy), now());
        }
        table.snapshot(Path::new(&path), &TAKEN).unwrap();
        if round == 1 {
            println!("ready");
        }
    }
}

#[test]
fn a_process_that_is_killed_while_it_writes_leaves_the_last_snapshot_whole() {
    let (folder, path) = place();
    let mut unfinished = 0;
    for round in 0..40_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["in_use::take_snapshots_until_killed", "--exact", "--nocapture"])
            .env("CURFEW_SNAPSHOT_TO", &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut output = std::io::BufReader::new(child.stdout.as_mut().unwrap());
        let mut line = String::new();
        while !line.contains("ready") {
            line.clear();
            assert!(std::io::BufRead::read_line(&mut output, &mut line).unwrap() > 0, "the child has died");
        }
        std::thread::sleep(Duration::from_micros(300 + round * 331));
        child.kill().unwrap();
        child.wait().unwrap();
        let snapshot = Snapshot::open(&path).unwrap();
        let (table, what) = snapshot.restore_private(&snapshot.config(), &later(0)).unwrap();
        assert!(what.live > 0 && what.live.is_multiple_of(1000), "{what:?}");
        table.check().unwrap();
        for entry in folder.path().read_dir().unwrap() {
            let entry = entry.unwrap().path();
            if entry != path {
                unfinished += 1;
                assert!(Snapshot::open(&entry).is_err() || entry.metadata().unwrap().len() > 0);
                std::fs::remove_file(entry).unwrap();
            }
        }
    }
    println!("{unfinished} were killed before the snapshot had its name");
    assert!(unfinished > 0, "some were killed in the middle");
}

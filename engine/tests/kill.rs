//! Processes that share a region file, and are killed: each verb stopped before each of its stores
//! and killed there while another waits for what it holds; and many at any moment, under load.
//!
//! `KILLS=5000` kills that many under load; the everyday run kills some.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use common::scenes::{self, Stage, at, ms};
use common::truth;
use curfew_engine::{
    Binding, Cause, Config, Event, Key, Policy, PolicyId, Retain, RotateError, Span, Start, Table, Tick, Verdict, What,
    crash,
};
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Longer than this nobody may wait for what a dead process held, on a machine that does a lot
/// besides: who waits needs the processor to find out, and so does who holds a lock and lives. What
/// was seen is printed.
const STALL: Duration = Duration::from_secs(10);

/// A process of ours, which does not outlive the test.
struct Process(Child);

impl Process {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn child(job: &str, path: &Path, arguments: &[(&str, String)]) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["what_a_child_does", "--exact", "--nocapture"]).env("CURFEW_JOB", job).env("CURFEW_PATH", path);
    command.envs(arguments.iter().map(|(name, value)| (*name, value)));
    Process(command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap())
}

fn argument(name: &str) -> u64 {
    std::env::var(name).unwrap().parse().unwrap()
}

/// Not a test of its own: the other processes of those below.
#[test]
fn what_a_child_does() {
    let Ok(job) = std::env::var("CURFEW_JOB") else { return };
    let path = PathBuf::from(std::env::var("CURFEW_PATH").unwrap());
    match job.as_str() {
        "scene" => {
            let stage = Stage::open(&path);
            raise_at(argument("CURFEW_STEP"), Signal::SIGSTOP);
            (scenes::all()[argument("CURFEW_SCENE") as usize].act)(&stage);
        }
        "create" => {
            raise_at(argument("CURFEW_STEP"), Signal::SIGSTOP);
            Table::create(&path, &scenes::config(16)).unwrap();
        }
        "open" => {
            raise_at(argument("CURFEW_STEP"), Signal::SIGSTOP);
            Stage::open(&path);
        }
        "work" => Worker::new(&path).work(),
        other => panic!("there is no job {other}"),
    }
}

/// Raises a signal before step `step` of this thread.
fn raise_at(step: u64, signal: Signal) {
    let mut left = step;
    crash::on_step(move |_| {
        left = left.saturating_sub(1);
        if left == 0 {
            raise(signal).unwrap();
        }
    });
}

/// Waits until a child stops itself; false when it ends instead.
fn stops(child: &Process) -> bool {
    match waitpid(Pid::from_raw(child.0.id() as i32), Some(WaitPidFlag::WUNTRACED)).unwrap() {
        WaitStatus::Stopped(..) => true,
        WaitStatus::Exited(_, 0) => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_verb_killed_at_every_step_while_others_wait_stalls_nobody_and_loses_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (mut kills, mut waited, mut longest) = (0, 0, Duration::ZERO);
    for (number, scene) in scenes::all().iter().enumerate() {
        let prepared = scenes::prepare(scene, directory.path());
        let whole = std::fs::read(&prepared).unwrap();
        let path = directory.path().join("region");
        let renew = || {
            std::fs::copy(&prepared, &path).unwrap();
            std::fs::write(&path, &whole).unwrap();
        };
        renew();
        let without = truth::fates(&Stage::open(&path));
        renew();
        let held = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        {
            let stage = Stage::open(&path);
            let noted = held.clone();
            crash::on_step(move |step| noted.borrow_mut().push(!step.held.is_empty()));
            (scene.act)(&stage);
            crash::clear();
        }
        let with = truth::fates(&Stage::open(&path));
        for (step, holds) in held.borrow().iter().enumerate() {
            renew();
            let arguments = [("CURFEW_SCENE", number.to_string()), ("CURFEW_STEP", (step + 1).to_string())];
            let mut victim = child("scene", &path, &arguments);
            assert!(stops(&victim), "{}: there is no step {}", scene.name, step + 1);
            let stage = Stage::open(&path);
            for key in stage.bystanders() {
                let verdict = stage.table.touch(key, Binding::NONE, at(scenes::BEGIN));
                assert!(matches!(verdict, Verdict::Active(_)), "a touch waits for nobody");
            }
            let done = AtomicBool::new(false);
            let stall = std::thread::scope(|scope| {
                let waiter = scope.spawn(|| {
                    // Takes every lock there is but the ring's.
                    stage.table.check().unwrap();
                    done.store(true, Ordering::Release);
                    Instant::now()
                });
                std::thread::sleep(Duration::from_millis(1));
                if *holds {
                    assert!(!done.load(Ordering::Acquire), "{}: nobody waits at step {}", scene.name, step + 1);
                    waited += 1;
                }
                let killed = Instant::now();
                victim.kill();
                waiter.join().unwrap().saturating_duration_since(killed)
            });
            assert!(stall < STALL, "{}: killed at step {}, and others waited {stall:?}", scene.name, step + 1);
            longest = longest.max(stall);
            kills += 1;
            truth::judge(scene, &Stage::open(&path), &without, &with);
        }
    }
    println!("{kills} killed, {waited} of them while somebody waited; the longest wait after a death: {longest:?}");
    assert!(kills > 500 && waited > 400);
}

#[test]
fn who_is_killed_while_it_creates_or_opens_a_region_leaves_all_of_it_or_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for step in 1.. {
        let path = directory.path().join(format!("{step}.region"));
        let mut victim = child("create", &path, &[("CURFEW_STEP", step.to_string())]);
        let stopped = stops(&victim);
        if stopped {
            victim.kill();
        }
        let table = Table::open_or_create(&path, &scenes::config(16)).unwrap();
        table.check().unwrap();
        table.set_policy("p", &Policy::new().idle(ms(10)), Tick::ZERO).unwrap();
        if !stopped {
            assert!(step > 10, "creating is more than {step} steps");
            break;
        }
    }
    let path = directory.path().join("open.region");
    let table = Table::create(&path, &scenes::config(16)).unwrap();
    let policy = table.set_policy("p", &Policy::new().idle(ms(10)), Tick::ZERO).unwrap();
    for round in 0..3 {
        let mut victim = child("open", &path, &[("CURFEW_STEP", "1".to_owned())]);
        assert!(stops(&victim));
        table.start(table.key(&[round]), &Start::under(policy), Tick::ZERO).unwrap();
        victim.kill();
        Table::open(&path).unwrap().check().unwrap();
    }
}

#[test]
fn a_process_that_stands_still_while_it_takes_a_dead_ones_number_does_not_keep_that_one_alive() {
    let directory = tempfile::tempdir().unwrap();
    let scene = scenes::all().iter().position(|scene| scene.name == "end").unwrap();
    let path = scenes::prepare(&scenes::all()[scene], directory.path());
    let mut victim = child("scene", &path, &[("CURFEW_SCENE", scene.to_string()), ("CURFEW_STEP", "2".to_owned())]);
    assert!(stops(&victim));
    victim.kill();
    let mut standing = child("open", &path, &[("CURFEW_STEP", "1".to_owned())]);
    assert!(stops(&standing));
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(Stage::open(&path).table.check()));
    let checked = is_done.recv_timeout(STALL);
    standing.kill();
    checked.expect("everybody waits for it").unwrap();
}

/// One that does everything with sessions of its own, and writes down each call before and after.
struct Worker {
    table: Table,
    number: u64,
    log: File,
    born: SystemTime,
    staff: PolicyId,
    brief: PolicyId,
    random: u64,
    live: Vec<u64>,
    next: u64,
    longest: Duration,
}

fn key_of(table: &Table, worker: u64, serial: u64) -> Key {
    table.key(&(worker << 32 | serial).to_le_bytes())
}

fn epoch() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(argument("CURFEW_EPOCH"))
}

fn staff_policy(variant: u64) -> Policy {
    Policy::new().idle(Span::from_mins(15 + variant % 2)).lifetime(Span::from_mins(480)).retain(Retain::For(ms(20)))
}

impl Worker {
    fn new(path: &Path) -> Worker {
        let number = argument("CURFEW_WORKER");
        let table = Table::open(path).unwrap();
        let log =
            OpenOptions::new().append(true).create(true).open(path.with_extension(format!("{number}.log"))).unwrap();
        Worker {
            staff: table.policy_id("staff").unwrap(),
            brief: table.policy_id("brief").unwrap(),
            table,
            number,
            log,
            born: epoch(),
            random: number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            live: Vec::new(),
            next: 0,
            longest: Duration::ZERO,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    fn now(&self) -> Tick {
        at(self.born.elapsed().unwrap_or_default().as_millis() as u64)
    }

    /// One write, so that it is there whole or not at all.
    fn note(&mut self, line: &str) {
        self.log.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn timed<T>(&mut self, call: impl FnOnce(&Table, Tick) -> T) -> T {
        let (now, began) = (self.now(), Instant::now());
        let result = call(&self.table, now);
        let took = began.elapsed();
        if took > self.longest {
            self.longest = took;
            self.note(&format!("longest {}", took.as_micros()));
        }
        result
    }

    fn work(&mut self) {
        println!("ready");
        if let Ok(step) = std::env::var("CURFEW_STEP") {
            raise_at(step.parse().unwrap(), Signal::SIGKILL);
        }
        let subject = self.table.subject(&self.number.to_le_bytes());
        loop {
            let pick = self.below(self.live.len().max(1) as u64) as usize;
            let chosen = self.live.get(pick).copied();
            match (self.below(24), chosen) {
                (0..8, _) if self.live.len() < 12 => {
                    let serial = self.next;
                    self.next += 1;
                    let key = key_of(&self.table, self.number, serial);
                    self.note(&format!("start {serial}"));
                    let start = Start::under(self.staff).of(subject);
                    let started = self.timed(|table, now| table.start(key, &start, now));
                    started.unwrap();
                    self.note("done");
                    self.live.push(serial);
                }
                (8..10, _) => {
                    // Nobody's word is needed that this one ends.
                    let serial = self.next;
                    self.next += 1;
                    let key = key_of(&self.table, self.number, serial);
                    self.note(&format!("brief {serial}"));
                    let start = Start::under(self.brief).of(subject);
                    self.timed(|table, now| table.start(key, &start, now)).unwrap();
                    self.note("done");
                }
                (10..14, Some(serial)) => {
                    let key = key_of(&self.table, self.number, serial);
                    let verdict = self.timed(|table, now| table.touch(key, Binding::NONE, now));
                    if !matches!(verdict, Verdict::Active(_)) {
                        self.note(&format!("fault {serial} {verdict:?}"));
                    }
                }
                (14..16, Some(serial)) => {
                    let key = key_of(&self.table, self.number, serial);
                    self.note(&format!("end {serial}"));
                    let ended = self.timed(|table, now| table.end(key, Cause::Logout, now));
                    ended.unwrap();
                    self.note("done");
                    self.live.swap_remove(pick);
                    let verdict = self.table.touch(key, Binding::NONE, self.now());
                    if !matches!(verdict, Verdict::Ended(_) | Verdict::Unknown) {
                        self.note(&format!("fault {serial} {verdict:?} after its end"));
                    }
                }
                (16..19, Some(serial)) => {
                    let new = self.next;
                    self.next += 1;
                    let (from, to) = (key_of(&self.table, self.number, serial), key_of(&self.table, self.number, new));
                    self.note(&format!("rotate {serial} {new}"));
                    let rotated: Result<_, RotateError> = self.timed(|table, now| table.rotate(from, to, ms(5), now));
                    rotated.unwrap();
                    self.note("done");
                    self.live[pick] = new;
                }
                (19, Some(serial)) => {
                    let key = key_of(&self.table, self.number, serial);
                    self.timed(|table, now| table.reauthenticate(key, None, now)).unwrap();
                }
                (20, _) if self.below(8) == 0 => {
                    self.note("subject");
                    self.timed(|table, now| table.end_subject(subject, Cause::Revoked, now));
                    self.note("done");
                    self.live.clear();
                }
                (21, _) if self.below(8) == 0 => {
                    let variant = self.below(2);
                    let _ = self.timed(|table, now| table.set_policy("staff", &staff_policy(variant), now));
                }
                _ => {
                    self.timed(|table, now| table.advance(now, 64));
                }
            }
        }
    }
}

/// What a worker's log says of its sessions.
#[derive(Default)]
struct Told {
    live: BTreeSet<u64>,
    ended: BTreeSet<u64>,
    rotated: BTreeSet<u64>,
    brief: BTreeSet<u64>,
    /// The call in which it died.
    flight: Vec<String>,
    longest: Duration,
}

fn read_log(path: &Path, worker: u64) -> Told {
    let text = std::fs::read_to_string(path.with_extension(format!("{worker}.log"))).unwrap_or_default();
    let mut told = Told::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let serial = |at: usize| words[at].parse::<u64>().unwrap();
        match words[0] {
            "longest" => told.longest = Duration::from_micros(serial(1)),
            "fault" => panic!("worker {worker}: {line}"),
            "done" => {
                let call = std::mem::take(&mut told.flight);
                let serial = |at: usize| call[at].parse::<u64>().unwrap();
                match call[0].as_str() {
                    "start" => _ = told.live.insert(serial(1)),
                    "brief" => _ = told.brief.insert(serial(1)),
                    "end" => {
                        assert!(told.live.remove(&serial(1)));
                        told.ended.insert(serial(1));
                    }
                    "rotate" => {
                        assert!(told.live.remove(&serial(1)));
                        told.rotated.insert(serial(1));
                        told.live.insert(serial(2));
                    }
                    "subject" => {
                        // Not `append`, which goes through all that have ended each time.
                        told.ended.extend(std::mem::take(&mut told.live));
                        told.ended.extend(std::mem::take(&mut told.brief));
                    }
                    other => panic!("{other}"),
                }
            }
            _ => told.flight = words.into_iter().map(str::to_owned).collect(),
        }
    }
    told
}

struct Parent {
    path: PathBuf,
    table: Table,
    born: SystemTime,
    cursor: u64,
    /// Ends, and new ids, by key.
    events: BTreeMap<Key, (u32, u32)>,
    /// Sessions that must be there to the end.
    stay: Vec<Key>,
    /// Sessions that were there, and must have ended in one event.
    were: BTreeSet<Key>,
}

impl Parent {
    fn now(&self) -> Tick {
        at(self.born.elapsed().unwrap_or_default().as_millis() as u64)
    }

    fn worker(&self, number: u64, step: Option<u64>) -> Process {
        let epoch = self.born.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let mut arguments = vec![("CURFEW_WORKER", number.to_string()), ("CURFEW_EPOCH", epoch.to_string())];
        arguments.extend(step.map(|step| ("CURFEW_STEP", step.to_string())));
        let mut child = child("work", &self.path, &arguments);
        // Killed before it has opened the region it would prove nothing.
        let mut output = BufReader::new(child.0.stdout.as_mut().unwrap());
        let mut line = String::new();
        while !line.contains("ready") {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "the worker has died by itself");
        }
        child
    }

    fn read_events(&mut self) {
        let mut reader = self.table.events_from(self.cursor);
        let events: Vec<Event> = reader.by_ref().collect();
        assert_eq!(reader.missed(), 0, "make the ring larger");
        self.cursor = reader.cursor();
        for event in events {
            let seen = self.events.entry(event.key).or_default();
            match event.what {
                What::Ended => seen.0 += 1,
                What::Rotated => seen.1 += 1,
                What::Cut => panic!("nobody has cut anything: {event:?}"),
            }
            assert!(seen.0 + seen.1 == 1, "{} has ended twice: {event:?}", event.key);
        }
    }

    fn is_alive(&self, key: Key) -> bool {
        matches!(self.table.peek(key, Binding::NONE, self.now()), Verdict::Active(_))
    }

    /// What a worker that was killed had been told must be true.
    fn judge(&mut self, worker: u64) {
        let told = read_log(&self.path, worker);
        let key = |serial: u64| key_of(&self.table, worker, serial);
        let flight: Vec<u64> = told.flight.iter().skip(1).map(|serial| serial.parse().unwrap()).collect();
        let revoking = told.flight.first().is_some_and(|call| call == "subject");
        for serial in told.live.iter().filter(|serial| !flight.contains(serial)) {
            assert!(revoking || self.is_alive(key(*serial)), "worker {worker}: session {serial} is lost");
        }
        for serial in told.ended.iter().filter(|serial| !flight.contains(serial)) {
            assert!(!self.is_alive(key(*serial)), "worker {worker}: session {serial} is back");
        }
        if let ("rotate", [old, new]) = (told.flight.first().map_or("", String::as_str), &flight[..]) {
            assert!(self.is_alive(key(*old)) || self.is_alive(key(*new)), "worker {worker}: {old} is lost on its way");
        }
        let all = [&told.live, &told.ended, &told.rotated, &told.brief];
        let were: Vec<Key> = all.into_iter().flatten().map(|serial| key(*serial)).collect();
        let alive = flight.iter().chain(&told.live).map(|serial| key(*serial)).filter(|key| self.is_alive(*key));
        let alive: Vec<Key> = alive.collect();
        self.were.extend(were);
        let sure = |serial: &&u64| !flight.contains(*serial) && self.is_alive(key(**serial));
        let stay = told.live.iter().find(sure).map(|serial| key(*serial));
        for key in alive.into_iter().filter(|key| Some(*key) != stay) {
            // By an old id the session of the new one ends.
            let _ = self.table.end(key, Cause::Logout, self.now());
        }
        self.stay.extend(stay);
        std::fs::remove_file(self.path.with_extension(format!("{worker}.log"))).unwrap();
    }
}

#[test]
fn processes_killed_at_any_moment_under_load_stall_nobody_and_lose_no_more_than_their_call() {
    let kills = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(150_u64);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.region");
    let born = SystemTime::UNIX_EPOCH
        + Duration::from_secs(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
    let table = Table::create(&path, &Config { events: 1 << 18, ..Config::new(kills * 2 + 4000) }).unwrap();
    table.set_policy("staff", &staff_policy(0), Tick::ZERO).unwrap();
    let brief = Policy::new().idle(ms(5)).retain(Retain::For(ms(5)));
    table.set_policy("brief", &brief, Tick::ZERO).unwrap();
    let mut parent =
        Parent { path, table, born, cursor: 0, events: BTreeMap::new(), stay: Vec::new(), were: BTreeSet::new() };

    let mut steady = [1, 2].map(|number| parent.worker(number, None));
    let mut longest = Duration::ZERO;
    for round in 0..kills {
        let worker = 10 + round;
        // Half of them at a moment, and half at a step: most moments are spent writing the log.
        let random = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let by_step = round % 2 == 1;
        let mut victim = parent.worker(worker, by_step.then_some(1 + random % 3000));
        if by_step {
            victim.0.wait().unwrap();
        } else {
            std::thread::sleep(Duration::from_micros(random % 4000));
        }
        let killed = Instant::now();
        if !by_step {
            victim.kill();
        }
        parent.table.check().unwrap();
        let stall = killed.elapsed();
        longest = longest.max(stall);
        assert!(stall < STALL, "the check after kill {round} took {stall:?}");
        parent.judge(worker);
        parent.read_events();
        for key in parent.stay.iter().rev().take(50) {
            assert!(matches!(parent.table.touch(*key, Binding::NONE, parent.now()), Verdict::Active(_)));
        }
        if (round + 1).is_multiple_of(250) {
            println!("{} kills of {kills}, the longest wait {longest:?}", round + 1);
        }
    }
    steady.iter_mut().for_each(Process::kill);
    let recoveries = parent.table.stats().recoveries;
    parent.table.check().unwrap();
    let mut call = Duration::ZERO;
    for worker in [1, 2] {
        call = call.max(read_log(&parent.path, worker).longest);
        parent.judge(worker);
    }
    let stay = std::mem::take(&mut parent.stay);
    for key in &stay {
        assert!(parent.is_alive(*key), "{key} is lost");
    }
    parent.were.extend(stay);
    while parent.table.advance(Tick::LAST, 10_000).more {}
    parent.table.check().unwrap();
    let stats = parent.table.stats();
    assert_eq!((stats.live, stats.used), (0, 0));
    parent.read_events();
    for key in &parent.were {
        assert!(parent.events.contains_key(key), "{key} has ended unreported");
    }
    println!("{kills} killed, {recoveries} things rebuilt; {} sessions, each in one event", parent.events.len());
    println!("the longest call of the others took {call:?}, the longest check after a death {longest:?}");
    assert!(call < STALL, "somebody waited {call:?}");
    assert!(recoveries > kills / 8, "too few died inside of anything");
}

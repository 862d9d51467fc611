//! Region files that somebody or something has damaged: opening gives a typed error or a table, and
//! every verb of that table comes back without a panic and in bounded time, whatever the bytes say.
//!
//! All randomness comes from a seed, which a failure names: `CURFEW_DAMAGE_SEED=<seed>` runs that one
//! alone, `CURFEW_DAMAGE_ROUNDS=<n>` changes how many are run. With `--nocapture` the tests also say
//! what a repair could not mend.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use curfew_engine::{
    Batched, Binding, Cause, Config, Filter, GraceMode, Key, Moment, OnFull, OnLimit, OnMismatch, Policy, PolicyId,
    Retain, Snapshot, SnapshotOpenError, Span, Start, Stats, Subject, Table, Tick,
};

/// How long one round may take before it counts as a hang.
const HANG: Duration = Duration::from_secs(10);
/// How long one test may go on beginning rounds.
const ENOUGH: Duration = Duration::from_secs(7);
/// Calls of advance after which there must be nothing more to do.
const ADVANCES: usize = 10_000;
/// Words of the header that its checksum covers, and the checksum.
const HEAD_WORDS: u64 = 13;

struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    /// Words as damage makes them: a bit, small numbers, all ones, a sum of what looks like a lock.
    fn word(&mut self, old: u64) -> u64 {
        match self.below(8) {
            0..3 => old ^ 1 << self.below(64),
            3 => 0,
            4 => u64::MAX >> self.below(64),
            5 => old.wrapping_add(1 << self.below(64)),
            6 => self.below(128) << (self.below(4) * 16),
            _ => self.next(),
        }
    }
}

fn at(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

fn policies() -> [Policy; 3] {
    [
        Policy::new().idle(Span::from_millis(400)).lifetime(Span::from_millis(9000)),
        Policy { on_mismatch: OnMismatch::End, on_full: OnFull::EvictEnded, ..Policy::new() }
            .idle(Span::from_millis(250))
            .grace(Span::from_millis(100), GraceMode::Resume)
            .max_per_subject(5, OnLimit::EndOldest)
            .retain(Retain::For(Span::from_millis(700))),
        Policy::new()
            .lifetime(Span::from_millis(600))
            .max_per_subject(7, OnLimit::EndLeastRecent)
            .retain(Retain::For(Span::OFF)),
    ]
}

fn key(table: &Table, number: u64) -> Key {
    table.key(&number.to_le_bytes())
}

fn subject(table: &Table, number: u64) -> Subject {
    if number == 0 { Subject::NONE } else { table.subject(&number.to_le_bytes()) }
}

/// One random call; every verb has its turn.
fn call(table: &Table, random: &mut Random, now: Tick, keys: u64) {
    let (one, other) = (key(table, random.below(keys)), key(table, random.below(keys)));
    let who = subject(table, random.below(6));
    let binding = if random.below(4) == 0 { table.binding(b"bound") } else { Binding::NONE };
    let policy = PolicyId::from_number(random.below(4) as u8);
    match random.below(24) {
        0..8 => {
            let start = Start::under(policy).of(who).bound_to(binding);
            let token =
                if random.below(3) == 0 { now.after(Span::from_millis(random.below(900))) } else { Tick::NEVER };
            let _ = table.start(one, &start.until(token), now);
        }
        8..11 => drop(table.touch(one, binding, now)),
        11 => drop(table.peek(one, binding, now)),
        12 => {
            let mut batch: Vec<_> = (0..keys).map(|number| Batched::new(key(table, number), binding)).collect();
            table.touch_many(&mut batch, now);
        }
        13..15 => drop(table.end(one, Cause::Logout, now)),
        15 => drop(table.end_subject(who, Cause::Revoked, now)),
        16 if random.below(6) == 0 => {
            let filter = Filter { policy: Some(policy), idle_since: Some(now), ..Filter::default() };
            table.end_all(&filter, Cause::Revoked, now);
        }
        17..19 => drop(table.rotate(one, other, Span::from_millis(random.below(90)), now)),
        19 => drop(table.reauthenticate(one, (random.below(2) == 0).then(|| now.after(Span::from_millis(300))), now)),
        20 if random.below(4) == 0 => {
            let which = random.below(3) as usize;
            let idle = Span::from_millis(100 + random.below(500));
            let _ = table.set_policy(["a", "b", "c"][which], &Policy { idle, ..policies()[which] }, now);
        }
        21 => drop(table.sessions_of(who, now)),
        _ => drop(table.advance(now, random.below(200) as usize)),
    }
}

/// A region file with a history.
fn used_region(path: &Path, random: &mut Random, capacity: u64, keys: u64, calls: u64) -> u64 {
    let config = Config { events: 64, secret: Some([9; 32]), ..Config::new(capacity) };
    let table = Table::create(path, &config).unwrap();
    let mut now = 5_000 + random.below(100_000);
    for (name, policy) in ["a", "b", "c"].into_iter().zip(policies()) {
        table.set_policy(name, &policy, at(now)).unwrap();
    }
    for _ in 0..calls {
        now += random.below(8);
        call(&table, random, at(now), keys);
    }
    if let Err(damage) = table.check() {
        println!("before any damage: {damage}");
    }
    now
}

/// Places worth damaging: half of them where something is, half of them anywhere.
struct Targets {
    words: u64,
    used: Vec<u64>,
}

impl Targets {
    fn of(path: &Path) -> Targets {
        let bytes = std::fs::read(path).unwrap();
        let is_used = |(_, word): &(usize, &[u8])| word.iter().any(|byte| *byte != 0);
        let used = bytes.chunks_exact(8).enumerate().filter(is_used).map(|(at, _)| at as u64);
        Targets { words: bytes.len() as u64 / 8, used: used.filter(|at| *at >= HEAD_WORDS).collect() }
    }

    fn any(&self, random: &mut Random) -> u64 {
        match random.below(2) {
            0 => self.used[random.below(self.used.len() as u64) as usize],
            _ => HEAD_WORDS + random.below(self.words - HEAD_WORDS),
        }
    }
}

fn damage(file: &File, targets: &Targets, random: &mut Random) {
    let change = |at: u64, random: &mut Random| {
        let mut word = [0; 8];
        file.read_exact_at(&mut word, at * 8).unwrap();
        let damaged = random.word(u64::from_le_bytes(word));
        file.write_all_at(&damaged.to_le_bytes(), at * 8).unwrap();
    };
    match random.below(5) {
        0..3 => {
            for _ in 0..=random.below(6) {
                change(targets.any(random), random);
            }
        }
        3 => {
            let first = targets.any(random);
            for at in first..(first + 1 + random.below(40)).min(targets.words) {
                change(at, random);
            }
        }
        _ => {
            for _ in 0..targets.words / 50 {
                change(targets.any(random), random);
            }
        }
    }
}

/// Every verb at least once, then what is due to the end; false when it comes to no end.
fn every_verb(
    table: &Table,
    random: &mut Random,
    mut now: u64,
    keys: u64,
    mut between: impl FnMut(&mut Random),
) -> bool {
    for _ in 0..120 {
        now += random.below(30);
        call(table, random, at(now), keys);
        between(random);
    }
    let start = table.sessions(at(now)).count();
    let mut cursor = Some(0);
    let mut paged = 0;
    while let Some(from) = cursor {
        let (page, next) = table.page(from, 7, at(now));
        paged += page.len();
        cursor = next;
    }
    let _ = (start, paged, table.events().count(), table.events_from(u64::MAX).count(), table.new_events().count());
    let stats: Stats = table.stats();
    let _ = (stats, stats.ended_in_all(), table.policies().count(), table.policy_id("b"), table.next_due());
    let _ = table.check();
    table.end_all(&Filter { started_before: Some(at(now / 2)), ..Filter::default() }, Cause::Revoked, at(now));
    for (name, policy) in ["a", "d"].into_iter().zip(policies()) {
        let _ = table.set_policy(name, &policy.idle(Span::from_millis(77)), at(now));
    }
    if let Ok(larger) = Table::private(&Config { secret: Some([9; 32]), ..Config::new(1000) }) {
        let _ = table.copy_into(&larger, at(now));
    }
    save_and_restore(table, now);
    now += 20_000;
    (0..ADVANCES).any(|_| !table.advance(at(now), 1000).more)
}

/// A snapshot of a damaged region is one that can be read, and what comes out of it is in order.
fn save_and_restore(table: &Table, now: u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot");
    let moment = Moment { steady: now, wall: now, boot: 1 };
    if table.snapshot(&path, &moment).is_err() {
        return;
    }
    match Snapshot::open(&path) {
        Ok(snapshot) => {
            let later = Moment { steady: now + 100, ..moment };
            if let Ok((restored, _)) = snapshot.restore_private(&Config::new(1000), &later) {
                restored.check().expect("what was restored is in order");
            }
        }
        // Where others do damage all the time, a policy may be gone when its sessions are written.
        Err(SnapshotOpenError::Entry { .. }) => {}
        Err(other) => panic!("{other}"),
    }
}

/// What was found, by what it says, with the first seed that showed it.
#[derive(Default)]
struct Findings(BTreeMap<String, (u64, u64)>);

impl Findings {
    fn add(&mut self, what: String, seed: u64) {
        self.0.entry(what).or_insert((seed, 0)).1 += 1;
    }

    fn print(&self, title: &str) {
        if !self.0.is_empty() {
            println!("{title}:");
        }
        for (what, (seed, times)) in &self.0 {
            println!("  {times:4} times, first with seed {seed}: {what}");
        }
    }
}

/// Numbers differ from seed to seed; what went wrong does not.
fn without_numbers(what: &str) -> String {
    let mut text = String::new();
    for word in what.split(' ') {
        let plain = !word.chars().any(|letter| letter.is_ascii_digit());
        text += if plain { word } else { "#" };
        text.push(' ');
    }
    text
}

static PANICKED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Runs `round` for one seed after the other under a watchdog. A panic is a failure with the seed; a
/// hang ends the whole test with it.
fn rounds(name: &'static str, most: u64, round: impl Fn(&mut Random, u64, &mut Findings)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    static HOOKED: std::sync::Once = std::sync::Once::new();
    HOOKED.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name().is_some_and(|name| name.starts_with("damage: ")) {
                PANICKED.lock().unwrap().push(info.to_string().replace('\n', " "));
            } else {
                usual(info);
            }
        }));
    });
    let stop = AtomicBool::new(false);
    let (mut failed, mut unmended) = (Findings::default(), Findings::default());
    let mut done = 0;
    std::thread::scope(|scope| {
        let (beat, beats) = mpsc::channel::<u64>();
        let stop = &stop;
        scope.spawn(move || {
            let mut seed = 0;
            loop {
                match beats.recv_timeout(HANG) {
                    Ok(next) => seed = next,
                    Err(mpsc::RecvTimeoutError::Disconnected) => return,
                    Err(mpsc::RecvTimeoutError::Timeout) if stop.load(Ordering::Relaxed) => return,
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        eprintln!("{name}: seed {seed} hangs: CURFEW_DAMAGE_SEED={seed}");
                        std::process::abort();
                    }
                }
            }
        });
        let began = Instant::now();
        let seeds = match number("CURFEW_DAMAGE_SEED") {
            Some(seed) => seed..seed + 1,
            None => 0..number("CURFEW_DAMAGE_ROUNDS").unwrap_or(most),
        };
        for seed in seeds {
            if began.elapsed() > ENOUGH && number("CURFEW_DAMAGE_ROUNDS").is_none() {
                break;
            }
            beat.send(seed).unwrap();
            done += 1;
            let result = catch_unwind(AssertUnwindSafe(|| round(&mut Random::new(seed), seed, &mut unmended)));
            if let Err(panic) = result {
                let hooked = PANICKED.lock().unwrap().pop();
                let said = panic.downcast_ref::<String>().cloned();
                let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_string()));
                failed.add(hooked.or(said).unwrap_or_default(), seed);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    println!("{name}: {done} seeds");
    unmended.print("not mended by a repair");
    failed.print("failed");
    assert!(failed.0.is_empty(), "{name}: {:#?}", failed.0);
}

/// Runs a round in a thread whose panics are collected instead of printed.
fn in_damage_thread(name: &'static str, most: u64, round: impl Fn(&mut Random, u64, &mut Findings) + Send + 'static) {
    let thread = std::thread::Builder::new().name(format!("damage: {name}"));
    let ran = thread.spawn(move || rounds(name, most, round)).unwrap().join();
    if ran.is_err() {
        let said = PANICKED.lock().unwrap().pop().unwrap_or_default();
        panic!("{said}");
    }
}

fn new_path() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("damaged.region");
    (directory, path)
}

fn writable(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

/// Repairs, and says what is still wrong; then everything must be over at some time and leave nothing.
fn repair_and_end(table: &Table, now: u64, seed: u64, unmended: &mut Findings) {
    table.repair();
    if let Err(damage) = table.check() {
        unmended.add(format!("check: {}", without_numbers(&damage.what)), seed);
    }
    // Longer than any undamaged limit.
    let later = at(now + 10_000_000_000);
    if !(0..ADVANCES).any(|_| !table.advance(later, 1000).more) {
        unmended.add("advance comes to no end".into(), seed);
    }
    table.end_all(&Filter::default(), Cause::Revoked, later);
    let much_later = later.after(Span::from_millis(1 << 40));
    let _ = (0..ADVANCES).any(|_| !table.advance(much_later, 1000).more);
    let stats = table.stats();
    if (stats.used, stats.live) != (0, 0) {
        unmended.add("records that no deadline and no end_all gets rid of".into(), seed);
    }
    let fresh = Policy::new().idle(Span::from_millis(5)).retain(Retain::For(Span::OFF));
    let Ok(policy) = table.set_policy("fresh", &fresh, much_later) else {
        unmended.add("a new policy is refused".into(), seed);
        return;
    };
    let one = key(table, 1 << 40);
    if let Err(error) = table.start(one, &Start::under(policy).of(table.subject(b"new")), much_later) {
        unmended.add(format!("a new session is refused: {error}"), seed);
        return;
    }
    let end = much_later.after(Span::from_millis(10));
    let _ = (0..ADVANCES).any(|_| !table.advance(end, 1000).more);
    if table.stats().used > stats.used {
        unmended.add("a session that starts afterwards is not reclaimed when it is over".into(), seed);
    }
}

#[test]
fn a_file_of_another_length_is_refused_and_a_changed_header_gives_a_typed_error_or_a_table() {
    in_damage_thread("header", 150, |random, _, _| {
        let (_directory, path) = new_path();
        let now = used_region(&path, random, 40, 50, 100);
        let whole = std::fs::read(&path).unwrap();
        let length = match random.below(4) {
            0 => random.below(whole.len() as u64),
            1 => whole.len() as u64 - 1 - random.below(64),
            2 => whole.len() as u64 + 1 + random.below(10_000),
            _ => [0, 1, 8, 104, 4095, 4096, 4097][random.below(7) as usize],
        };
        writable(&path).set_len(length).unwrap();
        let opened = Table::open(&path);
        assert!(opened.is_err(), "a file of {length} bytes is taken for one of {}", whole.len());

        std::fs::write(&path, &whole).unwrap();
        let file = writable(&path);
        for _ in 0..=random.below(3) {
            let place = random.below(4096);
            let mut byte = [0];
            file.read_exact_at(&mut byte, place).unwrap();
            file.write_all_at(&[byte[0] ^ 1 << random.below(8)], place).unwrap();
        }
        if let Ok(table) = Table::open(&path) {
            assert!(every_verb(&table, random, now, 50, |_| {}), "advance comes to no end");
        }
    });
}

#[test]
fn whatever_word_behind_the_header_is_damaged_every_verb_comes_back_without_a_panic() {
    in_damage_thread("closed", 300, |random, seed, unmended| {
        let (_directory, path) = new_path();
        let capacity = 20 + random.below(80);
        let keys = capacity + 10;
        let now = used_region(&path, random, capacity, keys, 300);
        damage(&writable(&path), &Targets::of(&path), random);
        let table = Table::open(&path).expect("the header is whole");
        if random.below(3) == 0 {
            table.repair();
        }
        assert!(every_verb(&table, random, now, keys, |_| {}), "advance comes to no end");
        repair_and_end(&table, now, seed, unmended);
    });
}

#[test]
fn damage_that_is_done_while_a_region_is_open_does_no_more_harm() {
    in_damage_thread("open", 200, |random, seed, unmended| {
        let (_directory, path) = new_path();
        let capacity = 20 + random.below(80);
        let keys = capacity + 10;
        let now = used_region(&path, random, capacity, keys, 200);
        let (file, targets) = (writable(&path), Targets::of(&path));
        let table = Table::open(&path).unwrap();
        let ended = every_verb(&table, random, now, keys, |random| {
            if random.below(8) == 0 {
                damage(&file, &targets, random);
            }
        });
        assert!(ended, "advance comes to no end");
        repair_and_end(&table, now, seed, unmended);
    });
}

#[test]
fn a_region_of_several_shards_stands_damage_as_well() {
    in_damage_thread("shards", 8, |random, seed, unmended| {
        let (_directory, path) = new_path();
        let now = used_region(&path, random, 400_000, 500, 3000);
        damage(&writable(&path), &Targets::of(&path), random);
        let table = Table::open(&path).expect("the header is whole");
        assert!(every_verb(&table, random, now, 500, |_| {}), "advance comes to no end");
        repair_and_end(&table, now, seed, unmended);
    });
}

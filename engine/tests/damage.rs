//! Region files that somebody or something has damaged: opening gives a typed error or a table, and
//! every verb of that table comes back without a panic and in bounded time, whatever the bytes say.
//!
//! All randomness comes from a seed, which a failure names: `CURFEW_DAMAGE_SEED=<seed>` runs that one
//! alone, `CURFEW_DAMAGE_ROUNDS=<n>` changes how many are run. With `--nocapture` the tests also say
//! what a repair could not mend.

// For the fuzz targets it is public.
#[allow(unreachable_pub)]
#[path = "common/verbs.rs"]
mod verbs;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use curfew_engine::{
    Binding, Cause, Config, Filter, Moment, Policy, Retain, Snapshot, SnapshotOpenError, Span, Start, Table, Tick,
    Verdict,
};
use verbs::{Chance, Random, at, every_verb, use_it};

/// How long one round may take before it counts as a hang.
const HANG: Duration = Duration::from_secs(10);
/// How long one test may go on beginning rounds.
const ENOUGH: Duration = Duration::from_secs(7);
/// Words of the header that its checksum covers, and the checksum.
const HEAD_WORDS: u64 = 13;

/// A region file with a history.
fn used_region(path: &Path, random: &mut Random, capacity: u64, keys: u64, calls: u64) -> u64 {
    let config = Config { events: 64, secret: Some([9; 32]), ..Config::new(capacity) };
    let table = Table::create(path, &config).unwrap();
    let now = use_it(&table, random, keys, calls);
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

/// Repairs, and notes what is still wrong then.
fn repair_and_end(table: &Table, now: u64, seed: u64, unmended: &mut Findings) {
    verbs::repair_and_end(table, now, |what| unmended.add(without_numbers(&what), seed));
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
            save_and_restore(&table, now);
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
        save_and_restore(&table, now);
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
        save_and_restore(&table, now);
        assert!(every_verb(&table, random, now, 500, |_| {}), "advance comes to no end");
        repair_and_end(&table, now, seed, unmended);
    });
}

#[test]
fn a_damaged_number_of_policy_changes_is_mended_by_a_repair() {
    const POLICY_CHANGES: u64 = 26;
    let (_directory, path) = new_path();
    let table = Table::create(&path, &Config::new(10)).unwrap();
    let idle = |minutes| Policy::new().idle(Span::from_mins(minutes));
    let id = table.set_policy("a", &idle(15), Tick::ZERO).unwrap();
    let key = table.key(b"id");
    table.start(key, &Start::under(id), Tick::ZERO).unwrap();
    writable(&path).write_all_at(&u64::MAX.to_le_bytes(), POLICY_CHANGES * 8).unwrap();
    table.advance(Tick::ZERO, 1000);
    table.set_policy("a", &idle(10), Tick::ZERO).unwrap();
    table.repair();
    table.set_policy("a", &idle(5), Tick::ZERO).unwrap();
    let later = Tick::ZERO.after(Span::from_mins(5));
    while table.advance(later, 1000).more {}
    assert_eq!((table.check(), table.stats().live), (Ok(()), 0));
    assert!(matches!(table.peek(key, Binding::NONE, later), Verdict::Ended(_)));
}

/// The number that the next process to open a region will have: the first that nobody has, in its
/// next epoch.
fn next_owner(path: &Path) -> u64 {
    const EPOCHS: u64 = 128;
    let mut epoch = [0; 8];
    File::open(path).unwrap().read_exact_at(&mut epoch, EPOCHS * 8).unwrap();
    (u64::from_le_bytes(epoch) + 1) << 16 | 1
}

#[test]
fn a_lock_that_names_whoever_comes_next_is_not_waited_for() {
    in_damage_thread("lock", 1, |random, _, _| {
        let (_directory, path) = new_path();
        let now = used_region(&path, random, 10, 20, 100);
        let whole = std::fs::read(&path).unwrap();
        // A lock is the first word of its line.
        for line in HEAD_WORDS.div_ceil(8)..whole.len() as u64 / 64 {
            std::fs::write(&path, &whole).unwrap();
            let id = next_owner(&path);
            writable(&path).write_all_at(&id.to_le_bytes(), line * 64).unwrap();
            let table = Table::open(&path).unwrap();
            for number in 0..4 {
                verbs::call(&table, random, Tick::from_millis(now + number), 20);
            }
            let _ = (table.check(), table.set_policy("z", &verbs::policies()[0], Tick::from_millis(now)));
        }
    });
}

#[test]
fn a_copy_of_a_region_answers_as_the_region_did_and_leaves_it_alone() {
    in_damage_thread("copy", 20, |random, _, _| {
        let (_directory, path) = new_path();
        let now = at(used_region(&path, random, 40, 50, 300));
        let table = Table::open(&path).unwrap();
        let before = std::fs::read(&path).unwrap();
        let copy = Table::from_bytes(&before).unwrap();
        copy.check().unwrap();
        assert_eq!((copy.stats(), copy.epoch()), (table.stats(), table.epoch()));
        for number in 0..50 {
            let key = verbs::key(&table, number);
            assert_eq!(copy.peek(key, Binding::NONE, now), table.peek(key, Binding::NONE, now));
        }
        copy.end_all(&Filter::default(), Cause::Revoked, now);
        assert!(std::fs::read(&path).unwrap() == before, "the region has changed");
    });
}

#[test]
fn bytes_that_are_no_region_give_the_error_that_a_file_of_them_gives() {
    in_damage_thread("bytes", 150, |random, _, _| {
        let (_directory, path) = new_path();
        used_region(&path, random, 5, 9, 20);
        let mut bytes = std::fs::read(&path).unwrap();
        match random.below(3) {
            0 => bytes.truncate(random.below(bytes.len() as u64) as usize),
            1 => bytes.extend(vec![0; 1 + random.below(100) as usize]),
            _ => bytes[random.below(104) as usize] ^= 1 << random.below(8),
        }
        std::fs::write(&path, &bytes).unwrap();
        let (of_file, of_bytes) = (Table::open(&path).unwrap_err(), Table::from_bytes(&bytes).unwrap_err());
        assert_eq!(of_file.to_string(), of_bytes.to_string());
    });
}

#[test]
fn a_repair_looks_at_every_record_again_before_an_older_policy_is_forgotten() {
    // Of the first shard: for which change of a policy it was looking through its records, and how far.
    const SWEEP: u64 = 3072 + 5;
    let (_directory, path) = new_path();
    let table = Table::create(&path, &Config::new(10)).unwrap();
    let idle = |minutes| Policy::new().idle(Span::from_mins(minutes));
    let id = table.set_policy("a", &idle(5), Tick::ZERO).unwrap();
    let key = table.key(b"id");
    table.start(key, &Start::under(id), Tick::ZERO).unwrap();
    let later = Tick::ZERO.after(Span::from_mins(6));
    table.set_policy("a", &idle(15), later).unwrap();
    let file = writable(&path);
    file.write_all_at(&1_u64.to_le_bytes(), SWEEP * 8).unwrap();
    file.write_all_at(&1000_u64.to_le_bytes(), (SWEEP + 1) * 8).unwrap();
    table.repair();
    while table.advance(later, 1000).more {}
    let answer = table.peek(key, Binding::NONE, later);
    assert!(matches!(answer, Verdict::Ended(_)), "a session that had ended is back: {answer:?}");
}

#[test]
fn a_repair_brings_a_timer_whose_clock_is_ahead_back_to_what_the_records_know() {
    // Of the first shard: the clock of the wheel for live sessions, and of that for ended records.
    const CLOCKS: [u64; 2] = [3072 + 32, 3072 + 32 + 272];
    let (_directory, path) = new_path();
    let table = Table::create(&path, &Config::new(10)).unwrap();
    let policy = Policy::new().idle(Span::from_mins(5)).retain(Retain::For(Span::from_mins(1)));
    let id = table.set_policy("a", &policy, at(0)).unwrap();
    let started = at(1 << 30);
    let [first, second] = [1, 2].map(|number| verbs::key(&table, number));
    table.start(first, &Start::under(id), started).unwrap();
    for clock in CLOCKS {
        writable(&path).write_all_at(&(1_u64 << 40).to_le_bytes(), clock * 8).unwrap();
    }
    table.repair();
    table.start(second, &Start::under(id), started).unwrap();
    let after = |minutes| started.after(Span::from_mins(minutes));
    while table.advance(after(5), 1000).more {}
    assert_eq!((table.stats().live, table.stats().used), (0, 2));
    while table.advance(after(6), 1000).more {}
    assert_eq!((table.check(), table.stats().used), (Ok(()), 0));
}

#[test]
fn a_region_that_has_moved_to_where_nothing_is_is_refused_by_that() {
    let (_directory, path) = new_path();
    drop(Table::create(&path, &Config::new(5)).unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    // The word of the header that says so, which its checksum does not cover, and a place far behind the end.
    bytes[56 * 8..57 * 8].copy_from_slice(&u64::to_le_bytes(1 << 40 | 3));
    std::fs::write(&path, &bytes).unwrap();
    for refused in [Table::from_bytes(&bytes).unwrap_err(), Table::open(&path).unwrap_err()] {
        assert!(refused.to_string().contains("where it has moved to"), "{refused}");
    }
}

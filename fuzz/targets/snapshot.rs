//! Snapshots: arbitrary bytes, and real ones with some of them changed and the checksums made right.
//!
//! The first byte says what follows. Zero: nothing but the bytes of a file. One: which real snapshot
//! lends the first words of its head, how many entries there are, where in all of that the bytes
//! begin, and then they. Otherwise: which real snapshot, what becomes of its words and entries, and
//! the calls; now and then a checksum is left as it was, which must be seen.
//!
//! What is taken for a snapshot is restored: into memory, where a second reading of the entries says
//! which sessions may go on, and beside a region that is in use, which must not change.

#![no_main]

use std::sync::LazyLock;

use curfew_engine::{
    Binding, Config, Key, Life, Moment, Restored, SessionInfo, Snapshot, Span, State, Table, Verdict, state,
};
use curfew_fuzz::regions::{get, set};
use curfew_fuzz::snapshots::{ENTRIES, ENTRY, HEAD, KEYS, Lived, TAKEN, Taken, lived, summed, take, versions};
use curfew_fuzz::{Bytes, Chance, every_verb, repair_and_end};
use libfuzzer_sys::fuzz_target;

/// Words that are changed at most, and entries that are moved.
const WORDS: u64 = 12;
const MOVES: u64 = 6;
/// Calls between two looks at everything.
const CALLS: u32 = 15;

struct Input {
    bytes: Vec<u8>,
    taken: &'static Taken,
    /// The checksums are those of the real snapshot, and what they cover is not.
    wrong: bool,
}

fn laid_over(bytes: &mut Bytes<'_>) -> Input {
    let taken = &TAKEN[bytes.index(TAKEN.len())];
    let entries = bytes.index(80);
    let mut file = taken.bytes[..HEAD].to_vec();
    file.resize(HEAD + entries * ENTRY, 0);
    set(&mut file, ENTRIES, entries as u64);
    let from = (2 + bytes.index(file.len() / 8 - 2)) * 8;
    let body = &bytes.rest()[..bytes.rest().len().min(file.len() - from)];
    file[from..from + body.len()].copy_from_slice(body);
    Input { bytes: summed(file), taken, wrong: false }
}

fn place(taken: &Taken, entries: usize, bytes: &mut Bytes<'_>) -> usize {
    match bytes.below(8) {
        0 => 2 + bytes.index(HEAD / 8 - 6),
        1 | 2 => taken.used[bytes.index(taken.used.len())],
        _ if entries == 0 => 2 + bytes.index(14),
        _ => HEAD / 8 + bytes.index(entries * ENTRY / 8),
    }
}

/// Entries that are there twice, not at all, in another order, with another's key, or taken back.
fn move_entries(file: &mut Vec<u8>, bytes: &mut Bytes<'_>) {
    for _ in 0..bytes.below(MOVES) {
        let entries = (file.len() - HEAD) / ENTRY;
        if entries == 0 {
            return;
        }
        let at = |entry: usize| HEAD + entry * ENTRY;
        let (one, other) = (at(bytes.index(entries)), at(bytes.index(entries)));
        match bytes.below(6) {
            0 => drop(file.drain(one..one + ENTRY)),
            1 => {
                let copy = file[one..one + ENTRY].to_vec();
                file.splice(other..other, copy);
            }
            2 => file.extend_from_within(one..one + ENTRY),
            3 => file.copy_within(one + 8..one + 24, other + 8),
            4 => {
                let mut gone = [0; ENTRY];
                (gone[0], gone[1]) = (4, bytes.below(2) as u8);
                gone[8..24].copy_from_slice(&file[one + 8..one + 24]);
                file.splice(other..other, gone);
            }
            _ => {
                let copy = file[one..one + ENTRY].to_vec();
                file.copy_within(other..other + ENTRY, one);
                file[other..other + ENTRY].copy_from_slice(&copy);
            }
        }
    }
    let entries = (file.len() - HEAD) / ENTRY;
    set(file, ENTRIES, entries as u64);
}

fn changed(bytes: &mut Bytes<'_>) -> Input {
    let taken = &TAKEN[bytes.index(TAKEN.len())];
    let mut file = taken.bytes.clone();
    move_entries(&mut file, bytes);
    let entries = (file.len() - HEAD) / ENTRY;
    for _ in 0..bytes.below(WORDS) {
        let at = place(taken, entries, bytes);
        let word = match bytes.below(4) {
            0 => get(&file, place(taken, entries, bytes)),
            _ => bytes.word(get(&file, at)),
        };
        set(&mut file, at, word);
    }
    if bytes.below(16) == 0 {
        return Input { wrong: file != taken.bytes, bytes: file, taken };
    }
    Input { bytes: summed(file), taken, wrong: false }
}

/// When it is restored: at once, later, after a boot, or by clocks that were set back.
fn moment(taken: Moment, bytes: &mut Bytes<'_>) -> Moment {
    let by = match bytes.below(4) {
        0 => 0,
        1 => bytes.below(1000),
        2 => bytes.below(1 << 24),
        _ => bytes.below(1 << 50),
    };
    match bytes.below(6) {
        0..3 => Moment { steady: taken.steady + by, wall: taken.wall + by, ..taken },
        3 => Moment { steady: by / 2, wall: taken.wall + by, boot: 2 },
        4 => Moment { steady: taken.steady.saturating_sub(by), ..taken },
        _ => Moment { steady: by, wall: taken.wall.saturating_sub(by), boot: 3 },
    }
}

/// How a session answers that nobody has ended; by its policy as it is now.
fn judge(table: &Table, lived: &Lived, restored: &Restored) -> Option<State> {
    let policy = table.policies().find(|(id, ..)| id.number() == lived.policy)?.2;
    let life = Life { start: lived.start, last: lived.last, token: lived.token, mark: None };
    Some(state(&life, &policy, restored.now))
}

fn is_alive(session: &SessionInfo) -> bool {
    !session.rotated && !matches!(session.state, State::Ended(_))
}

/// Which sessions go on is what the entries say, and nothing else does.
fn compare(table: &Table, bytes: &[u8], restored: &Restored) {
    let lived = lived(bytes);
    let alive: Vec<SessionInfo> = table.sessions(restored.now).filter(is_alive).collect();
    for session in &alive {
        let entry = lived.get(&session.key);
        let entry = entry.unwrap_or_else(|| panic!("no entry lets this session live: {session:?}"));
        let found = Lived {
            policy: session.policy.number(),
            last: session.last,
            start: session.start,
            token: session.token,
            bound: session.bound,
            subject: session.subject.as_u64(),
        };
        assert_eq!((found, Some(session.state)), (*entry, judge(table, entry, restored)));
        assert!(!session.end.is_never(), "it never ends: {session:?}");
        let verdict = table.peek(session.key, Binding::NONE, restored.now);
        assert!(!matches!(verdict, Verdict::Unknown | Verdict::Ended(_)), "{verdict:?} for {session:?}");
    }
    assert_eq!(restored.live, alive.len() as u64, "{restored:?}");
    let is_there = |key: &Key| alive.iter().any(|session| session.key == *key);
    for (key, entry) in lived.iter().filter(|(key, _)| !is_there(key)) {
        let state = judge(table, entry, restored);
        // It may have been over under an older version of its policy.
        let may_be_over = matches!(state, Some(State::Ended(_))) || versions(bytes, entry.policy) > 1;
        assert!(may_be_over, "{key:?} is gone: {entry:?}, {state:?}");
    }
}

/// What was restored can be written down and restored again, and is the same.
fn once_more(table: &Table, moment: &Moment, restored: &Restored) {
    let bytes = take(table, moment).expect("nothing in it is of another clock");
    let snapshot = Snapshot::from_bytes(&bytes).expect("what the engine wrote");
    let (again, second) = snapshot.restore_private(&snapshot.config(), moment).expect("room for what was there");
    again.check().unwrap();
    assert_eq!((second.now, second.live), (restored.now, restored.live));
    let all = |table: &Table| {
        let mut all: Vec<_> = table.sessions(restored.now).filter(is_alive).collect();
        all.sort_by_key(|session| session.key);
        all
    };
    assert_eq!(all(&again), all(table));
}

/// A region in use, in a file: no restore may write over it.
static LIVING: LazyLock<(tempfile::TempDir, Table)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let config = Config { secret: Some([9; 32]), ..Config::new(7) };
    let table = Table::create(&folder.path().join("app.region"), &config).expect("a new region");
    (folder, table)
});

fn beside(snapshot: &Snapshot, config: &Config, moment: &Moment) {
    let (folder, table) = &*LIVING;
    let living = folder.path().join("app.region");
    let before = std::fs::read(&living).expect("a region");
    assert!(snapshot.restore(&living, config, moment).is_err(), "it wrote over a region");
    assert_eq!(std::fs::read(&living).expect("a region"), before);
    table.check().unwrap();
    let fresh = folder.path().join("fresh.region");
    if let Ok((table, restored)) = snapshot.restore(&fresh, config, moment) {
        let other = Table::open(&fresh).expect("what was just restored");
        other.check().unwrap();
        assert_eq!(other.sessions(restored.now).count(), table.sessions(restored.now).count());
        std::fs::remove_file(&fresh).expect("the region that was just made");
    }
    assert!(!fresh.exists(), "what was not restored is not there");
}

fuzz_target!(|data: &[u8]| {
    let bytes = &mut Bytes::new(data);
    let input = match bytes.below(0x100) {
        0 => Input { bytes: bytes.rest().to_vec(), taken: &TAKEN[0], wrong: false },
        1 => laid_over(bytes),
        _ => changed(bytes),
    };
    let snapshot = Snapshot::from_bytes(&input.bytes);
    assert!(!input.wrong || snapshot.is_err(), "a checksum that is wrong was not seen");
    let Ok(mut snapshot) = snapshot else { return };
    let moment = moment(input.taken.moment, bytes);
    if bytes.below(4) == 0 {
        snapshot = snapshot.with_downtime(Span::from_millis(bytes.below(1 << 20)));
    }
    // What a forged head asks for may be terabytes; the caller chooses.
    let capacity = [input.taken.capacity, 1, 40, 100, 300][bytes.index(5)];
    let config = Config { events: 16, ..Config::new(capacity) };
    if bytes.below(32) == 0 {
        beside(&snapshot, &config, &moment);
    }
    let Ok((table, restored)) = snapshot.restore_private(&config, &moment) else { return };
    table.check().unwrap();
    compare(&table, &input.bytes, &restored);
    if bytes.below(8) == 0 {
        once_more(&table, &moment, &restored);
    }
    let now = restored.now.as_millis();
    let mut calls = 0;
    let check = |_: &mut Bytes<'_>| {
        calls += 1;
        if calls % CALLS == 0 {
            table.check().unwrap();
        }
    };
    assert!(every_verb(&table, bytes, now, KEYS, check), "advance comes to no end");
    table.check().unwrap();
    repair_and_end(&table, now, |what| assert!(!what.starts_with("check"), "{what}"));
    table.check().unwrap();
});

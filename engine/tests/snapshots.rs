//! Snapshots as files: what is in one that is taken while others work, what a damaged one does,
//! what comes back into regions of other sizes, and what a process leaves that is killed.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use curfew_engine::{
    Binding, Cause, Config, CreateError, Event, Key, Mismatch, Moment, OnFull, OnLimit, OnMismatch, OpenError, Policy,
    PolicyId, RestoreError, Retain, Snapshot, SnapshotError, SnapshotOpenError, Span, Start, StartError, State, Table,
    Tick, Verdict, What,
};

const TAKEN: Moment = Moment { steady: 1_000_000, wall: 1_700_000_000_000, boot: 1 };

fn at(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

fn ms(millis: u64) -> Span {
    Span::from_millis(millis)
}

fn later(by: u64) -> Moment {
    Moment { steady: TAKEN.steady + by, wall: TAKEN.wall + by, ..TAKEN }
}

fn now() -> Tick {
    at(TAKEN.steady)
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.snapshot");
    (folder, path)
}

fn number(table: &Table, number: u64) -> Key {
    table.key(&number.to_le_bytes())
}

fn is_alive(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Active(_) | Verdict::Grace(_))
}

/// Takes a snapshot and restores it `by` milliseconds later into memory, in a region for `capacity`.
fn again(table: &Table, by: u64, capacity: u64) -> Table {
    let (_folder, path) = place();
    table.snapshot(&path, &TAKEN).unwrap();
    let snapshot = Snapshot::open(&path).unwrap();
    let (table, _) = snapshot.restore_private(&Config::new(capacity), &later(by)).unwrap();
    table.check().unwrap();
    table
}

fn ends(table: &Table) -> Vec<Event> {
    table.events().filter(|event| event.what == What::Ended).collect()
}

/// A small region with one of everything.
fn small() -> Table {
    let table = Table::private(&Config { events: 64, secret: Some([3; 32]), ..Config::new(40) }).unwrap();
    let staff = Policy::new().idle(ms(90_000)).lifetime(ms(900_000)).max_per_subject(3, OnLimit::EndOldest);
    let staff = table.set_policy("staff", &staff, now()).unwrap();
    let guests = Policy { on_mismatch: OnMismatch::End, ..Policy::new().lifetime(ms(5000)) };
    let guests = table.set_policy("guests", &guests.retain(Retain::For(ms(70_000))), now()).unwrap();
    let alice = table.subject(b"alice");
    for (key, policy) in [(1, staff), (2, staff), (3, guests), (4, guests), (5, staff)] {
        let start = Start::under(policy).of(alice).until(if key == 2 { at(2_000_000) } else { Tick::NEVER });
        let start = if key == 3 { start.bound_to(table.binding(b"card")) } else { start };
        table
            .start(number(&table, key), &if key < 3 { start } else { start.of(table.subject(&[key as u8])) }, now())
            .unwrap();
    }
    table.end(number(&table, 4), Cause::Logout, now()).unwrap();
    table.rotate(number(&table, 5), number(&table, 6), ms(9000), now()).unwrap();
    table
}

#[test]
fn a_snapshot_is_readable_by_its_owner_only_and_replaces_the_last_one_whole() {
    let (folder, path) = place();
    let table = small();
    std::fs::write(&path, "curfsnp\nbut of another time, and open to all").unwrap();
    let written = table.snapshot(&path, &TAKEN).unwrap();
    let meta = path.metadata().unwrap();
    assert_eq!((meta.permissions().mode() & 0o777, meta.len()), (0o600, written.bytes));
    assert_eq!((written.live, written.ended, written.damaged), (4, 2, 0));
    let names: Vec<_> = folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["app.snapshot"], "nothing unfinished is left behind");
    let snapshot = Snapshot::open(&path).unwrap();
    assert_eq!((snapshot.taken(), snapshot.entries(), snapshot.config().capacity), (TAKEN, 6, 40));
}

#[test]
fn no_id_and_no_name_is_in_a_snapshot() {
    let (_folder, path) = place();
    small().snapshot(&path, &TAKEN).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for word in [&b"alice"[..], b"card", &5_u64.to_le_bytes()] {
        assert!(!bytes[24..].windows(word.len()).any(|window| window == word) || word[0] == 5);
    }
}

#[test]
fn a_snapshot_replaces_nothing_but_a_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let (region, path) = (folder.path().join("app.region"), folder.path().join("app.snapshot"));
    let table = Table::create(&region, &Config::new(40)).unwrap();
    // The wrong one of two paths.
    let refused = table.snapshot(&region, &TAKEN).unwrap_err();
    assert!(
        matches!(refused, SnapshotError::Foreign { .. }) && refused.to_string().contains("app.region"),
        "{refused}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing unfinished is left behind");
    Table::open(&region).unwrap();

    // A snapshot is replaced whatever became of it, and so is a file in which there is nothing.
    for whole in [true, false] {
        table.snapshot(&path, &TAKEN).unwrap();
        std::fs::write(&path, &std::fs::read(&path).unwrap()[..if whole { 100 } else { 0 }]).unwrap();
        table.snapshot(&path, &TAKEN).unwrap();
        Snapshot::open(&path).unwrap();
    }
}

#[test]
fn a_snapshot_that_cannot_be_written_leaves_the_last_one() {
    let (folder, path) = place();
    let table = small();
    table.snapshot(&path, &TAKEN).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let none = folder.path().join("none/app.snapshot");
    assert!(matches!(table.snapshot(&none, &TAKEN), Err(SnapshotError::Io { .. })));
    // A folder cannot be replaced by a file.
    let taken = folder.path().join("folder");
    std::fs::create_dir(&taken).unwrap();
    assert!(matches!(table.snapshot(&taken, &TAKEN), Err(SnapshotError::Io { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), whole);
    assert_eq!(folder.path().read_dir().unwrap().count(), 2, "nothing unfinished is left behind");
}

#[test]
fn a_link_a_folder_and_a_file_that_is_not_ours_alone_are_refused() {
    let (folder, path) = place();
    small().snapshot(&path, &TAKEN).unwrap();
    let refusal = |path: &Path| match Snapshot::open(path).unwrap_err() {
        SnapshotOpenError::File(error) => error,
        other => panic!("{other}"),
    };
    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(matches!(refusal(&link), OpenError::Symlink { .. }));
    assert!(matches!(refusal(folder.path()), OpenError::NotAFile { .. } | OpenError::Io { .. }));
    assert!(matches!(refusal(&folder.path().join("none")), OpenError::Io { .. }));
    for mode in [0o640, 0o604, 0o620, 0o666] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(refusal(&path), OpenError::Mode { mode: found, .. } if found == mode));
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    match std::os::unix::fs::chown(&path, Some(12_345), None) {
        Ok(()) => assert!(matches!(refusal(&path), OpenError::Owner { owner: 12_345, .. })),
        Err(error) => println!("skipped: another user's file needs the right to give files away ({error})"),
    }
}

#[test]
fn a_snapshot_that_is_cut_at_any_length_or_has_one_wrong_byte_is_refused() {
    let (_folder, path) = place();
    small().snapshot(&path, &TAKEN).unwrap();
    let whole = std::fs::read(&path).unwrap();
    assert!(Snapshot::from_bytes(&whole).is_ok());
    for length in 0..whole.len() {
        let refused = Snapshot::from_bytes(&whole[..length]).unwrap_err();
        assert!(matches!(refused, SnapshotOpenError::Length { .. }), "{length} bytes: {refused}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(matches!(Snapshot::from_bytes(&longer), Err(SnapshotOpenError::Length { .. })));
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= [1, 0x80, 0xff][at % 3];
        let refused = Snapshot::from_bytes(&bytes).unwrap_err();
        let right = match at {
            0..8 => matches!(refused, SnapshotOpenError::Magic),
            8..16 => matches!(refused, SnapshotOpenError::Version { .. }),
            _ => matches!(refused, SnapshotOpenError::Damaged { .. }),
        };
        assert!(right, "byte {at}: {refused}");
    }
    assert!(matches!(Snapshot::from_bytes(&vec![b'x'; whole.len()]), Err(SnapshotOpenError::Magic)));
    // A region is no snapshot.
    let region = path.with_extension("region");
    Table::create(&region, &Config::new(10)).unwrap();
    assert!(matches!(Snapshot::open(&region), Err(SnapshotOpenError::Magic)));
}

/// Writes both checksums of a snapshot anew: what somebody does who means harm.
fn forge(bytes: &mut [u8], head: usize) {
    let entries = blake3::hash(&bytes[head..]);
    bytes[16 * 8..20 * 8].copy_from_slice(entries.as_bytes());
    let sum = blake3::hash(&bytes[..head - 32]);
    bytes[head - 32..head].copy_from_slice(sum.as_bytes());
}

#[test]
fn a_forged_snapshot_gives_a_typed_error_or_a_region_that_is_in_order_and_whose_sessions_end() {
    let (_folder, path) = place();
    small().snapshot(&path, &TAKEN).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let head = whole.len() - 6 * 64;
    let mut same = whole.clone();
    forge(&mut same, head);
    assert_eq!(same, whole, "the test knows where the checksums are");
    let (mut refused, mut restored, mut state) = (0, 0, 0x9e37_79b9_7f4a_7c15_u64);
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % bound
    };
    for round in 0..6000 {
        let mut bytes = whole.clone();
        for _ in 0..=below(3) {
            // The fields of the head, the first policies, or an entry.
            let word = match below(4) {
                0 => 2 + below(14),
                1 => 24 + below(64),
                _ => head / 8 + below(6 * 8),
            };
            let value = match below(5) {
                0 => 1_u64 << below(64),
                1 => u64::MAX >> below(64),
                2 => below(1 << 21) as u64,
                3 => {
                    let other = (head / 8 + below(6 * 8)) * 8;
                    u64::from_le_bytes(bytes[other..other + 8].try_into().unwrap())
                }
                _ => u64::from_le_bytes(bytes[word * 8..word * 8 + 8].try_into().unwrap()) ^ 1 << below(64),
            };
            bytes[word * 8..word * 8 + 8].copy_from_slice(&value.to_le_bytes());
        }
        forge(&mut bytes, head);
        let Ok(snapshot) = Snapshot::from_bytes(&bytes) else {
            refused += 1;
            continue;
        };
        match snapshot.restore_private(&Config::new(40), &later(100)) {
            Ok((table, what)) => {
                restored += 1;
                table.check().unwrap_or_else(|damage| panic!("round {round}: {damage}"));
                for session in table.sessions(what.now) {
                    assert!(!session.end.is_never(), "round {round}: {session:?}");
                    table.touch(session.key, Binding::NONE, what.now);
                }
                while table.advance(Tick::LAST, 1000).more {}
                assert_eq!(table.stats().live, 0);
                table.check().unwrap();
            }
            Err(_) => refused += 1,
        }
    }
    println!("{refused} refused, {restored} restored");
    assert!(refused > 1000 && restored > 1000);
}

/// Only an entry that was written again may take back an earlier one; the engine writes no other.
#[test]
fn a_forged_entry_that_is_not_written_again_takes_no_session_back() {
    let (_folder, path) = place();
    small().snapshot(&path, &TAKEN).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let head = whole.len() - 6 * 64;
    let first = head + whole[head..].chunks(64).position(|entry| entry[0] == 1).unwrap() * 64;
    let [gone, ended] = [4_u64, 2].map(|kind| {
        let mut entry = [0; 64];
        entry[..8]
            .copy_from_slice(&(kind | if kind == 2 { u64::from(Cause::Logout as u8) << 24 } else { 0 }).to_le_bytes());
        entry[8..24].copy_from_slice(&whole[first + 8..first + 24]);
        entry
    });
    for entry in [gone, ended] {
        let mut bytes = whole.clone();
        bytes.extend_from_slice(&entry);
        bytes[12 * 8..13 * 8].copy_from_slice(&7_u64.to_le_bytes());
        forge(&mut bytes, head);
        let restored = Snapshot::from_bytes(&bytes).unwrap().restore_private(&Config::new(40), &later(0));
        assert!(matches!(restored, Err(RestoreError::Twice)), "{restored:?}");
    }
}

#[test]
fn a_session_under_the_key_of_an_alias_before_it_is_none() {
    let table = small();
    let (_folder, path) = place();
    table.snapshot(&path, &TAKEN).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let head = bytes.len() - 6 * 64;
    let entry = |kind: u8| bytes[head..].chunks(64).find(|entry| entry[0] == kind).unwrap().to_vec();
    let (mut live, alias) = (entry(1), entry(3));
    live[8..24].copy_from_slice(&alias[8..24]);
    bytes.extend_from_slice(&live);
    bytes[12 * 8..13 * 8].copy_from_slice(&7_u64.to_le_bytes());
    forge(&mut bytes, head);
    let (back, restored) = Snapshot::from_bytes(&bytes).unwrap().restore_private(&Config::new(40), &later(0)).unwrap();
    back.check().unwrap();
    let key = number(&back, 5);
    let session = back.sessions(restored.now).find(|session| session.key == key).unwrap();
    assert!(!session.rotated, "{session:?}");
}

#[test]
fn what_comes_back_is_what_was_there() {
    let table = small();
    let back = again(&table, 0, 40);
    let sessions = |table: &Table| {
        let mut all: Vec<_> = table.sessions(now()).filter(|session| !session.rotated).collect();
        all.sort_by_key(|session| session.key);
        all
    };
    assert_eq!(sessions(&back), sessions(&table));
    assert_eq!(back.policies().collect::<Vec<_>>(), table.policies().collect::<Vec<_>>());
    let card = back.binding(b"card");
    assert!(is_alive(back.touch(number(&back, 3), card, now())));
    let wrong = back.touch(number(&back, 3), back.binding(b"another"), now());
    assert_eq!(wrong, Verdict::Mismatch(Mismatch { ended: true }));
    let ended = back.start(number(&back, 4), &Start::under(PolicyId::from_number(1)), now());
    assert!(matches!(ended, Err(StartError::Ended(end)) if end.cause == Cause::Logout));
}

#[test]
fn an_old_id_answers_as_the_new_one_until_its_overlap_is_over() {
    let table = small();
    let back = again(&table, 8999, 40);
    let (old, new) = (number(&back, 5), number(&back, 6));
    assert!(is_alive(back.touch(old, Binding::NONE, at(TAKEN.steady + 8999))));
    let Verdict::Active(left) = back.peek(new, Binding::NONE, at(TAKEN.steady + 8999)) else { panic!("it is there") };
    assert_eq!(left.idle(), ms(90_000), "the touch by the old id counted");
    let over = back.touch(old, Binding::NONE, at(TAKEN.steady + 9000));
    assert!(matches!(over, Verdict::Ended(end) if end.cause == Cause::Rotated), "{over:?}");
    let back = again(&table, 9000, 40);
    assert!(matches!(back.peek(old, Binding::NONE, at(TAKEN.steady + 9000)), Verdict::Ended(_)));
    assert!(is_alive(back.peek(new, Binding::NONE, at(TAKEN.steady + 9000))));
}

#[test]
fn subjects_are_ended_and_counted_as_before() {
    let back = again(&small(), 10, 40);
    let (alice, staff) = (back.subject(b"alice"), PolicyId::from_number(0));
    let time = at(TAKEN.steady + 10);
    assert_eq!(back.sessions_of(alice, time).len(), 2);
    let start = Start::under(staff).of(alice);
    assert_eq!(back.start(number(&back, 10), &start, time).unwrap().displaced, 0);
    assert_eq!(back.start(number(&back, 11), &start, time).unwrap().displaced, 1);
    assert_eq!(back.end_subject(alice, Cause::Revoked, time), 3);
    assert!(back.sessions_of(alice, time).is_empty());
    back.check().unwrap();
}

#[test]
fn a_session_that_was_over_under_an_older_version_of_its_policy_stays_over() {
    let table = Table::private(&Config::new(100)).unwrap();
    let short = Policy::new().idle(ms(1000)).retain(Retain::For(Span::DAY));
    let policy = table.set_policy("staff", &short, at(0)).unwrap();
    let over = at(TAKEN.steady - 5000);
    table.start(number(&table, 1), &Start::under(policy), over).unwrap();
    table.start(number(&table, 2), &Start::under(policy), now()).unwrap();
    // Nobody has looked at the first one since; now the policy would let it live.
    table.set_policy("staff", &short.idle(ms(100_000)), now()).unwrap();
    for capacity in [2, 100] {
        let back = again(&table, 0, capacity);
        let first = |when| back.peek(number(&back, 1), Binding::NONE, when);
        assert!(matches!(first(now()), Verdict::Ended(end) if end.at == at(TAKEN.steady - 4000)));
        assert!(is_alive(back.peek(number(&back, 2), Binding::NONE, now())));
        while back.advance(now(), 10).more {}
        assert!(matches!(first(now()), Verdict::Ended(_)), "also when the older version is forgotten");
        assert_eq!(ends(&back).len(), 1);
        back.set_policy("staff", &short.idle(ms(7)), now()).unwrap();
        back.check().unwrap();
    }
}

#[test]
fn sessions_that_were_over_under_an_older_version_take_no_room_from_those_that_go_on() {
    let table = Table::private(&Config::new(60)).unwrap();
    let short = Policy::new().idle(ms(1000)).retain(Retain::For(Span::OFF));
    let policy = table.set_policy("staff", &short, at(0)).unwrap();
    for key in 0..60 {
        let start = if key < 20 { now() } else { at(TAKEN.steady - 5000) };
        table.start(number(&table, key), &Start::under(policy), start).unwrap();
    }
    table.set_policy("staff", &short.idle(ms(100_000)), now()).unwrap();
    for capacity in 21..60 {
        let back = again(&table, 0, capacity);
        while back.advance(now(), 7).more {}
        back.check().unwrap();
        assert_eq!(back.stats().live, 20, "in a region for {capacity}");
        assert_eq!(ends(&back).len(), 40);
    }
}

#[test]
fn a_region_grows_and_shrinks_through_a_snapshot_and_says_when_it_is_too_small() {
    let table = Table::private(&Config::new(1000)).unwrap();
    let policy = Policy::new().idle(ms(90_000)).retain(Retain::For(ms(90_000)));
    let policy = table.set_policy("staff", &policy, now()).unwrap();
    for key in 0..1000 {
        table.start(number(&table, key), &Start::under(policy).of(table.subject(&[key as u8])), now()).unwrap();
    }
    assert_eq!(table.start(number(&table, 1000), &Start::under(policy), now()), Err(StartError::Full));
    for key in 0..400 {
        table.end(number(&table, key), Cause::Logout, now()).unwrap();
    }
    // Into more shards and back again.
    let larger = again(&table, 1, 1_200_000);
    assert_eq!(larger.stats().live, 600);
    larger.start(number(&larger, 1000), &Start::under(policy), now()).unwrap();
    let (folder, path) = place();
    larger.snapshot(&path, &TAKEN).unwrap();
    let snapshot = Snapshot::open(&path).unwrap();
    let region = folder.path().join("app.region");
    for capacity in [1, 600, 1000] {
        let refused = snapshot.restore(&region, &Config::new(capacity), &later(0));
        assert!(matches!(refused, Err(RestoreError::Full { capacity: found, entries: 1001 }) if found == capacity));
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "nothing is left of it");
    }
    let (smaller, what) = snapshot.restore(&region, &Config::new(1001), &later(0)).unwrap();
    assert_eq!((what.live, what.ended, what.over, what.forgotten), (601, 400, 0, 0));
    smaller.check().unwrap();
    for key in 0..=1000 {
        assert_eq!(is_alive(smaller.peek(number(&smaller, key), Binding::NONE, now())), key >= 400);
    }
    // When ended records need not be kept any longer they take no room.
    let refused = snapshot.restore_private(&Config::new(601), &later(89_999));
    assert!(matches!(refused, Err(RestoreError::Full { .. })));
    let (_, what) = snapshot.restore_private(&Config::new(601), &later(90_000)).unwrap();
    assert_eq!((what.live, what.over, what.forgotten), (0, 601, 400));
}

#[test]
fn a_region_that_may_give_up_ended_records_gives_them_up_for_live_sessions_only() {
    let table = Table::private(&Config::new(100)).unwrap();
    let policy = Policy { on_full: OnFull::EvictEnded, ..Policy::new().idle(ms(90_000)) };
    let policy = table.set_policy("staff", &policy, now()).unwrap();
    for key in 0..100 {
        table.start(number(&table, key), &Start::under(policy), now()).unwrap();
    }
    for key in 0..70 {
        table.end(number(&table, key), Cause::Logout, now()).unwrap();
    }
    let back = again(&table, 0, 50);
    assert_eq!((back.stats().live, back.stats().used), (30, 50));
    let (_folder, path) = place();
    table.snapshot(&path, &TAKEN).unwrap();
    let refused = Snapshot::open(&path).unwrap().restore_private(&Config::new(29), &later(0));
    assert!(matches!(refused, Err(RestoreError::Full { .. })));
}

#[test]
fn a_region_file_is_restored_whole_or_not_at_all_and_what_is_there_is_not_replaced() {
    let (folder, path) = place();
    let table = small();
    table.snapshot(&path, &TAKEN).unwrap();
    let snapshot = Snapshot::open(&path).unwrap();
    let region = folder.path().join("app.region");
    let old = Table::create(&region, &Config::new(10)).unwrap();
    let policy = old.set_policy("p", &Policy::new().idle(ms(5)), at(0)).unwrap();
    old.start(number(&old, 1), &Start::under(policy), at(0)).unwrap();
    let before = std::fs::read(&region).unwrap();
    let refused = snapshot.restore(&region, &snapshot.config(), &later(5));
    assert!(matches!(refused, Err(RestoreError::Create(CreateError::Exists { .. }))));
    assert_eq!(std::fs::read(&region).unwrap(), before);
    assert!(is_alive(old.peek(number(&old, 1), Binding::NONE, at(4))), "and the old table goes on");

    std::fs::remove_file(&region).unwrap();
    let (back, what) = snapshot.restore(&region, &snapshot.config(), &later(5)).unwrap();
    assert_eq!(what.live, 4);
    let other = Table::open(&region).unwrap();
    assert_eq!((other.epoch(), other.tick_at(later(5).steady)), (back.epoch(), what.now));
    assert!(is_alive(other.touch(number(&other, 1), Binding::NONE, what.now)));
    assert_eq!(folder.path().read_dir().unwrap().count(), 2);
    let another = Config { secret: Some([4; 32]), ..snapshot.config() };
    assert!(matches!(snapshot.restore_private(&another, &later(5)), Err(RestoreError::OtherSecret)));
}

#[test]
fn what_ended_meanwhile_is_reported_once_at_its_deadline_and_cursors_stay_good() {
    let table = Table::private(&Config { events: 4096, ..Config::new(1000) }).unwrap();
    let policy = table.set_policy("staff", &Policy::new().lifetime(ms(50_000)), at(0)).unwrap();
    for key in 0..900 {
        table.start(number(&table, key), &Start::under(policy), at(TAKEN.steady - 50 * (key % 900))).unwrap();
    }
    table.end(number(&table, 0), Cause::Logout, now()).unwrap();
    let cursor = table.events_from(0).by_ref().count() as u64;
    assert_eq!(cursor, 1);
    let back = again(&table, 30_000, 2000);
    let time = at(TAKEN.steady + 30_000);
    assert_eq!(back.events_from(cursor).count(), 0, "what was reported before is not reported again");
    while back.advance(time, 10).more {}
    let mut reader = back.events_from(cursor);
    let events: Vec<_> = reader.by_ref().collect();
    assert_eq!(reader.missed(), 0);
    let expected = (1..900).filter(|key| 50_000 - 50 * key <= 30_000).count();
    assert_eq!(events.len(), expected);
    for event in &events {
        assert_eq!((event.cause, event.age), (Cause::Lifetime, ms(50_000)));
    }
    let mut keys: Vec<_> = events.iter().map(|event| event.key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), expected);
    let mut late = back.events_from(0);
    assert_eq!((late.by_ref().count(), late.missed()), (expected, cursor), "who had not read it has missed it");
}

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
            .args(["take_snapshots_until_killed", "--exact", "--nocapture"])
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

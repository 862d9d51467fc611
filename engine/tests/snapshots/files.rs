//! The file: who may read it, what it replaces, and what one that is cut, damaged or forged gives.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use curfew_engine::{
    Binding, Cause, Config, OpenError, RestoreError, Snapshot, SnapshotError, SnapshotOpenError, Table, Tick,
};

use crate::{TAKEN, later, number, place, small};

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

    // What is too short to be told, is no file, leads elsewhere, or shows nobody what it is.
    let others = ["short", "fifo", "link", "folder", "closed"].map(|name| folder.path().join(name));
    let [short, fifo, link, directory, closed] = &others;
    std::fs::write(short, "hunter2").unwrap();
    nix::unistd::mkfifo(fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    symlink("nowhere", link).unwrap();
    std::fs::create_dir(directory).unwrap();
    std::fs::write(closed, "a password file").unwrap();
    std::fs::set_permissions(closed, std::fs::Permissions::from_mode(0o200)).unwrap();
    for other in &others {
        let before = other.symlink_metadata().unwrap();
        let refused = table.snapshot(other, &TAKEN).unwrap_err();
        assert!(matches!(refused, SnapshotError::Foreign { .. }), "{}: {refused}", other.display());
        let after = other.symlink_metadata().unwrap();
        assert_eq!((before.ino(), before.mode(), before.len()), (after.ino(), after.mode(), after.len()));
    }

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
    assert_eq!(std::fs::read(&path).unwrap(), whole);
    assert_eq!(folder.path().read_dir().unwrap().count(), 1, "nothing unfinished is left behind");
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

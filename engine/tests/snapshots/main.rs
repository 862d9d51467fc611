//! Snapshots as files: what is in one that is taken while others work, what a damaged one does,
//! what comes back into regions of other sizes, and what a process leaves that is killed.

mod files;
mod in_use;
mod restored;

use std::path::PathBuf;

use curfew_engine::{
    Cause, Config, Event, Key, Moment, OnLimit, OnMismatch, Policy, Retain, Snapshot, Span, Start, Table, Tick,
    Verdict, What,
};

pub(crate) const TAKEN: Moment = Moment { steady: 1_000_000, wall: 1_700_000_000_000, boot: 1 };

pub(crate) fn at(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

pub(crate) fn ms(millis: u64) -> Span {
    Span::from_millis(millis)
}

pub(crate) fn later(by: u64) -> Moment {
    Moment { steady: TAKEN.steady + by, wall: TAKEN.wall + by, ..TAKEN }
}

pub(crate) fn now() -> Tick {
    at(TAKEN.steady)
}

pub(crate) fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.snapshot");
    (folder, path)
}

pub(crate) fn number(table: &Table, number: u64) -> Key {
    table.key(&number.to_le_bytes())
}

pub(crate) fn is_alive(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Active(_) | Verdict::Grace(_))
}

/// Takes a snapshot and restores it `by` milliseconds later into memory, in a region for `capacity`.
pub(crate) fn again(table: &Table, by: u64, capacity: u64) -> Table {
    let (_folder, path) = place();
    table.snapshot(&path, &TAKEN).unwrap();
    let snapshot = Snapshot::open(&path).unwrap();
    let (table, _) = snapshot.restore_private(&Config::new(capacity), &later(by)).unwrap();
    table.check().unwrap();
    table
}

pub(crate) fn ends(table: &Table) -> Vec<Event> {
    table.events().filter(|event| event.what == What::Ended).collect()
}

/// A small region with one of everything.
pub(crate) fn small() -> Table {
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

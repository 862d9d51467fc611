//! A rotation whose process dies at any of its stores: what was answered before stands, the old id has ended
//! when it was given up, and whose the session is nobody forgets.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use curfew_engine::{
    Binding, Cause, Config, Key, Moment, Policy, Retain, Snapshot, Span, Start, Table, Tick, Verdict, crash,
};

fn at(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

fn ms(millis: u64) -> Span {
    Span::from_millis(millis)
}

fn small() -> Config {
    Config { secret: Some([5; 32]), ..Config::new(64) }
}

/// The nth key of one of the two shards.
fn key_in(table: &Table, shard: u8, nth: usize) -> Key {
    let keys = (0..=255_u8).map(|id| table.key(&[id]));
    keys.filter(|key| key.to_bytes()[7] >> 7 == shard).nth(nth).unwrap()
}

/// A region in a file that is put back as it was before each death.
struct Prepared {
    folder: tempfile::TempDir,
    whole: Vec<u8>,
    old: Key,
    new: Key,
}

impl Prepared {
    fn new(from: u8, to: u8, policy: &Policy, prepare: impl FnOnce(&Table, Key)) -> Prepared {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.region");
        let table = Table::create(&path, &small()).unwrap();
        let (old, new) = (key_in(&table, from, 0), key_in(&table, to, 1));
        let policy = table.set_policy("p", policy, at(0)).unwrap();
        table.start(old, &Start::under(policy).of(table.subject(b"alice")), at(0)).unwrap();
        prepare(&table, old);
        drop(table);
        Prepared { whole: std::fs::read(&path).unwrap(), folder, old, new }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("app.region")
    }

    /// Rotates, with `before` run ahead of each store, and dies before store `die_at`. False if there are
    /// not so many.
    fn dies(&self, die_at: usize, now: Tick, mut before: impl FnMut(usize) + 'static) -> bool {
        let path = self.path();
        std::fs::write(&path, &self.whole).unwrap();
        let table = Table::open(&path).unwrap();
        let mut taken = 0;
        crash::on_step(move |_| {
            taken += 1;
            before(taken);
            if taken == die_at {
                crash::die();
            }
        });
        let outcome = catch_unwind(AssertUnwindSafe(|| table.rotate(self.old, self.new, ms(30_000), now)));
        crash::clear();
        drop(table);
        crash::revive();
        outcome.is_err()
    }
}

fn passes(table: &Table, key: Key, now: Tick) -> bool {
    table.peek(key, Binding::NONE, now).passes()
}

#[test]
fn an_old_id_does_not_begin_anew_wherever_its_rotation_was_cut_off() {
    let hour = 3_600_000;
    let prepared = Prepared::new(0, 0, &Policy::new().idle(ms(2 * hour)), |table, old| {
        for nth in 1..=72 {
            assert!(table.touch(old, Binding::NONE, at(nth * hour)).passes());
        }
    });
    let now = at(72 * hour + 1);
    let mut stores = 1;
    while prepared.dies(stores, now, |_| {}) {
        let table = Table::open(&prepared.path()).unwrap();
        let policy = table.policy_id("p").unwrap();
        let again = table.start(prepared.old, &Start::under(policy), now);
        assert!(again.is_err(), "cut off before store {stores}");
        if let Verdict::Ended(end) = table.peek(prepared.old, Binding::NONE, now) {
            assert_eq!((end.cause, end.at), (Cause::Rotated, now), "cut off before store {stores}");
        }
        stores += 1;
    }
    assert!(stores > 20);
}

#[test]
fn a_touch_that_was_answered_is_not_lost_with_the_rotation_that_it_met() {
    let policy = Policy::new().idle(ms(1000)).retain(Retain::For(Span::DAY));
    for (from, to) in [(1, 0), (0, 1), (0, 0)] {
        let prepared = Prepared::new(from, to, &policy, |_, _| {});
        for die_at in 1.. {
            let mut died = true;
            for touch_at in 1..=die_at {
                let passed = Rc::new(Cell::new(false));
                let (tells, path, old) = (passed.clone(), prepared.path(), prepared.old);
                died = prepared.dies(die_at, at(950), move |store| {
                    if store == touch_at {
                        tells.set(Table::open(&path).unwrap().touch(old, Binding::NONE, at(950)).passes());
                    }
                });
                if !died {
                    break;
                }
                assert!(passed.get());
                let table = Table::open(&prepared.path()).unwrap();
                while table.advance(at(1500), 1000).more {}
                let lives = [prepared.old, prepared.new].iter().any(|key| passes(&table, *key, at(1500)));
                assert!(lives, "from shard {from} to {to}, touched before store {touch_at}, cut off before {die_at}");
            }
            if !died {
                assert!(die_at > 20);
                break;
            }
        }
    }
}

/// Whoever of the two ids is alive in a copy after its user's sessions were ended there.
fn outlives_revocation(copy: &Table, prepared: &Prepared) -> bool {
    copy.end_subject(copy.subject(b"alice"), Cause::Revoked, at(3));
    [prepared.old, prepared.new].iter().any(|key| passes(copy, *key, at(3)))
}

#[test]
fn a_copy_of_a_region_in_which_a_rotation_was_cut_off_has_whose_the_session_is() {
    for to in [0, 1] {
        let prepared = Prepared::new(0, to, &Policy::new().idle(ms(1_000_000)), |_, _| {});
        let mut stores = 1;
        while prepared.dies(stores, at(1), |_| {}) {
            let whole = std::fs::read(prepared.path()).unwrap();
            let table = Table::open(&prepared.path()).unwrap();
            let moment = Moment { steady: 2, wall: 2, boot: 1 };
            let snapshot: Snapshot = table.snapshot_in_memory(&moment).unwrap();
            let (restored, _) = snapshot.restore_private(&small(), &moment).unwrap();
            assert!(!outlives_revocation(&restored, &prepared), "a snapshot, cut off before store {stores}");
            drop(table);

            std::fs::write(prepared.path(), whole).unwrap();
            let table = Table::open(&prepared.path()).unwrap();
            let copy = Table::private(&Config { secret: Some([5; 32]), ..Config::new(100) }).unwrap();
            table.copy_into(&copy, at(3)).unwrap();
            assert!(!outlives_revocation(&copy, &prepared), "a copy, cut off before store {stores}");
            stores += 1;
        }
        assert!(stores > 20);
    }
}

//! Locks between processes: one holder at a time, and one heir when a holder has died.

use super::*;
use crate::layout::header;
use crate::shard::field;
use crate::{Cause, End};

/// Kills the process that has `table` open, with all it holds.
fn kill(table: &Table) {
    table.region.owner.dies(table.region.words());
}

/// Catches a lock that two hold, one whose holder does not see what the one before it wrote, and
/// one that is taken from a holder who is alive.
#[test]
fn a_lock_has_one_holder_who_sees_what_the_last_one_wrote() {
    explore(6, || {
        let (table, _) = table();
        let count = |table: &Table| {
            let shard = table.region.lock_shard(0);
            shard.count(field::STARTED);
        };
        race_of_processes(&table, count, count);
        assert_eq!(table.stats().started, 2);
        assert_eq!(table.region.get(header::RECOVERIES), 0);
    });
}

/// Catches two heirs of one dead owner, and an heir that trusts what the dead left behind.
#[test]
fn of_two_that_find_the_owner_dead_one_inherits_and_puts_things_right() {
    explore(2, || {
        let (table, policy) = table();
        table.start(key(1), &Start::under(policy), at(0)).unwrap();
        // Died in the shard, with the timer half-written.
        let dead = process(&table, 2);
        std::mem::forget(dead.region.lock_shard(0));
        dead.region.set(dead.region.layout.wheel(0, 0) + 8, u64::MAX);
        dead.region.set(dead.region.layout.shard(0) + field::USED, 77);
        kill(&dead);
        let end = |table: &Table| table.end(key(1), Cause::Logout, at(1)).is_ok();
        let (one, other) = race_of_processes(&table, end, end);
        assert!(one != other);
        assert_eq!(table.region.get(header::RECOVERIES), 1);
        assert_eq!(ends(&table).len(), 1);
        table.check().unwrap();
    });
}

/// Catches an heir that does not see all that the dead wrote, an end that the dead had begun and
/// nobody finishes, and one that is reported twice.
#[test]
fn an_end_whose_process_dies_after_the_mark_is_finished_by_one_heir() {
    explore(6, || {
        let (table, policy) = table();
        let policy_kept = table.set_policy("kept", &Policy::new().idle(ms(10)), Tick::ZERO).unwrap();
        assert_ne!(policy, policy_kept);
        table.start(key(1), &Start::under(policy_kept), at(0)).unwrap();
        let dying = process(&table, 2);
        let (ended, ()) = meet(
            (table.clone(), |table: &Table| table.end(key(1), Cause::Revoked, at(2))),
            (Arc::new(dying), |table: &Table| {
                let shard = table.region.lock_shard(0);
                let (slot, view) = shard.settled(key(1), at(1)).unwrap();
                let end = End { cause: Cause::Logout, at: at(1) };
                if view.mark().is_none() {
                    table.region.mark(slot, end);
                    let event = crate::shard::Shard::event(&view, What::Ended, end);
                    table.region.emit(&event, table.region.incarnation(slot));
                }
                std::mem::forget(shard);
                kill(table);
            }),
        );
        table.advance(at(2), 10);
        // Whoever has the shard next inherits it.
        table.check().unwrap();
        let ends = ends(&table);
        assert_eq!(ends.len(), 1, "{ended:?} {ends:?}");
        assert_eq!(ends[0].cause == Cause::Revoked, ended.is_ok());
    });
}

/// Catches a lock that is lost with an heir who dies in turn.
#[test]
fn an_heir_that_dies_too_has_an_heir() {
    explore(2, || {
        let (table, policy) = table();
        table.start(key(1), &Start::under(policy), at(0)).unwrap();
        let dead = process(&table, 2);
        std::mem::forget(dead.region.lock_shard(0));
        kill(&dead);
        race_of_processes(
            &table,
            |table| table.end(key(1), Cause::Logout, at(1)).unwrap(),
            |table| {
                // Inherits, or comes after the one who did, and dies with the timer in pieces.
                let shard = table.region.lock_shard(0);
                shard.timer.clear();
                std::mem::forget(shard);
                kill(table);
            },
        );
        table.check().unwrap();
        assert_eq!(table.region.get(header::RECOVERIES), 2);
    });
}

/// Catches a rebuild that hides, for a moment, what is there.
#[test]
fn a_touch_during_a_rebuild_finds_its_session() {
    explore(4, || {
        let (table, policy) = table();
        table.start(key(1), &Start::under(policy), at(0)).unwrap();
        let dead = process(&table, 2);
        std::mem::forget(dead.region.lock_shard(0));
        kill(&dead);
        let ((), verdict) = race_of_processes(
            &table,
            |table| drop(table.region.lock_shard(0)),
            |table| table.touch(key(1), Binding::NONE, at(1)),
        );
        assert!(is_active(verdict), "{verdict:?}");
        table.check().unwrap();
    });
}

/// The same on the lock alone, where every interleaving can be looked at.
#[test]
fn of_two_that_find_the_owner_dead_one_inherits() {
    explore(6, || {
        let (table, _) = table();
        let dead = process(&table, 2);
        std::mem::forget(dead.region.lock(header::RING_LOCK));
        kill(&dead);
        let lock = |table: &Table| table.region.lock(header::RING_LOCK).inherited;
        let (one, other) = race_of_processes(&table, lock, lock);
        assert!(one != other);
    });
}

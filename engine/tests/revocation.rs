//! Revoking all sessions of a user leaves none, wherever a rotation of one of them was cut off.

use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use curfew_engine::{
    Binding, Cause, Config, Key, OnLimit, Policy, Span, Start, StartError, Table, Tick, Verdict, crash,
};

fn at(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

fn write_private(path: &Path, bytes: &[u8]) {
    let _ = std::fs::remove_file(path);
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
}

/// Rotates from a process that dies before the store of this number; says whether it got there.
fn dies_rotating(path: &Path, from: Key, to: Key, die_at: usize) -> bool {
    let table = Table::open(path).unwrap();
    let mut taken = 0;
    crash::on_step(move |_| {
        taken += 1;
        if taken == die_at {
            crash::die();
        }
    });
    let outcome = catch_unwind(AssertUnwindSafe(|| _ = table.rotate(from, to, Span::from_millis(50), at(1))));
    crash::clear();
    drop(table);
    crash::revive();
    outcome.is_err()
}

/// Calls `then` after each death of each rotation to an id in either shard.
fn after_each_death(max_per_subject: u32, then: impl Fn(&Table, [Key; 2], &str)) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("region");
    let table = Table::create(&path, &Config { secret: Some([5; 32]), ..Config::new(64) }).unwrap();
    let policy = Policy::new().idle(Span::from_millis(1000)).max_per_subject(max_per_subject, OnLimit::Deny);
    let policy = table.set_policy("p", &policy, Tick::ZERO).unwrap();
    let old = table.key(b"old");
    table.start(old, &Start::under(policy).of(table.subject(b"alice")), at(0)).unwrap();
    let ids: Vec<_> = (0..8).map(|number| table.key(format!("new{number}").as_bytes())).collect();
    drop(table);
    let whole = std::fs::read(&path).unwrap();
    for new in ids {
        let mut die_at = 1;
        loop {
            write_private(&path, &whole);
            if !dies_rotating(&path, old, new, die_at) {
                break;
            }
            then(&Table::open(&path).unwrap(), [old, new], &format!("before store {die_at} of a rotation to {new}"));
            die_at += 1;
        }
        assert!(die_at > 20);
    }
}

#[test]
fn no_session_of_a_user_is_left_wherever_its_rotation_was_cut_off() {
    after_each_death(0, |table, keys, when| {
        table.end_subject(table.subject(b"alice"), Cause::Revoked, at(2));
        for key in keys {
            let verdict = table.peek(key, Binding::NONE, at(3));
            assert!(!matches!(verdict, Verdict::Active(_)), "{when}: {key} is {verdict:?}");
        }
        table.check().unwrap();
    });
}

#[test]
fn a_user_has_no_session_too_many_wherever_a_rotation_was_cut_off() {
    after_each_death(1, |table, _, when| {
        let policy = table.policy_id("p").unwrap();
        let another = table.key(b"another");
        let outcome = table.start(another, &Start::under(policy).of(table.subject(b"alice")), at(2));
        assert_eq!(outcome, Err(StartError::Limited), "{when}");
    });
}

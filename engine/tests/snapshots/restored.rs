//! What comes back.

use curfew_engine::{
    Binding, Cause, Config, CreateError, Mismatch, OnFull, Policy, PolicyId, RestoreError, Retain, Snapshot, Span,
    Start, StartError, Table, Verdict,
};

use crate::{TAKEN, again, at, ends, is_alive, later, ms, now, number, place, small};

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

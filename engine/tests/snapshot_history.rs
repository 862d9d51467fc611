//! Snapshots against the table that they were taken of: after any history and any downtime the
//! restored table answers every question as the first one does at the same tick, goes on answering
//! alike whatever is done to both, and reports the same ends.

use curfew_engine::{
    Binding, Cause, Config, Event, Filter, GraceMode, Key, Moment, OnFull, OnMismatch, Policy, PolicyId, Retain,
    SessionInfo, Snapshot, Span, Start, State, Subject, Table, Tick, What,
};
use proptest::prelude::*;

const KEYS: u8 = 12;
const POLICIES: usize = 3;

#[derive(Clone, Debug)]
enum Op {
    Forward(u64),
    Back(u64),
    Start { key: u8, policy: usize, subject: u8, binding: u8, token: u64 },
    Touch { key: u8, binding: u8 },
    Reauthenticate { key: u8, token: Option<u64> },
    Rotate { old: u8, new: u8, overlap: u64 },
    End { key: u8 },
    EndSubject { subject: u8 },
    EndIdle { idle_for: u64 },
    SetPolicy { which: usize, policy: Policy },
    Advance { budget: usize },
    Repair,
}

fn spans() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1..4_u64, 5..80_u64, Just(4096), 60_000..70_000_u64, Just(40_000_000_000)]
}

fn policies() -> impl Strategy<Value = Policy> {
    let limits = (spans(), spans(), spans(), any::<bool>()).prop_filter("some limit", |(i, l, _, _)| i + l > 0);
    let rest = (0..3_u8, 0..4_u32, prop::option::of(spans()), any::<bool>());
    (limits, rest).prop_map(|((idle, lifetime, grace, resume), (mismatch, most, retain, evict))| Policy {
        idle: Span::from_millis(idle),
        lifetime: Span::from_millis(lifetime),
        grace: Span::from_millis(grace),
        grace_mode: if resume { GraceMode::Resume } else { GraceMode::Reauth },
        on_mismatch: [OnMismatch::Deny, OnMismatch::End, OnMismatch::Log][usize::from(mismatch)],
        // Which of several sessions that are alike goes first is a table's own choice.
        max_per_subject: most,
        retain: retain.map_or(Retain::UntilHardLimit, |span| Retain::For(Span::from_millis(span))),
        on_full: if evict { OnFull::EvictEnded } else { OnFull::Refuse },
        ..Policy::new()
    })
}

fn ops(back: bool) -> impl Strategy<Value = Op> {
    let key = 0..KEYS;
    prop_oneof![
        6 => spans().prop_map(Op::Forward),
        1 => (0..90_u64).prop_map(move |by| if back { Op::Back(by) } else { Op::Forward(by) }),
        8 => (key.clone(), 0..POLICIES, 0..3_u8, 0..3_u8, spans()).prop_map(|(key, policy, subject, binding, token)|
            Op::Start { key, policy, subject, binding, token }),
        6 => (key.clone(), 0..3_u8).prop_map(|(key, binding)| Op::Touch { key, binding }),
        2 => (key.clone(), prop::option::of(spans())).prop_map(|(key, token)| Op::Reauthenticate { key, token }),
        3 => (key.clone(), key.clone(), spans()).prop_map(|(old, new, overlap)| Op::Rotate { old, new, overlap }),
        1 => key.clone().prop_map(|key| Op::End { key }),
        1 => (1..3_u8).prop_map(|subject| Op::EndSubject { subject }),
        1 => spans().prop_map(|idle_for| Op::EndIdle { idle_for }),
        2 => (0..POLICIES, policies()).prop_map(|(which, policy)| Op::SetPolicy { which, policy }),
        2 => prop_oneof![Just(0_usize), 1..5_usize, Just(100_000)].prop_map(|budget| Op::Advance { budget }),
        1 => Just(Op::Repair),
    ]
}

fn key(table: &Table, key: u8) -> Key {
    table.key(&[key])
}

fn subject(table: &Table, subject: u8) -> Subject {
    if subject == 0 { Subject::NONE } else { table.subject(&[subject]) }
}

fn binding(table: &Table, binding: u8) -> Binding {
    if binding == 0 { Binding::NONE } else { table.binding(&[binding]) }
}

/// Does one thing to a table, and says all that it answered.
fn apply(table: &Table, op: &Op, now: &mut Tick) -> String {
    let time = *now;
    match *op {
        Op::Forward(by) => {
            *now = time.after(Span::from_millis(by));
            String::new()
        }
        Op::Back(by) => {
            *now = Tick::from_millis(time.as_millis().saturating_sub(by));
            String::new()
        }
        Op::Start { key: which, policy, subject: whose, binding: bound, token } => {
            let token = if token == 0 { Tick::NEVER } else { time.after(Span::from_millis(token)) };
            let start = Start::under(PolicyId::from_number(policy as u8)).of(subject(table, whose)).until(token);
            format!("{:?}", table.start(key(table, which), &start.bound_to(binding(table, bound)), time))
        }
        Op::Touch { key: which, binding: bound } => {
            format!("{:?}", table.touch(key(table, which), binding(table, bound), time))
        }
        Op::Reauthenticate { key: which, token } => {
            let token = token.map(|span| time.after(Span::from_millis(span)));
            format!("{:?}", table.reauthenticate(key(table, which), token, time))
        }
        Op::Rotate { old, new, overlap } => {
            format!("{:?}", table.rotate(key(table, old), key(table, new), Span::from_millis(overlap), time))
        }
        Op::End { key: which } => format!("{:?}", table.end(key(table, which), Cause::Logout, time)),
        Op::EndSubject { subject: whose } => {
            let whose = subject(table, whose);
            let listed = table.sessions_of(whose, time).len();
            format!("{listed} {}", table.end_subject(whose, Cause::Revoked, time))
        }
        Op::EndIdle { idle_for } => {
            let since = Tick::from_millis(time.as_millis().saturating_sub(idle_for));
            let filter = Filter { idle_since: Some(since), ..Filter::default() };
            format!("{}", table.end_all(&filter, Cause::Revoked, time))
        }
        Op::SetPolicy { which, policy } => format!("{:?}", table.set_policy(&format!("p{which}"), &policy, time)),
        Op::Advance { budget } => {
            let _ = table.advance(time, budget);
            String::new()
        }
        Op::Repair => {
            table.repair();
            String::new()
        }
    }
}

fn answers(table: &Table, now: Tick) -> Vec<String> {
    let mut all = Vec::new();
    for which in 0..KEYS {
        for bound in 0..3 {
            all.push(format!("{which}: {:?}", table.peek(key(table, which), binding(table, bound), now)));
        }
    }
    let mut listed: Vec<_> = table.sessions(now).collect();
    listed.sort_by_key(|session| session.key);
    // An alias has no life of its own, so when its session began is not kept; and the token of a
    // session that is over is there until an advance has come by.
    all.extend(listed.iter().map(|session| match (session.state, session.rotated) {
        (_, true) => format!("{:?} {:?} {:?}", session.key, session.state, session.end),
        (State::Ended(_), _) => format!("{:?}", SessionInfo { token: Tick::NEVER, bound: false, ..*session }),
        _ => format!("{session:?}"),
    }));
    for whose in 1..3 {
        all.push(format!("{}", table.sessions_of(subject(table, whose), now).len()));
    }
    all.extend(table.policies().map(|policy| format!("{policy:?}")));
    all
}

fn compare(first: &Table, second: &Table, now: Tick, after: &dyn std::fmt::Debug) {
    let (first, second) = (answers(first, now), answers(second, now));
    if let Some((first, second)) = first.iter().zip(&second).find(|(first, second)| first != second) {
        panic!("after {after:?} the first says {first}\nand the second {second}");
    }
    assert_eq!(first.len(), second.len(), "after {after:?}");
}

fn ends(table: &Table, from: u64) -> Vec<Event> {
    let mut reader = table.events_from(from);
    let mut ends: Vec<_> = reader.by_ref().filter(|event| event.what == What::Ended).collect();
    assert_eq!(reader.missed(), 0);
    ends.sort_by_key(|event| (event.at, event.key, event.cause, event.age, event.idle));
    ends
}

fn catch_up(table: &Table, now: Tick) {
    while table.advance(now, 1000).more {}
}

fn run(rules: &[Policy], before: &[Op], downtime: u64, reboots: bool, capacity: u64, after: &[Op]) {
    let first = Table::private(&Config { events: 1 << 12, secret: Some([7; 32]), ..Config::new(100) }).unwrap();
    let mut now = Tick::from_millis(1_000_000);
    for (number, policy) in rules.iter().enumerate() {
        first.set_policy(&format!("p{number}"), policy, now).unwrap();
    }
    for op in before {
        apply(&first, op, &mut now);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot");
    let taken = Moment { steady: now.as_millis(), wall: 1_700_000_000_000, boot: 1 };
    let written = first.snapshot(&path, &taken).unwrap();
    let entries = first.sessions(Tick::ZERO).count() as u64;
    assert!(written.live + written.ended >= entries && written.damaged == 0, "{written:?}");

    let moment = match reboots {
        false => Moment { steady: taken.steady + downtime, ..taken },
        true => Moment { steady: downtime / 3, wall: taken.wall + downtime, boot: 2 },
    };
    let snapshot = Snapshot::open(&path).unwrap();
    let (second, restored) = snapshot.restore_private(&Config { capacity, ..snapshot.config() }, &moment).unwrap();
    second.check().unwrap();
    assert_eq!(restored.downtime, Span::from_millis(downtime));
    assert!(restored.now >= now.after(restored.downtime).min(Tick::LAST));
    assert_eq!(second.tick_at(moment.steady), restored.now);

    let cursor = first.new_events().cursor();
    assert!(second.new_events().cursor() >= cursor);
    now = restored.now;
    compare(&first, &second, now, &"restoring");
    for op in after {
        if let Op::SetPolicy { .. } = op {
            // Whether a policy can change again depends on how far its last change has got.
            catch_up(&first, now);
            catch_up(&second, now);
        }
        let mut time = now;
        assert_eq!(apply(&second, op, &mut time), apply(&first, op, &mut now), "{op:?} at {time:?}");
        if capacity < 1000 {
            second.check().unwrap();
        }
        compare(&first, &second, now, op);
    }
    catch_up(&first, Tick::LAST);
    catch_up(&second, Tick::LAST);
    second.check().unwrap();
    assert_eq!(ends(&second, cursor), ends(&first, cursor));
    assert_eq!((second.stats().live, first.stats().live), (0, 0));
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(600)
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(config(cases()))]

    #[test]
    fn a_restored_table_answers_as_the_first_one_does_at_the_same_tick(
        rules in prop::collection::vec(policies(), POLICIES),
        before in prop::collection::vec(ops(true), 1..50),
        downtime in spans(),
        reboots in any::<bool>(),
        capacity in prop_oneof![Just(u64::from(KEYS)), Just(100), Just(999)],
        after in prop::collection::vec(ops(false), 0..25),
    ) {
        run(&rules, &before, downtime, reboots, capacity, &after);
    }
}

proptest! {
    // Looking through so large a region takes its time.
    #![proptest_config(config(cases() / 50 + 1))]

    #[test]
    fn it_does_so_in_a_region_of_more_shards(
        rules in prop::collection::vec(policies(), POLICIES),
        before in prop::collection::vec(ops(true), 1..50),
        downtime in spans(),
        after in prop::collection::vec(ops(false), 0..25),
    ) {
        run(&rules, &before, downtime, true, 600_000, &after);
    }
}

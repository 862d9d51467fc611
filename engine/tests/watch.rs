//! What is open of a session lasts as long as the session, whatever its id is called meanwhile.

use curfew_engine::{
    Binding, Cause, Changed, Config, Key, Policy, PolicyId, Retain, Span, Start, Subject, Table, Tick, Verdict, Watch,
    What,
};
use proptest::prelude::*;

const EVENTS: u64 = 64;

fn at(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

fn ms(millis: u64) -> Span {
    Span::from_millis(millis)
}

fn table(policy: &Policy) -> (Table, PolicyId) {
    let table = Table::private(&Config { secret: Some([3; 32]), events: EVENTS, ..Config::new(1000) }).unwrap();
    let id = table.set_policy("p", policy, Tick::ZERO).unwrap();
    (table, id)
}

fn key(table: &Table, number: usize) -> Key {
    table.key(&number.to_le_bytes())
}

fn is_alive(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Active(_) | Verdict::Grace(_))
}

#[test]
fn every_way_to_end_moves_the_number_of_changes() {
    let (table, policy) = table(&Policy::new().idle(ms(1000)).max_per_subject(1, curfew_engine::OnLimit::EndOldest));
    let alice = table.subject(b"alice");
    let mut seen = table.changes();
    let mut begun = 0;
    let mut begin = |subject: Subject| {
        begun += 1;
        let key = key(&table, begun);
        table.start(key, &Start::under(policy).of(subject), at(0)).unwrap();
        key
    };
    let mut has_changed = |what: &str| {
        let now = table.changes();
        assert_ne!(now, seen, "{what}");
        seen = now;
    };
    let one = begin(Subject::NONE);
    table.end(one, Cause::Logout, at(1)).unwrap();
    has_changed("an end");
    begin(alice);
    begin(alice);
    has_changed("a session that is displaced");
    table.end_subject(alice, Cause::Revoked, at(1));
    has_changed("the end of a subject");
    begin(Subject::NONE);
    table.end_all(&Default::default(), Cause::Revoked, at(1));
    has_changed("the end of all");
    let old = begin(Subject::NONE);
    table.rotate(old, table.key(b"new"), ms(5), at(1)).unwrap();
    has_changed("a new id");
    table.set_policy("p", &Policy::new().idle(ms(500)), at(2)).unwrap();
    has_changed("a policy");
    table.advance(at(600), 1000);
    has_changed("a deadline that an advance has come by");
    assert_eq!(table.changes(), seen, "and nothing else does");
}

#[test]
fn who_follows_what_changes_is_told_of_each_session_or_that_it_cannot_be_told() {
    let (table, policy) = table(&Policy::new().idle(ms(1000)));
    let keys: Vec<_> = (0..10).map(|number| key(&table, number)).collect();
    for key in &keys {
        table.start(*key, &Start::under(policy), at(0)).unwrap();
    }
    let mut seen = table.seen();
    assert_eq!(table.changed_since(&mut seen, 100), Changed::Nothing);
    table.touch(keys[0], Binding::NONE, at(1));
    assert_eq!(table.changed_since(&mut seen, 100), Changed::Nothing, "use is no change");
    table.end(keys[0], Cause::Logout, at(1)).unwrap();
    table.rotate(keys[1], table.key(b"new"), ms(5), at(1)).unwrap();
    assert_eq!(table.changed_since(&mut seen, 2), Changed::Sessions(vec![keys[0], keys[1]]));
    assert_eq!(table.changed_since(&mut seen, 2), Changed::Nothing);
    table.report_cut(&Watch::new(keys[0], Binding::NONE), Cause::Logout, 1, at(2));
    assert_eq!(table.changed_since(&mut seen, 2), Changed::Nothing, "who was cut had ended before");
    for key in &keys[2..5] {
        table.end(*key, Cause::Logout, at(2)).unwrap();
    }
    assert_eq!(table.changed_since(&mut seen, 2), Changed::Anything, "too many");
    assert_eq!(table.changed_since(&mut seen, 2), Changed::Nothing);
    table.end(keys[5], Cause::Logout, at(2)).unwrap();
    table.set_policy("p", &Policy::new().idle(ms(500)), at(2)).unwrap();
    assert_eq!(table.changed_since(&mut seen, 100), Changed::Anything, "all under a policy");
    for _ in 0..2 * EVENTS {
        table.report_cut(&Watch::new(keys[0], Binding::NONE), Cause::Logout, 1, at(2));
    }
    assert_eq!(table.changed_since(&mut seen, 100), Changed::Anything, "the ring went round");
    for _ in 0..EVENTS / 2 {
        table.report_cut(&Watch::new(keys[0], Binding::NONE), Cause::Logout, 1, at(2));
    }
    assert_eq!(table.changed_since(&mut seen, 1), Changed::Anything, "too many cuts to look through");
    let mut other = seen;
    let fresh = Table::private(&Config::new(1000)).unwrap();
    // Whose policies have changed as often.
    for idle in [1000, 500] {
        fresh.set_policy("p", &Policy::new().idle(ms(idle)), at(0)).unwrap();
    }
    assert_eq!(fresh.changed_since(&mut other, 100), Changed::Anything, "what was seen of another table");
}

#[test]
fn what_is_cut_is_in_an_event_with_its_bytes() {
    let (table, policy) = table(&Policy::new().idle(ms(1000)));
    let (key, alice) = (key(&table, 1), table.subject(b"alice"));
    table.start(key, &Start::under(policy).of(alice), at(10)).unwrap();
    let watch = Watch::new(key, Binding::NONE);
    table.touch(key, Binding::NONE, at(30));
    table.end(key, Cause::Revoked, at(100)).unwrap();
    table.report_cut(&watch, Cause::Revoked, u64::MAX, at(150));
    let events: Vec<_> = table.events().collect();
    assert_eq!(events.len(), 2);
    assert_eq!((events[0].what, events[0].bytes), (What::Ended, 0));
    let cut = events[1];
    assert_eq!(
        (cut.what, cut.key, cut.subject, cut.policy, cut.cause),
        (What::Cut, key, alice, policy, Cause::Revoked)
    );
    assert_eq!((cut.at, cut.age, cut.idle, cut.bytes), (at(150), ms(140), ms(120), u64::MAX));
}

#[test]
fn what_is_cut_after_its_record_was_forgotten_is_in_an_event_all_the_same() {
    let (table, policy) = table(&Policy::new().idle(ms(1000)).retain(Retain::For(Span::OFF)));
    let key = key(&table, 1);
    table.start(key, &Start::under(policy), at(10)).unwrap();
    table.end(key, Cause::Logout, at(20)).unwrap();
    table.report_cut(&Watch::new(key, Binding::NONE), Cause::Logout, 7, at(25));
    let cut = table.events().last().unwrap();
    assert_eq!((cut.what, cut.key, cut.subject, cut.bytes), (What::Cut, key, Subject::NONE, 7));
}

#[derive(Clone, Debug)]
enum Step {
    /// Under a new id; the old one answers for so long.
    Rotate(u64),
    /// By the watch, or by the id of the moment.
    Touch(bool),
    Advance,
    Wait(u64),
    End,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..60_u64).prop_map(Step::Rotate),
        3 => any::<bool>().prop_map(Step::Touch),
        3 => Just(Step::Advance),
        6 => (1..50_u64).prop_map(Step::Wait),
        1 => Just(Step::End),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The plainest reference: a session is alive until it is ended or nobody has used it for so long.
    #[test]
    fn a_watch_says_of_its_session_what_is_true(
        steps in prop::collection::vec(step(), 1..60),
        forgets in any::<bool>(),
        touches in prop::collection::vec(any::<bool>(), 1..10),
    ) {
        let mut by_touch = touches.into_iter().cycle();
        const IDLE: u64 = 100;
        let retain = if forgets { Retain::For(Span::OFF) } else { Retain::UntilHardLimit };
        let (table, policy) = table(&Policy::new().idle(ms(IDLE)).retain(retain));
        let (mut now, mut last, mut ended, mut id) = (0, 0, false, 0);
        let mut watch = Watch::new(key(&table, id), Binding::NONE);
        table.start(watch.key(), &Start::under(policy), at(now)).unwrap();
        for step in steps {
            let alive = !ended && now < last + IDLE;
            match step {
                Step::Rotate(overlap) => {
                    // What is forgotten at once can be asked about within the overlap only.
                    let overlap = overlap.max(u64::from(forgets));
                    let done = table.rotate(key(&table, id), key(&table, id + 1), ms(overlap), at(now));
                    prop_assert_eq!(done.is_ok(), alive);
                    id += usize::from(alive);
                }
                Step::Touch(watched) => {
                    let verdict = if watched {
                        table.touch_watched(&mut watch, at(now))
                    } else {
                        table.touch(key(&table, id), Binding::NONE, at(now))
                    };
                    prop_assert_eq!(is_alive(&verdict), alive, "{:?}", verdict);
                    if alive {
                        last = now;
                    }
                }
                Step::Advance => _ = table.advance(at(now), 1000),
                Step::Wait(millis) => now += millis,
                Step::End => ended |= table.end(key(&table, id), Cause::Logout, at(now)).is_ok(),
            }
            let alive = !ended && now < last + IDLE;
            // By either look, so that each is the one that has to follow.
            let looks_by_touch = by_touch.next().unwrap();
            let verdict = if looks_by_touch {
                table.touch_watched(&mut watch, at(now))
            } else {
                table.peek_watched(&mut watch, at(now))
            };
            prop_assert_eq!(is_alive(&verdict), alive, "{:?} at {}", verdict, now);
            if alive && looks_by_touch {
                last = now;
            }
            if alive {
                prop_assert_eq!(watch.key(), key(&table, id));
            }
        }
    }
}

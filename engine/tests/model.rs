//! Random operations against the model of `common/model.rs`: few keys, tiny capacities, times that
//! stand still, jump by years and step back.

#[path = "common/model.rs"]
mod model;

use curfew_engine::{Cause, GraceMode, OnFull, OnLimit, OnMismatch, Policy, Retain, Span};
use model::{KEYS, Op, POLICIES, run};
use proptest::prelude::*;

fn spans() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1..4_u64, 5..80_u64, Just(4096), 60_000..70_000_u64, Just(40_000_000_000)]
}

fn policies() -> impl Strategy<Value = Policy> {
    let limits = (spans(), spans(), spans(), any::<bool>()).prop_filter("some limit", |(i, l, _, _)| i + l > 0);
    let rest = (0..3_u8, 0..4_u32, 0..3_u8, prop::option::of(spans()), any::<bool>());
    (limits, rest).prop_map(|((idle, lifetime, grace, resume), (mismatch, most, limit, retain, evict))| Policy {
        idle: Span::from_millis(idle),
        lifetime: Span::from_millis(lifetime),
        grace: Span::from_millis(grace),
        grace_mode: if resume { GraceMode::Resume } else { GraceMode::Reauth },
        on_mismatch: [OnMismatch::Deny, OnMismatch::End, OnMismatch::Log][usize::from(mismatch)],
        max_per_subject: most,
        on_limit: [OnLimit::Deny, OnLimit::EndOldest, OnLimit::EndLeastRecent][usize::from(limit)],
        retain: retain.map_or(Retain::UntilHardLimit, |span| Retain::For(Span::from_millis(span))),
        on_full: if evict { OnFull::EvictEnded } else { OnFull::Refuse },
    })
}

fn ops(back: bool) -> impl Strategy<Value = Op> {
    let key = 0..KEYS;
    let causes = prop::sample::select(vec![Cause::Logout, Cause::Revoked, Cause::Evicted]);
    prop_oneof![
        6 => spans().prop_map(Op::Forward),
        2 => spans().prop_map(move |by| if back { Op::Back(by) } else { Op::Forward(by) }),
        8 => (key.clone(), 0..POLICIES, 0..3_u8, 0..3_u8, spans()).prop_map(|(key, policy, subject, binding, token)|
            Op::Start { key, policy, subject, binding, token }),
        6 => (key.clone(), 0..3_u8).prop_map(|(key, binding)| Op::Touch { key, binding }),
        1 => (0..3_u8).prop_map(|binding| Op::TouchAll { binding }),
        2 => (key.clone(), prop::option::of(spans())).prop_map(|(key, token)| Op::Reauthenticate { key, token }),
        2 => (key.clone(), key.clone(), spans()).prop_map(|(old, new, overlap)| Op::Rotate { old, new, overlap }),
        1 => (key.clone(), causes).prop_map(|(key, cause)| Op::End { key, cause }),
        1 => (1..3_u8).prop_map(|subject| Op::EndSubject { subject }),
        1 => (prop::option::of(0..POLICIES), prop::option::of(spans()))
            .prop_map(|(policy, idle_for)| Op::EndAll { policy, idle_for }),
        2 => (0..POLICIES, policies()).prop_map(|(which, policy)| Op::SetPolicy { which, policy }),
        3 => prop_oneof![Just(0_usize), 1..5_usize, Just(100_000)].prop_map(|budget| Op::Advance { budget }),
        1 => Just(Op::Repair),
    ]
}

/// Random histories of each kind: `PROPTEST_CASES`, or enough for an everyday run.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(3000)
}

/// Where clocks begin: the epoch, the edges of the wheel's levels, and close to the end of time.
fn origins() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just((1 << 12) - 1),
        Just((1 << 36) + 12_345),
        Just((1 << 47) - 1),
        Just((1 << 48) - 2 - 100_000),
        Just((1 << 48) - 2),
    ]
}

/// A session that was rotated twice ends by a clock that is ahead: the first id answers by way of
/// the second, whose record is still there.
#[test]
fn two_rotations_are_followed_to_the_session_when_a_clock_steps_back() {
    let idle = Span::from_millis(4096);
    let long = Span::from_millis(40_000_000_000);
    let other = Policy::new().idle(idle);
    let resumed = Policy::new().lifetime(Span::from_millis(13)).grace(long, GraceMode::Resume);
    let ops = [
        Op::Start { key: 7, policy: 1, subject: 1, binding: 1, token: 0 },
        Op::Rotate { old: 7, new: 0, overlap: long.as_millis() },
        Op::Rotate { old: 0, new: 8, overlap: 1 },
        Op::Forward(3_786_566),
        Op::Repair,
        Op::EndSubject { subject: 1 },
        Op::Back(long.as_millis()),
        Op::Touch { key: 8, binding: 0 },
    ];
    run(7, &[other, resumed, other], 68_719_489_081, &ops);
}

/// The second id is forgotten by a clock that is ahead: then the first one leads nowhere, and the session goes on.
#[test]
fn an_id_whose_successor_is_forgotten_says_nothing_of_the_session_when_a_clock_steps_back() {
    let ms = Span::from_millis;
    let other = Policy::new().idle(ms(4096));
    let kept_shortly =
        Policy { retain: Retain::For(ms(1)), ..Policy::new().idle(ms(7)).grace(ms(4096), GraceMode::Reauth) };
    let ops = [
        Op::Start { key: 5, policy: 2, subject: 1, binding: 0, token: 0 },
        Op::Rotate { old: 5, new: 9, overlap: 4096 },
        Op::Forward(40_000_000_000),
        Op::Back(40_000_000_000),
        Op::Rotate { old: 9, new: 8, overlap: 0 },
        Op::Forward(65),
        Op::Advance { budget: 100_000 },
        Op::Back(66_977),
        Op::Touch { key: 7, binding: 1 },
    ];
    run(5, &[other, other, kept_shortly], (1 << 48) - 2 - 100_000, &ops);
}

proptest! {
    #![proptest_config(ProptestConfig {
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases())
    })]

    #[test]
    fn the_table_answers_as_the_model_does_while_time_goes_forward(
        capacity in 1..8_usize,
        rules in prop::collection::vec(policies(), POLICIES),
        origin in origins(),
        ops in prop::collection::vec(ops(false), 1..60),
    ) {
        run(capacity, &rules, origin, &ops);
    }

    #[test]
    fn the_table_answers_as_the_model_does_when_clocks_step_back(
        capacity in 1..8_usize,
        rules in prop::collection::vec(policies(), POLICIES),
        origin in origins(),
        ops in prop::collection::vec(ops(true), 1..60),
    ) {
        run(capacity, &rules, origin, &ops);
    }
}

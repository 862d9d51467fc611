//! The definitions of docs/replay.md, once more, as plainly as possible: by key, with a sort and
//! no clock. What the engine says in virtual time must be the same.

use std::collections::BTreeMap;

use curfew_engine::{GraceMode, Policy, Span, Tick};
use proptest::prelude::*;

use super::court::{self, Judged};
use super::judge::Tally;
use super::order::{Event, Order};
use super::reading::{Reader, Stop};
use crate::input::{Known, Line, What};

/// A limit that is off never comes.
const NEVER: i64 = i64::MAX / 4;

fn plainly(policy: &Policy, events: &[Event]) -> Judged {
    let mut tally = Tally::default();
    let mut edges = Vec::new();
    let latest = events.iter().map(|event| event.time).max().unwrap_or(0);
    let mut by_key = BTreeMap::<u32, Vec<i64>>::new();
    for event in events {
        by_key.entry(event.key).or_default().push(event.time);
    }
    let ms = |span: Span| span.as_millis() as i64;
    let limit = |from, span| if span == Span::OFF { NEVER } else { from + ms(span) };
    let asks = policy.grace_mode == GraceMode::Reauth;
    for times in by_key.values_mut() {
        times.sort();
        let (mut begun, mut start, mut last) = (times[0], times[0], times[0]);
        tally.sessions += 1;
        for &time in times.iter().skip(1).chain([&NEVER]) {
            let (hard, soft) = (limit(start, policy.lifetime), limit(last, policy.idle));
            let end = hard.min(soft + ms(policy.grace));
            if time == NEVER || time >= end {
                edges.push((end, -1));
                edges.push((begun, 1));
                tally.active_ms += (last - begun) as u128;
                tally.exposure_ms += (end - last) as u128;
                tally.usable_ms += (if asks { end.min(soft) } else { end } - last) as u128;
                if time == NEVER {
                    tally.open_at_end += u64::from(end > latest);
                    continue;
                }
                tally.sessions += 1;
                if hard <= soft + ms(policy.grace) {
                    tally.forced_lifetime += 1;
                } else {
                    tally.forced_idle += 1;
                }
                (begun, start) = (time, time);
            } else if time >= soft {
                match policy.grace_mode {
                    GraceMode::Resume => tally.grace_resumes += 1,
                    GraceMode::Reauth => {
                        tally.grace_prompts += 1;
                        tally.usable_ms += (soft - last) as u128;
                        start = time;
                    }
                }
            }
            last = time;
        }
    }
    edges.sort();
    let (mut live, mut peak, mut peak_time) = (0, 0, None);
    for (time, step) in edges {
        live += step;
        if live > peak {
            (peak, peak_time) = (live, Some(time));
        }
    }
    tally.peak_live = peak as u64;
    Judged { tally, peak_time }
}

/// Everything between the parser and the report, as the command does it.
fn by_the_engine(policies: &[Policy], threads: usize, order: Order, events: &[Event]) -> Vec<Judged> {
    let (stopped, judged) = court::hold(policies, threads, |docket| {
        let mut reader = Reader::new(order, docket);
        for event in events {
            let key = format!("key {}", event.key);
            let what = What::Event { time_ms: event.time, key: key.as_bytes() };
            reader.line(&Line { number: 1, file: 0, what })?;
        }
        let read = reader.finish(Known { zoneless: false, packings: Vec::new() });
        assert_eq!(read.census.events, events.len() as u64);
        Ok(())
    });
    match (stopped, judged.unwrap()) {
        (Ok(()), Some(judged)) => {
            // When it was is told in the log's own time.
            judged.into_iter().map(|one| Judged { tally: Tally { peak_at: None, ..one.tally }, ..one }).collect()
        }
        (Err(Stop::OutOfOrder), None) => by_the_engine(policies, threads, Order::holding_all(), events),
        (stopped, judged) => panic!("{stopped:?} and {judged:?}"),
    }
}

prop_compose! {
    fn policies()(
        idle in 0..40_u64,
        lifetime in 0..90_u64,
        grace in 0..20_u64,
        resume: bool,
    ) -> Policy {
        let span = Span::from_millis;
        let idle = if lifetime == 0 { idle.max(1) } else { idle };
        let grace_mode = if resume { GraceMode::Resume } else { GraceMode::Reauth };
        Policy { idle: span(idle), lifetime: span(lifetime), grace: span(grace), grace_mode, ..Policy::new() }
    }
}

fn logs() -> impl Strategy<Value = Vec<Event>> {
    // Often at the same time.
    let event =
        (-300..300_i64, 1..4_i64, 0..6_u32).prop_map(|(time, step, key)| Event { time: time / step * step, key });
    // Far from 1970 in both directions, and around it.
    (
        proptest::collection::vec(event, 0..80),
        prop_oneof![Just(0), Just(-62_000_000_000_000), Just(1_700_000_000_000_i64)],
    )
        .prop_map(|(events, era)| events.into_iter().map(|event| Event { time: event.time + era, ..event }).collect())
}

proptest! {
    #[test]
    fn the_engine_in_virtual_time_says_what_the_definitions_say(
        events in logs(),
        policies in proptest::collection::vec(policies(), 1..5),
        threads in 1..4_usize,
        half in 1..50_usize,
    ) {
        let expected: Vec<Judged> = policies.iter().map(|policy| plainly(policy, &events)).collect();
        prop_assert_eq!(by_the_engine(&policies, threads, Order::with_half(half), &events), expected);
    }
}

#[test]
fn more_sessions_at_once_than_a_table_begins_with_are_no_matter() {
    let policy = Policy { idle: Span::from_millis(1000), ..Policy::new() };
    // Some have ended before the table grows, and the next ends are those after it.
    let events = |count: u32, time: i64| (0..count).map(move |key| Event { time, key });
    let events: Vec<Event> = events(3000, 0).chain(events(100_000, 5000)).collect();
    assert_eq!(by_the_engine(&[policy], 1, Order::windowed(), &events), [plainly(&policy, &events)]);
}

#[test]
fn a_recording_longer_than_time_is_an_error_and_not_a_panic() {
    let events = [Event { time: -62_000_000_000_000, key: 0 }, Event { time: 250_000_000_000_000, key: 0 }];
    let policy = Policy { idle: Span::from_millis(1000), ..Policy::new() };
    let ((), judged) = court::hold(&[policy], 1, |docket| {
        docket.hand(&events);
        docket.close();
    });
    assert!(judged.unwrap_err().to_string().contains("longer than 8"), "{:?}", Tick::LAST.as_millis());
}

#[test]
fn a_feed_that_stops_early_comes_to_no_conclusion() {
    let policy = Policy { idle: Span::from_millis(1000), ..Policy::new() };
    let ((), judged) = court::hold(&[policy, policy], 2, |docket| {
        docket.hand(&[Event { time: 0, key: 0 }]);
    });
    assert_eq!(judged.unwrap(), None);
}

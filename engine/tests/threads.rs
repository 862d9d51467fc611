//! Several threads on one table for seconds: nothing is lost, nothing comes back, every end is
//! reported once, and afterwards every invariant holds.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use curfew_engine::{
    Binding, Cause, Config, GraceMode, Key, OnFull, OnLimit, Policy, Retain, Span, Start, StartError, Table, Tick,
    Verdict, What,
};

fn seconds() -> Duration {
    Duration::from_secs(std::env::var("CURFEW_THREAD_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(3))
}

/// A small generator of the test's own: what matters is that every thread differs.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn at(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

#[test]
fn threads_that_do_everything_at_once_leave_every_invariant_true_and_every_end_in_one_event() {
    const KEYS: u64 = 400;
    let table = Table::private(&Config { events: 1 << 22, ..Config::new(300) }).unwrap();
    let policies = [
        Policy::new().idle(Span::from_millis(40)).lifetime(Span::from_millis(900)).retain(Retain::For(Span::OFF)),
        Policy { on_full: OnFull::EvictEnded, ..Policy::new().idle(Span::from_millis(25)) }
            .grace(Span::from_millis(10), GraceMode::Resume)
            .max_per_subject(6, OnLimit::EndOldest)
            .retain(Retain::For(Span::from_millis(70))),
        Policy::new().lifetime(Span::from_millis(60)).max_per_subject(9, OnLimit::EndLeastRecent),
    ];
    let ids: Vec<_> = policies
        .iter()
        .enumerate()
        .map(|(number, policy)| table.set_policy(&number.to_string(), policy, Tick::ZERO).unwrap())
        .collect();
    let clock = AtomicU64::new(1);
    let stop = AtomicBool::new(false);
    let started = AtomicU64::new(0);
    let known: HashSet<Key> = (0..KEYS).map(|key| table.key(&key.to_le_bytes())).collect();
    std::thread::scope(|scope| {
        let mut working = Vec::new();
        for thread in 0..6_u64 {
            let (table, clock, stop, started, ids, policies) = (&table, &clock, &stop, &started, &ids, &policies);
            let known = &known;
            working.push(scope.spawn(move || {
                let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (thread + 1) << 17);
                while !stop.load(Ordering::Relaxed) {
                    // Each thread's clock lags by its own few milliseconds.
                    let now = at(clock.fetch_add(random.below(40) / 39, Ordering::Relaxed).saturating_sub(thread * 2));
                    let key = table.key(&random.below(KEYS).to_le_bytes());
                    let subject = table.subject(&random.below(20).to_le_bytes());
                    match random.below(40) {
                        0..14 => {
                            let _ = table.touch(key, Binding::NONE, now);
                        }
                        14..26 => {
                            let policy = ids[random.below(3) as usize];
                            match table.start(key, &Start::under(policy).of(subject), now) {
                                Ok(_) => {
                                    let _ = started.fetch_add(1, Ordering::Relaxed);
                                }
                                Err(StartError::UnknownPolicy) => panic!("the policy is there"),
                                Err(_) => {}
                            }
                        }
                        26..29 => {
                            let _ = table.end(key, Cause::Logout, now);
                        }
                        29 => {
                            let _ = table.end_subject(subject, Cause::Revoked, now);
                        }
                        30..33 => {
                            let _ = table.reauthenticate(key, None, now);
                        }
                        33..35 => {
                            let new = table.key(&random.below(KEYS).to_le_bytes());
                            let _ = table.rotate(key, new, Span::from_millis(random.below(20)), now);
                        }
                        35 if random.below(50) == 0 => {
                            let which = random.below(3) as usize;
                            let idle = Span::from_millis(20 + random.below(40));
                            let _ = table.set_policy(&which.to_string(), &Policy { idle, ..policies[which] }, now);
                        }
                        36 if random.below(200) == 0 => table.check().unwrap(),
                        37 if random.below(400) == 0 => table.repair(),
                        38 if random.below(50) == 0 => {
                            // More than there is room for may be counted: one goes where the look has been, and
                            // another comes where it has not.
                            assert!(table.sessions(now).all(|session| known.contains(&session.key)));
                        }
                        _ => {
                            let _ = table.advance(now, 50);
                        }
                    }
                }
            }));
        }
        std::thread::sleep(seconds());
        stop.store(true, Ordering::Relaxed);
        // ThreadSanitizer does not see how a scope waits for its threads, but sees this.
        working.into_iter().for_each(|thread| thread.join().unwrap());
    });
    table.check().unwrap();
    while table.advance(Tick::LAST, 1000).more {}
    table.check().unwrap();
    let stats = table.stats();
    let mut reader = table.events();
    let mut ends: HashMap<(Key, Tick, Cause), u64> = HashMap::new();
    let mut ended = 0;
    for event in reader.by_ref().filter(|event| event.what == What::Ended) {
        *ends.entry((event.key, event.at, event.cause)).or_default() += 1;
        ended += 1;
    }
    println!("{} started, {ended} ended, {} rotated", stats.started, stats.rotated);
    assert_eq!(reader.missed(), 0, "make the ring larger, or the test shorter");
    assert_eq!(stats.started, started.load(Ordering::Relaxed));
    assert_eq!(stats.live, 0);
    assert_eq!(ended, stats.started, "every session that began has ended in one event");
    assert_eq!(stats.ended_in_all(), ended);
}

#[test]
fn a_session_that_was_ended_is_ended_for_every_touch_that_begins_after() {
    let table = Table::private(&Config::new(1000)).unwrap();
    let policy = table.set_policy("p", &Policy::new().idle(Span::from_mins(15)), Tick::ZERO).unwrap();
    let until = Instant::now() + seconds() / 3;
    let mut round = 0_u64;
    while Instant::now() < until {
        round += 1;
        let key = table.key(&round.to_le_bytes());
        let now = at(round);
        table.start(key, &Start::under(policy), now).unwrap();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let touch = || {
                scope.spawn(|| {
                    let mut was_ended = false;
                    for _ in 0..300 {
                        let surely = ended.load(Ordering::Acquire);
                        let answer = table.touch(key, Binding::NONE, now);
                        let is_ended = matches!(answer, Verdict::Ended(_));
                        assert!(is_ended || !(surely || was_ended), "{answer:?}");
                        was_ended = is_ended;
                    }
                })
            };
            let touching = [touch(), touch()];
            table.end(key, Cause::Logout, now).unwrap();
            ended.store(true, Ordering::Release);
            touching.into_iter().for_each(|thread| thread.join().unwrap());
        });
        if round.is_multiple_of(500) {
            while table.advance(at(round).after(Span::DAY), 1000).more {}
        }
    }
}

#[test]
fn a_touch_that_was_answered_with_active_is_never_ignored_by_an_advance() {
    const IDLE: u64 = 10;
    let table = Table::private(&Config::new(100)).unwrap();
    let policy = Policy::new().idle(Span::from_millis(IDLE)).retain(Retain::For(Span::OFF));
    let policy = table.set_policy("p", &policy, Tick::ZERO).unwrap();
    let until = Instant::now() + seconds() / 3;
    let (mut kept, mut lost) = (0, 0);
    let both = std::sync::Barrier::new(2);
    for round in 0_u64.. {
        if Instant::now() >= until {
            break;
        }
        let key = table.key(&round.to_le_bytes());
        let begin = at(round * 1000);
        table.start(key, &Start::under(policy), begin).unwrap();
        // At one moment one clock says that the session is over, and another that it is not.
        let last_chance = begin.after(Span::from_millis(IDLE - 1));
        let over = begin.after(Span::from_millis(IDLE));
        let answer = std::thread::scope(|scope| {
            let touch = scope.spawn(|| {
                both.wait();
                table.touch(key, Binding::NONE, last_chance)
            });
            both.wait();
            // Locking and looking for what is due takes longer than a touch: now and then wait too little.
            for _ in 0..round % 64 {
                std::hint::spin_loop();
            }
            table.advance(over, 10);
            touch.join().unwrap()
        });
        let after = table.peek(key, Binding::NONE, over);
        match answer {
            Verdict::Active(_) => {
                assert!(matches!(after, Verdict::Active(_)), "round {round}: touched, and then {after:?}");
                kept += 1;
            }
            _ => {
                assert!(matches!(after, Verdict::Unknown | Verdict::Ended(_)), "round {round}: {answer:?}, {after:?}");
                lost += 1;
            }
        }
        while table.advance(at(round * 1000 + 900), 10).more {}
    }
    println!("the touch came first {kept} times, the advance {lost} times");
}

//! Every verb of a table in an order that chance decides, for tables that somebody has damaged.

use curfew_engine::{
    Batched, Binding, Cause, Config, Filter, GraceMode, Key, OnFull, OnLimit, OnMismatch, Policy, PolicyId, Retain,
    Span, Start, Stats, Subject, Table, Tick,
};

/// Calls of advance after which there must be nothing more to do.
const ADVANCES: usize = 10_000;

/// Where decisions come from: a seed, or the bytes of a fuzzer.
pub trait Chance {
    /// One of `0..bound`.
    fn below(&mut self, bound: u64) -> u64;

    /// Words as damage makes them: a bit, small numbers, all ones, a sum of what looks like a lock.
    fn word(&mut self, old: u64) -> u64 {
        match self.below(8) {
            0..3 => old ^ 1 << self.below(64),
            3 => 0,
            4 => u64::MAX >> self.below(64),
            5 => old.wrapping_add(1 << self.below(64)),
            6 => self.below(128) << (self.below(4) * 16),
            _ => self.below(1 << 32) << 32 | self.below(1 << 32),
        }
    }
}

/// A seed.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

impl Chance for Random {
    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }
}

pub fn at(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

pub fn policies() -> [Policy; 3] {
    [
        Policy::new().idle(Span::from_millis(400)).lifetime(Span::from_millis(9000)),
        Policy { on_mismatch: OnMismatch::End, on_full: OnFull::EvictEnded, ..Policy::new() }
            .idle(Span::from_millis(250))
            .grace(Span::from_millis(100), GraceMode::Resume)
            .max_per_subject(5, OnLimit::EndOldest)
            .retain(Retain::For(Span::from_millis(700))),
        Policy::new()
            .lifetime(Span::from_millis(600))
            .max_per_subject(7, OnLimit::EndLeastRecent)
            .retain(Retain::For(Span::OFF)),
    ]
}

pub fn key(table: &Table, number: u64) -> Key {
    table.key(&number.to_le_bytes())
}

pub fn subject(table: &Table, number: u64) -> Subject {
    if number == 0 { Subject::NONE } else { table.subject(&number.to_le_bytes()) }
}

/// One random call; every verb has its turn.
pub fn call(table: &Table, random: &mut impl Chance, now: Tick, keys: u64) {
    let (one, other) = (key(table, random.below(keys)), key(table, random.below(keys)));
    let who = subject(table, random.below(6));
    let binding = if random.below(4) == 0 { table.binding(b"bound") } else { Binding::NONE };
    let policy = PolicyId::from_number(random.below(4) as u8);
    match random.below(24) {
        0..8 => {
            let start = Start::under(policy).of(who).bound_to(binding);
            let token =
                if random.below(3) == 0 { now.after(Span::from_millis(random.below(900))) } else { Tick::NEVER };
            let _ = table.start(one, &start.until(token), now);
        }
        8..11 => drop(table.touch(one, binding, now)),
        11 => drop(table.peek(one, binding, now)),
        12 => {
            let mut batch: Vec<_> = (0..keys).map(|number| Batched::new(key(table, number), binding)).collect();
            table.touch_many(&mut batch, now);
            for number in table.ahead(0..keys, |number| key(table, *number)) {
                let _ = table.peek(key(table, number), binding, now);
            }
        }
        13..15 => drop(table.end(one, Cause::Logout, now)),
        15 => drop(table.end_subject(who, Cause::Revoked, now)),
        16 if random.below(6) == 0 => {
            let filter = Filter { policy: Some(policy), idle_since: Some(now), ..Filter::default() };
            table.end_all(&filter, Cause::Revoked, now);
        }
        17..19 => drop(table.rotate(one, other, Span::from_millis(random.below(90)), now)),
        19 => drop(table.reauthenticate(one, (random.below(2) == 0).then(|| now.after(Span::from_millis(300))), now)),
        20 if random.below(4) == 0 => {
            let which = random.below(3) as usize;
            let idle = Span::from_millis(100 + random.below(500));
            let _ = table.set_policy(["a", "b", "c"][which], &Policy { idle, ..policies()[which] }, now);
        }
        21 => {
            let _ = table.session(other, now);
            drop(table.sessions_of(who, now));
        }
        _ => drop(table.advance(now, random.below(200) as usize)),
    }
}

/// Gives a new table policies and a history; says at what time it ended.
pub fn use_it(table: &Table, random: &mut impl Chance, keys: u64, calls: u64) -> u64 {
    let mut now = 5_000 + random.below(100_000);
    for (name, policy) in ["a", "b", "c"].into_iter().zip(policies()) {
        table.set_policy(name, &policy, at(now)).unwrap();
    }
    for _ in 0..calls {
        now += random.below(8);
        call(table, random, at(now), keys);
    }
    now
}

/// Every verb at least once, then what is due to the end; false when it comes to no end.
pub fn every_verb<C: Chance>(
    table: &Table,
    random: &mut C,
    mut now: u64,
    keys: u64,
    mut between: impl FnMut(&mut C),
) -> bool {
    for _ in 0..120 {
        now += random.below(30);
        call(table, random, at(now), keys);
        between(random);
    }
    let start = table.sessions(at(now)).count();
    let mut cursor = Some(0);
    let mut paged = 0;
    while let Some(from) = cursor {
        let (page, next) = table.page(from, 7, at(now));
        paged += page.len();
        cursor = next;
    }
    let _ = (start, paged, table.events().count(), table.events_from(u64::MAX).count(), table.new_events().count());
    let stats: Stats = table.stats();
    let _ = (stats, stats.ended_in_all(), table.policies().count(), table.policy_id("b"), table.next_due());
    let _ = table.check();
    table.end_all(&Filter { started_before: Some(at(now / 2)), ..Filter::default() }, Cause::Revoked, at(now));
    for (name, policy) in ["a", "d"].into_iter().zip(policies()) {
        let _ = table.set_policy(name, &policy.idle(Span::from_millis(77)), at(now));
    }
    if let Ok(larger) = Table::private(&Config { secret: Some([9; 32]), ..Config::new(1000) }) {
        let _ = table.copy_into(&larger, at(now));
    }
    now += 20_000;
    (0..ADVANCES).any(|_| !table.advance(at(now), 1000).more)
}

/// Repairs, ends everything, and starts anew; hands every thing that is still wrong then to `unmended`.
pub fn repair_and_end(table: &Table, now: u64, mut unmended: impl FnMut(String)) {
    table.repair();
    if let Err(damage) = table.check() {
        unmended(format!("check: {}", damage.what));
    }
    // Longer than any undamaged limit.
    let later = at(now + 10_000_000_000);
    if !(0..ADVANCES).any(|_| !table.advance(later, 1000).more) {
        unmended("advance comes to no end".into());
    }
    table.end_all(&Filter::default(), Cause::Revoked, later);
    let much_later = later.after(Span::from_millis(1 << 40));
    let _ = (0..ADVANCES).any(|_| !table.advance(much_later, 1000).more);
    let stats = table.stats();
    if (stats.used, stats.live) != (0, 0) {
        unmended("records that no deadline and no end_all gets rid of".into());
    }
    let fresh = Policy::new().idle(Span::from_millis(5)).retain(Retain::For(Span::OFF));
    let Ok(policy) = table.set_policy("fresh", &fresh, much_later) else {
        unmended("a new policy is refused".into());
        return;
    };
    let one = key(table, 1 << 40);
    if let Err(error) = table.start(one, &Start::under(policy).of(table.subject(b"new")), much_later) {
        unmended(format!("a new session is refused: {error}"));
        return;
    }
    let end = much_later.after(Span::from_millis(10));
    let _ = (0..ADVANCES).any(|_| !table.advance(end, 1000).more);
    if table.stats().used > stats.used {
        unmended("a session that starts afterwards is not reclaimed when it is over".into());
    }
}

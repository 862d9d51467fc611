//! Curfew, and the limit.

use curfew_bench::Result;
use curfew_bench::limit::Limit;
use curfew_bench::sessions::UNBOUND;
use curfew_engine::{Cause, Config, Key, Policy, PolicyId, Retain, Span, Start, Table, Tick};

use crate::contender::{Contender, IDLE, Id, LIFETIME, SHORT, Step, work};

/// How an id becomes a key of the engine.
pub(crate) trait Keyed: Id {
    fn key(self, table: &Table) -> Key;
    fn words(self) -> [u64; 2];
}

impl Keyed for u128 {
    #[inline]
    fn key(self, _: &Table) -> Key {
        Key::from_bytes(self.to_le_bytes())
    }

    #[inline]
    fn words(self) -> [u64; 2] {
        [self as u64, (self >> 64) as u64]
    }
}

impl Keyed for [u8; 32] {
    #[inline]
    fn key(self, table: &Table) -> Key {
        table.key(&self)
    }

    /// As good a digest as any, because they are random here.
    #[inline]
    fn words(self) -> [u64; 2] {
        let half = |from: usize| self[from..from + 8].iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        [half(0), half(8)]
    }
}

pub(crate) struct Curfew {
    pub(crate) table: Table,
    /// Whether it is told of steps ahead.
    ahead: bool,
    long: PolicyId,
    short: PolicyId,
}

impl Curfew {
    pub(crate) fn new(capacity: usize, huge_pages: bool) -> Result<Curfew> {
        Curfew::of(Table::private(&Config { huge_pages, ..Config::new(capacity as u64) })?)
    }

    pub(crate) fn of(table: Table) -> Result<Curfew> {
        let (long, short) = (policy(&table, IDLE)?, policy(&table, SHORT)?);
        Ok(Curfew { table, ahead: false, long, short })
    }

    pub(crate) fn ahead(self) -> Curfew {
        Curfew { ahead: true, ..self }
    }
}

fn policy(table: &Table, idle: u64) -> Result<PolicyId> {
    // Forgotten at once, as the others do.
    let policy = Policy::new().idle(Span::from_millis(idle)).lifetime(Span::from_millis(LIFETIME));
    Ok(table.set_policy(&idle.to_string(), &policy.retain(Retain::For(Span::OFF)), Tick::ZERO)?)
}

impl<K: Keyed> Contender<K> for Curfew {
    fn start(&self, key: K, idle: u64, now: u64) {
        let policy = if idle == IDLE { self.long } else { self.short };
        let _ = self.table.start(key.key(&self.table), &Start::under(policy), Tick::from_millis(now));
    }

    #[inline]
    fn touch(&self, key: K, now: u64) -> bool {
        self.table.touch(key.key(&self.table), UNBOUND, Tick::from_millis(now)).passes()
    }

    fn end(&self, key: K, now: u64) {
        let _ = self.table.end(key.key(&self.table), Cause::Logout, Tick::from_millis(now));
    }

    fn work(&self, steps: &[Step<K>], from: u64, advances: bool) -> usize {
        let steps = steps.iter().copied();
        if self.ahead {
            // An id is made a key once, before its memory can be asked for.
            let steps = steps.map(|step| step.map(|id| u128::from_le_bytes(id.key(&self.table).to_bytes())));
            work(self, self.table.ahead(steps, |step| step.key().key(&self.table)), from, advances)
        } else {
            work(self, steps, from, advances)
        }
    }

    fn advance(&self, now: u64) -> usize {
        let mut done = 0;
        loop {
            let advance = self.table.advance(Tick::from_millis(now), 256);
            done += advance.done;
            if !advance.more {
                return done;
            }
        }
    }
}

/// A start and an end cost the limit a touch.
impl<K: Keyed> Contender<K> for Limit {
    fn start(&self, key: K, _: u64, now: u64) {
        if !Limit::touch(self, key.words(), now) {
            self.insert(key.words());
        }
    }

    #[inline]
    fn touch(&self, key: K, now: u64) -> bool {
        Limit::touch(self, key.words(), now)
    }

    fn end(&self, key: K, now: u64) {
        Limit::touch(self, key.words(), now);
    }

    fn advance(&self, _: u64) -> usize {
        0
    }
}

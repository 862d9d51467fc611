//! Asking for memory ahead of time: of a batch of touches, and of steps of any kind.
//!
//! What makes a step slow is two misses of the caches, the key's group of the index and its record. Who knows
//! what comes can have both on their way while it is busy with others: the group sixteen steps before, which
//! says where the record is, and that one eight steps before.

use std::fmt;
use std::iter::{Fuse, FusedIterator};

use crate::key::{Binding, Key};
use crate::table::Table;
use crate::table::touch::Verdict;
use crate::time::Tick;

/// How many steps before it a line of the index is asked for; its record half as many.
const AHEAD: usize = 16;
/// No record has this number.
const NO_SLOT: usize = usize::MAX;

/// One session to touch in a batch, and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Batched {
    /// The session.
    pub key: Key,
    /// What was presented with it.
    pub presented: Binding,
    /// The answer.
    pub verdict: Verdict,
}

impl Batched {
    /// A touch of `key`, to be answered.
    #[must_use]
    pub fn new(key: Key, presented: Binding) -> Batched {
        Batched { key, presented, verdict: Verdict::Unknown }
    }
}

/// Items whose memory has been asked for; [`Table::ahead`] makes it.
#[must_use = "it gives back the items, and takes no step by itself"]
pub struct Ahead<'a, I: Iterator, F> {
    table: &'a Table,
    items: Fuse<I>,
    key: F,
    /// The next ones, in a ring: that of an item's number.
    known: [Option<I::Item>; AHEAD],
    /// The number of the next one.
    next: usize,
}

impl<I: Iterator, F: Fn(&I::Item) -> Key> Ahead<'_, I, F> {
    /// Takes in one more, and gives the one that came [`AHEAD`] before.
    #[inline(always)]
    fn take_in(&mut self) -> Option<I::Item> {
        let item = self.items.next();
        if let Some(item) = &item {
            self.table.prefetch_group((self.key)(item));
        }
        let known = std::mem::replace(&mut self.known[self.next % AHEAD], item);
        self.next += 1;
        if let Some(item) = &self.known[(self.next + AHEAD / 2 - 1) % AHEAD] {
            let key = (self.key)(item);
            if self.table.prefetch_record(key) == NO_SLOT {
                self.table.prefetch_vacancy(key);
            }
        }
        known
    }
}

impl<I: Iterator, F: Fn(&I::Item) -> Key> Iterator for Ahead<'_, I, F> {
    type Item = I::Item;

    #[inline(always)]
    fn next(&mut self) -> Option<I::Item> {
        self.take_in()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.items.size_hint();
        let known = self.known.iter().flatten().count();
        (least.saturating_add(known), most.and_then(|most| most.checked_add(known)))
    }
}

impl<I: Iterator, F: Fn(&I::Item) -> Key> FusedIterator for Ahead<'_, I, F> {}

impl<I: Iterator, F> fmt::Debug for Ahead<'_, I, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead").field("known", &self.known.iter().flatten().count()).finish_non_exhaustive()
    }
}

impl Table {
    /// Gives back `items` in their order, each a little later than it was taken, so that the memory of its
    /// session can be asked for meanwhile. Changes no answer, only when it comes: of a million sessions, touches
    /// that are known ahead take half as long.
    ///
    /// For who has several requests to ask about, and does not only touch; see [`Table::touch_many`] for that.
    /// Sixteen of `items` are taken before the first is given, so they should be there and not be waited for.
    /// `key` is asked twice for each: derive keys before. Those that were taken and not given when the iterator
    /// is dropped are dropped with it.
    ///
    /// ```
    /// # use curfew_engine::{Binding, Cause, Config, Key, Policy, Span, Start, Table, Tick};
    /// # let table = Table::private(&Config::new(1000))?;
    /// # let policy = table.set_policy("p", &Policy::new().idle(Span::from_mins(15)), Tick::ZERO)?;
    /// # let now = Tick::ZERO;
    /// enum Asked { Check(Key), Login(Key), Logout(Key) }
    ///
    /// let (alice, bob) = (table.key(b"alice's"), table.key(b"bob's"));
    /// let asked = [Asked::Login(alice), Asked::Login(bob), Asked::Check(alice), Asked::Logout(bob)];
    /// let key = |asked: &&Asked| match **asked {
    ///     Asked::Check(key) | Asked::Login(key) | Asked::Logout(key) => key,
    /// };
    /// for asked in table.ahead(&asked, key) {
    ///     match *asked {
    ///         Asked::Check(key) => assert!(table.touch(key, Binding::NONE, now).passes()),
    ///         Asked::Login(key) => _ = table.start(key, &Start::under(policy), now)?,
    ///         Asked::Logout(key) => table.end(key, Cause::Logout, now)?,
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ahead<I: IntoIterator, F: Fn(&I::Item) -> Key>(&self, items: I, key: F) -> Ahead<'_, I::IntoIter, F> {
        let known = [const { None }; AHEAD];
        let mut ahead = Ahead { table: self, items: items.into_iter().fuse(), key, known, next: 0 };
        for _ in 0..AHEAD {
            ahead.take_in();
        }
        ahead
    }

    /// Touches many sessions, asking for their memory ahead of time. Each is answered as
    /// [`Table::touch`] would answer it.
    pub fn touch_many(&self, batch: &mut [Batched], now: Tick) {
        let now = now.as_now();
        for first in batch.iter().take(AHEAD) {
            self.prefetch_group(first.key);
        }
        // Which records were asked for, in a ring.
        let mut asked = [NO_SLOT; AHEAD / 2];
        for (first, asked) in batch.iter().zip(&mut asked) {
            *asked = self.prefetch_record(first.key);
        }
        for this in 0..batch.len() {
            if let Some(next) = batch.get(this + AHEAD) {
                self.prefetch_group(next.key);
            }
            let slot = asked[this % (AHEAD / 2)];
            if let Some(next) = batch.get(this + AHEAD / 2) {
                asked[this % (AHEAD / 2)] = self.prefetch_record(next.key);
            }
            let Batched { key, presented, .. } = batch[this];
            batch[this].verdict = match self.region.record(slot) {
                Some(line) => self.touch_at(line, key, presented, now),
                None => self.look_further(key.0[0], key.0[1], presented, now, true),
            };
        }
    }

    /// Asks for the first record that may be of a key, and says which it is; [`NO_SLOT`] if there is none.
    #[inline(always)]
    fn prefetch_record(&self, key: Key) -> usize {
        let Some(first) = self.region.home(key.0[0]).first(key.0[0]) else { return self.prefetch_beyond(key) };
        first.prefetch();
        first.slot()
    }

    /// The same of one that has found its group full.
    #[inline(never)]
    fn prefetch_beyond(&self, key: Key) -> usize {
        let region = &self.region;
        let shard = region.shard_of(key);
        let Some(position) = region.index(shard).find(region, key.0[0], Some) else { return NO_SLOT };
        let slot = shard * region.layout.slots + position;
        region.prefetch(region.layout.record(slot));
        slot
    }

    /// Asks for the record that a session of this key would get if it began now and its group has room.
    #[inline(never)]
    fn prefetch_vacancy(&self, key: Key) {
        let region = &self.region;
        let shard = region.shard_of(key);
        if let Some(position) = region.index(shard).vacancy_at_home(region, key.0[0]) {
            region.prefetch(region.layout.record(shard * region.layout.slots + position));
        }
    }

    /// Asks for the group of a key.
    #[inline(always)]
    fn prefetch_group(&self, key: Key) {
        self.region.home(key.0[0]).prefetch();
    }
}

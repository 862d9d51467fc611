//! The timer of a shard: two hierarchical timing wheels over one pool of chunks.
//!
//! Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (SOSP 1987). A wheel has eight
//! levels of 64 lists; a level's list spans 64 times what one of the level below does:
//!
//! ```text
//! level   0      1      2       3       4        5        6      7
//! list    1 ms   64 ms  4.1 s   4.4 min 4.7 h    12.4 d   2.2 y  139 y
//! ```
//!
//! Something due at `d` lies at the level of the highest 6-bit digit in which `d` differs from the
//! wheel's clock, in the list that digit names. So what lies on one level is due before anything on
//! the levels above it, and a bitmap a level finds the next list in a few steps, over gaps of any
//! length. When the clock reaches the start of a list above level 0, its entries are filed anew,
//! one level or more further down; a list of level 0 is due.
//!
//! Lists are unrolled: chunks of one cache line with 14 entries, of which only the first may be
//! partly empty. An entry is a slot of the shard (24 bits) and the number of the filing (8 bits). A
//! record that is filed elsewhere gets a new number, which makes the entry it leaves behind stale;
//! stale entries are dropped when they fire. Touches file nothing: an entry that fires too early
//! is filed again by the deadline that the record has by then.
//!
//! Stale entries are bounded. Whoever files something while more than a sixteenth of the slots have
//! gone stale looks through three chunks of the pool on the way; a round through all of them ends
//! before another sixteenth can come together, and the pool has room for an eighth.
//!
//! All of this is derived from the records, written under the shard's lock and read by nobody
//! without it. Links and counts that make no sense give [`Damaged`], and the shard is rebuilt.

use crate::layout::{CHUNK, LEVELS, LINE, LISTS, WHEELS};
use crate::region::Region;
use crate::time::Tick;

/// Chunks looked through by one filing while too many entries are stale.
pub(crate) const PURGED: usize = 3;

/// The lists do not hang together.
#[derive(Debug)]
pub(crate) struct Damaged;

/// Words of the pool, among the shard's fields.
mod pool {
    pub(super) const BUMP: usize = 8;
    pub(super) const FREE: usize = 9;
    pub(super) const STALE: usize = 10;
    pub(super) const CURSOR: usize = 11;
}

const CLOCK: usize = 0;
const BITMAPS: usize = LINE;
const HEADS: usize = LINE + LEVELS;

/// The wheel of live sessions.
pub(crate) const LIVE: usize = 0;
/// The wheel of ended records, by when they may be forgotten.
pub(crate) const KEPT: usize = 1;

/// The timer of one shard.
#[derive(Clone, Copy)]
pub(crate) struct Timer<'a> {
    pub(crate) region: &'a Region,
    pub(crate) shard: usize,
}

/// Slot and filing number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry(pub(crate) u32);

impl Entry {
    pub(crate) fn new(slot: usize, filing: u8) -> Entry {
        Entry((slot as u32) << 8 | u32::from(filing))
    }

    pub(crate) fn slot(self) -> usize {
        (self.0 >> 8) as usize
    }

    pub(crate) fn filing(self) -> u8 {
        self.0 as u8
    }
}

/// First word of a chunk: next chunk + 1 (32), list (16), count (16).
#[derive(Clone, Copy)]
struct Link(u64);

impl Link {
    fn new(next: usize, list: usize, count: usize) -> Link {
        Link(next as u64 | (list as u64) << 32 | (count as u64) << 48)
    }

    fn next(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }

    fn list(self) -> usize {
        (self.0 >> 32 & 0xffff) as usize
    }

    fn count(self) -> usize {
        (self.0 >> 48) as usize
    }
}

impl Timer<'_> {
    fn field(&self, field: usize) -> usize {
        self.region.layout.shard(self.shard) + field
    }

    fn wheel_of(&self, list: usize) -> usize {
        self.region.layout.wheel(self.shard, list / LISTS)
    }

    fn head(&self, list: usize) -> usize {
        self.region.get_half(self.wheel_of(list) + HEADS, list % LISTS) as usize
    }

    fn set_head(&self, list: usize, chunk: usize) {
        let (wheel, level, slot) = (self.wheel_of(list), list % LISTS / 64, list % 64);
        self.region.set_half(wheel + HEADS, list % LISTS, chunk as u32);
        let bits = self.region.get(wheel + BITMAPS + level);
        let bits = if chunk == 0 { bits & !(1 << slot) } else { bits | 1 << slot };
        self.region.set(wheel + BITMAPS + level, bits);
    }

    /// The word of chunk `number - 1`, when there is such a chunk.
    fn chunk(&self, number: usize) -> Result<usize, Damaged> {
        match number {
            1.. if number <= self.region.layout.chunks => Ok(self.region.layout.chunk(self.shard, number - 1)),
            _ => Err(Damaged),
        }
    }

    /// The tick before which everything has been processed.
    pub(crate) fn clock(&self, wheel: usize) -> u64 {
        Tick::from_word(self.region.get(self.region.layout.wheel(self.shard, wheel) + CLOCK)).as_now().as_millis()
    }

    pub(crate) fn set_clock(&self, wheel: usize, clock: Tick) {
        self.region.set(self.region.layout.wheel(self.shard, wheel) + CLOCK, clock.as_now().as_millis());
    }

    /// The list for something due at `due`; what is overdue is due now.
    pub(crate) fn list_for(&self, wheel: usize, due: Tick) -> usize {
        let clock = self.clock(wheel);
        let due = due.as_now().as_millis().max(clock);
        let level = (63 - ((due ^ clock) | 1).leading_zeros() as usize) / 6;
        wheel * LISTS + level * 64 + (due >> (level * 6)) as usize % 64
    }

    /// When a list fires.
    pub(crate) fn start_of(&self, list: usize) -> Tick {
        let clock = self.clock(list / LISTS);
        let (level, slot) = (list % LISTS / 64, list as u64 % 64);
        let above = clock >> (level * 6 + 6) << (level * 6 + 6);
        Tick::from_millis((above | slot << (level * 6)).max(clock))
    }

    /// The list that fires next, and when. Of lists that fire together the highest level comes
    /// first, so that its entries are filed before the lowest is called due.
    pub(crate) fn next(&self, wheel: usize) -> Option<(usize, Tick)> {
        let bitmaps = self.region.layout.wheel(self.shard, wheel) + BITMAPS;
        let mut first: Option<(usize, Tick)> = None;
        for level in 0..LEVELS {
            let bits = self.region.get(bitmaps + level);
            if bits != 0 {
                let list = wheel * LISTS + level * 64 + bits.trailing_zeros() as usize;
                let start = self.start_of(list);
                if first.is_none_or(|(_, earliest)| start <= earliest) {
                    first = Some((list, start));
                }
            }
        }
        first
    }

    /// Adds an entry; false when the pool is empty.
    pub(crate) fn push(&self, list: usize, entry: Entry) -> Result<bool, Damaged> {
        let head = self.head(list);
        if head != 0 {
            let at = self.chunk(head)?;
            let link = Link(self.region.get(at));
            if link.count() < CHUNK {
                self.region.set_half(at + 1, link.count(), entry.0);
                self.region.set(at, Link::new(link.next(), list, link.count() + 1).0);
                return Ok(true);
            }
        }
        let Some(fresh) = self.take_chunk()? else { return Ok(false) };
        let at = self.chunk(fresh)?;
        self.region.set_half(at + 1, 0, entry.0);
        self.region.set(at, Link::new(head, list, 1).0);
        self.set_head(list, fresh);
        Ok(true)
    }

    /// Takes the entry that was added last.
    pub(crate) fn pop(&self, list: usize) -> Result<Option<Entry>, Damaged> {
        let head = self.head(list);
        if head == 0 {
            // Its bit should be clear; if it is not, it must not lead here for ever.
            self.set_head(list, 0);
            return Ok(None);
        }
        let at = self.chunk(head)?;
        let link = Link(self.region.get(at));
        if link.count() == 0 || link.count() > CHUNK || link.list() != list {
            return Err(Damaged);
        }
        let entry = Entry(self.region.get_half(at + 1, link.count() - 1));
        if link.count() == 1 {
            self.set_head(list, link.next());
            self.give_chunk(head, at);
        } else {
            self.region.set(at, Link::new(link.next(), list, link.count() - 1).0);
        }
        Ok(Some(entry))
    }

    /// The entries of a list's first chunk, or of one of those behind it, for prefetching.
    pub(crate) fn chunk_at(&self, list: usize, behind: usize) -> impl Iterator<Item = Entry> + '_ {
        let mut at = self.chunk(self.head(list)).ok();
        for _ in 0..behind {
            at = at.and_then(|at| self.behind(at));
        }
        if let Some(next) = at.and_then(|at| self.behind(at)) {
            self.region.prefetch(next);
        }
        let count = at.map_or(0, |at| Link(self.region.get(at)).count().min(CHUNK));
        (0..count).filter_map(move |index| at.map(|at| Entry(self.region.get_half(at + 1, index))))
    }

    fn behind(&self, at: usize) -> Option<usize> {
        self.chunk(Link(self.region.get(at)).next()).ok()
    }

    /// Up to `most` entries of a list.
    pub(crate) fn entries(&self, list: usize, most: usize) -> Vec<Entry> {
        let mut found = Vec::new();
        let mut next = self.head(list);
        while let Ok(at) = self.chunk(next) {
            let link = Link(self.region.get(at));
            for index in 0..link.count().min(CHUNK) {
                if found.len() == most {
                    return found;
                }
                found.push(Entry(self.region.get_half(at + 1, index)));
            }
            if link.count() == 0 {
                break;
            }
            next = link.next();
        }
        found
    }

    fn take_chunk(&self) -> Result<Option<usize>, Damaged> {
        let free = self.region.get(self.field(pool::FREE)) as usize;
        if free != 0 {
            let link = Link(self.region.get(self.chunk(free)?));
            self.region.set(self.field(pool::FREE), link.next() as u64);
            return Ok(Some(free));
        }
        let bump = self.region.get(self.field(pool::BUMP)) as usize;
        if bump >= self.region.layout.chunks {
            return Ok(None);
        }
        self.region.set(self.field(pool::BUMP), bump as u64 + 1);
        Ok(Some(bump + 1))
    }

    fn give_chunk(&self, number: usize, at: usize) {
        self.region.set(at, Link::new(self.region.get(self.field(pool::FREE)) as usize, 0, 0).0);
        self.region.set(self.field(pool::FREE), number as u64);
    }

    /// Notes that a record has left its entry behind.
    pub(crate) fn grew_stale(&self) {
        self.region.add(self.field(pool::STALE), 1);
    }

    /// Notes that a stale entry is gone.
    pub(crate) fn dropped_stale(&self) {
        self.region.sub(self.field(pool::STALE), 1);
    }

    /// Looks through a few chunks for stale entries if there are too many.
    /// Those that come next are `ask`ed for, because their records are all over the memory.
    pub(crate) fn purge(&self, is_stale: impl Fn(usize, Entry) -> bool, ask: impl Fn(Entry)) -> Result<(), Damaged> {
        if self.region.get(self.field(pool::STALE)) as usize <= self.region.layout.slots / 16 {
            return Ok(());
        }
        let used = (self.region.get(self.field(pool::BUMP)) as usize).min(self.region.layout.chunks);
        for _ in 0..PURGED.min(used) {
            let cursor = self.region.get(self.field(pool::CURSOR)) as usize % used;
            self.region.set(self.field(pool::CURSOR), cursor as u64 + 1);
            self.purge_chunk(cursor + 1, &is_stale)?;
        }
        if used == 0 {
            return Ok(());
        }
        let cursor = self.region.get(self.field(pool::CURSOR)) as usize % used;
        for ahead in 0..PURGED {
            self.entries_of((cursor + ahead) % used + 1).for_each(&ask);
            if let Ok(at) = self.chunk((cursor + PURGED + ahead) % used + 1) {
                self.region.prefetch(at);
            }
        }
        Ok(())
    }

    /// The entries of a chunk that are entries of this shard.
    fn entries_of(&self, number: usize) -> impl Iterator<Item = Entry> + '_ {
        let at = self.chunk(number).ok();
        let count = at.map_or(0, |at| Link(self.region.get(at)).count().min(CHUNK));
        let entries = (0..count).filter_map(move |index| at.map(|at| Entry(self.region.get_half(at + 1, index))));
        entries.filter(|entry| entry.slot() < self.region.layout.slots)
    }

    fn purge_chunk(&self, number: usize, is_stale: &impl Fn(usize, Entry) -> bool) -> Result<(), Damaged> {
        let at = self.chunk(number)?;
        let list = Link(self.region.get(at)).list();
        let mut index = 0;
        // Pulling in a replacement may free this very chunk (its count is then zero).
        while index < Link(self.region.get(at)).count().min(CHUNK) {
            let entry = Entry(self.region.get_half(at + 1, index));
            if list < WHEELS * LISTS && is_stale(list, entry) {
                let last = self.pop(list)?.ok_or(Damaged)?;
                if index < Link(self.region.get(at)).count() {
                    self.region.set_half(at + 1, index, last.0);
                }
                self.dropped_stale();
            } else {
                index += 1;
            }
        }
        Ok(())
    }

    /// Forgets every entry; the clocks stay.
    pub(crate) fn clear(&self) {
        for wheel in 0..WHEELS {
            let at = self.region.layout.wheel(self.shard, wheel);
            for word in BITMAPS..HEADS + LISTS / 2 {
                self.region.set(at + word, 0);
            }
        }
        for field in [pool::BUMP, pool::FREE, pool::STALE, pool::CURSOR] {
            self.region.set(self.field(field), 0);
        }
    }

    /// Calls `each` with every list and entry, and says what does not hang together.
    pub(crate) fn check(&self, mut each: impl FnMut(usize, Entry)) -> Result<(), String> {
        let mut chunks = 0;
        for list in 0..WHEELS * LISTS {
            let bits = self.region.get(self.wheel_of(list) + BITMAPS + list % LISTS / 64);
            let mut next = self.head(list);
            if (bits >> (list % 64) & 1 == 1) != (next != 0) {
                return Err(format!("list {list}: its bit and its head disagree"));
            }
            let mut first = true;
            while next != 0 {
                let at = self.chunk(next).map_err(|Damaged| format!("list {list} names chunk {next}"))?;
                let link = Link(self.region.get(at));
                let full = link.count() == CHUNK || (first && (1..CHUNK).contains(&link.count()));
                if link.list() != list || !full {
                    return Err(format!("list {list}: chunk {next} has {} and says {}", link.count(), link.list()));
                }
                for index in 0..link.count() {
                    each(list, Entry(self.region.get_half(at + 1, index)));
                }
                (first, next, chunks) = (false, link.next(), chunks + 1);
                if chunks > self.region.layout.chunks {
                    return Err(format!("list {list} has no end"));
                }
            }
        }
        let mut free = self.region.get(self.field(pool::FREE)) as usize;
        while free != 0 && chunks <= self.region.layout.chunks {
            let at = self.chunk(free).map_err(|Damaged| format!("the free list names chunk {free}"))?;
            (free, chunks) = (Link(self.region.get(at)).next(), chunks + 1);
        }
        if chunks as u64 != self.region.get(self.field(pool::BUMP)) {
            return Err(format!("{chunks} chunks are in lists and {} in use", self.region.get(self.field(pool::BUMP))));
        }
        Ok(())
    }

    pub(crate) fn stale(&self) -> u64 {
        self.region.get(self.field(pool::STALE))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::backing::{self, Config};
    use crate::time::Span;

    /// Where clocks begin: the epoch, and just before a digit of every level turns over.
    fn origins() -> Vec<u64> {
        let edges = (0..LEVELS as u32).map(|level| (1_u64 << (level * 6 + 6).min(47)) - 3);
        [0, 1, 1_700_000_000_000].into_iter().chain(edges).chain([Tick::LAST.as_millis() - 200_000]).collect()
    }

    fn timer_at(region: &Region, origin: u64) -> Timer<'_> {
        let timer = Timer { region, shard: 0 };
        timer.clear();
        for wheel in [LIVE, KEPT] {
            // A clock may be anywhere; only the engine never turns it back.
            timer.set_clock(wheel, Tick::from_millis(origin));
        }
        timer
    }

    /// Advances to `now` as the shard does, and says what fired when.
    fn advance(timer: Timer<'_>, now: Tick, due: &[Tick], mut fired: impl FnMut(usize, Tick)) -> usize {
        let mut steps = 0;
        while let Some((list, start)) = timer.next(LIVE).filter(|(_, start)| *start <= now) {
            timer.set_clock(LIVE, start);
            while let Some(entry) = timer.pop(list).unwrap() {
                steps += 1;
                if due[entry.slot()] <= start {
                    fired(entry.slot(), start);
                } else {
                    assert!(timer.push(timer.list_for(LIVE, due[entry.slot()]), entry).unwrap());
                }
            }
        }
        steps
    }

    #[test]
    fn everything_fires_at_its_tick_from_every_origin_and_over_every_distance() {
        let region = backing::private(&Config::new(2000)).unwrap();
        for origin in origins() {
            let timer = timer_at(&region, origin);
            let distances = (0..48).flat_map(|bit| [(1_u64 << bit) - 1, 1 << bit, (1 << bit) + 1, (1 << bit) * 3 / 2]);
            let due: Vec<_> =
                distances.map(|distance| Tick::from_millis(origin.saturating_add(distance)).min(Tick::LAST)).collect();
            for (slot, due) in due.iter().enumerate() {
                assert!(timer.push(timer.list_for(LIVE, *due), Entry::new(slot, 0)).unwrap());
            }
            let mut fired = vec![None; due.len()];
            let steps = advance(timer, Tick::LAST, &due, |slot, when| fired[slot] = Some(when));
            for (slot, due) in due.iter().enumerate() {
                assert_eq!(fired[slot], Some(*due), "from {origin}");
            }
            assert!(steps <= due.len() * LEVELS, "an entry goes down at most once a level");
            assert!(timer.next(LIVE).is_none());
        }
    }

    #[test]
    fn nothing_fires_before_its_tick_however_the_clock_gets_there() {
        let region = backing::private(&Config::new(2000)).unwrap();
        for origin in origins() {
            let timer = timer_at(&region, origin);
            let due: Vec<_> = (0..400_u64)
                .map(|n| Tick::from_millis(origin).after(Span::from_millis(n * n % 90_001)).min(Tick::LAST))
                .collect();
            for (slot, due) in due.iter().enumerate() {
                timer.push(timer.list_for(LIVE, *due), Entry::new(slot, 0)).unwrap();
            }
            let mut left = due.len();
            let mut now = Tick::from_millis(origin);
            for step in [0_u64, 1, 1, 62, 1, 63, 4000, 97, 1, 59_999, 40_000, 300_000] {
                now = now.after(Span::from_millis(step)).min(Tick::LAST);
                advance(timer, now, &due, |slot, when| {
                    assert_eq!(when, due[slot]);
                    left -= 1;
                });
                let ahead = due.iter().filter(|due| **due > now).count();
                assert_eq!(left, ahead, "at {now:?} from {origin}");
            }
        }
    }

    #[test]
    fn what_is_due_at_the_last_tick_fires_at_the_last_tick() {
        let region = backing::private(&Config::new(100)).unwrap();
        let timer = timer_at(&region, 12_345);
        timer.push(timer.list_for(LIVE, Tick::LAST), Entry::new(1, 0)).unwrap();
        let due = [Tick::ZERO, Tick::LAST];
        advance(timer, Tick::from_millis(Tick::LAST.as_millis() - 1), &due, |_, _| panic!("not yet"));
        let mut fired = false;
        advance(timer, Tick::LAST, &due, |_, when| fired = when == Tick::LAST);
        assert!(fired);
    }

    #[test]
    fn what_is_overdue_when_it_is_filed_fires_at_once() {
        let region = backing::private(&Config::new(100)).unwrap();
        let timer = timer_at(&region, 5000);
        let list = timer.list_for(LIVE, Tick::from_millis(7));
        assert_eq!(timer.start_of(list), Tick::from_millis(5000));
    }

    #[test]
    fn stale_entries_stay_few_and_the_pool_never_runs_dry_under_churn() {
        use crate::key::{Binding, Subject};
        use crate::policy::{Policy, Retain};
        use crate::record::Birth;

        let region = backing::private(&Config::new(3000)).unwrap();
        let policy = |idle| Policy::new().idle(Span::from_millis(idle)).retain(Retain::For(Span::OFF));
        let ids = [28_800_000_u64, 900_000, 60_000, 5]
            .map(|idle| region.set_policy(&idle.to_string(), &policy(idle), Tick::ZERO).unwrap());
        let mut most = 0;
        for round in 0..200_000_u64 {
            let now = Tick::from_millis(round / 50);
            let shard = region.lock_shard(0);
            let id = ids[(round * 7 % 4) as usize];
            let birth = Birth {
                key: crate::key::Key([round.wrapping_mul(0x9e37_79b9_7f4a_7c15), round]),
                policy: id.number(),
                start: now,
                last: now,
                token: Tick::NEVER,
                binding: Binding::NONE,
                subject: Subject::NONE,
            };
            let rules = region.rules(id.number()).unwrap();
            assert_eq!(shard.make_room(now, false), crate::shard::Room::Made);
            let slot = shard.insert(&birth, &rules.policy).unwrap();
            // Logged out at once: the entry that is left behind lies hours ahead.
            let view = region.view(slot).unwrap();
            let end = crate::cause::End { cause: crate::cause::Cause::Logout, at: now };
            shard.end(slot, &view, end, &rules.policy, now);
            most = most.max(shard.timer.stale());
        }
        let slots = region.layout.slots as u64;
        assert!(most > slots / 16, "the churn makes enough of them to matter: {most}");
        assert!(most <= slots / 8, "{most} of {slots}");
    }
}

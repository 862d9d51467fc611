//! Where everything lies in a region: computed from the capacity alone, in words of 64 bits.
//!
//! ```text
//! header | policies | shard headers | subject headers | events | groups | records | links
//!        | subject groups | subject heads | chunks
//! ```
//!
//! Every part starts on a cache line. A region of zeroes after a valid header is a valid empty
//! region, so that creating one touches no page beyond the first.
//!
//! Bytes per session of capacity, at a million sessions and more: records 64, tags and overflow
//! counters 1.07, links 8, all times 1.11 for the load of 0.9; subjects 5.7; timer 5.7; events 1.
//! That is 94 in all. `docs/protocol.md` says what each part means.

/// First word of every region.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"curfew\x01\n");
/// Raised whenever the meaning of any word changes.
pub(crate) const VERSION: u64 = 6;
/// Words of a cache line.
pub(crate) const LINE: usize = 8;
/// Records of one group of the index.
pub(crate) const GROUP: usize = 15;
/// Words of the header.
pub(crate) const HEADER: usize = if cfg!(loom) { 136 } else { 512 };
/// Policies in a region.
pub(crate) const POLICIES: usize = if cfg!(loom) { 2 } else { 64 };
/// Words of one policy: a line of its own, then its versions.
pub(crate) const POLICY: usize = LINE + VERSIONS * LINE;
/// Versions of a policy that are remembered.
pub(crate) const VERSIONS: usize = 4;
/// Levels of a wheel, six bits of a tick each.
pub(crate) const LEVELS: usize = 8;
/// Lists of a wheel.
pub(crate) const LISTS: usize = LEVELS * 64;
/// Wheels of a shard: one for live sessions, one for ended records.
pub(crate) const WHEELS: usize = 2;
/// Words of a wheel: clock, reserve, bitmaps, heads (two to a word).
pub(crate) const WHEEL: usize = LINE + LEVELS + LISTS / 2;
/// Words of a shard's own fields.
pub(crate) const SHARD_FIELDS: usize = 4 * LINE;
/// Words of a shard's header.
pub(crate) const SHARD: usize = SHARD_FIELDS + WHEELS * WHEEL;
/// Words of a subject shard's header.
pub(crate) const SUBJECT_HEADER: usize = LINE;
/// Processes that can have a region open.
pub(crate) const OWNERS: usize = if cfg!(loom) { 4 } else { 256 };
/// Entries of a chunk of the timer.
pub(crate) const CHUNK: usize = 14;
/// Most sessions of a region.
pub(crate) const MOST_CAPACITY: u64 = 1 << 30;
/// Most events of a ring.
pub(crate) const MOST_EVENTS: u64 = 1 << 26;

/// Words of the header, by what they hold.
pub(crate) mod header {
    use super::OWNERS;
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const VERSION: usize = 1;
    pub(crate) const WORDS: usize = 2;
    pub(crate) const CAPACITY: usize = 3;
    pub(crate) const EVENTS: usize = 4;
    pub(crate) const BOOT: usize = 5;
    pub(crate) const EPOCH: usize = 6;
    pub(crate) const SECRET: usize = 7;
    pub(crate) const GEOMETRY: usize = 11;
    /// Checksum over all words before it.
    pub(crate) const SUM: usize = 12;
    pub(crate) const RING_LOCK: usize = 16;
    pub(crate) const RING_HEAD: usize = 17;
    pub(crate) const POLICY_LOCK: usize = 24;
    pub(crate) const POLICY_CHANGES: usize = 26;
    pub(crate) const MISMATCHES: usize = 32;
    pub(crate) const REFUSED_FULL: usize = 33;
    pub(crate) const REFUSED_LIMITED: usize = 34;
    pub(crate) const RECOVERIES: usize = 35;
    /// In memory that the caller lent: which file's bytes the owners lock; zero for none.
    #[cfg(not(loom))]
    pub(crate) const LOCKS: usize = 48;
    /// Whether the region is on the move (moving.rs); beside nothing that is written often.
    #[cfg(not(loom))]
    pub(crate) const MOVE: usize = 56;
    pub(crate) const EPOCHS: usize = 128;
    /// Under loom, the locks on the owners' bytes.
    #[cfg(loom)]
    pub(crate) const LOCKED: usize = EPOCHS + OWNERS;
    /// How far each owner is with it, in 16 bits each.
    #[cfg(not(loom))]
    pub(crate) const MOVERS: usize = EPOCHS + OWNERS;
    #[cfg(not(loom))]
    const _: () = assert!(MOVERS + OWNERS / 4 <= super::HEADER);
    const _: () = assert!(EPOCHS + OWNERS <= super::HEADER);
}

/// The geometry of a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    pub(crate) capacity: u64,
    pub(crate) events: usize,
    /// Shards, a power of two.
    pub(crate) shards: usize,
    /// Groups of each shard.
    pub(crate) groups: usize,
    /// Records of each shard.
    pub(crate) slots: usize,
    /// Most records of each shard in use.
    pub(crate) limit: usize,
    /// Chunks of each shard's timer.
    pub(crate) chunks: usize,
    pub(crate) at_policies: usize,
    pub(crate) at_shards: usize,
    pub(crate) at_subjects: usize,
    pub(crate) at_events: usize,
    pub(crate) at_groups: usize,
    pub(crate) at_records: usize,
    pub(crate) at_links: usize,
    pub(crate) at_subject_groups: usize,
    pub(crate) at_subject_heads: usize,
    pub(crate) at_chunks: usize,
    pub(crate) words: usize,
}

fn lines(words: usize) -> usize {
    words.next_multiple_of(LINE)
}

impl Layout {
    /// `capacity` in `1..=MOST_CAPACITY`, `events` zero (for the default) or `16..=MOST_EVENTS`:
    /// the caller has looked.
    pub(crate) fn new(capacity: u64, events: u64) -> Layout {
        let sessions = capacity as usize;
        // A shard of 128 thousand sessions and more: small enough to rebuild in milliseconds,
        // large enough that chance fills all shards alike and the wheels' heads cost nothing.
        let shards = match sessions {
            262_144.. => (sessions >> 17).next_power_of_two() / 2,
            // Two are enough for all that happens between shards, and can be looked through whole.
            8.. if cfg!(loom) => 2,
            16.. if cfg!(feature = "crash-points") => 2,
            _ => 1,
        };
        let mean = sessions.div_ceil(shards);
        // Keys fall on shards by chance. Six standard deviations: a shard is full before the
        // whole region is once in a billion regions.
        let limit = if shards == 1 || cfg!(loom) { mean } else { mean + 6 * mean.isqrt() };
        let slots = (mean * 10).div_ceil(9).max((limit * 25).div_ceil(24));
        let groups = slots.div_ceil(GROUP);
        let slots = groups * GROUP;
        // Entries: one for each record, an eighth of stale ones (see wheel.rs), and for every
        // list that can be in use at once one chunk that is not full.
        let chunks = (slots + slots / 8).div_ceil(CHUNK) + (WHEELS * LISTS).min(slots) + 2;
        let events = match events {
            0 => (sessions / 64).clamp(if cfg!(loom) { 16 } else { 1024 }, 1 << 20),
            events => events as usize,
        };
        let mut next = HEADER;
        let mut place = |words: usize| {
            let at = next;
            next += lines(words);
            at
        };
        let at_policies = place(POLICIES * POLICY);
        let at_shards = place(shards * SHARD);
        let at_subjects = place(shards * SUBJECT_HEADER);
        let at_events = place(events * LINE);
        let at_groups = place(shards * groups * 2);
        let at_records = place(shards * slots * LINE);
        let at_links = place(shards * slots);
        let at_subject_groups = place(shards * groups * 2);
        let at_subject_heads = place(shards * slots.div_ceil(2));
        let at_chunks = place(shards * chunks * LINE);
        Layout {
            capacity,
            events,
            shards,
            groups,
            slots,
            limit,
            chunks,
            at_policies,
            at_shards,
            at_subjects,
            at_events,
            at_groups,
            at_records,
            at_links,
            at_subject_groups,
            at_subject_heads,
            at_chunks,
            words: next,
        }
    }

    /// Bytes of the whole region.
    pub(crate) fn bytes(&self) -> usize {
        self.words * 8
    }

    /// A digest of what the constants of this file make of the capacity: another program's idea
    /// of the layout is told by it even when the version is the same.
    pub(crate) fn geometry(&self) -> u64 {
        [self.shards, self.groups, self.limit, self.chunks, self.events, self.at_chunks, self.words]
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, part| (hash ^ *part as u64).wrapping_mul(0x100_0000_01b3))
    }

    /// All records.
    pub(crate) fn all_slots(&self) -> usize {
        self.shards * self.slots
    }

    /// The parts that are made anew from records: of a shard's fields all but the lock and the
    /// statistics, its timer, the index, links and subjects.
    pub(crate) fn derived(&self) -> Vec<std::ops::Range<usize>> {
        let shards = (0..self.shards).flat_map(|shard| {
            let fields = self.shard(shard);
            [fields + 1..fields + SHARD_FIELDS / 2, self.wheel(shard, 0)..fields + SHARD]
        });
        shards.chain([self.at_groups..self.at_records, self.at_links..self.words]).collect()
    }

    /// The shard of a digest: its highest bits say, so that those with the ones below them give the first
    /// group of a search among the groups of all shards in one multiplication ([`crate::region::Region::home`]).
    #[inline]
    pub(crate) fn shard_of(&self, hash: u64) -> usize {
        (((hash >> 32) * self.shards as u64) >> 32) as usize
    }

    pub(crate) fn policy(&self, id: usize) -> usize {
        self.at_policies + id * POLICY
    }

    pub(crate) fn shard(&self, shard: usize) -> usize {
        self.at_shards + shard * SHARD
    }

    pub(crate) fn wheel(&self, shard: usize, wheel: usize) -> usize {
        self.shard(shard) + SHARD_FIELDS + wheel * WHEEL
    }

    pub(crate) fn subject_header(&self, shard: usize) -> usize {
        self.at_subjects + shard * SUBJECT_HEADER
    }

    /// `slot` counts through all shards.
    pub(crate) fn record(&self, slot: usize) -> usize {
        self.at_records + slot * LINE
    }

    pub(crate) fn event(&self, number: u64) -> usize {
        self.at_events + (number % self.events as u64) as usize * LINE
    }

    pub(crate) fn chunk(&self, shard: usize, chunk: usize) -> usize {
        self.at_chunks + (shard * self.chunks + chunk) * LINE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_of_capacity_takes_at_most_96_bytes() {
        for capacity in [1 << 16, 100_000, 262_143, 262_144, 1_000_000, 3_333_333, 10_000_000, 50_000_000, 1 << 30] {
            let bytes = Layout::new(capacity, 0).bytes() as f64 / capacity as f64;
            assert!(bytes <= 96.0, "{capacity}: {bytes}");
        }
    }

    #[test]
    fn the_parts_of_every_region_follow_each_other_and_hold_the_capacity() {
        for capacity in (1..3000).chain([65_535, 262_144, 999_999, 10_000_000]) {
            let layout = Layout::new(capacity, 0);
            assert!(layout.shards.is_power_of_two());
            assert!(layout.limit <= layout.slots, "{layout:?}");
            assert!((layout.limit * layout.shards) as u64 >= capacity);
            assert!(layout.slots < 1 << 24, "an entry of the timer has 24 bits for its slot");
            assert!(layout.all_slots() < u32::MAX as usize - 2, "a link has 32 bits");
            let parts = [
                HEADER,
                layout.at_policies + POLICIES * POLICY,
                layout.at_shards + layout.shards * SHARD,
                layout.at_subjects + layout.shards * SUBJECT_HEADER,
                layout.at_events + layout.events * LINE,
                layout.at_groups + layout.shards * layout.groups * 2,
                layout.at_records + layout.all_slots() * LINE,
                layout.at_links + layout.all_slots(),
                layout.at_subject_groups + layout.shards * layout.groups * 2,
                layout.at_subject_heads + layout.shards * layout.slots.div_ceil(2),
                layout.at_chunks + layout.shards * layout.chunks * LINE,
            ];
            assert!(parts.is_sorted() && *parts.last().unwrap() <= layout.words);
        }
    }
}

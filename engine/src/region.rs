//! The memory of a region, as words. The only `unsafe` of the engine is here.
//!
//! A region is a slice of 64-bit atomic words in memory that was mapped (private memory, or a file
//! that other processes map too) or that the caller lent. Atomics make concurrent change by others
//! defined; what they wrote is never trusted (see `docs/protocol.md`), so that the worst a foreign
//! byte can do is to give a wrong answer about the session it belongs to.

use std::num::NonZeroU32;

use crate::atomic::{Ordering, Word};
use crate::layout::{GROUP, LINE, Layout, POLICIES, POLICY};
use crate::owner::Owner;

/// A cache line, such as a record.
pub(crate) type Line = [Word; LINE];

/// Memory that the caller owns and lends to a table ([`crate::Table::create_in`]).
#[cfg(not(loom))]
#[derive(Debug)]
pub struct Memory {
    start: *mut Word,
    bytes: usize,
}

#[cfg(not(loom))]
impl Memory {
    /// Where a region must begin.
    pub const ALIGNMENT: usize = 64;

    /// Lends the `bytes` bytes from `start` on. Whether they are enough, and begin at a multiple of
    /// [`Memory::ALIGNMENT`], is checked by whoever uses them.
    ///
    /// # Safety
    /// The memory must be readable and writable until every table in it has been dropped, and
    /// until then nothing in this process may access it but those tables. Other processes may, if
    /// they do so through this engine.
    #[must_use]
    pub unsafe fn new(start: *mut u8, bytes: usize) -> Memory {
        Memory { start: start.cast(), bytes }
    }

    pub(crate) fn is_aligned(&self) -> bool {
        !self.start.is_null() && (self.start as usize).is_multiple_of(Memory::ALIGNMENT)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All of it, in words; nothing of it if it is not aligned.
    pub(crate) fn words(&self) -> &[Word] {
        if !self.is_aligned() {
            return &[];
        }
        // SAFETY: aligned, and whoever made `self` has promised the rest. Any bit pattern is an
        // AtomicU64.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes / size_of::<Word>()) }
    }
}

/// A region in memory, its geometry, and this process's place among its owners.
pub(crate) struct Region {
    #[cfg(not(loom))]
    start: *mut Word,
    /// What `start` points into, unless the caller lent it.
    #[cfg(not(loom))]
    _map: Option<memmap2::MmapRaw>,
    #[cfg(not(loom))]
    parts: Parts,
    #[cfg(loom)]
    map: std::sync::Arc<[Word]>,
    pub(crate) layout: Layout,
    pub(crate) owner: Owner,
}

/// Where the parts are that every touch looks at, so that it finds a thing in them with one comparison.
#[cfg(not(loom))]
struct Parts {
    policies: *const [Word; POLICY],
    groups: *const [Word; 2],
    /// Groups of all shards.
    all_groups: usize,
    records: *const Line,
    all_slots: usize,
}

#[cfg(not(loom))]
impl Parts {
    fn of(start: *const Word, layout: &Layout) -> Parts {
        let (all_groups, all_slots) = (layout.shards * layout.groups, layout.all_slots());
        assert!(layout.at_policies + POLICIES * POLICY <= layout.words);
        assert!(layout.at_groups + all_groups * 2 <= layout.words);
        assert!(layout.at_records + all_slots * LINE <= layout.words);
        // For `Home`.
        assert!(all_groups < 1 << 32 && all_groups * GROUP == all_slots);
        // For `places_of`.
        assert!(start.wrapping_add(layout.at_groups).addr().is_multiple_of(16));
        Parts {
            policies: start.wrapping_add(layout.at_policies).cast(),
            groups: start.wrapping_add(layout.at_groups).cast(),
            all_groups,
            records: start.wrapping_add(layout.at_records).cast(),
            all_slots,
        }
    }
}

impl Region {
    /// A region in `map`, which must be as long as `layout` says.
    #[cfg(not(loom))]
    pub(crate) fn new(map: memmap2::MmapRaw, layout: Layout, owner: Owner) -> Region {
        assert!(map.len() >= layout.bytes() && (map.as_mut_ptr() as usize).is_multiple_of(Memory::ALIGNMENT));
        let start = map.as_mut_ptr().cast();
        Region { start, parts: Parts::of(start, &layout), _map: Some(map), layout, owner }
    }

    /// A region in memory that the caller lends, which must be as long as `layout` says.
    #[cfg(not(loom))]
    pub(crate) fn lent(memory: &Memory, layout: Layout, owner: Owner) -> Region {
        assert!(memory.bytes >= layout.bytes() && memory.is_aligned());
        Region { start: memory.start, parts: Parts::of(memory.start, &layout), _map: None, layout, owner }
    }

    #[cfg(loom)]
    pub(crate) fn new(layout: Layout, owner: Owner) -> Region {
        Region { map: (0..layout.words).map(|_| Word::new(0)).collect(), layout, owner }
    }

    /// The same memory as another process has it.
    #[cfg(all(test, loom))]
    pub(crate) fn opened_by(&self, owner: Owner) -> Region {
        Region { map: self.map.clone(), layout: self.layout, owner }
    }

    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn words(&self) -> &[Word] {
        // SAFETY: the memory is at least `layout.words * 8` bytes long and aligned (asserted in `new`
        // and `lent`), is readable and writable, and lives as long as `self` does, which the
        // returned slice borrows: `self` has the mapping, or whoever made the `Memory` promised it.
        // Every access to it in this process is through these atomics; other processes that map
        // the same memory are outside the language's model and use atomics too. Any bit pattern is
        // an AtomicU64. If a file is cut short while it is mapped, an access raises SIGBUS, which
        // ends the process: it is not undefined.
        unsafe { std::slice::from_raw_parts(self.start, self.layout.words) }
    }

    #[cfg(loom)]
    pub(crate) fn words(&self) -> &[Word] {
        &self.map
    }

    #[inline]
    fn word(&self, at: usize) -> &Word {
        &self.words()[at]
    }

    /// The number of one of the region's words.
    #[inline(always)]
    pub(crate) fn at(&self, word: &Word) -> usize {
        (std::ptr::from_ref(word).addr() - self.words().as_ptr().addr()) / size_of::<Word>()
    }

    /// The line of a record; `None` when there is none of this number.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn record(&self, slot: usize) -> Option<&Line> {
        // SAFETY: there are `all_slots` of them inside the region's words (asserted in `Parts::of`), of
        // which `words` says why they may be borrowed for as long as `self` is.
        (slot < self.parts.all_slots).then(|| unsafe { &*self.parts.records.add(slot) })
    }

    /// Where the search for a digest begins.
    #[inline(always)]
    pub(crate) fn home(&self, hash: u64) -> Home<'_> {
        #[cfg(not(loom))]
        let all_groups = self.parts.all_groups;
        #[cfg(loom)]
        let all_groups = self.layout.shards * self.layout.groups;
        // Of 32 bits and a number below 2^32: the product over 2^32 is less than that number.
        let group = (((hash >> 32) * all_groups as u64) >> 32) as usize;
        Home {
            region: self,
            group,
            #[cfg(not(loom))]
            records: self.parts.records.wrapping_add(group * GROUP),
        }
    }

    /// The words of a policy; `None` when there is none of this number.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn policy_words(&self, id: usize) -> Option<&[Word; POLICY]> {
        // SAFETY: as in `record`; there are `POLICIES` of them.
        (id < POLICIES).then(|| unsafe { &*self.parts.policies.add(id) })
    }

    #[cfg(loom)]
    pub(crate) fn record(&self, slot: usize) -> Option<&Line> {
        if slot < self.layout.all_slots() { self.map[self.layout.record(slot)..].first_chunk() } else { None }
    }

    #[cfg(loom)]
    pub(crate) fn policy_words(&self, id: usize) -> Option<&[Word; POLICY]> {
        if id < POLICIES { self.map[self.layout.policy(id)..].first_chunk() } else { None }
    }

    /// Every change of the region passes here first, so that the tests can stop a process before
    /// any one of them. Nothing unless they are built.
    #[inline(always)]
    fn step(&self, at: usize) {
        #[cfg(feature = "crash-points")]
        crate::crash::step(&self.layout, at);
        #[cfg(not(feature = "crash-points"))]
        let _ = at;
    }

    /// Loads a word that no ordering hangs on: it is read under the lock that guards it, or
    /// between the two reads of a generation.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> u64 {
        self.word(at).load(Ordering::Relaxed)
    }

    /// Loads a word that was published: what was written before it is there too.
    #[inline]
    pub(crate) fn load(&self, at: usize) -> u64 {
        self.word(at).load(Ordering::Acquire)
    }

    /// Stores a word under the lock that guards it.
    #[inline]
    pub(crate) fn set(&self, at: usize, value: u64) {
        self.step(at);
        self.word(at).store(value, Ordering::Relaxed);
    }

    /// Stores a word under the lock that guards it, after everything that was written before.
    #[inline]
    pub(crate) fn publish(&self, at: usize, value: u64) {
        self.step(at);
        self.word(at).store(value, Ordering::Release);
    }

    /// Exchanges a word that others change without a lock, after everything that was written before; what
    /// it was if it is not `from`, and then what was written before that is there too.
    #[inline]
    pub(crate) fn exchange(&self, at: usize, from: u64, to: u64) -> Result<u64, u64> {
        self.exchange_in(self.word(at), at, from, to)
    }

    /// The same of the word at `at` when it is at hand.
    #[inline(always)]
    pub(crate) fn exchange_in(&self, word: &Word, at: usize, from: u64, to: u64) -> Result<u64, u64> {
        self.step(at);
        word.compare_exchange(from, to, Ordering::Release, Ordering::Acquire)
    }

    /// Publishes a word that others exchange without a lock, so that no exchange they have begun succeeds.
    ///
    /// Under loom it is an exchange itself. Nothing comes between the store that an exchange has read and its own,
    /// so this store comes after both; loom does not know the second part, and would let readers find that of the
    /// exchange later on.
    #[inline]
    pub(crate) fn replace(&self, at: usize, value: u64) {
        #[cfg(not(loom))]
        self.publish(at, value);
        #[cfg(loom)]
        self.word(at).swap(value, Ordering::Release);
    }

    /// Sets bits of a word that others change without a lock, after everything that was written
    /// before; what it was.
    #[inline]
    pub(crate) fn raise(&self, at: usize, bits: u64) -> u64 {
        self.step(at);
        self.word(at).fetch_or(bits, Ordering::Release)
    }

    /// Exchanges the word of a lock. This is no step: who dies before it has done nothing, and who
    /// dies after it dies before the next.
    #[inline]
    pub(crate) fn seize(&self, at: usize, from: u64, to: u64) -> Result<u64, u64> {
        self.word(at).compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed)
    }

    /// Frees the word of a lock.
    #[inline]
    pub(crate) fn release(&self, at: usize, left: u64) {
        self.word(at).store(left, Ordering::Release);
    }

    /// Adds one to a counter that no lock guards.
    #[inline]
    pub(crate) fn bump(&self, at: usize) {
        self.step(at);
        self.word(at).fetch_add(1, Ordering::Relaxed);
    }

    /// Adds to a word under the lock that guards it.
    #[inline]
    pub(crate) fn add(&self, at: usize, by: u64) {
        self.set(at, self.get(at).wrapping_add(by));
    }

    /// Takes from a word under the lock that guards it, not below zero.
    #[inline]
    pub(crate) fn sub(&self, at: usize, by: u64) {
        self.set(at, self.get(at).saturating_sub(by));
    }

    /// The `index`-th 32-bit half of the words from `at` on.
    #[inline]
    pub(crate) fn get_half(&self, at: usize, index: usize) -> u32 {
        (self.get(at + index / 2) >> (index % 2 * 32)) as u32
    }

    /// Stores a 32-bit half under the lock that guards its word.
    #[inline]
    pub(crate) fn set_half(&self, at: usize, index: usize, value: u32) {
        let (at, shift) = (at + index / 2, index % 2 * 32);
        let others = self.get(at) & !(u64::from(u32::MAX) << shift);
        self.set(at, others | u64::from(value) << shift);
    }

    /// Asks the processor to fetch the line of a word that will be needed soon.
    #[inline]
    pub(crate) fn prefetch(&self, at: usize) {
        if let Some(word) = self.words().get(at) {
            prefetch(word);
        }
    }
}

/// The group where the search for a digest begins, and the records of its places.
///
/// It is found among the groups of all shards at once. The highest bits of a digest say in which of the
/// 2^b shards it is, and those below them in which of its g groups; both together are the high half of
/// the product of the digest's upper 32 bits and 2^b g, because the shards' groups lie side by side.
#[derive(Clone, Copy)]
pub(crate) struct Home<'a> {
    region: &'a Region,
    /// Less than there are.
    group: usize,
    /// The records of the group.
    #[cfg(not(loom))]
    records: *const Line,
}

impl<'a> Home<'a> {
    #[cfg(not(loom))]
    #[inline(always)]
    fn words(self) -> &'a [Word; 2] {
        // SAFETY: as in `Region::record`; there are `all_groups` of them, and `Region::home` has
        // made a number below that.
        unsafe { &*self.region.parts.groups.add(self.group) }
    }

    #[cfg(loom)]
    fn words(self) -> &'a [Word; 2] {
        let region = self.region;
        region.map[region.layout.at_groups + self.group * 2..].first_chunk().expect("a group that there is")
    }

    /// The first place with the tag of a digest: nearly always the one that is looked for.
    #[inline(always)]
    pub(crate) fn first(self, hash: u64) -> Option<First<'a>> {
        // SAFETY: groups begin at multiples of 16, which is asserted in `Parts::of`.
        let places = unsafe { places_of(self.words(), hash) };
        Some(First { home: self, places: NonZeroU32::new(places)? })
    }

    /// Asks for the record of a place.
    #[inline(always)]
    pub(crate) fn prefetch_place(self, place: usize) {
        #[cfg(not(loom))]
        prefetch(self.records.wrapping_add(place));
        #[cfg(loom)]
        let _ = place;
    }

    /// Asks for the group.
    #[inline(always)]
    pub(crate) fn prefetch(self) {
        #[cfg(not(loom))]
        prefetch(self.region.parts.groups.wrapping_add(self.group));
    }
}

/// A place of a group.
#[derive(Clone, Copy)]
pub(crate) struct First<'a> {
    home: Home<'a>,
    /// As [`places`] has given them; the lowest bit counts.
    places: NonZeroU32,
}

impl<'a> First<'a> {
    #[inline(always)]
    fn place(self) -> usize {
        self.places.trailing_zeros() as usize
    }

    /// The number of its record.
    #[inline(always)]
    pub(crate) fn slot(self) -> usize {
        self.home.group * GROUP + self.place()
    }

    #[cfg(not(loom))]
    #[inline(always)]
    pub(crate) fn record(self) -> &'a Line {
        // SAFETY: as in `Region::record`. The group is one of `all_groups`, `places` gives bits for the
        // places of a group only, and there is a record for every place of every group (asserted in
        // `Parts::of`).
        unsafe { &*self.home.records.add(self.place()) }
    }

    #[cfg(loom)]
    pub(crate) fn record(self) -> &'a Line {
        self.home.region.record(self.slot()).expect("a place of a group that there is")
    }

    /// Asks for the record.
    #[inline(always)]
    pub(crate) fn prefetch(self) {
        #[cfg(not(loom))]
        prefetch(self.home.records.wrapping_add(self.place()));
    }
}

/// Asks the processor to fetch the line of an address that will be needed soon.
#[inline(always)]
fn prefetch<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint. It reads nothing, and does nothing when there is nothing at the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    let _ = address;
}

/// The tag of a digest: its low byte, which nothing else is made from; never zero.
#[inline]
pub(crate) fn tag(hash: u64) -> u8 {
    (hash as u8).max(1)
}

/// A bit for each place of a group in the region that has the tag of a digest, as [`places`] says of its words,
/// which are loaded with acquire.
///
/// LLVM loads each of two atomic words into a register of its own and moves them from there, and makes the tag
/// in one more. Registers are what the processor has too few of while it waits for a record and would begin
/// with the next touch.
///
/// # Safety
/// The group begins at a multiple of 16.
#[inline(always)]
unsafe fn places_of(group: &[Word; 2], hash: u64) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    {
        use std::arch::asm;
        use std::arch::x86_64::{_mm_movemask_epi8, _mm_set1_epi8};
        // SAFETY: every x86-64 processor has SSE2, which is all that these need. What is read is the two words
        // of a reference, at a multiple of 16 as promised, at once or one after the other: two atomic loads. No
        // load of such a processor overtakes another, and the compiler takes this for something that may read
        // and write any memory, so nothing that follows is done before.
        unsafe {
            let mut same = _mm_set1_epi8(hash as i8);
            // The first makes the tag of the byte, as `tag` does.
            asm!("pmaxub {same}, {ones}", "pcmpeqb {same}, [{group}]", same = inout(xmm_reg) same,
                ones = in(xmm_reg) _mm_set1_epi8(1), group = in(reg) group.as_ptr(), options(nostack, preserves_flags));
            // The last byte is the counter.
            _mm_movemask_epi8(same) as u32 & ((1 << GROUP) - 1)
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
    {
        let [low, high] = group;
        places(low.load(Ordering::Acquire), high.load(Ordering::Acquire), tag(hash))
    }
}

/// A bit for each place of a group whose tag is `tag`. One number for both words: a branch on which of
/// them has it would be guessed wrong half of the time, and that only after the line has come, so that the
/// processor could not begin with the next touch meanwhile.
#[inline(always)]
pub(crate) fn places(low: u64, high: u64, tag: u8) -> u32 {
    // The last byte is the counter.
    same_bytes(low, high, tag) & ((1 << GROUP) - 1)
}

/// A bit for each of the sixteen bytes of two words that equals `byte`.
#[inline(always)]
fn same_bytes(low: u64, high: u64, byte: u8) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
        // SAFETY: every x86-64 processor has SSE2, which is all that these need; they touch no memory.
        unsafe {
            let words = _mm_set_epi64x(high as i64, low as i64);
            _mm_movemask_epi8(_mm_cmpeq_epi8(words, _mm_set1_epi8(byte as i8))) as u32
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    same_bytes_by_word(low, high, byte)
}

/// The same on every processor.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn same_bytes_by_word(low: u64, high: u64, byte: u8) -> u32 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let bits = |word: u64| {
        let differ = word ^ u64::from(byte).wrapping_mul(0x0101_0101_0101_0101);
        let same = !(((differ & LOW) + LOW) | differ | LOW);
        // Multiplied, the highest bits of the eight bytes come to lie side by side.
        ((same >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
    };
    bits(low) | bits(high) << 8
}

// SAFETY: the region is memory that belongs to no thread; all access to it is atomic.
#[cfg(not(loom))]
unsafe impl Send for Region {}
// SAFETY: as above.
#[cfg(not(loom))]
unsafe impl Sync for Region {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_of_a_group_has_its_bit() {
        for place in 0..16 {
            let group = 0x5a_u128 << (place * 8);
            let expected = if place == 15 { 0 } else { 1 << place };
            assert_eq!(places(group as u64, (group >> 64) as u64, 0x5a), expected);
        }
        assert_eq!(places(0x5a00_5a5a_005a_0000, 0xff5a_0000_0000_5a5a, 0x5a), 0b0100_0011_1011_0100);
    }

    #[cfg(not(loom))]
    #[test]
    fn a_group_in_the_region_is_searched_for_the_tag_of_a_digest_as_its_words_are() {
        #[repr(align(16))]
        struct Aligned([Word; 2]);
        let words = [0, u64::MAX, 0x0001_0080_7f00_ff01, 0x0102_0304_0506_0708, 0x8000_0000_0000_0001];
        for (low, high) in words.iter().flat_map(|low| words.map(|high| (*low, high))) {
            let group = Aligned([Word::new(low), Word::new(high)]);
            for hash in (0..=255).map(|byte| 0xdead_beef_ffff_0100 | byte) {
                let expected = places(low, high, tag(hash));
                // SAFETY: it is aligned.
                assert_eq!(unsafe { places_of(&group.0, hash) }, expected, "{low:x} {high:x} {hash:x}");
            }
        }
    }

    #[test]
    fn every_byte_that_equals_is_found_and_no_other_on_every_processor() {
        let words = [0, u64::MAX, 0x0001_0080_7f00_ff01, 0x0100_0100_0100_0100, 0x8000_0000_0000_0001];
        for (low, high) in words.iter().flat_map(|low| words.map(|high| (*low, high))) {
            for byte in 0..=255_u8 {
                let bytes = low.to_le_bytes().into_iter().chain(high.to_le_bytes());
                let expected = bytes.enumerate().map(|(nth, other)| u32::from(other == byte) << nth).sum::<u32>();
                assert_eq!(same_bytes(low, high, byte), expected, "{low:x} {high:x} {byte:x}");
                assert_eq!(same_bytes_by_word(low, high, byte), expected, "{low:x} {high:x} {byte:x}");
            }
        }
    }

    #[cfg(not(loom))]
    #[test]
    fn a_search_begins_in_the_group_of_the_shard_that_the_same_digest_belongs_to() {
        for capacity in [1, 4000, 300_000, 3_000_000] {
            let region = crate::backing::private(&crate::backing::Config::new(capacity)).unwrap();
            let layout = &region.layout;
            let spread = (0..5000).map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            for hash in spread.chain([0, u64::MAX, 0xffff_ffff, 1 << 32, 1 << 63, (1 << 63) - 1]) {
                let shard = layout.shard_of(hash);
                let index = crate::index::Index::of(layout, layout.at_groups, shard);
                let expected = &region.words()[index.at + index.home(hash) * 2];
                assert!(std::ptr::eq(&region.home(hash).words()[0], expected), "{capacity} {hash:x}");
                assert_eq!(region.home(hash).group / layout.groups, shard, "{capacity} {hash:x}");
            }
        }
    }
}

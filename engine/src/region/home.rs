//! Where the search for a digest begins: a group of the index, and the records of its places.
//!
//! Every touch comes by here, with nothing but a digest, and finds its way without one comparison of a bound: those
//! are given by the arithmetic, and asserted once (`Parts::of`).

use std::num::NonZeroU32;

#[cfg(not(all(target_arch = "x86_64", not(loom), not(miri))))]
use crate::atomic::Ordering;
use crate::atomic::Word;
use crate::layout::GROUP;
#[cfg(not(loom))]
use crate::region::prefetch;
use crate::region::{Line, Region};

impl Region {
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

//! The index: from the bits of a digest to the position of what has it.
//!
//! Groups of 16 bytes: fifteen one-byte tags and one overflow counter (as in Folly's F14). The
//! n-th tag of a group stands for the n-th place of that group in the array beside it, so finding
//! something costs one small line and the line of the thing itself. A tag of zero is an empty
//! place. What finds its home group full goes to the next group that has room, and raises the
//! counter of every group it passed; a search goes on past a group only while that counter is not
//! zero. Taking something out lowers the counters again, so there are no tombstones and nothing is
//! ever rehashed. A counter that reaches 255 stays there until the shard is rebuilt.
//!
//! Within its group a digest has a favourite place (one of sixteen has none), which it takes if that is
//! free. A reader asks for the memory of what is there before it has read the group, so that both are on their
//! way at once. With half of the places taken that is right for nearly half of what comes, with nine of ten for
//! one in ten; a table that was filled from empty and not changed since has half of all there even so.
//!
//! Readers take no lock. Counters are raised before the tag is set, and things do not move, so a
//! reader finds everything that was there when it came. A tag that matches is a hint: the reader
//! compares the whole digest.

use crate::layout::{GROUP, Layout};
use crate::region::{Region, places, tag};

/// The overflow counter is the last byte of the second word.
const COUNTER: u32 = 56;
const STUCK: u64 = 255;

/// The groups of one shard.
#[derive(Clone, Copy)]
pub(crate) struct Index {
    /// Word of the first group.
    pub(crate) at: usize,
    pub(crate) groups: usize,
    /// Of a digest's highest bits, how many have chosen the shard.
    pub(crate) shard_bits: u32,
}

/// The place of a group that a digest takes if it is free. Its bits choose nothing else. Of sixteen digests
/// one has none; to say so takes a touch less than to share fifteen places out among sixteen.
#[inline]
pub(crate) fn favourite_place(hash: u64) -> usize {
    const { assert!(GROUP == 15) };
    (hash >> 24 & 15) as usize
}

impl Index {
    /// That of one shard among those whose groups begin at `at_groups`.
    #[inline]
    pub(crate) fn of(layout: &Layout, at_groups: usize, shard: usize) -> Index {
        let groups = layout.groups;
        Index { at: at_groups + shard * groups * 2, groups, shard_bits: layout.shards.ilog2() }
    }

    /// The group where the search for a digest begins: from what of its high half did not choose the shard.
    #[inline]
    pub(crate) fn home(&self, hash: u64) -> usize {
        (((hash >> 32 << self.shard_bits & 0xffff_ffff) * self.groups as u64) >> 32) as usize
    }

    #[inline]
    fn next(&self, group: usize) -> usize {
        if group + 1 == self.groups { 0 } else { group + 1 }
    }

    /// Word of the group of a position, for prefetching.
    #[inline]
    pub(crate) fn word_of(&self, position: usize) -> usize {
        self.at + position / GROUP * 2
    }

    /// Offers `is_it` every position whose tag matches until it takes one. Wait-free: at most one
    /// round through the groups.
    #[inline(always)]
    pub(crate) fn find<T>(&self, region: &Region, hash: u64, mut is_it: impl FnMut(usize) -> Option<T>) -> Option<T> {
        let tag = tag(hash);
        let mut group = self.home(hash);
        for _ in 0..self.groups {
            let low = region.load(self.at + group * 2);
            let high = region.load(self.at + group * 2 + 1);
            let mut hits = places(low, high, tag);
            while hits != 0 {
                if let Some(found) = is_it(group * GROUP + hits.trailing_zeros() as usize) {
                    return Some(found);
                }
                hits &= hits - 1;
            }
            if high >> COUNTER == 0 {
                return None;
            }
            group = self.next(group);
        }
        None
    }

    /// The first empty position on the way of a digest, its favourite place before others of a group. It stays
    /// empty only under the shard's lock, which all below is to be called with.
    pub(crate) fn vacancy(&self, region: &Region, hash: u64) -> Option<usize> {
        let mut group = self.home(hash);
        for _ in 0..self.groups {
            if let Some(position) = self.vacancy_in(group, region, hash) {
                return Some(position);
            }
            group = self.next(group);
        }
        None
    }

    /// What [`Index::vacancy`] gives if the home group has room. For a hint, nothing need be locked.
    pub(crate) fn vacancy_at_home(&self, region: &Region, hash: u64) -> Option<usize> {
        self.vacancy_in(self.home(hash), region, hash)
    }

    fn vacancy_in(&self, group: usize, region: &Region, hash: u64) -> Option<usize> {
        let empty = places(region.get(self.at + group * 2), region.get(self.at + group * 2 + 1), 0);
        let favourite = favourite_place(hash);
        let first = if empty >> favourite & 1 == 1 { favourite } else { empty.trailing_zeros() as usize };
        (empty != 0).then_some(group * GROUP + first)
    }

    /// Takes the position that [`Index::vacancy`] gave for the digest.
    pub(crate) fn occupy(&self, region: &Region, position: usize, hash: u64) {
        self.passed(position, hash, |group| {
            let at = self.at + group * 2 + 1;
            let word = region.get(at);
            if word >> COUNTER < STUCK {
                region.publish(at, word + (1 << COUNTER));
            }
        });
        self.set_tag(region, position, tag(hash));
    }

    /// Gives a position back.
    pub(crate) fn vacate(&self, region: &Region, position: usize, hash: u64) {
        self.set_tag(region, position, 0);
        self.passed(position, hash, |group| {
            let at = self.at + group * 2 + 1;
            let word = region.get(at);
            if (1..STUCK).contains(&(word >> COUNTER)) {
                region.publish(at, word - (1 << COUNTER));
            }
        });
    }

    /// The groups that a digest passes between its home and its position.
    fn passed(&self, position: usize, hash: u64, mut each: impl FnMut(usize)) {
        let mut group = self.home(hash);
        for _ in 0..self.groups {
            if group == position / GROUP {
                return;
            }
            each(group);
            group = self.next(group);
        }
    }

    pub(crate) fn tag_at(&self, region: &Region, position: usize) -> u8 {
        let (word, shift) = self.tag_place(position);
        (region.get(word) >> shift) as u8
    }

    fn set_tag(&self, region: &Region, position: usize, tag: u8) {
        let (at, shift) = self.tag_place(position);
        let others = region.get(at) & !(0xff << shift);
        region.publish(at, others | u64::from(tag) << shift);
    }

    fn tag_place(&self, position: usize) -> (usize, usize) {
        let (group, place) = (position / GROUP, position % GROUP);
        (self.at + group * 2 + place / 8, place % 8 * 8)
    }

    /// Puts every group right from what `hash_at` says is at each position, without hiding from a
    /// reader what is there: each word goes from what it was to what it should be in one store.
    pub(crate) fn rebuild(&self, region: &Region, hash_at: impl Fn(usize) -> Option<u64>) {
        let mut counters = vec![0_u64; self.groups];
        for position in 0..self.groups * GROUP {
            if let Some(hash) = hash_at(position) {
                self.passed(position, hash, |group| counters[group] += 1);
            }
        }
        for (group, counter) in counters.into_iter().enumerate() {
            let mut words = [0, counter.min(STUCK) << COUNTER];
            for place in 0..GROUP {
                if let Some(hash) = hash_at(group * GROUP + place) {
                    words[place / 8] |= u64::from(tag(hash)) << (place % 8 * 8);
                }
            }
            // The counter first: whoever is found by it in a later group must not be hidden.
            region.publish(self.at + group * 2 + 1, words[1]);
            region.publish(self.at + group * 2, words[0]);
        }
    }

    /// What is wrong with the groups, given what is at each position.
    pub(crate) fn check(&self, region: &Region, hash_at: impl Fn(usize) -> Option<u64>) -> Result<(), String> {
        let mut counters = vec![0_u64; self.groups];
        for position in 0..self.groups * GROUP {
            let (hash, tagged) = (hash_at(position), self.tag_at(region, position));
            if tagged != hash.map_or(0, tag) {
                return Err(format!("position {position} has tag {tagged:02x} and holds {hash:x?}"));
            }
            if let Some(hash) = hash {
                self.passed(position, hash, |group| counters[group] += 1);
            }
        }
        for (group, expected) in counters.into_iter().enumerate() {
            let counter = region.get(self.at + group * 2 + 1) >> COUNTER;
            if counter != STUCK && counter != expected {
                return Err(format!("group {group} counts {counter} overflows and has {expected}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(loom))]
    #[test]
    fn a_digest_has_its_favourite_place_if_that_is_free_and_then_its_memory_can_be_asked_for_ahead() {
        let region = crate::backing::private(&crate::backing::Config::new(4000)).unwrap();
        let index = region.index(0);
        let hashes = || (1..).map(|n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ n.rotate_left(29));
        let (most, mut in_favour) = (index.groups * GROUP * 9 / 10, 0);
        for hash in hashes().take(most) {
            let (home, favourite) = (index.home(hash) * GROUP, favourite_place(hash));
            let free = favourite < GROUP && index.tag_at(&region, home + favourite) == 0;
            let position = index.vacancy(&region, hash).unwrap();
            assert_eq!(favourite < GROUP && position == home + favourite, free, "{hash:x}");
            index.occupy(&region, position, hash);
            in_favour += usize::from(free);
        }
        assert!(in_favour > most / 2, "{in_favour} of {most} in a table that was filled from empty");
        let mut places: Vec<_> = hashes().take(most).map(favourite_place).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places, (0..=GROUP).collect::<Vec<_>>(), "every place is somebody's favourite, and some have none");
    }
}

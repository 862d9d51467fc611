//! The memory of a region, as words. The only `unsafe` of the engine is here, and in `region/home.rs`.
//!
//! A region is a slice of 64-bit atomic words in memory that was mapped (private memory, or a file
//! that other processes map too) or that the caller lent. Atomics make concurrent change by others
//! defined; what they wrote is never trusted (see `docs/protocol.md`), so that the worst a foreign
//! byte can do is to give a wrong answer about the session it belongs to.

use crate::atomic::{Ordering, Word};
#[cfg(not(loom))]
use crate::layout::GROUP;
use crate::layout::{LINE, Layout, POLICIES, POLICY};
use crate::owner::Owner;

mod home;

pub(crate) use home::{First, places, tag};

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

    /// Asks the system to put the pages of the region's memory, which are there, together to ones of 2 MiB;
    /// whether it has, as far as it says. Some page may be in use just then, and not a moment later.
    #[cfg(not(loom))]
    pub(crate) fn put_together(&self) -> bool {
        /// Of Linux's asm-generic/mman-common.h; not every C library has a name for it.
        const MADV_COLLAPSE: nix::libc::c_int = 25;
        // SAFETY: the memory is the region's (see `words`). What is in it stays, and stays where it is; only which
        // pages it lies in is changed.
        unsafe { nix::libc::madvise(self.start.cast(), self.layout.bytes(), MADV_COLLAPSE) == 0 }
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

// SAFETY: the region is memory that belongs to no thread; all access to it is atomic.
#[cfg(not(loom))]
unsafe impl Send for Region {}
// SAFETY: as above.
#[cfg(not(loom))]
unsafe impl Sync for Region {}

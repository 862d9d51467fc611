//! Where a process can die. For the engine's own tests, and not part of its interface.
//!
//! A process that is killed leaves a region as its last store left it. So the points at which dying
//! makes a difference are the stores: each is a *step*, and before it the hook of the thread is
//! called, if it has one. The hook may raise a signal, run something else, or [`die`]. Counting the
//! steps of a call and then making it once for each of them kills it at every point there is.
//!
//! Taking a lock is no step, because who dies before it has done nothing, and who dies after it dies
//! before the next one. Letting go is.

use std::cell::{Cell, RefCell};

use crate::layout::{LINE, Layout, POLICIES, POLICY, SHARD, SHARD_FIELDS, SUBJECT_HEADER, header};

/// A lock between processes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Guard {
    /// The policy lock.
    Policies,
    /// That of a shard of sessions.
    Sessions(usize),
    /// That of a shard of subjects.
    Subjects(usize),
    /// The ring's.
    Ring,
}

/// A lock that the thread holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Held {
    /// Which.
    pub guard: Guard,
    /// It was taken over from somebody who died.
    pub inherited: bool,
}

/// What a word belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Part {
    /// A lock: it is about to be let go of.
    Lock(Guard),
    /// A counter in the header that no lock guards, an owner's epoch, or the header while it is made.
    Header,
    /// The head of the ring.
    RingHead,
    /// The number of policy changes.
    PolicyChanges,
    /// A policy.
    Policy,
    /// The fields of a session shard.
    Shard(usize),
    /// A wheel of a session shard.
    Wheel(usize),
    /// The chunks of a session shard's timer.
    Chunk(usize),
    /// The index of a session shard.
    Group(usize),
    /// The last activity in a record of a session shard.
    Last(usize),
    /// Another word of a record of a session shard.
    Record(usize),
    /// The fields of a subject shard.
    Subjects(usize),
    /// The index of a subject shard.
    SubjectGroup(usize),
    /// The heads of a subject shard.
    SubjectHead(usize),
    /// A link.
    Link,
    /// An event.
    Event,
}

/// A store that is about to be made.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The word, counted from the beginning of the region.
    pub word: usize,
    /// What it belongs to.
    pub part: Part,
    /// The locks that the thread holds, in the order in which it took them.
    pub held: &'a [Held],
}

type Hook = Box<dyn FnMut(&Step<'_>)>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    static HELD: RefCell<Vec<Held>> = const { RefCell::new(Vec::new()) };
    static DEAD: Cell<bool> = const { Cell::new(false) };
}

/// Calls `hook` before every step of this thread. It is not called for steps that it makes itself.
pub fn on_step(hook: impl FnMut(&Step<'_>) + 'static) {
    HOOK.set(Some(Box::new(hook)));
}

/// Calls nothing any more.
pub fn clear() {
    HOOK.take();
}

/// Dies as a killed process does: whatever the thread had locked stays locked, and it changes
/// nothing any more until [`revive`]. The call unwinds, so that a test goes on where it caught that.
pub fn die() -> ! {
    DEAD.set(true);
    std::panic::resume_unwind(Box::new("killed"))
}

/// Lets the thread act again, as somebody else: the table it died with must have been dropped.
pub fn revive() {
    DEAD.set(false);
    HELD.take();
}

pub(crate) fn step(layout: &Layout, word: usize) {
    if !DEAD.get() && !std::thread::panicking() {
        call(word, part(layout, word));
    }
}

/// A step in words that have no geometry yet.
pub(crate) fn step_in_header() {
    call(header::EPOCHS, Part::Header);
}

fn call(word: usize, part: Part) {
    let Some(mut hook) = HOOK.take() else { return };
    // What the hook itself does takes and lets go of its own locks.
    let held = HELD.take();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| hook(&Step { word, part, held: &held })));
    HELD.set(held);
    match outcome {
        Ok(()) => HOOK.with_borrow_mut(|slot| {
            slot.get_or_insert(hook);
        }),
        Err(death) => std::panic::resume_unwind(death),
    }
}

pub(crate) fn took(layout: &Layout, at: usize, inherited: bool) {
    HELD.with_borrow_mut(|held| held.push(Held { guard: guard(layout, at), inherited }));
}

pub(crate) fn letting_go(layout: &Layout, at: usize, release: impl Fn()) {
    // Whoever dies at this step still has the lock; whoever unwinds from it abandons it.
    struct Going<F: Fn()>(F);
    impl<F: Fn()> Drop for Going<F> {
        fn drop(&mut self) {
            if !DEAD.get() {
                (self.0)();
            }
        }
    }
    let _going = Going(release);
    step(layout, at);
    let guard = guard(layout, at);
    HELD.with_borrow_mut(|held| held.retain(|one| one.guard != guard));
}

fn guard(layout: &Layout, at: usize) -> Guard {
    match at {
        header::POLICY_LOCK => Guard::Policies,
        header::RING_LOCK => Guard::Ring,
        _ if at < layout.at_subjects => Guard::Sessions((at - layout.at_shards) / SHARD),
        _ => Guard::Subjects((at - layout.at_subjects) / SUBJECT_HEADER),
    }
}

fn part(layout: &Layout, at: usize) -> Part {
    let is = |begin: usize, length: usize| at >= begin && at < begin + length;
    let (shards, slots, groups) = (layout.shards, layout.slots, layout.groups * 2);
    let within = |begin: usize, each: usize| (at - begin) / each;
    if at == header::POLICY_LOCK || at == header::RING_LOCK {
        Part::Lock(guard(layout, at))
    } else if at == header::RING_HEAD {
        Part::RingHead
    } else if at == header::POLICY_CHANGES {
        Part::PolicyChanges
    } else if is(layout.at_policies, POLICIES * POLICY) {
        Part::Policy
    } else if is(layout.at_shards, shards * SHARD) {
        let (shard, field) = (within(layout.at_shards, SHARD), (at - layout.at_shards) % SHARD);
        match field {
            0 => Part::Lock(Guard::Sessions(shard)),
            _ if field < SHARD_FIELDS => Part::Shard(shard),
            _ => Part::Wheel(shard),
        }
    } else if is(layout.at_subjects, shards * SUBJECT_HEADER) {
        let shard = within(layout.at_subjects, SUBJECT_HEADER);
        let is_lock = (at - layout.at_subjects).is_multiple_of(SUBJECT_HEADER);
        if is_lock { Part::Lock(Guard::Subjects(shard)) } else { Part::Subjects(shard) }
    } else if is(layout.at_events, layout.events * LINE) {
        Part::Event
    } else if is(layout.at_groups, shards * groups) {
        Part::Group(within(layout.at_groups, groups))
    } else if is(layout.at_records, shards * slots * LINE) {
        let shard = within(layout.at_records, slots * LINE);
        if (at - layout.at_records) % LINE == 3 { Part::Last(shard) } else { Part::Record(shard) }
    } else if is(layout.at_links, shards * slots) {
        Part::Link
    } else if is(layout.at_subject_groups, shards * groups) {
        Part::SubjectGroup(within(layout.at_subject_groups, groups))
    } else if is(layout.at_subject_heads, shards * slots.div_ceil(2)) {
        Part::SubjectHead(within(layout.at_subject_heads, slots.div_ceil(2)))
    } else if is(layout.at_chunks, shards * layout.chunks * LINE) {
        Part::Chunk(within(layout.at_chunks, layout.chunks * LINE))
    } else {
        Part::Header
    }
}

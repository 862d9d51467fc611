//! A lock between processes that knows its owner and outlives it.
//!
//! The lock is one word: zero when free, else the id of its owner (owner.rs), or [`ABANDONED`]
//! when a thread unwound while it held it. Whoever finds the owner dead takes the lock over by
//! exchanging the word, so exactly one heir gets it, and is told that it inherited: what the lock
//! guards may be half-changed and must be rebuilt before use. An heir that dies in turn leaves the
//! lock in the same state.
//!
//! A waiter spins for a moment and then sleeps in steps of 20 us; after the first and then once a
//! millisecond it asks whether the owner still lives. Locks are held for microseconds.

use crate::region::Region;

/// What an unwinding thread leaves in the word. No owner has this id.
const ABANDONED: u64 = u64::MAX;

/// A lock that is held; dropping it lets go.
pub(crate) struct Lock<'a> {
    region: &'a Region,
    at: usize,
    /// The one who held it before did not let go by itself.
    pub(crate) inherited: bool,
}

impl Region {
    /// Takes the lock whose word is at `at`.
    pub(crate) fn lock(&self, at: usize) -> Lock<'_> {
        let mut waited = Waiting::new();
        loop {
            let holder = match self.seize(at, 0, self.owner.id) {
                Ok(_) => return Lock::held(self, at, false),
                Err(holder) => holder,
            };
            let gone = holder == ABANDONED || (waited.step() && !self.owner.is_alive(holder, self.words()));
            // The exchange names the dead holder: of all who find it dead, one inherits.
            if gone && self.seize(at, holder, self.owner.id).is_ok() {
                return Lock::held(self, at, true);
            }
        }
    }
}

impl<'a> Lock<'a> {
    fn held(region: &'a Region, at: usize, inherited: bool) -> Lock<'a> {
        #[cfg(feature = "crash-points")]
        crate::crash::took(&region.layout, at, inherited);
        Lock { region, at, inherited }
    }
}

impl Region {
    /// Marks the lock whose word is at `at` as abandoned if its holder is one that cannot be at work.
    #[cfg(not(loom))]
    pub(crate) fn abandon(&self, at: usize, is_gone: impl Fn(u64) -> bool) {
        let holder = self.get(at);
        if holder != 0 && is_gone(holder) {
            // If the word has changed, somebody who is at work has taken it over already.
            let _ = self.seize(at, holder, ABANDONED);
        }
    }
}

impl Lock<'_> {
    fn release(&self) {
        let left = if std::thread::panicking() { ABANDONED } else { 0 };
        self.region.release(self.at, left);
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        #[cfg(feature = "crash-points")]
        crate::crash::letting_go(&self.region.layout, self.at, || self.release());
        #[cfg(not(feature = "crash-points"))]
        self.release();
    }
}

#[cfg(not(loom))]
struct Waiting {
    backoff: crossbeam_utils::Backoff,
    naps: u32,
}

#[cfg(not(loom))]
impl Waiting {
    fn new() -> Waiting {
        Waiting { backoff: crossbeam_utils::Backoff::new(), naps: 0 }
    }

    /// Waits a little; true when it is time to ask after the owner.
    fn step(&mut self) -> bool {
        if !self.backoff.is_completed() {
            self.backoff.snooze();
            return false;
        }
        std::thread::sleep(std::time::Duration::from_micros(20));
        self.naps += 1;
        self.naps % 16 == 1
    }
}

#[cfg(loom)]
struct Waiting {
    asked: bool,
}

#[cfg(loom)]
impl Waiting {
    fn new() -> Waiting {
        Waiting { asked: false }
    }

    /// Asks at once: loom runs a thread that yields only when no other can go on, so that one which
    /// yields first would never ask while the lock is held.
    fn step(&mut self) -> bool {
        if std::mem::replace(&mut self.asked, true) {
            loom::thread::yield_now();
        }
        true
    }
}

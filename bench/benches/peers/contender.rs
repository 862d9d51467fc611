//! What everyone who takes part can do, and what a session is to those who have no notion of one.

use std::fmt::Debug;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use curfew_bench::clock::Clock;
use hdrhistogram::Histogram;

/// The policy of every session: long enough that only what is meant to end ends.
pub(crate) const IDLE: u64 = 8 * 3_600_000;
pub(crate) const LIFETIME: u64 = 30 * 24 * 3_600_000;
/// The idle timeout of those that fall due together.
pub(crate) const SHORT: u64 = 60_000;

/// Someone who keeps sessions. `now` is in milliseconds and passed in, for everyone: reading the
/// clock costs more than a touch on many virtual machines.
pub(crate) trait Contender<K>: Sync {
    /// A session begins, with this idle timeout.
    fn start(&self, key: K, idle: u64, now: u64);
    /// Whether the session may go on; counts as activity if so.
    fn touch(&self, key: K, now: u64) -> bool;
    /// Somebody logs out.
    fn end(&self, key: K, now: u64);
    /// Forgets what has ended by `now`; says how many were looked at.
    fn advance(&self, now: u64) -> usize;

    /// Does all of `steps`, with `now` going on; says how many requests passed. The thread that
    /// `advances` does so every millisecond.
    fn work(&self, steps: &[Step<K>], from: u64, advances: bool) -> usize
    where
        K: Copy,
    {
        work(self, steps.iter().copied(), from, advances)
    }

    /// How long single touches take, each after the one before has ended.
    fn touch_each(&self, keys: &[K], clock: &Clock, from: u64, seen: &mut Histogram<u64>) -> usize
    where
        K: Copy,
    {
        let mut passed = 0;
        for (nth, key) in keys.iter().enumerate() {
            let now = from + (nth / A_MILLISECOND) as u64;
            let began = clock.read();
            passed += usize::from(self.touch(*key, now));
            seen.saturating_record(clock.nanos(began, clock.read()));
        }
        passed
    }
}

/// Does `steps` with a contender, as [`Contender::work`] says.
#[inline(always)]
pub(crate) fn work<K>(
    contender: &(impl Contender<K> + ?Sized),
    steps: impl Iterator<Item = Step<K>>,
    from: u64,
    advances: bool,
) -> usize {
    let (mut passed, mut now, mut left) = (0, from, A_MILLISECOND);
    for step in steps {
        match step {
            Step::Touch(key) => passed += usize::from(contender.touch(key, now)),
            Step::Start(key) => contender.start(key, IDLE, now),
            Step::End(key) => contender.end(key, now),
        }
        left -= 1;
        if left == 0 {
            if advances {
                contender.advance(now);
            }
            (now, left) = (now + 1, A_MILLISECOND);
        }
    }
    passed
}

/// Steps after which `now` goes on by a millisecond.
pub(crate) const A_MILLISECOND: usize = 1000;

/// One thing to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<K> {
    Touch(K),
    Start(K),
    End(K),
}

impl<K> Step<K> {
    #[inline]
    pub(crate) fn key(&self) -> &K {
        let (Step::Touch(key) | Step::Start(key) | Step::End(key)) = self;
        key
    }

    #[inline]
    pub(crate) fn map<L>(self, to: impl FnOnce(K) -> L) -> Step<L> {
        match self {
            Step::Touch(key) => Step::Touch(to(key)),
            Step::Start(key) => Step::Start(to(key)),
            Step::End(key) => Step::End(to(key)),
        }
    }
}

/// What sessions are found by.
pub(crate) trait Id: Copy + Eq + Hash + Send + Sync + Debug + 'static {
    /// How everybody hashes it.
    type Hasher: std::hash::BuildHasher + Default + Clone + Send + Sync + 'static;
}

/// A digest: nothing is gained by hashing it again.
impl Id for u128 {
    type Hasher = BuildHasherDefault<Digest>;
}

/// An id as the client presents it.
impl Id for [u8; 32] {
    type Hasher = ahash::RandomState;
}

/// Takes the low half of a digest for its hash.
#[derive(Default, Clone)]
pub(crate) struct Digest(u64);

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 ^= u64::from_le_bytes(word);
        }
    }

    fn write_u128(&mut self, digest: u128) {
        self.0 = digest as u64;
    }
}

/// A session in somebody else's map, with what every touch has to look at.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) last: AtomicU64,
    pub(crate) start: u64,
    pub(crate) idle: u64,
    pub(crate) lifetime: u64,
    pub(crate) token: u64,
    pub(crate) binding: u64,
    /// Looked at by nobody here; in life one would revoke by it.
    #[expect(dead_code, reason = "it is there for its room")]
    pub(crate) subject: u64,
}

impl Session {
    pub(crate) fn new(idle: u64, now: u64) -> Session {
        Session {
            last: AtomicU64::new(now),
            start: now,
            idle,
            lifetime: LIFETIME,
            token: u64::MAX,
            binding: 0,
            subject: 0,
        }
    }

    #[inline]
    pub(crate) fn due(&self) -> u64 {
        (self.last.load(Ordering::Relaxed) + self.idle).min(self.start + self.lifetime).min(self.token)
    }

    /// Decides, and moves the last activity forward.
    #[inline]
    pub(crate) fn touch(&self, now: u64) -> bool {
        let lives = now < self.due() && self.binding == 0;
        if lives && now > self.last.load(Ordering::Relaxed) {
            self.last.store(now, Ordering::Relaxed);
        }
        lives
    }
}

//! The policies of a region, which can change while sessions live under them.
//!
//! ```text
//! line 0   head (sequence 32 | older 8 | exists 8) | number of the last change | name (4 words)
//! line 1-4 versions: packed policy (5 words) | since (tick)
//! ```
//!
//! A version is written before the head names it and is never changed after. A change keeps the
//! versions before it until every shard has been swept (shard/timed.rs), because a session that had
//! ended under the old version before the change must not come back under the new one: while there
//! are older versions, a life is judged by each in turn, up to the tick at which the next took over.
//!
//! Readers take no lock: head, version, head again. Changes are made under the policy lock.

use crate::atomic::{Ordering, fence};
use crate::error::PolicyError;
use crate::layout::{LINE, POLICIES, VERSIONS, header};
use crate::lock::Lock;
use crate::policy::{Limits, PACKED, Policy};
use crate::region::Region;
use crate::state::{Life, State, over_before, state};
use crate::time::Tick;

const CHANGE: usize = 1;
const NAME: usize = 2;
/// Of a name, with its length.
pub(crate) const NAME_BYTES: usize = 32;
const SINCE: usize = PACKED;
/// Attempts to read a policy that changes meanwhile; each failure is a whole change.
const READS: usize = 8;

/// Names a policy of one region.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct PolicyId(pub(crate) u8);

impl PolicyId {
    /// Its number: policies are numbered from zero in the order in which they were first set.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    /// The policy of a region with this number. The verbs that take it say when there is none.
    #[must_use]
    pub fn from_number(number: u8) -> PolicyId {
        PolicyId(number)
    }
}

#[derive(Clone, Copy)]
struct Head(u64);

impl Head {
    fn new(sequence: u32, older: usize) -> Head {
        Head(u64::from(sequence) << 32 | (older as u64) << 8 | 1)
    }

    fn exists(self) -> bool {
        self.0 & 0xff == 1
    }

    /// Whether it exists and nothing older is remembered.
    #[inline(always)]
    fn is_only(self) -> bool {
        self.0 as u16 == 1
    }

    fn older(self) -> usize {
        (self.0 >> 8 & 0xff) as usize % VERSIONS
    }

    fn sequence(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// A policy as it is now, and as it was for sessions that nobody has looked at since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) policy: Policy,
    /// Since when it says so. A session that starts by a clock which lags behind this starts now:
    /// it must not be judged by versions that it never lived under.
    pub(crate) since: Tick,
    /// Older versions, the oldest first, each with the tick at which the next took over.
    older: [(Policy, Tick); VERSIONS - 1],
    count: usize,
}

/// A policy as it is now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Newest {
    pub(crate) policy: Policy,
    /// As in [`Rules`].
    pub(crate) since: Tick,
}

impl Rules {
    /// All versions, the oldest first, each with the tick since when it holds.
    #[cfg(not(loom))]
    pub(crate) fn versions(&self) -> impl Iterator<Item = (Policy, Tick)> + '_ {
        let older = &self.older[..self.count];
        let since = std::iter::once(Tick::ZERO).chain(older.iter().map(|(_, until)| *until));
        let older = older.iter().zip(since).map(|((version, _), since)| (*version, since));
        older.chain(std::iter::once((self.policy, self.since)))
    }

    /// The state of a life at `now`, and the version that decided.
    #[inline]
    pub(crate) fn state(&self, life: &Life, now: Tick) -> (State, &Policy) {
        if life.mark.is_none() {
            for (version, until) in &self.older[..self.count] {
                if let Some(end) = over_before(life, version, *until) {
                    return (State::Ended(end), version);
                }
            }
        }
        (state(life, &self.policy, now), &self.policy)
    }
}

impl Region {
    fn head(&self, id: usize) -> Head {
        Head(self.load(self.layout.policy(id)))
    }

    fn version(&self, id: usize, sequence: u32) -> usize {
        self.layout.policy(id) + LINE + sequence as usize % VERSIONS * LINE
    }

    fn read_version(&self, at: usize) -> Policy {
        Policy::unpack(std::array::from_fn(|word| self.get(at + word)))
    }

    /// What `read` makes of the first words of a policy when no older versions of it are remembered,
    /// which is nearly always; `None` else, and when it changes meanwhile.
    #[inline(always)]
    fn only<const WORDS: usize, T>(&self, id: u8, read: impl FnOnce([u64; WORDS]) -> T) -> Option<T> {
        let words = self.policy_words(usize::from(id))?;
        let head = Head(words[0].load(Ordering::Acquire));
        if !head.is_only() {
            return None;
        }
        let version = LINE + head.sequence() as usize % VERSIONS * LINE;
        let read = read(std::array::from_fn(|word| words[version + word].load(Ordering::Relaxed)));
        fence(Ordering::Acquire);
        (words[0].load(Ordering::Relaxed) == head.0).then_some(read)
    }

    /// The packed limits of a policy that has no older versions.
    #[inline(always)]
    pub(crate) fn only_limits(&self, id: u8) -> Option<[u64; Limits::PACKED]> {
        self.only(id, |words| words)
    }

    /// A policy that has no older versions.
    #[inline]
    pub(crate) fn only_policy(&self, id: u8) -> Option<Policy> {
        self.only(id, Policy::unpack)
    }

    /// A policy as it is now, for those who do not ask what it was.
    #[inline]
    pub(crate) fn newest(&self, id: u8) -> Option<Newest> {
        let only = self.only(id, |words: [u64; PACKED + 1]| {
            let since = Tick::from_word(words[SINCE]);
            Newest { policy: Policy::unpack(std::array::from_fn(|word| words[word])), since }
        });
        only.or_else(|| self.rules(id).map(|rules| Newest { policy: rules.policy, since: rules.since }))
    }

    /// Reads a policy without a lock. `None` when there is none, or when it changed at every attempt.
    #[inline]
    pub(crate) fn rules(&self, id: u8) -> Option<Rules> {
        let id = usize::from(id);
        if id >= POLICIES {
            return None;
        }
        for _ in 0..READS {
            let head = self.head(id);
            if !head.exists() {
                return None;
            }
            let newest = self.version(id, head.sequence());
            let mut rules = Rules {
                policy: self.read_version(newest),
                since: Tick::from_word(self.get(newest + SINCE)),
                older: [(Policy::default(), Tick::ZERO); VERSIONS - 1],
                count: head.older(),
            };
            for back in (1..=head.older()).rev() {
                let sequence = head.sequence().wrapping_sub(back as u32);
                let until = self.get(self.version(id, sequence.wrapping_add(1)) + SINCE);
                rules.older[head.older() - back] =
                    (self.read_version(self.version(id, sequence)), Tick::from_word(until));
            }
            fence(Ordering::Acquire);
            // The number of older versions too: once they are forgotten, the next version takes the
            // place of the oldest, before the sequence goes on.
            if self.get(self.layout.policy(id)) == head.0 {
                return Some(rules);
            }
        }
        None
    }

    /// Sets a policy by name: adds it, or changes it for all sessions that live under it.
    pub(crate) fn set_policy(&self, name: &str, policy: &Policy, now: Tick) -> Result<PolicyId, PolicyError> {
        policy.validate()?;
        if name.is_empty() || name.len() >= NAME_BYTES {
            return Err(PolicyError::Name { bytes: name.len() });
        }
        let _lock = self.lock_policies();
        let Some(id) = self.policy_by_name(name) else {
            let id =
                (0..POLICIES).find(|id| !self.head(*id).exists()).ok_or(PolicyError::TooMany { most: POLICIES })?;
            self.write_name(id, name);
            self.write_version(id, 0, policy, Tick::ZERO);
            self.publish(self.layout.policy(id), Head::new(0, 0).0);
            return Ok(PolicyId(id as u8));
        };
        let head = self.head(id);
        if self.read_version(self.version(id, head.sequence())) == *policy {
            return Ok(PolicyId(id as u8));
        }
        if head.older() + 1 >= VERSIONS {
            return Err(PolicyError::Busy);
        }
        // Versions take over in the order of their ticks, also when the clock of this process lags.
        let since = Tick::from_word(self.get(self.version(id, head.sequence()) + SINCE)).max(now);
        let sequence = head.sequence().wrapping_add(1);
        fence(Ordering::Release);
        self.write_version(id, sequence, policy, since);
        self.set(self.layout.policy(id) + CHANGE, self.next_change());
        self.publish(self.layout.policy(id), Head::new(sequence, head.older() + 1).0);
        self.count_change();
        Ok(PolicyId(id as u8))
    }

    /// Locks the policies, and puts them right if their last owner died.
    pub(crate) fn lock_policies(&self) -> Lock<'_> {
        let lock = self.lock(header::POLICY_LOCK);
        if lock.inherited {
            // A change may have been published and not counted: count one, so that it is swept.
            self.count_change();
        }
        lock
    }

    /// Puts in a policy of another region under its number there. The region is empty, and nobody
    /// else's yet.
    #[cfg(not(loom))]
    pub(crate) fn adopt_policy(&self, id: u8, name: &str, policy: &Policy, since: Tick) {
        let _lock = self.lock_policies();
        let id = usize::from(id);
        self.write_name(id, name);
        self.write_version(id, 0, policy, since);
        self.publish(self.layout.policy(id), Head::new(0, 0).0);
    }

    fn count_change(&self) {
        self.publish(header::POLICY_CHANGES, self.next_change());
    }

    /// A number at the top is damage. It starts over, and a repair, which makes all shards sweep
    /// anew, puts it right.
    fn next_change(&self) -> u64 {
        self.get(header::POLICY_CHANGES).wrapping_add(1)
    }

    /// Forgets the older versions of policies that have not changed since change `swept`.
    pub(crate) fn forget_versions(&self, swept: u64) {
        let _lock = self.lock_policies();
        for id in 0..POLICIES {
            let head = self.head(id);
            if head.exists() && head.older() > 0 && self.get(self.layout.policy(id) + CHANGE) <= swept {
                self.publish(self.layout.policy(id), Head::new(head.sequence(), 0).0);
            }
        }
    }

    /// Whether some policy still has older versions.
    pub(crate) fn has_older_versions(&self) -> bool {
        (0..POLICIES).any(|id| self.head(id).exists() && self.head(id).older() > 0)
    }

    pub(crate) fn policy_by_name(&self, name: &str) -> Option<usize> {
        (0..POLICIES).find(|id| self.policy_name(*id).as_deref() == Some(name))
    }

    pub(crate) fn policy_name(&self, id: usize) -> Option<String> {
        if !self.head(id).exists() {
            return None;
        }
        let at = self.layout.policy(id) + NAME;
        let bytes: Vec<u8> = (0..NAME_BYTES / 8).flat_map(|word| self.get(at + word).to_le_bytes()).collect();
        let length = usize::from(bytes[0]).min(NAME_BYTES - 1);
        Some(String::from_utf8_lossy(&bytes[1..=length]).into_owned())
    }

    fn write_name(&self, id: usize, name: &str) {
        let mut bytes = [0; NAME_BYTES];
        bytes[0] = name.len() as u8;
        bytes[1..=name.len()].copy_from_slice(name.as_bytes());
        for (word, chunk) in bytes.chunks_exact(8).enumerate() {
            let word_of = chunk.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
            self.set(self.layout.policy(id) + NAME + word, word_of);
        }
    }

    fn write_version(&self, id: usize, sequence: u32, policy: &Policy, since: Tick) {
        let at = self.version(id, sequence);
        for (word, value) in policy.pack().into_iter().enumerate() {
            self.set(at + word, value);
        }
        self.set(at + SINCE, since.as_millis());
    }
}

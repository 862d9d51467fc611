//! The bytes of a snapshot: a head, and entries of 64 bytes. Words of 64 bits, little-endian.
//!
//! ```text
//! head     magic | version | steady | wall | boot | tick | newest | secret (4) | number of the next event
//!          | entries | capacity | size of the event ring | - | checksum of the entries (4) | - (4)
//!          | 64 policies (32 words each) | checksum of the head (4)
//! policy   exists 8 | versions 8  | name (4) | versions, the oldest first: packed policy (5), since | -
//! entry    kind 8 | again 8 | policy 8 | cause 8 | -
//!          | key (2) | last | start | token, or the end | binding, or until when it is kept | subject
//! alias    the same, with the key of the new record in place of `last` and `start`
//! ```
//!
//! The head is written when the entries are. Checksums are BLAKE3: they tell damage, not malice;
//! against that the file belongs to its user alone, like the region.

use crate::cause::{Cause, End};
use crate::error::SnapshotOpenError;
use crate::key::{Binding, Key, Subject};
use crate::layout::{MOST_CAPACITY, MOST_EVENTS, POLICIES, VERSIONS};
use crate::moment::Moment;
use crate::policies::NAME_BYTES;
use crate::policy::{PACKED, Policy};
use crate::state::{Life, deadlines, over_before};
use crate::time::{Span, TICK_MASK, Tick};

pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"curfsnp\n");
/// Raised whenever a word gets another meaning.
pub(super) const VERSION: u64 = 1;
/// Bytes of an entry.
pub(super) const ENTRY: usize = 64;
/// How far ahead of its snapshot a session's last activity can be: as long as it took to write.
pub(super) const WRITING: Span = Span::from_mins(60);

const POLICY_WORDS: usize = 32;
const VERSION_WORDS: usize = PACKED + 1;
const _: () = assert!(1 + NAME_BYTES / 8 + VERSIONS * VERSION_WORDS <= POLICY_WORDS);

const AT_POLICIES: usize = 24;
const AT_SUM: usize = AT_POLICIES + POLICIES * POLICY_WORDS;
/// Bytes of the head.
pub(super) const HEAD: usize = (AT_SUM + 4) * 8;

/// A policy, with those of its versions that sessions may have ended under unseen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct NamedPolicy {
    pub(super) name: String,
    /// The oldest first, each with the tick since when it holds.
    pub(super) versions: Vec<(Policy, Tick)>,
}

impl NamedPolicy {
    pub(super) fn newest(&self) -> &Policy {
        &self.versions.last().expect("a policy has a version").0
    }

    /// Since when the newest holds.
    pub(super) fn since(&self) -> Tick {
        self.versions.last().expect("a policy has a version").1
    }

    /// How a life has ended that was over under an older version when the next one took over, and
    /// that version. Once it has passed them all it always will: a life's deadlines move forward.
    pub(super) fn over_before(&self, life: &Life) -> Option<(End, Policy)> {
        self.versions.windows(2).find_map(|pair| {
            let ((version, _), (_, until)) = (&pair[0], &pair[1]);
            over_before(life, version, *until).map(|end| (end, *version))
        })
    }
}

/// All policies, by their numbers.
pub(super) type Policies = Vec<Option<NamedPolicy>>;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) moment: Moment,
    /// The tick of that moment.
    pub(super) tick: Tick,
    /// The latest activity of any session that had not ended.
    pub(super) newest: Tick,
    pub(super) secret: [u64; 4],
    pub(super) event_head: u64,
    pub(super) entries: u64,
    pub(super) capacity: u64,
    pub(super) events: u64,
    pub(super) sum: [u8; 32],
    pub(super) policies: Policies,
}

/// What the bytes say of one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    /// It was written because something had happened to the key: an earlier one does not count.
    pub(super) again: bool,
    pub(super) what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// A session that nobody has ended; its time may have come.
    Live { policy: u8, life: Life, binding: Binding, subject: Subject },
    /// A session whose end was reported.
    Ended { policy: u8, start: Tick, last: Tick, end: End, until: Tick, subject: Subject },
    /// The old key of a session that was rotated.
    Alias { policy: u8, end: End, until: Tick, target: Option<Key> },
    /// No record has this key any more.
    Gone,
}

struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn get(&self, at: usize) -> u64 {
        u64::from_le_bytes(*self.0[at * 8..].first_chunk().expect("the caller has looked at the length"))
    }

    fn array<const N: usize>(&self, at: usize) -> [u64; N] {
        std::array::from_fn(|word| self.get(at + word))
    }

    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        *self.0[at * 8..].first_chunk().expect("the caller has looked at the length")
    }

    fn is_zero(&self, words: std::ops::Range<usize>) -> bool {
        self.0[words.start * 8..words.end * 8].iter().all(|byte| *byte == 0)
    }

    /// A tick that can be *now*.
    fn tick(&self, at: usize) -> Option<Tick> {
        Some(self.get(at)).filter(|word| *word <= Tick::LAST.as_millis()).map(Tick::from_millis)
    }
}

impl Head {
    pub(super) fn pack(&self) -> Vec<u8> {
        let mut words = vec![0_u64; HEAD / 8];
        let Moment { steady, wall, boot } = self.moment;
        words[..7].copy_from_slice(&[
            MAGIC,
            VERSION,
            steady,
            wall,
            boot,
            self.tick.as_millis(),
            self.newest.as_millis(),
        ]);
        words[7..11].copy_from_slice(&self.secret);
        words[11..15].copy_from_slice(&[self.event_head, self.entries, self.capacity, self.events]);
        for (number, policy) in self.policies.iter().enumerate() {
            let at = AT_POLICIES + number * POLICY_WORDS;
            if let Some(policy) = policy {
                policy.pack(&mut words[at..at + POLICY_WORDS]);
            }
        }
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes[16 * 8..20 * 8].copy_from_slice(&self.sum);
        let sum = blake3::hash(&bytes[..AT_SUM * 8]);
        bytes[AT_SUM * 8..].copy_from_slice(sum.as_bytes());
        bytes
    }

    /// `bytes` are the first [`HEAD`] of a file of `length`.
    pub(super) fn unpack(bytes: &[u8], length: u64) -> Result<Head, SnapshotOpenError> {
        let words = Words(bytes);
        if words.get(0) != MAGIC {
            return Err(SnapshotOpenError::Magic);
        }
        if words.get(1) != VERSION {
            return Err(SnapshotOpenError::Version { found: words.get(1), expected: VERSION });
        }
        if *blake3::hash(&bytes[..AT_SUM * 8]).as_bytes() != words.bytes::<32>(AT_SUM) {
            return Err(SnapshotOpenError::Damaged { what: "the checksum of its head" });
        }
        // What follows is as it was written. It may still not have been written by us.
        let damaged = |what| SnapshotOpenError::Damaged { what };
        let [entries, capacity, events] = words.array(12);
        let expected = entries.checked_mul(ENTRY as u64).and_then(|bytes| bytes.checked_add(HEAD as u64));
        if expected != Some(length) {
            return Err(SnapshotOpenError::Length { bytes: length, expected: expected.unwrap_or(u64::MAX) });
        }
        if !(1..=MOST_CAPACITY).contains(&capacity) || !(16..=MOST_EVENTS).contains(&events) {
            return Err(damaged("the size of its region"));
        }
        if !words.is_zero(15..16) || !words.is_zero(20..AT_POLICIES) {
            return Err(damaged("a word that means nothing"));
        }
        let tick = words.tick(5).ok_or(damaged("its time"))?;
        let newest = words.tick(6).filter(|newest| *newest <= tick.after(WRITING));
        let [steady, wall, boot] = words.array(2);
        let mut policies = Policies::new();
        for number in 0..POLICIES {
            let from = (AT_POLICIES + number * POLICY_WORDS) * 8;
            policies.push(NamedPolicy::unpack(&Words(&bytes[from..from + POLICY_WORDS * 8]))?);
        }
        let named: Vec<_> = policies.iter().flatten().map(|policy| &policy.name).collect();
        if named.iter().enumerate().any(|(nth, name)| named[..nth].contains(name)) {
            return Err(damaged("two policies of one name"));
        }
        Ok(Head {
            moment: Moment { steady, wall, boot },
            tick,
            newest: newest.ok_or(damaged("the time of its latest activity"))?,
            secret: words.array(7),
            event_head: words.get(11),
            entries,
            capacity,
            events,
            sum: words.bytes(16),
            policies,
        })
    }

    pub(super) fn policy(&self, number: u8) -> Option<&NamedPolicy> {
        self.policies.get(usize::from(number))?.as_ref()
    }
}

impl NamedPolicy {
    fn pack(&self, words: &mut [u64]) {
        words[0] = 1 | (self.versions.len() as u64) << 8;
        let mut name = [0; NAME_BYTES];
        name[0] = self.name.len() as u8;
        name[1..=self.name.len()].copy_from_slice(self.name.as_bytes());
        for (word, chunk) in words[1..].iter_mut().zip(name.as_chunks().0) {
            *word = u64::from_le_bytes(*chunk);
        }
        let versions = words[1 + NAME_BYTES / 8..].chunks_exact_mut(VERSION_WORDS);
        for (words, (policy, since)) in versions.zip(&self.versions) {
            words[..PACKED].copy_from_slice(&policy_words(policy));
            words[PACKED] = since.as_millis();
        }
    }

    fn unpack(words: &Words<'_>) -> Result<Option<NamedPolicy>, SnapshotOpenError> {
        const AT_VERSIONS: usize = 1 + NAME_BYTES / 8;
        let damaged = |what| SnapshotOpenError::Damaged { what };
        if words.is_zero(0..POLICY_WORDS) {
            return Ok(None);
        }
        let count = (words.get(0) >> 8) as usize;
        if words.get(0) & 0xff != 1 || !(1..=VERSIONS).contains(&count) {
            return Err(damaged("a policy"));
        }
        let name: [u8; NAME_BYTES] = words.bytes(1);
        let length = usize::from(name[0]);
        let name = name.get(1..=length).filter(|name| !name.is_empty()).map(|name| String::from_utf8(name.to_vec()));
        let Some(Ok(name)) = name else { return Err(damaged("the name of a policy")) };
        let mut versions = Vec::new();
        for at in (0..count).map(|nth| AT_VERSIONS + nth * VERSION_WORDS) {
            let packed: [u64; PACKED] = words.array(at);
            let policy = policy_of(packed);
            // Under a policy without a limit a session would live for ever.
            policy.validate().map_err(|source| SnapshotOpenError::Policy { name: name.clone(), source })?;
            if policy_words(&policy) != packed {
                return Err(damaged("a policy"));
            }
            versions.push((policy, words.tick(at + PACKED).ok_or(damaged("the time of a policy"))?));
        }
        let unused = AT_VERSIONS + count * VERSION_WORDS..POLICY_WORDS;
        if !versions.is_sorted_by_key(|(_, since)| *since) || !words.is_zero(unused) {
            return Err(damaged("a policy"));
        }
        Ok(Some(NamedPolicy { name, versions }))
    }
}

/// A policy as a snapshot has it, which regions of another layout take as well: as in a region, but that a
/// limit that is off is zero, and that the flags are in the first word.
fn policy_words(policy: &Policy) -> [u64; PACKED] {
    let [idle, lifetime, grace, kept, most] = policy.pack();
    let limit = |word: u64| if word > TICK_MASK { 0 } else { word };
    [limit(idle) | grace & !TICK_MASK, limit(lifetime), grace & TICK_MASK, kept, most]
}

/// Any five words are some policy.
fn policy_of([idle, lifetime, grace, kept, most]: [u64; PACKED]) -> Policy {
    let limit = |word: u64| if word & TICK_MASK == 0 { u64::MAX } else { word & TICK_MASK };
    Policy::unpack([limit(idle), limit(lifetime), grace & TICK_MASK | idle & !TICK_MASK, kept, most])
}

impl Entry {
    pub(super) fn pack(&self) -> [u8; ENTRY] {
        let head = |kind: u64, policy: u8, cause: u64| {
            kind | u64::from(self.again) << 8 | u64::from(policy) << 16 | cause << 24
        };
        let [low, high] = self.key.0;
        let words = match self.what {
            What::Live { policy, life, binding, subject } => {
                let [last, start, token] = [life.last, life.start, life.token].map(Tick::as_millis);
                [head(1, policy, 0), low, high, last, start, token, binding.0, subject.0]
            }
            What::Ended { policy, start, last, end, until, subject } => {
                let [last, start, at, until] = [last, start, end.at, until].map(Tick::as_millis);
                [head(2, policy, end.cause as u64), low, high, last, start, at, until, subject.0]
            }
            What::Alias { policy, end, until, target } => {
                let [at, until] = [end.at, until].map(Tick::as_millis);
                let [first, second] = target.map_or([0, 0], |key| key.0);
                let has_target = u64::from(target.is_some());
                [head(3, policy, end.cause as u64), low, high, first, second, at, until, has_target]
            }
            What::Gone => [head(4, 0, 0), low, high, 0, 0, 0, 0, 0],
        };
        let mut bytes = [0; ENTRY];
        for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        bytes
    }

    /// # Errors
    /// What is wrong with it.
    pub(super) fn unpack(bytes: &[u8], head: &Head) -> Result<Entry, &'static str> {
        let words = Words(bytes);
        let word = words.get(0);
        let [kind, again, policy, cause] = [0, 8, 16, 24].map(|shift| (word >> shift) as u8);
        if word >> 32 != 0 || again > 1 {
            return Err("a word that means nothing");
        }
        let rules = || head.policy(policy).map(NamedPolicy::newest).ok_or("a policy that is not there");
        let end = || {
            let cause = Cause::from_number(cause).ok_or("a cause that is none")?;
            Ok::<_, &str>(End { cause, at: words.tick(5).ok_or("the time of its end")? })
        };
        let until = || words.tick(6).ok_or("the time until which it is kept");
        let key = Key(words.array(1));
        let what = match kind {
            1 => {
                let last = words.tick(3).filter(|last| *last <= head.newest).ok_or("its last activity")?;
                let start = words.tick(4).filter(|start| *start <= last).ok_or("its start")?;
                let token = Some(words.get(5)).filter(|token| *token <= Tick::NEVER.as_millis());
                let token = Tick::from_millis(token.ok_or("the expiry of its token")?);
                let life = Life { start, last, token, mark: None };
                if cause != 0 {
                    return Err("a word that means nothing");
                }
                if deadlines(&life, rules()?).end.at.is_never() {
                    return Err("that it never ends");
                }
                What::Live { policy, life, binding: Binding(words.get(6)), subject: Subject(words.get(7)) }
            }
            2 => {
                rules()?;
                let last = words.tick(3).ok_or("its last activity")?;
                let start = words.tick(4).filter(|start| *start <= last).ok_or("its start")?;
                What::Ended { policy, start, last, end: end()?, until: until()?, subject: Subject(words.get(7)) }
            }
            3 => {
                rules()?;
                let end = end()?;
                let target = match words.get(7) {
                    0 if words.is_zero(3..5) => None,
                    1 => Some(Key(words.array(3))),
                    _ => return Err("a word that means nothing"),
                };
                if end.cause != Cause::Rotated {
                    return Err("the cause of its end");
                }
                What::Alias { policy, end, until: until()?, target }
            }
            4 if words.is_zero(3..8) && policy == 0 && cause == 0 => What::Gone,
            _ => return Err("its kind"),
        };
        Ok(Entry { key, again: again == 1, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::policy::{GraceMode, OnLimit, Retain};

    fn head() -> Head {
        let policy = Policy::new().idle(Span::from_mins(15));
        let mut policies = vec![None; POLICIES];
        let versions = vec![(policy.lifetime(Span::DAY), Tick::ZERO), (policy, Tick::from_millis(77))];
        policies[3] = Some(NamedPolicy { name: "staff".into(), versions });
        policies[63] = Some(NamedPolicy { name: "x".repeat(31), versions: vec![(policy, Tick::ZERO)] });
        Head {
            moment: Moment { steady: 1, wall: 2, boot: 3 },
            tick: Tick::from_millis(1000),
            newest: Tick::from_millis(1100),
            secret: [4, 5, 6, 7],
            event_head: 8,
            entries: 9,
            capacity: 10,
            events: 16,
            sum: [11; 32],
            policies,
        }
    }

    #[test]
    fn a_policy_has_the_words_that_the_first_version_of_the_format_gave_it() {
        let policy = Policy::new()
            .idle(Span::from_millis(0x1234))
            .grace(Span::from_millis(0x567), GraceMode::Resume)
            .retain(Retain::For(Span::from_millis(0x89)))
            .max_per_subject(7, OnLimit::EndOldest);
        let words = [0x0049_0000_0000_1234, 0, 0x567, 0x89, 7];
        assert_eq!(policy_words(&policy), words);
        assert_eq!(policy_of(words), policy);
        let lasting = Policy::new().lifetime(Span::from_millis(5));
        assert_eq!((policy_words(&lasting), policy_of([0, 5, 0, 0, 0])), ([0, 5, 0, 0, 0], lasting));
    }

    #[test]
    fn a_head_survives_its_bytes() {
        let bytes = head().pack();
        assert_eq!(bytes.len(), HEAD);
        assert_eq!(Head::unpack(&bytes, (HEAD + 9 * ENTRY) as u64).unwrap(), head());
    }

    #[test]
    fn every_kind_of_entry_survives_its_bytes() {
        let (tick, key) = (Tick::from_millis, Key([21, 22]));
        let life = Life { start: tick(5), last: tick(900), token: Tick::NEVER, mark: None };
        let end = End { cause: Cause::Logout, at: tick(950) };
        let rotated = End { cause: Cause::Rotated, ..end };
        let all = [
            What::Live { policy: 3, life, binding: Binding(31), subject: Subject(32) },
            What::Live { policy: 63, life: Life { token: tick(1), ..life }, binding: Binding(0), subject: Subject(0) },
            What::Ended { policy: 3, start: tick(5), last: tick(9), end, until: tick(4000), subject: Subject(7) },
            What::Alias { policy: 3, end: rotated, until: tick(4000), target: Some(Key([0, 0])) },
            What::Alias { policy: 3, end: rotated, until: tick(4000), target: None },
            What::Gone,
        ];
        for (what, again) in all.into_iter().flat_map(|what| [(what, false), (what, true)]) {
            let entry = Entry { key, again, what };
            assert_eq!(Entry::unpack(&entry.pack(), &head()), Ok(entry));
        }
    }

    #[test]
    fn an_entry_that_no_region_could_have_held_is_refused_by_what_is_wrong_with_it() {
        let tick = Tick::from_millis;
        let life = Life { start: tick(5), last: tick(900), token: Tick::NEVER, mark: None };
        let live = |policy: u8, life: Life| {
            let what = What::Live { policy, life, binding: Binding(0), subject: Subject(0) };
            Entry { key: Key([21, 22]), again: false, what }.pack()
        };
        let with = |word: usize, value: u64| {
            let mut bytes = live(3, life);
            bytes[word * 8..word * 8 + 8].copy_from_slice(&value.to_le_bytes());
            bytes
        };
        let refusal = |bytes: [u8; ENTRY]| Entry::unpack(&bytes, &head()).unwrap_err();
        assert_eq!(refusal(live(4, life)), "a policy that is not there");
        assert_eq!(refusal(live(3, Life { last: tick(1101), ..life })), "its last activity");
        assert_eq!(refusal(live(3, Life { start: tick(901), ..life })), "its start");
        assert_eq!(refusal(with(0, 5)), "its kind");
        assert_eq!(refusal(with(0, 1 | 3 << 16 | 1 << 32)), "a word that means nothing");
        assert_eq!(refusal(with(5, 1 << 48)), "the expiry of its token");
        assert_eq!(refusal(with(0, 2 | 3 << 16)), "a cause that is none");
        let mut endless = head();
        endless.tick = Tick::LAST;
        endless.newest = Tick::LAST;
        let never = live(3, Life { last: Tick::LAST, ..life });
        assert_eq!(Entry::unpack(&never, &endless), Err("that it never ends"));
    }

    #[test]
    fn a_policy_without_a_limit_is_refused() {
        let mut without = head();
        without.policies[0] = Some(NamedPolicy { name: "open".into(), versions: vec![(Policy::new(), Tick::ZERO)] });
        let refused = Head::unpack(&without.pack(), (HEAD + 9 * ENTRY) as u64);
        assert!(matches!(refused, Err(SnapshotOpenError::Policy { name, .. }) if name == "open"));
    }
}

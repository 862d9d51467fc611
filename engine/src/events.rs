//! What ended, for those who keep count: a ring of 64-byte records, overwritten when full.
//!
//! ```text
//! word 0  at (tick 48) | what 8 | cause 8        word 4  age 48 | policy 8
//! word 1  key, low half                          word 5  idle 48
//! word 2  key, high half                         word 6  number of the event
//! word 3  subject                                word 7  slot 32 | generation 32; of a cut, bytes
//! ```
//!
//! Written under the ring's lock, the last lock anybody takes. Readers take none: each has its own
//! cursor, copies a record, and then looks whether the head has come so far round that the copy may
//! be of two events; what it missed is counted.
//!
//! The new record of a rotation (slot 32 | generation 32) is for snapshots alone: a session that
//! changes its record while they look through the region is followed by it.

use crate::atomic::{Ordering, fence};
use crate::cause::Cause;
use crate::key::{Key, Subject};
use crate::layout::header;
use crate::policies::PolicyId;
use crate::region::Region;
use crate::time::{Span, TICK_BITS, Tick};

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum What {
    /// A session ended. Every session that ends does so in exactly one such event.
    Ended,
    /// A session got a new id. The event carries the old key.
    Rotated,
    /// Something that was still open of a session that had ended was cut off: a connection, a
    /// download, a stream. Whoever cuts reports it ([`crate::Table::report_cut`]), as often as there
    /// was something to cut.
    Cut,
}

impl What {
    const ALL: [What; 3] = [What::Ended, What::Rotated, What::Cut];
}

/// Something that happened to a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// What.
    pub what: What,
    /// When: for an end by a deadline, the deadline; for a cut, when it was made.
    pub at: Tick,
    /// The session's key.
    pub key: Key,
    /// The subject it belonged to.
    pub subject: Subject,
    /// The policy it lived under.
    pub policy: PolicyId,
    /// Why it ended ([`Cause::Rotated`] for [`What::Rotated`]).
    pub cause: Cause,
    /// From its start, or last re-authentication, to `at`.
    pub age: Span,
    /// From its last activity to `at`.
    pub idle: Span,
    /// Of a [`What::Cut`], the bytes that had been sent to the client by then; else zero.
    pub bytes: u64,
}

impl Event {
    fn pack(&self) -> [u64; 6] {
        [
            self.at.as_millis() | (self.what as u64) << TICK_BITS | (self.cause as u64) << (TICK_BITS + 8),
            self.key.0[0],
            self.key.0[1],
            self.subject.0,
            self.age.as_millis() | u64::from(self.policy.0) << TICK_BITS,
            self.idle.as_millis(),
        ]
    }

    /// `None` for words that no event has: damage.
    fn unpack(words: [u64; 6], last: u64) -> Option<Event> {
        let span = |word: u64| Span::from_millis(Tick::from_word(word).as_millis());
        let what = *What::ALL.get((words[0] >> TICK_BITS & 0xff) as usize)?;
        Some(Event {
            what,
            at: Tick::from_word(words[0]),
            key: Key([words[1], words[2]]),
            subject: Subject(words[3]),
            policy: PolicyId((words[4] >> TICK_BITS) as u8),
            cause: Cause::from_number((words[0] >> (TICK_BITS + 8)) as u8)?,
            age: span(words[4]),
            idle: span(words[5]),
            bytes: if what == What::Cut { last } else { 0 },
        })
    }
}

impl Region {
    /// Appends an event, whose last word is the record of the session ([`crate::record::incarnation`]);
    /// of a rotation, the new one; of a cut, the bytes.
    pub(crate) fn emit(&self, event: &Event, last: u64) {
        // What an owner left half-written lies behind the head and is overwritten.
        let _lock = self.lock(header::RING_LOCK);
        let number = self.get(header::RING_HEAD);
        let at = self.layout.event(number);
        // Pairs with the fence of the reader: who sees a word of this event sees the head at
        // `number` at least, and knows that the record it came for is gone.
        fence(Ordering::Release);
        for (word, value) in event.pack().into_iter().enumerate() {
            self.set(at + word, value);
        }
        self.set(at + 6, number);
        self.set(at + 7, last);
        self.publish(header::RING_HEAD, number.wrapping_add(1));
    }

    /// Whether the ring has this event already: asked after its writer died. What, when, why and
    /// whose tell; the last activity may have moved since. The key alone does not: it may have had
    /// another session that ended in the same tick.
    pub(crate) fn has_event(&self, event: &Event, incarnation: u64) -> bool {
        let words = &event.pack()[..3];
        let head = self.load(header::RING_HEAD);
        let first = head.saturating_sub(self.layout.events as u64);
        (first..head).rev().any(|number| {
            let at = self.layout.event(number);
            let is_it = self.get(at + 6) == number && self.get(at + 7) == incarnation;
            is_it && words.iter().enumerate().all(|(word, value)| self.get(at + word) == *value)
        })
    }

    pub(crate) fn event_head(&self) -> u64 {
        self.load(header::RING_HEAD)
    }

    /// Event number `number`, or `None` when it has been, or may be being, overwritten.
    fn read_event(&self, number: u64) -> Option<Event> {
        self.read_rotation(number).map(|(event, _)| event)
    }

    /// The same with the new record, if it is of a rotation.
    pub(crate) fn read_rotation(&self, number: u64) -> Option<(Event, Option<(usize, u32)>)> {
        let at = self.layout.event(number);
        let words = std::array::from_fn(|word| self.get(at + word));
        let (written, last) = (self.get(at + 6), self.get(at + 7));
        fence(Ordering::Acquire);
        let head = self.get(header::RING_HEAD);
        let whole = written == number && head.wrapping_sub(number) < self.layout.events as u64;
        let event = if whole { Event::unpack(words, last)? } else { return None };
        let target = ((last >> 32) as usize, last as u32);
        Some((event, (event.what == What::Rotated).then_some(target)))
    }
}

/// Reads the events of a region in order, at its own pace. Readers do not disturb each other nor
/// the writers.
#[derive(Clone)]
pub struct EventReader<'a> {
    region: &'a Region,
    cursor: u64,
    missed: u64,
}

impl<'a> EventReader<'a> {
    pub(crate) fn new(region: &'a Region, cursor: u64) -> EventReader<'a> {
        EventReader { region, cursor, missed: 0 }
    }

    /// The number of the next event: keep it to go on from here with
    /// [`crate::Table::events_from`].
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// How many events were overwritten before they could be read, so far.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

impl Iterator for EventReader<'_> {
    type Item = Event;

    /// The next event, or `None` when there is none yet; ask again later.
    fn next(&mut self) -> Option<Event> {
        loop {
            let head = self.region.event_head();
            // A cursor from elsewhere may lie ahead.
            self.cursor = self.cursor.min(head);
            if self.cursor == head {
                return None;
            }
            let oldest = head.saturating_sub(self.region.layout.events as u64 - 1);
            if self.cursor < oldest {
                self.missed = self.missed.saturating_add(oldest - self.cursor);
                self.cursor = oldest;
            }
            let event = self.region.read_event(self.cursor);
            self.cursor += 1;
            match event {
                Some(event) => return Some(event),
                None => self.missed = self.missed.saturating_add(1),
            }
        }
    }
}

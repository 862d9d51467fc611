//! Looks at a record that answer nearly every touch and peek: each word is read once, and what tells
//! that all were of one session comes last. For a touch that is the swap of `last`, for a peek a second look.
//! Which word is read when, and why, is in `docs/protocol.md` under *Reading without a lock*.

use super::{Control, FROZEN, Kind, MARK, at, tag};
use crate::atomic::{Ordering, fence};
use crate::key::{Binding, Key};
use crate::region::{Line, Region};
use crate::state::Words;
use crate::time::{TICK_BITS, TICK_MASK, Tick};

/// A record that was found, and what its control word said first.
#[derive(Clone, Copy)]
pub(crate) struct Held<'a> {
    words: &'a Line,
    pub(crate) control: Control,
}

impl<'a> Held<'a> {
    /// A record and its control word, if it is of `key`.
    #[inline(always)]
    pub(crate) fn of(words: &'a Line, key: Key) -> Option<Held<'a>> {
        let control = Control(words[at::CONTROL].load(Ordering::Acquire));
        let get = |field: usize| words[field].load(Ordering::Relaxed);
        (get(at::KEY) == key.0[0] && get(at::KEY + 1) == key.0[1]).then_some(Held { words, control })
    }

    /// The last activity.
    #[inline(always)]
    pub(crate) fn last(&self) -> Tick {
        Tick::from_word(self.words[at::LAST].load(Ordering::Relaxed))
    }

    /// Whether nothing has ended the session that was seen alive with this control word. Asked after
    /// its policy was read, by those who do not move its last activity, whose swap would tell.
    #[inline(always)]
    pub(crate) fn goes_on(&self) -> bool {
        let get = |field: usize| self.words[field].load(Ordering::Relaxed);
        let (limit, last) = (get(at::LIMIT), get(at::LAST));
        fence(Ordering::Acquire);
        limit & MARK == 0 && last & FROZEN == 0 && Control(get(at::CONTROL)).same_session(self.control)
    }
}

/// What a touch that is to move the last activity needs of a session.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    line: &'a Line,
    pub(crate) control: Control,
    last: u64,
    start: u64,
    limit: u64,
    binding: u64,
}

impl<'a> Seen<'a> {
    /// Reads a record if it is of `key`.
    ///
    /// `last` is read first, and it is exchanged last ([`Region::move_seen`]). A new session's is written before
    /// its other words, so if the exchange succeeds nothing that was read between is of a later session. The
    /// control word is read second, and written after all others; so if it says that there is a session, which
    /// is none before that of `last`, nothing that is read after it is of an earlier one. `limit` is read
    /// after the others, for the reasons that [`Region::glance`] has.
    #[inline(always)]
    pub(crate) fn of(line: &'a Line, key: Key) -> Option<Seen<'a>> {
        let get = |field: usize| line[field].load(Ordering::Relaxed);
        let last = line[at::LAST].load(Ordering::Acquire);
        let control = Control(line[at::CONTROL].load(Ordering::Acquire));
        if get(at::KEY) != key.0[0] || get(at::KEY + 1) != key.0[1] {
            return None;
        }
        let (start, binding) = (get(at::START), get(at::BINDING));
        fence(Ordering::Acquire);
        let limit = line[at::LIMIT].load(Ordering::Acquire);
        Some(Seen { line, control, last, start, limit, binding })
    }

    /// Its life, if it has one that is seen at `now` later than its last activity, which is not before its
    /// start; `None` as well when it is frozen.
    #[inline(always)]
    pub(crate) fn life_before(&self, now: Tick) -> Option<Words> {
        let last = self.last & TICK_MASK;
        // A start that is no time is later than every time.
        let is_so = self.last & FROZEN == 0 && last < now.as_millis() && self.start <= last;
        is_so.then_some(Words { start: self.start, last, token: self.limit })
    }

    #[inline(always)]
    pub(crate) fn binding(&self) -> Binding {
        Binding(self.binding)
    }
}

/// What a look needs of a live session.
#[derive(Clone, Copy)]
pub(crate) struct Glance<'a> {
    pub(crate) held: Held<'a>,
    last: u64,
    start: u64,
    limit: u64,
    binding: u64,
}

impl Glance<'_> {
    /// Its life; no life when the last activity is another session's or is frozen, or the session has
    /// ended.
    #[inline(always)]
    pub(crate) fn life(&self) -> Words {
        Words { start: self.start, last: self.last ^ self.tag(), token: self.limit }
    }

    #[inline(always)]
    fn tag(&self) -> u64 {
        tag(self.held.control) << TICK_BITS
    }

    #[inline(always)]
    pub(crate) fn binding(&self) -> Binding {
        Binding(self.binding)
    }
}

impl Region {
    /// Reads what a touch needs of a session; `None` of a record that holds none, and when it changes
    /// hands meanwhile: then [`Region::view`] tells.
    ///
    /// `limit` is read once, after all others: with a new start comes the new limit, and with a
    /// binding that has become a tick the mark, with which a glance is at its end.
    #[inline(always)]
    pub(crate) fn glance<'a>(&self, held: Held<'a>) -> Option<Glance<'a>> {
        let Held { words, control, .. } = held;
        let get = |field: usize| words[field].load(Ordering::Relaxed);
        let (start, last, binding) = (get(at::START), get(at::LAST), get(at::BINDING));
        fence(Ordering::Acquire);
        // Of another session's limit the control word tells, which is read after it.
        let limit = words[at::LIMIT].load(Ordering::Acquire);
        let control_now = Control(get(at::CONTROL));
        (control.kind() == Kind::Session && control.same_session(control_now)).then_some(Glance {
            held,
            last,
            start,
            limit,
            binding,
        })
    }

    /// Moves the last activity of a session that was [`Seen`] alive forward to `now`, which is later; false
    /// when something came in between, and then what was seen is worth nothing.
    #[inline(always)]
    pub(crate) fn move_seen(&self, seen: &Seen, now: Tick) -> bool {
        // By as much as it is later: what else is in the word stays.
        let moved = seen.last.wrapping_add(now.as_millis().wrapping_sub(seen.last & TICK_MASK));
        let word = &seen.line[at::LAST];
        self.exchange_in(word, self.at(word), seen.last, moved).is_ok()
    }

    /// [`Held::goes_on`] of the session that was seen alive in `slot` with `control`.
    #[inline]
    pub(crate) fn goes_on(&self, slot: usize, control: Control) -> bool {
        self.record(slot).is_some_and(|words| Held { words, control }.goes_on())
    }
}

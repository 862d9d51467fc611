//! What is open of a session, asked about again and again until the session is over: a WebSocket, a
//! download, a long poll.
//!
//! A touch decides about one request at its beginning. What goes on after that must be ended with its
//! session, and there may be very many of them while hardly any session ends. So whoever watches looks
//! at [`Table::changes`] first, one word that every end and every rotation moves, and asks about each
//! [`Watch`] only if it has moved, or if the nearest of the deadlines it was told has come
//! ([`Left::end`](crate::Left::end)).

use crate::cause::{Cause, End};
use crate::events::{Event, What};
use crate::key::{Binding, Key, Subject};
use crate::layout::header;
use crate::policies::PolicyId;
use crate::record::Kind;
use crate::shard::Shard;
use crate::table::Table;
use crate::table::touch::{HOPS, Verdict};
use crate::time::{Span, Tick};

/// Events that are looked at for each session that can be told apart: cuts are among them.
const CUTS: u64 = 16;

/// A session that something is open of. It follows its session through rotations.
///
/// It knows its session by its key. If a session was ended, forgotten ([`Retain`](crate::Retain)) and the
/// same id begun anew, all between two looks, it takes the new one for the old one: where ids may come back,
/// retain them for longer than that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watch {
    key: Key,
    presented: Binding,
}

impl Watch {
    /// `presented` is what the request proved to have, as in [`Table::touch`].
    #[must_use]
    pub fn new(key: Key, presented: Binding) -> Watch {
        Watch { key, presented }
    }

    /// The session's key, as of the last time that it was asked about.
    #[must_use]
    pub fn key(&self) -> Key {
        self.key
    }
}

/// How far somebody has followed what changes in a table ([`Table::changed_since`]). It belongs to the table
/// as it was opened; after a region was moved or restored it begins anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    events: u64,
    policies: u64,
}

/// What has changed since somebody looked last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Changed {
    /// No session was ended on record, or got a new id, and no policy was changed.
    Nothing,
    /// At most these sessions were: their keys, of those with a new id the old ones. In no order, and one
    /// may be there twice.
    Sessions(Vec<Key>),
    /// More than can be told: a policy was changed, or the events were too many.
    Anything,
}

impl Table {
    /// A number that is another one whenever a session was ended on record, got a new id, or had its
    /// policy changed since it was read last. Costs two loads.
    ///
    /// Whoever sees it changed and asks about a session after that is told of the change. A deadline
    /// that has passed is on record only once some [`Table::advance`] has come by it, so whoever relies
    /// on this number also minds the deadlines it was told. The number means nothing in itself, and may
    /// change when nothing has happened that matters.
    #[must_use]
    pub fn changes(&self) -> u64 {
        // Both are published after what they tell of.
        self.region.event_head().wrapping_add(self.region.load(header::POLICY_CHANGES))
    }

    /// Where following begins: what changes from now on is told by [`Table::changed_since`].
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen { events: self.region.event_head(), policies: self.region.load(header::POLICY_CHANGES) }
    }

    /// What has changed since `seen`, which moves on. Tells up to `most` sessions apart, from the events;
    /// costs two loads where nothing has changed. As with [`Table::changes`], whoever asks about a session
    /// after that is told of the change, and deadlines are for the caller to mind.
    pub fn changed_since(&self, seen: &mut Seen, most: usize) -> Changed {
        let before = std::mem::replace(seen, self.seen());
        if before == *seen {
            return Changed::Nothing;
        }
        // A head that has gone back is that of another region, or damage.
        if before.policies != seen.policies || seen.events < before.events {
            return Changed::Anything;
        }
        let mut events = self.events_from(before.events);
        let mut keys = Vec::new();
        while events.cursor() < seen.events {
            let Some(event) = events.next() else { break };
            // Who was cut had ended before.
            if event.what != What::Cut {
                keys.push(event.key);
            }
            let looked_at = events.cursor().saturating_sub(before.events);
            if events.missed() > 0 || keys.len() > most || looked_at > (most as u64).saturating_mul(CUTS) {
                return Changed::Anything;
            }
        }
        if events.missed() > 0 {
            return Changed::Anything;
        }
        if keys.is_empty() { Changed::Nothing } else { Changed::Sessions(keys) }
    }

    /// Answers about a watched session as [`Table::peek`] does, except that a session which got a new id
    /// goes on under it, also when the overlap of the old one is over. Ask at least once while the
    /// old id of a rotation is remembered, which is its overlap at the least (a rotation without one, and
    /// nothing retained, cannot be followed): [`Table::changes`] tells of each.
    #[must_use]
    pub fn peek_watched(&self, watch: &mut Watch, now: Tick) -> Verdict {
        let verdict = self.peek(watch.key, watch.presented, now);
        // Followed also while the old key still answers: its record is not kept for ever.
        if self.follow(watch) && is_over(&verdict) {
            return self.peek(watch.key, watch.presented, now);
        }
        verdict
    }

    /// Counts as activity of a watched session what [`Table::touch`] would: bytes that came from the
    /// client, say. Follows it through rotations.
    pub fn touch_watched(&self, watch: &mut Watch, now: Tick) -> Verdict {
        let verdict = self.touch(watch.key, watch.presented, now);
        // As in `peek_watched`.
        if self.follow(watch) && is_over(&verdict) {
            return self.touch(watch.key, watch.presented, now);
        }
        verdict
    }

    /// Reports that what was open of an ended session was cut off, after `bytes` were sent to the client:
    /// one event, [`What::Cut`]. Once the record of the session is not kept any longer, the event has
    /// neither subject nor age. Takes the ring's lock.
    pub fn report_cut(&self, watch: &Watch, cause: Cause, bytes: u64, now: Tick) {
        let now = now.as_now();
        let event = match self.region.find(watch.key) {
            Some((_, view)) => Event { bytes, ..Shard::event(&view, What::Cut, End { cause, at: now }) },
            None => Event {
                what: What::Cut,
                at: now,
                key: watch.key,
                subject: Subject::NONE,
                policy: PolicyId(0),
                cause,
                age: Span::OFF,
                idle: Span::OFF,
                bytes,
            },
        };
        self.region.emit(&event, bytes);
    }

    /// Turns a watch to the key that its session has now; says whether that is another one.
    fn follow(&self, watch: &mut Watch) -> bool {
        match self.heir(watch.key) {
            Some(key) => {
                watch.key = key;
                true
            }
            None => false,
        }
    }

    /// The key of the session that an old key stands for; `None` for one that is not an old key, or whose
    /// session is gone.
    fn heir(&self, key: Key) -> Option<Key> {
        let (_, mut view) = self.region.find(key)?;
        let mut found = None;
        for _ in 0..HOPS {
            // Before its mark an alias may still hold a touch that the new record has not been given.
            if view.control.kind() != Kind::Alias || view.mark().is_none() {
                return found;
            }
            let (target, generation) = view.target();
            view = self.region.view_at(target).filter(|next| next.control.generation() == generation)?;
            found = Some(view.key);
        }
        found
    }
}

/// An old key answers so once its overlap is over.
fn is_over(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Ended(End { cause: Cause::Rotated, .. }) | Verdict::Unknown)
}

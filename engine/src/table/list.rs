//! Looking at sessions: one after the other, those of a subject, or that of a key.

use crate::key::{Binding, Key, Subject};
use crate::policies::PolicyId;
use crate::record::{Kind, View};
use crate::state::{Life, State, deadlines};
use crate::table::Table;
use crate::table::touch::remembered_until;
use crate::time::Tick;

/// A session as it was at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionInfo {
    /// Its key.
    pub key: Key,
    /// Whose it is.
    pub subject: Subject,
    /// The policy it lives under.
    pub policy: PolicyId,
    /// Start or last re-authentication.
    pub start: Tick,
    /// Last activity.
    pub last: Tick,
    /// Token expiry, or never; never also once the session was ended.
    pub token: Tick,
    /// Its state at the `now` of the call.
    pub state: State,
    /// When it ends if nothing happens; for one that has ended, when that was.
    pub end: Tick,
    /// Whether it is bound to something.
    pub bound: bool,
    /// Whether this is the old key of a session that was rotated.
    pub rotated: bool,
}

impl Table {
    /// All sessions, live and ended ones that are still kept, in no order that means anything.
    /// Takes no lock: a session that comes or goes meanwhile may or may not be among them.
    pub fn sessions(&self, now: Tick) -> impl Iterator<Item = SessionInfo> + '_ {
        (0..self.region.layout.all_slots()).filter_map(move |slot| self.info(slot, now.as_now()))
    }

    /// Sessions in pages: up to `most` from `cursor` on (zero to begin with), and the cursor of the
    /// next page, `None` after the last. Pages stay in step while sessions come and go.
    #[must_use]
    pub fn page(&self, cursor: usize, most: usize, now: Tick) -> (Vec<SessionInfo>, Option<usize>) {
        let mut page = Vec::new();
        for slot in cursor..self.region.layout.all_slots() {
            if page.len() == most {
                return (page, Some(slot));
            }
            page.extend(self.info(slot, now.as_now()));
        }
        (page, None)
    }

    /// The live sessions of a subject, the newest first.
    #[must_use]
    pub fn sessions_of(&self, subject: Subject, now: Tick) -> Vec<SessionInfo> {
        let now = now.as_now();
        let slots = self.incarnations_of(subject).into_iter().map(|(slot, _)| slot);
        let mut sessions: Vec<_> = slots.filter_map(|slot| self.info(slot, now)).collect();
        sessions.retain(|session| session.subject == subject && !matches!(session.state, State::Ended(_)));
        sessions
    }

    /// The session of a key, live or ended and still kept. An old key is answered for by itself
    /// ([`SessionInfo::rotated`]), and not by the session that has gone on under a new one. Takes no
    /// lock.
    #[must_use]
    pub fn session(&self, key: Key, now: Tick) -> Option<SessionInfo> {
        self.region.find(key).and_then(|(_, view)| self.info_of(&view, now.as_now()))
    }

    fn info(&self, slot: usize, now: Tick) -> Option<SessionInfo> {
        self.info_of(&self.region.view(slot)?, now)
    }

    fn info_of(&self, view: &View, now: Tick) -> Option<SessionInfo> {
        let judged = self.region.judge(view, now)?;
        let life = view.life();
        let end = match judged.state {
            State::Ended(end) if remembered_until(view, &judged.policy, end) <= now => return None,
            State::Ended(end) => end.at,
            _ => deadlines(&life, &judged.policy).end.at,
        };
        Some(describe(view, &life, judged.state, end))
    }
}

fn describe(view: &View, life: &Life, state: State, end: Tick) -> SessionInfo {
    SessionInfo {
        key: view.key,
        subject: view.subject(),
        policy: PolicyId(view.control.policy()),
        start: life.start,
        last: life.last,
        token: life.token,
        state,
        end,
        bound: life.mark.is_none() && view.binding() != Binding::NONE,
        rotated: view.control.kind() == Kind::Alias,
    }
}

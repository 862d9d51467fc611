//! What comes of time alone: ends by a deadline, and who takes over from somebody who died in one.

use curfew_engine::{End, Life, Policy, Tick, What, keep_until};

use crate::fates::{Fate, Session, only};
use crate::world::{KEYS, World};

impl World {
    /// What is left of a session that ends. After a death its heir does not know its token any more,
    /// nor by which version of the policy it ended.
    pub(crate) fn endings(&mut self, session: &Session, end: End, policy: &Policy, died: bool) -> Vec<Fate> {
        self.accounts[session.number].ends.push((What::Ended, end));
        let mut kept = vec![keep_until(&session.life, policy, end)];
        if died {
            let tokenless = Life { token: Tick::NEVER, ..session.life };
            kept.push(keep_until(&tokenless, policy, end));
            kept.push(keep_until(&tokenless, &self.policy(session.policy), end));
        }
        kept.dedup();
        kept.into_iter().map(|kept| Fate::Ended { session: *session, end, kept }).collect()
    }

    /// Whoever locks something may end what is over by its clock, and forget what need not be kept.
    pub(crate) fn expose(&mut self, now: Tick, died: bool) {
        for key in 0..KEYS {
            for fate in self.fates[key].clone() {
                if let Fate::Live(session) = fate
                    && let Some((end, policy)) = self.is_over(&session, now)
                {
                    for ending in self.endings(&session, end, &policy, died) {
                        only(&mut self.fates[key], ending);
                    }
                    if died {
                        only(&mut self.fates[key], Fate::Frozen(session));
                    }
                }
            }
            for fate in self.fates[key].clone() {
                if let Fate::Ended { kept, .. } | Fate::Alias { kept, .. } = fate
                    && kept <= now
                {
                    only(&mut self.fates[key], Fate::Absent);
                }
            }
        }
        if died {
            self.unsettled.extend(0..KEYS);
        }
    }

    /// An heir ends what it finds frozen, by what the policy says at that time.
    pub(crate) fn thaw(&mut self) {
        for key in 0..KEYS {
            for fate in self.fates[key].clone() {
                if let Fate::Frozen(session) = fate {
                    let (end, policy) = self.is_over(&session, Tick::LAST).expect("no limit here is never reached");
                    for ending in self.endings(&session, end, &policy, true) {
                        only(&mut self.fates[key], ending);
                    }
                }
            }
        }
    }

    /// Whoever takes over from somebody who died in an end keeps its record as the policy says by then.
    pub(crate) fn keep_by(&mut self, which: usize, policy: &Policy) {
        for key in 0..KEYS {
            for mut fate in self.fates[key].clone() {
                if let Fate::Ended { session, end, kept } | Fate::Alias { session, end, kept, .. } = &mut fate
                    && session.policy == which
                {
                    *kept = keep_until(&Life { token: Tick::NEVER, ..session.life }, policy, *end);
                    only(&mut self.fates[key], fate);
                }
            }
        }
    }
}

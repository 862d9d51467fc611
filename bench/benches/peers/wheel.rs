//! A timing wheel as one would put beside a concurrent map to get its entries expired: touches do
//! not file; what fires too early is filed again by its deadline.

use std::sync::{Mutex, PoisonError};

use crate::contender::{Contender, Id, Session};

/// Milliseconds of a list.
const STEP: u64 = 1000;
/// Lists: what lies further ahead is looked at when the wheel has come round.
const LISTS: usize = 1 << 16;
/// Entries handled under the wheel's lock at once.
const SLICE: usize = 256;

/// A concurrent map.
pub(crate) trait Map<K>: Sync {
    fn insert(&self, key: K, session: Session);
    /// What `look` makes of the session, if there is one.
    fn with<T>(&self, key: K, look: impl FnOnce(&Session) -> T) -> Option<T>;
    fn remove(&self, key: K);
    /// Takes the session out if `is_over`; else its deadline, if there is such a session.
    fn remove_if(&self, key: K, is_over: impl Fn(&Session) -> bool) -> Option<u64>;
}

/// A map that expires nothing.
pub(crate) struct Alone<M>(pub(crate) M);

impl<K: Id, M: Map<K>> Contender<K> for Alone<M> {
    fn start(&self, key: K, idle: u64, now: u64) {
        self.0.insert(key, Session::new(idle, now));
    }

    #[inline]
    fn touch(&self, key: K, now: u64) -> bool {
        self.0.with(key, |session| session.touch(now)).unwrap_or(false)
    }

    fn end(&self, key: K, _: u64) {
        self.0.remove(key);
    }

    fn advance(&self, _: u64) -> usize {
        0
    }
}

struct Lists<K> {
    lists: Vec<Vec<K>>,
    /// Step up to which everything has fired.
    clock: u64,
}

/// A map with a wheel beside it.
pub(crate) struct Wheeled<K, M> {
    map: M,
    wheel: Mutex<Lists<K>>,
}

impl<K: Id, M: Map<K>> Wheeled<K, M> {
    pub(crate) fn new(map: M) -> Wheeled<K, M> {
        let lists = (0..LISTS).map(|_| Vec::new()).collect();
        Wheeled { map, wheel: Mutex::new(Lists { lists, clock: 0 }) }
    }

    fn file(lists: &mut Lists<K>, key: K, due: u64) {
        let step = (due / STEP).clamp(lists.clock, lists.clock + LISTS as u64 - 1);
        lists.lists[step as usize % LISTS].push(key);
    }
}

impl<K: Id, M: Map<K>> Contender<K> for Wheeled<K, M> {
    fn start(&self, key: K, idle: u64, now: u64) {
        self.map.insert(key, Session::new(idle, now));
        Self::file(&mut self.wheel.lock().unwrap_or_else(PoisonError::into_inner), key, now + idle);
    }

    #[inline]
    fn touch(&self, key: K, now: u64) -> bool {
        self.map.with(key, |session| session.touch(now)).unwrap_or(false)
    }

    fn end(&self, key: K, _: u64) {
        self.map.remove(key);
    }

    fn advance(&self, now: u64) -> usize {
        let mut done = 0;
        loop {
            let mut wheel = self.wheel.lock().unwrap_or_else(PoisonError::into_inner);
            if wheel.clock > now / STEP {
                return done;
            }
            let at = wheel.clock as usize % LISTS;
            let from = wheel.lists[at].len().saturating_sub(SLICE);
            let fired = wheel.lists[at].split_off(from);
            done += fired.len();
            // What is not due in this very step is filed for a later one, or for this one again.
            let mut later = Vec::new();
            for key in fired {
                if let Some(due) = self.map.remove_if(key, |session| session.due() <= now) {
                    if due / STEP <= wheel.clock { later.push(key) } else { Self::file(&mut wheel, key, due) }
                }
            }
            if wheel.lists[at].is_empty() {
                if wheel.clock == now / STEP {
                    wheel.lists[at].append(&mut later);
                    return done;
                }
                wheel.clock += 1;
            }
            let clock = wheel.clock;
            later.into_iter().for_each(|key| Self::file(&mut wheel, key, clock * STEP));
        }
    }
}

//! The concurrent maps.

use std::sync::Arc;

use quick_cache::sync::Cache;

use crate::contender::{Id, Session};
use crate::wheel::Map;

pub(crate) struct Dash<K: Id>(dashmap::DashMap<K, Session, K::Hasher>);

impl<K: Id> Dash<K> {
    pub(crate) fn new(capacity: usize) -> Dash<K> {
        Dash(dashmap::DashMap::with_capacity_and_hasher(capacity, K::Hasher::default()))
    }
}

impl<K: Id> Map<K> for Dash<K> {
    fn insert(&self, key: K, session: Session) {
        self.0.insert(key, session);
    }

    #[inline]
    fn with<T>(&self, key: K, look: impl FnOnce(&Session) -> T) -> Option<T> {
        self.0.get(&key).map(|session| look(&session))
    }

    fn remove(&self, key: K) {
        self.0.remove(&key);
    }

    fn remove_if(&self, key: K, is_over: impl Fn(&Session) -> bool) -> Option<u64> {
        if self.0.remove_if(&key, |_, session| is_over(session)).is_some() {
            return None;
        }
        self.0.get(&key).map(|session| session.due())
    }
}

pub(crate) struct Papaya<K: Id>(papaya::HashMap<K, Session, K::Hasher>);

impl<K: Id> Papaya<K> {
    pub(crate) fn new(capacity: usize) -> Papaya<K> {
        Papaya(papaya::HashMap::with_capacity_and_hasher(capacity, K::Hasher::default()))
    }
}

impl<K: Id> Map<K> for Papaya<K> {
    fn insert(&self, key: K, session: Session) {
        self.0.pin().insert(key, session);
    }

    #[inline]
    fn with<T>(&self, key: K, look: impl FnOnce(&Session) -> T) -> Option<T> {
        self.0.pin().get(&key).map(look)
    }

    fn remove(&self, key: K) {
        self.0.pin().remove(&key);
    }

    fn remove_if(&self, key: K, is_over: impl Fn(&Session) -> bool) -> Option<u64> {
        match self.0.pin().remove_if(&key, |_, session| is_over(session)) {
            Err((_, session)) => Some(session.due()),
            Ok(_) => None,
        }
    }
}

pub(crate) struct Scc<K: Id>(scc::HashMap<K, Session, K::Hasher>);

impl<K: Id> Scc<K> {
    pub(crate) fn new(capacity: usize) -> Scc<K> {
        Scc(scc::HashMap::with_capacity_and_hasher(capacity, K::Hasher::default()))
    }
}

impl<K: Id> Map<K> for Scc<K> {
    fn insert(&self, key: K, session: Session) {
        let _ = self.0.insert_sync(key, session);
    }

    #[inline]
    fn with<T>(&self, key: K, look: impl FnOnce(&Session) -> T) -> Option<T> {
        self.0.read_sync(&key, |_, session| look(session))
    }

    fn remove(&self, key: K) {
        self.0.remove_sync(&key);
    }

    fn remove_if(&self, key: K, is_over: impl Fn(&Session) -> bool) -> Option<u64> {
        if self.0.remove_if_sync(&key, |session| is_over(session)).is_some() {
            return None;
        }
        self.0.read_sync(&key, |_, session| session.due())
    }
}

/// A cache, used as a map that is large enough never to evict.
pub(crate) struct Quick<K: Id>(Cache<K, Arc<Session>, quick_cache::UnitWeighter, K::Hasher>);

impl<K: Id> Quick<K> {
    pub(crate) fn new(capacity: usize) -> Quick<K> {
        let capacity = capacity * 3 / 2 + 1000;
        Quick(Cache::with(
            capacity,
            capacity as u64,
            quick_cache::UnitWeighter,
            K::Hasher::default(),
            quick_cache::sync::DefaultLifecycle::default(),
        ))
    }
}

impl<K: Id> Map<K> for Quick<K> {
    fn insert(&self, key: K, session: Session) {
        self.0.insert(key, Arc::new(session));
    }

    #[inline]
    fn with<T>(&self, key: K, look: impl FnOnce(&Session) -> T) -> Option<T> {
        self.0.get(&key).map(|session| look(&session))
    }

    fn remove(&self, key: K) {
        self.0.remove(&key);
    }

    fn remove_if(&self, key: K, is_over: impl Fn(&Session) -> bool) -> Option<u64> {
        if self.0.remove_if(&key, |session| is_over(session)).is_some() {
            return None;
        }
        self.0.peek(&key).map(|session| session.due())
    }
}

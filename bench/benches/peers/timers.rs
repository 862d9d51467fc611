//! Those who bring a timer of their own.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use dashmap::DashMap;
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tokio_util::time::{DelayQueue, delay_queue};

use crate::contender::{Contender, IDLE, Id, Session};

/// moka, with the idle timeout of each session as its expiry. It reads its own clock, and what it
/// expires it expires by that; nothing here lets it be told the time.
pub(crate) struct Moka<K: Id>(moka::sync::Cache<K, Arc<Session>, K::Hasher>);

impl<K: Id> Moka<K> {
    /// All sessions with the same `time_to_idle`.
    pub(crate) fn idle(capacity: usize) -> Moka<K> {
        let builder = moka::sync::Cache::builder().initial_capacity(capacity).max_capacity(capacity as u64 * 2);
        Moka(builder.time_to_idle(Duration::from_millis(IDLE)).build_with_hasher(K::Hasher::default()))
    }

    /// Each with its own.
    pub(crate) fn expiring(capacity: usize) -> Moka<K> {
        let builder = moka::sync::Cache::builder().initial_capacity(capacity).max_capacity(capacity as u64 * 2);
        Moka(builder.expire_after(Own).build_with_hasher(K::Hasher::default()))
    }
}

struct Own;

impl<K> moka::Expiry<K, Arc<Session>> for Own {
    fn expire_after_create(&self, _: &K, session: &Arc<Session>, _: std::time::Instant) -> Option<Duration> {
        Some(Duration::from_millis(session.idle))
    }

    fn expire_after_read(
        &self,
        _: &K,
        session: &Arc<Session>,
        _: std::time::Instant,
        _: Option<Duration>,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(Duration::from_millis(session.idle))
    }
}

impl<K: Id> Contender<K> for Moka<K> {
    fn start(&self, key: K, idle: u64, now: u64) {
        self.0.insert(key, Arc::new(Session::new(idle, now)));
    }

    #[inline]
    fn touch(&self, key: K, _: u64) -> bool {
        self.0.get(&key).is_some()
    }

    fn end(&self, key: K, _: u64) {
        self.0.invalidate(&key);
    }

    fn advance(&self, _: u64) -> usize {
        let before = self.0.entry_count();
        self.0.run_pending_tasks();
        before.saturating_sub(self.0.entry_count()) as usize
    }
}

/// A map, and a queue of deadlines in which each touch moves one.
pub(crate) struct Delayed<K: Id> {
    map: DashMap<K, (Session, delay_queue::Key), K::Hasher>,
    queue: Mutex<DelayQueue<K>>,
    epoch: Instant,
    runtime: Runtime,
}

impl<K: Id> Delayed<K> {
    pub(crate) fn new(capacity: usize) -> std::io::Result<Delayed<K>> {
        // Its clock stands still: it is told the time, too.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let guard = runtime.enter();
        let (queue, epoch) = (DelayQueue::with_capacity(capacity), Instant::now());
        drop(guard);
        let map = DashMap::with_capacity_and_hasher(capacity, K::Hasher::default());
        Ok(Delayed { map, queue: Mutex::new(queue), epoch, runtime })
    }

    fn at(&self, millis: u64) -> Instant {
        self.epoch + Duration::from_millis(millis)
    }
}

impl<K: Id> Contender<K> for Delayed<K> {
    fn start(&self, key: K, idle: u64, now: u64) {
        let _guard = self.runtime.enter();
        let place = self.queue.lock().unwrap_or_else(PoisonError::into_inner).insert_at(key, self.at(now + idle));
        self.map.insert(key, (Session::new(idle, now), place));
    }

    #[inline]
    fn touch(&self, key: K, now: u64) -> bool {
        let Some(entry) = self.map.get(&key) else { return false };
        let (session, place) = &*entry;
        let lives = session.touch(now);
        if lives {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.reset_at(place, self.at(session.due()));
        }
        lives
    }

    fn end(&self, key: K, _: u64) {
        if let Some((_, (_, place))) = self.map.remove(&key) {
            let _guard = self.runtime.enter();
            self.queue.lock().unwrap_or_else(PoisonError::into_inner).try_remove(&place);
        }
    }

    fn advance(&self, now: u64) -> usize {
        let guard = self.runtime.enter();
        let behind = self.at(now).saturating_duration_since(Instant::now());
        drop(guard);
        if !behind.is_zero() {
            self.runtime.block_on(tokio::time::advance(behind));
        }
        let _guard = self.runtime.enter();
        let mut context = Context::from_waker(Waker::noop());
        let mut done = 0;
        loop {
            // One at a time, as a task that polls it does, so that touches get their turn.
            let fired = self.queue.lock().unwrap_or_else(PoisonError::into_inner).poll_expired(&mut context);
            let Poll::Ready(Some(expired)) = fired else { return done };
            done += 1;
            self.map.remove(&expired.into_inner());
        }
    }
}

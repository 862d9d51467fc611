//! A clock for single touches. Everything else is timed by the thousand with [`std::time::Instant`],
//! because reading any clock costs as much as a touch or more.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The processor's own counter, read in order with what comes before and after.
pub struct Clock(quanta::Clock);

impl Clock {
    /// Calibrates the counter, which takes up to a fifth of a second.
    #[must_use]
    pub fn new() -> Clock {
        Clock(quanta::Clock::new())
    }

    /// The counter now.
    #[inline]
    #[must_use]
    pub fn read(&self) -> u64 {
        barrier();
        let counter = self.0.raw();
        barrier();
        counter
    }

    /// From one reading to a later one.
    #[inline]
    #[must_use]
    pub fn nanos(&self, from: u64, to: u64) -> u64 {
        self.0.delta_as_nanos(from, to)
    }

    /// What two readings with nothing between them say, for so long. Its middle is what the clock
    /// adds to every figure; its end is what this machine does to a thread that does nothing.
    #[must_use]
    pub fn alone(&self, time: Duration) -> Histogram<u64> {
        let mut seen = histogram();
        let begin = Instant::now();
        while begin.elapsed() < time {
            for _ in 0..1000 {
                let from = self.read();
                seen.saturating_record(self.nanos(from, self.read()));
            }
        }
        seen
    }
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

/// Up to ten seconds, to three digits.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("the bounds are in order")
}

/// Waits until everything before has been done. Without this the counter is read while the loads of
/// a touch are still on their way, and one touch begins before the last has ended.
#[inline]
pub fn barrier() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: needs SSE2, which every x86-64 processor has; it touches no memory.
    unsafe {
        std::arch::x86_64::_mm_lfence();
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

//! Engine time: a small algebra with an eternity.
//!
//! A [`Tick`] is a point in time, milliseconds since the region's own epoch; a [`Span`] is a
//! distance between two. Both have 48 bits, which is 8,900 years: enough for any deadline, and
//! small enough to share a 64-bit word with a few flags. Every sum saturates at *never*, so no
//! deadline wraps around into the past. No other file does arithmetic on raw milliseconds, but for the
//! one function of state.rs that shows why it makes no sum.

use std::fmt;

/// Bits of a tick.
pub(crate) const TICK_BITS: u32 = 48;
/// The bits of a word that hold a tick.
pub(crate) const TICK_MASK: u64 = (1 << TICK_BITS) - 1;

/// A point in engine time: whole milliseconds since the region's epoch, `0..=2^48 - 2`, or never.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(u64);

impl Tick {
    /// The region's epoch.
    pub const ZERO: Tick = Tick(0);
    /// The last point in time that can be *now*.
    pub const LAST: Tick = Tick(TICK_MASK - 1);
    /// Later than every *now*: the deadline of a limit that is off.
    pub const NEVER: Tick = Tick(TICK_MASK);

    /// The tick `millis` after the epoch. What lies after [`Tick::LAST`] becomes [`Tick::NEVER`].
    #[must_use]
    #[inline]
    pub const fn from_millis(millis: u64) -> Tick {
        if millis > TICK_MASK { Tick(TICK_MASK) } else { Tick(millis) }
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whether this is [`Tick::NEVER`].
    #[must_use]
    pub const fn is_never(self) -> bool {
        self.0 == TICK_MASK
    }

    /// `self + span`; never stays never.
    #[must_use]
    #[inline]
    pub const fn after(self, span: Span) -> Tick {
        // Two numbers of 48 bits: the sum has 49.
        Tick::from_millis(self.0 + span.0)
    }

    /// The deadline of a limit that counts from `self`: [`Tick::NEVER`] when it is off.
    #[must_use]
    #[inline]
    pub const fn limit(self, limit: Span) -> Tick {
        // Zero becomes the longest span and every other one less, and then it is added.
        Tick::from_millis(self.0 + (limit.0.wrapping_sub(1) & TICK_MASK) + 1)
    }

    /// The distance from `earlier` to `self`: zero when `earlier` is later, [`Span::NEVER`] when
    /// `self` is never.
    #[must_use]
    pub const fn since(self, earlier: Tick) -> Span {
        if self.is_never() { Span::NEVER } else { Span(self.0.saturating_sub(earlier.0)) }
    }

    /// A *now* as the engine uses it: never is not a time that comes.
    #[inline]
    pub(crate) fn as_now(self) -> Tick {
        self.min(Tick::LAST)
    }

    #[inline]
    pub(crate) const fn from_word(word: u64) -> Tick {
        Tick(word & TICK_MASK)
    }
}

impl fmt::Debug for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_never() { f.write_str("never") } else { write!(f, "@{}", self.0) }
    }
}

/// A length of time: whole milliseconds, `0..=2^48 - 2`, or never. As a limit, zero is *off*.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(u64);

impl Span {
    /// No time; as a limit: off.
    pub const OFF: Span = Span(0);
    /// Longer than every other span.
    pub const NEVER: Span = Span(TICK_MASK);
    /// 24 hours.
    pub const DAY: Span = Span(86_400_000);

    /// A span of `millis` milliseconds, at most [`Span::NEVER`].
    #[must_use]
    pub const fn from_millis(millis: u64) -> Span {
        if millis > TICK_MASK { Span(TICK_MASK) } else { Span(millis) }
    }

    /// A span of `secs` seconds, at most [`Span::NEVER`].
    #[must_use]
    pub const fn from_secs(secs: u64) -> Span {
        Span::from_millis(secs.saturating_mul(1000))
    }

    /// A span of `mins` minutes, at most [`Span::NEVER`].
    #[must_use]
    pub const fn from_mins(mins: u64) -> Span {
        Span::from_secs(mins.saturating_mul(60))
    }

    /// Whole milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whether this is zero, which as a limit means that there is none.
    #[must_use]
    pub const fn is_off(self) -> bool {
        self.0 == 0
    }

    /// Whether this is [`Span::NEVER`].
    #[must_use]
    pub const fn is_never(self) -> bool {
        self.0 == TICK_MASK
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_never() { f.write_str("never") } else { write!(f, "{}ms", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_past_the_last_tick_is_never_and_not_a_time_in_the_past() {
        assert_eq!(Tick::LAST.after(Span::from_millis(1)), Tick::NEVER);
        assert_eq!(Tick::NEVER.after(Span::NEVER), Tick::NEVER);
        assert_eq!(Tick::from_millis(u64::MAX), Tick::NEVER);
        assert_eq!(Span::from_mins(u64::MAX), Span::NEVER);
    }

    #[test]
    fn a_distance_is_never_negative_and_never_is_infinitely_far() {
        assert_eq!(Tick::from_millis(5).since(Tick::from_millis(9)), Span::OFF);
        assert_eq!(Tick::NEVER.since(Tick::LAST), Span::NEVER);
    }
}

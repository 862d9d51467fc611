//! Time: the machine's clock that neither steps nor stops, as ticks of a region.
//!
//! Every process reads the same clock itself, so no worker lags behind another. The clock that shows
//! the date is asked for one thing only: how far away a token's expiry is.

use curfew_engine::{Table, Tick};
use nix::time::{ClockId, clock_gettime};

fn millis(clock: ClockId) -> u64 {
    // Neither clock can fail to be there; and who gets no time gets the one in which nothing lives.
    clock_gettime(clock).map_or(u64::MAX, |time| time.tv_sec() as u64 * 1000 + time.tv_nsec() as u64 / 1_000_000)
}

/// Milliseconds since the machine was booted, those that it slept included.
pub(crate) fn boot_millis() -> u64 {
    millis(ClockId::CLOCK_BOOTTIME)
}

/// Now, in ticks of this region.
pub(crate) fn now(table: &Table) -> Tick {
    table.tick_at(boot_millis())
}

/// The tick of a point in time given in whole seconds since 1970, as tokens have it (`exp`).
pub(crate) fn tick_of_date(seconds: u64, now: Tick) -> Tick {
    let (date, today) = (seconds.saturating_mul(1000), millis(ClockId::CLOCK_REALTIME));
    if date <= today {
        // It has passed: by how much does not matter, but it must not lie ahead.
        return Tick::from_millis(now.as_millis().saturating_sub(today - date));
    }
    Tick::from_millis(now.as_millis().saturating_add(date - today))
}

/// The last second of the year 9999. What lies beyond has been counted in milliseconds.
const LAST_DATE: u64 = 253_402_300_799;

/// Seconds since 1970 as text has them: digits, perhaps with a fraction, which JSON allows and which
/// is cut off. Nothing else is a time.
pub(crate) fn parse_date(text: &[u8]) -> Option<u64> {
    let whole = text.split(|byte| *byte == b'.').next()?;
    let fraction = &text[whole.len()..];
    let is_fraction = fraction.is_empty() || fraction.len() > 1 && fraction[1..].iter().all(u8::is_ascii_digit);
    if whole.is_empty() || whole.len() > 15 || !whole.iter().all(u8::is_ascii_digit) || !is_fraction {
        return None;
    }
    std::str::from_utf8(whole).ok()?.parse().ok().filter(|date| *date <= LAST_DATE)
}

//! The edge where clocks are read, and how much time lies between two readings.
//!
//! The engine itself knows ticks only. A [`Moment`] ties them to the world: it is one reading of a
//! clock that only goes forward and of the clock on the wall, together with a marker of the boot,
//! because the first of the two begins anew with every boot. `docs/time.md` goes through every
//! story that clocks can tell. The rule behind all of them: what the clocks leave open is never
//! decided in the session's favour.

use std::io;
use std::path::Path;
use std::sync::OnceLock;

use nix::time::{ClockId, clock_gettime};

use crate::error::ClockError;
use crate::time::Span;

/// One reading of all clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// Milliseconds since the machine's boot, sleep included (`CLOCK_BOOTTIME`): what ticks are
    /// made of, by [`crate::Table::tick_at`].
    pub steady: u64,
    /// Milliseconds since 1970 by the clock on the wall, which anybody may set.
    pub wall: u64,
    /// A number that is another one after every boot.
    pub boot: u64,
}

impl Moment {
    /// Reads the clocks.
    ///
    /// # Errors
    /// When the system does not say which boot this is: a process without `/proc` cannot know
    /// whether times of before still mean anything.
    pub fn now() -> io::Result<Moment> {
        let boot = boot_marker()?;
        Ok(Moment { steady: millis(ClockId::CLOCK_BOOTTIME)?, wall: millis(ClockId::CLOCK_REALTIME)?, boot })
    }

    /// The time from `earlier` to this moment: exact within one boot; after another as the clock on
    /// the wall has it, and not less than the time since that boot.
    ///
    /// # Errors
    /// [`ClockError`] when the clocks cannot tell.
    pub fn since(&self, earlier: &Moment) -> Result<Span, ClockError> {
        let distance = |from: u64, to: u64| Span::from_millis(to.saturating_sub(from));
        if self.boot == earlier.boot {
            if self.steady < earlier.steady {
                return Err(ClockError::SteadyBack { by: distance(self.steady, earlier.steady) });
            }
            return Ok(distance(earlier.steady, self.steady));
        }
        if self.wall < earlier.wall {
            return Err(ClockError::WallBack { by: distance(self.wall, earlier.wall) });
        }
        Ok(distance(earlier.wall, self.wall).max(self.at_least_since(earlier)))
    }

    /// The time that has certainly passed since `earlier`, whatever the wall clock says: all of it
    /// within one boot, and the time since the boot after another.
    pub(crate) fn at_least_since(&self, earlier: &Moment) -> Span {
        let since = if self.boot == earlier.boot { earlier.steady } else { 0 };
        Span::from_millis(self.steady.saturating_sub(since))
    }
}

fn millis(clock: ClockId) -> io::Result<u64> {
    let time = clock_gettime(clock)?;
    // A clock on the wall may stand before 1970.
    let (secs, nanos) = (u64::try_from(time.tv_sec()).unwrap_or(0), u64::try_from(time.tv_nsec()).unwrap_or(0));
    Ok(secs.saturating_mul(1000).saturating_add(nanos / 1_000_000))
}

/// A number that is another one after every boot, so that ticks of before are not taken for ours.
pub(crate) fn boot_marker() -> io::Result<u64> {
    static MARKER: OnceLock<u64> = OnceLock::new();
    if let Some(marker) = MARKER.get() {
        return Ok(*marker);
    }
    let marker = marker_in(Path::new("/proc/sys/kernel/random/boot_id"))?;
    Ok(*MARKER.get_or_init(|| marker))
}

/// A boot without a name would be like every other one.
fn marker_in(path: &Path) -> io::Result<u64> {
    let id = std::fs::read(path)?;
    if id.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the system does not name its boot"));
    }
    Ok(u64::from_le_bytes(*blake3::hash(&id).as_bytes().first_chunk().expect("a hash is longer")) | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_that_does_not_name_its_boot_is_an_error_and_not_one_more_boot() {
        assert!(marker_in(Path::new("/proc/there/is/none")).is_err());
        assert!(marker_in(Path::new("/dev/null")).is_err());
        assert_eq!(boot_marker().unwrap(), boot_marker().unwrap());
    }

    fn moment(steady: u64, wall: u64, boot: u64) -> Moment {
        Moment { steady, wall, boot }
    }

    #[test]
    fn within_one_boot_the_steady_clock_alone_counts() {
        let taken = moment(5000, 1_000_000, 1);
        for wall in [0, 1_000_000, u64::MAX] {
            assert_eq!(moment(5000, wall, 1).since(&taken), Ok(Span::OFF));
            assert_eq!(moment(65_000, wall, 1).since(&taken), Ok(Span::from_secs(60)));
        }
        let back = ClockError::SteadyBack { by: Span::from_millis(1) };
        assert_eq!(moment(4999, 2_000_000, 1).since(&taken), Err(back));
    }

    #[test]
    fn after_another_boot_the_wall_clock_counts_and_never_less_than_the_time_since_that_boot() {
        let taken = moment(5_000_000, 1_000_000, 1);
        assert_eq!(moment(100, 1_060_000, 2).since(&taken), Ok(Span::from_secs(60)));
        assert_eq!(moment(90_000, 1_060_000, 2).since(&taken), Ok(Span::from_secs(90)));
        assert_eq!(moment(90_000, 1_000_000, 2).since(&taken), Ok(Span::from_secs(90)));
        let back = ClockError::WallBack { by: Span::from_millis(1) };
        assert_eq!(moment(90_000, 999_999, 2).since(&taken), Err(back));
    }

    #[test]
    fn no_clock_is_so_far_off_that_a_sum_wraps_around() {
        assert_eq!(moment(0, u64::MAX, 2).since(&moment(0, 0, 1)), Ok(Span::NEVER));
        assert_eq!(moment(u64::MAX, 0, 2).since(&moment(u64::MAX, 0, 1)), Ok(Span::NEVER));
    }

    #[test]
    fn the_real_clocks_go_forward_and_name_one_boot() {
        let (first, second) = (Moment::now().unwrap(), Moment::now().unwrap());
        assert_eq!(first.boot, second.boot);
        assert!(second.since(&first).unwrap() < Span::DAY);
        assert!(first.steady > 0 && first.wall > 1_600_000_000_000);
    }
}

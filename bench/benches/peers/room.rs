//! What fits into the memory of this machine: of ten million sessions, all tables at once do not fit everywhere.

use clap::ValueEnum;
use curfew_bench::report::thousands;

use crate::field::Who;

/// Bytes of a session in all tables of a mix together, as seen; and in those without moka's.
const IN_ALL: usize = 2500;
const WITHOUT_MOKA: usize = 1600;
/// In the largest table of those that forget, which have their crowds one after the other.
const IN_ONE: usize = 500;

/// Who can take part at once with so many sessions, and what there is to say about that. Nobody is an empty list.
pub(crate) fn who_fits(sessions: usize, free: usize) -> (Vec<Who>, Option<String>) {
    let everyone = Who::value_variants().to_vec();
    let note = |what: &str| {
        let giga = |bytes: usize| bytes.div_ceil(1 << 30);
        let (sessions_, needed, free) = (thousands(sessions as u64), giga(sessions * IN_ALL), giga(free));
        Some(format!(
            "{sessions_} sessions: {what}, because all would take {needed} GiB of memory and {free} are free.\n\n"
        ))
    };
    if sessions * IN_ALL <= free {
        (everyone, None)
    } else if sessions * WITHOUT_MOKA <= free {
        (everyone.into_iter().filter(|who| !who.has_a_clock()).collect(), note("moka is left out"))
    } else {
        (Vec::new(), note("left out"))
    }
}

/// Which of `who`, in this order, have room at once with so many sessions.
pub(crate) fn who_fits_of(who: &[Who], sessions: usize, free: usize) -> Vec<Who> {
    let mut left = free;
    let mut fits = |who: &Who| {
        // Seen, and for the limit counted: up to three places for a session, of 64 bytes.
        let bytes = match who {
            Who::Curfew | Who::CurfewHuge | Who::CurfewAhead => 100,
            Who::Limit | Who::LimitHuge => 64 * 3,
            _ => IN_ONE,
        };
        let has_room = bytes * sessions <= left;
        left -= if has_room { bytes * sessions } else { 0 };
        has_room
    };
    who.iter().copied().filter(|one| fits(one)).collect()
}

/// How many sessions a crowd can be among.
pub(crate) fn live_that_fit(wanted: usize, free: usize) -> usize {
    wanted.min(free / IN_ONE)
}

/// Bytes that are free, or can be freed; unlimited where the system does not say.
pub(crate) fn free() -> usize {
    let said = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = said.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok());
    kibibytes.map_or(usize::MAX, |kibibytes| kibibytes << 10)
}

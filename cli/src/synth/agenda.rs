//! When people are there: a working day with lunch, some evenings, few weekends.

use super::chance::Chance;

/// Seconds.
pub(crate) const DAY: u64 = 86_400;
const HOUR: u32 = 3600;
const MINUTE: u32 = 60;

/// The stretches of one day in which somebody is there, seconds of the day, first to last.
#[derive(Clone, Copy)]
pub(crate) struct Agenda {
    stretches: [(u32, u32); 3],
    day: u32,
    weekend: bool,
}

const NOTHING: (u32, u32) = (0, 0);

impl Agenda {
    /// The first day from `day` on that somebody comes at all. Day 0 is `first_weekday`, Monday is 0.
    pub(crate) fn from(mut day: u32, first_weekday: u32, chance: &mut Chance) -> Agenda {
        loop {
            let weekend = (day + first_weekday) % 7 >= 5;
            if chance.percent(if weekend { 5 } else { 92 }) {
                let stretches = if weekend { weekend_day(chance) } else { working_day(chance) };
                return Agenda { stretches, day, weekend };
            }
            day += 1;
        }
    }

    pub(crate) fn day(&self) -> u32 {
        self.day
    }

    /// When the day begins for them, seconds of the log.
    pub(crate) fn begin(&self) -> u64 {
        self.midnight() + u64::from(self.stretches[0].0)
    }

    /// The first moment from `time` on at which they are there, if that is on this day.
    pub(crate) fn there_from(&self, time: u64) -> Option<u64> {
        let second = time - self.midnight();
        let stretch = self.stretches.iter().find(|(_, end)| second < u64::from(*end));
        stretch.map(|(begin, _)| self.midnight() + second.max(u64::from(*begin)))
    }

    /// Evenings and weekends are not spent at the office.
    pub(crate) fn is_at_home(&self, time: u64) -> bool {
        self.weekend || time - self.midnight() >= u64::from(19 * HOUR + 30 * MINUTE)
    }

    fn midnight(&self) -> u64 {
        u64::from(self.day) * DAY
    }
}

fn working_day(chance: &mut Chance) -> [(u32, u32); 3] {
    let arrival = chance.around(7 * HOUR + 30 * MINUTE, 10 * HOUR);
    let lunch = chance.around(11 * HOUR + 45 * MINUTE, 13 * HOUR);
    let back = lunch + chance.between(25 * MINUTE, 70 * MINUTE);
    let leave = chance.around(15 * HOUR + 30 * MINUTE, 19 * HOUR);
    let evening = chance.around(20 * HOUR, 22 * HOUR + 30 * MINUTE);
    let evening = (evening, evening + chance.between(10 * MINUTE, 70 * MINUTE));
    [(arrival, lunch), (back, leave), if chance.percent(12) { evening } else { NOTHING }]
}

fn weekend_day(chance: &mut Chance) -> [(u32, u32); 3] {
    let begin = chance.around(9 * HOUR, 21 * HOUR);
    [(begin, begin + chance.between(10 * MINUTE, 2 * HOUR)), NOTHING, NOTHING]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_there_during_lunch_and_everybody_comes_back() {
        let agenda = Agenda { stretches: [(100, 200), (300, 400), NOTHING], day: 1, weekend: false };
        for (second, there) in [(50, Some(100)), (150, Some(150)), (200, Some(300)), (399, Some(399)), (400, None)] {
            assert_eq!(agenda.there_from(DAY + second), there.map(|second| DAY + second));
        }
    }

    #[test]
    fn the_stretches_of_a_day_follow_one_another_within_it() {
        let mut chance = Chance::new(5);
        for day in 0..2000 {
            let agenda = Agenda::from(day, 0, &mut chance);
            let mut before = 0;
            for (begin, end) in agenda.stretches.into_iter().filter(|stretch| *stretch != NOTHING) {
                assert!(before <= begin && begin < end && u64::from(end) < DAY);
                before = end;
            }
        }
    }
}

//! What there is to say about a log before any policy looks at it.

use jiff::Timestamp;

/// Counts over the lines in the order of the input.
#[derive(Debug, Default)]
pub(crate) struct Census {
    pub(crate) events: u64,
    pub(crate) unparsed: u64,
    pub(crate) nokey: u64,
    /// Events earlier than the latest one seen before them.
    pub(crate) out_of_order: u64,
    /// Earliest and latest time, milliseconds since 1970.
    pub(crate) span: Option<(i64, i64)>,
    /// File and line number of the first line that could not be read.
    pub(crate) first_unparsed: Option<(usize, u64)>,
    /// A time had no zone, and was taken to be UTC.
    pub(crate) zoneless: bool,
    /// For each file, what packs it.
    pub(crate) packings: Vec<Option<&'static str>>,
    /// Files of which no line could be read.
    pub(crate) strangers: Vec<usize>,
    /// The file that is read, and whether lines of it could be read and could not.
    file: (usize, bool, bool),
    /// One bit for each minute of the hour in which something happened.
    minutes: u64,
}

impl Census {
    pub(crate) fn event(&mut self, time: i64) {
        self.events += 1;
        match &mut self.span {
            Some((_, latest)) if time >= *latest => *latest = time,
            Some((earliest, _)) => {
                self.out_of_order += 1;
                *earliest = time.min(*earliest);
            }
            None => self.span = Some((time, time)),
        }
        self.minutes |= 1 << time.div_euclid(60_000).rem_euclid(60);
    }

    /// Takes down that a line belongs to a file; files come one after the other.
    pub(crate) fn line(&mut self, file: usize, readable: bool) {
        if file != self.file.0 {
            self.file_is_over();
            self.file = (file, false, false);
        }
        self.file.1 |= readable;
        self.file.2 |= !readable;
    }

    pub(crate) fn file_is_over(&mut self) {
        if let (file, false, true) = self.file {
            self.strangers.push(file);
        }
    }

    pub(crate) fn unparsed(&mut self, file: usize, line: u64) {
        self.unparsed += 1;
        self.first_unparsed.get_or_insert((file, line));
    }

    /// Milliseconds from the first event to the last.
    pub(crate) fn length(&self) -> u64 {
        self.span.map_or(0, |(first, last)| last.abs_diff(first))
    }

    /// The minute of the hour in which all events lie, if there is just one.
    pub(crate) fn only_minute(&self) -> Option<u32> {
        (self.minutes.count_ones() == 1).then(|| self.minutes.trailing_zeros())
    }
}

/// Whether a time can be written as a date. What cannot is no time.
pub(crate) fn is_a_date(time: i64) -> bool {
    Timestamp::from_millisecond(time).is_ok()
}

/// RFC 3339 in UTC; milliseconds only when there are some.
pub(crate) fn rfc3339(time: i64) -> String {
    match Timestamp::from_millisecond(time) {
        Ok(stamp) if time.rem_euclid(1000) == 0 => format!("{stamp:.0}"),
        Ok(stamp) => format!("{stamp:.3}"),
        // Not reached: such times are not let in.
        Err(_) => format!("{time} ms since 1970"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_out_of_order_when_a_later_one_came_before_it() {
        let mut census = Census::default();
        for time in [50, 10, 60, 60, 20, 70] {
            census.event(time);
        }
        assert_eq!((census.events, census.out_of_order, census.span), (6, 2, Some((10, 70))));
    }

    #[test]
    fn a_file_is_a_stranger_when_none_of_its_lines_could_be_read() {
        let mut census = Census::default();
        for (file, readable) in [(0, false), (0, true), (1, false), (1, false), (3, true), (4, false)] {
            census.line(file, readable);
        }
        census.file_is_over();
        assert_eq!(census.strangers, [1, 4]);
    }

    #[test]
    fn times_before_1970_have_a_minute_too() {
        let mut census = Census::default();
        for hour in -3..3 {
            census.event(hour * 3_600_000 + 5 * 60_000 + 7);
        }
        assert_eq!(census.only_minute(), Some(5));
        census.event(0);
        assert_eq!(census.only_minute(), None);
    }

    #[test]
    fn a_time_shows_milliseconds_only_when_it_has_some() {
        assert_eq!(rfc3339(1_354_230_839_000), "2012-11-29T23:13:59Z");
        assert_eq!(rfc3339(1_354_230_839_050), "2012-11-29T23:13:59.050Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
    }
}

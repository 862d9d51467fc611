//! Times as logs write them, turned into milliseconds since 1970.
//!
//! Known are the stamp of the common log format, RFC 3339 (also with a space for the `T` and without
//! a zone, which then is UTC), and epoch numbers. An epoch number tells its unit by its size: below
//! 10^11 it is seconds (until the year 5138), then milliseconds, microseconds, nanoseconds.

/// The first and the last millisecond of the years 1 to 9999.
const RANGE: std::ops::RangeInclusive<i64> = -62_135_596_800_000..=253_402_300_799_999;

/// When logs can have been written: from 1990, before there were any of the web, to 2099.
pub(crate) const PLAUSIBLE: std::ops::Range<i64> = 631_152_000_000..4_102_444_800_000;

/// Reads stamps of the common log format and remembers the last one: most differ from it by seconds at most.
pub(crate) struct Clock {
    text: [u8; 26],
    ms: i64,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { text: *b"01/Jan/1970:00:00:00 +0000", ms: 0 }
    }

    #[inline]
    pub(crate) fn read(&mut self, text: &[u8]) -> Option<i64> {
        let Ok(whole) = <&[u8; 26]>::try_from(text) else {
            return clf(text);
        };
        if *whole == self.text {
            return Some(self.ms);
        }
        if whole[..18] == self.text[..18] && whole[20..] == self.text[20..] {
            let old = two(&self.text, 18)?;
            let new = two(whole, 18).filter(|&second| second < 60)?;
            self.ms += (new - old) * 1000;
        } else {
            self.ms = match strict(whole) {
                Some(ms) => ms,
                None => return clf(text),
            };
        }
        self.text = *whole;
        Some(self.ms)
    }
}

/// `dd/Mon/yyyy:HH:MM:SS +zzzz` and nothing else.
fn strict(t: &[u8; 26]) -> Option<i64> {
    let shaped = t[2] == b'/' && t[6] == b'/' && t[11] == b':' && t[14] == b':' && t[17] == b':' && t[20] == b' ';
    let century = if shaped { two(t, 7)? } else { return None };
    let clock = (two(t, 12)?, two(t, 15)?, two(t, 18)?);
    at(century * 100 + two(t, 9)?, month(&t[3..6])?, two(t, 0)?, clock, zone(&t[21..])?)
}

/// The same stamp as loosely as `strptime` reads it: one-digit numbers, any case, wider space, `+01:00` and `Z`.
pub(crate) fn clf(text: &[u8]) -> Option<i64> {
    let mut rest = text.strip_prefix(b" ").unwrap_or(text);
    let padded = rest.len() < text.len();
    let day_length = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    if padded && day_length != 1 {
        return None;
    }
    let day = short(&mut rest, b'/')?;
    let month = month(rest.get(..3)?)?;
    rest = rest[3..].strip_prefix(b"/")?;
    let year = two(rest, 0)? * 100 + two(rest, 2)?;
    rest = rest[4..].strip_prefix(b":")?;
    let hour = short(&mut rest, b':')?;
    let minute = short(&mut rest, b':')?;
    let gap = rest.iter().position(|&b| is_space(b))?;
    let (mut seconds, after) = rest.split_at(gap);
    let second = digits(&mut seconds).filter(|_| seconds.is_empty())?;
    let zone_text = &after[after.iter().position(|&b| !is_space(b))?..];
    at(year, month, day, (hour, minute, second), if zone_text == b"Z" { 0 } else { zone(zone_text)? })
}

/// A time of any known kind.
pub(crate) fn guess(text: &[u8]) -> Option<i64> {
    let text = text.trim_ascii();
    if is_dashed(text) {
        rfc3339(text)
    } else if text.len() >= 17 && text.contains(&b'/') {
        clf(text.strip_prefix(b"[").and_then(|t| t.strip_suffix(b"]")).unwrap_or(text))
    } else {
        number(text)
    }
}

fn is_dashed(text: &[u8]) -> bool {
    text.len() >= 19 && text[4] == b'-'
}

/// Whether a time that could be read has no zone, and was taken to be UTC.
#[inline]
pub(crate) fn lacks_zone(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    is_dashed(text) && text[19..].iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b','))
}

/// An epoch number with its fraction.
fn number(text: &[u8]) -> Option<i64> {
    let size = text.strip_prefix(b"-").unwrap_or(text);
    let sign = if size.len() < text.len() { -1 } else { 1 };
    let (whole, fraction) = match memchr::memchr(b'.', size) {
        Some(dot) => (&size[..dot], &size[dot + 1..]),
        None => (size, &b""[..]),
    };
    // Up to three decimals are read exactly; what has more, or an exponent, goes the way of floating point.
    let plain = whole.len() <= 18 && fraction.len() <= 3 && !whole.is_empty();
    if plain && whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        let value = whole.iter().fold(0, |sum, b| sum * 10 + i64::from(b - b'0'));
        let thousandths = (0..3).fold(0, |sum, i| sum * 10 + fraction.get(i).map_or(0, |b| i64::from(b - b'0')));
        if value < 100_000_000_000 {
            return Some(sign * (value * 1000 + thousandths)).filter(|ms| RANGE.contains(ms));
        } else if fraction.is_empty() {
            return integer(sign * value);
        }
    }
    let text = std::str::from_utf8(text).ok()?;
    text.parse().map_or_else(|_| float(text.parse().ok()?), integer)
}

/// A whole epoch number.
pub(crate) fn integer(value: i64) -> Option<i64> {
    let ms = match value.unsigned_abs() {
        0..100_000_000_000 => value * 1000,
        100_000_000_000..100_000_000_000_000 => value,
        100_000_000_000_000..100_000_000_000_000_000 => value.saturating_add(500).div_euclid(1000),
        _ => value.saturating_add(500_000).div_euclid(1_000_000),
    };
    Some(ms).filter(|ms| RANGE.contains(ms))
}

/// An epoch number in floating point; halves of a millisecond go to the even side.
pub(crate) fn float(value: f64) -> Option<i64> {
    let ms = match value.abs() {
        size if size < 1e11 => value * 1e3,
        size if size < 1e14 => value,
        size if size < 1e17 => value / 1e3,
        size if size < 1e20 => value / 1e6,
        _ => return None,
    };
    Some(ms.round_ties_even() as i64).filter(|ms| RANGE.contains(ms))
}

fn rfc3339(t: &[u8]) -> Option<i64> {
    let shaped = t[7] == b'-' && matches!(t[10], b'T' | b't' | b' ' | b'_') && t[13] == b':' && t[16] == b':';
    let century = if shaped { two(t, 0)? } else { return None };
    let (month, day) = (two(t, 5)?, two(t, 8)?);
    let clock = (two(t, 11)?, two(t, 14)?, two(t, 17)?);
    let mut rest = &t[19..];
    let mut micros = 0;
    if let [b'.' | b',', fraction @ ..] = rest {
        let length = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if length == 0 {
            return None;
        }
        micros = (0..6).fold(0, |sum, i| sum * 10 + if i < length { i64::from(fraction[i] - b'0') } else { 0 });
        rest = &fraction[length..];
    }
    let offset = match rest.trim_ascii_start() {
        b"" | b"Z" | b"z" => 0,
        [sign, hour @ (b'0'..=b'9'), hours @ (b'0'..=b'9')] => zone(&[*sign, *hour, *hours, b'0', b'0'])?,
        other => zone(other)?,
    };
    let ms = at(century * 100 + two(t, 2)?, month, day, clock, offset)?;
    if micros % 1000 == 0 {
        return Some(ms + micros / 1000);
    }
    Some(((ms * 1000 + micros) as f64 / 1e6 * 1e3).round_ties_even() as i64)
}

/// What Python, and so the reference, takes for ASCII white space.
pub(crate) const fn is_space(byte: u8) -> bool {
    matches!(byte, 9..=13 | 28..=32)
}

fn two(text: &[u8], at: usize) -> Option<i64> {
    match text.get(at..at + 2)? {
        [a @ b'0'..=b'9', b @ b'0'..=b'9'] => Some(i64::from(a - b'0') * 10 + i64::from(b - b'0')),
        _ => None,
    }
}

/// A number of one or two digits and the byte that ends it.
fn short(rest: &mut &[u8], end: u8) -> Option<i64> {
    let value = digits(rest)?;
    *rest = rest.strip_prefix(&[end])?;
    Some(value)
}

/// A number of one or two digits.
fn digits(rest: &mut &[u8]) -> Option<i64> {
    let length = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let value = match length {
        1 => i64::from(rest[0] - b'0'),
        2 => two(rest, 0)?,
        _ => return None,
    };
    *rest = &rest[length..];
    Some(value)
}

pub(crate) fn month(name: &[u8]) -> Option<i64> {
    let names = b"janfebmaraprmayjunjulaugsepoctnovdec";
    (1..=12).zip(names.chunks(3)).find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(number, _)| number)
}

/// Seconds east of UTC for `+hhmm` or `+hh:mm`.
fn zone(text: &[u8]) -> Option<i64> {
    let minutes = match text {
        [_, _, _, _, _] => two(text, 3)?,
        [_, _, _, b':', _, _] => two(text, 4)?,
        _ => return None,
    };
    let hours = two(text, 1)?;
    let east = (hours * 60 + minutes) * 60;
    match text[0] {
        _ if hours > 23 || minutes > 59 => None,
        b'+' => Some(east),
        b'-' => Some(-east),
        _ => None,
    }
}

fn at(year: i64, month: i64, day: i64, (hour, minute, second): (i64, i64, i64), east: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    let valid = year >= 1 && (1..=length).contains(&day) && hour < 24 && minute < 60 && second < 60;
    valid.then(|| (days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - east) * 1000)
}

/// Days since 1970-01-01, counting years from March so that the leap day comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_clf_stamp_is_read_with_its_zone() {
        assert_eq!(Clock::new().read(b"23/Jan/2013:00:55:16 +0100"), Some(1_358_898_916_000));
        assert_eq!(Clock::new().read(b"08/Sep/2009:07:54:07 -0400"), Some(1_252_410_847_000));
        assert_eq!(Clock::new().read(b"29/Feb/2000:00:00:00 +0000"), Some(951_782_400_000));
    }

    #[test]
    fn the_clock_gives_the_same_with_and_without_memory() {
        let stamps = [
            "23/Jan/2013:00:55:16 +0100",
            "23/Jan/2013:00:55:16 +0100",
            "23/Jan/2013:00:55:59 +0100",
            "23/Jan/2013:00:55:60 +0100",
            "23/Jan/2013:00:55:1x +0100",
            "23/Jan/2013:00:55:01 +0200",
            "23/Jan/2013:00:56:01 +0200",
            "31/Feb/2013:00:56:01 +0200",
            "23/jan/2013:00:56:02 +0200",
            "23/Jan/2013:00:56:03 +02:00",
            "23/Jan/2013:00:56:02 +0200",
        ];
        let mut clock = Clock::new();
        for stamp in stamps {
            assert_eq!(clock.read(stamp.as_bytes()), Clock::new().read(stamp.as_bytes()), "{stamp}");
        }
    }

    #[test]
    fn what_strptime_takes_is_taken() {
        for stamp in [
            "3/feb/2024:4:5:6 +0000",
            " 3/FEB/2024:04:05:06 +0000",
            "03/Feb/2024:04:05:06   Z",
            "03/Feb/2024:05:05:06\t+01:00",
            "03/Feb/2024:04:05:06 -0000",
        ] {
            assert_eq!(Clock::new().read(stamp.as_bytes()), Some(1_706_933_106_000), "{stamp}");
        }
    }

    #[test]
    fn what_is_no_date_is_no_time() {
        for stamp in [
            "",
            "-",
            "30/Feb/2024:04:05:06 +0000",
            "00/Feb/2024:04:05:06 +0000",
            " 03/Feb/2024:04:05:06 +0000",
            "29/Feb/2023:04:05:06 +0000",
            "29/Feb/1900:04:05:06 +0000",
            "01/Xxx/2023:04:05:06 +0000",
            "01/Jan/0000:04:05:06 +0000",
            "01/Jan/2023:24:05:06 +0000",
            "01/Jan/2023:04:60:06 +0000",
            "01/Jan/2023:04:05:60 +0000",
            "01/Jan/2023:04:05:06 +2400",
            "01/Jan/2023:04:05:06 +0060",
            "01/Jan/2023:04:05:06",
            "01/Jan/2023:04:05:06 UTC",
            "01/Jan/2023:04:05:06.5 +0000",
            "01/Jan/2023:04:05:06 +0000 ",
            "01-Jan-2023:04:05:06 +0000",
        ] {
            assert_eq!(Clock::new().read(stamp.as_bytes()), None, "{stamp}");
        }
    }

    #[test]
    fn an_epoch_number_tells_its_unit_by_its_size() {
        for text in
            ["1659304800", "1659304800.000", "1659304800000", "1659304800000000", "1659304800000000000", "1.6593048e9"]
        {
            assert_eq!(guess(text.as_bytes()), Some(1_659_304_800_000), "{text}");
        }
        assert_eq!(guess(b" 1286536308.779 "), Some(1_286_536_308_779));
        assert_eq!(guess(b"1693840791.7564995"), Some(1_693_840_791_756));
        // A floating point number has no room for the last of these digits.
        assert_eq!(guess(b"1715472017123499999"), Some(1_715_472_017_123));
        assert_eq!(guess(b"-1.5"), Some(-1500));
        assert_eq!(guess(b"0"), Some(0));
    }

    #[test]
    fn numbers_that_are_no_time_are_refused() {
        for text in ["", "-", ".", "nan", "inf", "1e300", "1_000", "0x10", "12:30", "99999999999999999999999"] {
            assert_eq!(guess(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn rfc_3339_is_read_with_and_without_zone_and_fraction() {
        for text in [
            "2021-12-08T14:02:43.587Z",
            "2021-12-08t14:02:43.587z",
            "2021-12-08 14:02:43.587",
            "2021-12-08T15:02:43,587+01:00",
            "2021-12-08T15:02:43.587+0100",
            "2021-12-08T15:02:43.587+01",
            "2021-12-08T14:02:43.587192192Z",
        ] {
            assert_eq!(guess(text.as_bytes()), Some(1_638_972_163_587), "{text}");
        }
        for text in [
            "2021-12-08",
            "2021-12-08T14:02",
            "2021-13-08T14:02:43Z",
            "2021-12-08T14:02:43.Z",
            "2021-12-08T14:02:43 CET",
        ] {
            assert_eq!(guess(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_time_without_a_zone_is_known_by_its_end() {
        for text in ["2021-12-08 14:02:43", " 2021-12-08T14:02:43.587 ", "2021-12-08t14:02:43,5"] {
            assert!(guess(text.as_bytes()).is_some() && lacks_zone(text.as_bytes()), "{text}");
        }
        for text in [
            "2021-12-08 14:02:43Z",
            "2021-12-08T14:02:43.587-05",
            "2021-12-08 14:02:43 +0000",
            "08/Dec/2021:14:02:43 +0000",
            "1638972163.587",
            "1638972163587192192",
        ] {
            assert!(guess(text.as_bytes()).is_some() && !lacks_zone(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn halves_of_a_millisecond_go_to_the_even_side() {
        assert_eq!(guess(b"2020-01-01T00:00:00.000500Z"), Some(1_577_836_800_000));
        assert_eq!(guess(b"2020-01-01T00:00:00.001500Z"), Some(1_577_836_800_002));
    }

    proptest! {
        #[test]
        fn dates_agree_with_a_calendar_library(ms in -62_135_500_000_000_i64..253_402_200_000_000) {
            let seconds = ms.div_euclid(1000);
            let time = jiff::Timestamp::from_second(seconds).unwrap();
            let clf_text = time.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string();
            prop_assert_eq!(Clock::new().read(clf_text.as_bytes()), Some(seconds * 1000));
            prop_assert_eq!(clf(clf_text.as_bytes()), Some(seconds * 1000));
            let text = jiff::Timestamp::from_millisecond(ms).unwrap().to_string();
            prop_assert_eq!(guess(text.as_bytes()), Some(ms));
        }

        #[test]
        fn no_bytes_make_it_panic(text in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = super::guess(&text);
            let _ = Clock::new().read(&text);
        }

        #[test]
        fn nothing_near_a_stamp_makes_it_panic(text in "[0-9 ]{1,2}/[JjFf][a-e]n?/[0-9]{3,5}:[0-9:]{5,9}[ +Z0-9:-]{0,8}") {
            let _ = super::guess(text.as_bytes());
            let _ = Clock::new().read(text.as_bytes());
        }
    }
}

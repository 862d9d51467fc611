//! Durations as people write them: `15m`, `1h30m`, `500ms`, `0`.

use std::fmt;
use std::ops::Range;

const UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// The longest limit that is accepted: a hundred years. Longer ones are typing mistakes, and the
/// engine's clock has to reach past the end of every recording.
pub(crate) const LONGEST_MS: u64 = 36_525 * 86_400_000;

/// What is wrong with a duration, and in which part of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DurationFault {
    pub(crate) message: String,
    pub(crate) at: Range<usize>,
}

/// Milliseconds of `text`; zero is off.
pub(crate) fn parse(text: &str) -> Result<u64, DurationFault> {
    let fault = |at: Range<usize>, message: String| Err(DurationFault { message, at });
    if text.is_empty() {
        return fault(0..0, "a duration is missing; write it like 15m, 8h or 1h30m, and 0 for off".into());
    }
    if text == "0" {
        return Ok(0);
    }
    let mut total: u64 = 0;
    let mut at = 0;
    while at < text.len() {
        let digits = at + span_of(&text[at..], |c| c.is_ascii_digit());
        let end = digits + span_of(&text[digits..], |c| !c.is_ascii_digit());
        let (number, unit) = (&text[at..digits], &text[digits..end]);
        if number.is_empty() {
            return fault(
                at..end,
                format!("\"{unit}\" is not a duration; write it like 15m, 8h or 1h30m, and 0 for off"),
            );
        }
        if unit.is_empty() {
            return fault(at..end, format!("{number} of what? Add a unit: {number}s, {number}m, {number}h, {number}d"));
        }
        let Some((_, size)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            let message = if unit.starts_with('.') {
                "a duration has whole numbers only; write 1.5h as 1h30m".into()
            } else {
                format!("\"{unit}\" is not a unit of time; the units are ms, s, m, h, d and w")
            };
            return fault(digits..end, message);
        };
        let sum = number.parse::<u64>().ok().and_then(|n| n.checked_mul(*size)).and_then(|ms| ms.checked_add(total));
        match sum.filter(|ms| *ms <= LONGEST_MS) {
            Some(ms) => total = ms,
            None => return fault(at..end, "the longest duration is 100 years; write 0 to switch a limit off".into()),
        }
        at = end;
    }
    Ok(total)
}

fn span_of(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// A limit as it would be typed, exact: `1h30m`; `0` for none.
pub(crate) struct Exact(pub(crate) u64);

impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0");
        }
        let mut rest = self.0;
        for (name, size) in UNITS {
            // Whole weeks read well, "1w1d" does not.
            if rest >= size && (name != "w" || rest.is_multiple_of(size)) {
                write!(f, "{}{name}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

/// A length of time to be read at a glance: its two largest units, as in `3d 4h`.
pub(crate) struct Rough(pub(crate) u128);

impl fmt::Display for Rough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const STEPS: [(&str, u128); 5] =
            [("y", 31_557_600_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
        let ms = self.0;
        let Some(first) = STEPS.iter().position(|(_, size)| ms >= *size) else {
            return if ms == 0 { f.write_str("0") } else { write!(f, "{ms}ms") };
        };
        let (name, size) = STEPS[first];
        write!(f, "{}{name}", thousands(ms / size))?;
        if let Some((name, smaller)) = STEPS.get(first + 1) {
            let rest = ms % size / smaller;
            if rest > 0 {
                write!(f, " {rest}{name}")?;
            }
        }
        Ok(())
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_unit_and_every_combination_is_understood() {
        for (text, ms) in [
            ("0", 0),
            ("0s", 0),
            ("250ms", 250),
            ("90s", 90_000),
            ("15m", 900_000),
            ("8h", 28_800_000),
            ("2d", 172_800_000),
            ("1w", 604_800_000),
            ("1h30m", 5_400_000),
            ("1m500ms", 60_500),
        ] {
            assert_eq!(parse(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn a_mistake_is_named_and_pointed_at() {
        for (text, at, word) in [
            ("", 0..0, "missing"),
            ("15", 0..2, "of what"),
            ("1h30", 2..4, "of what"),
            ("m", 0..1, "not a duration"),
            ("-5m", 0..1, "not a duration"),
            ("5min", 1..4, "units are"),
            ("1.5h", 1..2, "1h30m"),
            ("15 m", 2..4, "units are"),
            ("99999999999999999999d", 0..21, "100 years"),
            ("101w5218w", 4..9, "100 years"),
            ("5µs", 1..4, "units are"),
        ] {
            let fault = parse(text).unwrap_err();
            assert_eq!(fault.at, at, "{text}: {}", fault.message);
            assert!(fault.message.contains(word), "{text}: {}", fault.message);
        }
    }

    #[test]
    fn a_rough_length_has_two_units() {
        for (ms, text) in [
            (0, "0"),
            (999, "999ms"),
            (61_000, "1m 1s"),
            (3_600_000, "1h"),
            (90_061_000, "1d 1h"),
            (31_557_600_000 * 1234, "1,234y"),
        ] {
            assert_eq!(Rough(ms).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_as_itself(ms in 0..=LONGEST_MS) {
            prop_assert_eq!(parse(&Exact(ms).to_string()), Ok(ms));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,12}") {
            if let Err(fault) = parse(&text) {
                prop_assert!(text.get(fault.at).is_some());
            }
        }
    }
}

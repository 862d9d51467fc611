//! The quotes of csv, as one small automaton: where a record ends and what its fields hold follow from it.

use memchr::memchr;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Quote {
    /// At the start of a field, the only place where a quote opens.
    #[default]
    Start,
    /// In a field without quotes, or behind the closing quote of one with them.
    Plain,
    Inside,
    /// Behind a quote that was inside: it closes, unless another quote doubles it.
    Behind,
}

impl Quote {
    /// The state behind `bytes`, which hold no line break that ends a record.
    pub(crate) fn after(mut self, bytes: &[u8], delimiter: u8) -> Quote {
        let mut rest = bytes;
        while let [first, others @ ..] = rest {
            let skipped = match self {
                Quote::Start | Quote::Behind => {
                    self = self.step(*first, delimiter);
                    rest = others;
                    continue;
                }
                Quote::Plain => memchr(delimiter, rest),
                Quote::Inside => memchr(b'"', rest),
            };
            let Some(at) = skipped else { return self };
            self = self.step(rest[at], delimiter);
            rest = &rest[at + 1..];
        }
        self
    }

    fn step(self, byte: u8, delimiter: u8) -> Quote {
        match self {
            Quote::Inside if byte == b'"' => Quote::Behind,
            Quote::Inside => Quote::Inside,
            Quote::Start | Quote::Behind if byte == b'"' => Quote::Inside,
            _ if byte == delimiter => Quote::Start,
            _ => Quote::Plain,
        }
    }
}

/// Whether the quotes of a field that began on an earlier line close in this one, and neither the field nor the line
/// ends there. Nobody who writes quotes writes them so: the quote that opened was none.
pub(crate) fn is_torn(line: &[u8], delimiter: u8) -> bool {
    let mut rest = line;
    while let Some(at) = memchr(b'"', rest) {
        match without_returns(&rest[at + 1..]) {
            [b'"', ..] => rest = &rest[at + 2..],
            [] => return false,
            [byte, ..] => return *byte != delimiter,
        }
    }
    false
}

/// Writes the fields of a record one after the other to `text`, and where each ends to `ends`.
pub(crate) fn unquote(record: &[u8], delimiter: u8, text: &mut Vec<u8>, ends: &mut Vec<usize>) {
    text.clear();
    ends.clear();
    let body = without_returns(record);
    let mut state = Quote::Start;
    for &byte in body {
        let next = state.step(byte, delimiter);
        match (state, next) {
            (Quote::Start | Quote::Plain | Quote::Behind, Quote::Start) => ends.push(text.len()),
            (Quote::Start, Quote::Inside) | (Quote::Inside, Quote::Behind) => {}
            _ => text.push(byte),
        }
        state = next;
    }
    ends.push(text.len());
}

/// A line without the carriage returns at its end.
#[inline]
pub(crate) fn without_returns(mut line: &[u8]) -> &[u8] {
    while let [shorter @ .., b'\r'] = line {
        line = shorter;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(record: &str) -> Vec<String> {
        let (mut text, mut ends) = (Vec::new(), Vec::new());
        unquote(record.as_bytes(), b',', &mut text, &mut ends);
        let mut start = 0;
        let each =
            ends.iter().map(|&end| String::from_utf8(text[std::mem::replace(&mut start, end)..end].into()).unwrap());
        each.collect()
    }

    #[test]
    fn quotes_keep_delimiters_and_line_breaks_and_are_doubled_inside() {
        assert_eq!(fields("a,\"b,\"\"c\"\"\nd\",,e\r"), ["a", "b,\"c\"\nd", "", "e"]);
    }

    #[test]
    fn a_quote_in_the_middle_of_a_field_is_a_character() {
        assert_eq!(fields("a\"b,\"c\"d\"e,\"\""), ["a\"b", "cd\"e", ""]);
    }

    #[test]
    fn a_field_that_goes_over_lines_ends_at_a_delimiter_or_with_the_line() {
        for line in ["b\"", "b\"\r", "b\",c", "b", "\"", "b\"\"c", "b\"\"\",c\"d", ""] {
            assert!(!is_torn(line.as_bytes(), b','), "{line}");
        }
        for line in ["b\"c", "1,u,\"x\"", "b\"\"\"c", "b\" ,c", "b\"\rc"] {
            assert!(is_torn(line.as_bytes(), b','), "{line}");
        }
    }

    proptest! {
        #[test]
        fn fields_agree_with_the_csv_crate(record in r#"(("([ab,\n]|""){0,3}")?[ab"]{0,2},){0,4}("([ab,\n]|""){0,3}"|a)[ab"]{0,2}"#) {
            let mut state = Quote::Start;
            for (at, byte) in record.bytes().enumerate() {
                if byte == b'\n' && state != Quote::Inside {
                    prop_assume!(false, "{}", at);
                }
                state = state.step(byte, b',');
            }
            // One that its quotes do not end is never given as a record.
            prop_assume!(state != Quote::Inside);
            prop_assert_eq!(state, Quote::Start.after(record.as_bytes(), b','));
            let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(record.as_bytes());
            let expected: Vec<_> = reader.records().next().unwrap().unwrap().iter().map(String::from).collect();
            prop_assert_eq!(fields(&record), expected);
        }
    }
}

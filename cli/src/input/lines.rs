//! Lines and csv records out of big blocks, in bounded memory.

use super::quoting::{Quote, is_torn};
use memchr::memchr;
use std::io::{self, ErrorKind, Read};

/// How much is asked of the source at a time.
const BLOCK: usize = 256 << 10;
/// How much is looked at before anything is read.
const LOOK: usize = BLOCK / 2;
/// The longest line, and the longest csv record, that is looked at.
pub(crate) const LONGEST: usize = 1 << 20;

/// One line or record without its line break. `bytes` is `None` for what is too long to be read.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) struct Record<'a> {
    /// The number of its first line, from 1.
    pub(crate) number: u64,
    pub(crate) bytes: Option<&'a [u8]>,
}

pub(crate) struct Blocks<R> {
    pub(crate) source: R,
    block: Vec<u8>,
    start: usize,
    end: usize,
    finished: bool,
    longest: usize,
    /// Lines given so far.
    pub(crate) lines: u64,
    /// Where in the stream `start` is.
    offset: u64,
    /// Up to here in the stream quotes do not join lines, because a record that began before never ended.
    unjoined: u64,
}

impl<R: Read> Blocks<R> {
    /// Starts reading, and steps over a byte order mark.
    pub(crate) fn new(source: R) -> io::Result<Blocks<R>> {
        Blocks::sized(source, BLOCK, LONGEST)
    }

    pub(crate) fn sized(source: R, block: usize, longest: usize) -> io::Result<Blocks<R>> {
        let block = vec![0; block.max(4)];
        let (start, end, lines, offset, unjoined) = (0, 0, 0, 0, 0);
        let mut blocks = Blocks { source, block, start, end, finished: false, longest, lines, offset, unjoined };
        while blocks.end < 3 && !blocks.finished {
            blocks.fill()?;
        }
        if blocks.block[..blocks.end].starts_with(b"\xef\xbb\xbf") {
            blocks.start = 3;
        }
        Ok(blocks)
    }

    /// The whole lines at the beginning, for a look before anything is read: those of the first
    /// bytes, or else one that is longer. How much a read happens to give makes no difference.
    pub(crate) fn sample(&mut self) -> io::Result<&[u8]> {
        loop {
            let seen = &self.block[self.start..self.end];
            let (first, behind) = seen.split_at(seen.len().min(LOOK));
            if first.len() == LOOK || self.finished {
                let whole = match memchr::memrchr(b'\n', first) {
                    _ if first.len() < LOOK => Some(seen.len()),
                    Some(at) => Some(at + 1),
                    None => memchr(b'\n', behind).map(|at| LOOK + at + 1).filter(|end| *end <= self.longest),
                };
                let whole = match whole {
                    None if seen.len() > self.longest => Some(0),
                    None if self.finished => Some(seen.len()),
                    other => other,
                };
                if let Some(whole) = whole {
                    return Ok(&self.block[self.start..self.start + whole]);
                }
            }
            self.fill()?;
        }
    }

    /// Whether the line that comes next is longer than any sample.
    pub(crate) fn is_within_a_line(&self) -> bool {
        let held = &self.block[self.start..self.end];
        !held.is_empty() && !self.finished && memchr(b'\n', held).is_none()
    }

    /// Lines given so far, and those that could be given without reading on.
    pub(crate) fn lines_read(&self) -> u64 {
        let held = &self.block[self.start..self.end];
        self.lines + memchr::memchr_iter(b'\n', held).count() as u64
    }

    /// Reads once more, and makes room for it. What is there keeps its distance from `start`.
    #[cold]
    fn fill(&mut self) -> io::Result<()> {
        if self.start > 0 {
            self.block.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.block.len() {
            self.block.resize(self.block.len() * 2, 0);
        }
        let count = loop {
            match self.source.read(&mut self.block[self.end..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.end += count;
        self.finished = count == 0;
        Ok(())
    }

    /// The next line.
    #[inline]
    pub(crate) fn next_line(&mut self) -> io::Result<Option<Record<'_>>> {
        let mut searched = 0;
        loop {
            let held = &self.block[self.start..self.end];
            if let Some(at) = memchr(b'\n', &held[searched..]) {
                return Ok(Some(self.take(searched + at, 1, 1)));
            }
            searched = held.len();
            if searched > self.longest {
                return self.skip_line().map(Some);
            }
            if self.finished {
                return Ok(if searched > 0 { Some(self.take(searched, 0, 1)) } else { None });
            }
            self.fill()?;
        }
    }

    /// The next csv record: a line, and the lines that quotes join to it. Quotes that join lines and turn out to be
    /// none cost the first line, and the others are read again.
    #[inline]
    pub(crate) fn next_record(&mut self, delimiter: u8) -> io::Result<Option<Record<'_>>> {
        let (mut searched, mut done, mut lines) = (0, 0, 1);
        let mut first_line = None;
        let mut state = Quote::Start;
        loop {
            let held = &self.block[self.start..self.end];
            let line_end = memchr(b'\n', &held[searched..]).map(|at| searched + at);
            searched = held.len();
            let end = match line_end {
                Some(end) => end,
                None if searched > self.longest => {
                    return match first_line {
                        Some(first) => Ok(Some(self.give_up(first, self.longest))),
                        None => self.skip_line().map(Some),
                    };
                }
                None if !self.finished => {
                    self.fill()?;
                    continue;
                }
                None if searched == 0 => return Ok(None),
                None => searched,
            };
            if end > self.longest {
                return Ok(Some(match first_line {
                    Some(first) => self.give_up(first, self.longest),
                    None => self.take(end, usize::from(line_end.is_some()), 1),
                }));
            }
            let line = &held[done..end];
            if let Some(first) = first_line
                && is_torn(line, delimiter)
            {
                return Ok(Some(self.give_up(first, done)));
            }
            if state == Quote::Inside || memchr(b'"', line).is_some() {
                state = state.after(line, delimiter);
                if state == Quote::Inside && line_end.is_some() {
                    if self.offset < self.unjoined {
                        return Ok(Some(Record { bytes: None, ..self.take(end, 1, 1) }));
                    }
                    first_line.get_or_insert(end);
                    (done, searched) = (end + 1, end + 1);
                    lines += 1;
                    continue;
                }
                if state == Quote::Inside {
                    return Ok(Some(match first_line {
                        Some(first) => self.give_up(first, end),
                        None => Record { bytes: None, ..self.take(end, 0, 1) },
                    }));
                }
            }
            return Ok(Some(self.take(end, usize::from(line_end.is_some()), lines)));
        }
    }

    #[inline]
    fn take(&mut self, length: usize, line_break: usize, lines: u64) -> Record<'_> {
        let from = self.start;
        self.advance(length + line_break);
        let number = self.lines + 1;
        self.lines += lines;
        Record { number, bytes: (length <= self.longest).then(|| &self.block[from..from + length]) }
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        self.start += count;
        self.offset += count as u64;
    }

    /// The quotes of this record do not end as quotes do. Its first line is given as unreadable, and the ones after it
    /// stand alone as far as has been looked: else each might be looked through to there once more.
    #[cold]
    fn give_up(&mut self, first_line: usize, looked: usize) -> Record<'_> {
        self.unjoined = self.offset + looked as u64;
        Record { bytes: None, ..self.take(first_line, 1, 1) }
    }

    /// Drops what is held until a line break comes.
    #[cold]
    fn skip_line(&mut self) -> io::Result<Record<'_>> {
        loop {
            let held = &self.block[self.start..self.end];
            let line_break = memchr(b'\n', held);
            self.advance(line_break.map_or(held.len(), |at| at + 1));
            if line_break.is_some() || self.finished {
                self.lines += 1;
                return Ok(Record { number: self.lines, bytes: None });
            }
            self.fill()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Gives at most so many bytes at a time.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(into.len());
            into[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    type Owned = (u64, Option<Vec<u8>>);

    fn cut(text: &[u8], block: usize, drip: usize, longest: usize, quotes: bool) -> Vec<Owned> {
        let mut blocks = Blocks::sized(Drip(text, drip), block, longest).unwrap();
        let mut all = Vec::new();
        while let Some(record) = if quotes { blocks.next_record(b',') } else { blocks.next_line() }.unwrap() {
            all.push((record.number, record.bytes.map(Vec::from)));
        }
        let all_lines =
            text.iter().filter(|&&b| b == b'\n').count() + usize::from(text.last().is_some_and(|&b| b != b'\n'));
        let only_mark = text == b"\xef\xbb\xbf";
        assert_eq!(blocks.lines, if only_mark { 0 } else { all_lines as u64 });
        all
    }

    fn shown(text: &str, longest: usize, quotes: bool) -> Vec<(u64, Option<String>)> {
        let all = cut(text.as_bytes(), 4096, 4096, longest, quotes);
        all.into_iter().map(|(number, bytes)| (number, bytes.map(|b| String::from_utf8(b).unwrap()))).collect()
    }

    fn some(number: u64, text: &str) -> (u64, Option<String>) {
        (number, Some(text.into()))
    }

    #[test]
    fn the_last_line_needs_no_line_break() {
        assert_eq!(shown("a\n\nb", 9, false), [some(1, "a"), some(2, ""), some(3, "b")]);
        assert_eq!(shown("a\n", 9, false), [some(1, "a")]);
        assert_eq!(shown("", 9, false), []);
    }

    #[test]
    fn a_line_that_is_too_long_is_stepped_over() {
        assert_eq!(shown("1234\n12345\n1", 4, false), [some(1, "1234"), (2, None), some(3, "1")]);
        assert_eq!(shown("12345", 4, false), [(1, None)]);
        assert_eq!(shown("12345\n1\n", 4, true), [(1, None), some(2, "1")]);
    }

    #[test]
    fn a_byte_order_mark_is_stepped_over() {
        assert_eq!(shown("\u{feff}a\nb\n", 9, false), [some(1, "a"), some(2, "b")]);
    }

    #[test]
    fn what_is_looked_at_first_does_not_hang_on_how_much_a_read_gives() {
        let sample = |text: &[u8], drip, longest| {
            Blocks::sized(Drip(text, drip), 64, longest).unwrap().sample().unwrap().to_vec()
        };
        let long = [&vec![b'x'; LOOK + 5000][..], b"\nab\n"].concat();
        let short = b"ab\n".repeat(LOOK);
        for (text, longest, length) in [
            (&long[..], 1000, 0),
            (&long, 1 << 20, LOOK + 5001),
            (&long[..LOOK + 5000], 1000, 0),
            (&long[..LOOK + 5000], 1 << 20, LOOK + 5000),
            (&short, 1000, LOOK / 3 * 3),
            (b"ab\na", 1, 4),
            (b"ab\na", 1 << 20, 4),
            (b"", 1000, 0),
        ] {
            for drip in [1, 999, 1 << 20] {
                assert_eq!(sample(text, drip, longest).len(), length, "{} bytes, {drip} at a time", text.len());
            }
        }
    }

    #[test]
    fn quotes_join_lines() {
        assert_eq!(shown("a,\"b\nc\",d\ne\n", 99, true), [some(1, "a,\"b\nc\",d"), some(3, "e")]);
        assert_eq!(shown("a\"b\nc\"\n", 99, true), [some(1, "a\"b"), some(2, "c\"")]);
    }

    #[test]
    fn a_quote_that_never_closes_costs_one_line_when_much_follows() {
        let text = "a,\"b\nc,d\ne,f\ng,h\n\"x\ny\"\n";
        let lines = shown(text, 12, true);
        assert_eq!(lines[..4], [(1, None), some(2, "c,d"), some(3, "e,f"), some(4, "g,h")]);
        assert_eq!(lines[4..], [some(5, "\"x\ny\"")]);
    }

    #[test]
    fn a_quote_that_is_open_when_the_file_ends_costs_one_line() {
        for last in ["e,f", "e,f\n"] {
            let lines = shown(&format!("a,\"b\nc,d\n{last}"), 99, true);
            assert_eq!(lines, [(1, None), some(2, "c,d"), some(3, "e,f")]);
        }
        assert_eq!(shown("a,\"b", 99, true), [(1, None)]);
        assert_eq!(shown("a,\"b\n", 99, true), [(1, None)]);
    }

    #[test]
    fn a_quote_that_the_next_one_does_not_close_costs_one_line() {
        let lines = shown("a,\"b\nc,\"\",d\ne,\"f\ng,\"h\ni\",j\nk,l\n", 99, true);
        assert_eq!(lines, [(1, None), some(2, "c,\"\",d"), (3, None), some(4, "g,\"h\ni\",j"), some(6, "k,l")]);
        let lines = shown("a,\"b\r\nc,\"\"d\"\"\r\ne\"\r\nf\r\n", 99, true);
        assert_eq!(lines, [some(1, "a,\"b\r\nc,\"\"d\"\"\r\ne\"\r"), some(4, "f\r")]);
    }

    #[test]
    fn quotes_that_never_close_take_no_longer_than_others() {
        let many = "x\",\"\n";
        for (text, lines) in [
            (many.repeat(1 << 19), 1 << 19),
            ((many.repeat(1 << 15) + "x\"x\n").repeat(8), (1 << 18) + 8),
            (many.repeat(1 << 15), 1 << 15),
        ] {
            let mut blocks = Blocks::new(text.as_bytes()).unwrap();
            while blocks.next_record(b',').unwrap().is_some() {}
            assert_eq!(blocks.lines, lines);
        }
    }

    #[test]
    fn memory_stays_bounded_whatever_the_line() {
        let text = vec![b'x'; 300_000];
        let mut blocks = Blocks::sized(&text[..], 64, 1000).unwrap();
        assert_eq!(blocks.next_line().unwrap(), Some(Record { number: 1, bytes: None }));
        assert!(blocks.block.len() <= 4096, "{}", blocks.block.len());
    }

    #[test]
    fn an_error_of_the_source_is_passed_on() {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("gone"))
            }
        }
        let mut blocks = Blocks::sized((&b"whole line\nhalf a li"[..]).chain(Failing), 8, 100).unwrap();
        assert!(blocks.next_line().unwrap().is_some());
        assert_eq!(blocks.next_line().unwrap_err().to_string(), "gone");
    }

    proptest! {
        #[test]
        fn blocks_cut_at_any_place_give_the_same_lines(
            text in prop::collection::vec(prop::sample::select(&b"ab,\"\"\n\n\r\xef\xbb\xbf\0"[..]), 0..200),
            block in 1_usize..40, drip in 1_usize..9, longest in 1_usize..30, quotes: bool,
        ) {
            prop_assert_eq!(cut(&text, block, drip, longest, quotes), cut(&text, 4096, 4096, longest, quotes));
        }

        #[test]
        fn records_agree_with_the_csv_crate(text in "([ab,\n]|\"[ab,\n]{0,4}\"[,\n]|\"){0,20}") {
            let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
            let expected = reader.byte_records().count();
            let ours = cut(text.as_bytes(), 16, 7, 1000, true);
            // Which lets a field go on behind its quotes, and the last one without their end.
            prop_assume!(ours.iter().all(|(_, bytes)| bytes.is_some()));
            prop_assert_eq!(ours.iter().filter(|(_, bytes)| bytes.as_deref() != Some(b"")).count(), expected);
        }
    }
}

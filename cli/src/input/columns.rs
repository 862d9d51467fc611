//! csv and tsv: a header line, or names given by the caller, then one record a line.
//!
//! csv knows quotes, which may hold line breaks; tsv does not.

use super::address::without_port;
use super::error::{InputError, Names};
use super::quoting::{unquote, without_returns};
use super::{LineParser, What, is_nobody, names, time};
use memchr::{memchr, memchr_iter};

pub(crate) struct Columns {
    pub(crate) delimiter: u8,
    /// The names of the fields that are read, for the files that have a header of their own.
    pub(crate) fields: Fields<String>,
    /// Where they are.
    places: Fields<usize>,
    /// The key is an address, which may have a port behind it.
    is_address: bool,
    text: Vec<u8>,
    ends: Vec<usize>,
    joined: Vec<u8>,
    /// Whether any time had no zone.
    pub(crate) zoneless: bool,
}

/// The fields a record is read for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fields<T> {
    pub(crate) time: T,
    pub(crate) key: T,
    /// Joined to the key.
    pub(crate) agent: Option<T>,
}

impl Columns {
    pub(crate) fn new(delimiter: u8, fields: Fields<String>) -> Columns {
        let places = Fields { time: 0, key: 0, agent: None };
        let is_address = names::is_address(&fields.key);
        let (text, ends, joined) = (Vec::new(), Vec::new(), Vec::new());
        Columns { delimiter, fields, places, is_address, text, ends, joined, zoneless: false }
    }

    /// Whether quotes mean anything.
    pub(crate) fn quotes(&self) -> bool {
        self.delimiter == b','
    }

    /// Finds the fields in a header.
    pub(crate) fn place(&mut self, file: &str, header: &[String]) -> Result<(), InputError> {
        let find = |name: &String, role| {
            find(header, name).ok_or_else(|| InputError::UnknownField {
                file: file.into(),
                noun: "column",
                role,
                name: name.clone(),
                names: Names(header.to_vec()),
            })
        };
        self.places = Fields {
            time: find(&self.fields.time, "time (--time)")?,
            key: find(&self.fields.key, "key (--key)")?,
            agent: self.fields.agent.as_ref().map(|name| find(name, "user agent (--key)")).transpose()?,
        };
        Ok(())
    }

    #[inline]
    pub(crate) fn record<'a>(&'a mut self, record: &'a [u8]) -> What<'a> {
        let Fields { time, key, agent } = self.places;
        let last = time.max(key);
        let mut fields = [None; 3];
        if self.quotes() && memchr(b'"', record).is_some() {
            unquote(record, self.delimiter, &mut self.text, &mut self.ends);
            let field = |at: usize| {
                let end = *self.ends.get(at)?;
                Some(&self.text[if at > 0 { self.ends[at - 1] } else { 0 }..end])
            };
            fields = [field(time), field(key), agent.and_then(field)];
        } else {
            let body = without_returns(record);
            let furthest = last.max(agent.unwrap_or(0));
            let ends = memchr_iter(self.delimiter, body).chain([body.len()]);
            let mut start = 0;
            for (at, end) in ends.enumerate().take(furthest + 1) {
                for (field, place) in fields.iter_mut().zip([Some(time), Some(key), agent]) {
                    if place == Some(at) {
                        *field = Some(&body[start..end]);
                    }
                }
                start = end + 1;
            }
        }
        let [Some(time), Some(key), agent_text] = fields else { return What::Unparsed };
        let Some(time_ms) = time::guess(time) else { return What::Unparsed };
        self.zoneless |= time::lacks_zone(time);
        let key = if self.is_address { without_port(key) } else { key };
        match agent {
            _ if is_nobody(key) => What::NoKey,
            None => What::Event { time_ms, key },
            Some(_) => {
                super::join(&mut self.joined, key, agent_text.unwrap_or(b"-"));
                What::Event { time_ms, key: &self.joined }
            }
        }
    }
}

impl LineParser for Columns {
    #[inline]
    fn line<'a>(&'a mut self, line: &'a [u8]) -> What<'a> {
        self.record(line)
    }
}

/// The fields of a record as text.
pub(crate) fn split(record: &[u8], delimiter: u8) -> Vec<String> {
    if delimiter != b',' {
        let body = without_returns(record);
        return body.split(|&byte| byte == delimiter).map(|name| String::from_utf8_lossy(name).into()).collect();
    }
    let (mut text, mut ends) = (Vec::new(), Vec::new());
    unquote(record, delimiter, &mut text, &mut ends);
    let starts = [0].into_iter().chain(ends.iter().copied());
    starts.zip(&ends).map(|(start, &end)| String::from_utf8_lossy(&text[start..end]).into()).collect()
}

/// Where a name stands in a header: as written, or else but for case and spaces around it.
pub(crate) fn find(header: &[String], name: &str) -> Option<usize> {
    let like = |known: &String| known.trim().eq_ignore_ascii_case(name.trim());
    header.iter().position(|known| known == name).or_else(|| header.iter().position(like))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn columns(delimiter: u8, header: &str, agent: Option<&str>) -> Columns {
        let fields = Fields { time: "t".into(), key: "k".into(), agent: agent.map(String::from) };
        let mut columns = Columns::new(delimiter, fields);
        columns.place("test", &split(header.as_bytes(), delimiter)).unwrap();
        columns
    }

    fn read(delimiter: u8, header: &str, record: &str) -> Option<(i64, String)> {
        match columns(delimiter, header, None).record(record.as_bytes()) {
            What::Event { time_ms, key } => Some((time_ms, String::from_utf8(key.into()).unwrap())),
            What::NoKey => Some((0, String::new())),
            What::Unparsed => None,
        }
    }

    fn event(time_ms: i64, key: &str) -> Option<(i64, String)> {
        Some((time_ms, key.into()))
    }

    #[test]
    fn columns_are_found_by_name() {
        assert_eq!(read(b',', "k,x,t", "ann,y,1\r"), event(1000, "ann"));
        assert_eq!(read(b',', "k, T ,t2", "ann,5,1"), event(5000, "ann"));
        assert_eq!(read(b'\t', "t\tk", "1\tann b\r"), event(1000, "ann b"));
    }

    #[test]
    fn quotes_count_in_csv_and_not_in_tsv() {
        assert_eq!(read(b',', "t,k", "\"1\",\"a,\"\"b\"\"\nc\""), event(1000, "a,\"b\"\nc"));
        assert_eq!(read(b'\t', "t\tk", "1\t\"a\""), event(1000, "\"a\""));
    }

    #[test]
    fn a_record_that_is_too_short_is_unparsed_and_an_empty_key_is_none() {
        assert_eq!(read(b',', "t,k,x", "1"), None);
        assert_eq!(read(b',', "t,k,x", "1,a"), event(1000, "a"));
        assert_eq!(read(b',', "t,k,x", "1,a,b,c"), event(1000, "a"));
        assert_eq!(read(b',', "t,k,x", "1,"), event(0, ""));
        assert_eq!(read(b',', "t,k,x", "1,\"\""), event(0, ""));
        assert_eq!(read(b',', "t,k,x", "1,-"), event(0, ""));
        assert_eq!(read(b',', "t,k,x", ",a"), None);
        assert_eq!(read(b',', "t,k,x", "soon,-"), None);
    }

    #[test]
    fn the_user_agent_is_joined_and_may_be_missing() {
        let mut columns = columns(b',', "t,k,ua", Some("ua"));
        assert!(matches!(columns.record(b"1,h,curl"), What::Event { key: b"h\tcurl", .. }));
        assert!(matches!(columns.record(b"1,\"h\",\"curl\""), What::Event { key: b"h\tcurl", .. }));
        assert!(matches!(columns.record(b"1,h"), What::Event { key: b"h\t-", .. }));
    }

    #[test]
    fn a_column_that_is_not_there_is_named_with_those_that_are() {
        let fields = Fields { time: "t".into(), key: "who".into(), agent: None };
        let error = Columns::new(b',', fields).place("x.csv", &["t".into(), "k".into()]).unwrap_err();
        assert_eq!(error.to_string(), "x.csv has no column `who`, which should hold the key (--key); there are: t, k");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(record in prop::collection::vec(any::<u8>(), 0..60), tab: bool) {
            let delimiter = if tab { b'\t' } else { b',' };
            let header = if tab { "t\tx\tk" } else { "t,x,k" };
            let _ = columns(delimiter, header, Some("x")).record(&record);
            let _ = split(&record, delimiter);
        }

        #[test]
        fn quoted_and_unquoted_records_read_alike(time in 0..9_i64, key in "[a-c]{1,3}", rest in "[a-c,]{0,5}") {
            let plain = read(b',', "t,k", &format!("{time},{key},{rest}"));
            prop_assert_eq!(&plain, &read(b',', "t,k", &format!("\"{time}\",\"{key}\",{rest}")));
            prop_assert_eq!(plain, event(time * 1000, &key));
        }
    }
}

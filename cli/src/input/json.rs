//! One JSON object a line. Only the fields that are asked for are kept; the rest is checked and forgotten.

use super::address::without_port;
use super::seek::{Search, Text, Value};
use super::{LineParser, What, is_nobody, names, time};
use std::ops::Range;
use std::str;

/// Where to look, in order, for each of the things a line is read for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Paths {
    pub(crate) time: Vec<String>,
    pub(crate) key: Vec<String>,
    /// Joined to the key.
    pub(crate) agent: Vec<String>,
}

pub(crate) struct Json {
    search: Search,
    time: Range<usize>,
    key: Range<usize>,
    agent: Range<usize>,
    /// For each path, whether a port is to be taken off.
    is_address: Vec<bool>,
    clean: Vec<u8>,
    joined: Vec<u8>,
    /// Whether any line had the key's field, were it empty.
    pub(crate) key_seen: bool,
    /// Whether any time had no zone.
    pub(crate) zoneless: bool,
}

impl Json {
    pub(crate) fn new(paths: &Paths) -> Json {
        let mut all: Vec<Box<str>> = Vec::new();
        let mut add = |list: &[String]| {
            let from = all.len();
            all.extend(list.iter().map(|path| path.as_str().into()));
            from..all.len()
        };
        let (time, key, agent) = (add(&paths.time), add(&paths.key), add(&paths.agent));
        let is_address = all.iter().map(|path| names::is_address(path)).collect();
        let search = Search::new(all);
        let (clean, joined) = (Vec::new(), Vec::new());
        Json { search, time, key, agent, is_address, clean, joined, key_seen: false, zoneless: false }
    }

    fn parse(&mut self, line: &[u8]) -> bool {
        if self.search.line(Text { clean: line, exact: line }) {
            return true;
        }
        if str::from_utf8(line).is_ok() {
            return false;
        }
        // Strings with bytes that are not UTF-8 are common in logs, though not in JSON. Something else stands
        // in for each of them while the line is taken apart.
        self.clean.clear();
        for chunk in line.utf8_chunks() {
            self.clean.extend_from_slice(chunk.valid().as_bytes());
            self.clean.extend(chunk.invalid().iter().map(|_| STAND_IN));
        }
        self.search.line(Text { clean: &self.clean, exact: line })
    }

    /// Appends the first of the fields that holds anything to `joined`.
    fn append(&mut self, slots: Range<usize>) -> bool {
        let held = |slot: usize| self.search.held(slot).map(|text| (slot, text));
        let Some((slot, text)) = slots.into_iter().find_map(held) else { return false };
        self.joined.extend_from_slice(if self.is_address[slot] { without_port(text) } else { text });
        true
    }
}

impl LineParser for Json {
    fn line<'a>(&'a mut self, line: &'a [u8]) -> What<'a> {
        if !self.parse(line) {
            return What::Unparsed;
        }
        self.key_seen |= self.search.values[self.key.clone()].iter().any(|value| *value != Value::Missing);
        let read = |text| time::guess(text).map(|time_ms| (time_ms, time::lacks_zone(text)));
        let time = self.time.clone().find_map(|slot| self.search.held(slot).and_then(read));
        let Some((time_ms, zoneless)) = time else { return What::Unparsed };
        self.zoneless |= zoneless;
        self.joined.clear();
        if !self.append(self.key.clone()) || is_nobody(&self.joined) {
            return What::NoKey;
        }
        if !self.agent.is_empty() {
            self.joined.push(super::JOINT);
            if !self.append(self.agent.clone()) {
                self.joined.push(b'-');
            }
        }
        What::Event { time_ms, key: &self.joined }
    }
}

/// May stand in a string of JSON, and in few names of fields.
const STAND_IN: u8 = 0x7f;
#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn json(time: &str, key: &[&str]) -> Json {
        let key = key.iter().map(|path| path.to_string()).collect();
        Json::new(&Paths { time: vec![time.into()], key, agent: Vec::new() })
    }

    fn read(time: &str, key: &[&str], line: &str) -> Option<(i64, String)> {
        match json(time, key).line(line.as_bytes()) {
            What::Event { time_ms, key } => Some((time_ms, String::from_utf8(key.into()).unwrap())),
            What::NoKey => Some((0, String::new())),
            What::Unparsed => None,
        }
    }

    fn key(path: &str, line: &str) -> Option<String> {
        read("ts", &[path], line).map(|(_, key)| key)
    }

    #[test]
    fn a_dotted_path_leads_into_objects_and_arrays() {
        let line = r#"{"ts":1693840791.7564995,"request":{"remote_ip":"10.0.0.1","headers":{"Cookie":["a=1","b=2"],"No":[]}}}"#;
        assert_eq!(read("ts", &["request.remote_ip"], line), Some((1_693_840_791_756, "10.0.0.1".into())));
        assert_eq!(key("request.headers.Cookie", line).unwrap(), "a=1");
        for nothing in ["request.headers.No", "request.headers", "request", "request.remote_ip.x", "other", ""] {
            assert_eq!(key(nothing, line).unwrap(), "", "{nothing}");
        }
    }

    #[test]
    fn a_name_with_dots_may_be_one_field() {
        assert_eq!(key("a.b", r#"{"a.b":"x","ts":1}"#).unwrap(), "x");
        assert_eq!(key("a.b", r#"{"a":{"b":"x"},"ts":1}"#).unwrap(), "x");
        let path = "kubernetes.labels.app.kubernetes.io/name";
        for line in [
            r#"{"kubernetes":{"labels":{"app.kubernetes.io/name":"x"}},"ts":1}"#,
            r#"{"kubernetes.labels":{"app":{"kubernetes.io/name":"x"}},"ts":1}"#,
            r#"{"kubernetes.labels.app.kubernetes":[{"io/name":["x","y"]},{"io/name":"z"}],"ts":1}"#,
        ] {
            assert_eq!(key(path, line).unwrap(), "x", "{line}");
        }
        for line in [r#"{"kubernetes":"labels","ts":1}"#, r#"{"kubernetes.labels.":{"app":"x"},"ts":1}"#] {
            assert_eq!(key(path, line).unwrap(), "", "{line}");
        }
        assert_eq!(key(&"a.".repeat(1000), r#"{"a":{"a":{"a.a":{"a":1}}},"ts":1}"#).unwrap(), "");
    }

    #[test]
    fn a_field_and_one_within_it_may_both_be_asked_for() {
        let line = r#"{"ts":[{"ts":1},{"ts":2}]}"#;
        assert_eq!(read("ts.ts", &["ts", "ts.ts"], line), Some((1000, "1".into())));
        assert_eq!(read("ts.ts", &["ts"], line), Some((0, String::new())));
    }

    #[test]
    fn the_first_field_that_holds_anything_is_the_key() {
        assert_eq!(read("ts", &["a", "b"], r#"{"b":"x","a":"","ts":1}"#), Some((1000, "x".into())));
        assert_eq!(read("ts", &["a", "b"], r#"{"b":"x","a":"y","ts":1}"#), Some((1000, "y".into())));
    }

    #[test]
    fn one_field_may_be_time_and_key() {
        assert_eq!(key("ts", r#"{"ts":12}"#).unwrap(), "12");
    }

    #[test]
    fn numbers_and_truth_values_may_be_keys() {
        assert_eq!(key("k", r#"{"ts":1,"k":42}"#).unwrap(), "42");
        assert_eq!(key("k", r#"{"ts":1,"k":-42}"#).unwrap(), "-42");
        assert_eq!(key("k", r#"{"ts":1,"k":1.5}"#).unwrap(), "1.5");
        assert_eq!(key("k", r#"{"ts":1,"k":true}"#).unwrap(), "true");
    }

    #[test]
    fn a_number_is_the_key_that_is_written() {
        for number in ["18446744073709551616", "18446744073709551617", "1.50", "-0", "1E+5", "12345678901234567.5"] {
            assert_eq!(key("k", &format!(r#"{{"ts":1,"k": {number} }}"#)).unwrap(), number);
        }
    }

    #[test]
    fn an_empty_key_is_none() {
        for value in [r#""""#, r#""-""#, "null", "[]", "{}", "[null]", r#"[[""]]"#] {
            assert_eq!(key("k", &format!(r#"{{"ts":1,"k":{value}}}"#)).unwrap(), "", "{value}");
        }
    }

    #[test]
    fn a_line_that_is_no_object_or_has_no_time_is_unparsed() {
        for line in [
            "",
            "{",
            "[1]",
            "42",
            r#"{"k":"x"}"#,
            r#"{"k":"x","ts":null}"#,
            r#"{"k":"x","ts":"soon"}"#,
            r#"{"k":"x","ts":1e400}"#,
            r#"{"k":"x","ts":184467440737095516150}"#,
            r#"{"k":"x","ts":1"#,
            r#"{"k":"x","ts":1} {}"#,
            r#"{"k":"x","ts":1,"u":"\x22"}"#,
            r#"caddy | {"k":"x","ts":1}"#,
        ] {
            assert_eq!(key("k", line), None, "{line}");
        }
    }

    #[test]
    fn times_may_be_text_of_any_known_kind() {
        for time in
            [r#""12/May/2024:00:00:17 +0000""#, r#""2024-05-12T00:00:17Z""#, r#""1715472017.000""#, "1715472017000"]
        {
            let line = format!(r#"{{"k":"x","ts":{time}}}"#);
            assert_eq!(read("ts", &["k"], &line), Some((1_715_472_017_000, "x".into())), "{time}");
        }
    }

    #[test]
    fn escapes_are_undone_and_bytes_that_are_not_utf_8_do_no_harm() {
        assert_eq!(key("k", r#"{"ts":1,"\u006b":"\u00e9\n"}"#).unwrap(), "é\n");
        assert_eq!(key("k", r#"{"ts":1,"k":"\ud83d\ude00"}"#).unwrap(), "\u{1f600}");
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_kept_as_they_are() {
        let keys = [&b"Andr\xe9"[..], b"Andr\xe8", "Andr\u{fffd}".as_bytes(), b"\xff\x7f", b"\xc3", b"\"\xe9\n"];
        for key in keys {
            let escaped = key.iter().flat_map(|byte| match byte {
                b'"' => b"\\\"".to_vec(),
                b'\n' => b"\\n".to_vec(),
                other => vec![*other],
            });
            let head = b"{\"ts\":1,\"\xfe\":\"\xfd\",\"o\":{\"\xc3\xa9\":[\"".to_vec();
            let line = [head, escaped.collect(), b"\"],\"u\":\"\xfc\"}}".to_vec()].concat();
            assert!(matches!(json("ts", &["o.\u{e9}"]).line(&line), What::Event { key: kept, .. } if kept == key));
        }
        assert!(matches!(json("ts", &["k"]).line(b"{\"ts\":1,\xff:\"\",\"k\":\"x\"}"), What::Unparsed));
        // Half of a pair of surrogates is no character, and yet not the other half.
        let key = |half: &str| match json("ts", &["k"]).line(format!(r#"{{"ts":1,"k":"\ud83{half}"}}"#).as_bytes()) {
            What::Event { key, .. } => key.to_vec(),
            other => panic!("{other:?}"),
        };
        assert_ne!(key("d"), key("c"));
    }

    #[test]
    fn the_user_agent_is_joined_to_the_address() {
        let paths = Paths { time: vec!["ts".into()], key: vec!["ip".into()], agent: vec!["ua".into()] };
        let mut json = Json::new(&paths);
        assert!(matches!(json.line(br#"{"ts":1,"ua":"curl","ip":"h"}"#), What::Event { key: b"h\tcurl", .. }));
        assert!(matches!(json.line(br#"{"ts":1,"ip":"h"}"#), What::Event { key: b"h\t-", .. }));
        assert!(matches!(json.line(br#"{"ts":1,"ua":"curl"}"#), What::NoKey));
    }

    #[test]
    fn nesting_without_end_is_unparsed() {
        for inside in ["[", r#"{"k":"#] {
            let line = format!(r#"{{"ts":1,"k":{}"#, inside.repeat(100_000));
            assert_eq!(key("k", &line), None);
        }
        let lists = |depth| format!(r#"{{"ts":1,"k":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert_eq!(key("k", &lists(100)).unwrap(), "1");
        assert_eq!(key("k", &lists(400_000)), None);
        assert_eq!(key("k.k", &lists(400_000)), None);
        assert_eq!(key("ts", &lists(400_000)).unwrap(), "1");
        assert_eq!(key("k", &format!(r#"{{"ts":1{}}}"#, r#","k":[["x"]]"#.repeat(1000))).unwrap(), "x");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(line in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = json("a", &["b.c"]).line(&line);
        }

        #[test]
        fn nothing_like_json_makes_it_panic(line in r#"\{("(a|b|b.c|c)":|\{|\}|\[|\]|,|"x"|1|-|1e5|null|\\u12|[\x80-\xff]){0,20}\}?"#) {
            let _ = json("a", &["b.c"]).line(line.as_bytes());
        }
    }
}

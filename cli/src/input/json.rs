//! One JSON object a line. Only the fields that are asked for are kept; the rest is checked and forgotten.

use super::address::without_port;
use super::{LineParser, What, is_nobody, names, time};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::io::Write;
use std::ops::Range;
use std::{fmt, str};

/// Where to look, in order, for each of the things a line is read for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Paths {
    pub(crate) time: Vec<String>,
    pub(crate) key: Vec<String>,
    /// Joined to the key.
    pub(crate) agent: Vec<String>,
}

pub(crate) struct Json {
    tree: Node,
    time: Range<usize>,
    key: Range<usize>,
    agent: Range<usize>,
    /// For each slot, whether a port is to be taken off.
    with_port: Vec<bool>,
    found: Found,
    joined: Vec<u8>,
    /// Whether any line had the key's field, were it empty.
    pub(crate) key_seen: bool,
    /// Whether any time had no zone.
    pub(crate) zoneless: bool,
}

impl Json {
    pub(crate) fn new(paths: &Paths) -> Json {
        let mut tree = Node::default();
        let mut with_port = Vec::new();
        let mut plant = |list: &[String]| {
            let from = with_port.len();
            for path in list {
                // A dotted name may be one field's name, or lead into an object.
                tree.plant([path.as_str()].into_iter(), with_port.len());
                tree.plant(path.split('.'), with_port.len());
                with_port.push(names::is_address(path));
            }
            from..with_port.len()
        };
        let (time, key, agent) = (plant(&paths.time), plant(&paths.key), plant(&paths.agent));
        let found = Found { values: vec![Value::Missing; with_port.len()], text: Vec::new() };
        let joined = Vec::new();
        Json { tree, time, key, agent, with_port, found, joined, key_seen: false, zoneless: false }
    }

    fn parse(&mut self, line: &[u8]) -> bool {
        self.found.values.fill(Value::Missing);
        self.found.text.clear();
        let mut json = serde_json::Deserializer::from_slice(line);
        json.deserialize_map(Seek { node: &self.tree, found: &mut self.found }).is_ok() && json.end().is_ok()
    }

    /// Appends the first of the fields that holds anything to `joined`.
    fn append(&mut self, slots: Range<usize>) -> bool {
        for slot in slots {
            let kept = match &self.found.values[slot] {
                Value::Missing | Value::Empty => continue,
                Value::Text(at) => {
                    let text = &self.found.text[at.clone()];
                    self.joined.extend_from_slice(if self.with_port[slot] { without_port(text) } else { text });
                    Ok(())
                }
                Value::Int(value) => write!(self.joined, "{value}"),
                Value::Big(value) => write!(self.joined, "{value}"),
                Value::Float(value) => write!(self.joined, "{value}"),
            };
            return kept.is_ok();
        }
        false
    }
}

impl LineParser for Json {
    fn line<'a>(&'a mut self, line: &'a [u8]) -> What<'a> {
        // Strings with bytes that are not UTF-8 are common in logs, though not in JSON.
        if !self.parse(line) && (str::from_utf8(line).is_ok() || !self.parse(String::from_utf8_lossy(line).as_bytes()))
        {
            return What::Unparsed;
        }
        self.key_seen |= self.found.values[self.key.clone()].iter().any(|value| *value != Value::Missing);
        let time = self.found.values[self.time.clone()].iter().find_map(|value| match *value {
            Value::Missing | Value::Empty => None,
            Value::Text(Range { start, end }) => {
                let text = &self.found.text[start..end];
                time::guess(text).inspect(|_| self.zoneless |= time::lacks_zone(text))
            }
            Value::Int(value) => time::integer(value),
            Value::Big(value) => i64::try_from(value).map_or_else(|_| time::float(value as f64), time::integer),
            Value::Float(value) => time::float(value),
        });
        let Some(time_ms) = time else { return What::Unparsed };
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

/// The names that lead to the wanted fields, as a tree.
#[derive(Default)]
struct Node {
    /// What the value is kept for. One field may be asked for twice, say as time and as key.
    slots: Vec<usize>,
    children: Vec<(Box<str>, Node)>,
}

impl Node {
    fn plant<'p>(&mut self, mut path: impl Iterator<Item = &'p str>, slot: usize) {
        let Some(name) = path.next() else {
            self.slots.push(slot);
            return;
        };
        let at = self.children.iter().position(|(known, _)| **known == *name).unwrap_or_else(|| {
            self.children.push((name.into(), Node::default()));
            self.children.len() - 1
        });
        self.children[at].1.plant(path, slot);
    }
}

#[derive(Clone, PartialEq, Debug)]
enum Value {
    Missing,
    /// There, but nothing that could be a key or a time.
    Empty,
    Text(Range<usize>),
    Int(i64),
    Big(u64),
    Float(f64),
}

struct Found {
    values: Vec<Value>,
    text: Vec<u8>,
}

/// Walks one value, keeps what its node asks for.
struct Seek<'n, 'f> {
    node: &'n Node,
    found: &'f mut Found,
}

impl Seek<'_, '_> {
    fn keep(&mut self, value: Value) {
        for &slot in &self.node.slots {
            self.found.values[slot] = value.clone();
        }
    }

    fn keep_text(&mut self, text: &[u8]) {
        if !self.node.slots.is_empty() {
            let from = self.found.text.len();
            self.found.text.extend_from_slice(text);
            self.keep(if text.is_empty() { Value::Empty } else { Value::Text(from..self.found.text.len()) });
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seek<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.keep(Value::Empty);
        while let Some(child) = map.next_key_seed(Name(self.node))? {
            match child {
                Some(node) => map.next_value_seed(Seek { node, found: self.found })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    /// Headers are arrays in some logs; the first element speaks for all.
    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        self.keep(Value::Empty);
        elements.next_element_seed(Seek { node: self.node, found: self.found })?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(mut self, text: &str) -> Result<(), E> {
        self.keep_text(text.as_bytes());
        Ok(())
    }

    fn visit_bool<E>(mut self, value: bool) -> Result<(), E> {
        self.keep_text(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn visit_unit<E>(mut self) -> Result<(), E> {
        self.keep(Value::Empty);
        Ok(())
    }

    fn visit_i64<E>(mut self, value: i64) -> Result<(), E> {
        self.keep(Value::Int(value));
        Ok(())
    }

    fn visit_u64<E>(mut self, value: u64) -> Result<(), E> {
        self.keep(Value::Big(value));
        Ok(())
    }

    fn visit_f64<E>(mut self, value: f64) -> Result<(), E> {
        self.keep(Value::Float(value));
        Ok(())
    }
}

/// Reads an object's key and looks it up.
struct Name<'n>(&'n Node);

impl<'de, 'n> DeserializeSeed<'de> for Name<'n> {
    type Value = Option<&'n Node>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'n> Visitor<'_> for Name<'n> {
    type Value = Option<&'n Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.children.iter().find(|(known, _)| **known == *name).map(|(_, node)| node))
    }
}

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
        let line = b"{\"ts\":1,\"k\":\"a\xff\",\"\xfe\":\"\xfd\"}";
        assert!(matches!(json("ts", &["k"]).line(line), What::Event { key, .. } if key == "a\u{fffd}".as_bytes()));
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

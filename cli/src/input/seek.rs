//! The values at some paths within a line of JSON. A dot may stand in a name or between two, so that a name may go
//! on from any dot to any other; and a list is what its first element is, since headers are lists in some logs.

use memchr::memchr;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::ops::Range;

/// Lists and objects that are looked into may lie so deep in each other, as serde_json has it too.
const DEEPEST: usize = 128;

/// A line to take apart, and one of the same length with its true bytes.
#[derive(Clone, Copy)]
pub(crate) struct Text<'l> {
    pub(crate) clean: &'l [u8],
    pub(crate) exact: &'l [u8],
}

impl<'l> Text<'l> {
    /// The true bytes of what is a part of the clean line.
    fn exact(self, part: &str) -> &'l [u8] {
        let from = part.as_ptr().addr() - self.clean.as_ptr().addr();
        &self.exact[from..from + part.len()]
    }
}

/// How far a path has been followed.
#[derive(Clone, Copy)]
struct Step {
    path: usize,
    /// From where on its names are still to be found within the value; or it is the value itself that is wanted.
    rest: Option<usize>,
}

#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Value {
    Missing,
    /// There, but nothing that could be a key or a time.
    Empty,
    Text(Range<usize>),
}

pub(crate) struct Search {
    paths: Vec<Box<str>>,
    /// Those of the object that is read, behind those of the objects around it.
    steps: Vec<Step>,
    depth: usize,
    /// For each path.
    pub(crate) values: Vec<Value>,
    text: Vec<u8>,
}

impl Search {
    pub(crate) fn new(paths: Vec<Box<str>>) -> Search {
        let values = vec![Value::Missing; paths.len()];
        Search { paths, steps: Vec::new(), depth: 0, values, text: Vec::new() }
    }

    /// Whether the line is an object and nothing else.
    pub(crate) fn line(&mut self, line: Text<'_>) -> bool {
        self.steps.clear();
        self.steps.extend((0..self.paths.len()).map(|path| Step { path, rest: Some(0) }));
        self.depth = 0;
        self.values.fill(Value::Missing);
        self.text.clear();
        let mut json = serde_json::Deserializer::from_slice(line.clean);
        json.deserialize_map(Seek { search: self, line, from: 0 }).is_ok() && json.end().is_ok()
    }

    /// Adds the steps that a name allows, of those in `level`.
    fn follow(&mut self, level: Range<usize>, name: &[u8]) {
        for at in level {
            let Step { path, rest: Some(from) } = self.steps[at] else { continue };
            let wanted = &self.paths[path].as_bytes()[from..];
            let rest = match wanted.get(name.len()) {
                None if wanted == name => None,
                Some(b'.') if wanted.starts_with(name) => Some(from + name.len() + 1),
                _ => continue,
            };
            self.steps.push(Step { path, rest });
        }
    }

    pub(crate) fn held(&self, path: usize) -> Option<&[u8]> {
        match &self.values[path] {
            Value::Text(at) => Some(&self.text[at.clone()]),
            Value::Missing | Value::Empty => None,
        }
    }
}

/// Reads one value, and keeps what the steps to it ask for.
struct Seek<'s, 'l> {
    search: &'s mut Search,
    line: Text<'l>,
    /// Its first step.
    from: usize,
}

impl Seek<'_, '_> {
    fn keep(&mut self, value: Value) {
        for step in self.search.steps[self.from..].iter().filter(|step| step.rest.is_none()) {
            self.search.values[step.path] = value.clone();
        }
    }

    fn deeper<E: Error>(&mut self) -> Result<(), E> {
        self.search.depth += 1;
        if self.search.depth > DEEPEST { Err(E::custom("too deep")) } else { Ok(()) }
    }

    fn keep_text(&mut self, from: usize) {
        let whole = from..self.search.text.len();
        self.keep(if whole.is_empty() { Value::Empty } else { Value::Text(whole) });
    }

    /// `raw` is whole, so that only what is asked for needs to be looked at.
    fn raw<E: Error>(mut self, mut raw: &str) -> Result<(), E> {
        while let Some(elements) = raw.strip_prefix('[') {
            self.deeper()?;
            let elements = elements.trim_ascii_start();
            if elements.starts_with(']') {
                self.keep(Value::Empty);
                return Ok(());
            }
            let mut first = serde_json::Deserializer::from_str(elements);
            raw = <&RawValue>::deserialize(&mut first).map_err(E::custom)?.get();
        }
        let from = self.search.text.len();
        match raw.as_bytes() {
            [b'n', ..] => self.keep(Value::Empty),
            [b'{', ..] => {
                self.deeper()?;
                return serde_json::Deserializer::from_str(raw).deserialize_any(self).map_err(E::custom);
            }
            [b'"', ..] => {
                let exact = self.line.exact(raw);
                if memchr(b'\\', exact).is_none() {
                    self.search.text.extend_from_slice(&exact[1..exact.len() - 1]);
                } else {
                    let unescaped = Bytes(&mut self.search.text);
                    serde_json::Deserializer::from_slice(exact).deserialize_bytes(unescaped).map_err(E::custom)?;
                }
                self.keep_text(from);
            }
            // As it is written: two numbers that a computer cannot tell apart are two all the same.
            _ => {
                self.search.text.extend_from_slice(raw.as_bytes());
                self.keep_text(from);
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Seek<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.search.steps[self.from..].iter().any(|step| step.rest.is_none()) {
            self.raw(<&RawValue>::deserialize(deserializer)?.get())
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for Seek<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.keep(Value::Empty);
        let (level, depth) = (self.from..self.search.steps.len(), self.search.depth);
        while map.next_key_seed(Name { search: self.search, level: level.clone() })?.is_some() {
            if self.search.steps.len() > level.end {
                map.next_value_seed(Seek { search: self.search, line: self.line, from: level.end })?;
                self.search.steps.truncate(level.end);
                self.search.depth = depth;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        self.keep(Value::Empty);
        elements.next_element_seed(Seek { search: self.search, line: self.line, from: self.from })?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
}

/// Reads the name of a field and takes the steps it allows.
struct Name<'s> {
    search: &'s mut Search,
    level: Range<usize>,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_bytes<E>(self, name: &[u8]) -> Result<(), E> {
        self.search.follow(self.level, name);
        Ok(())
    }
}

/// Appends a string without its escapes.
struct Bytes<'t>(&'t mut Vec<u8>);

impl Visitor<'_> for Bytes<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, text: &[u8]) -> Result<(), E> {
        self.0.extend_from_slice(text);
        Ok(())
    }
}

//! Log lines of every format, whatever the bytes, through the readers of `curfew replay`.
//!
//! The first eight bytes choose the options and how the bytes reach the reader, the rest is the log.
//! What must hold: the same lines whatever the buffers; each line of the common and combined formats
//! as the pattern of the format says; each JSON line as a plain parser of JSON says; each record of
//! CSV as the csv crate says.

#![no_main]

use std::sync::LazyLock;

use curfew_cli::probe::{self, Flow, Options, Said};
use curfew_fuzz::Bytes;
use libfuzzer_sys::fuzz_target;
use regex::Regex;
use serde::Deserialize;
use serde_json::value::RawValue;

const FORMATS: [&str; 5] = ["auto", "clf", "json", "csv", "tsv"];
const KEYS: [Option<&str>; 8] = [
    None,
    Some("ip"),
    Some("user"),
    Some("ident"),
    Some("ip+ua"),
    Some("k"),
    Some("a.b"),
    Some("request.headers.Cookie"),
];
const TIMES: [Option<&str>; 4] = [None, Some("t"), Some("ts"), Some("a.t")];

fuzz_target!(|data: &[u8]| {
    let bytes = &mut Bytes::new(data);
    let format = FORMATS[bytes.index(5)];
    let (key, time) = (KEYS[bytes.index(8)], TIMES[bytes.index(4)]);
    let columns = (bytes.below(4) == 0).then(|| ["t", "k", "a.b"].map(String::from).to_vec());
    let narrow =
        Flow { drip: 1 + bytes.index(64), block: 1 + bytes.index(64), longest: [8, 30, 200, 1 << 20][bytes.index(4)] };
    let _reserved = bytes.below(2);
    let text = bytes.rest();
    if is_packed(text) {
        return;
    }
    let options = Options { format: format.into(), key: key.map(String::from), time: time.map(String::from), columns };

    let wide = Flow { drip: usize::MAX, block: 1 << 16, ..narrow };
    let read = probe::log(text, &options, wide);
    assert_eq!(probe::log(text, &options, narrow), read, "the lines hang on the buffers");
    if let Ok((_, lines)) = &read {
        in_order(text, lines);
    }

    for line in text.split(|byte| *byte == b'\n') {
        common(line);
    }
    json(text);
    csv(text);
});

/// Unpacking is the business of others, and a few bytes of an archive can hold gigabytes.
fn is_packed(text: &[u8]) -> bool {
    text.starts_with(&[0x1f, 0x8b])
        || text.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        || matches!(text, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// Numbers rise, and no line says anything that is not there.
fn in_order(text: &[u8], lines: &[(u64, Said)]) {
    let count = text.split(|byte| *byte == b'\n').count() as u64;
    assert!(lines.iter().all(|(number, _)| (1..=count).contains(number)));
    assert!(lines.windows(2).all(|pair| pair[0].0 < pair[1].0));
    for (number, said) in lines {
        if let Said::Event { time_ms, key } = said {
            // The years 1 to 9999, and a zone.
            assert!((-62_135_683_200_000..=253_402_387_200_000).contains(time_ms), "line {number} is at {time_ms}");
            assert!(!is_nobody(key), "line {number} has no key");
        }
    }
}

fn is_nobody(key: &[u8]) -> bool {
    ["", "-", "\"\""].iter().any(|nobody| nobody.as_bytes() == key)
}

/// `host ident user [time] "`, as a pattern that is tried from every place; the host may be a list.
static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
    let (word, end) = (r"[^\s\x1c-\x1f]+", r"[^\s\x1c-\x1f]*[^\s\x1c-\x1f,]");
    Regex::new(&format!(r#"^((?:[^\s\x1c-\x1f]*, )*{end}) ({word}) (.+?) \[([^\]]+)\] "((?s:.*))$"#)).unwrap()
});
static SYSLOG: LazyLock<Regex> = LazyLock::new(|| {
    let months = "(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)";
    let (bsd, tag) = (format!("{months} [ 0-9][0-9] [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}} "), "(?:[^ ]*: |[^ ]* [^ ]*: )");
    Regex::new(&format!(r"^(?:<[0-9]{{1,3}}>)?(?:{bsd}{tag}|([^ ]{{10}}T[^ ]{{8,}}) {tag}?)[\t\f\r ]*")).unwrap()
});
static STAMP: LazyLock<Regex> = LazyLock::new(|| {
    let months = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec";
    let (two, space) = ("([0-9]{1,2})", r"[\t-\r\x1c-\x20]+");
    let zone = "(?-i:(Z)|([+-])([0-9]{2}):?([0-9]{2}))";
    Regex::new(&format!("(?i)^( [0-9]|{two})/({months})/([0-9]{{4}}):{two}:{two}:{two}{space}{zone}$")).unwrap()
});
/// Request, two numbers, referrer, and the agent that is asked for.
static AGENT: LazyLock<Regex> = LazyLock::new(|| {
    let quoted = r#"((?:[^"\\]|\\.)*)""#;
    Regex::new(&format!(r#"(?s)^{quoted}[^"]*"{quoted}[^"]*"{quoted}"#)).unwrap()
});

fn stamp(text: &str) -> Option<i64> {
    let found = STAMP.captures(text)?;
    let number = |at: usize| found.get(at).map_or(Some(0), |part| part.as_str().trim().parse::<i8>().ok());
    let month = "janfebmaraprmayjunjulaugsepoctnovdec".find(&found[3].to_lowercase())? as i8 / 3 + 1;
    let date = jiff::civil::Date::new(found[4].parse().ok()?, month, number(1)?).ok().filter(|date| date.year() > 0)?;
    let time = jiff::civil::Time::new(number(5)?, number(6)?, number(7)?, 0).ok()?;
    let (hours, minutes) = (i64::from(number(10)?), i64::from(number(11)?));
    if hours > 23 || minutes > 59 {
        return None;
    }
    let east = (hours * 60 + minutes) * 60 * if found.get(9).is_some_and(|sign| sign.as_str() == "-") { -1 } else { 1 };
    let utc = date.to_datetime(time).duration_since(jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0)).as_secs();
    Some((utc - east) * 1000)
}

/// The first address, or the first entry, of a list; and whether it is one, and has a port.
fn address(list: &str) -> (&str, bool, bool) {
    let port = |text: &str| text.parse::<std::net::SocketAddr>().is_ok();
    let is = |text: &&str| text.parse::<std::net::IpAddr>().is_ok() || port(text);
    let mut entries = list.split(',').map(|entry| entry.trim_matches(['\t', '\n', '\x0c', '\r', ' ']));
    let first = entries.clone().find(is).or(entries.next()).expect("a first one");
    (first, is(&first), port(first))
}

/// Host, ident, user, time and the rest of a line that begins with its host, or with a virtual host.
fn told(text: &str, may_be_virtual: bool) -> Option<[&str; 5]> {
    let (_, [whole, ident, user, time, rest]) = PATTERN.captures(text)?.extract();
    let (host, is_address, has_port) = address(whole);
    let is_list = whole.contains(',');
    let words: Vec<&str> = user.split(' ').collect();
    let read = Some([host, ident, user, time, rest]);
    if words.len() == 1 {
        return read;
    }
    let (is_address, has_port) = (is_address || is_list, has_port && !is_list);
    let leads = |word: &str| word.ends_with(',') || address(word).1;
    let hides = words[..words.len().saturating_sub(2)].iter().any(|word| leads(word));
    let inner = || if may_be_virtual { told(text.split_once(' ')?.1, false) } else { None };
    if ident == "-" {
        read.filter(|_| is_address || !hides)
    } else if leads(ident) {
        let is_server = !is_address || has_port && !(address(ident).2 && !ident.contains(','));
        if is_server { inner() } else { None }
    } else if words[0] == "-" {
        if is_address && !has_port {
            return (words.len() == 2).then(|| [host, "-", words[1], time, rest]);
        }
        inner()
    } else {
        read.filter(|_| is_address || !(hides || words[..words.len() - 1].contains(&"-")))
    }
}

fn common(line: &[u8]) {
    let mut line = line;
    while let [shorter @ .., b'\r'] = line {
        line = shorter;
    }
    let text = String::from_utf8_lossy(line);
    let prefix = SYSLOG.captures(&text).filter(|found| match found.get(1) {
        Some(stamp) => probe::time(stamp.as_str().as_bytes()).is_some(),
        None => true,
    });
    let found = told(prefix.map_or(&text, |found| &text[found[0].len()..]), true);
    let time = found.and_then(|found| stamp(found[3]));
    for key in ["ip", "ident", "user", "ip+ua"] {
        let expected = match (&found, time) {
            (Some(found), Some(time_ms)) => {
                let first = match key {
                    "ident" => found[1],
                    "user" => found[2],
                    _ if address(found[0]).2 => {
                        let (host, _) = found[0].rsplit_once(':').expect("a port");
                        host.trim_start_matches('[').trim_end_matches(']')
                    }
                    _ => found[0],
                };
                let agent = AGENT.captures(found[4]);
                let agent = agent.as_ref().map_or("-", |found| found.get(3).expect("three of them").as_str());
                match key {
                    _ if is_nobody(first.as_bytes()) => Said::NoKey,
                    "ip+ua" => Said::Event { time_ms, key: format!("{first}\t{agent}").into() },
                    _ => Said::Event { time_ms, key: first.into() },
                }
            }
            _ => Said::Unparsed,
        };
        let said = lossy(probe::clf(line, key).expect("a key that there is"));
        assert_eq!(said, expected, "{key} of {text:?}");
    }
}

fn lossy(said: Said) -> Said {
    match said {
        Said::Event { time_ms, key } => Said::Event { time_ms, key: String::from_utf8_lossy(&key).into_owned().into() },
        other => other,
    }
}

/// JSON as it is written, so that a name that stands twice is seen, and how a number is written.
enum Json {
    Nothing,
    Text(String),
    Number(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = raw.get();
        let json = match text.as_bytes()[0] {
            b'n' => Ok(Json::Nothing),
            b't' | b'f' => Ok(Json::Text(text.into())),
            b'"' => serde_json::from_str(text).map(Json::Text),
            b'[' => serde_json::from_str(text).map(Json::List),
            b'{' => serde_json::from_str(text).map(|Object(fields)| Json::Object(fields)),
            _ => Ok(Json::Number(text.into())),
        };
        json.map_err(serde::de::Error::custom)
    }
}

struct Object(Vec<(String, Json)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
        struct Fields;
        impl<'de> serde::de::Visitor<'de> for Fields {
            type Value = Object;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut all: A) -> Result<Object, A::Error> {
                let mut object = Vec::new();
                while let Some(one) = all.next_entry()? {
                    object.push(one);
                }
                Ok(Object(object))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// The first of lists in lists; an object is nothing that could be a key or a time.
fn plain(value: &Json) -> Option<&Json> {
    match value {
        Json::Nothing | Json::Object(_) => None,
        Json::Text(text) if text.is_empty() => None,
        Json::List(list) => list.first().and_then(plain),
        other => Some(other),
    }
}

fn json_line(line: &str) -> Option<Said> {
    let Ok(Json::Object(fields)) = serde_json::from_str(line) else { return None };
    // Which of two counts is nobody's business.
    let field = |name: &str| {
        let mut named = fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value);
        let first = named.next();
        if named.next().is_some() { Err(()) } else { Ok(first.and_then(plain)) }
    };
    let text = |name| {
        field(name).map(|value| match value {
            Some(Json::Text(text) | Json::Number(text)) => text.clone(),
            _ => String::new(),
        })
    };
    let time_ms = probe::time(text("t").ok()?.as_bytes());
    let key = text("k").ok()?;
    Some(match time_ms {
        None => Said::Unparsed,
        Some(_) if is_nobody(key.as_bytes()) => Said::NoKey,
        Some(time_ms) => Said::Event { time_ms, key: key.into() },
    })
}

const WHOLE: Flow = Flow { drip: usize::MAX, block: 1 << 16, longest: 1 << 20 };

fn json(text: &[u8]) {
    let options = Options { format: "json".into(), key: Some("k".into()), time: Some("t".into()), columns: None };
    let Ok((_, lines)) = probe::log(text, &options, WHOLE) else { return };
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let all: Vec<_> = text.split(|byte| *byte == b'\n').collect();
    for (number, said) in lines {
        let line = String::from_utf8_lossy(all[number as usize - 1]);
        // A line that a plain parser refuses may still have all that is asked for.
        if let Some(expected) = json_line(&line) {
            assert_eq!(lossy(said), expected, "line {number}: {line}");
        }
    }
}

/// Quotes over several lines with no end, or with no end of a field behind them.
fn is_torn(text: &[u8]) -> bool {
    let mut rest = text;
    while !rest.is_empty() {
        let mut end = 0;
        if rest[0] == b'"' {
            end = 1;
            while rest.get(end).is_some_and(|byte| *byte != b'"') || rest[end..].starts_with(b"\"\"") {
                end += if rest[end] == b'"' { 2 } else { 1 };
            }
            if end >= rest.len() || rest[..end].contains(&b'\n') && !matches!(rest[end..], [_] | [_, b',' | b'\n', ..])
            {
                return true;
            }
        }
        end += rest[end..].iter().position(|byte| matches!(byte, b',' | b'\n')).unwrap_or(rest.len() - end);
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    false
}

fn csv(text: &[u8]) {
    // A return is part of a line break to one and of a field to the other, which keeps what is torn.
    if text.contains(&b'\r') || text.starts_with(b"\xef\xbb\xbf") || is_torn(text) {
        return;
    }
    let columns = Some(vec!["t".to_string(), "k".to_string()]);
    let options = Options { format: "csv".into(), key: Some("k".into()), time: Some("t".into()), columns };
    let Ok((_, lines)) = probe::log(text, &options, WHOLE) else { return };
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
    let records: Vec<_> = reader.byte_records().map(|record| record.expect("bytes are always records")).collect();
    assert_eq!(lines.len(), records.len());
    for ((number, said), record) in lines.iter().zip(records) {
        let time = record.get(0).and_then(probe::time);
        let expected = match (time, record.get(1)) {
            (Some(_), Some(key)) if is_nobody(key) => Said::NoKey,
            (Some(time_ms), Some(key)) => Said::Event { time_ms, key: key.into() },
            _ => Said::Unparsed,
        };
        assert_eq!(*said, expected, "line {number}");
    }
}

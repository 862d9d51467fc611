//! Decides, on the first lines, in which format a log is, and where its time and its key are.

use super::clf::{self, Clf};
use super::columns::{self, Columns, Fields};
use super::error::{InputError, Names};
use super::json::{Json, Paths};
use super::lines::Blocks;
use super::names::{self, Preset};
use super::quoting::without_returns;
use super::time::PLAUSIBLE;
use super::{FormatChoice, Options, Parser, time};
use crate::say;
use hashbrown::HashSet;
use serde_json::Value;

/// How many lines are looked at.
const LOOK: usize = 1000;
/// One line in so many has to be of a format for the log to be of it: stray lines are common.
const SHARE: usize = 4;

/// How a log is to be read.
pub(crate) struct Plan {
    pub(crate) parser: Parser,
    pub(crate) format: String,
    pub(crate) note: Option<String>,
    pub(crate) key: String,
    pub(crate) fields: Option<ReadFields>,
    /// Fields to name when the key turns out to be in no line.
    pub(crate) known: Names,
}

/// What is read for the time and for the key, as notes and reports say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadFields {
    pub(crate) time: String,
    pub(crate) key: String,
}

/// The first lines of a log.
struct Look<'a> {
    options: &'a Options,
    file: &'a str,
    text: &'a [u8],
    lines: Vec<&'a [u8]>,
}

/// `text` holds the first whole lines of `file`.
pub(crate) fn plan(options: &Options, file: &str, text: &[u8]) -> Result<Plan, InputError> {
    let lines = text.split(|&byte| byte == b'\n').map(without_returns).filter(|line| !line.is_empty());
    let look = Look { options, file, text, lines: lines.take(LOOK).collect() };
    match options.format {
        FormatChoice::Clf => look.clf(),
        FormatChoice::Json => look.json(),
        FormatChoice::Csv => look.columns(b','),
        FormatChoice::Tsv => look.columns(b'\t'),
        FormatChoice::Auto => look.auto(),
    }
}

impl Look<'_> {
    fn auto(&self) -> Result<Plan, InputError> {
        let looked = self.lines.len();
        if looked == 0 {
            return Err(InputError::NoLines { files: self.file.into() });
        }
        let share = |count| format!("{count} of the first {looked} lines read so");
        let clf = self.lines.iter().filter(|line| clf::shape(line).is_some()).count();
        let json = self.objects().len();
        let (plan, how) = if self.options.columns.is_none() && clf > 0 && clf >= json && clf * SHARE >= looked {
            (self.clf()?, share(clf))
        } else if self.options.columns.is_none() && json > 0 && json * SHARE >= looked {
            (self.json()?, share(json))
        } else {
            let delimiter = self.delimiter().ok_or_else(|| self.not_recognised())?;
            (self.columns(delimiter)?, "by its first line".into())
        };
        let chosen = plan.note.map(|note| format!("; {note}")).unwrap_or_default();
        Ok(Plan { note: Some(format!("format {}: {how}{chosen}", plan.format)), ..plan })
    }

    fn not_recognised(&self) -> InputError {
        let file = self.file.into();
        if memchr::memchr(0, self.text).is_some() {
            return InputError::Binary { file };
        }
        let tried =
            if self.options.columns.is_some() { "csv and tsv, for --columns" } else { "clf, json, csv and tsv" };
        let first = say::printable(self.lines.first().unwrap_or(&&b""[..]));
        InputError::NotRecognised { file, tried, first }
    }

    fn unused(&self, option: &'static str, given: bool, format: &str) -> Result<(), InputError> {
        match given {
            true => Err(InputError::OptionUnused { option, format: format.into() }),
            false => Ok(()),
        }
    }

    fn clf(&self) -> Result<Plan, InputError> {
        let shapes: Vec<_> = self.lines.iter().filter_map(|line| clf::shape(line)).collect();
        let count = |has: fn(&clf::Shape) -> bool| shapes.iter().filter(|shape| has(shape)).count();
        let kind = match count(|shape| shape.combined) {
            _ if shapes.is_empty() => "clf",
            combined if combined * 2 > shapes.len() => "combined",
            _ => "common",
        };
        // Told line by line; what only some lines have is no part of the format's name.
        let extras = [
            (" with virtual host", count(|shape| shape.virtual_host)),
            (" behind a syslog prefix", count(|shape| shape.syslog)),
        ];
        let in_all = |extra: &&(&str, usize)| extra.1 > 0 && extra.1 == shapes.len();
        let format = extras.iter().filter(in_all).fold(kind.to_string(), |format, extra| format + extra.0);
        let in_some = extras.iter().filter(|extra| extra.1 > 0 && !in_all(extra));
        let notes: Vec<_> = in_some.map(|(what, count)| format!("{count} of them{what}")).collect();
        let note = (!notes.is_empty()).then(|| notes.join(", "));
        self.unused("--time", self.options.time.is_some(), &format)?;
        self.unused("--columns", self.options.columns.is_some(), &format)?;
        let typed = self.options.key.as_deref().unwrap_or("ip");
        let key = match typed {
            "ip" => clf::Key::Ip,
            "ident" => clf::Key::Ident,
            "user" => clf::Key::User,
            "ip+ua" if kind != "common" => clf::Key::IpAgent,
            other => {
                let available = if kind == "common" { "ip, user, ident" } else { "ip, user, ip+ua, ident" };
                return Err(InputError::KeyUnavailable { key: other.into(), format, available });
            }
        };
        let parser = Parser::Clf(Clf::new(key));
        Ok(Plan { parser, format, note, key: typed.into(), fields: None, known: Names(Vec::new()) })
    }

    /// The lines that are JSON objects.
    fn objects(&self) -> Vec<Value> {
        let candidates = self.lines.iter().filter(|line| line.trim_ascii_start().starts_with(b"{"));
        let parse = |line: &&[u8]| serde_json::from_str(&String::from_utf8_lossy(line)).ok();
        candidates.filter_map(parse).filter(Value::is_object).collect()
    }

    fn json(&self) -> Result<Plan, InputError> {
        self.unused("--columns", self.options.columns.is_some(), "json")?;
        let objects = self.objects();
        let fields = list_fields(&objects);
        let has = |name: &&str| fields.iter().any(|known| known == name);
        let is = |preset: &&Preset| preset.known_by.0.iter().any(has) && preset.known_by.1.iter().any(has);
        let preset = names::PRESETS.iter().find(is);
        // A preset's names stand in for each other from line to line; of the usual names one is chosen for all.
        let choose = |preset: Option<&[&str]>, usual: &[&str], times: Times<'_>| -> Vec<String> {
            if objects.is_empty() {
                return usual.iter().map(|name| name.to_string()).collect();
            }
            let from_preset: Vec<_> =
                preset.unwrap_or_default().iter().filter(|n| has(n)).map(|n| n.to_string()).collect();
            if !from_preset.is_empty() {
                return from_preset;
            }
            let known = usual.iter().filter_map(|name| fields.iter().find(|field| field.eq_ignore_ascii_case(name)));
            best(&known.collect::<Vec<_>>(), times).into_iter().cloned().collect()
        };
        let times = |name: &str| objects.iter().filter_map(|object| value_time(dig(object, name)?)).collect();
        let ip = || choose(preset.map(|p| p.ip), names::IP, None);
        let agent = || choose(preset.map(|p| p.agent), names::AGENT, None);

        let names = || Names(fields.clone());
        let (file, noun) = (self.file.to_string(), "field");
        let time = match &self.options.time {
            Some(name) if objects.is_empty() || objects.iter().any(|object| dig(object, name).is_some()) => {
                vec![name.clone()]
            }
            Some(name) => {
                let (role, name) = ("time (--time)", name.clone());
                return Err(InputError::UnknownField { file, noun, role, name, names: names() });
            }
            None => choose(preset.map(|p| p.time), names::TIME, Some(&times)),
        };
        if time.is_empty() {
            return Err(InputError::NoTimeField { file, noun, names: names() });
        }
        let typed = self.options.key.as_deref().unwrap_or("ip");
        let (key, agent, role) = match typed {
            name if self.options.key.is_some() && has(&name) => (vec![name.to_string()], None, ""),
            "ip" => (ip(), None, "the client's address"),
            "user" => (choose(preset.map(|p| p.user), names::USER, None), None, "the user"),
            "ip+ua" => (ip(), Some(agent()), "the client's address and user agent"),
            path => (vec![path.to_string()], None, ""),
        };
        if key.is_empty() || agent.as_ref().is_some_and(Vec::is_empty) {
            return Err(InputError::NoKeyField { file, noun, role, names: names() });
        }
        let format = preset.map_or("json".to_string(), |preset| format!("json ({})", preset.name));
        let unseen =
            !objects.is_empty() && !key.iter().any(|name| objects.iter().any(|object| dig(object, name).is_some()));
        let agents = agent.iter().flatten().map(|name| format!(" with {name}"));
        let read = ReadFields { time: time.join(" or "), key: key.join(" or ") + &agents.collect::<String>() };
        let mut notes = Vec::new();
        if self.options.time.is_none() {
            notes.push(format!("time from {}", read.time));
        }
        if read.key != typed {
            notes.push(format!("key from {}", read.key));
        }
        if unseen {
            notes.push(format!("none of the first lines has `{}`", key.join(" or ")));
        }
        let paths = Paths { time, key, agent: agent.unwrap_or_default() };
        let note = (!notes.is_empty()).then(|| notes.join(", "));
        let parser = Parser::Json(Json::new(&paths));
        Ok(Plan { parser, format, note, key: typed.into(), fields: Some(read), known: names() })
    }

    /// The first records, whatever they hold.
    fn records(&self, delimiter: u8) -> Vec<Vec<String>> {
        let mut records = Vec::new();
        let Ok(mut blocks) = Blocks::new(self.text) else { return records };
        while records.len() < LOOK
            && let Ok(Some(record)) = if delimiter == b',' { blocks.next_record(b',') } else { blocks.next_line() }
        {
            records
                .extend(record.bytes.filter(|r| !without_returns(r).is_empty()).map(|r| columns::split(r, delimiter)));
        }
        records
    }

    /// Comma or tab, when the first line looks like a header or has as many fields as there are --columns.
    fn delimiter(&self) -> Option<u8> {
        let first = *self.lines.first()?;
        let count = |delimiter| first.iter().filter(|&&byte| byte == delimiter).count();
        let delimiter = if count(b'\t') >= count(b',') { b'\t' } else { b',' };
        if let Some(columns) = &self.options.columns {
            return (count(delimiter) > 0 || columns.len() == 1).then_some(delimiter);
        }
        let records = self.records(delimiter);
        let header = records.first().filter(|header| header.len() > 1)?;
        let named = self.options.time.iter().any(|name| columns::find(header, name).is_some());
        let usual = names::TIME.iter().any(|name| columns::find(header, name).is_some());
        // A header has names only, and as many as the lines after it have fields.
        let is_name = |cell: &String| {
            !cell.trim().is_empty()
                && cell.len() < 64
                && time::guess(cell.as_bytes()).is_none()
                && !cell.contains(['/', '"', '='])
        };
        let even = records.get(1).is_none_or(|record| record.len() == header.len());
        let table = header.iter().all(is_name) && even && !first.starts_with(b"#");
        (named || usual || table).then_some(delimiter)
    }

    fn columns(&self, delimiter: u8) -> Result<Plan, InputError> {
        let format = if delimiter == b',' { "csv" } else { "tsv" };
        let records = self.records(delimiter);
        let (header, data) = match (&self.options.columns, &records[..]) {
            (Some(names), all) => (names.clone(), all),
            (None, [header, data @ ..]) => (header.clone(), data),
            (None, []) => return Err(InputError::NoLines { files: self.file.into() }),
        };
        let times = |name: &str| {
            let at = columns::find(&header, name);
            data.iter().filter_map(|record| time::guess(record.get(at?)?.as_bytes())).collect()
        };
        let choose = |usual: &[&str], times: Times<'_>| -> Option<String> {
            let known = usual.iter().filter_map(|name| columns::find(&header, name)).map(|at| &header[at]);
            best(&known.collect::<Vec<_>>(), times).cloned()
        };
        let names = || Names(header.clone());
        let (file, noun) = (self.file.to_string(), "column");
        let Some(time) = self.options.time.clone().or_else(|| choose(names::TIME, Some(&times))) else {
            return Err(InputError::NoTimeField { file, noun, names: names() });
        };
        let typed = self.options.key.as_deref().unwrap_or("ip");
        let ip = || choose(names::IP, None);
        let (key, agent, role) = match typed {
            name if header.iter().any(|known| known == name) => (Some(name.to_string()), None, ""),
            "ip" => (ip(), None, "the client's address"),
            "user" => (choose(names::USER, None), None, "the user"),
            "ip+ua" => {
                let agent = choose(names::AGENT, None);
                (ip().filter(|_| agent.is_some()), agent, "the client's address and user agent")
            }
            name => (Some(name.to_string()), None, ""),
        };
        let Some(key) = key else { return Err(InputError::NoKeyField { file, noun, role, names: names() }) };
        // As the header spells it.
        let spelt = |name: &str| columns::find(&header, name).map_or(name, |at| &header[at]).to_owned();
        let agents = agent.iter().map(|name| format!(" with {}", spelt(name)));
        let read = ReadFields { time: spelt(&time), key: spelt(&key) + &agents.collect::<String>() };
        let mut notes = Vec::new();
        if self.options.time.is_none() {
            notes.push(format!("time from {}", read.time));
        }
        if read.key != typed {
            notes.push(format!("key from {}", read.key));
        }
        if let (Some(names), Some(first)) = (&self.options.columns, data.first())
            && names.len() != first.len()
        {
            let fields = if first.len() == 1 { "field" } else { "fields" };
            notes.push(format!("the first line has {} {fields} and --columns has {}", first.len(), names.len()));
        }
        let mut parser = Columns::new(delimiter, Fields { time, key, agent });
        parser.place(self.file, &header)?;
        let note = (!notes.is_empty()).then(|| notes.join(", "));
        let (parser, format) = (Parser::Columns(parser), format.into());
        Ok(Plan { parser, format, note, key: typed.into(), fields: Some(read), known: names() })
    }
}

/// The times that a field has in the first lines.
type Times<'a> = Option<&'a dyn Fn(&str) -> Vec<i64>>;

/// The first of the fields; of those for a time the first that has plausible ones, which a duration has not, or else
/// any.
fn best<'n>(fields: &[&'n String], times: Times<'_>) -> Option<&'n String> {
    let of_time = times.and_then(|times| {
        let having = |fits: fn(&i64) -> bool| fields.iter().find(|field| times(field).iter().any(fits));
        having(|time| PLAUSIBLE.contains(time)).or_else(|| having(|_| true))
    });
    of_time.or(fields.first()).copied()
}

/// The dotted names of all that is no object, each once; of a list the first element counts.
fn list_fields(objects: &[Value]) -> Vec<String> {
    fn list(value: &Value, prefix: &str, fields: &mut Vec<String>, known: &mut HashSet<String>) {
        let Value::Object(map) = value else { return };
        for (name, value) in map {
            let path = format!("{prefix}{name}");
            match first(value) {
                Value::Object(inner) if !inner.is_empty() => {
                    list(first(value), &format!("{path}."), fields, known);
                }
                _ if known.contains(&path) => {}
                _ => {
                    known.insert(path.clone());
                    fields.push(path);
                }
            }
        }
    }
    let (mut fields, mut known) = (Vec::new(), HashSet::new());
    objects.iter().for_each(|object| list(object, "", &mut fields, &mut known));
    fields
}

/// A list is what its first element is.
fn first(mut value: &Value) -> &Value {
    while let Value::Array(list) = value
        && let Some(element) = list.first()
    {
        value = element;
    }
    value
}

/// The value at a dotted path, found as `json` finds it: any of the dots may be part of a name.
fn dig<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    let object = first(value).as_object()?;
    let within = |(at, _)| dig(object.get(&path[..at])?, &path[at + 1..]);
    object.get(path).or_else(|| path.match_indices('.').find_map(within))
}

fn value_time(value: &Value) -> Option<i64> {
    match first(value) {
        Value::String(text) => time::guess(text.as_bytes()),
        Value::Number(number) => number.as_i64().map_or_else(|| time::float(number.as_f64()?), time::integer),
        _ => None,
    }
}

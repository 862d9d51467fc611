//! `curfew_admin`: what the zones hold and have counted, and ending sessions by hand.
//!
//! Reading is GET, changing is POST. Answers name sessions by their keys and subjects by their
//! digests; ids are not there to be told.

use std::borrow::Cow;
use std::fmt::Write;
use std::rc::Rc;

use curfew_engine::{Cause, ChangeError, Filter, Key, SessionInfo, Span, State, Stats, Subject, Table, Tick};
use nginx_sys::{
    NGX_DONE, NGX_HTTP_GET, NGX_HTTP_HEAD, NGX_HTTP_POST, NGX_HTTP_SPECIAL_RESPONSE, NGX_LOG_NOTICE,
    ngx_http_finalize_request, ngx_http_read_client_request_body, ngx_http_request_t, ngx_int_t,
};
use ngx::ngx_log_error;

use crate::nginx::{Request, fence};
use crate::variables::write_seconds;
use crate::zone::Zone;
use crate::{clock, conf};

/// Sessions of a page, and the most that can be asked for.
const PAGE: usize = 100;
const MOST_OF_A_PAGE: usize = 1000;

const JSON: &str = "application/json";
const METRICS: &str = "text/plain; version=0.0.4";

/// What is answered: a status, a media type, and a text.
type Answer = (usize, &'static str, String);

/// What nginx finalizes a request with that somebody else will finalize, and from where on a number is a status.
const DONE: ngx_int_t = NGX_DONE as ngx_int_t;
const SPECIAL_RESPONSE: ngx_int_t = NGX_HTTP_SPECIAL_RESPONSE as ngx_int_t;

pub(crate) unsafe extern "C" fn handle(raw: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx calls this with a live request, under the configuration that is in use.
    let request = unsafe { Request::new(raw) };
    fence(request.log(), 500, || {
        if request.method() != NGX_HTTP_POST {
            return answer(request);
        }
        // Nothing of a body matters, but one that nginx refuses must not have changed anything: it is read first.
        // SAFETY: this is how a handler of nginx's has it; what is called then has the request as its own.
        let answer = unsafe { ngx_http_read_client_request_body(raw, Some(answer_once_read)) };
        if answer >= SPECIAL_RESPONSE { answer } else { DONE }
    })
}

unsafe extern "C" fn answer_once_read(raw: *mut ngx_http_request_t) {
    // SAFETY: as above; who reads a body finalizes the request.
    unsafe {
        let request = Request::new(raw);
        let answer = fence(request.log(), 500, || answer(request));
        ngx_http_finalize_request(raw, answer);
    }
}

fn answer(request: Request<'_>) -> ngx_int_t {
    // SAFETY: the request is live.
    let main = unsafe { conf::of_request_main(request.raw()) };
    let asked = Asked::read(request.args());
    let (status, media_type, body) = match request.method() {
        NGX_HTTP_GET | NGX_HTTP_HEAD => read(request, &main.zones, &asked),
        NGX_HTTP_POST => change(request, &main.zones, &asked),
        _ => return 405,
    }
    .unwrap_or_else(|(status, message)| (status, JSON, format!("{{\"error\":{}}}\n", quoted(&message))));
    if request.add_header("Cache-Control", b"no-store").is_none() {
        return 500;
    }
    request.respond(status, media_type, body.as_bytes())
}

/// The arguments of a request, decoded. What a subject is called may be in any encoding.
struct Asked(Vec<(String, Vec<u8>)>);

impl Asked {
    fn read(args: &[u8]) -> Asked {
        let pairs = args.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
            let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let name = String::from_utf8_lossy(&decoded(&pair[..at])).into_owned();
            (name, decoded(pair.get(at + 1..).unwrap_or_default()))
        });
        Asked(pairs.collect())
    }

    fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_slice())
    }

    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.bytes(name).map(String::from_utf8_lossy)
    }

    /// Refuses what is not among `known`: who mistypes `policy=` must not end everybody's session. And what is
    /// there twice: who names two must not be told that it is done when one is left.
    fn only(&self, known: &[&str]) -> Result<(), Refused> {
        for (at, (name, _)) in self.0.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return Err((400, format!("unknown argument \"{name}\"; there are {}", known.join(", "))));
            }
            if self.0[..at].iter().any(|(other, _)| other == name) {
                return Err((400, format!("\"{name}=\" is given twice; ask once for each")));
            }
        }
        Ok(())
    }
}

type Refused = (usize, String);

fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| (*byte as char).to_digit(16));
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        match (text[at], digit(text.get(at + 1)), digit(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high << 4 | low) as u8);
                at += 2;
            }
            (b'+', ..) => bytes.push(b' '),
            (byte, ..) => bytes.push(byte),
        }
        at += 1;
    }
    bytes
}

/// Text as a string of JSON.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            control if control < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", control as u32);
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// The zone that is meant; the only one needs no name.
fn zone_of<'a>(request: Request<'_>, zones: &'a [Box<Zone>], asked: &Asked) -> Result<(&'a Zone, Rc<Table>), Refused> {
    let zone = match (asked.get("zone"), zones) {
        (None, [only]) => only,
        (None, _) => return Err((400, "which zone? There are several: zone=name".into())),
        (Some(name), _) => {
            zones.iter().find(|zone| zone.name == name).ok_or((404, format!("there is no zone \"{name}\"")))?
        }
    };
    let table = zone.table(request.log()).ok_or((503, "the zone cannot be used; the error log says why".to_owned()))?;
    Ok((zone, table))
}

fn read(request: Request<'_>, zones: &[Box<Zone>], asked: &Asked) -> Result<Answer, Refused> {
    if asked.get("sessions").is_some() {
        asked.only(&["zone", "sessions", "limit"])?;
        let (_, table) = zone_of(request, zones, asked)?;
        let number = |name: &str, default: usize| match asked.get(name).filter(|text| !text.is_empty()) {
            Some(text) => text.parse().map_err(|_| (400, format!("\"{name}\" is not a number"))),
            None => Ok(default),
        };
        let most = number("limit", PAGE)?.clamp(1, MOST_OF_A_PAGE);
        let now = clock::now(&table);
        let (page, next) = table.page(number("sessions", 0)?, most, now);
        let next = next.map_or("null".to_owned(), |next| next.to_string());
        return Ok((200, JSON, format!("{{\"sessions\":{},\"next\":{next}}}\n", sessions(&table, &page, now))));
    }
    if asked.get("subject").is_some() || asked.get("subject_digest").is_some() {
        asked.only(&["zone", "subject", "subject_digest"])?;
        let (_, table) = zone_of(request, zones, asked)?;
        let now = clock::now(&table);
        let found = table.sessions_of(subject(&table, asked, "subject", "subject_digest")?, now);
        return Ok((200, JSON, format!("{{\"sessions\":{}}}\n", sessions(&table, &found, now))));
    }
    asked.only(&["format"])?;
    match asked.get("format").as_deref() {
        None | Some("json") => Ok((200, JSON, overview(request, zones))),
        Some("prometheus") => Ok((200, METRICS, metrics(request, zones))),
        Some(other) => Err((400, format!("unknown format \"{other}\"; there are json and prometheus"))),
    }
}

fn change(request: Request<'_>, zones: &[Box<Zone>], asked: &Asked) -> Result<Answer, Refused> {
    // A page of somebody else's in the operator's browser can post here, too; programs have no origin.
    let is_own = request.header(b"sec-fetch-site").is_some_and(|site| site == b"same-origin");
    if request.header(b"origin").is_some() && !is_own {
        return Err((403, "a page of another site asks for this".into()));
    }
    const HOW: &str = "say what to end: end=key, end_subject=name, end_subject_digest=digest, or end_all=1";
    let (ended, what) = if let Some(text) = asked.get("end") {
        asked.only(&["zone", "end"])?;
        let (_, table) = zone_of(request, zones, asked)?;
        let key = key(&text).ok_or((400, "a key has 32 hexadecimal digits".to_owned()))?;
        match table.end(key, Cause::Revoked, clock::now(&table)) {
            Ok(()) => (1, "one session"),
            Err(ChangeError::Ended(_)) => (0, "one session"),
            Err(_) => return Err((404, "no session has this key".into())),
        }
    } else if asked.get("end_subject").is_some() || asked.get("end_subject_digest").is_some() {
        asked.only(&["zone", "end_subject", "end_subject_digest"])?;
        let (_, table) = zone_of(request, zones, asked)?;
        let subject = subject(&table, asked, "end_subject", "end_subject_digest")?;
        (table.end_subject(subject, Cause::Revoked, clock::now(&table)), "all of a subject")
    } else if asked.bytes("end_all") == Some(b"1") {
        asked.only(&["zone", "end_all", "policy"])?;
        let (_, table) = zone_of(request, zones, asked)?;
        let policy = match asked.get("policy") {
            Some(name) => Some(table.policy_id(&name).ok_or((404, format!("there is no policy \"{name}\"")))?),
            None => None,
        };
        let now = clock::now(&table);
        (table.end_all(&Filter { policy, ..Filter::default() }, Cause::Revoked, now), "all")
    } else {
        return Err((400, HOW.into()));
    };
    ngx_log_error!(NGX_LOG_NOTICE, request.log(), "curfew: sessions ended by hand ({}): {}", what, ended);
    Ok((200, JSON, format!("{{\"ended\":{ended}}}\n")))
}

fn key(text: &str) -> Option<Key> {
    if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 16];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(Key::from_bytes(bytes))
}

fn subject(table: &Table, asked: &Asked, name: &str, digest: &str) -> Result<Subject, Refused> {
    let subject = match (asked.bytes(name), asked.get(digest)) {
        (Some(name), None) => table.subject(name),
        (None, Some(digits)) => u64::from_str_radix(&digits, 16)
            .map(Subject::from_u64)
            .map_err(|_| (400, "a subject's digest has 16 hexadecimal digits".to_owned()))?,
        _ => return Err((400, "name the subject once".into())),
    };
    if subject == Subject::NONE { Err((400, "the subject is empty".into())) } else { Ok(subject) }
}

fn sessions(table: &Table, all: &[SessionInfo], now: Tick) -> String {
    let names: Vec<_> = table.policies().collect();
    let mut text = String::from("[");
    for (number, one) in all.iter().enumerate() {
        let policy = names.iter().find(|(id, ..)| *id == one.policy).map_or("", |(_, name, _)| name);
        let state = match one.state {
            State::Active => "active",
            State::Grace => "grace",
            State::Ended(end) => end.cause.name(),
        };
        let _ = write!(
            text,
            "{}\n{{\"key\":\"{}\",\"subject\":{},\"policy\":{},\"state\":\"{state}\",\"bound\":{},\"rotated\":{}",
            if number > 0 { "," } else { "" },
            one.key,
            if one.subject == Subject::NONE { "null".into() } else { format!("\"{:016x}\"", one.subject.as_u64()) },
            quoted(policy),
            one.bound,
            one.rotated
        );
        let left = if matches!(one.state, State::Ended(_)) { Span::NEVER } else { one.end.since(now) };
        for (name, span) in [("age", now.since(one.start)), ("idle", now.since(one.last)), ("left", left)] {
            let _ = write!(text, ",\"{name}\":");
            if span.is_never() {
                text.push_str("null");
            } else {
                write_seconds(span, &mut text);
            }
        }
        text.push('}');
    }
    text.push(']');
    text
}

fn overview(request: Request<'_>, zones: &[Box<Zone>]) -> String {
    let mut text = String::from("{\"zones\":[");
    for (number, zone) in zones.iter().enumerate() {
        let _ = write!(text, "{}\n{{\"name\":{}", if number > 0 { "," } else { "" }, quoted(&zone.name));
        let [errors, denied, cut] = counted(zone);
        let _ = write!(text, ",\"errors\":{errors},\"denied\":{denied},\"cut\":{cut}");
        match zone.table(request.log()) {
            None => text.push_str(",\"usable\":false}"),
            Some(table) => {
                let stats = table.stats();
                text.push_str(",\"usable\":true");
                for (name, value) in figures(&stats) {
                    let _ = write!(text, ",\"{name}\":{value}");
                }
                let ended: Vec<_> =
                    Cause::ALL.iter().map(|cause| format!("\"{}\":{}", cause.name(), stats.ended_by(*cause))).collect();
                let policies: Vec<_> = table.policies().map(|(_, name, _)| quoted(&name)).collect();
                let _ = write!(text, ",\"ended\":{{{}}},\"policies\":[{}]}}", ended.join(","), policies.join(","));
            }
        }
    }
    text.push_str("]}\n");
    text
}

/// Requests of a zone that could not be decided, those that were refused, and those that were ended with
/// their session.
fn counted(zone: &Zone) -> [u64; 3] {
    let of = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    zone.counters().map_or([0; 3], |counters| [&counters.errors, &counters.denied, &counters.cut].map(of))
}

fn figures(stats: &Stats) -> [(&'static str, u64); 9] {
    [
        ("capacity", stats.capacity),
        ("bytes", stats.bytes),
        ("used", stats.used),
        ("live", stats.live),
        ("started", stats.started),
        ("rotated", stats.rotated),
        ("refused_full", stats.refused_full),
        ("refused_limited", stats.refused_limited),
        ("mismatches", stats.mismatches),
    ]
}

/// The figures of every zone in the text format of Prometheus.
fn metrics(request: Request<'_>, zones: &[Box<Zone>]) -> String {
    type Figure = fn(&Stats) -> u64;
    let families: [(&str, &str, &str, Figure); 9] = [
        ("curfew_capacity_sessions", "gauge", "Sessions that the zone has room for.", |stats| stats.capacity),
        ("curfew_zone_bytes", "gauge", "Size of the zone.", |stats| stats.bytes),
        ("curfew_live_sessions", "gauge", "Sessions that have not ended.", |stats| stats.live),
        ("curfew_used_sessions", "gauge", "Live sessions and ended ones that are remembered.", |stats| stats.used),
        ("curfew_sessions_started_total", "counter", "Sessions started.", |stats| stats.started),
        ("curfew_sessions_rotated_total", "counter", "Sessions that got a new id.", |stats| stats.rotated),
        ("curfew_starts_refused_full_total", "counter", "Starts refused: the zone was full.", |stats| {
            stats.refused_full
        }),
        (
            "curfew_starts_refused_limited_total",
            "counter",
            "Starts refused: the subject had enough sessions.",
            |stats| stats.refused_limited,
        ),
        ("curfew_binding_mismatches_total", "counter", "Requests without what their session is bound to.", |stats| {
            stats.mismatches
        }),
    ];
    let label = |zone: &Zone| zone.name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let all: Vec<_> =
        zones.iter().map(|zone| (label(zone), zone.table(request.log()).map(|table| table.stats()))).collect();
    let mut text = String::new();
    let _ = writeln!(text, "# HELP curfew_zone_usable Whether this worker can use the zone.");
    let _ = writeln!(text, "# TYPE curfew_zone_usable gauge");
    for (zone, stats) in &all {
        let _ = writeln!(text, "curfew_zone_usable{{zone=\"{zone}\"}} {}", u8::from(stats.is_some()));
    }
    for (name, help, number) in [
        ("curfew_errors_total", "Requests whose session could not be looked at.", 0),
        ("curfew_requests_denied_total", "Requests refused.", 1),
        ("curfew_requests_cut_total", "Requests that were ended with their session while they went on.", 2),
    ] {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
        for zone in zones {
            let counted = counted(zone)[number];
            let _ = writeln!(text, "{name}{{zone=\"{}\"}} {counted}", label(zone));
        }
    }
    let usable = || all.iter().filter_map(|(zone, stats)| Some((zone, stats.as_ref()?)));
    for (name, kind, help, figure) in families {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (zone, stats) in usable() {
            let _ = writeln!(text, "{name}{{zone=\"{zone}\"}} {}", figure(stats));
        }
    }
    let name = "curfew_sessions_ended_total";
    let _ = writeln!(text, "# HELP {name} Sessions ended, by cause.\n# TYPE {name} counter");
    for (zone, stats) in usable() {
        for cause in Cause::ALL {
            let ended = stats.ended_by(cause);
            let _ = writeln!(text, "{name}{{zone=\"{zone}\",cause=\"{}\"}} {ended}", cause.name());
        }
    }
    text
}

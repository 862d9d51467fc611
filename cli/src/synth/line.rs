//! Spells out a step as a line in combined format.
//!
//! Addresses are those set aside for documentation (RFC 5737, RFC 3849), names end in example.org
//! (RFC 2606).

use std::io::{self, Write};

use jiff::civil::Date;

use super::agenda::DAY;
use super::chance::Chance;
use super::people::{Step, What, Who};

const NAMES: [&str; 24] = [
    "ada", "ben", "carla", "deniz", "elif", "fritz", "grace", "hugo", "ines", "jonas", "kira", "luis", "mei", "nils",
    "olga", "pavel", "quinn", "rosa", "sam", "tara", "ulf", "vera", "wim", "yara",
];
const PAGES: [&str; 12] = [
    "/",
    "/inbox",
    "/inbox/message/",
    "/calendar",
    "/wiki/page-",
    "/wiki/search?q=",
    "/tickets/",
    "/tickets?page=",
    "/reports/",
    "/files/",
    "/people/",
    "/settings",
];
const ASSETS: [&str; 6] = [
    "/static/app.js",
    "/static/style.css",
    "/static/logo.svg",
    "/avatar/",
    "/api/notifications",
    "/api/presence?after=",
];
const BROWSERS: [&str; 6] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/133.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:135.0) Gecko/20100101 Firefox/135.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.3 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:135.0) Gecko/20100101 Firefox/135.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/133.0.0.0 Safari/537.36 Edg/133.0.0.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_3 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.3 Mobile/15E148 Safari/604.1",
];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

pub(crate) struct Lines {
    start: Date,
    /// The day whose date stands in `date`.
    day: Option<u64>,
    date: String,
    line: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(start: Date) -> Lines {
        Lines { start, day: None, date: String::new(), line: Vec::new() }
    }

    /// Writes the line of `step`, `time` seconds after the beginning of the first day.
    pub(crate) fn write(&mut self, to: &mut impl Write, time: u64, step: &Step, chance: &mut Chance) -> io::Result<()> {
        self.turn_to(time / DAY);
        let Lines { line, date, .. } = self;
        line.clear();
        address(line, step.who);
        line.extend_from_slice(b" - ");
        match step.who {
            _ if step.what == What::LoginPage => line.push(b'-'),
            Who::Person { number, .. } => {
                line.extend_from_slice(NAMES[number as usize % NAMES.len()].as_bytes());
                decimal(line, number / NAMES.len() as u32 + 1);
            }
            Who::Poller { number } => {
                line.extend_from_slice(b"monitor");
                decimal(line, number + 1);
            }
        }
        line.extend_from_slice(b" [");
        line.extend_from_slice(date.as_bytes());
        let second = (time % DAY) as u32;
        for part in [second / 3600, second / 60 % 60, second % 60] {
            line.extend_from_slice(&[b':', b'0' + (part / 10) as u8, b'0' + (part % 10) as u8]);
        }
        line.extend_from_slice(b" +0000] \"");
        request(line, step.what, chance);
        agent(line, step.who);
        to.write_all(line)
    }

    fn turn_to(&mut self, day: u64) {
        if self.day != Some(day) {
            self.day = Some(day);
            // Far from the end of the calendar, as the arguments are checked.
            let date = self.start.saturating_add(jiff::Span::new().days(day as i64));
            let month = MONTHS[usize::from(date.month().unsigned_abs() - 1)];
            self.date = format!("{:02}/{month}/{:04}", date.day(), date.year());
        }
    }
}

/// Method, path, status, size and referrer.
fn request(line: &mut Vec<u8>, what: What, chance: &mut Chance) {
    let (method, path): (&str, &str) = match what {
        What::LoginPage => ("GET ", "/login"),
        What::Login => ("POST ", "/login"),
        What::Page => ("GET ", chance.of(&PAGES)),
        What::Asset => ("GET ", chance.of(&ASSETS)),
        What::Poll => ("GET ", "/api/health"),
    };
    line.extend_from_slice(method.as_bytes());
    line.extend_from_slice(path.as_bytes());
    if path.ends_with(['-', '=']) || path.len() > 1 && path.ends_with('/') {
        decimal(line, chance.below(5000));
    }
    let status = match what {
        What::Login => "302",
        What::Asset if chance.percent(60) => "304",
        What::Page if chance.percent(1) => "404",
        _ => "200",
    };
    line.extend_from_slice(b" HTTP/1.1\" ");
    line.extend_from_slice(status.as_bytes());
    line.push(b' ');
    match (status, what) {
        ("304" | "302", _) => line.push(b'0'),
        (_, What::Poll) => line.extend_from_slice(b"17"),
        _ => decimal(line, chance.between(300, 60_000)),
    }
    line.extend_from_slice(match what {
        What::Asset => b" \"https://portal.example.org/\" \"".as_slice(),
        _ => b" \"-\" \"".as_slice(),
    });
}

/// Some sit behind the office's few addresses, some have one of their own; at home everyone has.
fn address(line: &mut Vec<u8>, who: Who) {
    let (net, host) = match who {
        Who::Poller { number } => ("203.0.113.", 1 + number % 254),
        Who::Person { number, at_home: true } => {
            let _ = write!(line, "2001:db8:{:x}:{:x}::1", number >> 16, number & 0xffff);
            return;
        }
        Who::Person { number, .. } if number % 8 < 5 => ("192.0.2.", 1 + number % 3),
        Who::Person { number, .. } => ("198.51.100.", 1 + number % 254),
    };
    line.extend_from_slice(net.as_bytes());
    decimal(line, host);
}

fn agent(line: &mut Vec<u8>, who: Who) {
    let agent = match who {
        Who::Poller { .. } => "health-check/2.1",
        Who::Person { at_home: true, number } if number % 3 == 0 => BROWSERS[5],
        Who::Person { number, .. } => BROWSERS[number as usize % 5],
    };
    line.extend_from_slice(agent.as_bytes());
    line.extend_from_slice(b"\"\n");
}

fn decimal(line: &mut Vec<u8>, number: u32) {
    let mut digits = [0; 10];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    line.extend_from_slice(&digits[at..]);
}

//! The common log format, the combined one, and both with a virtual host before or fields behind.
//!
//! A line is `host ident user [time] "request...`. Host and ident hold no space; the user may, and ends
//! at the first ` [` behind which a bracketed time and a quote stand.

use super::time::{Clock, is_space};
use super::{LineParser, What, is_nobody};
use memchr::memchr;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Key {
    Ip,
    Ident,
    User,
    IpAgent,
}

pub(crate) struct Clf {
    pub(crate) key: Key,
    /// A virtual host stands before the client's address.
    pub(crate) virtual_host: bool,
    clock: Clock,
    joined: Vec<u8>,
}

impl Clf {
    pub(crate) fn new(key: Key, virtual_host: bool) -> Clf {
        Clf { key, virtual_host, clock: Clock::new(), joined: Vec::new() }
    }
}

impl LineParser for Clf {
    #[inline]
    fn line<'a>(&'a mut self, line: &'a [u8]) -> What<'a> {
        let from = match self.virtual_host {
            false => Some(0),
            true => word(line, 0).map(|end| end + 1),
        };
        let Some(parts) = from.and_then(|from| split(line, from)) else { return What::Unparsed };
        let Some(time_ms) = self.clock.read(parts.time) else { return What::Unparsed };
        let key = match self.key {
            Key::Ip => parts.host,
            Key::Ident => parts.ident,
            Key::User => parts.user,
            Key::IpAgent if is_nobody(parts.host) => parts.host,
            Key::IpAgent => {
                super::join(&mut self.joined, parts.host, agent(parts.rest).unwrap_or(b"-"));
                &self.joined
            }
        };
        if is_nobody(key) { What::NoKey } else { What::Event { time_ms, key } }
    }
}

struct Parts<'a> {
    host: &'a [u8],
    ident: &'a [u8],
    user: &'a [u8],
    time: &'a [u8],
    /// What follows the quote that opens the request.
    rest: &'a [u8],
}

#[inline]
fn split(line: &[u8], from: usize) -> Option<Parts<'_>> {
    let host_end = word(line, from)?;
    let ident_end = word(line, host_end + 1)?;
    let user_from = ident_end + 1;
    // The user has one byte at least, and a space behind it.
    let mut search = user_from + 2;
    loop {
        let open = search + memchr(b'[', line.get(search..)?)?;
        let time_from = open + 1;
        search = time_from;
        if line[open - 1] != b' ' {
            continue;
        }
        let close = match line.get(time_from + 26) {
            Some(b']') if !line[time_from..time_from + 26].contains(&b']') => time_from + 26,
            // Without any bracket that closes no later opening one can do better.
            _ => time_from + memchr(b']', &line[time_from..])?,
        };
        if close == time_from {
            continue;
        }
        if line[close..].starts_with(b"] \"") {
            return Some(Parts {
                host: &line[from..host_end],
                ident: &line[host_end + 1..ident_end],
                user: &line[user_from..open - 1],
                time: &line[time_from..close],
                rest: &line[close + 3..],
            });
        }
        // A closing bracket that does not fit this opening one fits none between the two either.
        search = close;
    }
}

const PLAIN: u8 = 0;
const SPACE: u8 = 1;
const OTHER_SPACE: u8 = 2;
const WIDE: u8 = 3;

static CLASS: [u8; 256] = {
    let mut class = [PLAIN; 256];
    let mut byte = 0;
    while byte < 256 {
        if byte == b' ' as usize {
            class[byte] = SPACE;
        } else if byte < 128 && is_space(byte as u8) {
            class[byte] = OTHER_SPACE;
        } else if byte >= 128 {
            class[byte] = WIDE;
        }
        byte += 1;
    }
    class
};

/// Where the word at `from` ends: at a space, and with no white space of another kind in it.
#[inline]
fn word(line: &[u8], from: usize) -> Option<usize> {
    let mut wide = false;
    let mut at = from;
    loop {
        match CLASS[usize::from(*line.get(at)?)] {
            PLAIN => {}
            SPACE => break,
            WIDE => wide = true,
            _ => return None,
        }
        at += 1;
    }
    (at > from && !(wide && has_wide_space(&line[from..at]))).then_some(at)
}

#[cold]
fn has_wide_space(word: &[u8]) -> bool {
    word.utf8_chunks().any(|chunk| chunk.valid().contains(char::is_whitespace))
}

/// The user agent: the third of the quoted fields, behind the request, two numbers and the referrer.
fn agent(request: &[u8]) -> Option<&[u8]> {
    let behind_request = &request[closing(request)? + 1..];
    let referrer = &behind_request[memchr(b'"', behind_request)? + 1..];
    let behind_referrer = &referrer[closing(referrer)? + 1..];
    let agent = &behind_referrer[memchr(b'"', behind_referrer)? + 1..];
    Some(&agent[..closing(agent)?])
}

/// The first quote that no backslash takes away.
fn closing(text: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'"', text)
        .find(|&at| text[..at].iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 0)
}

/// What one line shows of the kind of its log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shape {
    pub(crate) virtual_host: bool,
    pub(crate) combined: bool,
}

/// The shape of a line, if it is one of this format.
pub(crate) fn shape(line: &[u8]) -> Option<Shape> {
    let plain = split(line, 0)?;
    Clock::new().read(plain.time)?;
    let shifted = split(line, plain.host.len() + 1);
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    let is_address = |bytes| text(bytes).parse::<std::net::IpAddr>().is_ok();
    // With a virtual host the second word is the address; or, where names are logged, the first one has a port.
    let has_port = text(plain.host)
        .rsplit_once(':')
        .is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok() && !is_address(plain.host));
    let named = has_port && plain.ident != b"-" && plain.user.starts_with(b"- ");
    let virtual_host = shifted.is_some() && (is_address(plain.ident) || named);
    Some(Shape { virtual_host, combined: agent(plain.rest).is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINE: &str = r#"10.0.0.1 id ann [12/May/2024:00:00:17 +0000] "GET / HTTP/1.1" 200 5 "-" "curl/8""#;

    fn read(key: Key, line: &str) -> Option<(i64, String)> {
        match Clf::new(key, false).line(line.as_bytes()) {
            What::Event { time_ms, key } => Some((time_ms, String::from_utf8_lossy(key).into())),
            What::NoKey => Some((0, String::new())),
            What::Unparsed => None,
        }
    }

    fn key(key: Key, line: &str) -> Option<String> {
        read(key, line).map(|(_, key)| key)
    }

    #[test]
    fn every_key_of_a_combined_line_is_found() {
        assert_eq!(read(Key::Ip, LINE), Some((1_715_472_017_000, "10.0.0.1".into())));
        assert_eq!(key(Key::Ident, LINE).unwrap(), "id");
        assert_eq!(key(Key::User, LINE).unwrap(), "ann");
        assert_eq!(key(Key::IpAgent, LINE).unwrap(), "10.0.0.1\tcurl/8");
    }

    #[test]
    fn a_user_may_hold_spaces_commas_and_brackets() {
        let line = |user| format!(r#"h - {user} [12/May/2024:00:00:17 +0000] "GET / HTTP/1.1" 200 5"#);
        for user in
            ["John Smith", "uid=a,ou=b c,dc=d", "a [b", "a [b] c", "a[b]", " ", "a ", "[", "a [] b", "x [y] \"", "é ü"]
        {
            // Behind the first ` [` that fits the pattern stands what is no time.
            let expected = if ["a [b", "x [y] \""].contains(&user) { None } else { Some(user.to_string()) };
            assert_eq!(key(Key::User, &line(user)), expected, "{user}");
        }
    }

    #[test]
    fn a_missing_field_makes_the_line_unparsed() {
        for line in [
            "",
            "h",
            "h - ",
            r#"h - [12/May/2024:00:00:17 +0000] "GET /""#,
            r#"h -  [12/May/2024:00:00:17 +0000] "GET /""#,
            r#" h - - [12/May/2024:00:00:17 +0000] "GET /""#,
            r#"h - - [12/May/2024:00:00:17 +0000] GET /"#,
            r#"h - - [12/May/2024:00:00:17 +0000]"#,
            r#"h - - [] "GET /""#,
            r#"h - - [31/Feb/2024:00:00:17 +0000] "GET /""#,
            "h\t- - - [12/May/2024:00:00:17 +0000] \"GET /\"",
            "h\u{a0}x - - [12/May/2024:00:00:17 +0000] \"GET /\"",
        ] {
            assert_eq!(key(Key::Ip, line), None, "{line}");
        }
    }

    #[test]
    fn a_dash_is_no_key() {
        let line = r#"- - - [12/May/2024:00:00:17 +0000] "GET /""#;
        for each in [Key::Ip, Key::Ident, Key::User, Key::IpAgent] {
            assert_eq!(key(each, line).unwrap(), "", "{each:?}");
        }
    }

    #[test]
    fn two_quotes_are_no_key_and_more_are_one() {
        let line = |user| format!(r#"h {user} {user} [12/May/2024:00:00:17 +0000] "GET /""#);
        for each in [Key::Ident, Key::User] {
            assert_eq!(key(each, &line(r#""""#)).unwrap(), "", "{each:?}");
            assert_eq!(key(each, &line(r#""a""#)).unwrap(), r#""a""#, "{each:?}");
        }
        assert_eq!(key(Key::Ip, &line(r#""""#)).unwrap(), "h");
    }

    #[test]
    fn quotes_in_the_request_do_not_shift_the_user_agent() {
        let line = r#"h - - [12/May/2024:00:00:17 +0000] "GET /\"a\\" 200 5 "r \"x\"" "ua \"1\"" "more""#;
        assert_eq!(key(Key::IpAgent, line).unwrap(), r#"h	ua \"1\""#);
    }

    #[test]
    fn a_line_without_user_agent_has_a_dash_for_it() {
        let line = r#"h - - [12/May/2024:00:00:17 +0000] "GET / HTTP/1.1" 200 5"#;
        assert_eq!(key(Key::IpAgent, line).unwrap(), "h\t-");
    }

    #[test]
    fn the_shape_tells_virtual_hosts_from_users_with_spaces() {
        let tail = r#"[12/May/2024:00:00:17 +0000] "GET / HTTP/1.1" 200 5"#;
        let virtual_host = |head: &str| shape(format!("{head} {tail}").as_bytes()).map(|shape| shape.virtual_host);
        assert_eq!(virtual_host("example.org:443 10.0.0.1 - -"), Some(true));
        assert_eq!(virtual_host("example.org 10.0.0.1 - ann"), Some(true));
        assert_eq!(virtual_host("example.org ::1 - ann b"), Some(true));
        assert_eq!(virtual_host("example.org:80 client.example.net - -"), Some(true));
        assert_eq!(virtual_host("10.0.0.1 - John Smith"), Some(false));
        assert_eq!(virtual_host("::1 - - -"), Some(false));
        assert_eq!(virtual_host("10.0.0.1 - -"), Some(false));
        assert_eq!(virtual_host("10.0.0.1 -"), None);
    }

    #[test]
    fn a_virtual_host_is_stepped_over() {
        let line = format!("example.org:443 {LINE}");
        let mut clf = Clf::new(Key::User, true);
        assert!(matches!(clf.line(line.as_bytes()), What::Event { key: b"ann", .. }));
        let plain = LINE.replace("id ann", "- -");
        assert!(matches!(clf.line(plain.as_bytes()), What::Unparsed));
    }

    #[test]
    fn many_brackets_take_no_longer_than_few() {
        let line = format!("h - {}", " [a".repeat(1 << 18));
        assert_eq!(key(Key::User, &line), None);
        let line = format!("h - {}]", " [a".repeat(1 << 18));
        assert_eq!(key(Key::User, &line), None);
        let line = format!("h - {}]", "x[a".repeat(1 << 18));
        assert_eq!(key(Key::User, &line), None);
    }

    /// The pattern of the format, tried the slow way: every opening bracket in turn.
    fn slow_user(line: &str) -> Option<(&str, &str)> {
        let mut words = line.splitn(3, ' ');
        let (host, ident, rest) = (words.next()?, words.next()?, words.next()?);
        if [host, ident].iter().any(|word| word.is_empty() || word.contains(|c: char| c.is_whitespace())) {
            return None;
        }
        rest.match_indices(" [").filter(|(at, _)| *at > 0).find_map(|(at, _)| {
            let time = &rest[at + 2..];
            let end = time.find(']').filter(|&end| end > 0 && time[end..].starts_with("] \""))?;
            Some((&rest[..at], &time[..end]))
        })
    }

    proptest! {
        #[test]
        fn the_user_ends_where_the_pattern_says(line in "[hé]{0,2} -? ?([ \\[\\]\"a-b]|\\] \"| \\[){0,24}") {
            let fast = split(line.as_bytes(), 0).map(|parts| (parts.user, parts.time));
            prop_assert_eq!(fast, slow_user(&line).map(|(user, time)| (user.as_bytes(), time.as_bytes())));
        }

        #[test]
        fn no_bytes_make_it_panic(line in prop::collection::vec(any::<u8>(), 0..120), virtual_host: bool) {
            for each in [Key::Ip, Key::Ident, Key::User, Key::IpAgent] {
                let _ = Clf::new(each, virtual_host).line(&line);
            }
            let _ = shape(&line);
        }

        #[test]
        fn no_damaged_line_makes_it_panic(at in 0..LINE.len(), byte: u8, length in 0..=LINE.len()) {
            let mut line = LINE.as_bytes().to_vec();
            line[at] = byte;
            line.truncate(length);
            let _ = Clf::new(Key::IpAgent, false).line(&line);
            let _ = shape(&line);
        }
    }
}

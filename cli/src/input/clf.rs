//! The common log format, the combined one, and both with fields behind; what may stand before is told in `head`.

use super::address::without_port;
use super::head::{self, Head};
use super::time::Clock;
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
    clock: Clock,
    joined: Vec<u8>,
}

impl Clf {
    pub(crate) fn new(key: Key) -> Clf {
        Clf { key, clock: Clock::new(), joined: Vec::new() }
    }

    /// Apart from what most lines need, which stays in registers so.
    #[inline(never)]
    fn awkward<'a>(&'a mut self, line: &'a [u8]) -> What<'a> {
        head::awkward(line).map_or(What::Unparsed, |head| self.what(head))
    }

    #[inline]
    fn what<'a>(&'a mut self, head: Head<'a>) -> What<'a> {
        let Some(time_ms) = self.clock.read(head.time) else { return What::Unparsed };
        let host = if head.colon { without_port(head.host) } else { head.host };
        let key = match self.key {
            Key::Ip => host,
            Key::Ident => head.ident,
            Key::User => head.user,
            Key::IpAgent if is_nobody(host) => host,
            Key::IpAgent => {
                super::join(&mut self.joined, host, agent(head.rest).unwrap_or(b"-"));
                &self.joined
            }
        };
        if is_nobody(key) { What::NoKey } else { What::Event { time_ms, key } }
    }
}

impl LineParser for Clf {
    #[inline]
    fn line<'a>(&'a mut self, line: &'a [u8]) -> What<'a> {
        match head::plain(line) {
            Some(head) => self.what(head),
            None => self.awkward(line),
        }
    }
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
    pub(crate) combined: bool,
    pub(crate) virtual_host: bool,
    pub(crate) syslog: bool,
}

/// The shape of a line, if it is one of this format.
pub(crate) fn shape(line: &[u8]) -> Option<Shape> {
    let head = head::plain(line).or_else(|| head::awkward(line))?;
    Clock::new().read(head.time)?;
    Some(Shape { combined: agent(head.rest).is_some(), virtual_host: head.virtual_host, syslog: head.syslog })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINE: &str = r#"10.0.0.1 id ann [12/May/2024:00:00:17 +0000] "GET / HTTP/1.1" 200 5 "-" "curl/8""#;

    fn read(key: Key, line: &str) -> Option<(i64, String)> {
        match Clf::new(key).line(line.as_bytes()) {
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
    fn a_connection_s_port_is_no_part_of_the_address() {
        for (host, address) in [("10.0.0.1:40000", "10.0.0.1"), ("[::1]:80", "::1"), ("::1", "::1"), ("h:80", "h:80")] {
            let line = LINE.replace("10.0.0.1", host);
            assert_eq!(key(Key::Ip, &line).unwrap(), address);
            assert_eq!(key(Key::IpAgent, &line).unwrap(), format!("{address}\tcurl/8"));
        }
        assert_eq!(key(Key::User, &LINE.replace("ann", "10.0.0.1:40000")).unwrap(), "10.0.0.1:40000");
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

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(line in prop::collection::vec(any::<u8>(), 0..120)) {
            for each in [Key::Ip, Key::Ident, Key::User, Key::IpAgent] {
                let _ = Clf::new(each).line(&line);
            }
            let _ = shape(&line);
        }

        #[test]
        fn no_damaged_line_makes_it_panic(at in 0..LINE.len(), byte: u8, length in 0..=LINE.len()) {
            let mut line = LINE.as_bytes().to_vec();
            line[at] = byte;
            line.truncate(length);
            let _ = Clf::new(Key::IpAgent).line(&line);
            let _ = shape(&line);
        }
    }
}

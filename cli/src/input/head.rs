//! What stands before the request in a line of the common format, told line by line.
//!
//! The format has `host ident user [time] "request`. Host and ident hold no space; the user may, and ends at
//! the first ` [` behind which a bracketed time and a quote stand. So a line of three words is plain. One with
//! more has a user with spaces in it, or something that is not of the format: a list of addresses, a virtual
//! host, the prefix of a syslog. What is none of these is not guessed at.

use super::address::{self, Kind};
use super::time::{self, is_space};
use memchr::memchr;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    pub(crate) host: &'a [u8],
    pub(crate) ident: &'a [u8],
    pub(crate) user: &'a [u8],
    pub(crate) time: &'a [u8],
    /// What follows the quote that opens the request.
    pub(crate) rest: &'a [u8],
    /// Whether there may be a colon in the host, and so a port.
    pub(crate) colon: bool,
    pub(crate) virtual_host: bool,
    pub(crate) syslog: bool,
}

/// Three words and a time as long as any usual one: all that most logs ever have.
#[inline]
pub(crate) fn plain(line: &[u8]) -> Option<Head<'_>> {
    let (host_end, seen) = word(line, 0)?;
    // A list, or a stamp.
    if seen & COMMA != 0 || line[0] == b'<' || host_end >= 19 && line[10] == b'T' {
        return None;
    }
    let (ident_end, _) = word(line, host_end + 1)?;
    let behind = line.get(ident_end + 1..)?;
    let user_end = memchr(b' ', behind).filter(|&end| end > 0)?;
    let bracketed = behind[user_end..].strip_prefix(b" [")?;
    let end = memchr(b']', bracketed).filter(|&end| end == 26)?;
    let (time, rest) = bracketed.split_at(end);
    let rest = rest.strip_prefix(b"] \"")?;
    let (host, ident) = (&line[..host_end], &line[host_end + 1..ident_end]);
    let user = &behind[..user_end];
    Some(Head { host, ident, user, time, rest, colon: seen & COLON != 0, virtual_host: false, syslog: false })
}

/// What is left to be told when a line is not plain.
pub(crate) fn awkward(line: &[u8]) -> Option<Head<'_>> {
    match behind_syslog(line) {
        Some(message) => Some(Head { syslog: true, ..told(message, true)? }),
        None => told(line, true),
    }
}

/// A line that begins with its host, or with a virtual host if it may.
fn told(line: &[u8], may_be_virtual: bool) -> Option<Head<'_>> {
    let (first_end, seen) = word(line, 0)?;
    let host = if seen & COMMA == 0 { &line[..first_end] } else { list(line)? };
    let head = fields(host, line.get(host.len() + 1..)?)?;
    let is_list = seen & COMMA != 0;
    let head = if is_list { Head { host: address::first_of(host), ..head } } else { head };
    if !head.user.contains(&b' ') {
        return Some(head);
    }
    let kind = if is_list { Kind::Address } else { address::kind(host) };
    let behind_virtual_host = || {
        let inner = told(&line[first_end + 1..], false).filter(|_| may_be_virtual)?;
        Some(Head { virtual_host: true, ..inner })
    };
    if head.ident == b"-" {
        Some(head).filter(|head| kind != Kind::Other || !holds_address(head.user))
    } else if leads_with_address(head.ident) {
        // Of two addresses none can be told to be the person's, unless the first has the port of a server.
        let server = kind == Kind::Other || kind == Kind::WithPort && address::kind(head.ident) != Kind::WithPort;
        if server { behind_virtual_host() } else { None }
    } else if let Some(user) = head.user.strip_prefix(b"- ") {
        // No user begins so: a word more stands there than the format has.
        match kind {
            Kind::Address => {
                Some(Head { ident: b"-", user, virtual_host: true, ..head }).filter(|_| !user.contains(&b' '))
            }
            _ => behind_virtual_host(),
        }
    } else {
        Some(head).filter(|head| kind != Kind::Other || !(holds_address(head.user) || holds_dash(head.user)))
    }
}

/// `ident user [time] "request`, tried at every ` [`.
fn fields<'a>(host: &'a [u8], line: &'a [u8]) -> Option<Head<'a>> {
    let (ident_end, _) = word(line, 0)?;
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
        // Without any bracket that closes no later opening one can do better.
        let close = time_from + memchr(b']', &line[time_from..])?;
        if close == time_from {
            continue;
        }
        if let Some(rest) = line[close..].strip_prefix(b"] \"") {
            let (ident, user, time) = (&line[..ident_end], &line[user_from..open - 1], &line[time_from..close]);
            return Some(Head { host, ident, user, time, rest, colon: true, virtual_host: false, syslog: false });
        }
        // A closing bracket that does not fit this opening one fits none between the two either.
        search = close;
    }
}

/// The list of addresses at the beginning: words with a comma at their end, and one more.
fn list(line: &[u8]) -> Option<&[u8]> {
    let (mut end, _) = word(line, 0)?;
    while line[end - 1] == b',' {
        (end, _) = word(line, end + 1)?;
    }
    Some(&line[..end])
}

fn leads_with_address(word: &[u8]) -> bool {
    word.ends_with(b",") || address::kind(address::first_of(word)) != Kind::Other
}

/// Whether a host, an ident and a user could stand within what is taken for the user.
fn holds_address(user: &[u8]) -> bool {
    let words: Vec<_> = user.split(|&byte| byte == b' ').collect();
    words.iter().rev().skip(2).any(|word| leads_with_address(word))
}

fn holds_dash(user: &[u8]) -> bool {
    user.split(|&byte| byte == b' ').rev().skip(1).any(|word| word == b"-")
}

/// What stands behind the prefix of a syslog: `<34>`, a stamp, a host and `tag:`. A stamp of RFC 3339 may stand
/// alone, as container logs have it.
fn behind_syslog(line: &[u8]) -> Option<&[u8]> {
    let line = match line {
        [b'<', rest @ ..] => {
            let end = memchr(b'>', &rest[..rest.len().min(4)]).filter(|&end| end > 0)?;
            rest[..end].iter().all(u8::is_ascii_digit).then(|| &rest[end + 1..])?
        }
        line => line,
    };
    let message = match bsd_stamp(line) {
        Some(rest) => behind_tag(rest)?,
        None => {
            let (stamp, rest) = first_word(line)?;
            let is_stamp = stamp.len() >= 19 && stamp[10] == b'T' && time::guess(stamp).is_some();
            is_stamp.then(|| behind_tag(rest).unwrap_or(rest))?
        }
    };
    Some(message.trim_ascii_start())
}

/// What stands behind `Mmm dd hh:mm:ss `.
fn bsd_stamp(line: &[u8]) -> Option<&[u8]> {
    let (stamp, rest) = line.split_at_checked(16)?;
    let fits = |(byte, shape): (&u8, &u8)| match shape {
        b'd' => byte.is_ascii_digit(),
        b'_' => byte.is_ascii_digit() || *byte == b' ',
        b'a' => true,
        other => byte == other,
    };
    let shaped = stamp.iter().zip(b"aaa _d dd:dd:dd ").all(fits);
    time::month(&stamp[..3]).filter(|_| shaped).map(|_| rest)
}

/// What stands behind `tag:` or `host tag:`.
fn behind_tag(line: &[u8]) -> Option<&[u8]> {
    let (first, rest) = first_word(line)?;
    if first.ends_with(b":") {
        return Some(rest);
    }
    let (second, rest) = first_word(rest)?;
    second.ends_with(b":").then_some(rest)
}

fn first_word(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr(b' ', line)?;
    Some((&line[..end], &line[end + 1..]))
}

const SPACE: u8 = 1;
const OTHER_SPACE: u8 = 2;
const WIDE: u8 = 4;
const COMMA: u8 = 8;
const COLON: u8 = 16;

static CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            b' ' => SPACE,
            b',' => COMMA,
            b':' => COLON,
            128.. => WIDE,
            other if is_space(other) => OTHER_SPACE,
            _ => 0,
        };
        byte += 1;
    }
    class
};

/// Where the word at `from` ends, at a space and with no white space of another kind in it, and what is in it.
#[inline]
fn word(line: &[u8], from: usize) -> Option<(usize, u8)> {
    let mut seen = 0;
    let mut at = from;
    loop {
        let class = CLASS[usize::from(*line.get(at)?)];
        if class & (SPACE | OTHER_SPACE) != 0 {
            let whole = class == SPACE && at > from && !(seen & WIDE != 0 && has_wide_space(&line[from..at]));
            return whole.then_some((at, seen));
        }
        seen |= class;
        at += 1;
    }
}

#[cold]
fn has_wide_space(word: &[u8]) -> bool {
    word.utf8_chunks().any(|chunk| chunk.valid().contains(char::is_whitespace))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(line: &[u8]) -> Option<Head<'_>> {
        plain(line).or_else(|| awkward(line))
    }

    const TAIL: &str = r#" [12/May/2024:00:00:17 +0000] "GET / HTTP/1.1" 200 5"#;

    /// Host, ident and user, and what was stepped over.
    fn read(front: &str) -> Option<(String, &'static str)> {
        let line = format!("{front}{TAIL}");
        let Head { host, ident, user, virtual_host, syslog, .. } = head(line.as_bytes())?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let over = match (virtual_host, syslog) {
            (false, false) => "",
            (true, false) => "virtual host",
            (false, true) => "syslog",
            (true, true) => "both",
        };
        Some((format!("{}|{}|{}", text(host), text(ident), text(user)), over))
    }

    fn reads(front: &str, fields: &str, over: &'static str) {
        assert_eq!(read(front), Some((fields.into(), over)), "{front}");
    }

    #[test]
    fn the_first_address_of_a_list_is_the_host() {
        reads("203.0.113.1, 10.0.0.9 - ann", "203.0.113.1|-|ann", "");
        reads("203.0.113.1, 10.0.0.8, 10.0.0.9 - John Smith", "203.0.113.1|-|John Smith", "");
        reads("203.0.113.1,10.0.0.9 - ann", "203.0.113.1|-|ann", "");
        reads("203.0.113.1,10.0.0.8, 10.0.0.9 - -", "203.0.113.1|-|-", "");
        reads("2001:db8::1, 10.0.0.9 id ann", "2001:db8::1|id|ann", "");
        reads("unknown, 203.0.113.1, 10.0.0.9 - ann", "203.0.113.1|-|ann", "");
        reads("unknown, hidden - ann", "unknown|-|ann", "");
        reads("example.org:443 203.0.113.1, 10.0.0.9 - ann", "203.0.113.1|-|ann", "virtual host");
        assert_eq!(read("203.0.113.1, 10.0.0.9 -"), None);
        assert_eq!(read("203.0.113.1, 10.0.0.9 10.0.0.8 - ann"), None);
    }

    #[test]
    fn a_comma_in_a_user_makes_no_list() {
        reads("10.0.0.1 - uid=a,ou=b, dc=c", "10.0.0.1|-|uid=a,ou=b, dc=c", "");
        reads("10.0.0.1 - Smith, John", "10.0.0.1|-|Smith, John", "");
    }

    #[test]
    fn a_syslog_prefix_is_stepped_over() {
        let plain = "203.0.113.1|-|ann";
        for prefix in [
            "May 12 08:00:00 web1 nginx:",
            "May  2 08:00:00 web1 nginx[123]:",
            "<190>May 12 08:00:00 web1 nginx:",
            "<190>May 12 08:00:00 nginx:",
            "2024-05-12T08:00:00.123456+00:00 web1 nginx:",
            "<13>2024-05-12T08:00:00Z web1 nginx[123]:",
            "2024-05-12T08:00:00.123456789Z",
        ] {
            reads(&format!("{prefix} 203.0.113.1 - ann"), plain, "syslog");
            reads(&format!("{prefix} example.org:443 203.0.113.1 - ann"), plain, "both");
            reads(&format!("{prefix} client.example.net - John Smith"), "client.example.net|-|John Smith", "syslog");
            reads(&format!("{prefix} 203.0.113.1, 10.0.0.9 - ann"), plain, "syslog");
        }
    }

    #[test]
    fn what_else_stands_before_the_address_is_not_guessed_at() {
        for prefix in [
            "web-1  |",
            "web-1 |",
            "2024-05-12 08:00:00",
            "May 12 08:00:00",
            "May 12 08:00:00 web1",
            "Mai 12 08:00:00 web1 nginx:",
            "<190>1 2024-05-12T08:00:00Z web1 nginx 123 - -",
            "2024-05-12T08:00:00.123Z stdout F",
            "<1234>May 12 08:00:00 web1 nginx:",
            "kernel -",
            "10.0.0.7",
        ] {
            for address in ["203.0.113.1", "203.0.113.1:40000", "2001:db8::1", "203.0.113.1, 10.0.0.9"] {
                assert_eq!(read(&format!("{prefix} {address} - ann")), None, "{prefix} {address}");
            }
        }
        assert_eq!(read("web-1 | client.example.net - ann"), None);
        // Of which a word is missing, so that the stamp could be the host.
        assert_eq!(read("2024-05-12T08:00:00.123Z 203.0.113.1 -"), None);
        assert_eq!(read("<13>2024-05-12T08:00:00Z 203.0.113.1 -"), None);
        assert_eq!(read("10.0.0.7:80 203.0.113.1:40000 - ann"), None);
        assert_eq!(read("example.org 10.0.0.7:80 203.0.113.1 - ann"), None);
    }

    #[test]
    fn a_virtual_host_is_told_from_a_user_with_spaces() {
        reads("example.org:443 10.0.0.1 - -", "10.0.0.1|-|-", "virtual host");
        reads("example.org 10.0.0.1 - ann", "10.0.0.1|-|ann", "virtual host");
        reads("example.org ::1 - ann b", "::1|-|ann b", "virtual host");
        reads("example.org 10.0.0.1:40000 id ann", "10.0.0.1:40000|id|ann", "virtual host");
        reads("192.0.2.7:443 10.0.0.1 - ann", "10.0.0.1|-|ann", "virtual host");
        reads("[2001:db8::5]:443 2001:db8::1 - ann", "2001:db8::1|-|ann", "virtual host");
        reads("- 10.0.0.1 - ann", "10.0.0.1|-|ann", "virtual host");
        reads("example.org:80 client.example.net - -", "client.example.net|-|-", "virtual host");
        reads("www.example.org client.example.net - ann", "client.example.net|-|ann", "virtual host");
        reads("10.0.0.1 www.example.org - ann", "10.0.0.1|-|ann", "virtual host");
        reads("10.0.0.1 - John Smith", "10.0.0.1|-|John Smith", "");
        reads("10.0.0.1:40000 - John Smith", "10.0.0.1:40000|-|John Smith", "");
        reads("10.0.0.1 id John - Smith", "10.0.0.1|id|John - Smith", "");
        reads("client.example.net - John Smith", "client.example.net|-|John Smith", "");
        reads("client.example.net id John Smith", "client.example.net|id|John Smith", "");
        reads("::1 - - -", "::1|-|- -", "");
        reads("10.0.0.1 10.0.0.2 ann", "10.0.0.1|10.0.0.2|ann", "");
        assert_eq!(read("10.0.0.1 -"), None);
    }

    #[test]
    fn many_brackets_commas_and_words_take_no_longer_than_few() {
        for (front, many) in [("h - ", " [a"), ("h - ", "x[a"), ("1, ", "1, "), ("h i ", "- "), ("h - ", "1.2.3.4 ")] {
            let line = format!("{front}{}", many.repeat(1 << 18));
            for line in [format!("{line}]"), format!("{line}{TAIL}"), line] {
                let _ = head(line.as_bytes());
            }
        }
    }

    /// The pattern of the format, tried the slow way: every opening bracket in turn.
    fn slow_fields(line: &str) -> Option<(&str, &str)> {
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
        fn the_user_ends_where_the_pattern_says(line in "[hé]{0,2} [-1]? ?([ \\[\\]\"a-b]|\\] \"| \\[){0,24}") {
            let fast = head(line.as_bytes()).map(|head| (head.user, head.time));
            prop_assert_eq!(fast, slow_fields(&line).map(|(user, time)| (user.as_bytes(), time.as_bytes())));
        }

        #[test]
        fn the_short_way_and_the_long_way_say_the_same(
            line in "(<1>|May 12 00:00:00 |2024-05-12T08:00:00Z )?([h1,é: ]| - |1.2.3.4 ){0,6}( \\[| \\[12/May/2024:00:00:17 .0000\\] \"|\\]| ){0,3}",
        ) {
            let fields = |head: Head<'_>| format!("{:?}", Head { colon: true, ..head });
            if let Some(short) = plain(line.as_bytes()) {
                prop_assert_eq!(awkward(line.as_bytes()).map(fields), Some(fields(short)));
            }
        }
    }
}

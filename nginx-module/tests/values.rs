//! Every value for a name that an application finds is found, however it reads.

#[allow(dead_code)]
#[path = "../src/values.rs"]
mod reader;
#[path = "values/readers.rs"]
mod readers;

use proptest::prelude::*;
use reader::{Place, values};

fn cookies<'t>(header: &'t [u8], name: &str) -> Vec<&'t [u8]> {
    values(Place::Cookie, header, name.as_bytes()).collect()
}

fn arguments<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let found = values(Place::Arguments, text.as_bytes(), name.as_bytes());
    found.map(|value| std::str::from_utf8(value).unwrap()).collect()
}

#[test]
fn a_cookie_is_found_wherever_an_application_may_begin_one() {
    for header in [
        &b"sid=A"[..],
        b" sid = A ; x=1",
        b"x=1;sid=A",
        b"x=1,SID=A",
        b"x=1 sid=A",
        b"x=1;\xc2\xa0sid=A",
        b"\xa0sid\xa0=A",
        b"x=1\x0bsid\x1f=A",
        b"x=\"a;sid=A",
        b"x=1; %73i%64=A",
        b"%20%09sid=A",
        b"x=1;+sid=A",
        b"sid%20=A",
        b"x=1; %u0073id=A",
        b"s%U0069d=A",
        b"x=1;%u00a0sid=A",
    ] {
        assert_eq!(cookies(header, "sid"), [b"A"], "{}", header.escape_ascii());
    }
    for header in ["a.b=A", "a b=A", "a[b=A", "a_b=A", "a+b=A", "a%2Eb=A", "A%5bB=A"] {
        for name in ["a_b", "a.b"] {
            assert_eq!(cookies(header.as_bytes(), name), [b"A"], "{header}");
        }
    }
    for header in ["__Host-s.d=A", "..Host-s_d=A", "[ host-s[d=A", "%5F%5FHost%2Ds%2ed=A"] {
        assert_eq!(cookies(header.as_bytes(), "__Host-s.d"), [b"A"], "{header}");
    }
}

#[test]
fn a_cookie_is_found_behind_what_an_application_leaves_out_or_ends_another_at() {
    for header in [
        // WebOb begins one behind any byte that it does not know, and behind quotes and dates.
        "x\"sid=A",
        "x[sid=A",
        "a=b]sid=A",
        "a=\"x\"sid=A",
        "a=\"b;c\"sid=A",
        "a=Wed, 01-Jan-2030 00:00:00 GMTsid=A",
        // Tomcat's LegacyCookieProcessor leaves these out.
        "a=b; \"(){}[]<>=@:?\\sid=A",
        "a=b,@ /=sid=A",
        // ASP.NET goes on behind what it could not read, if a whole pair is there.
        "x(sid=A",
        "x{sid=A",
        "x@sid=A",
        "x/sid=A",
        "x?sid=A",
        "a=b\\sid=A",
        "x =sid=A",
        "a=b\\c/d?sid=A ",
        "x{sid=A ; y=1",
        // Jetty takes quotes from around names.
        "\"sid\"=A",
        "\"s\\id\" =A",
    ] {
        let found = cookies(header.as_bytes(), "sid");
        assert!(found.iter().all(|value| value.starts_with(b"A")) && !found.is_empty(), "{header}: {found:?}");
    }
    for header in ["a=/b?sid=\"A\"", "a=sid=\"A\"", "a=sid=b=sid=\"A\", c=d"] {
        assert!(cookies(header.as_bytes(), "sid").iter().any(|value| value.starts_with(b"\"A\"")), "{header}");
    }
}

#[test]
fn what_honest_applications_and_browsers_send_is_no_second_value() {
    for other in [
        "_ga=GA1.2.1234567890.1700000000; _gid=GA1.2.3.4; _ga_X1=GS1.1.1700000000.1.1.1700000001.0.0.0",
        "__utmz=1.17.1.1.utmcsr=google|utmccn=(organic)|utmcmd=organic|utmctr=(not%20provided)",
        "OptanonConsent=isGpcEnabled=0&datestamp=Mon+Jan+01+2024+10%3A00%3A00+GMT%2B0100&hosts=&sid=1",
        "prefs={\"theme\":\"dark\",\"sid\":\"x\",\"list\":[1,{\"sid\":2}],\"q\":\"a=b c\"}",
        "prefs={\"url\":\"/page?sid=1\",\"more\":\"/page?a=1&sid=2\"}",
        "prefs=%7B%22sid%22%3A%22x%22%7D",
        "next=/page?sid=1&x=2; back=https://a.b/c?d=e&sid=2",
        "next=\"/page?sid=1\"; back=\"/?sid=1\"",
        "note=\"see /page?sid=1 for more\"; a=\"b c\"",
        "data=c2lkPXNpZD0vKw==; more=a+b/c==",
        "cart[1]=x; cart[sid]=y; cart[\"sid\"]=z; s_sq=[[B]]; o=[object Object]",
        "t=eyJhbGciOiJIUzI1NiJ9.e30.c2ln; csrf=\"Ah8=|sid|x\"; sids=1; x-sid=2; sid.sig=abc; sid!=1",
        "time=10:30; mail=a@b.c; path=C:\\dir\\sid; range=<1>; f(x)=1; sid/=1; sid:x=1",
        "expires=Wed, 01 Jan 2030 00:00:00 GMT; name=J\u{e9}r\u{f4}me Sid",
    ] {
        for header in [format!("{other}; sid=A"), format!("sid=A; {other}"), format!("a=b; sid=A; {other}")] {
            assert_eq!(cookies(header.as_bytes(), "sid"), [b"A"], "{header}");
        }
    }
}

#[test]
fn a_name_that_a_zero_cuts_off_has_some_value() {
    for header in ["sid%00x=A", "x=1;%20sid%00", "sid%20%00"] {
        assert_eq!(cookies(header.as_bytes(), "sid"), [b"\0"], "{header}");
    }
}

/// It would take minutes if each of so many had to look for its end.
#[test]
fn a_long_text_takes_as_long_as_it_is_whatever_is_in_it() {
    for piece in [
        "sid= ",
        "sid ",
        "sid%00 ",
        "sid%20 ",
        "%20sid",
        "+",
        "sid=;",
        "sid,",
        "a ",
        "%20%20 sid%20",
        "\u{a0}",
        "\"",
        "(sid=[",
        "(sid=[ ",
        "x(sid=\"[",
        "a=sid=\"",
        "=",
        "(",
        "GMT",
        "\\",
        "sid\"",
    ] {
        let text = piece.repeat((4 << 20) / piece.len());
        for place in [Place::Cookie, Place::Arguments] {
            assert!(values(place, text.as_bytes(), b"sid").count() <= text.len());
        }
    }
}

#[test]
fn what_only_looks_like_it_is_not_taken_for_it() {
    for header in [
        "xsid=A",
        "sidx=A",
        "x=sid=A",
        "next=/page?sid=A&sid=B",
        "x=a|sid=B",
        "si=d",
        "x=1 sid y=2",
        "cols=name,sid,date",
        "x=1, sid",
        "sid&x=1",
        "",
    ] {
        assert_eq!(cookies(header.as_bytes(), "sid"), [b""; 0], "{header}");
    }
    for header in ["s_d=A", "sd=A", "s--d=A", "s=d", "s-=d"] {
        assert_eq!(cookies(header.as_bytes(), "s-d"), [b""; 0], "{header}");
    }
}

#[test]
fn a_name_alone_has_the_empty_value() {
    for header in ["sid", "sid;x=1", "x=1; sid ;y=2", " sid "] {
        assert_eq!(cookies(header.as_bytes(), "sid"), [b""], "{header}");
    }
}

#[test]
fn every_value_is_given_and_those_that_are_alike_too() {
    assert_eq!(cookies(b"sid=A; sid=B;sid=A", "sid"), [b"A", b"B", b"A"]);
    assert_eq!(cookies(b"sid=A x=1; sid=B", "sid"), [&b"A x=1"[..], b"B"]);
}

#[test]
fn an_argument_is_found_however_it_is_written() {
    for (text, expected) in [
        ("sid=A", vec!["A"]),
        ("x=1&sid=A&y=2", vec!["A"]),
        ("sid=A&sid=B", vec!["A", "B"]),
        ("sid=A;sid=B", vec!["A;sid=B", "B"]),
        ("s%69d=A&SID=B", vec!["A", "B"]),
        ("+sid=A&%20sid=B", vec!["A", "B"]),
        ("sid[]=A&sid%5b%5d=B", vec!["[]=A", "%5b%5d=B"]),
        ("sid&x=1", vec![""]),
        ("sid;x=1", vec![""]),
        ("xsid=A&sidx=B&x=sid=C", vec![]),
    ] {
        assert_eq!(arguments(text, "sid"), expected, "{text}");
    }
}

/// What an application makes of a header: where it cuts it, and what it takes from around a name. All take
/// the value without white space.
type Reader = (&'static str, fn(u8) -> bool, fn(u8) -> bool, fn(&[u8]) -> Vec<u8>);

fn as_it_is(name: &[u8]) -> Vec<u8> {
    name.to_vec()
}

fn as_in_php(name: &[u8]) -> Vec<u8> {
    name.iter().map(|byte| if matches!(byte, b'.' | b' ' | b'[') { b'_' } else { *byte }).collect()
}

/// Percent-encoding undone, and what JavaScript's `escape` makes of what is no byte.
fn as_in_cgi_pm(name: &[u8]) -> Vec<u8> {
    let name = String::from_utf8_lossy(name);
    let mut pieces = name.split('%');
    let mut read = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let of = |from, to| piece.get(from..to).filter(|code: &&str| code.bytes().all(|b| b.is_ascii_hexdigit()));
        let wide = of(1, 5).filter(|_| piece.starts_with(['u', 'U']));
        let (code, rest) = match (wide, of(0, 2)) {
            (Some(code), _) => (Some(code), &piece[5..]),
            (None, Some(code)) => (Some(code), &piece[2..]),
            _ => (None, piece),
        };
        match code.and_then(|code| char::from_u32(u32::from_str_radix(code, 16).ok()?)) {
            Some(found) => read.push(found),
            None => read.push('%'),
        }
        read.push_str(rest);
    }
    read.into_bytes()
}

const READERS: &[Reader] = &[
    ("nginx", |b| matches!(b, b';' | b','), |b| b == b' ', |name| name.to_ascii_lowercase()),
    // White space of Unicode, the bytes taken for Latin-1 or for UTF-8.
    ("Django, Express", |b| b == b';', |b| b <= b' ' || b >= 0x7f, as_it_is),
    ("Python", |b| b == b';' || b.is_ascii_whitespace() || b == 0x0b, |_| false, as_it_is),
    ("PHP", |b| b == b';', |b| b.is_ascii_whitespace() || b == 0x0b, as_in_php),
    ("CGI.pm", |b| matches!(b, b';' | b','), |b| b.is_ascii_whitespace(), as_in_cgi_pm),
    ("of RFC 2965", |b| matches!(b, b';' | b','), |b| b.is_ascii_whitespace(), as_it_is),
];

fn by(reader: &Reader, header: &[u8], name: &[u8]) -> Vec<Vec<u8>> {
    let (_, cuts, is_around, spelt) = reader;
    let pairs = header.split(|byte| cuts(*byte));
    let found = pairs.filter_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let mut found = &pair[..equals];
        while let [first, rest @ ..] = found
            && is_around(*first)
        {
            found = rest;
        }
        while let [rest @ .., last] = found
            && is_around(*last)
        {
            found = rest;
        }
        // An application has its own name for the cookie by the same reading.
        (spelt(found) == spelt(name)).then(|| pair[equals + 1..].trim_ascii().to_vec())
    });
    found.collect()
}

fn headers() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&'static [u8]> = vec![
        b"s_d",
        b"sid",
        b"SID",
        b"s.d",
        b"s d",
        b"s[d",
        b"%u0073id",
        b"%73%U005fd",
        b"s-d",
        b"__Host-s.d",
        b"..Host-s_d",
        b"=",
        b"=",
        b";",
        b"; ",
        b",",
        b" ",
        b"\t",
        b"\x0b",
        b"\xc2\xa0",
        b"\xa0",
        b"\x7f",
        b"A",
        b"B",
        b"\"",
        b"x",
        b"%",
        b"some-longer-value",
        b"\xe2\x80\x83",
    ];
    proptest::collection::vec(proptest::sample::select(pieces), 0..16).prop_map(|pieces| pieces.concat())
}

fn other_headers() -> impl Strategy<Value = Vec<u8>> {
    let names = ["sid", "sid=", "s-d", "sid=A", "_=", "sid=\"A\"", "x", "y=", "$", "GMT", "a", "%20", "/", "1"];
    let others = ["\"", "\\", "[", "]", "(", "{", "}", "<", "@", ":", "?", "=", ";", ",", " ", "\t", "\n", "\u{e9}"];
    let dates = ["Wed, 01-Jan-2030 00:00:00 ", "Wed, 01-Jan-2030 00:00:00 GMTsid=", "=\"", "\\\"", "; ", "=?"];
    let pieces: Vec<&str> = names.into_iter().chain(others).chain(dates).collect();
    proptest::collection::vec(proptest::sample::select(pieces), 0..14).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]
    #[test]
    fn no_application_finds_a_value_that_is_not_found_here(header in headers(), name in "sid|s_d|s.d|s-d|__Host-s.d") {
        let here = cookies(&header, &name);
        for reader in READERS {
            for value in by(reader, &header, name.as_bytes()) {
                let is_found = here.iter().any(|found| found.starts_with(&value));
                prop_assert!(is_found, "{}: {} in {}", reader.0, value.escape_ascii(), header.escape_ascii());
            }
        }
    }

    #[test]
    fn no_server_finds_a_value_where_none_is_found_here(header in other_headers(), name in "sid|s-d|_") {
        let here = cookies(&header, &name);
        let starts: Vec<_> = here.iter().map(|found| found.as_ptr().addr().wrapping_sub(header.as_ptr().addr())).collect();
        for (reader, read) in readers::ALL {
            for (found, value) in read(&header) {
                let value = header.len() - header[value..].trim_ascii_start().len();
                // Without a value there is no session.
                let is_value = header.get(value).is_some_and(|byte| !matches!(byte, b';' | b','));
                let is_missed = found == name.as_bytes() && is_value && !starts.contains(&value);
                prop_assert!(!is_missed, "{reader}: at {value} of {}", header.escape_ascii());
            }
        }
    }

    #[test]
    fn any_bytes_are_read_to_their_end(header in proptest::collection::vec(any::<u8>(), 0..200), name in "[a-z_.-]{0,3}") {
        for place in [Place::Cookie, Place::Arguments] {
            prop_assert!(values(place, &header, name.as_bytes()).count() <= header.len() + 1);
        }
    }
}

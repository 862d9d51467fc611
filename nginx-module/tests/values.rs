//! Every value for a name that an application finds is found, however it reads.

#[allow(dead_code)]
#[path = "../src/values.rs"]
mod reader;

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
fn a_name_that_a_zero_cuts_off_has_some_value() {
    for header in ["sid%00x=A", "x=1;%20sid%00", "sid%20%00"] {
        assert_eq!(cookies(header.as_bytes(), "sid"), [b"\0"], "{header}");
    }
}

/// It would take minutes if each of so many had to look for its end.
#[test]
fn a_long_text_takes_as_long_as_it_is_whatever_is_in_it() {
    for piece in
        ["sid= ", "sid ", "sid%00 ", "sid%20 ", "%20sid", "+", "sid=;", "sid,", "a ", "%20%20 sid%20", "\u{a0}"]
    {
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
    fn any_bytes_are_read_to_their_end(header in proptest::collection::vec(any::<u8>(), 0..200), name in "[a-z_.-]{0,3}") {
        for place in [Place::Cookie, Place::Arguments] {
            prop_assert!(values(place, &header, name.as_bytes()).count() <= header.len() + 1);
        }
    }
}

//! An id that is only another text for one that is known is told from one that is not.

#[allow(dead_code)]
#[path = "../src/spellings.rs"]
mod spellings;
#[allow(dead_code)]
#[path = "../src/values.rs"]
mod values;

use spellings::{others, take_long};

fn is_for(text: &str, issued: &str) -> bool {
    others(text.as_bytes()).iter().any(|other| other == issued.as_bytes())
}

#[test]
fn what_an_application_ends_a_value_at_does_not_hide_the_id_before_it() {
    for text in [
        "E2[x",
        "E2]",
        "E2\"",
        "E2\"x",
        "\"E2\"x",
        "\"E2\"[",
        "\"E2\" x",
        "E2(x",
        "E2)",
        "E2{",
        "E2}x",
        "E2<x",
        "E2>",
        "E2@x",
        "E2:x",
        "E2?",
        "E2=x",
        "E2=",
        "E2==",
        "E2\\",
        "E2 x",
        "E2,x",
        "E2&x",
        "E2\u{e9}x",
    ] {
        assert!(is_for(text, "E2"), "{text}");
    }
    // Not everybody ends a value at the first of these.
    for (text, issued) in [
        ("a:b[x", "a:b"),
        ("a:b x", "a:b"),
        ("a=b\"x", "a=b"),
        ("a[1]=b&x", "a[1]=b"),
        ("a[1] x", "a[1]"),
        ("a[1],x", "a[1]"),
        ("a:b]=c", "a:b]"),
        ("a,b x", "a,b"),
        ("a[1]&b,x", "a[1]&b"),
        ("\"a\\b&x", "a\\b"),
        ("\" a&x\"", "a"),
        ("\"E2x", "E2"),
        ("\"E2\\046x\"", "E2"),
        ("\"a,b\"x", "a,b"),
        ("\"a\\\"b\"x", "a\"b"),
        ("E\\062]x", "E2"),
        ("%452[x", "E2"),
        ("E2[x", "\"E2\""),
        ("s:a.b[x", "s%3Aa.b"),
    ] {
        assert!(is_for(text, issued), "{text} for {issued}");
    }
}

#[test]
fn what_is_escaped_without_quotes_is_undone() {
    for text in ["\\1052", "E\\2\\", "E\\2", "\\E\\062", "\"\\1052\"", "\"\\1052\"x", "\\1052 x", "\\1052&x"] {
        assert!(is_for(text, "E2"), "{text}");
    }
}

#[test]
fn another_id_is_not_taken_for_one_that_is_known() {
    for text in
        ["E2x", "xE2", "E2.x", "E2-", "E2_", "E2~x", "E2/x", "E2'", "E2|x", "(E2", "x=E2", "[E2]", "{\"a\":\"E2\"}"]
    {
        assert!(!is_for(text, "E2"), "{text}");
    }
}

/// Some of them are read in many ways.
#[test]
fn no_text_has_so_many_others_that_a_request_would_wait_for_them() {
    for unit in ["x", ":", "x:~!/", "\\x", "%41", "xxxxxxx:", "\\\"", "%"] {
        for (head, tail) in [("", ""), ("\"", "=\"a[a]a&a,a a:"), ("", "=\"a[a]a&a,a a:")] {
            let mut text = head.to_owned();
            while !take_long(format!("{text}{unit}{tail}").as_bytes()) {
                text += unit;
            }
            let bytes: usize = others(format!("{text}{tail}").as_bytes()).iter().map(Vec::len).sum();
            assert!(bytes < 100 * 4096, "{bytes} of {head}{unit}...{tail}");
        }
    }
}

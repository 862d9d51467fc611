//! What is said when a log cannot be replayed.

use std::io::Write;

use predicates::prelude::*;
use serde_json::Value;

use crate::harness::*;

fn fails(arguments: &[&str], message: &[&str]) {
    let assert = replay().args(arguments).assert().code(2).stdout("");
    let text = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    for part in message {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
}

#[test]
fn a_mistake_in_a_policy_is_pointed_at() {
    fails(
        &["-p", "staff:idel=15m,lifetime=8h", "x.log"],
        &["did you mean \"idle\"", "    staff:idel=15m,lifetime=8h\n", "          ^^^^"],
    );
    fails(&["-p", "idle=15", "x.log"], &["15m", "^^"]);
    fails(&["-p", "grace=1m", "x.log"], &["needs idle or lifetime"]);
    fails(&["-p", "idle=101w5300w", "x.log"], &["100 years"]);
    fails(&["-p", "a:idle=1m", "-p", "a:idle=2m", "x.log"], &["two policies are called \"a\""]);
}

#[test]
fn words_that_are_separated_as_in_nginx_are_told_to_take_commas() {
    for (spec, gap) in [
        ("idle=5m lifetime=8h", 7),
        ("idle=5m;lifetime=8h", 7),
        ("idle=5m,lifetime=8h grace=2m", 19),
        ("staff idle=15m lifetime=8h;", 5),
        ("staff:idle=5m;", 13),
    ] {
        let carets = format!("{spec}\n{}^\n", " ".repeat(8 + gap));
        fails(&["-p", spec, "x.log"], &["commas stand between words here", "staff:idle=15m,lifetime=8h", &carets]);
    }
    fails(&["-p", "idle=15 m", "x.log"], &["the units are"]);
    fails(&["-p", "on limit=deny", "x.log"], &["did you mean \"on_limit\""]);
}

#[test]
fn a_name_of_a_policy_is_trimmed_and_can_be_seen() {
    let dir = Dir::new();
    let log = dir.file("a.log", small_log());
    let file = dir.file("p.toml", "[\" staff \"]\nidle = \"15m\"\n");
    let report = json(&["-p", " night\u{a0}: idle=1m", "--policies", file.to_str().unwrap()], &[&log]);
    let names: Vec<&Value> = report["policies"].as_array().unwrap().iter().map(|policy| &policy["name"]).collect();
    assert_eq!(names, ["night", "staff"]);
    fails(&["-p", "a :idle=1m", "-p", "a:idle=2m", "x.log"], &["two policies are called \"a\""]);
    fails(&["-p", " \u{3000}:idle=1m", "x.log"], &["name of the policy is empty"]);
    let blank = dir.file("q.toml", "[\" \"]\nidle = \"15m\"\n");
    fails(&["--policies", blank.to_str().unwrap(), "x.log"], &["q.toml:1:2: ", "name of the policy is empty"]);
    for c in ['\u{200b}', '\u{200f}', '\u{202e}', '\u{2060}', '\u{2066}', '\u{feff}'] {
        let code = format!("U+{:04X}", u32::from(c));
        fails(&["-p", &format!("st{c}aff:idle=1m"), "x.log"], &[&code, "cannot be seen"]);
    }
}

#[test]
fn a_mistake_in_a_file_of_policies_is_found_by_line_and_column() {
    let dir = Dir::new();
    let file = dir.file("p.toml", "[staff]\nidle = \"15m\"\n\n[ward]\nlifetme = \"1h\"\n");
    let path = file.to_str().unwrap();
    fails(
        &["--policies", path, "x.log"],
        &["p.toml:5:1: ", "did you mean \"lifetime\"", "    5 | lifetme = \"1h\"", "^^^^^^^"],
    );
    fails(&["--policies", "nowhere.toml", "x.log"], &["nowhere.toml", "No such file"]);
    let empty = dir.file("empty.toml", "");
    fails(&["--policies", empty.to_str().unwrap(), "x.log"], &["holds no policies"]);
}

#[test]
fn a_log_that_cannot_be_read_is_named() {
    fails(&["nowhere.log"], &["nowhere.log"]);
    let dir = Dir::new();
    fails(&[dir.0.path().to_str().unwrap()], &[dir.0.path().to_str().unwrap()]);
    let log = dir.file("a.log", small_log());
    fails(&[log.to_str().unwrap(), "nowhere.log"], &["nowhere.log"]);
}

#[test]
fn a_log_of_which_nothing_can_be_used_is_an_error_and_no_table_of_zeros() {
    let dir = Dir::new();
    let of = |name: &str, text: &str| dir.file(name, text).display().to_string();
    let log = of("a.log", &line("192.0.2.1", "-", 0, 0).repeat(3));
    fails(&["-k", "user", &log], &["none of 3 lines could be used: 3 have no user", "Try another --key"]);
    fails(
        &["-q", "-o", "csv", "-f", "json", "-k", "user", &log],
        &["none of 3 lines could be used: they could not be read as json", "--format"],
    );
    let some = of("some.log", &(line("192.0.2.1", "-", 0, 0) + "garbage\n"));
    fails(&["-k", "ident", &some], &["none of 2 lines could be used: 1 has no ident, the others could not be read"]);
}

#[test]
fn an_empty_log_is_called_empty_whatever_its_format() {
    let dir = Dir::new();
    let of = |name: &str, text: &str| dir.file(name, text).display().to_string();
    let empty = of("empty.log", "\n");
    let header = of("header.csv", "time,user\n");
    for format in ["auto", "clf", "json", "csv"] {
        fails(
            &["-f", format, &empty],
            &["the log is empty: nothing is recorded in ", "empty.log; is it the right file?"],
        );
    }
    fails(&["-f", "csv", "--columns", "time,user", "-k", "user", &empty], &["the log is empty"]);
    fails(&["-k", "user", &header], &["the log is empty", "header.csv"]);
}

#[test]
fn a_compressed_log_that_breaks_off_is_an_error_and_not_half_an_answer() {
    let dir = Dir::new();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(long_log().concat().as_bytes()).unwrap();
    let bytes = gz.finish().unwrap();
    let log = dir.file("a.log.gz", &bytes[..bytes.len() / 2]);
    fails(&[log.to_str().unwrap()], &["a.log.gz"]);
}

#[test]
fn zeros_behind_gzip_data_are_no_damage() {
    let dir = Dir::new();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(small_log().as_bytes()).unwrap();
    let whole = gz.finish().unwrap();
    let events = |bytes: &[u8]| json(&["-q"], &[&dir.file("a.log.gz", bytes)])["input"]["events"].clone();
    assert_eq!(events(&[&whole[..], &[0; 1000]].concat()), 121);
    assert_eq!(events(&[&whole[..], &[0; 200_000]].concat()), 121);
    assert_eq!(events(&[&whole[..], &whole].concat()), 242);
    let garbage = dir.file("b.log.gz", [&whole[..], &[0; 9], b"no more of it"].concat());
    fails(&[garbage.to_str().unwrap()], &["b.log.gz is damaged", "after line 121"]);
}

#[test]
fn wrong_usage_is_said_by_code_2() {
    fails(&[], &["<LOG>"]);
    fails(&["--output", "xml", "a.log"], &["xml", "text, json, csv"]);
    fails(&["--format", "word", "a.log"], &["word"]);
    curfew().arg("reply").assert().code(2).stderr(predicate::str::contains("replay"));
}

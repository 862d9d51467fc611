//! What is said about a log that was replayed.

use std::io::Write;
use std::process::Command as Process;

use predicates::prelude::*;

use crate::harness::*;

#[test]
fn many_unreadable_lines_are_a_warning_with_an_example() {
    let dir = Dir::new();
    let text: String = small_log().lines().flat_map(|line| [line, "\n", "garbage\n"]).collect();
    let log = dir.file("a.log", text);
    let warning = predicate::str::contains("121 of 242 lines").and(predicate::str::contains("the first is line 2 of"));
    replay().arg(log).assert().success().stderr(warning);
}

#[test]
fn the_line_to_look_at_can_be_seen_by_what_is_said() {
    let dir = Dir::new();
    let text = small_log() + &"garbage\n".repeat(9);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(text.as_bytes()).unwrap();
    let (gz, zst) = (gz.finish().unwrap(), zstd::encode_all(text.as_bytes(), 3).unwrap());
    // The name says nothing of how a file is packed.
    for (name, bytes) in
        [("it's a log", text.as_bytes()), ("plain.gz", text.as_bytes()), ("a.log", &gz), ("b.log", &zst)]
    {
        let assert = replay().arg(dir.file(name, bytes)).assert().success();
        let said = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
        let command = said.split("Look at it with ").nth(1).and_then(|rest| rest.split(", or try").next()).unwrap();
        assert!(command.contains("sed -n 122p"), "{said}");
        let tool = command.split(' ').next().unwrap();
        if Process::new(tool).arg("--version").output().is_err() {
            println!("skipped: there is no {tool}");
            continue;
        }
        let seen = Process::new("sh").args(["-c", command]).output().unwrap();
        assert_eq!(String::from_utf8(seen.stdout).unwrap(), "garbage\n", "{said}");
    }
    let piped = replay().arg("-").write_stdin(text).assert().success();
    piped.stderr(predicate::str::contains("line 122 of standard input").and(predicate::str::contains("sed").not()));
}

#[test]
fn a_file_of_another_format_than_the_others_is_named() {
    let dir = Dir::new();
    let log = dir.file("a.log", long_log().concat());
    // Too few lines to be many unreadable ones.
    let other = dir.file("b.csv", "time,ip\n1740960000,192.0.2.1\n");
    let warning = predicate::str::contains(format!("no line of {} could be read as common", other.display()));
    replay().args([&log, &other]).assert().success().stderr(warning);
    replay().args([&log, &log]).assert().success().stderr(predicate::str::contains("no line of").not());
}

#[test]
fn a_log_with_one_key_or_mostly_one_says_so() {
    let dir = Dir::new();
    let mostly = dir.file("a.log", small_log());
    replay()
        .arg(mostly)
        .assert()
        .success()
        .stderr(predicate::str::contains("98 % of all events").and(predicate::str::contains("192.0.2.2")));
    let one: String = (0..30).map(|minute| line("192.0.2.2", "-", minute, 0)).collect();
    let one = dir.file("b.log", one);
    replay().arg(one).assert().success().stderr(predicate::str::contains("every event has the same ip"));
}

#[test]
fn times_that_all_lie_in_one_minute_of_the_hour_are_not_believed() {
    let dir = Dir::new();
    let log: String = (0..20).map(|hour| line(&format!("192.0.2.{hour}"), "-", hour * 60 + 5, hour)).collect();
    let log = dir.file("a.log", log);
    replay().arg(log).assert().success().stderr(predicate::str::contains("minute 05"));
}

#[test]
fn times_without_a_zone_are_taken_as_utc_and_that_is_said() {
    let dir = Dir::new();
    let log = |zone: &str| {
        format!(
            "time,user\n2024-03-31 01:50:00{zone},ann\n2024-03-31 03:04:00{zone},ann\n2024-03-31 03:05:00.5{zone},ann\n"
        )
    };
    let said =
        || predicate::str::contains("times have no zone and are taken as UTC").and(predicate::str::contains("--time"));
    let without = dir.file("a.csv", log(""));
    replay().args(["-k", "user", "-p", "idle=1h"]).arg(&without).assert().success().stderr(said());
    for zone in ["Z", " +01:00"] {
        replay().args(["-k", "user"]).arg(dir.file("b.csv", log(zone))).assert().success().stderr(said().not());
    }
    let json = dir.file("a.json", "{\"ts\":\"2024-03-31T01:50:00\",\"user\":\"ann\"}\n");
    replay().args(["-k", "user"]).arg(json).assert().success().stderr(said());
    // Not in the lines that the format is told by.
    let with = dir.file("c.csv", log("Z"));
    replay().args(["-k", "user"]).args([with, without]).assert().success().stderr(said());
    let numbers = dir.file("d.csv", "time,user\n1711849800,ann\n1711849800.123456789,ann\n");
    replay().args(["-k", "user"]).arg(numbers).assert().success().stderr(said().not());
}

#[test]
fn dates_before_the_web_are_not_believed() {
    let dir = Dir::new();
    let log = dir.file("a.csv", "who,when\nada,0\nben,1740960\n");
    let words = ["-k", "who", "--time", "when", "-f", "csv"];
    replay()
        .args(words)
        .arg(log)
        .assert()
        .success()
        .stderr(predicate::str::contains("not plausible").and(predicate::str::contains("1970-01-01")));
}

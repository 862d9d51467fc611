//! What goes in, and what comes out.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command as Process, Stdio};

use assert_cmd::cargo::cargo_bin;
use predicates::prelude::*;
use serde_json::Value;

use crate::harness::*;

#[test]
fn every_number_of_a_small_log_is_right() {
    let dir = Dir::new();
    let log = dir.file("a.log", small_log());
    let report = json(
        &["-p", "short:idle=15m", "-p", "idle=30m,lifetime=1h", "-p", "idle=15m,grace=10m,grace_mode=resume"],
        &[&log],
    );
    let input = &report["input"];
    assert_eq!((&input["events"], &input["keys"], &input["key"]), (&121.into(), &2.into(), &"ip".into()));
    assert_eq!((&input["first"], &input["last"]), (&"2025-03-03T00:00:00Z".into(), &"2025-03-03T01:59:00Z".into()));
    let minutes = |n: u64| Value::from(n * 60_000);

    let short = &report["policies"][0];
    assert_eq!(short["name"], "short");
    assert_eq!(short["sessions"], 3);
    assert_eq!(
        (&short["forced_logins"], &short["forced_idle"], &short["forced_lifetime"]),
        (&1.into(), &1.into(), &0.into())
    );
    assert_eq!((&short["active_ms"], &short["exposure_ms"]), (&minutes(118), &minutes(45)));
    assert_eq!((&short["open_at_end"], &short["peak_live"]), (&1.into(), &2.into()));
    assert_eq!(short["peak_at"], "2025-03-03T00:01:00Z");

    let hour = &report["policies"][1];
    assert_eq!((&hour["name"], &hour["forced_lifetime"]), (&"idle=30m,lifetime=1h".into(), &1.into()));
    assert_eq!((&hour["idle_ms"], &hour["lifetime_ms"], &hour["grace_ms"]), (&minutes(30), &minutes(60), &minutes(0)));

    let grace = &report["policies"][2];
    assert_eq!(
        (&grace["grace_resumes"], &grace["sessions"], &grace["grace_mode"]),
        (&1.into(), &2.into(), &"resume".into())
    );
}

#[test]
fn the_json_has_the_promised_fields_and_no_others() {
    let dir = Dir::new();
    let log = dir.file("a.log", small_log());
    let report = json(&["-p", "idle=15m"], &[&log]);
    let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let sorted = |names: &str| {
        let mut names: Vec<String> = names.split_whitespace().map(String::from).collect();
        names.sort();
        names
    };
    assert_eq!(fields(&report), ["input", "policies", "version", "warnings"]);
    let input = "files format key key_field time_field events keys unparsed nokey out_of_order first last";
    assert_eq!(fields(&report["input"]), sorted(input));
    let policy =
        "name idle_ms lifetime_ms grace_ms grace_mode sessions forced_logins forced_idle forced_lifetime grace_resumes
        grace_prompts active_ms exposure_ms usable_ms open_at_end peak_live peak_at ignored";
    assert_eq!(fields(&report["policies"][0]), sorted(policy));
}

#[test]
fn the_json_says_which_fields_were_read() {
    let dir = Dir::new();
    let fields = |name: &str, text: &str, key: &str| {
        let report = json(&["-q", "-k", key], &[&dir.file(name, text)]);
        let field = |name: &str| report["input"][name].as_str().map(String::from);
        (field("key_field"), field("time_field"))
    };
    let both = |key: &str, time: &str| (Some(key.to_string()), Some(time.to_string()));
    assert_eq!(fields("a.log", &small_log(), "user"), (None, None));
    let csv = "TS,Remote_Addr,Agent\n1740960000,192.0.2.1,curl\n";
    assert_eq!(fields("a.csv", csv, "ip"), both("Remote_Addr", "TS"));
    assert_eq!(fields("a.csv", csv, "remote_addr"), both("Remote_Addr", "TS"));
    assert_eq!(fields("a.csv", csv, "ip+ua"), both("Remote_Addr with Agent", "TS"));
    let traefik = "{\"ClientHost\":\"h\",\"ClientAddr\":\"h:1\",\"StartUTC\":\"2025-03-03T00:00:00Z\"}\n";
    assert_eq!(fields("a.json", traefik, "ip"), both("ClientHost or ClientAddr", "StartUTC"));
    assert_eq!(fields("a.json", traefik, "ClientHost"), both("ClientHost", "StartUTC"));
}

#[test]
fn the_json_has_the_warnings_that_standard_error_has() {
    let dir = Dir::new();
    let log = dir.file("a.log", small_log() + &"garbage\n".repeat(9));
    let output = replay().args(["-o", "json"]).arg(&log).assert().success().get_output().clone();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    let warnings: Vec<&str> =
        report["warnings"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let said = String::from_utf8(output.stderr).unwrap().replace("\n    ", ". ");
    assert_eq!(warnings.len(), 2, "{said}");
    for warning in warnings {
        assert!(
            !warning.contains('\n') && said.contains(&format!("curfew: warning: {warning}\n")),
            "{warning}: {said}"
        );
    }
    assert_eq!(json(&["-q"], &[&log])["warnings"], report["warnings"]);
}

#[test]
fn the_json_says_which_words_of_a_policy_play_no_part() {
    let dir = Dir::new();
    let log = dir.file("a.log", small_log());
    let report = json(&["-p", "idle=15m,grace_mode=resume,retain=1d", "-p", "idle=15m"], &[&log]);
    assert_eq!(report["policies"][0]["ignored"], serde_json::json!(["grace_mode", "retain"]));
    assert_eq!(report["policies"][1]["ignored"], serde_json::json!([]));
}

#[test]
fn the_text_names_the_log() {
    let dir = Dir::new();
    let (one, two) = (dir.file("a.log", small_log()), dir.file("b.log", small_log()));
    replay().arg(&one).assert().success().stdout(predicate::str::starts_with("a.log: 121 events"));
    replay().args([&one, &two, &one]).assert().success().stdout(predicate::str::starts_with("a.log and 2 more: 363"));
    replay()
        .arg("-")
        .write_stdin(small_log())
        .assert()
        .success()
        .stdout(predicate::str::starts_with("standard input: "));
}

#[test]
fn csv_has_one_line_for_each_policy() {
    let dir = Dir::new();
    let log = dir.file("a.log", small_log());
    let output = replay().args(["-p", "idle=15m", "-p", "b:lifetime=1h", "-o", "csv"]).arg(log).assert().success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("name,idle_ms,lifetime_ms,grace_ms,grace_mode,sessions,"), "{text}");
    assert!(lines[1].starts_with("idle=15m,900000,0,0,reauth,3,1,1,0,"), "{text}");
    assert!(lines[2].starts_with("b,0,3600000,0,reauth,"), "{text}");
}

#[test]
fn the_text_is_a_table_within_80_columns_and_a_sentence() {
    let dir = Dir::new();
    let log = dir.file("a.log", small_log());
    let policies = [
        "-p",
        "staff:idle=15m,lifetime=1h,grace=2m",
        "-p",
        "idle=15m,lifetime=8h,grace=2m,grace_mode=resume",
        "-p",
        "idle=1h",
    ];
    let output = replay().args(policies).args(["-k", "user"]).arg(log).assert().success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    for part in [
        "sessions",
        "staff",
        "(2)",
        "idle=15m,lifetime=8h,grace=2m,grace_mode=resume",
        "2 users",
        "instead of",
        "abandoned session",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn without_a_policy_the_usual_four_are_tried_and_that_is_said() {
    let dir = Dir::new();
    let log = dir.file("a.log", small_log());
    let assert =
        replay().args(["-o", "json"]).arg(&log).assert().success().stderr(predicate::str::contains("--policy"));
    let report: Value = serde_json::from_slice(&assert.get_output().stdout).unwrap();
    let names: Vec<&str> =
        report["policies"].as_array().unwrap().iter().map(|policy| policy["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["idle=5m", "idle=15m", "idle=30m", "idle=60m"]);
    replay().arg("--quiet").arg(log).assert().success().stderr("");
}

#[test]
fn policies_come_from_a_file_in_its_order_and_after_those_typed() {
    let dir = Dir::new();
    let log = dir.file("a.log", small_log());
    let file = dir.file("p.toml", "[z]\nidle = \"15m\"\n[a]\nlifetime = \"1h\"\nmax_per_subject = 5\n");
    let report = json(&["-p", "typed:idle=1m", "--policies", file.to_str().unwrap()], &[&log]);
    let names: Vec<&Value> = report["policies"].as_array().unwrap().iter().map(|policy| &policy["name"]).collect();
    assert_eq!(names, ["typed", "z", "a"]);
    replay()
        .arg("--policies")
        .arg(file)
        .arg(log)
        .assert()
        .success()
        .stderr(predicate::str::contains("a: max_per_subject"));
}

#[test]
fn an_idle_timeout_that_is_never_reached_is_asked_about() {
    let dir = Dir::new();
    let log = dir.file("a.log", small_log());
    let said = || predicate::str::contains("swapped");
    for (spec, words) in [
        ("idle=15m,lifetime=5m", "idle is accepted"),
        ("idle=5m,lifetime=5m,grace=1m", "idle, grace are accepted and change nothing"),
    ] {
        let assert = replay().args(["-o", "json", "-p", spec]).arg(&log).assert().success();
        let output = assert.stderr(said().and(predicate::str::contains(words))).get_output().clone();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["policies"][0]["ignored"][0], "idle");
        assert_eq!(report["policies"][0]["forced_idle"], 0);
    }
    replay().args(["-p", "idle=5m,lifetime=6m"]).arg(&log).assert().success().stderr(said().not());
    replay().args(["-p", "idle=5m,lifetime=0"]).arg(&log).assert().success().stderr(said().not());
}

#[test]
fn the_example_file_of_policies_runs() {
    let dir = Dir::new();
    let log = dir.file("a.log", small_log());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/policies.toml");
    replay().arg("--policies").arg(file).arg(log).assert().success().stdout(predicate::str::contains("staff"));
}

#[test]
fn compressed_or_not_by_name_or_from_standard_input_it_is_the_same_log() {
    let dir = Dir::new();
    let text = small_log();
    let plain = dir.file("a.log", &text);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(text.as_bytes()).unwrap();
    let gz = dir.file("a.log.gz", gz.finish().unwrap());
    let zst = dir.file("a.log.zst", zstd::encode_all(text.as_bytes(), 3).unwrap());
    let policies = |report: Value| report["policies"].clone();
    let expected = policies(json(&["-p", "idle=15m"], &[&plain]));
    assert_eq!(policies(json(&["-p", "idle=15m"], &[&gz])), expected);
    assert_eq!(policies(json(&["-p", "idle=15m"], &[&zst])), expected);
    let output = replay().args(["-p", "idle=15m", "-o", "json", "-"]).write_stdin(text).assert().success();
    let report: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!(report["input"]["files"], Value::from(vec!["-"]));
    assert_eq!(policies(report), expected);
}

#[test]
fn several_files_are_one_log() {
    let dir = Dir::new();
    let text = small_log();
    let half = text.match_indices('\n').nth(60).unwrap().0 + 1;
    let whole = dir.file("a.log", &text);
    let (first, second) = (dir.file("1.log", &text[..half]), dir.file("2.log", &text[half..]));
    let report = json(&["-p", "idle=15m"], &[&first, &second]);
    assert_eq!(report["policies"], json(&["-p", "idle=15m"], &[&whole])["policies"]);
    assert_eq!(report["input"]["files"].as_array().unwrap().len(), 2);
}

#[test]
fn a_log_out_of_order_gives_what_the_same_log_in_order_gives() {
    let dir = Dir::new();
    let lines = long_log();
    let reversed: Vec<&str> = lines.iter().rev().map(String::as_str).collect();
    let (early, late) = lines.split_at(150_000);
    let sorted = dir.file("sorted.log", lines.concat());
    let (early, late) = (dir.file("early.log", early.concat()), dir.file("late.log", late.concat()));
    let policies = ["-p", "idle=3m", "-p", "idle=5m,lifetime=20m", "-p", "idle=3m,grace=1m,grace_mode=reauth"];
    let expected = json(&policies, &[&sorted]);
    assert_eq!(expected["input"]["out_of_order"], 0);
    assert_eq!(expected["input"]["events"], 200_000);

    let swapped = json(&policies, &[&late, &early]);
    assert_eq!(swapped["policies"], expected["policies"]);
    assert_eq!(swapped["input"]["out_of_order"], 150_000);

    let backwards = reversed.concat();
    let output = replay().args(policies).args(["-o", "json", "-"]).write_stdin(backwards.clone()).assert().success();
    let report: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!(report["policies"], expected["policies"]);
    assert_eq!(report["input"]["first"], expected["input"]["first"]);

    let backwards = dir.file("backwards.log", backwards);
    let output = replay().args(policies).args(["-o", "json"]).arg(backwards).assert().success();
    let output = output.stderr(predicate::str::contains("read once more"));
    let report: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    assert_eq!(report["policies"], expected["policies"]);
}

#[test]
fn json_csv_and_tsv_logs_say_the_same_as_a_common_log() {
    let dir = Dir::new();
    let clf = dir.file("a.log", small_log());
    let expected = json(&["-p", "idle=15m", "-k", "user"], &[&clf])["policies"].clone();
    let mut events = vec![("ada", 0)];
    for minute in 1..120 {
        events.push(("ben", minute));
        if minute == 20 {
            events.push(("ada", minute));
        }
    }
    // 2025-03-03T00:00:00Z
    let second = |minute: i64| 1_740_960_000 + minute * 60;
    let table = |comma: &str, header: &str| {
        let rows = events.iter().map(|(user, minute)| format!("{user}{comma}{}\n", second(*minute)));
        header.to_owned() + &rows.collect::<String>()
    };
    let objects = events.iter().map(|(user, minute)| {
        format!("{{\"who\":\"{user}\",\"when\":\"2025-03-03T{:02}:{:02}:00Z\"}}\n", minute / 60, minute % 60)
    });
    let csv = dir.file("a.csv", table(",", "who,when\n"));
    let tsv = dir.file("a.tsv", table("\t", ""));
    let objects = dir.file("a.json", objects.collect::<String>());
    let same = ["-p", "idle=15m", "-k", "who", "--time", "when"];
    assert_eq!(json(&[&same[..], &["-f", "csv"]].concat(), &[&csv])["policies"], expected);
    assert_eq!(json(&[&same[..], &["-f", "tsv", "--columns", "who,when"]].concat(), &[&tsv])["policies"], expected);
    assert_eq!(json(&[&same[..], &["-f", "json"]].concat(), &[&objects])["policies"], expected);
    assert_eq!(json(&same, &[&csv])["policies"], expected);
    assert_eq!(json(&same, &[&objects])["policies"], expected);
}

#[test]
fn lines_that_take_no_part_are_counted() {
    let dir = Dir::new();
    let mut text = small_log();
    text.insert_str(0, &line("192.0.2.9", "-", 0, 0));
    text.push_str("\nnot a line of a log\n");
    let log = dir.file("a.log", text);
    let report = json(&["-p", "idle=15m", "-k", "user"], &[&log]);
    assert_eq!((&report["input"]["nokey"], &report["input"]["unparsed"]), (&1.into(), &1.into()));
    assert_eq!(report["input"]["events"], 121);
}

#[test]
fn a_broken_quote_costs_its_line_and_no_others() {
    let dir = Dir::new();
    let row = |n: u32, agent: &str| format!("{},u{},{agent}\n", 1_740_960_000 + n * 60, n % 10);
    let rows = |broken: fn(u32) -> bool| {
        let agent = |n| if broken(n) { "\"Mozilla broken" } else { "Mozilla/5.0" };
        (0..10_000).map(|n| row(n, agent(n))).collect::<String>()
    };
    let header = "time,user,ua\n";
    for (text, unparsed) in [(rows(|n| n == 4), 1), (rows(|n| n % 1000 == 4), 10), (rows(|n| n % 2 == 0), 5000)] {
        let report = json(&["-q", "-k", "user"], &[&dir.file("a.csv", header.to_owned() + &text)]);
        let input = &report["input"];
        assert_eq!((&input["unparsed"], &input["events"]), (&unparsed.into(), &(10_000 - unparsed).into()));
    }
    let whole = row(0, "\"two\nlines, \"\"and\"\" more\"").repeat(20);
    let report = json(&["-q", "-k", "user"], &[&dir.file("b.csv", header.to_owned() + &whole)]);
    assert_eq!((&report["input"]["unparsed"], &report["input"]["events"]), (&0.into(), &20.into()));
}

#[test]
fn two_quotes_are_nobody_as_apache_writes_an_empty_name() {
    let dir = Dir::new();
    let quotes = "\"\"";
    let clf = line("192.0.2.1", quotes, 0, 0) + &line("192.0.2.1", "ann", 1, 0);
    let csv = "time,user\n1,\"\"\"\"\"\"\n1740960060,ann\n";
    let tsv = "time\tuser\n1\t\"\"\n1740960060\tann\n";
    let objects = "{\"time\":1,\"user\":\"\\\"\\\"\"}\n{\"time\":1740960060,\"user\":\"ann\"}\n";
    for (name, text) in [("a.log", clf.as_str()), ("a.csv", csv), ("a.tsv", tsv), ("a.json", objects)] {
        let report = json(&["-q", "-k", "user"], &[&dir.file(name, text)]);
        assert_eq!((&report["input"]["nokey"], &report["input"]["keys"]), (&1.into(), &1.into()), "{name}");
    }
}

#[test]
fn help_and_version_are_there() {
    curfew().arg("--version").assert().success().stdout(predicate::str::starts_with("curfew "));
    curfew()
        .arg("--help")
        .assert()
        .success()
        .stdout(predicate::str::contains("replay").and(predicate::str::contains("synth")));
    replay().arg("-h").assert().success().stdout(predicate::str::contains("Examples:").not());
    replay().arg("--help").assert().success().stdout(predicate::str::contains("Examples:"));
}

#[test]
fn help_that_cannot_be_written_is_an_error_and_a_reader_that_goes_away_is_none() {
    for arguments in [&["--help"][..], &["--version"], &["replay", "-h"]] {
        let Ok(full) = fs::File::options().write(true).open("/dev/full") else { return };
        let output = Process::new(cargo_bin!("curfew")).args(arguments).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(
            String::from_utf8(output.stderr).unwrap().starts_with("curfew: error: cannot write what was asked for: ")
        );
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Process::new(cargo_bin!("curfew")).args(arguments).stdout(writer).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Process::new(cargo_bin!("curfew"))
        .args(["replay", "-q", "-f", "clf", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Nobody will read the answer, and only then does the log come.
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all(small_log().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_result_that_is_thrown_away_is_no_error() {
    let dir = Dir::new();
    let log = dir.file("a.log", small_log());
    // Python's subprocess.DEVNULL is open for both.
    for is_read in [false, true] {
        let null = fs::File::options().read(is_read).write(true).open("/dev/null").unwrap();
        let output = Process::new(cargo_bin!("curfew")).args(["replay", "-q"]).arg(&log).stdout(null).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
}

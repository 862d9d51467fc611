//! `curfew synth` as people use it.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use predicates::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

fn curfew() -> Command {
    Command::new(cargo_bin!("curfew"))
}

#[test]
fn what_synth_writes_replay_reads() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("week.log");
    curfew()
        .args(["synth", "--users", "20", "--days", "3", "--start", "2024-02-28", "--output"])
        .arg(&log)
        .assert()
        .success()
        .stdout("")
        .stderr("");
    let output =
        curfew().args(["replay", "--key", "user", "-p", "idle=15m", "-o", "json"]).arg(&log).assert().success();
    let report: Value = serde_json::from_slice(&output.get_output().stdout).unwrap();
    let input = &report["input"];
    assert_eq!((&input["unparsed"], &input["out_of_order"], &input["keys"]), (&0.into(), &0.into(), &22.into()));
    assert!(input["last"].as_str().unwrap().starts_with("2024-03-01T23:"), "{input}");
    // People pause and come back; the pollers never stop.
    assert!(report["policies"][0]["forced_idle"].as_u64().unwrap() > 40);
    assert!(report["policies"][0]["open_at_end"].as_u64().unwrap() >= 2);
}

#[test]
fn standard_output_and_a_file_get_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("week.log");
    let few = ["synth", "--users", "5", "--days", "2", "--seed", "9"];
    curfew().args(few).arg("--output").arg(&log).assert().success();
    let output = curfew().args(few).assert().success();
    assert_eq!(output.get_output().stdout, fs::read(log).unwrap());
}

#[test]
fn what_cannot_be_is_said_by_code_2() {
    curfew()
        .args(["synth", "--users", "0", "--pollers", "0"])
        .assert()
        .code(2)
        .stderr(predicate::str::contains("nobody"));
    curfew().args(["synth", "--start", "yesterday"]).assert().code(2).stderr(predicate::str::contains("2025-03-03"));
    curfew().args(["synth", "--days", "0"]).assert().code(2);
    let nowhere = curfew().args(["synth", "--output", "no/such/place.log"]).assert().code(2);
    nowhere.stderr(predicate::str::contains("no/such/place.log"));
}

#[test]
fn a_first_day_with_a_time_of_day_is_refused() {
    for start in ["2025-03-03T10:00", "2025-03-03 10:00", "20250303T10"] {
        let refused = curfew().args(["synth", "--start", start]).assert().code(2).stdout("");
        refused.stderr(predicate::str::contains("begins at midnight").and(predicate::str::contains("2025-03-03")));
    }
}

#[test]
fn a_log_that_is_cut_short_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("week.log");
    // Years of it; nobody waits for that.
    let mut child = Process::new(cargo_bin!("curfew"))
        .args(["synth", "--users", "100000", "--days", "3000", "--output"])
        .arg(&log)
        .spawn()
        .unwrap();
    let written = || {
        let files = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
        files.filter_map(|file| fs::metadata(file.unwrap().path()).ok()).any(|file| file.is_file() && file.len() > 0)
    };
    let deadline = Instant::now() + Duration::from_secs(120);
    while !written() {
        assert!(Instant::now() < deadline, "nothing was written");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_replaced_keeps_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("week.log");
    fs::write(&log, "before").unwrap();
    for mode in [0o600, 0o664] {
        fs::set_permissions(&log, fs::Permissions::from_mode(mode)).unwrap();
        curfew().args(["synth", "--users", "2", "--days", "1", "--output"]).arg(&log).assert().success();
        let metadata = fs::metadata(&log).unwrap();
        assert_eq!((metadata.permissions().mode() & 0o7777, metadata.len() > 1000), (mode, true));
    }
}

/// Only root can make a file somebody else's, and be somebody else.
fn is_root(dir: &TempDir) -> bool {
    let is_root = fs::metadata(dir.path()).unwrap().uid() == 0;
    if !is_root {
        println!("skipped: only root can give a file away");
    }
    is_root
}

#[test]
fn a_file_that_root_replaces_keeps_its_owner_and_group() {
    let dir = tempfile::tempdir().unwrap();
    if !is_root(&dir) {
        return;
    }
    let log = dir.path().join("week.log");
    fs::write(&log, "before").unwrap();
    for (owner, group, mode) in [(1234, 2345, 0o640), (1234, 0, 0o600), (0, 2345, 0o6750)] {
        chown(&log, Some(owner), Some(group)).unwrap();
        fs::set_permissions(&log, Permissions::from_mode(mode)).unwrap();
        let before = fs::metadata(&log).unwrap();
        curfew().args(["synth", "--users", "2", "--days", "1", "--output"]).arg(&log).assert().success();
        let after = fs::metadata(&log).unwrap();
        assert_eq!((after.uid(), after.gid(), after.mode()), (owner, group, before.mode()));
        assert_ne!(after.ino(), before.ino());
    }
}

#[test]
fn a_file_of_somebody_else_stays_theirs_and_needs_their_leave() {
    let dir = tempfile::tempdir().unwrap();
    if !is_root(&dir) {
        return;
    }
    // Somebody else reaches neither the place of the program nor a folder for temporary files.
    let program = dir.path().join("curfew");
    fs::copy(cargo_bin!("curfew"), &program).unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    let log = dir.path().join("week.log");
    let written = |mode: u32| {
        fs::write(&log, "before").unwrap();
        chown(&log, Some(1234), Some(2345)).unwrap();
        fs::set_permissions(&log, Permissions::from_mode(mode)).unwrap();
        let output = Process::new(&program)
            .args(["synth", "--users", "2", "--days", "1", "--output"])
            .arg(&log)
            .uid(4321)
            .gid(5432)
            .output()
            .unwrap();
        let after = fs::metadata(&log).unwrap();
        assert_eq!((after.uid(), after.gid(), after.mode() & 0o7777), (1234, 2345, mode));
        (output, after.len())
    };
    let (output, length) = written(0o666);
    assert!(output.status.success() && length > 1000, "{output:?}");
    let (output, length) = written(0o644);
    assert_eq!((output.status.code(), length), (Some(2), 6), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied"), "{output:?}");
}

#[test]
fn a_full_disk_is_said() {
    let full = curfew().args(["synth", "--output", "/dev/full"]).assert().code(2);
    full.stderr(predicate::str::contains("No space left"));
}

#[test]
fn a_reader_that_has_had_enough_is_no_error() {
    let mut child = Process::new(cargo_bin!("curfew"))
        .args(["synth", "--users", "1000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("[03/Mar/2025:00:00:"), "{line}");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

//! Every command runs to its end on a table of a few sessions and says what it promises.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

fn figures(arguments: &[&str]) -> (String, Value) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("figures.json");
    let run =
        Command::new(env!("CARGO_BIN_EXE_curfew-bench")).args(arguments).arg("--json").arg(&file).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let json = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    (String::from_utf8(run.stdout).unwrap(), json)
}

#[test]
fn touch_compares_everyone_with_each_number_of_sessions_and_threads() {
    let (text, json) =
        figures(&["touch", "--sessions", "100,1000", "--threads", "1,2", "--rounds", "2", "--touches", "3001"]);
    let rows = json["figures"]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2 * 2 * 7);
    assert!(rows.iter().all(|row| row["ns"]["median"].as_f64().unwrap() > 0.0));
    assert!(text.contains("| engine, touch_many of 16"), "{text}");
}

#[test]
fn expire_ends_what_is_due_and_touches_the_rest_meanwhile() {
    for more in [&[][..], &["--keep", "--per-user", "3"]] {
        let small = ["expire", "--live", "5000", "--due", "2000", "--before", "20"];
        let (text, json) = figures(&[&small, more].concat());
        assert_eq!(json["figures"]["events"], 2000);
        assert!(json["figures"]["touch"]["touch, before"]["times"].as_u64().unwrap() > 0);
        assert!(text.contains("clock alone"), "{text}");
    }
}

#[test]
fn fill_begins_and_ends_with_an_empty_table() {
    let (text, json) = figures(&["fill", "--sessions", "3000", "--rounds", "2"]);
    assert_eq!(json["figures"]["sessions"], 3000);
    assert!(text.contains("forget all"), "{text}");
}

#[test]
fn turns_are_taken_on_demand() {
    let mut run = Command::new(env!("CARGO_BIN_EXE_curfew-bench"))
        .args(["turns", "--sessions", "500", "--touches", "1001"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    run.stdin.take().unwrap().write_all(b"touch\nisolated\n16\n").unwrap();
    let run = run.wait_with_output().unwrap();
    assert!(run.status.success());
    let text = String::from_utf8(run.stdout).unwrap();
    let (ready, figures) = text.split_once('\n').unwrap();
    assert_eq!(ready, "ready");
    let figures: Vec<f64> = figures.lines().map(|line| line.parse().unwrap()).collect();
    assert!(figures.len() == 3 && figures.iter().all(|figure| *figure > 0.0), "{text}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let run = Command::new(env!("CARGO_BIN_EXE_curfew-bench"))
        .args(["expire", "--live", "10", "--due", "10"])
        .output()
        .unwrap();
    assert!(!run.status.success());
    assert!(String::from_utf8_lossy(&run.stderr).contains("--due"));
}

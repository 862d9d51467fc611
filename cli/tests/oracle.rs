//! On recorded logs, the numbers of `curfew replay` are those of a slow, plain program that shares
//! no code with it. The logs and that program lie beside the repository; without them, or without
//! Python, there is nothing to compare and the test says so.

use std::path::{Path, PathBuf};
use std::process::Command;

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

struct Log {
    file: &'static str,
    format: &'static str,
    key: &'static str,
    /// The same for both programs.
    time: &'static [&'static str],
    /// For the oracle only, which does not guess.
    units: &'static [&'static str],
}

const fn clf(file: &'static str, key: &'static str) -> Log {
    Log { file, format: "clf", key, time: &[], units: &[] }
}

const LOGS: [Log; 10] = [
    clf("ezproxy-npg-2012-11-30.clf.log.gz", "user"),
    clf("ezproxy-npg-2012-11-30.clf.log.gz", "ip"),
    clf("ezproxy-edp-2013-01-23.clf.log", "user"),
    clf("ezproxy-edp-2013-01-23.clf.log", "ip"),
    clf("erddap-2024-05.nginx-combined.log.gz", "ip"),
    clf("erddap-2024-05.raw-with-stray-lines.log.gz", "ip"),
    clf("basjes-bots-2015-10.combined.log.gz", "ip"),
    clf("elastic-apache_logs.combined.BROKEN-MINUTES.log.gz", "ip"),
    Log { file: "nasa-1995-08-01.tsv.gz", format: "tsv", key: "host", time: &["--time", "time"], units: &[] },
    Log {
        file: "otto-20-sessions-2022-08.csv",
        format: "csv",
        key: "session",
        time: &["--time", "ts_ms"],
        units: &["--timefmt", "epoch_ms"],
    },
];

struct Limits {
    idle: u32,
    lifetime: u32,
    grace: u32,
    mode: &'static str,
}

const fn idle(minutes: u32) -> Limits {
    Limits { idle: minutes * 60, lifetime: 0, grace: 0, mode: "resume" }
}

const POLICIES: [Limits; 8] = [
    idle(5),
    idle(15),
    idle(30),
    idle(60),
    Limits { idle: 900, lifetime: 3600, grace: 0, mode: "resume" },
    Limits { idle: 900, lifetime: 0, grace: 300, mode: "resume" },
    Limits { idle: 900, lifetime: 3600, grace: 300, mode: "reauth" },
    Limits { idle: 0, lifetime: 3600, grace: 0, mode: "resume" },
];

impl Limits {
    fn spec(&self) -> String {
        let Limits { idle, lifetime, grace, mode } = self;
        format!("idle={idle}s,lifetime={lifetime}s,grace={grace}s,grace_mode={mode}")
    }

    fn for_oracle(&self) -> Vec<String> {
        let Limits { idle, lifetime, grace, mode } = self;
        format!("--idle {idle} --lifetime {lifetime} --grace {grace} --grace-mode {mode}")
            .split(' ')
            .map(String::from)
            .collect()
    }
}

/// The object that a program prints.
fn object(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn compare(log: &Log, path: &Path, oracle: &Path) {
    let specs = POLICIES.iter().flat_map(|policy| ["--policy".into(), policy.spec()]);
    let report = object(
        Command::new(cargo_bin!("curfew"))
            .args(["replay", "--output", "json", "--key", log.key])
            .args(log.time)
            .args(specs)
            .arg(path),
    );
    assert_eq!(report["policies"].as_array().unwrap().len(), POLICIES.len());
    for (policy, ours) in POLICIES.iter().zip(report["policies"].as_array().unwrap()) {
        let theirs = object(
            Command::new("python3")
                .arg(oracle)
                .arg(path)
                .args(["--format", log.format, "--key", log.key])
                .args(log.time)
                .args(log.units)
                .args(policy.for_oracle()),
        );
        let mut compared = 0;
        for (field, expected) in theirs.as_object().unwrap() {
            let found = report["input"].get(field).or(ours.get(field));
            assert_eq!(found, Some(expected), "{field} of {} by {} under {}", log.file, log.key, policy.spec());
            compared += 1;
        }
        assert_eq!(compared, 15, "the oracle says something else than it did: {theirs}");
    }
}

#[test]
fn the_numbers_on_recorded_logs_are_those_of_the_oracle() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = std::env::var_os("CURFEW_DATA").map_or_else(|| here.join("../../shared/data"), PathBuf::from);
    let (logs, oracle) = (data.join("logs"), data.join("../tools/replay_oracle.py"));
    if !logs.is_dir() || !oracle.is_file() {
        println!("skipped: no logs in {} or no oracle at {}", logs.display(), oracle.display());
        return;
    }
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: no python3");
        return;
    }
    // The oracle is slow; each log is for whoever has time.
    let next = std::sync::atomic::AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(log) = LOGS.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    compare(log, &logs.join(log.file), &oracle);
                }
            });
        }
    });
}

//! Small logs, and the command that reads them.

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) fn curfew() -> Command {
    Command::new(cargo_bin!("curfew"))
}

pub(crate) fn replay() -> Command {
    let mut command = curfew();
    command.arg("replay");
    command
}

/// A line of a common log: `minute` minutes and `second` seconds into the third of March.
pub(crate) fn line(ip: &str, user: &str, minute: u32, second: u32) -> String {
    format!(
        "{ip} - {user} [03/Mar/2025:{:02}:{:02}:{second:02} +0000] \"GET /{minute} HTTP/1.1\" 200 17\n",
        minute / 60,
        minute % 60
    )
}

/// Two people: one comes back after 20 minutes, one asks every minute of two hours.
pub(crate) fn small_log() -> String {
    let mut log = line("192.0.2.1", "ada", 0, 0);
    for minute in 1..120 {
        log.push_str(&line("192.0.2.2", "ben", minute, 0));
        if minute == 20 {
            log.push_str(&line("192.0.2.1", "ada", minute, 0));
        }
    }
    log
}

/// A log long enough that no window holds it: a thousand people, two hundred thousand requests.
pub(crate) fn long_log() -> Vec<String> {
    (0..200_000_u32).map(|n| line(&format!("192.0.2.{}", n * 7919 % 1000), "-", n / 180, n / 3 % 60)).collect()
}

pub(crate) struct Dir(pub(crate) TempDir);

impl Dir {
    pub(crate) fn new() -> Dir {
        Dir(TempDir::new().unwrap())
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

/// What `curfew replay ... --output json` says.
pub(crate) fn json(arguments: &[&str], files: &[&Path]) -> Value {
    let output =
        replay().args(arguments).args(["--output", "json"]).args(files).assert().success().get_output().stdout.clone();
    serde_json::from_slice(&output).unwrap()
}

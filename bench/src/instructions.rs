//! How many instructions each step of the engine takes, counted by callgrind: the figure that noise
//! cannot move. Compared with the committed ones, and what has grown is said.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;
use curfew_engine::{
    Batched, Binding, Cause, Config, GraceMode, Key, OnFull, Policy, PolicyId, Retain, Span, Start, Table, Tick,
};
use serde_json::{Value, json};

use crate::Result;
use crate::report::{markdown, publish};
use crate::sessions::{UNBOUND, keys};

/// Sessions in the table of each step: one shard, small enough to be made under callgrind.
const SESSIONS: usize = 20_000;
/// Growth that is said, in percent.
const NOTED: f64 = 5.0;
const MINUTE: u64 = 60_000;

#[derive(clap::Args, Debug)]
pub struct Options {
    /// Say what has grown by more than 5 % since the figures in this file
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Write the figures to this file too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Step {
    DeriveKey,
    Touch,
    TouchSameMillisecond,
    TouchBound,
    TouchUnknown,
    TouchGrace,
    TouchEnded,
    TouchManyOf16,
    TouchAhead,
    Peek,
    Start,
    StartOfSubject,
    Reauthenticate,
    Rotate,
    End,
    EndOfSubject,
    AdvanceFilingAnew,
    AdvanceEnding,
    AdvanceEndingForgotten,
    AdvanceForgetting,
}

impl Step {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Counts every step and prints the table.
///
/// # Errors
/// When valgrind is missing or a file cannot be read or written.
pub fn run(options: &Options) -> Result<()> {
    let before = options.against.as_deref().map(committed).transpose()?.unwrap_or_default();
    let mut rows = Vec::new();
    let mut figures = serde_json::Map::new();
    let mut grown = Vec::new();
    for step in Step::value_variants() {
        let counted = count(*step)?;
        let name = step.name();
        let change = before.get(&name).map(|before| (counted / before - 1.0) * 100.0);
        if change.is_some_and(|change| change > NOTED) {
            grown.push(name.clone());
        }
        let change = change.map_or_else(|| "-".to_owned(), |change| format!("{change:+.1} %"));
        rows.push(vec![name.clone(), format!("{counted:.0}"), change]);
        figures.insert(name, json!(counted.round()));
    }
    let mut text = markdown(&["instructions of a step", "now", "change"], &rows);
    if !grown.is_empty() {
        text.push_str(&format!("\nGrown by more than {NOTED} %: {}\n", grown.join(", ")));
    }
    publish(&text, "instructions", &Value::Null, None)?;
    if let Some(file) = &options.json {
        // Without the machine: they are the same on each of its kind, and are committed.
        let figures = json!({ "figures": figures });
        std::fs::write(file, format!("{figures:#}\n")).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}

fn committed(file: &std::path::Path) -> Result<BTreeMap<String, f64>> {
    let wrong = |what: &dyn std::fmt::Display| format!("{}: {what}", file.display());
    let text = std::fs::read(file).map_err(|error| wrong(&error))?;
    let json: Value = serde_json::from_slice(&text).map_err(|error| wrong(&error))?;
    let figures = json["figures"].as_object().ok_or_else(|| wrong(&"there are no figures in it"))?;
    Ok(figures.iter().filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect())
}

fn count(step: Step) -> Result<f64> {
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*instructions::counted*"])
        .arg(std::env::current_exe()?)
        .args(["step", &step.name()])
        .output()
        .map_err(|error| format!("valgrind: {error}; make setup installs it"))?;
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    let number = collected.and_then(|(_, number)| number.trim().parse::<f64>().ok());
    let times = String::from_utf8_lossy(&run.stdout).trim().parse::<f64>();
    match (run.status.success(), number, times) {
        (true, Some(number), Ok(times)) if number > 0.0 && times > 0.0 => Ok(number / times),
        _ => Err(format!("{} under callgrind: {}: {said}", step.name(), run.status).into()),
    }
}

/// Does a step many times, and prints how many: what runs under callgrind.
///
/// # Errors
/// Those of the engine, which would be its mistakes.
pub fn step(step: Step) -> Result<()> {
    println!("{}", Scene::new()?.play(step)?);
    Ok(())
}

/// All that is counted happens in here. Says how often.
#[inline(never)]
fn counted(work: impl FnOnce() -> usize) -> usize {
    black_box(work())
}

fn at(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

struct Scene {
    table: Table,
    keys: Vec<Key>,
    strangers: Vec<Key>,
    policy: PolicyId,
}

impl Scene {
    fn new() -> Result<Scene> {
        let table = Table::private(&Config::new(2 * SESSIONS as u64))?;
        let policy = Policy::new()
            .idle(Span::from_mins(15))
            .lifetime(Span::from_mins(480))
            .grace(Span::from_mins(5), GraceMode::Resume);
        let policy = table.set_policy("staff", &Policy { on_full: OnFull::EvictEnded, ..policy }, Tick::ZERO)?;
        Ok(Scene { table, keys: keys(SESSIONS, 0), strangers: keys(SESSIONS, 1), policy })
    }

    fn start_all(&self, start: &Start) -> Result<()> {
        for key in &self.keys {
            self.table.start(*key, start, Tick::ZERO)?;
        }
        Ok(())
    }

    fn touch_all(&self, keys: &[Key], presented: Binding, now: u64) -> usize {
        counted(|| keys.iter().filter(|key| black_box(self.table.touch(**key, presented, at(now))).passes()).count());
        keys.len()
    }

    fn advance_to(&self, now: u64) -> usize {
        counted(|| {
            let mut done = 0;
            loop {
                let advance = self.table.advance(at(now), 256);
                done += advance.done;
                if !advance.more {
                    return done;
                }
            }
        })
    }

    /// Without being counted.
    fn skip_to(&self, now: u64) {
        while self.table.advance(at(now), 4096).more {}
    }

    fn play(&self, step: Step) -> Result<usize> {
        let Scene { table, keys, strangers, policy } = self;
        let plain = Start::under(*policy);
        let subject = |nth: usize| table.subject(&(nth / 4).to_le_bytes());
        let bound = table.binding(b"a certificate");
        match step {
            Step::Start | Step::StartOfSubject | Step::DeriveKey => {}
            Step::TouchBound => self.start_all(&plain.bound_to(bound))?,
            Step::EndOfSubject => {
                for (nth, key) in keys.iter().enumerate() {
                    table.start(*key, &plain.of(subject(nth)), Tick::ZERO)?;
                }
            }
            Step::AdvanceEndingForgotten => {
                let policy = Policy::new().idle(Span::from_mins(15)).retain(Retain::For(Span::OFF));
                self.start_all(&Start::under(table.set_policy("forgotten", &policy, Tick::ZERO)?))?;
            }
            _ => self.start_all(&plain)?,
        }
        let all = keys.len();
        Ok(match step {
            Step::DeriveKey => counted(|| {
                for nth in 0..all {
                    black_box(table.key(&[nth as u8; 32]));
                }
                all
            }),
            Step::Touch => self.touch_all(keys, UNBOUND, MINUTE),
            Step::TouchSameMillisecond => self.touch_all(keys, UNBOUND, 0),
            Step::TouchBound => self.touch_all(keys, bound, MINUTE),
            Step::TouchUnknown => self.touch_all(strangers, UNBOUND, MINUTE),
            Step::TouchGrace => self.touch_all(keys, UNBOUND, 16 * MINUTE),
            Step::TouchEnded => self.touch_all(keys, UNBOUND, 21 * MINUTE),
            Step::TouchManyOf16 => {
                let mut batches: Vec<Vec<_>> = keys
                    .chunks_exact(16)
                    .map(|keys| keys.iter().map(|key| Batched::new(*key, UNBOUND)).collect())
                    .collect();
                counted(|| {
                    batches.iter_mut().for_each(|batch| table.touch_many(batch, at(MINUTE)));
                    batches.len() * 16
                })
            }
            Step::TouchAhead => counted(|| {
                let ahead = table.ahead(keys.iter().copied(), |key| *key);
                ahead.filter(|key| black_box(table.touch(*key, UNBOUND, at(MINUTE))).passes()).count()
            }),
            Step::Peek => {
                counted(|| keys.iter().filter(|key| black_box(table.peek(**key, UNBOUND, at(MINUTE))).passes()).count())
            }
            Step::Start => counted(|| keys.iter().filter(|key| table.start(**key, &plain, Tick::ZERO).is_ok()).count()),
            Step::StartOfSubject => {
                let starts: Vec<_> = (0..all).map(|nth| plain.of(subject(nth))).collect();
                counted(|| {
                    keys.iter()
                        .zip(&starts)
                        .filter(|(key, start)| table.start(**key, start, Tick::ZERO).is_ok())
                        .count()
                })
            }
            Step::Reauthenticate => {
                counted(|| keys.iter().filter(|key| table.reauthenticate(**key, None, at(MINUTE)).is_ok()).count())
            }
            Step::Rotate => counted(|| {
                let pairs = keys.iter().zip(strangers).take(all / 2);
                pairs.filter(|(old, new)| table.rotate(**old, **new, Span::from_secs(10), at(MINUTE)).is_ok()).count()
            }),
            Step::End => {
                counted(|| keys.iter().filter(|key| table.end(**key, Cause::Logout, at(MINUTE)).is_ok()).count())
            }
            Step::EndOfSubject => {
                let subjects: Vec<_> = (0..all / 4).map(|nth| subject(nth * 4)).collect();
                counted(|| {
                    subjects.iter().map(|one| table.end_subject(*one, Cause::Revoked, at(MINUTE)) as usize).sum()
                })
            }
            Step::AdvanceFilingAnew => {
                keys.iter().for_each(|key| {
                    table.touch(*key, UNBOUND, at(10 * MINUTE));
                });
                self.advance_to(20 * MINUTE)
            }
            Step::AdvanceEnding | Step::AdvanceEndingForgotten => {
                let end = if step == Step::AdvanceEnding { 20 * MINUTE } else { 15 * MINUTE };
                self.skip_to(end - 1);
                self.advance_to(end)
            }
            Step::AdvanceForgetting => {
                self.skip_to(480 * MINUTE - 1);
                self.advance_to(480 * MINUTE)
            }
        })
    }
}

//! What needs a process of its own: memory, and two processes on one region.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use clap::ValueEnum;
use curfew_bench::Result;
use curfew_bench::report::{Spread, markdown, resident, thousands};
use curfew_bench::sessions::random;
use curfew_engine::{Config, Table};
use rand::Rng;
use serde_json::{Value, json};

use crate::contender::{A_MILLISECOND, Contender, IDLE, Step};
use crate::field::Who;
use crate::ours::Curfew;

/// Bytes in use for each session, measured in a process that does nothing else.
pub(crate) fn memory(sessions: usize) -> Result<(String, Vec<Value>)> {
    let (mut rows, mut figures) = (Vec::new(), Vec::new());
    for who in
        Who::value_variants().iter().filter(|who| !matches!(who, Who::LimitHuge | Who::CurfewHuge | Who::CurfewAhead))
    {
        eprintln!("{}: memory of {} sessions", who.name(), thousands(sessions as u64));
        let name = who.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let run = itself().args(["hold", &name, &sessions.to_string()]).stderr(Stdio::inherit()).output()?;
        let bytes: f64 = String::from_utf8_lossy(&run.stdout).trim().parse()?;
        rows.push(vec![who.name().to_owned(), format!("{:.0}", bytes / sessions as f64)]);
        figures.push(json!({ "who": who.name(), "sessions": sessions, "bytes_per_session": bytes / sessions as f64 }));
    }
    let text = format!("Bytes in use per session, {} of them\n\n", thousands(sessions as u64));
    Ok((text + &markdown(&["", "bytes"], &rows) + "\n", figures))
}

/// Starts sessions and prints how much memory that took.
pub(crate) fn hold(who: Who, sessions: usize) -> Result<()> {
    let mut random = random(3);
    let before = resident();
    let contender = who.make::<u128>(sessions)?;
    for _ in 0..sessions {
        contender.start(random.random(), IDLE, 0);
    }
    contender.advance(1);
    println!("{}", resident() - before);
    Ok(())
}

/// One process on a region file, then two: how much more they do; and the same in pages of 2 MiB, if there
/// is a file system in memory, where the system can give a file such.
pub(crate) fn processes(sessions: usize, rounds: usize, touches: usize) -> Result<(String, Vec<Value>)> {
    let (mut text, mut figures) = (String::new(), Vec::new());
    for huge_pages in [false, true] {
        let (more, new) = processes_on(huge_pages, sessions, rounds, touches)?;
        text.push_str(&more);
        figures.push(new);
    }
    Ok((text, figures))
}

fn processes_on(huge_pages: bool, sessions: usize, rounds: usize, touches: usize) -> Result<(String, Value)> {
    let config = Config { huge_pages, ..Config::new(sessions as u64) };
    let made = |directory: std::io::Result<tempfile::TempDir>| -> Result<_> {
        let directory = directory?;
        let path = directory.path().join("region");
        let table = Table::create(&path, &config)?;
        Ok((directory, path, table))
    };
    let (_directory, path, table) = made(tempfile::tempdir_in("/dev/shm")).or_else(|_| made(tempfile::tempdir()))?;
    let curfew = Curfew::of(table)?;
    let mut random = random(5);
    (0..sessions).for_each(|_| Contender::<u128>::start(&curfew, random.random(), IDLE, 0));
    let mut workers = [Worker::new(&path, sessions, touches, 1)?, Worker::new(&path, sessions, touches, 2)?];
    let mut turns = Vec::new();
    for round in 0..=rounds {
        // The same time for both: a touch by a clock that is behind writes nothing.
        let now = 1 + (round * 2 * (touches / A_MILLISECOND + 1)) as u64;
        workers[0].go(now)?;
        let alone = workers[0].nanos()?;
        let now = now + (touches / A_MILLISECOND + 1) as u64;
        workers.iter_mut().try_for_each(|worker| worker.go(now))?;
        let both = workers.iter_mut().map(Worker::nanos).collect::<Result<Vec<_>>>()?;
        if round > 0 {
            turns.push((alone, both.iter().map(|nanos| 1.0 / nanos).sum::<f64>()));
        }
    }
    workers.into_iter().try_for_each(Worker::stop)?;
    let alone = Spread::of(turns.iter().map(|(alone, _)| *alone));
    let times = Spread::of(turns.iter().map(|(alone, both)| alone * both));
    let text = format!(
        "Two processes on one region file{}, {} sessions, uniform: {:.2} times the touches of one ({:.2} - {:.2}); one takes {:.0} ns\n\n",
        if huge_pages { ", 2 MiB pages" } else { "" },
        thousands(sessions as u64),
        times.median,
        times.min,
        times.max,
        alone.median,
    );
    Ok((
        text,
        json!({ "sessions": sessions, "huge_pages": huge_pages, "ns_alone": alone.json(), "times_one": times.json() }),
    ))
}

struct Worker {
    child: Child,
    says: BufReader<std::process::ChildStdout>,
}

impl Worker {
    fn new(region: &Path, sessions: usize, touches: usize, seed: u64) -> Result<Worker> {
        let mut child = itself()
            .arg("touch-region")
            .arg(region)
            .args([sessions.to_string(), touches.to_string(), seed.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let says = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        let mut worker = Worker { child, says };
        worker.line()?;
        Ok(worker)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        Ok(line)
    }

    fn go(&mut self, now: u64) -> Result<()> {
        Ok(writeln!(self.child.stdin.as_mut().ok_or("no pipe")?, "{now}")?)
    }

    fn nanos(&mut self) -> Result<f64> {
        Ok(self.line()?.trim().parse()?)
    }

    fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        self.child.wait()?;
        Ok(())
    }
}

/// Touches sessions of a region each time it is told when to, and prints nanoseconds per touch.
pub(crate) fn touch_region(region: &Path, sessions: usize, touches: usize, seed: u64) -> Result<()> {
    let curfew = Curfew::of(Table::open(region)?)?;
    let mut of_all = random(5);
    let keys: Vec<u128> = (0..sessions).map(|_| of_all.random()).collect();
    let mut random = random(100 + seed);
    let steps: Vec<_> = (0..touches).map(|_| Step::Touch(keys[random.random_range(0..keys.len())])).collect();
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let now = line?.parse()?;
        let begin = Instant::now();
        let passed = Contender::<u128>::work(&curfew, &steps, now, false);
        let nanos = begin.elapsed().as_nanos() as f64 / touches as f64;
        if passed != touches {
            return Err(format!("{passed} of {touches} sessions were there").into());
        }
        println!("{nanos}");
    }
    Ok(())
}

fn itself() -> Command {
    Command::new(std::env::current_exe().unwrap_or_default())
}

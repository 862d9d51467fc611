//! Two processes on one region: the first starts sessions, the second sees them and ends one.
//!
//!     cargo run -p curfew-engine --example shared

use std::path::Path;
use std::process::Command;

use curfew_engine::{Binding, Cause, Config, Moment, Policy, Span, Start, Table, Tick, Verdict};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// All processes of a machine share this clock.
fn now(table: &Table) -> std::io::Result<Tick> {
    Ok(table.tick_at(Moment::now()?.steady))
}

fn main() -> Outcome {
    match std::env::args().nth(1) {
        Some(path) => second(Path::new(&path)),
        None => first(),
    }
}

fn first() -> Outcome {
    let path = std::env::temp_dir().join(format!("curfew-example-{}.region", std::process::id()));
    let table = Table::create(&path, &Config::new(10_000))?;
    let staff = Policy::new().idle(Span::from_mins(15)).lifetime(Span::from_mins(8 * 60));
    let staff = table.set_policy("staff", &staff, now(&table)?)?;
    let key = table.key(b"a session id, as the application issued it");
    table.start(key, &Start::under(staff).of(table.subject(b"alice")), now(&table)?)?;
    println!("first:  {:?}", table.touch(key, Binding::NONE, now(&table)?));

    let status = Command::new(std::env::current_exe()?).arg(&path).status()?;
    std::fs::remove_file(&path)?;
    assert!(status.success());

    match table.touch(key, Binding::NONE, now(&table)?) {
        Verdict::Ended(end) => println!("first:  ended meanwhile: {}", end.cause.name()),
        other => println!("first:  {other:?}"),
    }
    for event in table.events() {
        println!("first:  event: {} {:?} after {:?}", event.key, event.cause, event.age);
    }
    Ok(())
}

fn second(path: &Path) -> Outcome {
    let table = Table::open(path)?;
    for session in table.sessions(now(&table)?) {
        println!("second: sees {} of {:?}", session.key, session.subject);
    }
    let ended = table.end_subject(table.subject(b"alice"), Cause::Revoked, now(&table)?);
    println!("second: ended {ended}");
    Ok(())
}

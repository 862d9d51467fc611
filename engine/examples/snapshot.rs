//! A snapshot, a reboot, and the sessions that come back from it: those with time left.
//!
//!     cargo run -p curfew-engine --example snapshot

use curfew_engine::{Binding, Config, Moment, Policy, Retain, Snapshot, Span, Start, Table, Tick, Verdict};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let folder = std::env::temp_dir().join(format!("curfew-example-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let outcome = run(&folder.join("app.region"), &folder.join("app.snapshot"));
    std::fs::remove_dir_all(&folder)?;
    outcome
}

fn run(region: &std::path::Path, file: &std::path::Path) -> Outcome {
    let table = Table::create(region, &Config::new(10_000))?;
    let present = Moment::now()?;
    let now = table.tick_at(present.steady);
    let staff = Policy::new().idle(Span::from_mins(15)).lifetime(Span::from_mins(8 * 60));
    let staff = staff.retain(Retain::For(Span::DAY));
    let staff = table.set_policy("staff", &staff, now)?;
    let soon = now.after(Span::from_mins(5));
    table.start(table.key(b"alice's"), &Start::under(staff).of(table.subject(b"alice")), now)?;
    table.start(table.key(b"bob's"), &Start::under(staff).of(table.subject(b"bob")).until(soon), now)?;
    let written = table.snapshot(file, &present)?;
    println!("saved {} sessions in {} bytes", written.live, written.bytes);

    // The machine goes down, and its region file, if it is still there, is of another boot.
    drop(table);
    std::fs::remove_file(region)?;
    // Ten minutes later by the clock on the wall it is up again, since one minute.
    let (minute, boot) = (60_000, present.boot + 2);
    let later = Moment { steady: minute, wall: present.wall + 10 * minute, boot };

    let snapshot = Snapshot::open(file)?;
    // Twice as large, while we are at it.
    let config = Config { capacity: 20_000, ..snapshot.config() };
    let (table, restored) = snapshot.restore(region, &config, &later)?;
    println!("{:?} have passed: {} go on, the time of {} has come", restored.downtime, restored.live, restored.over);
    for id in ["alice's", "bob's"] {
        match table.touch(table.key(id.as_bytes()), Binding::NONE, restored.now) {
            Verdict::Active(left) => {
                println!("{id} session has lasted {:?}, and ends in {:?} at most", left.age(), left.lifetime())
            }
            Verdict::Ended(end) => println!("{id} session ended by its {}, at {:?}", end.cause.name(), end.at),
            other => println!("{id} session: {other:?}"),
        }
    }
    let now: Tick = table.tick_at(later.steady);
    while table.advance(now, 1000).more {}
    for event in table.events() {
        println!("event: {:?} of {:?} by {:?}", event.what, event.subject, event.cause);
    }
    Ok(())
}

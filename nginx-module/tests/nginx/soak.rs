//! Everything at once, against a model: sessions begin, are used, are left alone and are logged out by
//! several clients while nginx is reloaded, its zone gets another size, and its workers are killed. Some
//! seconds in the suite; CURFEW_SOAK_SECONDS makes it longer (`make soak-nginx`), and from a minute on wrk
//! adds to the load.
//!
//! A client knows the server's time of a request only as an interval: between sending it and having the
//! answer. So of each session it knows the earliest and the latest time of its last use, and what the
//! verdict must be wherever the intervals leave no doubt. A request that broke off, because its worker
//! was killed, may or may not have counted.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{Site, eventually, request};
use crate::sessions::site;

const IDLE: Duration = Duration::from_millis(1500);
const CLIENTS: u64 = 4;

/// A generator of numbers that are the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// What a client knows of a session.
struct Known {
    id: String,
    /// The earliest and the latest time of its last use.
    last: (Instant, Instant),
    /// The verdict, once it has ended.
    ended: Option<&'static str>,
    /// It is left alone until then.
    rests: Instant,
}

#[derive(Default)]
struct Tally {
    right: AtomicU64,
    in_doubt: AtomicU64,
    broken: AtomicU64,
    ends: AtomicU64,
}

fn client(number: u64, seed: u64, address: SocketAddr, stop: &AtomicBool, tally: &Tally) {
    let mut chance = Chance(seed ^ (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut sessions: Vec<Known> = Vec::new();
    let mut begun = 0;
    while !stop.load(Ordering::Relaxed) {
        if sessions.len() < 40 && chance.below(3) == 0 {
            let id = format!("c{number}n{begun}");
            begun += 1;
            let before = Instant::now();
            match request(address, "GET", &format!("/login?sid={id}"), &[]) {
                Ok(response) => {
                    assert_eq!(response.status, 200, "a login: {response:?}");
                    sessions.push(Known { id, last: (before, Instant::now()), ended: None, rests: before });
                }
                Err(_) => _ = tally.broken.fetch_add(1, Ordering::Relaxed),
            }
            continue;
        }
        if sessions.iter().all(|session| session.rests > Instant::now()) {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let which = chance.below(sessions.len() as u64) as usize;
        let logs_out = chance.below(40) == 0;
        let session = &mut sessions[which];
        if session.rests > Instant::now() {
            continue;
        }
        let cookie = format!("sid={}", session.id);
        let before = Instant::now();
        let answer = request(address, "GET", if logs_out { "/logout" } else { "/" }, &[("Cookie", &cookie)]);
        let after = Instant::now();
        let Ok(response) = answer else {
            tally.broken.fetch_add(1, Ordering::Relaxed);
            if logs_out {
                sessions.swap_remove(which);
            } else {
                session.last.1 = after;
            }
            continue;
        };
        let verdict = response.verdict();
        let must_live = session.ended.is_none() && after - session.last.0 < IDLE;
        let must_have_ended = session.ended.is_some() || before.saturating_duration_since(session.last.1) >= IDLE;
        if logs_out {
            if must_live {
                assert_eq!(verdict, "LOGGED_OUT", "{} is logged out", session.id);
                session.ended = Some("LOGGED_OUT");
            } else {
                sessions.swap_remove(which);
            }
            continue;
        }
        let (lives, has_ended) = (verdict == "ACTIVE", verdict == session.ended.unwrap_or("IDLE_EXPIRED"));
        assert!(lives || has_ended, "{}: {response:?}", session.id);
        // A session may end while its request is with the application; then that one passes.
        assert!(response.status == 200 || !lives, "{}: {response:?}", session.id);
        assert!(response.status == 401 || !must_have_ended, "{}: {response:?}", session.id);
        assert!(lives || !must_live, "{} ended early, {:?} after its last use", session.id, after - session.last.0);
        assert!(!lives || !must_have_ended, "{} came back or lived on: {response:?}", session.id);
        let certain = if must_live || must_have_ended { &tally.right } else { &tally.in_doubt };
        certain.fetch_add(1, Ordering::Relaxed);
        if lives {
            session.last = (before, after);
        } else {
            tally.ends.fetch_add(u64::from(session.ended.is_none()), Ordering::Relaxed);
            session.ended = Some(session.ended.unwrap_or("IDLE_EXPIRED"));
            // Dead ones are asked for a while, and then make room.
            if chance.below(5) == 0 {
                sessions.swap_remove(which);
                continue;
            }
        }
        // About the length of the timeout, a little less or more: then it is alive still, or has ended.
        if chance.below(4) == 0 {
            session.rests = after + IDLE * (50 + chance.below(100) as u32) / 100;
        }
    }
}

/// Memory of a process that is its own, in KiB.
fn own_memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

#[test]
fn no_verdict_is_wrong_while_nginx_is_reloaded_and_workers_are_killed() {
    let seconds = std::env::var("CURFEW_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let seed = std::env::var("CURFEW_SOAK_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x5eed);
    let sized = |size: &str| {
        let http = site("idle=1500ms retain=1h", "").replace("app:1m", &format!("app:{size}"));
        http.replace("server {", "access_log off; server {")
    };
    let nginx = Site::new().start(&sized("64m"));
    let mut wrk = (seconds >= 60).then(|| {
        let mut command = std::process::Command::new("wrk");
        command.args(["-t1", "-c8", "-H", "Cookie: sid=wrk", "-d"]).arg(format!("{seconds}s"));
        let command = command.arg(format!("http://{}/page", nginx.site.address())).stdout(std::process::Stdio::null());
        command.spawn().expect("wrk is installed: scripts/setup bench-nginx")
    });
    let (stop, tally, mut chance) = (AtomicBool::new(false), Tally::default(), Chance(seed));
    let (mut kills, mut reloads, mut most) = (0, 0, 0);
    std::thread::scope(|scope| {
        let address = nginx.site.address();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (stop, tally) = (&stop, &tally);
                scope.spawn(move || client(number, seed, address, stop, tally))
            })
            .collect();
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(seconds) && !clients.iter().any(|client| client.is_finished()) {
            std::thread::sleep(Duration::from_millis(200 + chance.below(800)));
            if chance.below(3) == 0 {
                nginx.site.configure(&sized(["64m", "48m"][chance.below(2) as usize]));
                nginx.signal(nginx.master(), Signal::SIGHUP);
                reloads += 1;
            } else if let Some(worker) = nginx.workers().first() {
                // It may be gone by itself, after a reload.
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*worker), Signal::SIGKILL);
                kills += 1;
            }
            most = most.max(nginx.workers().iter().map(|pid| own_memory(*pid)).max().unwrap_or(0));
        }
        stop.store(true, Ordering::Relaxed);
    });
    if let Some(wrk) = &mut wrk {
        wrk.wait().unwrap();
    }
    eventually("three workers are left", || nginx.workers().len() == 3);
    let moves = nginx.error_log().matches("were moved over").count();
    let stays = nginx.error_log().matches("sessions, and the configuration says").count();
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    println!(
        "{} verdicts certain and right, {} in doubt, {} requests broken off, {} idle ends, {kills} kills, {reloads} reloads, \
         {moves} moves into another size and {stays} that were called off, workers had at most {most} KiB of their own",
        count(&tally.right),
        count(&tally.in_doubt),
        count(&tally.broken),
        count(&tally.ends)
    );
    assert!(count(&tally.right) > 100 && count(&tally.ends) > 0, "too little happened to show anything");
    assert!(most < 16 << 10, "a worker has {most} KiB of its own");
    assert!(!nginx.error_log().contains("panicked"), "{}", nginx.error_log());
}

//! What nginx goes through: reload, restart, upgrade, death.

use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;

use crate::harness::{Nginx, Site, eventually, module, request};
use crate::sessions::site;

fn with_path(policy: &str) -> String {
    site(policy, "").replace("zone=app:1m", "zone=app:1m path=$FOLDER/run/app.region")
}

#[test]
fn a_reload_keeps_every_session_and_every_end() {
    for http in [site("idle=15m lifetime=8h", ""), with_path("idle=15m lifetime=8h")] {
        let nginx = Site::new().start(&http);
        nginx.log_in("stays");
        nginx.log_in("gone");
        nginx.with_id("/logout", "gone");
        for _ in 0..3 {
            nginx.reload(&http);
            nginx.of_every_worker(|| {
                assert_eq!(nginx.with_id("/", "gone").verdict(), "LOGGED_OUT");
                let response = nginx.with_id("/", "stays");
                assert_eq!(response.status, 200, "{}", response.verdict());
                response.worker()
            });
        }
    }
}

#[test]
fn a_reload_applies_a_changed_policy_to_living_sessions() {
    let nginx = Site::new().start(&site("idle=15m", ""));
    nginx.log_in("abc");
    for round in 0..5 {
        nginx.reload(&site(&format!("idle=15m lifetime={}h", 8 + round), ""));
        assert_eq!(nginx.with_id("/", "abc").status, 200);
    }
    nginx.reload(&site("idle=15m lifetime=1ms", ""));
    nginx.of_every_worker(|| {
        let response = nginx.with_id("/", "abc");
        assert_eq!(response.verdict(), "LIFETIME_EXPIRED");
        response.worker()
    });
    nginx.reload(&site("idle=15m lifetime=8h", ""));
    assert_eq!(nginx.with_id("/", "abc").verdict(), "LIFETIME_EXPIRED", "no policy brings it back");
    assert!(!nginx.error_log().contains("[emerg]"), "{}", nginx.error_log());
}

#[test]
fn another_version_of_the_module_comes_in_by_a_reload_and_keeps_every_session() {
    let http = site("idle=15m lifetime=8h", "");
    let nginx = Site::new().start(&http);
    nginx.log_in("stays");
    nginx.log_in("gone");
    nginx.with_id("/logout", "gone");
    for number in 0..3 {
        let next = nginx.site.path(&format!("curfew-{number}.so"));
        std::fs::copy(module(), &next).unwrap();
        nginx.site.configure(&http);
        let text = nginx.log("nginx.conf").replace(&module().display().to_string(), &next.display().to_string());
        std::fs::write(nginx.site.path("nginx.conf"), text).unwrap();
        nginx.reload_as_it_is();
        nginx.of_every_worker(|| {
            assert_eq!(nginx.with_id("/", "gone").verdict(), "LOGGED_OUT");
            let response = nginx.with_id("/", "stays");
            assert_eq!(response.status, 200, "{}", response.verdict());
            response.worker()
        });
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", nginx.workers()[0])).unwrap();
        assert!(maps.contains(&format!("curfew-{number}.so")), "it is the one that runs");
    }
}

#[test]
fn a_configuration_that_is_refused_leaves_the_old_one_at_work() {
    let nginx = Site::new().start(&site("idle=15m", ""));
    nginx.log_in("abc");
    nginx.site.configure(&site("idle=0", ""));
    nginx.signal(nginx.master(), Signal::SIGHUP);
    eventually("it is refused", || nginx.error_log().contains("a policy needs idle or lifetime"));
    assert_eq!(nginx.with_id("/", "abc").status, 200);
}

#[test]
fn a_file_keeps_sessions_over_a_restart_and_memory_does_not() {
    let http = with_path("idle=15m lifetime=8h");
    let nginx = Site::new().start(&http);
    nginx.log_in("stays");
    nginx.log_in("gone");
    nginx.with_id("/logout", "gone");
    let nginx = nginx.stop().start(&http);
    assert_eq!(nginx.with_id("/", "stays").status, 200);
    assert_eq!(nginx.with_id("/", "gone").verdict(), "LOGGED_OUT");

    let http = site("idle=15m lifetime=8h", "");
    let nginx = Site::new().start(&http);
    nginx.log_in("abc");
    let nginx = nginx.stop().start(&http);
    let response = nginx.with_id("/", "abc");
    assert_eq!((response.status, response.verdict()), (401, "UNKNOWN"), "closed, not open");
}

#[test]
fn a_binary_upgrade_keeps_every_session_with_a_file_and_without() {
    for with in [with_path, without_path] {
        let mut nginx = Site::new().start_daemon(&with("idle=15m lifetime=8h"));
        nginx.log_in("stays");
        nginx.log_in("gone");
        nginx.with_id("/logout", "gone");
        // A reload in between, and another upgrade after it; the second with another size.
        for size in ["1m", "4m"] {
            nginx.reload(&sized(with, "1m"));
            nginx.site.configure(&sized(with, size));
            nginx.upgrade();
            nginx.of_every_worker(|| {
                assert_eq!(nginx.with_id("/", "gone").verdict(), "LOGGED_OUT");
                let response = nginx.with_id("/", "stays");
                assert_eq!(response.status, 200, "{}", response.verdict());
                response.worker()
            });
        }
        assert!(nginx.error_log().contains("2 were moved over"), "{}", nginx.error_log());
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", nginx.master())).unwrap();
        let regions = descriptors.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        let regions = regions.filter(|path| path.to_string_lossy().contains("memfd:curfew:app"));
        assert!(regions.count() <= 1, "upgrades leave no descriptors behind");
    }
}

fn sized(with: fn(&str) -> String, size: &str) -> String {
    with("idle=15m lifetime=8h").replace("app:1m", &format!("app:{size}"))
}

fn without_path(policy: &str) -> String {
    site(policy, "")
}

/// Who has a session has it, and who is logged out stays that.
fn all_are_there(nginx: &Nginx) {
    nginx.of_every_worker(|| nginx.with_id("/", "s1").worker());
    assert_eq!(nginx.with_id("/", "s0").verdict(), "LOGGED_OUT");
    for number in 1..500 {
        let response = nginx.with_id("/", &format!("s{number}"));
        assert_eq!((response.status, response.verdict()), (200, "ACTIVE"), "s{number}\n{}", nginx.error_log());
    }
}

fn with_500_sessions(nginx: &Nginx) {
    for number in 0..500 {
        nginx.log_in(&format!("s{number}"));
    }
    nginx.with_id("/logout", "s0");
}

#[test]
fn a_reload_with_another_size_moves_every_session_over() {
    for with in [with_path, without_path] {
        let nginx = Site::new().start(&sized(with, "1m"));
        with_500_sessions(&nginx);
        for (size, moved) in [("4m", true), ("1m", true), ("1m", false), ("300k", true)] {
            let before = nginx.error_log().matches("500 were moved over").count();
            nginx.reload(&sized(with, size));
            let after = nginx.error_log().matches("500 were moved over").count();
            assert_eq!(after, before + usize::from(moved), "{size}\n{}", nginx.error_log());
            all_are_there(&nginx);
        }
        nginx.reload(&sized(with, "150k"));
        assert!(nginx.error_log().contains("has no room for what the snapshot holds"), "{}", nginx.error_log());
        all_are_there(&nginx);
        // And it goes on from there.
        nginx.reload(&sized(with, "2m"));
        all_are_there(&nginx);
    }
}

#[test]
fn a_start_with_another_size_moves_every_session_over() {
    let nginx = Site::new().start(&sized(with_path, "1m"));
    with_500_sessions(&nginx);
    let nginx = nginx.stop().start(&sized(with_path, "4m"));
    all_are_there(&nginx);
    // By a reload first, and then by a start; what the former regions took is given back.
    nginx.reload(&sized(with_path, "1m"));
    let nginx = nginx.stop().start(&sized(with_path, "500k"));
    all_are_there(&nginx);
    assert_eq!(nginx.error_log().matches("500 were moved over").count(), 3, "{}", nginx.error_log());
    let region = nginx.site.path("run/app.region");
    // The zone's own room, all of which a file takes, and the headers of those before it.
    let taken = region.metadata().unwrap().blocks() * 512;
    assert!(taken < (500 + 40) << 10, "{taken} bytes are taken");
    let nginx = nginx.stop().start(&sized(with_path, "150k"));
    assert!(nginx.error_log().contains("has no room for what the snapshot holds"), "{}", nginx.error_log());
    all_are_there(&nginx);
    let names: Vec<_> = nginx.site.path("run").read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["app.region"]);
}

#[test]
fn nothing_that_happens_while_a_region_moves_is_lost() {
    let nginx = Site::new().start(&sized(without_path, "1m"));
    let stop = AtomicBool::new(false);
    let address = nginx.site.address();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|client| {
                let stop = &stop;
                scope.spawn(move || {
                    let mut number = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let id = format!("c{client}n{number}");
                        number += 1;
                        let ask = |path: &str| {
                            let cookie = format!("sid={id}");
                            // nginx may close a connection that a worker on its way out has accepted.
                            (0..5).find_map(|_| request(address, "GET", path, &[("Cookie", &cookie)]).ok()).unwrap()
                        };
                        let login = ask(&format!("/login?sid={id}"));
                        assert_eq!(login.status, 200, "{login:?}");
                        assert_eq!(ask("/").verdict(), "ACTIVE", "{id} has begun");
                        ask("/logout");
                        assert_eq!(ask("/").verdict(), "LOGGED_OUT", "{id} has ended");
                    }
                    number
                })
            })
            .collect();
        for round in 0..6 {
            nginx.reload(&sized(without_path, if round % 2 == 0 { "4m" } else { "6m" }));
        }
        stop.store(true, Ordering::Relaxed);
        let done: u32 = clients.into_iter().map(|client| client.join().unwrap()).sum();
        assert!(done > 3, "{done}");
    });
    assert_eq!(nginx.error_log().matches("were moved over").count(), 6, "{}", nginx.error_log());
    assert!(!nginx.error_log().contains("cannot be used"), "{}", nginx.error_log());
}

#[test]
fn a_worker_that_stands_still_keeps_a_region_from_moving_and_nobody_waits_for_it() {
    let nginx = Site::new().start(&sized(without_path, "1m"));
    with_500_sessions(&nginx);
    let stuck = nginx.workers()[0];
    nginx.signal(stuck, Signal::SIGSTOP);
    nginx.site.configure(&sized(without_path, "4m"));
    nginx.signal(nginx.master(), Signal::SIGHUP);
    eventually("it is said that the size stays", || nginx.error_log().contains("takes no part in moving it"));
    nginx.signal(stuck, Signal::SIGCONT);
    eventually("the old workers are gone", || nginx.workers().len() == 3 && !nginx.workers().contains(&stuck));
    all_are_there(&nginx);
    nginx.reload(&sized(without_path, "4m"));
    assert!(nginx.error_log().contains("500 were moved over"), "{}", nginx.error_log());
    all_are_there(&nginx);
}

#[test]
fn a_file_that_is_removed_under_a_running_nginx_does_not_log_everybody_out() {
    let http = with_path("idle=15m lifetime=8h");
    let nginx = Site::new().start(&http);
    nginx.log_in("abc");
    std::fs::remove_file(nginx.site.path("run/app.region")).unwrap();
    nginx.reload(&http);
    assert!(nginx.error_log().contains("was removed while in use"), "{}", nginx.error_log());
    nginx.of_every_worker(|| {
        let response = nginx.with_id("/", "abc");
        assert_eq!(response.status, 200, "{}", response.verdict());
        response.worker()
    });
}

#[test]
fn a_region_file_is_the_workers_and_nobody_elses() {
    let nginx = Site::new().start(&with_path("idle=15m"));
    let meta = nginx.site.path("run/app.region").metadata().unwrap();
    assert_eq!(meta.mode() & 0o777, 0o600);
    // A worker changes its user after it was made.
    eventually("it is the workers'", || {
        let uid = |pid: &i32| std::fs::metadata(format!("/proc/{pid}")).map(|worker| worker.uid()).ok();
        nginx.workers().first().and_then(uid) == Some(meta.uid())
    });
}

#[test]
fn a_file_that_is_no_region_is_not_touched_and_nginx_does_not_start_on_it() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new();
    let path = site.path("run");
    std::fs::create_dir(&path).unwrap();
    let path = path.join("app.region");
    std::fs::write(&path, "precious".repeat(10_000)).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    if nix::unistd::geteuid().is_root() {
        let workers = nix::unistd::User::from_name("www-data").unwrap().unwrap();
        std::os::unix::fs::chown(&path, Some(workers.uid.as_raw()), None).unwrap();
    }
    let (in_order, text) = site.check(&with_path("idle=15m"));
    assert!(!in_order && text.contains("zone \"app\" cannot be used: this is not a Curfew region"), "{text}");
    assert_eq!(std::fs::read(&path).unwrap(), "precious".repeat(10_000).as_bytes());
}

#[test]
fn a_check_of_the_configuration_makes_nothing() {
    let site = Site::new();
    let (in_order, text) = site.check(&with_path("idle=15m"));
    assert!(in_order, "{text}");
    assert!(!site.path("run").exists());
}

#[test]
fn workers_that_are_killed_take_nothing_along() {
    let nginx = Site::new().start(&site("idle=15m lifetime=8h", ""));
    for number in 0..20 {
        nginx.log_in(&format!("s{number}"));
    }
    for round in 0..5 {
        // Killed while they are at work: requests of this moment may fail, sessions may not.
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let address = nginx.site.address();
                scope.spawn(move || {
                    for number in 0..40 {
                        let id = format!("sid=s{}", (number + thread) % 20);
                        let login = format!("/login?sid=r{round}t{thread}n{number}");
                        let _ = request(address, "GET", &login, &[]);
                        if let Ok(response) = request(address, "GET", "/", &[("Cookie", &id)]) {
                            assert_eq!(response.status, 200, "{}", response.verdict());
                        }
                    }
                });
            }
            let worker = nginx.workers()[round % 3];
            nginx.signal(worker, Signal::SIGKILL);
        });
        eventually("there are three again", || nginx.workers().len() == 3);
    }
    nginx.of_every_worker(|| {
        let response = nginx.with_id("/", "s7");
        assert_eq!(response.status, 200, "{}", response.verdict());
        response.worker()
    });
}

#[test]
fn a_session_that_ends_while_its_request_is_under_way_stays_ended() {
    let nginx = Site::new().start(&site("idle=15m", ""));
    nginx.log_in("abc");
    std::thread::scope(|scope| {
        scope.spawn(|| nginx.with_id("/?wait", "abc"));
        eventually("the request is with the application", || !nginx.site.app.waiting.lock().unwrap().is_empty());
        nginx.with_id("/logout", "abc");
        nginx.site.app.let_go();
    });
    assert_eq!(nginx.with_id("/", "abc").verdict(), "LOGGED_OUT");
}

#[test]
fn an_old_worker_and_a_new_one_know_the_same_sessions() {
    let http = site("idle=15m", "keepalive_timeout 60s; curfew_streams off;");
    let nginx = Site::new().start(&http);
    nginx.log_in("abc");
    std::thread::scope(|scope| {
        // Keeps a worker of the old configuration there.
        scope.spawn(|| nginx.with_id("/?wait", "abc"));
        eventually("the request is with the application", || !nginx.site.app.waiting.lock().unwrap().is_empty());
        let old = nginx.workers();
        nginx.site.configure(&http);
        nginx.signal(nginx.master(), Signal::SIGHUP);
        eventually("new workers are there", || nginx.workers().iter().filter(|pid| !old.contains(pid)).count() == 3);
        eventually("one of them ends the session", || {
            let response = nginx.with_id("/logout", "abc");
            response.status == 200 && !old.contains(&response.worker())
        });
        nginx.site.app.let_go();
    });
    assert_eq!(nginx.with_id("/", "abc").verdict(), "LOGGED_OUT");
}

#[test]
fn a_thousand_sessions_end_at_once_and_on_time() {
    let nginx = Site::new().start(&site("idle=15m lifetime=8h", ""));
    for number in 0..1000 {
        nginx.log_in(&format!("s{number}"));
    }
    nginx.reload(&site("idle=15m lifetime=1ms", ""));
    for number in 0..1000 {
        assert_eq!(nginx.with_id("/", &format!("s{number}")).verdict(), "LIFETIME_EXPIRED");
    }
}

/// Bytes of the zone that a process has in pages of 2 MiB; `None` when that is not to be seen.
fn in_huge_pages(pid: i32) -> Option<u64> {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).ok()?;
    let mut is_ours = false;
    let lines = smaps.lines().filter_map(|line| {
        let first = line.split_whitespace().next()?;
        if !first.ends_with(':') {
            is_ours = line.contains("memfd:curfew:app");
        }
        let kibibytes = line.strip_prefix("ShmemPmdMapped:").filter(|_| is_ours)?;
        kibibytes.trim().trim_end_matches(" kB").parse::<u64>().ok()
    });
    Some(lines.sum::<u64>() << 10)
}

/// Whether this system puts pages together for who asks, and for nobody else.
fn puts_pages_together() -> bool {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let release = text("/proc/sys/kernel/osrelease");
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let enabled = text("/sys/kernel/mm/transparent_hugepage/enabled");
    let of_shared = text("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
    (numbers.next(), numbers.next()) >= (Some(6), Some(1))
        && ["[always]", "[madvise]"].iter().any(|on| enabled.contains(on))
        && ["[never]", "[advise]"].iter().any(|asked| of_shared.contains(asked))
}

#[test]
fn a_zone_that_asks_for_pages_of_2_mib_has_them_in_every_worker_and_after_a_change_of_its_size() {
    let zone = |size: &str, pages: &str| {
        site("idle=15m lifetime=8h", "").replace("zone=app:1m", &format!("zone=app:{size} huge_pages={pages}"))
    };
    let is_seen = puts_pages_together();
    if !is_seen {
        eprintln!("skipped: whether there are pages of 2 MiB; this system puts none together, or all");
    }
    for (pages, asked) in [("off", false), ("on", true)] {
        let nginx = Site::new().start(&zone("5m", pages));
        nginx.log_in("abc");
        for size in ["5m", "16m", "5m"] {
            nginx.reload(&zone(size, pages));
            nginx.of_every_worker(|| {
                let response = nginx.with_id("/", "abc");
                assert_eq!(response.status, 200, "{size}");
                let worker = response.worker();
                // What every request looks at lies in the first of them.
                if let (true, Some(bytes)) = (is_seen, in_huge_pages(worker)) {
                    assert_eq!(bytes >= 2 << 20, asked, "{size}: {bytes}");
                }
                worker
            });
        }
        assert!(nginx.error_log().contains("1 were moved over"), "{}", nginx.error_log());
    }
}

#[test]
fn a_policy_for_which_there_is_no_number_left_is_refused_and_the_old_configuration_goes_on() {
    let other = |names: std::ops::Range<usize>| names.map(|name| format!("curfew_policy p{name} idle=1m;\n"));
    let with = |names| other(names).collect::<String>() + &with_path("idle=15m");
    let nginx = Site::new().start(&with(0..60));
    nginx.log_in("abc");
    let (in_order, text) = nginx.site.check(&with(60..64));
    assert!(!in_order && text.contains("holds 61 policies") && text.contains("no room for \"p63\""), "{text}");
    let workers = nginx.workers();
    nginx.signal(nginx.master(), Signal::SIGHUP);
    eventually("it is refused", || nginx.error_log().contains("call it as one that is not used any more (p0, p1, "));
    assert_eq!((nginx.with_id("/", "abc").status, nginx.workers()), (200, workers));
    nginx.log_in("another");
    nginx.reload(&with(60..63));
    nginx.log_in("third");
    assert_eq!(nginx.with_id("/", "abc").status, 200);
}

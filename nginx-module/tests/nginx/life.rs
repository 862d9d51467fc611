//! What nginx goes through: reload, restart, upgrade, death.

use nix::sys::signal::Signal;

use crate::harness::{Site, eventually, module, request};
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
fn a_file_keeps_sessions_over_a_binary_upgrade() {
    let mut nginx = Site::new().start_daemon(&with_path("idle=15m lifetime=8h"));
    nginx.log_in("stays");
    nginx.log_in("gone");
    nginx.with_id("/logout", "gone");
    nginx.upgrade();
    nginx.of_every_worker(|| {
        assert_eq!(nginx.with_id("/", "gone").verdict(), "LOGGED_OUT");
        let response = nginx.with_id("/", "stays");
        assert_eq!(response.status, 200, "{}", response.verdict());
        response.worker()
    });
}

#[test]
fn another_size_waits_for_a_start_and_loses_nobody() {
    let sized = |size: &str| with_path("idle=15m lifetime=8h").replace("app:1m", &format!("app:{size}"));
    let nginx = Site::new().start(&sized("1m"));
    for number in 0..500 {
        nginx.log_in(&format!("s{number}"));
    }
    nginx.with_id("/logout", "s0");
    nginx.reload(&sized("4m"));
    assert!(nginx.error_log().contains("until nginx is started anew"), "{}", nginx.error_log());
    assert_eq!(nginx.with_id("/", "s1").status, 200);
    let region = nginx.site.path("run/app.region");
    let bytes = region.metadata().unwrap().len();
    let nginx = nginx.stop().start(&sized("4m"));
    assert!(nginx.error_log().contains("500 were moved over"), "{}", nginx.error_log());
    assert!(region.metadata().unwrap().len() > 3 * bytes);
    assert_eq!(nginx.with_id("/", "s0").verdict(), "LOGGED_OUT");
    assert!((1..500).all(|number| nginx.with_id("/", &format!("s{number}")).status == 200));

    let nginx = nginx.stop().start(&sized("128k"));
    assert!(nginx.error_log().contains("with fewer sessions (the other region is full"), "{}", nginx.error_log());
    assert!(
        (1..500).all(|number| nginx.with_id("/", &format!("s{number}")).status == 200),
        "too small: nobody is lost"
    );
    let names: Vec<_> = nginx.site.path("run").read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["app.region"]);
}

#[test]
fn a_region_file_is_the_workers_and_nobody_elses() {
    use std::os::unix::fs::MetadataExt;
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
    let http = site("idle=15m", "keepalive_timeout 60s;");
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

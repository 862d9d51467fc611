//! A session's life: it begins when the application issues its id, goes on while it is used, and ends
//! on time, for every worker.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::harness::{Nginx, Site, eventually};

/// A zone, a policy, and an application with its login and logout.
pub(crate) fn site(policy: &str, more: &str) -> String {
    format!(
        "curfew_zone zone=app:1m;
         curfew_policy staff {policy};
         server {{
             listen $LISTEN;
             curfew zone=app policy=staff;
             curfew_id $cookie_sid;
             {more}
             location / {{ proxy_pass http://$APP; }}
             location = /login {{ curfew off; curfew_start $upstream_cookie_sid; proxy_pass http://$APP; }}
             location = /logout {{ curfew off; curfew_end logout; proxy_pass http://$APP; }}
             location = /session {{ curfew_status_json; }}
         }}"
    )
}

fn start(policy: &str, more: &str) -> Nginx {
    Site::new().start(&site(policy, more))
}

#[test]
fn a_session_begins_when_the_application_issues_its_id_and_passes_on_every_worker() {
    let nginx = start("idle=15m lifetime=8h", "");
    assert_eq!(nginx.with_id("/", "made-up").status, 401);
    nginx.log_in("abc");
    nginx.of_every_worker(|| {
        let response = nginx.with_id("/page", "abc");
        assert_eq!((response.status, response.verdict()), (200, "ACTIVE"));
        assert_eq!(response.body, "application /page");
        response.worker()
    });
    assert_eq!(nginx.with_id("/", "made-up").verdict(), "UNKNOWN");
}

#[test]
fn a_request_without_an_id_is_refused_unless_the_configuration_lets_it_pass() {
    let nginx = start("idle=15m", "location /public { curfew_no_id pass; proxy_pass http://$APP; }");
    let response = nginx.get("/", &[]);
    assert_eq!((response.status, response.verdict()), (401, "NO_ID"));
    assert_eq!(nginx.with_id("/", "").verdict(), "NO_ID");
    let response = nginx.get("/public", &[]);
    assert_eq!((response.status, response.verdict()), (200, "NO_ID"));
    assert_eq!(nginx.with_id("/public", "made-up").status, 401, "an id that is not known is another matter");
}

#[test]
fn a_session_that_is_not_used_ends_at_its_idle_timeout_on_every_worker() {
    let nginx = start("idle=700ms", "");
    nginx.log_in("abc");
    // The session's clock began before the answer to the login arrived, and its timeout runs from the
    // last request that passed.
    let mut asked = Instant::now();
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(250));
        asked = Instant::now();
        if nginx.with_id("/", "abc").status != 200 {
            return; // This machine was too slow to use it in time: nothing is shown, and nothing refuted.
        }
    }
    std::thread::sleep(Duration::from_millis(800).saturating_sub(asked.elapsed()) + Duration::from_millis(100));
    nginx.of_every_worker(|| {
        let response = nginx.with_id("/", "abc");
        assert_eq!((response.status, response.verdict()), (401, "IDLE_EXPIRED"));
        response.worker()
    });
}

#[test]
fn a_lifetime_ends_a_session_however_much_it_is_used() {
    let nginx = start("lifetime=500ms idle=10m", "");
    // Whole milliseconds of the module's own clock: half of one is none.
    let millis = || Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap()).as_millis();
    let began = millis();
    nginx.log_in("abc");
    eventually("the session ends", || nginx.with_id("/", "abc").status == 401);
    assert!(millis() - began >= 500, "not before its time");
    assert_eq!(nginx.with_id("/", "abc").verdict(), "LIFETIME_EXPIRED");
}

#[test]
fn who_logs_out_is_out_on_every_worker_and_the_id_does_not_come_back() {
    let nginx = start("idle=15m lifetime=8h", "");
    nginx.log_in("abc");
    assert_eq!(nginx.with_id("/", "abc").status, 200);
    let response = nginx.with_id("/logout", "abc");
    assert_eq!((response.status, response.verdict()), (200, "LOGGED_OUT"), "the application hears of it");
    nginx.of_every_worker(|| {
        let response = nginx.with_id("/", "abc");
        assert_eq!((response.status, response.verdict()), (401, "LOGGED_OUT"));
        response.worker()
    });
    let response = nginx.get("/login?sid=abc", &[]);
    assert_eq!(response.status, 401, "an id that has ended is not issued again");
    assert_eq!(response.header("Set-Cookie"), None);
    nginx.log_in("another");
    assert_eq!(nginx.with_id("/", "another").status, 200);
}

#[test]
fn an_id_that_the_application_sets_again_and_again_is_one_session() {
    let nginx = start("idle=15m lifetime=8h", "");
    nginx.log_in("abc");
    nginx.log_in("abc");
    assert_eq!(nginx.with_id("/", "abc").status, 200);
}

#[test]
fn a_live_session_does_not_lend_itself_to_another_cookie_of_the_same_name() {
    let nginx = start(
        "idle=15m lifetime=8h",
        "location /braces { curfew_id ${Cookie_sid}; proxy_pass http://$APP; }
         location /pass { curfew_no_id pass; proxy_pass http://$APP; }",
    );
    nginx.log_in("live");
    for (path, cookies) in [
        ("/", &[("Cookie", "sid=live; sid=ended")][..]),
        ("/", &[("Cookie", "sid=live; a=b;SID=ended")]),
        ("/", &[("Cookie", "sid=live"), ("Cookie", "a=b; sid=ended")]),
        ("/braces", &[("Cookie", "sid=live; sid=")]),
        ("/pass", &[("Cookie", "sid=; sid=ended")]),
        ("/pass", &[("Cookie", "sid;sid=ended")]),
    ] {
        let response = nginx.get(path, cookies);
        assert_eq!((response.status, response.verdict()), (401, "AMBIGUOUS_ID"), "{cookies:?}");
    }
    assert_eq!(nginx.get("/", &[("Cookie", "sid=live; sid=live; other=sid=x; sidx=1")]).status, 200);
    // Wherever in the header it begins, and after either separator.
    for (nth, between) in [";", ",", " ;  ", "; "].iter().cycle().take(20).enumerate() {
        let before = format!("sid=live; {}=é{between}", "a".repeat(nth + 1));
        let response = nginx.get("/", &[("Cookie", &format!("{before}Sid =ended; z=1"))]);
        assert_eq!((response.status, response.verdict()), (401, "AMBIGUOUS_ID"), "{before}");
        let response = nginx.get("/", &[("Cookie", &format!("{before}si=d; xsid=ended; sid_=1"))]);
        assert_eq!(response.status, 200, "{before}");
    }
}

#[test]
fn an_id_may_be_made_of_several_variables_of_which_some_are_not_there() {
    let nginx = start(
        "idle=15m lifetime=8h",
        "location /two { curfew_id $cookie_sid$arg_more; proxy_pass http://$APP; }
         location /none { curfew_id $arg_more; proxy_pass http://$APP; }",
    );
    nginx.log_in("abc");
    assert_eq!(nginx.get("/two?more=c", &[("Cookie", "sid=ab")]).status, 200);
    assert_eq!(nginx.get("/two", &[("Cookie", "sid=abc")]).status, 200);
    assert_eq!(nginx.get("/two?more=c", &[("Cookie", "sid=abc")]).verdict(), "UNKNOWN");
    assert_eq!(nginx.get("/none?more=abc", &[]).status, 200);
    for nothing in ["/none", "/none?more="] {
        assert_eq!(nginx.get(nothing, &[]).verdict(), "NO_ID", "{nothing}");
    }
}

#[test]
fn a_failed_login_begins_nothing() {
    let nginx = start("idle=15m lifetime=8h", "");
    assert_eq!(nginx.get("/login?sid=abc&status=403", &[]).status, 403);
    assert_eq!(nginx.with_id("/", "abc").verdict(), "UNKNOWN");
}

#[test]
fn the_page_is_told_how_long_it_has_and_asking_does_not_extend() {
    let nginx = start("idle=3s lifetime=8h", "");
    assert!(nginx.with_id("/session", "made-up").body.contains("\"status\":\"UNKNOWN\",\"alive\":false"));
    nginx.log_in("abc");
    let response = nginx.with_id("/session", "abc");
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
    assert!(response.body.starts_with("{\"status\":\"ACTIVE\",\"alive\":true,\"left\":"), "{}", response.body);
    assert!(response.body.contains("\"token_left\":null"), "{}", response.body);
    let lifetime = response.body.split("\"lifetime_left\":").nth(1).and_then(|rest| rest.split('.').next());
    assert!(lifetime.unwrap().parse::<u32>().is_ok_and(|left| (28_000..=28_800).contains(&left)), "{}", response.body);
    eventually("it ends though it is asked for", || nginx.with_id("/session", "abc").body.contains("IDLE_EXPIRED"));
}

#[test]
fn what_has_ended_is_in_no_log_by_its_id() {
    let nginx = start("idle=15m lifetime=8h", "");
    nginx.log_in("very-secret-id");
    nginx.with_id("/", "very-secret-id");
    nginx.with_id("/logout", "very-secret-id");
    nginx.with_id("/", "very-secret-id");
    eventually("the request is in the log", || nginx.log("access.log").contains("401 LOGGED_OUT"));
    let line = nginx.log("access.log").lines().find(|line| line.contains("401 LOGGED_OUT")).unwrap().to_owned();
    let key = line.split(' ').nth(3).unwrap();
    assert!(key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{line}");
    assert!(nginx.error_log().contains(&format!("curfew: denied, LOGGED_OUT, session {key}")));
    assert!(!nginx.error_log().contains("curfew: denied, LOGGED_OUT, session very-secret-id"));
}

#[test]
fn ends_are_in_the_log_once_each_where_the_configuration_wants_them() {
    let http = format!("curfew_log_level notice; {}", site("idle=500ms", ""));
    let nginx = Site::new().start(&http);
    for number in 0..50 {
        nginx.log_in(&format!("s{number}"));
    }
    nginx.with_id("/logout", "s0");
    let ended =
        |cause: &str| nginx.error_log().matches(&format!(" ended, {cause}, zone \"app\", policy \"staff\"")).count();
    eventually("all are there", || ended("IDLE_EXPIRED") + ended("LOGGED_OUT") >= 50);
    nginx.reload(&http);
    nginx.log_in("last");
    eventually("the next worker goes on", || ended("IDLE_EXPIRED") + ended("LOGGED_OUT") >= 51);
    assert_eq!(ended("IDLE_EXPIRED") + ended("LOGGED_OUT"), 51, "none twice");
}

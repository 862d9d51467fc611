//! The ways that a request takes through nginx: kept connections, streams, subrequests, redirects
//! inside, other kinds of applications.

use crate::fastcgi::FastCgi;
use crate::harness::{Kept, Nginx, Site, eventually};
use crate::http2::Http2;
use crate::sessions::site;

fn start(policy: &str, more: &str) -> Nginx {
    Site::new().start(&site(policy, more))
}

#[test]
fn each_request_of_a_kept_connection_is_checked() {
    let nginx = start("idle=15m", "keepalive_timeout 60s;");
    nginx.log_in("abc");
    let mut kept = Kept::connect(&nginx);
    for _ in 0..3 {
        assert_eq!(kept.ask("/page", "abc").status, 200);
    }
    nginx.with_id("/logout", "abc");
    let response = kept.ask("/page", "abc");
    assert_eq!((response.status, response.verdict()), (401, "LOGGED_OUT"));
    assert_eq!(kept.ask("/login?sid=new", "").status, 200);
    assert_eq!(kept.ask("/page", "new").status, 200, "the connection has no session, its requests have");
}

#[test]
fn streams_of_one_http_2_connection_are_checked_each_by_itself() {
    let http = site("idle=15m", "").replace("listen $LISTEN;", "listen $LISTEN $HTTP2;");
    let nginx = Site::new().start(&http);
    for id in ["one", "two"] {
        assert_eq!(nginx.by_http_2(&format!("/login?sid={id}"), "").status, 200);
    }
    let mut connection = Http2::connect(&nginx);
    // One that is with the application all the time, and others that come and go beside it.
    let held = connection.send("/page?wait", "one");
    eventually("the request is with the application", || !nginx.site.app.waiting.lock().unwrap().is_empty());
    let others: Vec<u32> =
        [("/page", "two"), ("/page", "made-up"), ("/page", "one")].map(|(path, id)| connection.send(path, id)).into();
    let statuses: Vec<u16> = others.into_iter().map(|stream| connection.status(stream)).collect();
    assert_eq!(statuses, [200, 401, 200]);
    let logout = connection.send("/logout", "one");
    assert_eq!(connection.status(logout), 200);
    let after = [connection.send("/page", "one"), connection.send("/page", "two")];
    assert_eq!(after.map(|stream| connection.status(stream)), [401, 200]);
    nginx.site.app.let_go();
    assert_eq!(connection.status(held), 200, "it had passed before");
    let last = connection.send("/page", "one");
    assert_eq!(connection.status(last), 401, "and brings nothing back");
}

#[test]
fn a_fastcgi_application_begins_and_has_sessions_like_any_other() {
    let application = FastCgi::start();
    let pass = format!(
        "fastcgi_pass {}; fastcgi_param QUERY_STRING $args; fastcgi_param SCRIPT_NAME $uri;",
        application.address
    );
    let nginx = start(
        "idle=15m",
        &format!(
            "location /php {{ {pass} }}
             location = /php/login {{ curfew off; curfew_start $upstream_cookie_sid; {pass} }}
             location = /php/logout {{ curfew off; curfew_end logout; {pass} }}"
        ),
    );
    assert_eq!(nginx.with_id("/php/page", "abc").status, 401);
    assert_eq!(nginx.get("/php/login?sid=abc", &[]).status, 200);
    let response = nginx.with_id("/php/page", "abc");
    assert!(response.status == 200 && response.body.contains("fastcgi /php/page"), "{response:?}");
    assert_eq!(nginx.with_id("/php/logout", "abc").status, 200);
    assert_eq!(nginx.with_id("/php/page", "abc").verdict(), "LOGGED_OUT");
}

#[test]
fn a_subrequest_is_not_checked_again_and_neither_begins_nor_ends_a_session() {
    let nginx = start(
        "idle=15m",
        "location /parts.html { ssi on; }
         location = /part { curfew_id $http_x_nothing; proxy_pass http://$APP; }
         location = /bye { curfew_end logout; proxy_pass http://$APP; }
         location /mirrored { mirror /copy; proxy_pass http://$APP; }
         location = /copy { internal; curfew_end revoked; curfew_start $http_x_new; proxy_pass http://$APP; }",
    );
    let page = "<!--#include virtual=\"/part\" --> and <!--#include virtual=\"/bye\" -->";
    std::fs::write(nginx.site.path("html/parts.html"), page).unwrap();
    nginx.log_in("abc");
    for _ in 0..2 {
        let response = nginx.with_id("/parts.html", "abc");
        assert_eq!((response.status, response.verdict()), (200, "ACTIVE"));
        assert!(response.body.contains("application /part") && response.body.contains("application /bye"));
        let cookie = [("Cookie", "sid=abc"), ("X-New", "smuggled")];
        assert_eq!(nginx.get("/mirrored", &cookie).status, 200);
    }
    assert_eq!(nginx.with_id("/", "smuggled").verdict(), "UNKNOWN");
    assert_eq!(nginx.with_id("/part", "abc").verdict(), "NO_ID", "by itself it is guarded");
}

#[test]
fn a_file_that_the_application_hands_out_inside_is_the_answer_to_a_request_that_was_checked() {
    let nginx = start(
        "idle=15m",
        "location /files/ { internal; alias $FOLDER/html/; }
         location /out { proxy_pass http://$APP/?header=X-Accel-Redirect:/files/page.html; }",
    );
    assert_eq!(nginx.with_id("/out", "made-up").status, 401);
    nginx.log_in("abc");
    let response = nginx.with_id("/out", "abc");
    assert_eq!((response.status, response.body.as_str(), response.verdict()), (200, "a page\n", "ACTIVE"));
    assert_eq!(nginx.with_id("/files/page.html", "abc").status, 404);
    let checked = nginx.get("/out", &[]);
    assert_eq!((checked.status, checked.verdict()), (401, "NO_ID"));
}

#[test]
fn what_answers_before_the_access_phase_is_not_guarded_as_the_page_says() {
    let nginx = start(
        "idle=15m",
        "location /early { return 204; } location /moved { rewrite ^ /elsewhere redirect; }
         location /inside { rewrite ^ /page last; }",
    );
    assert_eq!(nginx.get("/early", &[]).status, 204);
    assert_eq!(nginx.get("/moved", &[]).status, 302);
    assert_eq!(nginx.get("/inside", &[]).status, 401, "a rewrite inside leads to a place that is");
}

#[test]
fn head_and_options_are_asked_as_get_is() {
    let nginx = start("idle=15m", "");
    nginx.log_in("abc");
    for method in ["HEAD", "OPTIONS", "POST", "DELETE"] {
        let ask = |id: &str| {
            let cookie = format!("sid={id}");
            let headers = [("Cookie", cookie.as_str()), ("Content-Length", "0")];
            crate::harness::request(nginx.site.address(), method, "/page", &headers).unwrap().status
        };
        assert_eq!((ask("abc"), ask("made-up")), (200, 401), "{method}");
    }
}

#[test]
fn a_worker_that_was_stopped_decides_by_the_time_it_is_when_it_goes_on() {
    use nix::sys::signal::Signal;
    let nginx = start("idle=800ms lifetime=8h", "keepalive_timeout 60s;");
    // A machine that is busy may take as long as that from the login to the next request: then once more.
    for number in 0..20 {
        let id = format!("s{number}");
        nginx.log_in(&id);
        let mut kept = Kept::connect(&nginx);
        let first = kept.ask("/page", &id);
        if first.status != 200 {
            continue;
        }
        let worker = first.worker();
        nginx.signal(worker, Signal::SIGSTOP);
        kept.send("/page", &id);
        eventually("the session has ended for the others", || {
            nginx.with_id("/session", &id).body.contains("IDLE_EXPIRED")
        });
        nginx.signal(worker, Signal::SIGCONT);
        let late = kept.receive();
        assert_eq!((late.status, late.verdict(), late.worker()), (401, "IDLE_EXPIRED", worker));
        assert_eq!(nginx.with_id("/", &id).verdict(), "IDLE_EXPIRED", "it has not brought it back");
        return;
    }
    panic!("never in time");
}

#[test]
fn nginx_that_looks_at_its_clock_every_ten_seconds_ends_sessions_to_the_millisecond_all_the_same() {
    let site = Site::new();
    site.configure(&site_with_left());
    let text = std::fs::read_to_string(site.path("nginx.conf")).unwrap();
    std::fs::write(
        site.path("nginx.conf"),
        text.replace("worker_processes 3;", "worker_processes 3; timer_resolution 10s;"),
    )
    .unwrap();
    let nginx = site.start_as_it_is();
    nginx.log_in("abc");
    let began = std::time::Instant::now();
    let end = |response: &crate::harness::Response| response.status == 401;
    eventually("it ends", || end(&nginx.with_id("/poll", "abc")));
    assert!(began.elapsed() < std::time::Duration::from_secs(9), "nginx's own clock has not moved yet");
    nginx.of_every_worker(|| {
        let response = nginx.with_id("/poll", "abc");
        assert_eq!(response.verdict(), "IDLE_EXPIRED");
        response.worker()
    });
}

fn site_with_left() -> String {
    site("idle=500ms", "location /poll { curfew_activity 0; proxy_pass http://$APP; }")
}

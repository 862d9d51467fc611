//! What a refused request is answered, and what passes in spite of it.

use crate::harness::{Nginx, Site, eventually, request};
use crate::sessions::site;

const PAGE: &[(&str, &str)] = &[("Accept", "text/html,application/xhtml+xml"), ("Cookie", "sid=made-up")];

fn start(more: &str) -> Nginx {
    Site::new().start(&site("idle=15m lifetime=8h", more))
}

#[test]
fn a_refusal_names_a_challenge_and_is_not_to_be_stored() {
    let nginx = start("location /own { curfew_challenge 'Bearer error=\"invalid_token\"'; proxy_pass http://$APP; }");
    let response = nginx.with_id("/", "made-up");
    assert_eq!(response.status, 401);
    assert_eq!(response.header("WWW-Authenticate"), Some("Session realm=\"curfew\""));
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
    let response = nginx.with_id("/own", "made-up");
    assert_eq!(response.header("WWW-Authenticate"), Some("Bearer error=\"invalid_token\""));
    nginx.log_in("abc");
    let response = nginx.with_id("/", "abc");
    assert_eq!((response.header("WWW-Authenticate"), response.header("Cache-Control")), (None, None));
}

#[test]
fn a_refusal_has_the_status_of_the_configuration() {
    let nginx = start("location /old { curfew_deny_status 440; proxy_pass http://$APP; }");
    let response = nginx.with_id("/old", "made-up");
    assert_eq!((response.status, response.header("WWW-Authenticate")), (440, None));
}

#[test]
fn every_status_that_can_be_configured_is_what_is_answered() {
    let statuses = || (400..600).filter(|status| ![408, 444, 494, 495, 496, 497, 499].contains(status));
    let place = |status| format!("location /{status} {{ curfew_deny_status {status}; proxy_pass http://$APP; }}\n");
    let nginx = start(&statuses().map(place).collect::<String>());
    for status in statuses() {
        assert_eq!(nginx.with_id(&format!("/{status}"), "made-up").status, status);
    }
}

#[test]
fn a_browser_on_its_way_to_a_page_is_sent_to_the_login_and_a_program_is_told_401() {
    let nginx = start("curfew_deny_redirect /login?next=$uri;");
    let response = nginx.get("/page", PAGE);
    assert_eq!(response.status, 302);
    assert!(response.header("Location").unwrap().ends_with("/login?next=/page"), "{response:?}");
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
    let with = |name, value| {
        let mut headers = PAGE.to_vec();
        headers.push((name, value));
        nginx.get("/page", &headers).status
    };
    assert_eq!(with("Sec-Fetch-Mode", "navigate"), 302);
    assert_eq!(with("Sec-Fetch-Mode", "cors"), 401);
    assert_eq!(with("Sec-Fetch-Dest", "document"), 302);
    assert_eq!(with("Sec-Fetch-Dest", "image"), 401);
    assert_eq!(with("X-Requested-With", "XMLHttpRequest"), 401);
    assert_eq!(nginx.get("/page", &[("Accept", "application/json")]).status, 401);
    assert_eq!(nginx.get("/page", &[]).status, 401);
    let posted = crate::harness::request(nginx.site.address(), "POST", "/page", PAGE).unwrap();
    assert_eq!(posted.status, 303, "it comes back with GET");
}

#[test]
fn nobody_smuggles_a_header_into_a_redirect() {
    let nginx = start("curfew_deny_redirect /login?next=$uri;");
    let response = nginx.get("/page%0d%0aX-Evil:1", PAGE);
    assert_eq!((response.status, response.header("X-Evil")), (302, None));
    assert!(response.header("Location").unwrap().ends_with("/login?next=/page  X-Evil:1"), "{response:?}");
}

#[test]
fn an_error_page_is_shown_though_it_lies_in_a_guarded_place() {
    let nginx = start(
        "location /file { error_page 401 /login.html; proxy_pass http://$APP; }
         location /named { error_page 401 = @login; proxy_pass http://$APP; }
         location = /login.html { }
         location @login { curfew off; rewrite ^ /form break; proxy_pass http://$APP; }",
    );
    let response = nginx.with_id("/file", "made-up");
    assert_eq!((response.status, response.body.as_str()), (401, "please log in\n"));
    assert_eq!(response.header("WWW-Authenticate"), Some("Session realm=\"curfew\""));
    let response = nginx.with_id("/named", "made-up");
    assert_eq!((response.status, response.body.as_str()), (200, "application /form"));
    assert_eq!(response.verdict(), "UNKNOWN");
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
    assert_eq!(nginx.with_id("/login.html", "made-up").status, 401, "by itself it is guarded");
}

#[test]
fn an_error_page_is_not_the_page_that_was_refused() {
    let nginx = start(
        "location /named { error_page 401 = @login; proxy_pass http://$APP; }
         location /path { error_page 401 /front; proxy_pass http://$APP; }
         location /front { proxy_pass http://$APP/$request_uri; }
         location @login { proxy_pass http://$APP; }",
    );
    for path in ["/named", "/path"] {
        let response = nginx.with_id(path, "made-up");
        assert_eq!((response.status, response.verdict()), (401, "UNKNOWN"), "{path}");
        assert!(!response.body.contains("application"), "{path}: {}", response.body);
    }
}

#[test]
fn a_guarded_error_page_neither_shows_the_file_that_was_refused_nor_writes_it() {
    let place = Site::new();
    std::fs::write(place.path("html/secret.txt"), "of somebody else").unwrap();
    let nginx = place.start(&site(
        "idle=15m",
        "location = /html/secret.txt { root $FOLDER; error_page 401 = @same; }
         location @same { root $FOLDER; try_files $uri /html/login.html; }
         location /write/ { alias $FOLDER/html/; error_page 401 = @write; }
         location @write { dav_methods PUT DELETE; rewrite ^/write(/.*) /html$1 break; root $FOLDER; }
         location = /form { error_page 401 = @form; proxy_pass http://$APP; }
         location @form { rewrite ^ /login.html break; root $FOLDER/html; }",
    ));
    let shown = nginx.with_id("/html/secret.txt", "made-up");
    assert_eq!((shown.status, shown.verdict()), (401, "UNKNOWN"));
    assert!(!shown.body.contains("somebody"), "{shown:?}");
    let cookie = [("Cookie", "sid=made-up")];
    for method in ["PUT", "DELETE"] {
        let answer = request(nginx.site.address(), method, "/write/secret.txt", &cookie).unwrap();
        assert_eq!((answer.status, answer.verdict()), (401, "UNKNOWN"), "{method}");
    }
    assert_eq!(std::fs::read(nginx.site.path("html/secret.txt")).unwrap(), b"of somebody else");
    let form = nginx.with_id("/form", "made-up");
    assert_eq!((form.status, form.body.as_str()), (200, "please log in\n"), "another file is shown");
}

#[test]
fn what_could_not_be_ended_does_not_pass_for_what_was_checked_before() {
    let nginx = start(
        "location = /first { curfew_id $cookie_first; try_files /none /second; }
         location = /second { curfew off; curfew_end logout; try_files /none /third; }
         location = /third { proxy_pass http://$APP; }",
    );
    for id in ["abc", "def"] {
        nginx.log_in(id);
    }
    nginx.with_id("/logout", "def");
    for id in ["def", "made-up"] {
        assert_eq!(nginx.with_id("/third", id).status, 401);
        let response = nginx.get("/first", &[("Cookie", &format!("first=abc; sid={id}"))]);
        assert_eq!(response.status, 401, "{id}: {response:?}");
    }
    assert_eq!(nginx.with_id("/third", "abc").status, 200);
}

#[test]
fn what_the_module_answers_it_answers_under_every_condition_and_method() {
    let nginx = start(
        "location = /state { if ($arg_x) { set $a 1; } limit_except POST { allow all; } curfew_status_json; }
         location = /plain { if ($arg_x) { set $a 1; } curfew_status_json; }
         location = /ends { curfew off; curfew_admin; limit_except GET { allow 127.0.0.1; deny all; } }",
    );
    nginx.log_in("abc");
    for path in ["/state", "/plain", "/plain?x=1"] {
        for (id, status) in [("abc", "ACTIVE"), ("made-up", "UNKNOWN")] {
            let response = nginx.with_id(path, id);
            assert!(response.body.contains(&format!("\"status\":\"{status}\"")), "{path}: {response:?}");
        }
    }
    let ended = request(nginx.site.address(), "POST", "/ends?end_all=1", &[("Content-Length", "0")]).unwrap();
    assert_eq!((ended.status, ended.body.trim()), (200, "{\"ended\":1}"));
}

#[test]
fn files_and_pages_found_by_a_redirect_inside_are_guarded_and_checked_once() {
    let nginx = start(
        "location /files/ { alias $FOLDER/html/; index page.html; }
         location /try/ { try_files $uri @app; }
         location @app { proxy_pass http://$APP; }",
    );
    assert_eq!(nginx.with_id("/files/page.html", "made-up").status, 401);
    assert_eq!(nginx.with_id("/try/x", "made-up").status, 401);
    nginx.log_in("abc");
    assert_eq!(nginx.with_id("/files/", "abc").body, "a page\n");
    assert_eq!(nginx.with_id("/try/x", "abc").body, "application /try/x");
}

#[test]
fn curfew_can_be_off_in_a_place_and_under_a_condition() {
    let nginx = start(
        "location /open { curfew off; proxy_pass http://$APP; }
         location /if { if ($arg_open) { curfew off; } proxy_pass http://$APP; }",
    );
    assert_eq!(nginx.get("/open", &[]).status, 200);
    assert_eq!(nginx.get("/if", &[]).status, 401);
    assert_eq!(nginx.get("/if?open=1", &[]).status, 200);
}

#[test]
fn satisfy_any_lets_in_by_another_word_and_never_by_a_session_alone() {
    let nginx = start(
        "location /office { satisfy any; allow 127.0.0.1; deny all; proxy_pass http://$APP; }
         location /outside { satisfy any; allow 192.0.2.1; deny all; proxy_pass http://$APP; }
         location /both { satisfy all; allow 127.0.0.1; deny all; proxy_pass http://$APP; }
         location /neither { satisfy all; allow 192.0.2.1; deny all; proxy_pass http://$APP; }",
    );
    nginx.log_in("abc");
    assert_eq!(nginx.with_id("/office", "made-up").status, 200);
    assert_eq!(nginx.with_id("/outside", "abc").status, 403, "a live session is no way round the list");
    assert_eq!(nginx.with_id("/outside", "made-up").status, 403);
    assert_eq!(nginx.with_id("/both", "abc").status, 200);
    assert_eq!(nginx.with_id("/both", "made-up").status, 401);
    assert_eq!(nginx.with_id("/neither", "abc").status, 403);
}

#[test]
fn who_is_refused_outside_neither_begins_a_session_nor_uses_or_ends_one() {
    let nginx = start(
        "location /outside { satisfy any; allow 192.0.2.1; deny all; curfew_unknown start; proxy_pass http://$APP; }
         location /bye { satisfy any; allow 192.0.2.1; deny all; curfew_end logout; proxy_pass http://$APP; }",
    );
    assert_eq!(nginx.with_id("/outside", "made-up").status, 403);
    assert_eq!(nginx.with_id("/", "made-up").verdict(), "UNKNOWN", "it has not begun by that");
    nginx.log_in("abc");
    assert_eq!(nginx.with_id("/bye", "abc").status, 403);
    assert_eq!(nginx.with_id("/", "abc").status, 200, "nor ended");
}

#[test]
fn who_logs_out_has_his_answer_though_it_is_redirected_inside() {
    let nginx = start(
        "location /bye/ { curfew_end logout; alias $FOLDER/html/; index page.html; }
         location /half/ { curfew off; curfew_end logout; try_files /none /; }",
    );
    nginx.log_in("abc");
    let response = nginx.with_id("/bye/", "abc");
    assert_eq!((response.status, response.verdict(), response.body.as_str()), (200, "LOGGED_OUT", "a page\n"));
    assert_eq!(nginx.with_id("/", "abc").verdict(), "LOGGED_OUT");
    nginx.log_in("def");
    assert_eq!(nginx.with_id("/half/", "def").status, 401, "nobody has let this one in");
}

#[test]
fn a_token_is_asked_for_where_the_request_is_redirected_to() {
    let nginx = start(
        "location /app { try_files /none @app; }
         location @app { curfew_expires $http_x_expires; proxy_pass http://$APP; }",
    );
    nginx.log_in("abc");
    let with = |expires: &str| nginx.get("/app", &[("Cookie", "sid=abc"), ("X-Expires", expires)]);
    assert_eq!(with("9999999999").status, 200);
    assert_eq!((with("1000").status, with("1000").verdict()), (401, "TOKEN_EXPIRED"));
    assert_eq!(with("soon").verdict(), "TOKEN_INVALID");
}

#[test]
fn who_logs_out_where_satisfy_any_skips_the_access_phase_is_logged_out_all_the_same() {
    let nginx =
        start("location = /bye { satisfy any; allow all; curfew off; curfew_end logout; proxy_pass http://$APP; }");
    nginx.log_in("abc");
    assert_eq!(nginx.with_id("/bye", "abc").status, 200);
    assert_eq!(nginx.with_id("/", "abc").verdict(), "LOGGED_OUT");
}

#[test]
fn a_dry_run_only_reports() {
    let nginx = start("curfew_dry_run on;");
    let response = nginx.with_id("/", "made-up");
    assert_eq!((response.status, response.verdict()), (200, "UNKNOWN_DRY_RUN"));
    assert_eq!(nginx.get("/", &[]).verdict(), "NO_ID_DRY_RUN");
    nginx.log_in("abc");
    assert_eq!(nginx.with_id("/", "abc").verdict(), "ACTIVE_DRY_RUN");
}

#[test]
fn a_session_tells_the_page_how_long_it_has_in_headers() {
    let nginx = start(
        "curfew_headers on; add_header X-Left $curfew_idle_left; add_header X-Policy $curfew_policy;
                       add_header X-Age $curfew_age; add_header X-Token $curfew_token_left;",
    );
    nginx.log_in("abc");
    let response = nginx.with_id("/", "abc");
    assert_eq!(response.header("Session-Status"), Some("ACTIVE"));
    let left: u32 = response.header("Session-Idle-Timeout-Remaining").unwrap().parse().unwrap();
    assert!((890..=900).contains(&left), "{left}");
    assert!(response.header("Session-Lifetime-Remaining").unwrap().parse::<u32>().unwrap() <= 28_800);
    assert_eq!(response.header("Session-Token-Remaining"), None, "it has no token");
    assert_eq!(response.header("X-Policy"), Some("staff"));
    assert_eq!(response.header("X-Token"), None);
    let (seconds, millis) = response.header("X-Left").unwrap().split_once('.').unwrap();
    assert!(seconds.parse::<u32>().is_ok() && millis.len() == 3);
    assert!(response.header("X-Age").is_some());
}

#[test]
fn a_full_zone_refuses_new_sessions_with_503_and_keeps_the_old_ones() {
    let small = site("idle=15m lifetime=8h", "").replace("zone=app:1m", "zone=app:128k");
    let nginx = Site::new().start(&small);
    let mut started = 0;
    let refused = loop {
        let response = nginx.get(&format!("/login?sid=s{started}"), &[]);
        if response.status != 200 {
            break response;
        }
        started += 1;
        assert!(started < 10_000);
    };
    assert_eq!((refused.status, refused.verdict()), (503, "FULL"));
    assert_eq!(refused.header("Set-Cookie"), None, "nobody is given an id that is worth nothing");
    for number in 0..started {
        assert_eq!(nginx.with_id("/", &format!("s{number}")).status, 200);
    }
    assert_eq!(nginx.with_id("/logout", "s0").status, 200);
    assert_eq!(nginx.get("/login?sid=new", &[]).status, 503, "what has ended is still remembered");
}

#[test]
fn a_zone_that_cannot_be_opened_is_an_error_and_not_a_logout() {
    use std::os::unix::fs::PermissionsExt;
    let with_path = site(
        "idle=15m lifetime=8h",
        "location /lenient { curfew_on_error pass; proxy_pass http://$APP; }
         location = /curfew { curfew off; allow 127.0.0.1; deny all; curfew_admin; }",
    )
    .replace("zone=app:1m", "zone=app:1m path=$FOLDER/run/app.region");
    let nginx = Site::new().start(&with_path);
    nginx.log_in("abc");
    let region = nginx.site.path("run/app.region");
    std::fs::set_permissions(&region, std::fs::Permissions::from_mode(0o644)).unwrap();
    let old = nginx.workers();
    for worker in &old {
        nginx.signal(*worker, nix::sys::signal::Signal::SIGKILL);
    }
    eventually("other workers answer that they cannot tell", || {
        let answer = crate::harness::request(nginx.site.address(), "GET", "/", &[("Cookie", "sid=abc")]);
        answer.is_ok_and(|response| response.status == 503 && response.verdict() == "ERROR")
    });
    assert_eq!(nginx.with_id("/lenient", "abc").status, 200);
    // Every worker has counted those of all others.
    let errors = |text: &str| -> u64 {
        let errors = text.split("\"errors\":").nth(1).and_then(|rest| rest.split(',').next());
        errors.unwrap().parse().unwrap()
    };
    let before = errors(&nginx.get("/curfew", &[]).body);
    assert!(before >= 2, "{before}");
    nginx.of_every_worker(|| nginx.with_id("/", "abc").worker());
    let after = errors(&nginx.get("/curfew", &[]).body);
    assert!(after >= before + 3, "{before} {after}");
    nginx.of_every_worker(|| {
        let response = nginx.get("/curfew?format=prometheus", &[]);
        let line = format!("curfew_errors_total{{zone=\"app\"}} {after}");
        assert!(response.body.contains(&line), "{line}\n{}", response.body);
        response.worker()
    });
    assert!(nginx.error_log().contains("has mode 644"), "the log says why");
    std::fs::set_permissions(&region, std::fs::Permissions::from_mode(0o600)).unwrap();
    eventually("they try again", || nginx.with_id("/", "abc").status == 200);
}

#[test]
fn a_request_by_http_2_is_checked_as_any() {
    let http = site("idle=15m lifetime=8h", "curfew_headers on;").replace("listen $LISTEN;", "listen $LISTEN $HTTP2;");
    let nginx = Site::new().start(&http);
    assert_eq!(nginx.by_http_2("/login?sid=abc", "").status, 200);
    let response = nginx.by_http_2("/page", "abc");
    assert_eq!((response.status, response.verdict()), (200, "ACTIVE"));
    assert!(response.header("Session-Idle-Timeout-Remaining").is_some());
    let response = nginx.by_http_2("/page", "made-up");
    assert_eq!((response.status, response.header("WWW-Authenticate")), (401, Some("Session realm=\"curfew\"")));
    assert_eq!(nginx.by_http_2("/logout", "abc").status, 200);
    assert_eq!(nginx.by_http_2("/page", "abc").verdict(), "LOGGED_OUT");
}

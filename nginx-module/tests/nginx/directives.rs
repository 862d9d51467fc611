//! What `nginx -t` says of directives that are wrong.

use crate::harness::Site;

fn check(http: &str) -> (bool, String) {
    Site::new().check(http)
}

#[test]
fn every_mistake_is_refused_with_what_is_wrong_and_where() {
    let zone = "curfew_zone zone=app:1m;";
    let policy = "curfew_policy staff idle=15m;";
    let guard = "curfew zone=app policy=staff;";
    let id = "curfew_id $cookie_sid;";
    for (http, message) in [
        ("curfew_zone app:1m;", "there are zone=name:size, path= and huge_pages="),
        ("curfew_zone path=/run/x;", "curfew_zone needs zone=name:size"),
        ("curfew_zone zone=app;", "curfew_zone needs zone=name:size"),
        ("curfew_zone zone=app:lots;", "invalid zone \"app:lots\""),
        ("curfew_zone zone=:1m;", "invalid zone"),
        ("curfew_zone zone=app:4k;", "zone \"app\" is too small"),
        ("curfew_zone zone=app:1m path=run/x;", "must be absolute"),
        ("curfew_zone zone=app:1m zone=b:1m;", "\"zone=\" is given twice"),
        ("curfew_zone zone=app:1m huge_pages=yes;", "there are on and off"),
        ("curfew_zone zone=app:1m huge_pages=on huge_pages=off;", "\"huge_pages=\" is given twice"),
        ("curfew_zone zone=app:1m; curfew_zone zone=app:2m;", "zone \"app\" is defined twice"),
        (
            "curfew_zone zone=a:1m path=$FOLDER/x; curfew_zone zone=b:2m path=$FOLDER/html/.././x;",
            "zone \"b\" has the path of zone \"a\"",
        ),
        (
            "curfew_zone zone=a:1m path=$FOLDER/new/x; curfew_zone zone=b:1m path=$FOLDER//new/x;",
            "zone \"b\" has the path of zone \"a\"",
        ),
        ("curfew_policy staff idle;", "write it like idle=15m"),
        ("curfew_policy staff idel=15m;", "invalid parameter \"idel=\""),
        ("curfew_policy staff idle=soon;", "invalid time \"soon\""),
        ("curfew_policy staff idle=;", "invalid time \"\""),
        ("curfew_policy staff idle=5m idle=6m;", "\"idle=\" is given twice"),
        ("curfew_policy staff grace=5m;", "needs idle or lifetime"),
        ("curfew_policy staff idle=5m grace_mode=ask;", "there are reauth, resume"),
        ("curfew_policy staff idle=5m max_per_subject=many;", "invalid number \"many\""),
        ("curfew_policy idle=5m lifetime=8h;", "the name of a curfew_policy comes first"),
        ("curfew_policy \"\" idle=9h;", "the name of a curfew_policy comes first"),
        ("curfew_policy staff idle=5m; curfew_policy staff idle=6m;", "curfew_policy \"staff\" is defined twice"),
        (&format!("{zone}{policy}{id} server {{ curfew zone=b policy=staff; }}"), "there is no curfew_zone \"b\""),
        (&format!("{zone}{policy}{id} server {{ curfew zone=app policy=b; }}"), "there is no curfew_policy \"b\""),
        (&format!("{zone}{policy} server {{ {guard} }}"), "\"curfew\" needs curfew_id"),
        (&format!("{zone}{policy}{id} server {{ {guard}{guard} }}"), "\"curfew\" directive is duplicate"),
        (&format!("{zone}{policy}{id} server {{ curfew on; }}"), "invalid parameter \"on\""),
        (&format!("{zone}{policy}{id} server {{ curfew zone=app zone=app; }}"), "given once"),
        (&format!("{policy}{id} server {{ curfew zone=app policy=staff; }}"), "there is no curfew_zone \"app\""),
        (&format!("{zone}{policy}{id}{id} server {{ }}"), "\"curfew_id\" directive is duplicate"),
        (&format!("{zone}{policy} server {{ location / {{ curfew_end logout; }} }}"), "\"curfew_end\" needs curfew_id"),
        (
            &format!(
                "{zone} curfew_zone zone=b:1m; {policy}{id} server {{ location / {{ curfew_start $cookie_x; }} }}"
            ),
            "\"curfew_start\" needs a zone",
        ),
        (
            &format!("{zone}{id} server {{ location / {{ curfew_start $cookie_x; }} }}"),
            "\"curfew_start\" needs a policy",
        ),
        ("curfew_deny_status 200;", "value must be between 400 and 599"),
        ("curfew_deny_status 444;", "nginx does not answer with 444"),
        ("server { location / { curfew_deny_status 494; } }", "nginx does not answer with 494"),
        ("server { location / { curfew_id $cookie___Host-sid; } }", "nginx reads \"$cookie___Host\" here"),
        (
            "server { location / { curfew_start $upstream_cookie_connect.sid; } }",
            "nginx reads \"$upstream_cookie_connect\" here",
        ),
        ("server { location / { curfew_binding $http_x-device; } }", "nginx reads \"$http_x\" here"),
        ("curfew_id $upstream_cookie_sid;", "\"$upstream_cookie_sid\" is empty here"),
        ("curfew_id a${Upstream_HTTP_x}b;", "\"$Upstream_HTTP_x\" is empty here"),
        ("curfew_id $cookie_a$sent_http_set_cookie;", "\"$sent_http_set_cookie\" is empty here"),
        ("curfew_activity $upstream_http_x_active;", "write what the request has"),
        ("curfew_unknown maybe;", "invalid value \"maybe\""),
        ("curfew_log_level loud;", "there are off, error, warn, notice, info"),
        ("curfew_log_level info; curfew_log_level off;", "\"curfew_log_level\" directive is duplicate"),
        ("curfew_end later;", "invalid value \"later\""),
        ("curfew_headers yes;", "invalid value \"yes\""),
        ("curfew_streams some;", "invalid value \"some\""),
        ("curfew_stream_activity server;", "invalid value \"server\""),
        (
            "curfew_stream_activity off; curfew_stream_activity both;",
            "\"curfew_stream_activity\" directive is duplicate",
        ),
        (
            &format!(
                "{zone}{policy}{id} server {{ location / {{ proxy_pass http://127.0.0.1; curfew_status_json; }} }}"
            ),
            "something else answers in this location",
        ),
        (
            &format!(
                "{zone}{policy}{id} server {{ location / {{ curfew_status_json; proxy_pass http://127.0.0.1; }} }}"
            ),
            "\"curfew_status_json\": something else answers in this location, too",
        ),
        (
            &format!("{zone} server {{ location / {{ curfew_admin; proxy_pass http://127.0.0.1; }} }}"),
            "\"curfew_admin\": something else answers in this location, too",
        ),
        ("server { curfew_status_json; }", "directive is not allowed here"),
        ("server { curfew_zone zone=app:1m; }", "directive is not allowed here"),
    ] {
        let (in_order, text) = check(http);
        assert!(!in_order && text.contains(message), "{http}\n{text}");
        assert!(text.contains("nginx.conf:"), "{http}\n{text}");
    }
}

#[test]
fn a_zone_whose_folder_cannot_be_made_is_refused_before_it_is_used() {
    let (in_order, text) = check("curfew_zone zone=app:1m path=$FOLDER/a/b/app.region;");
    assert!(!in_order && text.contains("zone \"app\" cannot be used: there is no folder"), "{text}");
    assert!(text.contains("/a; make it"), "{text}");
    let (in_order, text) = check("curfew_zone zone=app:1m path=$FOLDER/a/app.region;");
    assert!(in_order, "{text}");
}

#[test]
fn units_are_those_of_nginx_and_0_switches_a_limit_off() {
    for policy in ["idle=15m lifetime=0", "idle=900", "idle=1h30m retain=hard", "lifetime=2d on_full=evict_ended"] {
        let (in_order, text) = check(&format!("curfew_zone zone=app:64m; curfew_policy staff {policy};"));
        assert!(in_order, "{policy}\n{text}");
    }
}

#[test]
fn who_begins_what_has_ended_once_it_is_forgotten_is_warned_once() {
    let warned = |zone: &str, policy: &str, unknown: &str| {
        let (in_order, text) = check(&format!(
            "curfew_zone zone=app:1m {zone}; curfew_policy staff idle=5m {policy}; curfew_id $cookie_sid; curfew policy=staff;
             server {{ location / {{ curfew_unknown {unknown}; }} location /b {{ curfew_unknown {unknown}; }} }}"
        ));
        assert!(in_order, "{text}");
        text.matches("may begin again once it is forgotten").count()
    };
    assert_eq!(warned("", "", "start"), 1);
    assert_eq!(warned("path=$FOLDER/app.region", "on_full=evict_ended", "start"), 1);
    assert_eq!(warned("path=$FOLDER/app.region", "", "start"), 0);
    assert_eq!(warned("", "", "deny"), 0);
}

/// How often `nginx -t` says something of a configuration, which it takes.
fn warned(http: &str, what: &str) -> usize {
    let (in_order, text) = check(http);
    assert!(in_order, "{http}\n{text}");
    text.lines().filter(|line| line.contains("[warn]") && line.contains(what)).count()
}

#[test]
fn who_begins_what_has_ended_is_warned_of_a_policy_that_forgets_before_the_session_would_have_been_over() {
    let warned = |policy: &str, unknown: &str| {
        let http = format!(
            "curfew_zone zone=app:1m path=$FOLDER/app.region; curfew_policy staff {policy}; curfew_id $cookie_sid;
             server {{ location / {{ curfew policy=staff; curfew_unknown {unknown}; }} }}"
        );
        warned(&http, "may begin again once it is forgotten: let retain= be")
    };
    assert_eq!(warned("idle=5m retain=0", "start"), 1);
    assert_eq!(warned("idle=5m retain=1s", "start_literal"), 1);
    assert_eq!(warned("idle=5m lifetime=8h retain=7h", "start"), 1);
    assert_eq!(warned("idle=5m lifetime=8h retain=8h", "start"), 0);
    assert_eq!(warned("idle=5m retain=1d", "start"), 0);
    assert_eq!(warned("idle=5m lifetime=8h retain=hard", "start"), 0);
    assert_eq!(warned("idle=5m retain=0", "deny"), 0);
}

#[test]
fn what_does_nothing_without_something_else_is_warned_of() {
    let warned = |policy: &str| warned(&format!("curfew_policy staff {policy};"), "curfew_policy \"staff\"");
    assert_eq!(warned("lifetime=8h grace=2m"), 1);
    assert_eq!(warned("idle=15m grace_mode=resume"), 1);
    assert_eq!(warned("idle=15m on_limit=end_oldest"), 1);
    assert_eq!(warned("idle=15m grace=2m grace_mode=resume max_per_subject=2 on_limit=end_oldest"), 0);
    assert_eq!(warned("idle=15m lifetime=0"), 0);
}

#[test]
fn a_limit_by_subject_is_warned_of_where_sessions_begin_without_one() {
    let warned = |levels: &str| {
        let http = format!(
            "curfew_zone zone=app:1m path=$FOLDER/app.region; curfew_policy staff idle=15m max_per_subject=3;
             curfew_id $cookie_sid; server {{ curfew zone=app policy=staff; {levels} }}"
        );
        warned(&http, "max_per_subject= does not count them")
    };
    let login = "location /login { curfew off; curfew_start $upstream_cookie_sid;";
    assert_eq!(warned(&format!("{login} }} location /other {{ curfew_start $upstream_cookie_sid; }}")), 1);
    assert_eq!(warned("location / { curfew_unknown start; curfew_subject $upstream_http_x_user; }"), 1);
    assert_eq!(warned("location / { curfew_unknown start; curfew_subject $http_x_user; }"), 0);
    assert_eq!(warned(&format!("{login} curfew_subject $upstream_http_x_user; }} location / {{ }}")), 0);
    assert_eq!(warned("curfew_unknown start; location / { curfew_subject $remote_user; }"), 0, "the location answers");
    assert_eq!(warned("location / { }"), 0, "none begins");
}

#[test]
fn one_user_who_fills_a_zone_with_sessions_that_have_made_place_is_warned_of_unless_that_is_decided() {
    let warned = |policy: &str, levels: &str| {
        let http = format!(
            "curfew_zone zone=app:1m path=$FOLDER/app.region; curfew_policy staff idle=15m max_per_subject=3 {policy};
             curfew_id $cookie_sid; curfew_subject $http_x_user; server {{ curfew zone=app policy=staff; {levels}
             location /login {{ curfew off; curfew_start $upstream_cookie_sid; }} location /a {{ curfew off; curfew_start $arg_a; }} }}"
        );
        warned(&http, "write on_full=evict_ended")
    };
    assert_eq!(warned("on_limit=end_oldest", ""), 1);
    assert_eq!(warned("on_limit=end_least_recent", ""), 1);
    assert_eq!(warned("", ""), 0, "who is refused takes no room");
    assert_eq!(warned("on_limit=end_oldest on_full=evict_ended", ""), 0);
    assert_eq!(warned("on_limit=end_oldest on_full=refuse", ""), 0);
    assert_eq!(warned("on_limit=end_oldest", "location /c { curfew_unknown start; }"), 0, "it must not forget");
}

#[test]
fn the_only_zone_and_the_only_policy_need_no_name() {
    let (in_order, text) = check(
        "curfew_zone zone=app:1m; curfew_policy staff idle=5m; curfew_id $cookie_sid;
         server { location / { curfew policy=staff; } location /login { curfew_start $cookie_x; }
                  location /logout { curfew_end logout; } location /session { curfew_status_json; } }",
    );
    assert!(in_order, "{text}");
}

#[test]
fn a_level_takes_over_what_the_one_above_says() {
    let nginx = Site::new().start(
        "curfew_zone zone=a:1m; curfew_zone zone=b:1m;
         curfew_policy staff idle=15m; curfew_policy guests lifetime=1h;
         curfew_id $cookie_sid; curfew_deny_status 440;
         server {
             listen $LISTEN; curfew zone=a policy=staff;
             location / { proxy_pass http://$APP; }
             location /login { curfew off; curfew_start $upstream_cookie_sid; proxy_pass http://$APP; }
             location /b { curfew zone=b policy=guests; curfew_deny_status 403; proxy_pass http://$APP;
                           location /b/login { curfew_unknown start; proxy_pass http://$APP; }
                           location /b/c { curfew_id $http_x_id; proxy_pass http://$APP; } }
         }",
    );
    assert_eq!(nginx.with_id("/", "x").status, 440);
    assert_eq!(nginx.with_id("/b", "x").status, 403);
    nginx.log_in("x");
    assert_eq!(nginx.with_id("/", "x").status, 200);
    assert_eq!(nginx.with_id("/b", "x").status, 403, "zones know nothing of each other");
    assert_eq!(nginx.with_id("/b/login", "x").status, 200);
    assert_eq!(nginx.with_id("/b", "x").status, 200);
    assert_eq!(nginx.with_id("/b/c", "x").verdict(), "NO_ID");
    assert_eq!(nginx.get("/b/c", &[("X-Id", "x")]).status, 200);
}

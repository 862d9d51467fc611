//! Cookies whose names are no names of variables: `cookie=__Host-sid`, `upstream_cookie=connect.sid`.

use crate::harness::{Nginx, Response, Site};
use crate::sessions;

/// The application of the other tests, with a session cookie of this name.
fn site(name: &str, policy: &str, more: &str) -> String {
    sessions::site(policy, more)
        .replace("$cookie_sid", &format!("cookie={name}"))
        .replace("$upstream_cookie_sid", &format!("upstream_cookie={name}"))
}

fn start(name: &str, more: &str) -> Nginx {
    Site::new().start(&site(name, "idle=15m lifetime=8h", more))
}

fn with(nginx: &Nginx, path: &str, cookies: &str) -> Response {
    nginx.get(path, &[("Cookie", cookies)])
}

/// Has the application set cookies at its login.
fn issue(nginx: &Nginx, cookies: &[&str]) -> Response {
    let headers: Vec<_> = cookies.iter().map(|cookie| format!("header=Set-Cookie:{cookie}")).collect();
    nginx.get(&format!("/login?{}", headers.join("&")), &[])
}

#[test]
fn a_session_is_named_by_a_cookie_that_no_variable_can_name() {
    for name in ["__Host-sid", "__Secure-app.sid", "connect.sid", "sid", "a!'*-.^_`|~9", "-", "ASP.NET_SessionId"] {
        let nginx = start(name, "");
        let id = format!("{name}=abc");
        assert_eq!(with(&nginx, "/", &id).verdict(), "UNKNOWN", "{name}");
        assert_eq!(issue(&nginx, &[&format!("{id};Path=/;Secure;HttpOnly")]).status, 200, "{name}");
        nginx.of_every_worker(|| {
            let response = with(&nginx, "/page", &format!("theme=dark; {id}"));
            assert_eq!((response.status, response.verdict()), (200, "ACTIVE"), "{name}");
            response.worker()
        });
        assert!(with(&nginx, "/session", &id).body.contains("\"alive\":true"), "{name}");
        for cookies in [format!("x{id}"), format!("theme=dark; {name}x=abc"), format!("{name}=; theme=dark")] {
            assert_eq!(with(&nginx, "/", &cookies).verdict(), "NO_ID", "{cookies}");
        }
        assert_eq!(with(&nginx, "/logout", &id).verdict(), "LOGGED_OUT", "{name}");
        assert_eq!(with(&nginx, "/", &id).verdict(), "LOGGED_OUT", "{name}");
    }
}

#[test]
fn a_named_cookie_is_what_the_variable_is() {
    let nginx = Site::new().start(&sessions::site(
        "idle=15m lifetime=8h",
        "location = /named { curfew_id cookie=sid; proxy_pass http://$APP; }
         location = /by-name { curfew off; curfew_start upstream_cookie=sid; proxy_pass http://$APP; }
         location = /cookies { curfew off; return 200 \"$curfew_cookies\"; }
         location = /cookies-named { curfew off; curfew_id cookie=sid; return 200 \"$curfew_cookies\"; }
         location = /start { curfew_unknown start; proxy_pass http://$APP; }
         location = /start-named { curfew_unknown start; curfew_id cookie=sid; proxy_pass http://$APP; }",
    ));
    nginx.log_in("live");
    for cookies in [
        "",
        "sid",
        "sid=",
        "sid=live",
        "SID=live",
        "sid = live ; a=b",
        "sid=live x",
        "a=b,sid=live",
        "sid=\"live\"",
        "sid=live;sid=live",
        "sid=live; sid=ended",
        "sid=live; \u{a0}sid=ended",
        "%73id=ended; sid=live",
        "sidecar=live",
        "sid=a%2fb",
        "sid=never-seen\\",
    ] {
        for (variable, named) in [("/", "/named"), ("/start", "/start-named"), ("/cookies", "/cookies-named")] {
            let (variable, named) = (with(&nginx, variable, cookies), with(&nginx, named, cookies));
            let said = |response: &Response| (response.status, response.verdict().to_owned());
            assert_eq!(said(&variable), said(&named), "{cookies}");
            if variable.verdict().is_empty() {
                assert_eq!(variable.body, named.body, "{cookies}");
            }
        }
    }
    // A number stands for an id of its own, so that each can begin.
    let forms: [&[&str]; 9] = [
        &["sid=#;Path=/"],
        &["SID=#;Max-Age=0"],
        &["sid=;Max-Age=0"],
        &["sid=deleted;Max-Age=0"],
        &["sid=\"\";Max-Age=0"],
        &["other=1", "sid=#", "sid=later"],
        &["sid", "sid=#"],
        &["sidecar=1", "sid2=2"],
        &["a=1;sid=#"],
    ];
    for (number, form) in forms.iter().enumerate() {
        let known = |path: &str, id: &str| {
            let headers: Vec<_> =
                form.iter().map(|cookie| format!("header=Set-Cookie:{}", cookie.replace('#', id))).collect();
            let status = nginx.get(&format!("{path}?{}", headers.join("&")), &[]).status;
            (status, ["deleted", "\"\"", "later", id].map(|id| nginx.with_id("/", id).status))
        };
        let variable = known("/login", &format!("variable-{number}"));
        assert_eq!(variable, known("/by-name", &format!("named-{number}")), "{form:?}");
    }
}

#[test]
fn a_live_session_does_not_lend_itself_to_a_cookie_that_an_application_takes_for_it() {
    let host = [
        "__Host-sid=ended",
        "__host-SID=ended",
        // PHP's names for it, with which a page of another host gets by the prefix.
        "..Host-sid=ended",
        "_.Host-sid=ended",
        "[_Host-sid=ended",
        "  _ Host-sid=ended",
        "%5f_Host-sid=ended",
        "__Host%2Dsid=ended",
        "__Host-sid\u{a0}=ended",
        "\u{a0}__Host-sid=ended",
        "x=1 __Host-sid=ended",
        "__Host-sid",
        "__Host-sid%00x=ended",
    ];
    let express = [
        "connect.sid=ended",
        "Connect.Sid=ended",
        "connect_sid=ended",
        "connect[sid=ended",
        "connect sid=ended",
        "connect+sid=ended",
        "connect%2Esid=ended",
        "connect%5Bsid=ended",
        "\u{2003}connect.sid=ended",
        "connect.sid =ended",
    ];
    for (name, others) in [("__Host-sid", &host[..]), ("connect.sid", &express)] {
        let nginx = start(name, "location /pass { curfew_no_id pass; proxy_pass http://$APP; }");
        let live = format!("{name}=live");
        issue(&nginx, &[&live]);
        for other in others {
            for cookies in [format!("{live}; {other}"), format!("{other}; {live}")] {
                let response = with(&nginx, "/", &cookies);
                assert_eq!((response.status, response.verdict()), (401, "AMBIGUOUS_ID"), "{cookies}");
            }
            let two = nginx.get("/", &[("Cookie", &live), ("Cookie", other)]);
            assert_eq!(two.verdict(), "AMBIGUOUS_ID", "{other}");
        }
        // Where nginx finds none and the application would, nobody passes for one without.
        for other in &others[2..6] {
            assert_eq!(with(&nginx, "/pass", other).verdict(), "AMBIGUOUS_ID", "{other}");
        }
        for beside in ["connectsid=x", "connect-sid=x", "__Host_sid=x", "xconnect.sid=x", "Host-sid=x", "sid=x", &live]
        {
            assert_eq!(with(&nginx, "/", &format!("{live}; {beside}")).status, 200, "{beside}");
        }
    }
}

#[test]
fn a_logout_ends_whatever_an_application_may_take_for_the_named_cookie() {
    let nginx = start("connect.sid", "");
    for (number, planted) in ["connect.sid=planted; ", "connect_sid=planted; ", "connect%2Esid=x; "].iter().enumerate()
    {
        for order in 0..2 {
            let own = format!("connect.sid=own-{number}-{order}");
            issue(&nginx, &[&own]);
            assert_eq!(with(&nginx, "/", &own).verdict(), "ACTIVE", "{own}");
            let cookies = if order == 0 { format!("{planted}{own}") } else { format!("{own}; {planted}") };
            assert_eq!(with(&nginx, "/logout", &cookies).status, 200, "{cookies}");
            assert_eq!(with(&nginx, "/", &own).verdict(), "LOGGED_OUT", "{cookies}");
        }
    }
}

#[test]
fn the_application_is_handed_its_cookies_less_the_named_one_of_a_session_that_is_over() {
    let more = "location = /handed { curfew off; return 200 \"$curfew_cookies\"; }";
    for (name, alike) in [("__Host-sid", "..Host-sid"), ("connect.sid", "connect_sid")] {
        let nginx = start(name, more);
        let handed = |cookies: &str| with(&nginx, "/handed", cookies).body;
        let id = format!("{name}=abc");
        assert_eq!(handed("csrf=1; theme=dark"), "csrf=1; theme=dark", "before the login");
        assert_eq!(handed(&format!("csrf=1; {id}; theme=dark")), "csrf=1; theme=dark", "not known");
        issue(&nginx, &[&id]);
        assert_eq!(handed(&format!("csrf=1; {id}; theme=dark")), format!("csrf=1; {id}; theme=dark"));
        assert_eq!(handed(&format!("{id}; theme=dark; {alike}=old")), "theme=dark", "ambiguous");
        with(&nginx, "/logout", &id);
        for cookies in [id.clone(), id.to_uppercase(), format!("{alike}=abc"), format!("\u{a0}{id}")] {
            assert_eq!(handed(&format!("csrf=1; {cookies}; theme=dark")), "csrf=1; theme=dark", "{cookies}");
        }
        assert_eq!(handed(&format!("csrf=1; x{id}; {name}x=1")), format!("csrf=1; x{id}; {name}x=1"), "another's");
    }
}

#[test]
fn a_session_begins_with_the_signed_id_that_express_issues() {
    let nginx = start("connect.sid", "");
    let id = "s%3Aq0Wx.hM8/+a=";
    let at_first = issue(&nginx, &["csrf=1", &format!("connect.sid={id};Path=/;HttpOnly"), "connect.sid=later"]);
    assert_eq!((at_first.status, at_first.verdict()), (200, "ACTIVE"));
    assert_eq!(with(&nginx, "/", &format!("connect.sid={id}")).status, 200);
    assert_eq!(with(&nginx, "/", "connect.sid=later").verdict(), "UNKNOWN", "nginx takes the first");
    assert_eq!(with(&nginx, "/", "connect.sid=s:q0Wx.hM8/+a=").verdict(), "UNKNOWN", "another text");
    for cookie in ["connect_sid=x", "connect.sidx=x", "connectxsid=x", "connect.sid;x=1", "a=1;connect.sid=x"] {
        let response = issue(&nginx, &[cookie]);
        assert_eq!((response.status, response.verdict()), (200, ""), "{cookie} begins nothing");
        assert_eq!(with(&nginx, "/", "connect.sid=x").verdict(), "UNKNOWN", "{cookie}");
    }
    for gone in ["", "deleted", "\"\""] {
        assert_eq!(issue(&nginx, &[&format!("connect.sid={gone};Path=/;Max-Age=0")]).verdict(), "", "{gone}");
    }
    let response = with(&nginx, "/login?header=Set-Cookie:Connect.SID=other-case", "");
    assert_eq!((response.status, response.verdict()), (200, "ACTIVE"), "nginx does not mind the case of names");
}

#[test]
fn a_named_cookie_renews_and_binds_a_session_and_says_whose_it_is() {
    let nginx = Site::new().start(&site(
        "__Host-sid",
        "idle=15m max_per_subject=1",
        "curfew_binding cookie=device.id; curfew_subject upstream_cookie=user.name;
         location = /renew { curfew_rotate upstream_cookie=__Host-sid; proxy_pass http://$APP; }
         location = /step-up { curfew off; curfew_reauthenticated upstream_cookie=step.up; proxy_pass http://$APP; }",
    ));
    let begin =
        |id: &str, user: &str| issue(&nginx, &[&format!("__Host-sid={id}"), &format!("user.name={user}")]).status;
    let path = "/login?header=Set-Cookie:__Host-sid=old&header=Set-Cookie:user.name=alice";
    assert_eq!(with(&nginx, path, "device.id=phone").status, 200);
    assert_eq!((begin("second", "alice"), begin("another", "bob")), (403, 200));
    assert_eq!(with(&nginx, "/", "__Host-sid=old; device.id=laptop").verdict(), "BINDING_MISMATCH");
    assert_eq!(with(&nginx, "/step-up?header=Set-Cookie:step-up=1", "__Host-sid=made-up").status, 200);
    assert_eq!(with(&nginx, "/step-up?header=Set-Cookie:step.up=1", "__Host-sid=made-up").status, 401);
    let renew = "/renew?header=Set-Cookie:__Host-sid=new;Secure";
    assert_eq!(with(&nginx, renew, "__Host-sid=old; device.id=phone").status, 200);
    assert_eq!(with(&nginx, "/", "__Host-sid=new; device.id=phone").status, 200);
    assert_eq!(with(&nginx, "/logout", "__Host-sid=new; device.id=phone").status, 200);
    assert_eq!(with(&nginx, "/", "__Host-sid=new; device.id=phone").verdict(), "LOGGED_OUT");
}

#[test]
fn a_named_cookie_that_may_be_spelt_in_several_ways_begins_nothing_by_the_clients_word() {
    let nginx = start(
        "connect.sid",
        "location /start { curfew_unknown start; proxy_pass http://$APP; }
         location /literal { curfew_unknown start_literal; proxy_pass http://$APP; }
         location /begin { curfew off; curfew_start cookie=connect.sid; proxy_pass http://$APP; }",
    );
    for id in ["s%3Aabc", "\"abc\"", "a\\bc", "abc\u{a0}", "abc,x"] {
        for path in ["/start", "/begin"] {
            let response = with(&nginx, path, &format!("connect.sid={id}"));
            assert_eq!((response.status, response.verdict()), (401, "AMBIGUOUS_ID"), "{path} {id}");
        }
    }
    for path in ["/begin", "/start"] {
        assert_eq!(with(&nginx, path, "connect.sid=a; connect_sid=b").verdict(), "AMBIGUOUS_ID", "{path}");
    }
    assert_eq!(with(&nginx, "/literal", "connect.sid=s%3Aabc").status, 200);
    assert_eq!(with(&nginx, "/start", "connect.sid=abc").status, 200);
    assert_eq!(with(&nginx, "/begin", "connect.sid=def").status, 200);
    assert_eq!(with(&nginx, "/", "connect.sid=def").status, 200);
}

#[test]
fn a_level_takes_over_the_named_cookie_of_the_one_above_or_has_its_own() {
    let nginx = Site::new().start(
        "curfew_zone zone=app:1m; curfew_policy staff idle=15m; curfew_id cookie=__Host-sid;
         server {
             listen $LISTEN; curfew zone=app policy=staff; curfew_start upstream_cookie=__Host-sid;
             location / { proxy_pass http://$APP; }
             location /login { curfew off; proxy_pass http://$APP;
                               location /login/other { curfew_start upstream_cookie=connect.sid; proxy_pass http://$APP; }
                               location /login/nobody { curfew_start \"\"; proxy_pass http://$APP; } }
             location /other { curfew_id cookie=connect.sid; proxy_pass http://$APP;
                               location /other/below { proxy_pass http://$APP; }
                               location /other/variable { curfew_id $cookie_sid; proxy_pass http://$APP; }
                               location /other/if { if ($arg_old) { curfew_id cookie=old-sid; } proxy_pass http://$APP; } }
         }",
    );
    let issued = "header=Set-Cookie:__Host-sid=host&header=Set-Cookie:connect.sid=other";
    nginx.get(&format!("/login/nobody?{issued}"), &[]);
    assert_eq!(with(&nginx, "/", "__Host-sid=host").verdict(), "UNKNOWN");
    nginx.get(&format!("/login?{issued}"), &[]);
    assert_eq!(with(&nginx, "/", "__Host-sid=host").status, 200);
    assert_eq!(with(&nginx, "/other", "connect.sid=other").verdict(), "UNKNOWN");
    nginx.get(&format!("/login/other?{issued}"), &[]);
    for (path, cookie) in [
        ("/other", "connect.sid"),
        ("/other/below", "connect.sid"),
        ("/other/variable", "sid"),
        ("/other/if", "connect.sid"),
        ("/other/if?old=1", "old-sid"),
    ] {
        for name in ["__Host-sid", "connect.sid", "sid", "old-sid"] {
            let expected = if name == cookie { (200, "ACTIVE") } else { (401, "NO_ID") };
            let response = with(&nginx, path, &format!("{name}=other"));
            assert_eq!((response.status, response.verdict()), expected, "{path} {name}");
        }
    }
    // Which cookie it is may change while nginx runs; sessions are the same.
    let (http, id) = (site("app.sid", "idle=15m", ""), "app.sid=other");
    nginx.reload(&http);
    assert_eq!(with(&nginx, "/", id).status, 200);
    assert_eq!(with(&nginx, "/", "connect.sid=other").verdict(), "NO_ID");
}

#[test]
fn a_name_that_is_none_is_refused_with_what_is_wrong_and_where() {
    let site = Site::new();
    let refused = |directive: &str, message: &str| {
        let (in_order, text) = site.check(&format!("server {{\n location / {{\n{directive}\n}} }}"));
        let written = std::fs::read_to_string(site.path("nginx.conf")).unwrap();
        let line = written.lines().position(|line| line == directive).unwrap() + 1;
        assert!(!in_order && text.contains(message), "{directive}\n{text}");
        assert!(text.contains(&format!("nginx.conf:{line}")), "{directive} in line {line}\n{text}");
    };
    for directive in ["curfew_id", "curfew_binding", "curfew_start", "curfew_rotate", "curfew_expires"] {
        refused(&format!("{directive} cookie=;"), "the name of a cookie is missing");
    }
    refused("curfew_start upstream_cookie=;", "the name of a cookie is missing");
    for name in [
        "a b",
        "a;b",
        "a=b",
        "a,b",
        "a\"b",
        "a\\\\b",
        "a/b",
        "a:b",
        "a(b",
        "a)b",
        "a[b",
        "a]b",
        "a{b",
        "a}b",
        "a<b",
        "a>b",
        "a@b",
        "a?b",
        "a\tb",
        "a\x7fb",
        "sïd",
        "a\x01b",
        "$cookie_a",
        "a${arg_b}",
        "a%2eb",
        "a+b",
        " a",
        "a ",
    ] {
        for form in ["cookie", "upstream_cookie"] {
            refused(&format!("curfew_start '{form}={name}';"), "in the name of a cookie");
        }
    }
    for name in ["_", ".", "__.."] {
        refused(&format!("curfew_id cookie={name};"), "more than . and _");
    }
    for directive in ["curfew_id", "curfew_activity"] {
        refused(&format!("{directive} upstream_cookie=connect.sid;"), "before there is an answer");
    }
    refused("curfew_id cookie=a; curfew_id $cookie_b;", "\"curfew_id\" directive is duplicate");
    refused("curfew_id $cookie_b; curfew_id cookie=a;", "\"curfew_id\" directive is duplicate");
    refused("curfew_id cookie=a; curfew_id cookie=a;", "\"curfew_id\" directive is duplicate");
    for text in ["cookies=sid", "Cookie=sid", "sid", "upstream_cookie:sid"] {
        refused(&format!("curfew_id {text};"), "the same for every request");
        refused(&format!("curfew_start {text};"), "the same for every request");
    }
    for directive in ["subject", "binding", "expires", "activity", "reauthenticated"] {
        refused(&format!("curfew_{directive} upstream-cookie=proved;"), "the same for every request");
    }
}

#[test]
fn what_a_variable_needs_a_named_cookie_needs_too() {
    let check = |http: &str| Site::new().check(http);
    let (zone, policy) = ("curfew_zone zone=app:1m;", "curfew_policy staff idle=15m;");
    for (http, message) in [
        (
            format!("{zone} curfew_zone zone=b:1m; {policy} server {{ curfew_start upstream_cookie=a.b; }}"),
            "\"curfew_start\" needs a zone",
        ),
        (format!("{zone} server {{ curfew_start upstream_cookie=a.b; }}"), "\"curfew_start\" needs a policy"),
        (
            format!("{zone}{policy} server {{ curfew_rotate upstream_cookie=a.b; }}"),
            "\"curfew_rotate\" needs curfew_id",
        ),
    ] {
        let (in_order, text) = check(&http);
        assert!(!in_order && text.contains(message), "{http}\n{text}");
    }
    let (in_order, text) = check(&format!(
        "{zone}{policy} curfew_id cookie=all-of-it-!#&'*-.^_`|~; curfew_expires cookie=a.b;
         server {{ curfew zone=app policy=staff; curfew_unknown start; curfew_start \"\"; }}"
    ));
    assert!(in_order && text.contains("may begin again once it is forgotten"), "{text}");
}

#[test]
fn a_session_begins_on_a_condition_that_each_level_has_with_its_own_source() {
    // Express sets its cookie for whoever comes by, and a login that fails is a page like any other.
    let more = "location = /enter { curfew off; proxy_pass http://$APP;
                                    curfew_start upstream_cookie=connect.sid if=$upstream_http_x_logged_in; }
                location /above { curfew off; curfew_start $upstream_cookie_sid if=$upstream_http_x_logged_in$arg_now;
                                  proxy_pass http://$APP; location /above/takes { proxy_pass http://$APP; }
                                  location /above/always { curfew_start $upstream_cookie_sid; proxy_pass http://$APP; } }";
    let nginx = start("connect.sid", more);
    let begins = |path: &str, query: &str, id: &str| {
        let cookies = format!("header=Set-Cookie:connect.sid={id}&header=Set-Cookie:sid={id}");
        let response = nginx.get(&format!("{path}?{cookies}&{query}"), &[]);
        assert_eq!(response.status, 200, "{path} {query}");
        let known = with(&nginx, "/", &format!("connect.sid={id}")).status == 200;
        assert_eq!(response.verdict() == "ACTIVE", known, "{path} {query}");
        known
    };
    for (number, path) in ["/enter", "/above", "/above/takes"].iter().enumerate() {
        for (query, expected) in [
            ("", false),
            ("header=X-Logged-In:", false),
            ("header=X-Logged-In:0", false),
            ("header=X-Logged-In:1", true),
            ("header=X-Logged-In:yes", true),
        ] {
            let id = format!("{number}-{}", query.len());
            assert_eq!(begins(path, query, &id), expected, "{path} {query}");
        }
    }
    assert!(begins("/above/always", "", "always"), "its own source has no condition");
    assert!(begins("/above/takes", "now=1", "now"));
}

#[test]
fn a_condition_that_says_nothing_is_refused() {
    let site = Site::new();
    for (directive, message) in [
        ("curfew_start upstream_cookie=a.b if=;", "\"if=\" is no condition"),
        ("curfew_start upstream_cookie=a.b if=1;", "\"if=1\" is no condition"),
        ("curfew_start upstream_cookie=a.b if=upstream_cookie=b;", "is no condition"),
        ("curfew_start upstream_cookie=a.b if=$upstream_http_x=1;", "\"if=$upstream_http_x=1\" is no condition"),
        ("curfew_start upstream_cookie=a.b if=${upstream_http_x}${arg_a}!;", "is no condition"),
        ("curfew_start upstream_cookie=a.b if=$;", "invalid variable name"),
        ("curfew_start upstream_cookie=a.b $upstream_http_x;", "invalid parameter \"$upstream_http_x\""),
        ("curfew_start if=$upstream_http_x;", "what names the session comes before"),
        ("curfew_start upstream_cookie=a.b if=$upstream_http_x-logged-in;", "nginx reads \"$upstream_http_x\" here"),
        ("curfew_start upstream_cookie=a.b if=$a if=$b;", "invalid number of arguments"),
        ("curfew_id cookie=a.b if=$upstream_http_x;", "invalid number of arguments"),
        ("curfew_start $upstream_cookie_a if=$arg_b; curfew_start $upstream_cookie_a;", "is duplicate"),
        ("curfew_reauthenticated $upstream_http_x-proved;", "nginx reads \"$upstream_http_x\" here"),
        ("curfew_activity $arg_counts.here;", "nginx reads \"$arg_counts\" here"),
        ("curfew_expires $upstream_http_token-expires;", "nginx reads \"$upstream_http_token\" here"),
    ] {
        let (in_order, text) = site.check(&format!("server {{ {directive} }}"));
        assert!(!in_order && text.contains(message) && text.contains("nginx.conf:"), "{directive}\n{text}");
    }
}

//! What somebody may try so that an ended session passes, or one that should end does not.

use crate::harness::{Nginx, Site};
use crate::sessions::site;

fn start(policy: &str, more: &str) -> Nginx {
    Site::new().start(&site(policy, more))
}

#[test]
fn an_ended_session_does_not_hide_in_the_header_of_a_live_one() {
    let nginx = start("idle=15m lifetime=8h", "location /pass { curfew_no_id pass; proxy_pass http://$APP; }");
    nginx.log_in("live");
    // Django, Express, Python's http.cookies and PHP read these; nginx does not.
    for cookies in [
        "sid=live; \u{a0}sid=ended",
        "\u{a0}sid=ended; sid=live",
        "sid=live; sid\u{a0}=ended",
        "sid=live; x=1 sid=ended",
        "sid=live; x=1\u{b}sid=ended",
        "sid=live; \u{2003}sid=ended",
        "%73id=ended; sid=live",
        // WebOb, Mojolicious, Tomcat and ASP.NET read these.
        "sid=live; x\"sid=ended",
        "sid=live; [sid=ended",
        "sid=live; x=\\sid=ended",
        "sid=live; a=\"x\"sid=ended",
        "a=Wed, 01-Jan-2030 00:00:00 GMTsid=ended; sid=live",
        "sid=live; (sid=ended",
        "sid=live; x{sid=ended",
        "sid=live; a=\\/b?sid=ended",
        "sid=live; \"sid\"=ended",
    ] {
        let response = nginx.get("/", &[("Cookie", cookies)]);
        assert_eq!((response.status, response.verdict()), (401, "AMBIGUOUS_ID"), "{cookies}");
    }
    for cookies in ["\u{a0}sid=ended", "x\"sid=ended", "a=\"x\"sid=ended", "[sid=ended", "x(sid=ended"] {
        let response = nginx.get("/pass", &[("Cookie", cookies)]);
        assert_eq!((response.status, response.verdict()), (401, "AMBIGUOUS_ID"), "{cookies}");
    }
    for cookies in [
        "sid=live; next=/page?sid=1",
        "cols=name,sid,date; sid=live",
        "theme=dark; note=\u{e9}t\u{e9}; sid=live",
        "a=b sidecar=1; sid=live",
        "sid=live; next=\"/page?sid=1\"; cart[sid]=1",
        "prefs={\"sid\":\"x\",\"url\":\"/page?sid=1\",\"list\":[1,2]}; sid=live; a=\"b c\"",
    ] {
        assert_eq!(nginx.get("/", &[("Cookie", cookies)]).status, 200, "{cookies}");
    }
}

#[test]
fn a_header_or_an_argument_that_is_there_twice_names_no_session() {
    let nginx = start(
        "idle=15m lifetime=8h",
        "location /header { curfew_id $http_x_session; proxy_pass http://$APP; }
         location /argument { curfew_id ${arg_sid}; proxy_pass http://$APP; }",
    );
    nginx.log_in("live");
    assert_eq!(nginx.get("/header", &[("X-Session", "live")]).status, 200);
    assert_eq!(nginx.get("/header", &[("X-Session", "live"), ("X-Sessions", "x")]).status, 200);
    let twice = nginx.get("/header", &[("X-Session", "live"), ("x-session", "ended")]);
    assert_eq!((twice.status, twice.verdict()), (401, "AMBIGUOUS_ID"));
    assert_eq!(nginx.get("/argument?sid=live&x=1", &[]).status, 200);
    for arguments in ["sid=live&sid=ended", "s%69d=ended&sid=live", "sid=live;sid=ended"] {
        assert_eq!(nginx.get(&format!("/argument?{arguments}"), &[]).verdict(), "AMBIGUOUS_ID", "{arguments}");
    }
}

/// nginx ends the arguments there, and hands the application what the client has sent.
#[test]
fn an_ended_session_does_not_hide_behind_a_hash() {
    let nginx = start(
        "idle=15m lifetime=8h",
        "location /argument { curfew_id $arg_sid; proxy_pass http://$APP; }
         location /argument/pass { curfew_no_id pass; curfew_id $arg_sid; proxy_pass http://$APP; }
         location /begin { curfew off; curfew_start $arg_sid; proxy_pass http://$APP; }
         location /end { curfew off; curfew_id $arg_sid; curfew_end logout; proxy_pass http://$APP; }",
    );
    nginx.log_in("live");
    for target in [
        "/argument?sid=live#&sid=ended",
        "/argument?sid=live#",
        "/argument?sid=live&x=#%26sid=ended",
        "/argument/pass?#&sid=ended",
        "/argument/pass#?sid=ended",
        "/argument/pass#",
        "/begin?sid=new#&sid=ended",
    ] {
        let response = nginx.get(target, &[]);
        assert_eq!((response.status, response.verdict()), (401, "AMBIGUOUS_ID"), "{target}");
    }
    assert_eq!(nginx.get("/argument?sid=live&x=%23&sid=live", &[]).status, 200);
    assert_eq!(nginx.get("/#?sid=ended", &[("Cookie", "sid=live")]).status, 200, "no cookie is there");
    let targets = ["/end?sid=own#&sid=x", "/end?sid=x#&sid=own", "/end#?sid=own", "/end?#x=1?sid=own"];
    for (number, target) in targets.iter().enumerate() {
        let own = format!("own{number}");
        nginx.log_in(&own);
        assert_eq!(nginx.get(&target.replace("own", &own), &[]).status, 200, "{target}");
        assert_eq!(nginx.with_id("/", &own).verdict(), "LOGGED_OUT", "{target}");
    }
}

#[test]
fn an_id_that_has_ended_does_not_begin_again_in_another_spelling() {
    let nginx = start(
        "idle=15m lifetime=8h",
        "location /start { curfew_unknown start; proxy_pass http://$APP; }
         location /argument { curfew_unknown start; curfew_id $arg_sid; proxy_pass http://$APP; }
         location /literal { curfew_unknown start_literal; proxy_pass http://$APP; }
         location /header { curfew_unknown start; curfew_id $http_authorization; proxy_pass http://$APP; }
         location /begin { curfew off; curfew_start $cookie_sid; proxy_pass http://$APP; }",
    );
    assert_eq!(nginx.with_id("/start", "abc").status, 200);
    nginx.with_id("/logout", "abc");
    assert_eq!(nginx.with_id("/start", "abc").verdict(), "LOGGED_OUT");
    for id in ["\"abc\"", "%61bc", "a\\bc", "abc x", "abc\u{a0}", "abc,x=1", "abc&x", "%u0061bc"] {
        let response = nginx.with_id("/start", id);
        assert_eq!((response.status, response.verdict()), (401, "AMBIGUOUS_ID"), "{id}");
    }
    for end in ["[x", "]", "(x", ")", "{", "}x", "<x", ">", "@x", ":x", "?", "=x", "==x", "=", "==", "\"", "\"x"] {
        let response = nginx.with_id("/start", &format!("abc{end}"));
        assert_eq!((response.status, response.verdict()), (401, "AMBIGUOUS_ID"), "abc{end}");
    }
    for id in ["eyJhbGciOiJIUzI1NiJ9.e30.c2ln-_", "YWJj/+8ZA==", "9b2e4c1e-7d3f-4f0a-8e57-2f6c1d0b9a83", "a|b;x=1"] {
        assert_eq!(nginx.with_id("/start", id).status, 200, "{id}");
    }
    assert_eq!(nginx.with_id("/start", "aB3%_xy^$*!#").status, 200, "no encoding at all");
    for path in ["/argument?sid=%61bc", "/argument?sid=a+bc", "/begin?sid=%61bc"] {
        let response = nginx.with_id(path, "%61bc");
        assert_eq!((response.status, response.verdict()), (401, "AMBIGUOUS_ID"), "{path}");
    }
    let by = |header: &str| nginx.get("/header", &[("Authorization", header)]).verdict().to_owned();
    assert_eq!((by("abc").as_str(), by("Bearer  abc").as_str()), ("LOGGED_OUT", "AMBIGUOUS_ID"));
    assert_eq!(nginx.with_id("/literal", "%61bc").status, 200, "for a check that takes it as it is");
    assert_eq!(nginx.get("/literal", &[("Cookie", "sid=x; SID=%61bc")]).verdict(), "AMBIGUOUS_ID");
    // A session that the application has begun may be called anything.
    nginx.log_in("s%3Aabc");
    assert_eq!(nginx.with_id("/start", "s%3Aabc").status, 200);
}

#[test]
fn a_cookie_that_is_planted_beside_a_users_own_does_not_keep_him_from_logging_out() {
    let nginx = start("idle=15m lifetime=8h", "");
    for cookies in ["sid=own; sid=planted", "sid=planted; sid=own", "sid=planted; \u{a0}sid=own", "sid=; sid=own"] {
        let own = format!("own-{}", cookies.len() * 7 + cookies.find("own").unwrap());
        nginx.log_in(&own);
        let response = nginx.get("/logout", &[("Cookie", &cookies.replace("own", &own))]);
        assert_eq!((response.status, response.body.as_str()), (200, "application /logout"), "{cookies}");
        assert_eq!(nginx.with_id("/", &own).verdict(), "LOGGED_OUT", "{cookies}");
    }
}

#[test]
fn a_logout_that_names_more_sessions_than_anybody_has_is_not_said_to_be_done() {
    let nginx = start("idle=15m lifetime=8h", "");
    nginx.log_in("own");
    let cookies = format!("sid=own; {}", "sid=planted; ".repeat(100));
    let response = nginx.get("/logout", &[("Cookie", &cookies)]);
    assert_eq!((response.status, response.verdict()), (401, "AMBIGUOUS_ID"));
    assert_eq!(nginx.with_id("/", "own").verdict(), "LOGGED_OUT");
}

#[test]
fn a_logout_that_nginx_answers_itself_is_one() {
    let nginx = start(
        "idle=15m lifetime=8h",
        "location = /bye { curfew off; curfew_end logout; return 302 /; }
         location = /no { curfew off; curfew_end logout; return 403; }
         location = /ask { curfew off; curfew_end logout; if ($arg_sure = \"\") { return 303 /sure; }
                           proxy_pass http://$APP; }
         location = /either { curfew off; if ($arg_out) { curfew_end logout; return 204; } proxy_pass http://$APP; }",
    );
    nginx.log_in("other");
    assert_eq!(nginx.with_id("/either", "other").status, 200);
    assert_eq!(nginx.with_id("/", "other").status, 200);
    assert_eq!(nginx.with_id("/either?out=1", "other").status, 204);
    assert_eq!(nginx.with_id("/", "other").verdict(), "LOGGED_OUT");
    nginx.log_in("abc");
    assert_eq!(nginx.with_id("/no", "abc").status, 403);
    assert_eq!(nginx.with_id("/", "abc").status, 200, "what fails ends nothing");
    assert_eq!(nginx.with_id("/ask", "abc").status, 303);
    assert_eq!(nginx.with_id("/", "abc").status, 200, "it was only asked");
    let response = nginx.with_id("/bye", "abc");
    assert_eq!((response.status, response.verdict()), (302, "LOGGED_OUT"));
    assert_eq!(nginx.with_id("/", "abc").verdict(), "LOGGED_OUT");
    let (ended, again) = (nginx.with_id("/bye", "abc"), nginx.get("/bye", &[]));
    assert_eq!((ended.status, again.status), (302, 302), "there is nothing to end, and that is no fault");
}

#[test]
fn a_logout_in_one_zone_opens_nothing_in_another() {
    let http = site(
        "idle=15m lifetime=8h",
        "location = /out { curfew_end logout; try_files /none /other; }
         location = /other { curfew zone=two policy=staff; curfew_id $cookie_adm; proxy_pass http://$APP; }",
    );
    let nginx = Site::new().start(&format!("curfew_zone zone=two:1m; {http}"));
    nginx.log_in("abc");
    assert_eq!(nginx.with_id("/other", "abc").status, 401);
    let response = nginx.with_id("/out", "abc");
    assert_eq!((response.status, response.verdict()), (401, "NO_ID"));
    assert_eq!(nginx.with_id("/", "abc").verdict(), "LOGGED_OUT");
}

#[test]
fn without_what_it_is_bound_to_a_session_is_neither_renewed_nor_renamed() {
    let more = "curfew_binding $http_x_device;
         location = /step-up { curfew off; curfew_reauthenticated 1; proxy_pass http://$APP; }
         location = /renew { curfew off; curfew_rotate $upstream_cookie_sid; proxy_pass http://$APP; }";
    let nginx = start("idle=15m", more);
    nginx.get("/login?sid=abc", &[("X-Device", "phone")]);
    let from = |device, path| nginx.get(path, &[("Cookie", "sid=abc"), ("X-Device", device)]);
    for path in ["/step-up", "/renew?sid=new"] {
        let response = from("laptop", path);
        assert_eq!((response.status, response.verdict()), (401, "BINDING_MISMATCH"), "{path}");
    }
    assert_eq!(from("phone", "/step-up").status, 200);
    assert_eq!(from("phone", "/renew?sid=new").status, 200);
    assert_eq!(nginx.get("/", &[("Cookie", "sid=new"), ("X-Device", "phone")]).status, 200);

    let nginx = start("idle=15m on_mismatch=end", more);
    nginx.get("/login?sid=abc", &[("X-Device", "phone")]);
    let from = |device, path| nginx.get(path, &[("Cookie", "sid=abc"), ("X-Device", device)]);
    assert_eq!(from("laptop", "/step-up").verdict(), "BINDING_MISMATCH");
    assert_eq!(from("phone", "/").verdict(), "BINDING_MISMATCH", "the policy ends it");
}

#[test]
fn what_passes_though_its_session_could_not_begin_is_answered_as_the_application_has_it() {
    let http = site("idle=15m lifetime=8h", "curfew_on_error pass;").replace("zone=app:1m", "zone=app:128k");
    let nginx = Site::new().start(&http);
    let cached = |number: u32| nginx.get(&format!("/login?sid=s{number}&header=Cache-Control:private"), &[]);
    let response = (0..10_000).map(cached).find(|response| response.verdict() == "FULL").unwrap();
    assert_eq!((response.status, response.header("Cache-Control")), (200, Some("private")));
}

#[test]
fn the_application_is_not_handed_the_cookie_of_a_session_that_is_over() {
    let more = "location = /handed { curfew off; return 200 \"$curfew_cookies\"; }
                location = /other { curfew off; curfew_id $cookie_sid$arg_x; return 200 \"$curfew_cookies\"; }
                location = /renew { curfew off; curfew_start $upstream_cookie_sid;
                                    proxy_set_header Cookie $curfew_cookies; proxy_pass http://$APP; }";
    let nginx = start("idle=15m lifetime=8h", more);
    let handed = |cookies: &[(&str, &str)]| nginx.get("/handed", cookies).body;
    nginx.log_in("abc");
    assert_eq!(handed(&[("Cookie", "theme=dark; sid=abc")]), "theme=dark; sid=abc");
    nginx.with_id("/logout", "abc");
    for cookies in ["theme=dark; sid=abc", "sid=abc; theme=dark", "sid=made-up;theme=dark", "sid=; theme=dark"] {
        assert_eq!(handed(&[("Cookie", cookies)]), "theme=dark", "{cookies}");
    }
    assert_eq!(handed(&[("Cookie", "x=1 sid=abc; theme=dark; \u{a0}sid=b")]), "theme=dark");
    let hidden = "a=b(c); x\"sid=abc; x={\"sid\":[1]}; [sid=abc; \"sid\"=abc; y=\"z\"sid=abc; next=/?sid=abc";
    assert_eq!(handed(&[("Cookie", hidden)]), "a=b(c); x={\"sid\":[1]}; next=/?sid=abc");
    assert_eq!(handed(&[("Cookie", "a=1"), ("Cookie", "sid=abc"), ("Cookie", "b=2; SID=c")]), "a=1; b=2");
    assert_eq!(handed(&[("Cookie", "sid=abc")]), "");
    let other = nginx.get("/other", &[("Cookie", "theme=dark; sid=abc")]).body;
    assert_eq!(other, "", "nobody knows which of them it is");
    assert_eq!(handed(&[]), "");
    assert_eq!(nginx.get("/renew?sid=new", &[("Cookie", "sid=abc")]).status, 200, "who logs in again may");
    assert_eq!(nginx.with_id("/", "new").status, 200);

    let nginx = start("idle=15m", &format!("curfew_binding $http_x_device; {more}"));
    nginx.get("/login?sid=abc", &[("X-Device", "phone")]);
    let from = |device| nginx.get("/handed", &[("Cookie", "sid=abc"), ("X-Device", device)]).body;
    assert_eq!((from("phone").as_str(), from("laptop").as_str()), ("sid=abc", ""));
}

#[test]
fn a_cookie_that_is_taken_away_is_no_id() {
    let nginx = start("idle=15m", "location = /renew { curfew_rotate $upstream_cookie_sid; proxy_pass http://$APP; }");
    for issued in ["deleted", "\"\""] {
        assert_eq!(nginx.get(&format!("/login?sid={issued}"), &[]).status, 200);
        assert_ne!(nginx.with_id("/", issued).status, 200, "{issued}");
    }
    nginx.log_in("abc");
    assert_eq!(nginx.with_id("/renew?sid=deleted", "abc").status, 200);
    assert_ne!(nginx.with_id("/", "deleted").status, 200);
    assert_eq!(nginx.with_id("/", "abc").status, 200);
}

/// Express issues `s%3A...`, and undoes whatever percent-encoding there is before it looks the session up.
#[test]
fn where_unknown_ids_pass_one_that_is_known_in_another_spelling_does_not() {
    let more = "location = /enter { curfew off; curfew_unknown pass; return 200 \"$curfew_cookies\"; }
                location /open { curfew_unknown pass; proxy_pass http://$APP; }";
    let nginx = Site::new().start(&site("idle=15m lifetime=8h retain=1h", more));
    let with = |path: &str, id: &str| nginx.get(path, &[("Cookie", &format!("sid={id}"))]);
    let express: &[&str] = &[
        "s:ab.d+f",
        "s%3aab.d%2bf",
        "s%3Aab.d+f",
        "%73%3Aab.d%2Bf",
        "%u0073:ab.d+f",
        "\"s%3Aab.d%2Bf\"",
        "\"s:ab.d\\+f\"",
        "s%3Aab.d%2Bf&x",
        "s%3aab.d+f&",
        "s%3Aab.d%2Bf ; x=1",
        "\ts:ab.d+f",
        "s%3Aab.d%2Bf\u{a0}",
    ];
    let plain: &[&str] = &[
        "pl%61in",
        "%70lain",
        "\"plain\"",
        "\"pl\\141in\"",
        "%U0070lain",
        "plain&x",
        "\"pl%61in&x\"",
        "plain ; x=1",
        "\tplain",
        "plain\u{b}; x=1",
        "plain x=1",
        "plain,x=1",
        "\"plain\" x=1",
        "\" plain \"",
        "\"plainX",
        "\"plain",
        "\"plain\u{a0}",
        "\"pl%61inX",
        "plain[x",
        "plain]",
        "plain\"",
        "plain\"x",
        "\"plain\"x",
        "\"pl\\141in\"x",
        "pl\\141in",
        "\\plai\\n[",
        "pl%61in[x",
        "plain(x",
        "plain:x",
        "plain=x",
        "plain==",
    ];
    for (issued, spellings) in [
        ("s%3Aab.d%2Bf", express),
        ("plain", plain),
        // .NET has small letters.
        ("a%2fb", &["a/b", "a%2Fb", "%61%2fb"]),
        ("d%2fe:c", &["\"d%2fe:c\"", "d%2fe:c&x"]),
        ("a%21b", &["a!b", "%61!b"]),
        ("u:1/x", &["u%3A1/x", "u%3a1%2Fx", "%75:1/x"]),
        // Python has quotes around such, and codes for what must not be between them.
        ("\"gAb/c==\"", &["gAb/c==", "gAb%2Fc%3D%3D", "\"gAb/c\\075=\""]),
        ("\"a\\054b\\\\c\"", &["a%2Cb%5Cc", "\"a%2cb\\\\c\"", "\"a\\054b%5cc\""]),
        ("ab/c%3D%3D", &["ab/c==", "ab%2Fc=="]),
        ("a+b%2A~", &["a%20b*~", "%61+b*~"]),
        ("a+b@c%3A", &["a+b@c:", "a%2Bb%40c%3A"]),
        ("a:b@c%2F", &["a%3Ab@c/"]),
        ("a+b%2fc", &["a%20b%2Fc"]),
        ("a~b/c%3D", &["a~b/c="]),
        ("a~%21%2F%3A", &["a~!/:"]),
        ("a!%2F", &["a!/"]),
        ("x%20y", &["x+y"]),
        ("{x}", &["%7Bx%7D"]),
        ("a\\b", &["\"a\\b\""]),
    ] {
        assert_eq!(with("/open", issued).status, 200, "nobody knows {issued} yet");
        nginx.log_in(issued);
        assert_eq!(with("/open", issued).verdict(), "ACTIVE", "{issued}");
        for ended in [false, true] {
            if ended {
                with("/logout", issued);
                assert_eq!(with("/open", issued).verdict(), "LOGGED_OUT", "{issued}");
            }
            for spelling in spellings {
                let response = with("/open", spelling);
                assert_eq!((response.status, response.verdict()), (401, "AMBIGUOUS_ID"), "{spelling} for {issued}");
                let handed = with("/enter", spelling).body;
                assert!(!handed.contains("sid"), "{spelling} for {issued}: {handed}");
            }
        }
        let longest = "x".repeat(4096);
        for other in
            ["s%3Azz.d%2Bf", "plain2", "a%2fc", "\"\"", "%", "eyJh.eyJz.c2ln", "{\"a\":[1,2]}", "a[plain]=b", &longest]
        {
            assert_eq!(with("/open", other).status, 200, "{other} is another's");
            assert_eq!(with("/enter", other).body, format!("sid={other}"), "{other} is another's");
        }
        for hidden in [format!("{longest}."), "x:~!/".repeat(200), ":".repeat(513)] {
            assert_eq!(with("/open", &hidden).verdict(), "AMBIGUOUS_ID", "what takes too long to tell does not pass");
        }
        assert_eq!(with("/open", &":".repeat(512)).status, 200);
    }
}

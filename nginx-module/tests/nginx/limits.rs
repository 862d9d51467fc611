//! What a session is tied to and limited by, besides time alone.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::harness::{Nginx, Site, eventually};
use crate::sessions::site;

fn start(policy: &str, more: &str) -> Nginx {
    Site::new().start(&site(policy, more))
}

fn seconds_from_now(seconds: i64) -> String {
    (SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 + seconds).to_string()
}

/// Uses a session in some way, again and again, for longer than its idle timeout of two seconds; says
/// whether it lived. `None` when this machine was too slow to tell.
fn lives_by(nginx: &Nginx, mut use_it: impl FnMut() -> u16) -> Option<bool> {
    let began = Instant::now();
    let mut last = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        use_it();
        if last.elapsed() > Duration::from_millis(1500) {
            return None;
        }
        last = Instant::now();
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(nginx.with_id("/", "abc").status == 200)
}

#[test]
fn polling_does_not_keep_a_session_alive_and_use_does() {
    let polls = "curfew_streams off; curfew_activity $http_x_use;";
    let nginx = start("idle=2s", polls);
    nginx.log_in("abc");
    let poll = || nginx.get("/poll", &[("Cookie", "sid=abc"), ("X-Use", "0")]).status;
    eventually("it ends though it is polled", || poll() == 401);
    let nginx = start("idle=2s", polls);
    nginx.log_in("abc");
    let used = || nginx.get("/", &[("Cookie", "sid=abc"), ("X-Use", "1")]).status;
    assert_ne!(lives_by(&nginx, used), Some(false));
}

#[test]
fn failed_requests_do_not_keep_a_session_alive_unless_told_so() {
    let nginx =
        start("idle=2s", "curfew_streams off; location /all { curfew_activity_at request; proxy_pass http://$APP; }");
    nginx.log_in("abc");
    eventually("it ends though it is tried", || nginx.with_id("/?status=404", "abc").status == 401);
    let nginx =
        start("idle=2s", "curfew_streams off; location /all { curfew_activity_at request; proxy_pass http://$APP; }");
    nginx.log_in("abc");
    assert_ne!(lives_by(&nginx, || nginx.with_id("/all?status=404", "abc").status), Some(false));
}

#[test]
fn a_request_counts_from_when_it_arrived() {
    let nginx = start(
        "idle=10m",
        "location /look { add_header X-Idle $curfew_idle_left; curfew_activity 0; proxy_pass http://$APP; }",
    );
    nginx.log_in("abc");
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(nginx.with_id("/?wait", "abc").status, 200));
        eventually("the request is with the application", || !nginx.site.app.waiting.lock().unwrap().is_empty());
        let before = Instant::now();
        eventually("some time goes by", || before.elapsed() > Duration::from_millis(300));
        nginx.site.app.let_go();
    });
    let left: f64 = nginx.with_id("/look", "abc").header("X-Idle").unwrap().parse().unwrap();
    assert!(left <= 599.7, "{left}");
}

#[test]
fn a_session_that_ends_before_its_request_is_answered_is_said_to_have_ended() {
    let nginx = start("idle=1s", "curfew_streams off; location = /admin { curfew off; curfew_admin; }");
    // A machine that is busy may take a second from the login to the next request: then once more.
    let id = (0..20).map(|number| format!("s{number}")).find(|id| {
        nginx.log_in(id);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| nginx.with_id("/?wait", id));
            eventually("the request is answered or with the application", || {
                waiting.is_finished() || !nginx.site.app.waiting.lock().unwrap().is_empty()
            });
            // Not only judged to be over but ended: until then a use that was in time counts.
            eventually("the session ends", || nginx.get("/admin", &[]).body.contains("\"live\":0"));
            nginx.site.app.let_go();
            let response = waiting.join().unwrap();
            assert_eq!(response.verdict(), "IDLE_EXPIRED");
            response.status == 200
        })
    });
    assert_eq!(nginx.with_id("/", &id.expect("one of them was in time")).status, 401);
}

#[test]
fn a_session_that_is_bound_passes_only_with_what_it_is_bound_to() {
    let nginx = start("idle=15m", "curfew_binding $http_x_device;");
    nginx.get("/login?sid=abc", &[("X-Device", "phone")]);
    let from = |device| nginx.get("/", &[("Cookie", "sid=abc"), ("X-Device", device)]);
    assert_eq!(from("phone").status, 200);
    assert_eq!((from("laptop").status, from("laptop").verdict()), (401, "BINDING_MISMATCH"));
    assert_eq!(nginx.with_id("/", "abc").verdict(), "BINDING_MISMATCH");
    assert_eq!(from("phone").status, 200, "its rightful holder goes on");
}

#[test]
fn a_session_that_is_bound_to_a_client_certificate_passes_only_with_that_one() {
    use std::process::Command;
    let site_ = Site::new();
    for name in ["server", "alice", "mallory"] {
        let (key, certificate) = (site_.path(&format!("{name}.key")), site_.path(&format!("{name}.pem")));
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        command.args(["-subj", &format!("/CN={name}"), "-keyout"]).arg(key).arg("-out").arg(certificate);
        assert!(command.output().expect("openssl is installed: make setup").status.success());
    }
    let both = ["alice.pem", "mallory.pem"].map(|name| std::fs::read_to_string(site_.path(name)).unwrap()).concat();
    std::fs::write(site_.path("both.pem"), both).unwrap();
    let http = site("idle=15m", "curfew_binding $ssl_client_fingerprint; curfew_subject $ssl_client_s_dn;").replace(
        "listen $LISTEN;",
        "listen $LISTEN ssl; ssl_certificate $FOLDER/server.pem; ssl_certificate_key $FOLDER/server.key;
         ssl_client_certificate $FOLDER/both.pem; ssl_verify_client on;",
    );
    let nginx = site_.start(&http);
    let by = |who: &str, path: &str| {
        let mut command = Command::new("curl");
        command.args(["-s", "-i", "-k", "--http1.1", "-m", "60", "-b", "sid=abc", "--cert"]);
        command.arg(nginx.site.path(&format!("{who}.pem"))).arg("--key").arg(nginx.site.path(&format!("{who}.key")));
        let output = command.arg(format!("https://{}{path}", nginx.site.address())).output().unwrap().stdout;
        let response = crate::harness::read_response(&mut &output[..]).unwrap();
        (response.status, response.verdict().to_owned())
    };
    assert_eq!(by("alice", "/login?sid=abc").0, 200);
    assert_eq!(by("alice", "/"), (200, "ACTIVE".into()));
    assert_eq!(by("mallory", "/"), (401, "BINDING_MISMATCH".into()));
    assert_eq!(by("alice", "/"), (200, "ACTIVE".into()));
}

#[test]
fn a_stolen_session_ends_where_the_policy_says_so_though_it_is_only_polled() {
    let nginx = start("idle=15m on_mismatch=end", "curfew_binding $http_x_device; curfew_activity 0;");
    nginx.get("/login?sid=abc", &[("X-Device", "phone")]);
    let from = |device| nginx.get("/", &[("Cookie", "sid=abc"), ("X-Device", device)]);
    assert_eq!(from("phone").status, 200);
    assert_eq!(from("laptop").verdict(), "BINDING_MISMATCH");
    assert_eq!(from("phone").verdict(), "BINDING_MISMATCH");
}

#[test]
fn a_token_ends_its_session() {
    let nginx = start("idle=15m", "curfew_expires $http_x_exp;");
    // A machine that is busy may need longer from the one to the next: then a longer one.
    let id =
        [2, 5, 20].map(|seconds| (format!("s{seconds}"), seconds_from_now(seconds))).into_iter().find(|(id, exp)| {
            nginx.get(&format!("/login?sid={id}"), &[("X-Exp", exp)]);
            nginx.with_id("/", id).status == 200
        });
    let (id, _) = id.expect("one of them was in time");
    eventually("it ends with its token", || nginx.with_id("/", &id).verdict() == "TOKEN_EXPIRED");
}

#[test]
fn a_token_that_is_over_or_cannot_be_read_is_refused_and_not_ignored() {
    let nginx = start("idle=15m", "curfew_expires $http_x_exp;");
    nginx.log_in("abc");
    let with = |exp: &str| nginx.get("/", &[("Cookie", "sid=abc"), ("X-Exp", exp)]);
    assert_eq!(with(&seconds_from_now(100)).status, 200);
    assert_eq!(with(&(seconds_from_now(100) + ".25")).status, 200);
    assert_eq!(with("253402300799").status, 200, "the last second of the year 9999");
    let over = with(&seconds_from_now(-1));
    assert_eq!((over.status, over.verdict()), (401, "TOKEN_EXPIRED"));
    for text in
        ["tomorrow", "-5", "1e9", "0x10", "12 34", ".", "9.", "99999999999999999999", "1900000000000", "253402300800"]
    {
        let answer = with(text);
        assert_eq!((answer.status, answer.verdict()), (401, "TOKEN_INVALID"), "{text}");
    }
    assert_eq!(with("").status, 200, "no token is no limit");
    let complaints = nginx.error_log().matches("curfew_expires is not a time").count();
    assert!((1..=3).contains(&complaints), "once for each worker: {complaints}");
    assert_eq!(nginx.get("/logout", &[("Cookie", "sid=abc"), ("X-Exp", "tomorrow")]).verdict(), "LOGGED_OUT");
    let response = nginx.get("/login?sid=new", &[("X-Exp", "tomorrow")]);
    assert_eq!((response.status, response.header("Set-Cookie")), (401, None));
}

#[test]
fn a_user_has_as_many_sessions_as_the_policy_allows() {
    let nginx = start("idle=15m max_per_subject=2", "curfew_subject $http_x_user;");
    let log_in = |id: &str, user: &str| nginx.get(&format!("/login?sid={id}"), &[("X-User", user)]);
    assert_eq!(log_in("a", "alice").status, 200);
    assert_eq!(log_in("b", "alice").status, 200);
    let third = log_in("c", "alice");
    assert_eq!((third.status, third.verdict(), third.header("Set-Cookie")), (403, "LIMITED", None));
    assert_eq!(log_in("d", "bob").status, 200);
    assert_eq!(nginx.with_id("/", "a").status, 200);
}

#[test]
fn a_new_session_takes_the_place_of_the_oldest_where_the_policy_says_so() {
    let nginx = start("idle=15m max_per_subject=2 on_limit=end_oldest", "curfew_subject $http_x_user;");
    for id in ["a", "b", "c"] {
        assert_eq!(nginx.get(&format!("/login?sid={id}"), &[("X-User", "alice")]).status, 200);
    }
    assert_eq!(nginx.with_id("/", "a").verdict(), "DISPLACED");
    assert_eq!(nginx.with_id("/", "b").status, 200);
    assert_eq!(nginx.with_id("/", "c").status, 200);
}

#[test]
fn in_grace_a_session_resumes_or_waits_for_proof_by_policy() {
    let nginx = start("idle=300ms grace=10m grace_mode=resume", "");
    nginx.log_in("abc");
    let mut seen = nginx.with_id("/session", "abc");
    eventually("it is in grace", || {
        seen = nginx.with_id("/session", "abc");
        seen.body.contains("\"status\":\"GRACE\"")
    });
    assert!(seen.body.contains("\"alive\":true"), "{}", seen.body);
    assert_eq!((nginx.with_id("/", "abc").status, nginx.with_id("/", "abc").status), (200, 200));

    let step_up =
        "location = /step-up { curfew off; curfew_reauthenticated $upstream_http_x_proved; proxy_pass http://$APP; }";
    let nginx = start("idle=1s grace=10m grace_mode=reauth", step_up);
    nginx.log_in("abc");
    eventually("it is in grace", || nginx.with_id("/session", "abc").body.contains("\"status\":\"GRACE\""));
    let response = nginx.with_id("/", "abc");
    assert_eq!((response.status, response.verdict()), (401, "GRACE"));
    assert_eq!(nginx.with_id("/step-up", "abc").status, 200);
    assert_eq!(nginx.with_id("/", "abc").status, 401, "the application did not say that it was proved");
    assert_eq!(nginx.with_id("/step-up?header=X-Proved:0", "abc").status, 200);
    assert_eq!(nginx.with_id("/", "abc").status, 401);
    eventually("it goes on after proof", || {
        nginx.with_id("/step-up?header=X-Proved:1", "abc").status == 200 && nginx.with_id("/", "abc").status == 200
    });
    assert_eq!(nginx.with_id("/step-up?header=X-Proved:1", "made-up").status, 401, "an id that has no session");
}

#[test]
fn an_unknown_id_is_refused_passed_or_begins_a_session_as_the_configuration_says() {
    let nginx = start(
        "idle=15m",
        "location /pass { curfew_unknown pass; proxy_pass http://$APP; }
         location /start { curfew_unknown start; proxy_pass http://$APP; }",
    );
    assert_eq!(nginx.with_id("/pass", "abc").verdict(), "UNKNOWN");
    assert_eq!(nginx.with_id("/pass", "abc").status, 200);
    assert_eq!(nginx.with_id("/", "abc").status, 401);
    let response = nginx.with_id("/start", "abc");
    assert_eq!((response.status, response.verdict()), (200, "ACTIVE"));
    assert_eq!(nginx.with_id("/", "abc").status, 200);
    nginx.with_id("/logout", "abc");
    assert_eq!(nginx.with_id("/start", "abc").verdict(), "LOGGED_OUT", "what has ended does not begin again");
}

#[test]
fn a_session_that_gets_a_new_id_keeps_its_age_and_the_old_id_serves_requests_under_way() {
    let nginx = start(
        "idle=15m lifetime=8h",
        "location = /renew { curfew_rotate $upstream_cookie_sid; proxy_pass http://$APP; }",
    );
    nginx.log_in("old");
    assert_eq!(nginx.with_id("/renew?sid=new", "old").status, 200);
    assert_eq!(nginx.with_id("/", "new").status, 200);
    assert_eq!(nginx.with_id("/", "old").status, 200, "for some seconds");
    nginx.with_id("/logout", "new");
    assert_eq!(nginx.with_id("/", "old").status, 401, "it is one session");
    assert_eq!(nginx.with_id("/renew?sid=other", "made-up").status, 401);
}

#[test]
fn a_page_is_sent_to_the_step_up_in_grace_and_to_the_login_otherwise() {
    let nginx = start(
        "idle=300ms grace=10m",
        "location /app { error_page 401 = @denied; proxy_pass http://$APP; }
         location @denied { curfew off;
                            if ($curfew_status = GRACE) { return 302 /step-up?next=$request_uri; }
                            return 302 /login?next=$request_uri; }",
    );
    nginx.log_in("abc");
    eventually("it is in grace", || nginx.with_id("/session", "abc").body.contains("GRACE"));
    let to = |id| nginx.with_id("/app/x?y=1", id).header("Location").unwrap_or_default().to_owned();
    assert!(to("abc").ends_with("/step-up?next=/app/x?y=1"), "{}", to("abc"));
    assert!(to("made-up").ends_with("/login?next=/app/x?y=1"), "{}", to("made-up"));
}

#[test]
fn an_outer_check_is_the_signal_on_which_a_session_begins() {
    let nginx = start(
        "idle=15m",
        "location /app { auth_request /check; auth_request_set $who $upstream_http_x_user; curfew_subject $who;
                         curfew_unknown start; proxy_pass http://$APP; }
         location = /check { internal; curfew off; proxy_pass http://$APP/?status=$http_x_check; }",
    );
    let with = |check| nginx.get("/app", &[("Cookie", "sid=abc"), ("X-Check", check)]).status;
    assert_eq!(with("403"), 403, "the outer check says no");
    assert_eq!(nginx.with_id("/", "abc").verdict(), "UNKNOWN", "so nothing has begun");
    assert_eq!(with("200"), 200);
    assert_eq!(nginx.with_id("/", "abc").verdict(), "ACTIVE");
}

#[test]
fn one_user_who_logs_in_again_and_again_keeps_nobody_out_where_what_has_ended_gives_way() {
    let policy = "idle=15m max_per_subject=2 on_limit=end_oldest on_full=evict_ended";
    let http = site(policy, "curfew_subject $http_x_user;").replace("app:1m", "app:256k");
    let nginx = Site::new().start(&http);
    let log_in = |id: &str, user: &str| nginx.get(&format!("/login?sid={id}"), &[("X-User", user)]).status;
    for number in 0..2000 {
        assert_eq!(log_in(&format!("m{number}"), "mallory"), 200, "{number}");
    }
    assert_eq!(log_in("a", "alice"), 200);
    assert_eq!(nginx.with_id("/", "a").status, 200);
    let forgotten = nginx.with_id("/", "m0");
    assert_eq!((forgotten.status, forgotten.verdict()), (401, "UNKNOWN"), "and refused all the same");
    assert_eq!(nginx.with_id("/", "m1999").status, 200);
}

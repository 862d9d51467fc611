//! An application gives out an id that has a session already.

use crate::harness::{Nginx, Response, Site};
use crate::sessions::site;

/// The application says whose session it is, and a header of the request what it is bound to.
fn start(policy: &str) -> Nginx {
    Site::new().start(&site(
        policy,
        "curfew_subject $upstream_http_x_user; curfew_binding $http_x_device;
         location /page { curfew_start $upstream_cookie_sid; proxy_pass http://$APP; }
         location = /renew { curfew_rotate $upstream_cookie_sid; proxy_pass http://$APP; }
         location = /curfew { curfew off; curfew_admin; }",
    ))
}

fn log_in(nginx: &Nginx, id: &str, user: &str) -> Response {
    nginx.get(&format!("/login?sid={id}&header=X-User:{user}"), &[])
}

fn sessions_of(nginx: &Nginx, user: &str) -> usize {
    nginx.get(&format!("/curfew?subject={user}"), &[]).body.matches("\"key\"").count()
}

#[test]
fn nobody_logs_in_on_the_id_of_somebody_else() {
    let nginx = start("idle=15m max_per_subject=1");
    assert_eq!(log_in(&nginx, "fix", "alice").status, 200);
    let response = log_in(&nginx, "fix", "bob");
    assert_eq!((response.status, response.verdict()), (401, "TAKEN"));
    assert_eq!(response.header("Set-Cookie"), None, "nobody gets an id that is not his");
    let log = nginx.error_log();
    let message = "the start of a session was refused, TAKEN; the application must issue a new id at each login";
    assert!(log.contains(message), "{log}");
    assert_eq!((sessions_of(&nginx, "alice"), sessions_of(&nginx, "bob")), (1, 0));
    assert_eq!(nginx.with_id("/", "fix").status, 200, "it is still that of alice");
    assert_eq!(log_in(&nginx, "own", "bob").status, 200);
    assert_eq!(log_in(&nginx, "own", "bob").status, 200);
}

#[test]
fn who_is_named_does_not_go_on_with_a_session_of_nobody() {
    let nginx = start("idle=15m max_per_subject=1");
    nginx.log_in("before");
    assert_eq!(log_in(&nginx, "before", "bob").verdict(), "TAKEN");
}

#[test]
fn an_application_may_give_out_the_id_of_a_session_with_each_response() {
    let nginx = start("idle=15m max_per_subject=1");
    assert_eq!(log_in(&nginx, "a", "alice").status, 200);
    for path in ["/page?sid=a", "/page?sid=a&header=X-User:alice", "/page?sid=a"] {
        let response = nginx.with_id(path, "a");
        assert_eq!((response.status, response.verdict()), (200, "ACTIVE"), "{path}");
        assert!(response.header("Set-Cookie").is_some());
    }
    assert_eq!(sessions_of(&nginx, "alice"), 1);
}

#[test]
fn an_id_that_was_replaced_a_moment_ago_is_not_given_out_again() {
    let nginx = start("idle=15m");
    assert_eq!(log_in(&nginx, "old", "alice").status, 200);
    assert_eq!(nginx.with_id("/renew?sid=new", "old").status, 200);
    assert_eq!(nginx.with_id("/", "old").status, 200, "requests are under way with it");
    for user in ["bob", "alice", ""] {
        let response = log_in(&nginx, "old", user);
        assert_eq!((response.status, response.verdict()), (401, "ROTATED"), "{user}");
    }
    assert_eq!(nginx.with_id("/", "new").status, 200);
}

#[test]
fn nobody_logs_in_on_an_id_that_is_bound_to_something_else_or_to_nothing() {
    let nginx = start("idle=15m");
    let log_in = |id: &str, device: &str| nginx.get(&format!("/login?sid={id}"), &[("X-Device", device)]);
    assert_eq!(log_in("bound", "phone").status, 200);
    assert_eq!(log_in("bound", "phone").status, 200);
    for device in ["laptop", ""] {
        assert_eq!((log_in("bound", device).status, log_in("bound", device).verdict()), (401, "BINDING_MISMATCH"));
    }
    assert_eq!(log_in("free", "").status, 200);
    assert_eq!(log_in("free", "phone").verdict(), "TAKEN");
    assert_eq!(nginx.get("/", &[("Cookie", "sid=bound"), ("X-Device", "phone")]).status, 200);
}

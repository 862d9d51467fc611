//! Figures and control for the operator.

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{Nginx, Response, Site, eventually, read_response, request};
use crate::sessions::site;

fn start(policy: &str) -> Nginx {
    Site::new().start(&site(
        policy,
        "curfew_subject $http_x_user;
         location = /curfew { curfew off; allow 127.0.0.1; deny all; curfew_admin; }
         location = /closed { curfew off; deny all; curfew_admin; }
         location = /guarded { curfew_admin; }",
    ))
}

fn post(nginx: &Nginx, path: &str) -> Response {
    request(nginx.site.address(), "POST", path, &[("Content-Length", "0")]).unwrap()
}

fn log_in(nginx: &Nginx, id: &str, user: &str) {
    assert_eq!(nginx.get(&format!("/login?sid={id}"), &[("X-User", user)]).status, 200);
}

/// The values of a field in an answer.
fn all<'a>(body: &'a str, field: &str) -> Vec<&'a str> {
    let field = format!("\"{field}\":");
    body.split(&field).skip(1).map(|rest| rest.split([',', '}', ']']).next().unwrap().trim_matches('"')).collect()
}

#[test]
fn figures_say_what_has_been_and_what_is() {
    let nginx = start("idle=15m max_per_subject=1");
    log_in(&nginx, "a", "alice");
    log_in(&nginx, "b", "bob");
    assert_eq!(nginx.get("/login?sid=c", &[("X-User", "bob")]).status, 403);
    nginx.with_id("/logout", "a");
    assert_eq!(nginx.get("/login?sid=a", &[("X-User", "alice")]).verdict(), "LOGGED_OUT");
    assert_eq!(nginx.with_id("/", "made-up").status, 401);
    let body = nginx.get("/curfew", &[]).body;
    let figure = |name| all(&body, name)[0].parse::<u64>().unwrap();
    assert_eq!(figure("denied"), 3, "starts that were refused are among them: {body}");
    assert_eq!((figure("live"), figure("used"), figure("started")), (1, 2, 2), "{body}");
    assert_eq!((figure("logout"), figure("idle"), figure("refused_limited")), (1, 0, 1), "{body}");
    let metrics = nginx.get("/curfew?format=prometheus", &[]);
    assert_eq!(metrics.header("Content-Type"), Some("text/plain; version=0.0.4"));
    for line in [
        "curfew_live_sessions{zone=\"app\"} 1",
        "curfew_sessions_ended_total{zone=\"app\",cause=\"logout\"} 1",
        "curfew_starts_refused_limited_total{zone=\"app\"} 1",
        "curfew_zone_usable{zone=\"app\"} 1",
    ] {
        assert!(metrics.body.lines().any(|found| found == line), "{line}\n{}", metrics.body);
    }
}

#[test]
fn sessions_that_nobody_asks_for_are_ended_and_counted_on_time() {
    let nginx = start("idle=300ms");
    for number in 0..1000 {
        log_in(&nginx, &format!("s{number}"), "");
    }
    eventually("all have ended by the timer alone", || {
        let body = nginx.get("/curfew", &[]).body;
        all(&body, "idle") == ["1000"] && all(&body, "live") == ["0"]
    });
}

#[test]
fn pages_list_every_session_once_and_no_id() {
    let nginx = start("idle=15m");
    for number in 0..25 {
        log_in(&nginx, &format!("secret{number}"), "alice");
    }
    let (mut keys, mut cursor) = (Vec::new(), "0".to_owned());
    while cursor != "null" {
        let body = nginx.get(&format!("/curfew?sessions={cursor}&limit=10"), &[]).body;
        assert!(!body.contains("secret") && !body.contains("alice"), "{body}");
        assert!(all(&body, "policy").iter().all(|policy| *policy == "staff"));
        keys.extend(all(&body, "key").into_iter().map(str::to_owned));
        cursor = all(&body, "next")[0].to_owned();
    }
    assert_eq!(keys.len(), 25);
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 25);
}

#[test]
fn a_session_a_subject_and_all_can_be_ended_by_hand() {
    let nginx = start("idle=15m");
    for (id, user) in [("a", "alice"), ("b", "alice smith"), ("c", "alice smith"), ("d", "dora"), ("e", "emil")] {
        log_in(&nginx, id, user);
    }
    let body = nginx.get("/curfew?subject=alice", &[]).body;
    let (key, digest) = (all(&body, "key")[0].to_owned(), all(&body, "subject")[0].to_owned());
    assert_eq!(all(&body, "key").len(), 1);
    assert_eq!(post(&nginx, &format!("/curfew?end={key}")).body, "{\"ended\":1}\n");
    assert_eq!(nginx.with_id("/", "a").verdict(), "REVOKED");
    assert_eq!(post(&nginx, &format!("/curfew?end={key}")).body, "{\"ended\":0}\n");
    assert_eq!(nginx.get(&format!("/curfew?subject_digest={digest}"), &[]).body, "{\"sessions\":[]}\n");
    assert_eq!(post(&nginx, "/curfew?zone=app&end_subject=alice%20smith").body, "{\"ended\":2}\n");
    nginx.of_every_worker(|| {
        let response = nginx.with_id("/", "b");
        assert_eq!(response.verdict(), "REVOKED");
        response.worker()
    });
    assert_eq!(nginx.with_id("/", "d").status, 200);
    assert_eq!(post(&nginx, "/curfew?end_all=1&policy=staff").body, "{\"ended\":2}\n");
    assert_eq!(nginx.with_id("/", "d").verdict(), "REVOKED");
    assert!(nginx.error_log().contains("sessions ended by hand (all of a subject): 2"));
}

#[test]
fn a_subject_may_be_called_in_any_encoding() {
    let nginx = start("idle=15m");
    for (id, user) in [("a", &b"m\xfcller"[..]), ("b", "m\u{fc}ller".as_bytes()), ("c", b"a+b")] {
        let head = format!("GET /login?sid={id} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-User: ");
        assert_eq!(raw(&nginx, &[&[head.as_bytes(), user, b"\r\n\r\n"].concat()]).status, 200);
    }
    for (id, name) in [("a", "m%FCller"), ("b", "m%C3%BCller"), ("c", "a%2Bb")] {
        assert_eq!(all(&nginx.get(&format!("/curfew?subject={name}"), &[]).body, "key").len(), 1, "{name}");
        assert_eq!(post(&nginx, &format!("/curfew?end_subject={name}")).body, "{\"ended\":1}\n", "{name}");
        assert_eq!(nginx.with_id("/", id).verdict(), "REVOKED");
    }
}

/// Sends a request in pieces, with a pause between them.
fn raw(nginx: &Nginx, pieces: &[&[u8]]) -> Response {
    let mut stream = TcpStream::connect(nginx.site.address()).unwrap();
    for (number, piece) in pieces.iter().enumerate() {
        if number > 0 {
            std::thread::sleep(Duration::from_millis(200));
        }
        stream.write_all(piece).unwrap();
    }
    read_response(&mut BufReader::new(stream)).unwrap()
}

#[test]
fn a_request_that_is_refused_for_its_body_changes_nothing() {
    let nginx = start("idle=15m");
    log_in(&nginx, "a", "alice");
    let head = b"POST /curfew?end_all=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let chunked = [&head[..], b"Transfer-Encoding: chunked\r\n\r\n"].concat();
    let too_long = [&head[..], b"Content-Length: 99999999\r\n\r\nx"].concat();
    assert_eq!(raw(&nginx, &[&[&chunked[..], b"zz\r\n"].concat()]).status, 400);
    assert_eq!(raw(&nginx, &[&chunked, b"1\r\nx\r\n", b"zz\r\n"]).status, 400);
    assert_eq!(raw(&nginx, &[&too_long]).status, 413);
    assert_eq!(nginx.with_id("/", "a").status, 200);
    let response = raw(&nginx, &[&chunked, b"1\r\nx\r\n", b"0\r\n\r\n"]);
    assert_eq!((response.status, &*response.body), (200, "{\"ended\":1}\n"), "whatever is in it");
    assert_eq!(nginx.with_id("/", "a").verdict(), "REVOKED");
}

#[test]
fn what_is_not_understood_changes_nothing() {
    let nginx = start("idle=15m");
    log_in(&nginx, "a", "alice");
    for (path, status) in [
        ("/curfew", 400),
        ("/curfew?end=abc", 400),
        ("/curfew?end=00000000000000000000000000000000", 404),
        ("/curfew?end_subject=", 400),
        ("/curfew?end_subject=alice&end_subject_digest=1", 400),
        ("/curfew?end_all=1&polcy=guests", 400),
        ("/curfew?end_all=1&policy=guests", 404),
        ("/curfew?end_all=1&zone=other", 404),
        ("/curfew?end_all", 400),
        ("/curfew?end=00000000000000000000000000000000&end=00000000000000000000000000000001", 400),
        ("/curfew?end_subject=alice&end_subject=bob", 400),
        ("/curfew?end_subject=alice&zone=app&zone=app", 400),
    ] {
        let response = post(&nginx, path);
        assert_eq!(response.status, status, "{path}: {}", response.body);
        assert!(response.body.starts_with("{\"error\":\""), "{path}: {}", response.body);
    }
    for site in ["cross-site", "same-site", "none"] {
        let by_a_page = [("Origin", "https://elsewhere.example"), ("Sec-Fetch-Site", site)];
        assert_eq!(request(nginx.site.address(), "POST", "/curfew?end_all=1", &by_a_page).unwrap().status, 403);
    }
    assert_eq!(nginx.get("/curfew?end_all=1", &[]).status, 400, "reading changes nothing");
    assert_eq!(request(nginx.site.address(), "DELETE", "/curfew", &[]).unwrap().status, 405);
    assert_eq!(nginx.with_id("/", "a").status, 200);
}

#[test]
fn it_is_guarded_as_its_place_is() {
    let nginx = start("idle=15m");
    log_in(&nginx, "a", "alice");
    assert_eq!(nginx.get("/closed", &[]).status, 403);
    assert_eq!(nginx.get("/guarded", &[]).status, 401);
    assert_eq!(nginx.with_id("/guarded", "a").status, 200);
}

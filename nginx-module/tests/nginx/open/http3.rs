//! HTTP/3: requests are checked like any other, and what is open ends with its session, but not the
//! connection that it shares with others.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;

use curfew_engine::{Cause, Moment, Table};
use nix::sys::signal::Signal;

use crate::harness::{Site, eventually};
use crate::http3::{Client, INTERNAL_ERROR, Quic, code, has_http_3};
use crate::open::app::OpenApp;
use crate::open::stage::{LOOK, Stage, every_state, lives_by, sockets_of, with_open};

/// Sessions that begin here have a policy of their own; and how many connections nginx has.
const MORE: &str = "location = /login-long { curfew policy=long; curfew_no_id pass; curfew_unknown pass;
     curfew_start $upstream_cookie_sid; proxy_pass http://$APP; }
     location = /connections { curfew off; stub_status; }";
const ZONE: &str = "curfew_zone zone=app:1m";

fn configuration(quic: &Quic, app: &OpenApp, policy: &str, more: &str) -> String {
    let http = quic.beside(&with_open(app, policy, &format!("{more} {MORE}")));
    http.replace("server {", "curfew_policy long lifetime=8h; server {")
}

fn start(policy: &str, more: &str) -> (Stage, Quic) {
    start_with(policy, more, |http, _| http)
}

fn start_with(policy: &str, more: &str, change: impl FnOnce(String, SocketAddr) -> String) -> (Stage, Quic) {
    let place = Site::new();
    std::fs::write(place.path("html/large"), vec![b'x'; 1 << 20]).unwrap();
    let (app, quic) = (OpenApp::start(), Quic::new(&place));
    let nginx = place.start(&change(configuration(&quic, &app, policy, more), app.address));
    (Stage { nginx, app }, quic)
}

/// What `stub_status` counts, this request not included.
fn connections(stage: &Stage) -> usize {
    let text = stage.nginx.get("/connections", &[]).body;
    let number = text.lines().next().and_then(|line| line.strip_prefix("Active connections: "));
    number.expect(&text).trim().parse::<usize>().unwrap() - 1
}

#[test]
fn a_request_by_http_3_is_checked_like_any_other() {
    if !has_http_3() {
        return;
    }
    let (stage, quic) = start("idle=15m", "");
    let client = quic.connect();
    let answer = |path: &str, id: &str| {
        let response = client.get(path, id);
        (response.status, response.verdict().to_owned(), response.body)
    };
    assert_eq!(answer("/", "abc").0, 401);
    assert_eq!(client.get("/login?sid=abc", "").header("Set-Cookie"), Some("sid=abc; Path=/; HttpOnly"));
    assert_eq!(answer("/page", "abc"), (200, "ACTIVE".into(), "application /page".into()));
    let refused = client.get("/page", "made-up");
    assert_eq!((refused.status, refused.verdict()), (401, "UNKNOWN"));
    assert_eq!(refused.header("WWW-Authenticate"), Some("Session realm=\"curfew\""));
    assert_eq!(answer("/logout", "abc"), (200, "LOGGED_OUT".into(), "application /logout".into()));
    let (status, verdict, _) = answer("/page", "abc");
    assert_eq!((status, verdict.as_str()), (401, "LOGGED_OUT"));
    assert_eq!(stage.nginx.with_id("/page", "abc").verdict(), "LOGGED_OUT", "by the older versions, too");
    stage.is_clean();
}

/// Opens a request of every kind for one session and for another one, on one connection; ends the first.
#[track_caller]
fn only_the_streams_of_a_session_end(stage: &Stage, quic: &Quic, verdict: &str, end: impl FnOnce(&Client)) {
    let client = quic.connect();
    assert_eq!(client.get("/login-long?sid=other", "").status, 200);
    assert_eq!(client.get("/login?sid=abc", "").status, 200);
    let mut flowing = ["/slow/large", "/events", "/download"].map(|path| client.send(path, "abc"));
    let mut hold = client.send("/hold", "abc");
    let mut upload = client.post("/upload", "abc", None);
    upload.upload(&[b'x'; 1000]).unwrap();
    for stream in &mut flowing {
        assert_eq!(stream.head().status, 200);
        assert!(!stream.piece().unwrap().unwrap().is_empty());
    }
    let mut others_events = client.send("/events-other", "other");
    let mut others_download = client.send("/slow-other/small", "other");
    let mut others_wait = client.send("/other?wait", "other");
    let mut others_upload = client.post("/upload-other", "other", Some(2000));
    assert_eq!((others_events.head().status, others_download.head().status), (200, 200));
    others_upload.upload(&[b'x'; 1000]).unwrap();
    eventually("all are with the applications", || {
        stage.app.open.load(Ordering::Relaxed) == 6 && stage.nginx.site.app.waiting.lock().unwrap().len() == 1
    });

    end(&client);
    for (stream, path) in flowing.iter_mut().zip(["/slow/large", "/events", "/download"]) {
        let (code, length) = stream.is_reset();
        assert_eq!(code, INTERNAL_ERROR, "{path}");
        let line = stage.logged(path);
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!((words[1], words[2], words[4]), ("200", verdict, verdict), "{line}");
        assert!(words[5].parse::<usize>().unwrap() > length, "{line}, and {length} bytes came");
    }
    assert_eq!(hold.is_reset_without_answer(), INTERNAL_ERROR);
    assert_eq!(upload.is_reset_without_answer(), INTERNAL_ERROR);
    let error = (0..1000).find_map(|_| upload.upload(&[b'x'; 1000]).err());
    // H3_NO_ERROR: that no more is wanted is the fault of nobody.
    assert_eq!(code(error.expect("the client is told to send no more")), 0x100);
    for path in ["/hold", "/upload"] {
        let line = stage.logged(path);
        assert!(line.ends_with(&format!(" {verdict} 0")) && line.contains(&format!(" 000 {verdict} ")), "{line}");
    }
    assert!(stage.nginx.get("/admin", &[]).body.contains("\"cut\":5"));

    // The connection is as good as before, and what is open on it.
    for _ in 0..5 {
        assert!(!others_events.piece().unwrap().unwrap().is_empty());
    }
    others_upload.upload(&[b'x'; 1000]).unwrap();
    others_upload.finish();
    assert_eq!(others_upload.response().body, "2000 bytes");
    stage.nginx.site.app.let_go();
    assert_eq!(others_wait.response().body, "late");
    let mut length = 0;
    while let Some(piece) = others_download.piece().unwrap() {
        length += piece.len();
    }
    assert_eq!(length, 5000);
    assert_eq!(client.get("/page", "other").verdict(), "ACTIVE");
    assert_eq!(client.get("/page", "abc").verdict(), verdict);
    assert_eq!(client.get("/logout", "other").verdict(), "LOGGED_OUT");
    assert_eq!(others_events.is_reset().0, INTERNAL_ERROR);
    stage.is_clean();
    drop((flowing, hold, upload, others_events, others_download, others_wait, others_upload));
    drop(client);
    eventually("nothing is left", || connections(stage) == 0);
}

/// What the download of the other session is of.
fn with_small(http: String, _: SocketAddr) -> String {
    http.replace("location /slow {", "location /slow-other { alias $FOLDER/html/; limit_rate 1k; } location /slow {")
}

fn write_small(place: &Site) {
    std::fs::write(place.path("html/small"), vec![b'x'; 5000]).unwrap();
}

#[test]
fn of_an_http_3_connection_only_the_streams_of_who_logs_out_end() {
    if !has_http_3() {
        return;
    }
    for is_by_the_same_connection in [true, false] {
        let (stage, quic) = start_with("idle=15m", "", with_small);
        write_small(&stage.nginx.site);
        only_the_streams_of_a_session_end(&stage, &quic, "LOGGED_OUT", |client| {
            let response = match is_by_the_same_connection {
                true => client.get("/logout", "abc"),
                false => stage.nginx.with_id("/logout", "abc"),
            };
            assert_eq!(response.verdict(), "LOGGED_OUT");
        });
    }
}

#[test]
fn of_an_http_3_connection_only_the_streams_of_a_session_that_was_not_used_end() {
    if !has_http_3() {
        return;
    }
    let (stage, quic) = start_with("idle=6s", "", with_small);
    write_small(&stage.nginx.site);
    only_the_streams_of_a_session_end(&stage, &quic, "IDLE_EXPIRED", |_| ());
}

/// After a reload, what a client says on an old connection may come to a new worker, which does not know it;
/// that it closes the connection, too. The old one then waits for the idle timeout of QUIC.
fn with_short_quiet(http: String, _: SocketAddr) -> String {
    http.replace("curfew_policy long", "keepalive_timeout 10s; curfew_policy long")
}

fn region_of(path: &Path) -> Table {
    let owner = std::os::unix::fs::MetadataExt::uid(&path.metadata().unwrap());
    Table::open_owned_by(path, owner).unwrap()
}

#[test]
fn of_an_http_3_connection_only_the_streams_of_a_session_that_another_program_ends_end() {
    if !has_http_3() {
        return;
    }
    let (stage, quic) = start_with("idle=15m", "", |http, app| {
        with_small(http, app).replace(ZONE, &format!("{ZONE} path=$FOLDER/app.region"))
    });
    write_small(&stage.nginx.site);
    only_the_streams_of_a_session_end(&stage, &quic, "REVOKED", |_| {
        let table = region_of(&stage.nginx.site.path("app.region"));
        let now = table.tick_at(Moment::now().unwrap().steady);
        table.end(table.key(b"abc"), Cause::Revoked, now).unwrap();
    });
}

#[test]
fn a_stream_of_an_http_3_connection_on_which_nothing_else_happens_is_reset_all_the_same() {
    if !has_http_3() {
        return;
    }
    let (stage, quic) = start("idle=15m", "");
    let client = quic.connect();
    for id in ["abc", "other"] {
        assert_eq!(client.get(&format!("/login?sid={id}"), "").status, 200);
    }
    let (mut hold, _others) = (client.send("/hold", "abc"), client.send("/hold", "other"));
    eventually("both are with the application", || stage.app.open.load(Ordering::Relaxed) == 2);
    assert_eq!(stage.nginx.with_id("/logout", "abc").verdict(), "LOGGED_OUT");
    assert_eq!(hold.is_reset_without_answer(), INTERNAL_ERROR);
    eventually("the other one waits on", || stage.app.open.load(Ordering::Relaxed) == 1);
}

#[test]
fn an_upload_by_http_3_keeps_its_session_alive_while_it_comes() {
    if !has_http_3() {
        return;
    }
    // Far less than any buffer of nginx's, which hands it on at once or not before all of it is there.
    for buffering in ["off", "on"] {
        let (stage, quic) = start_with("idle=2s", LOOK, |http, _| {
            http.replace("proxy_request_buffering off;", &format!("proxy_request_buffering {buffering};"))
        });
        let client = quic.connect();
        assert_eq!(client.get("/login?sid=abc", "").status, 200);
        let mut upload = client.post("/upload", "abc", None);
        let lives = lives_by(&stage, || upload.upload(&[b'x'; 10]).unwrap());
        assert_ne!(lives, Some(false), "proxy_request_buffering {buffering}");
        assert_eq!(upload.is_reset_without_answer(), INTERNAL_ERROR);
        assert!(stage.logged("/upload").contains("IDLE_EXPIRED"), "it ends once nothing comes");
        stage.is_clean();
    }
}

#[test]
fn what_the_server_says_by_http_3_is_use_where_the_configuration_says_so() {
    if !has_http_3() {
        return;
    }
    for (activity, path) in [("both", "/events"), ("both", "/slow/large"), ("client", "/events")] {
        let (stage, quic) = start("idle=2s", &format!("curfew_stream_activity {activity}; {LOOK}"));
        let client = quic.connect();
        assert_eq!(client.get("/login?sid=abc", "").status, 200);
        let mut stream = client.send(path, "abc");
        assert_eq!(stream.head().status, 200);
        if activity == "both" {
            let lives = lives_by(&stage, || assert!(stream.piece().unwrap().is_some()));
            assert_ne!(lives, Some(false), "{path}");
            stage.nginx.with_id("/logout", "abc");
        }
        assert_eq!(stream.is_reset().0, INTERNAL_ERROR);
        let verdict = if activity == "both" { "LOGGED_OUT" } else { "IDLE_EXPIRED" };
        assert!(stage.logged(path).contains(verdict));
        stage.is_clean();
    }
}

#[test]
fn what_an_old_worker_has_open_by_http_3_ends_with_its_session_after_a_reload() {
    if !has_http_3() {
        return;
    }
    let (stage, quic) = start_with("idle=15m", "", with_short_quiet);
    let client = quic.connect();
    assert_eq!(client.get("/login?sid=abc", "").status, 200);
    let mut streams = ["/slow/large", "/events"].map(|path| client.send(path, "abc"));
    let mut hold = client.send("/hold", "abc");
    for stream in &mut streams {
        assert_eq!(stream.head().status, 200);
    }
    let old = stage.nginx.workers();
    stage.nginx.signal(stage.nginx.master(), Signal::SIGHUP);
    eventually("there are new workers", || stage.nginx.workers().iter().filter(|pid| !old.contains(pid)).count() == 3);
    assert!(streams[1].piece().unwrap().is_some(), "it goes on");
    eventually("a new worker has logged the user out", || {
        let response = stage.nginx.with_id("/logout", "abc");
        !old.contains(&response.worker())
    });
    for stream in &mut streams {
        assert_eq!(stream.is_reset().0, INTERNAL_ERROR);
    }
    assert_eq!(hold.is_reset_without_answer(), INTERNAL_ERROR);
    for path in ["/slow/large", "/events", "/hold"] {
        assert!(stage.logged(path).contains(" LOGGED_OUT "), "{path}");
    }
    let log = stage.nginx.error_log();
    let cuts: Vec<_> = log.lines().filter(|line| line.contains("ended while open")).collect();
    let is_of_old = |line: &&str| old.iter().any(|pid| line.contains(&format!(" {pid}#")));
    assert!(cuts.len() == 3 && cuts.iter().all(is_of_old), "{cuts:?}");
    eventually("the old workers are gone", || stage.nginx.workers().iter().all(|pid| !old.contains(pid)));
    stage.is_clean();
}

#[test]
fn much_is_open_by_http_3_and_ends_in_every_state_of_a_request() {
    if !has_http_3() {
        return;
    }
    let (stage, quic) = start_with("idle=15m", "", |http, app| {
        let kept = format!("location /kept {{ proxy_pass http://{app}/upload; client_max_body_size 0; }}");
        let states = format!("{} {kept} location = /admin", every_state(app));
        let more = "proxy_cache_path $FOLDER/cache keys_zone=cache:1m; curfew_policy long";
        with_short_quiet(http.replace("location = /admin", &states).replace("curfew_policy long", more), app)
    });
    for round in 0..3 {
        let clients: Vec<_> = (0..4).map(|_| quic.connect()).collect();
        let ids: Vec<_> = (0..6).map(|number| format!("r{round}n{number}")).collect();
        let (mut flowing, mut waiting) = (Vec::new(), Vec::new());
        for (number, id) in ids.iter().enumerate() {
            assert_eq!(clients[0].get(&format!("/login?sid={id}"), "").status, 200);
            // Each session has streams on two connections, and each connection has streams of three.
            for (turn, path) in
                ["/threads/large", "/mirrored", "/limited", "/events", "/slow/large", "/cached", "/cached", "/hold"]
                    .into_iter()
                    .enumerate()
            {
                let mut stream = clients[(number + turn) % 2 * 2 + number % 2].send(path, id);
                if turn < 5 {
                    assert_eq!(stream.head().status, 200, "{path}");
                    flowing.push(stream);
                } else {
                    waiting.push(stream);
                }
            }
            for path in ["/upload", "/kept"] {
                let mut upload = clients[number % 4].post(path, id, None);
                upload.upload(&[b'x'; 20_000]).unwrap();
                waiting.push(upload);
            }
        }
        eventually("much is open", || stage.app.open.load(Ordering::Relaxed) >= 6 * 5);
        if round == 1 {
            let old = stage.nginx.workers();
            stage.nginx.signal(stage.nginx.master(), Signal::SIGHUP);
            eventually("there are new workers", || stage.nginx.workers().iter().any(|pid| !old.contains(pid)));
        }
        for id in &ids {
            assert_eq!(stage.nginx.with_id("/logout", id).verdict(), "LOGGED_OUT");
        }
        if round < 2 {
            flowing.iter_mut().for_each(|stream| assert_eq!(stream.is_reset().0, INTERNAL_ERROR));
            for stream in &mut waiting {
                // One that nginx comes to only after its session's end is denied.
                match stream.try_head() {
                    Ok(response) => assert_eq!((response.status, response.verdict()), (401, "LOGGED_OUT")),
                    Err(error) => assert_eq!(code(error), INTERNAL_ERROR),
                }
            }
        }
        // In the last round the clients go away while that happens.
        drop((flowing, waiting));
        drop(clients);
        eventually("the workers have no more than they began with", || {
            connections(&stage) == 0 && stage.nginx.workers().iter().all(|pid| sockets_of(*pid) < 20)
        });
    }
    stage.is_clean();
}

//! What is open while workers come and go, and what other programs and many requests do to it.

use std::io::Read;
use std::sync::atomic::Ordering;
use std::time::Duration;

use curfew_engine::{Cause, Moment, Table, What};
use nix::sys::signal::Signal;
use tungstenite::Message;

use crate::harness::{Site, eventually};
use crate::open::app::OpenApp;
use crate::open::stage::{Stage, ends, every_state, socket_ends, sockets_of, with_open};

#[test]
fn an_old_worker_ends_what_it_has_open_and_goes() {
    let stage = Stage::new("idle=15m", "");
    stage.nginx.log_in("abc");
    let mut socket = stage.web_socket("/ws", "abc");
    let mut events = stage.open("/events", "abc");
    let old = stage.nginx.workers();
    stage.nginx.signal(stage.nginx.master(), Signal::SIGHUP);
    eventually("there are new workers beside old ones", || {
        let now = stage.nginx.workers();
        now.len() > 3 && now.iter().filter(|pid| !old.contains(pid)).count() == 3
    });
    socket.send(Message::text("still there?")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("still there?"));
    eventually("a new worker has logged the user out", || {
        let response = stage.nginx.with_id("/logout", "abc");
        !old.contains(&response.worker())
    });
    socket_ends(&mut socket);
    ends(&mut events);
    eventually("the old workers are gone", || stage.nginx.workers().iter().all(|pid| !old.contains(pid)));
    stage.is_clean();
}

#[test]
fn a_policy_that_a_reload_has_tightened_ends_what_is_open_of_the_sessions_under_it() {
    let stage = Stage::new("idle=15m", "");
    stage.nginx.log_in("abc");
    let mut socket = stage.web_socket("/ws", "abc");
    std::thread::sleep(Duration::from_millis(1100));
    stage.nginx.site.configure(&with_open(&stage.app, "idle=1s", ""));
    stage.nginx.signal(stage.nginx.master(), Signal::SIGHUP);
    socket_ends(&mut socket);
    assert!(stage.logged("/ws").contains("IDLE_EXPIRED"));
    stage.is_clean();
}

#[test]
fn what_is_open_outlives_a_new_id_and_ends_with_the_session_all_the_same() {
    let stage =
        Stage::new("idle=15m", "location /renew { curfew_rotate $upstream_cookie_sid; proxy_pass http://$APP; }");
    stage.nginx.log_in("abc");
    let mut socket = stage.web_socket("/ws", "abc");
    assert_eq!(stage.nginx.with_id("/renew?sid=def", "abc").status, 200);
    socket.send(Message::text("still there?")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("still there?"));
    assert_eq!(stage.nginx.with_id("/logout", "def").verdict(), "LOGGED_OUT");
    socket_ends(&mut socket);
    assert!(stage.logged("/ws").contains("101 LOGGED_OUT"));
    stage.is_clean();
}

#[test]
fn another_program_ends_all_that_a_user_has_open_though_workers_are_killed() {
    const STREAMS: usize = 1000;
    let place = Site::new();
    let region = place.path("app.region");
    let app = OpenApp::start();
    let zone = format!("curfew_zone zone=app:4m path={};", region.display());
    let http = with_open(&app, "idle=15m", "curfew_subject $http_x_user;").replace("curfew_zone zone=app:1m;", &zone);
    std::fs::write(place.path("html/large"), vec![b'x'; 1 << 20]).unwrap();
    let stage = Stage { nginx: place.start(&http), app };
    for number in 0..10 {
        let response = stage.nginx.get(&format!("/login?sid=s{number}"), &[("X-User", "alice")]);
        assert_eq!(response.status, 200);
    }
    stage.nginx.get("/login?sid=bobs", &[("X-User", "bob")]);
    let mut bobs = stage.open("/slow/large", "bobs");
    let mut streams: Vec<_> =
        (0..STREAMS).map(|number| stage.open("/slow/large", &format!("s{}", number % 10))).collect();

    // The streams of this worker die with it; the others must be ended all the same.
    let victim = stage.nginx.workers()[0];
    stage.nginx.signal(victim, Signal::SIGKILL);
    let owner = std::os::unix::fs::MetadataExt::uid(&region.metadata().unwrap());
    let table = Table::open_owned_by(&region, owner).unwrap();
    let now = || table.tick_at(Moment::now().unwrap().steady);
    let ended = table.end_subject(table.subject(b"alice"), Cause::Revoked, now());
    assert_eq!(ended, 10);
    streams.iter_mut().for_each(|stream| _ = ends(stream));
    let mut cuts = Vec::new();
    eventually("each that was ended is in an event", || {
        cuts = table.events().filter(|event| event.what == What::Cut).collect();
        let log = stage.nginx.log("access.log");
        log.lines().filter(|line| line.contains(" REVOKED ")).count() == cuts.len() && cuts.len() > STREAMS / 10
    });
    for cut in &cuts {
        assert_eq!((cut.subject, cut.cause), (table.subject(b"alice"), Cause::Revoked));
        assert!(cut.bytes > 0);
    }
    if bobs.read(&mut [0; 10]).is_ok_and(|length| length > 0) {
        assert_eq!(stage.nginx.with_id("/logout", "bobs").verdict(), "LOGGED_OUT");
        ends(&mut bobs);
    }
    eventually("the workers have no more than they began with", || {
        stage.nginx.workers().iter().all(|pid| sockets_of(*pid) < 20)
    });
}

#[test]
fn much_is_open_and_ends_in_every_state_of_a_request() {
    let place = Site::new();
    let app = OpenApp::start();
    std::fs::write(place.path("html/large"), vec![b'x'; 1 << 20]).unwrap();
    let http = with_open(&app, "idle=15m", &every_state(app.address)).replace(
        "server {",
        "proxy_cache_path $FOLDER/cache keys_zone=cache:1m; lingering_close always; lingering_time 1s;
         keepalive_timeout 0; server {",
    );
    let stage = Stage { nginx: place.start(&http), app };
    for round in 0..3 {
        // A request that nginx comes to only after its session's end is denied, and is no fault:
        // keepalive_timeout 0 ends its connection as well.
        let ids: Vec<_> = (0..8).map(|number| format!("r{round}n{number}")).collect();
        let mut streams = Vec::new();
        for id in &ids {
            stage.nginx.log_in(id);
            for path in
                ["/threads/large", "/cached", "/cached", "/mirrored", "/limited", "/events", "/hold", "/slow/large"]
            {
                streams.push(stage.send(path, id, ""));
            }
            streams.push(stage.send("/upload", id, "Content-Length: 1000000\r\n"));
            streams.push(stage.send("/upload", id, "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n"));
        }
        eventually("much is open", || stage.app.open.load(Ordering::Relaxed) >= 8 * 6);
        for (number, id) in ids.iter().enumerate() {
            if number == 4 && round == 1 {
                let old = stage.nginx.workers();
                stage.nginx.signal(stage.nginx.master(), Signal::SIGHUP);
                eventually("there are new workers", || stage.nginx.workers().iter().any(|pid| !old.contains(pid)));
            }
            assert_eq!(stage.nginx.with_id("/logout", id).verdict(), "LOGGED_OUT");
        }
        streams.iter_mut().for_each(|stream| _ = ends(stream));
        eventually("the workers have no more than they began with", || {
            stage.nginx.workers().iter().all(|pid| sockets_of(*pid) < 20)
        });
    }
    stage.is_clean();
}

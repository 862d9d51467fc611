//! What is open ends with its session: WebSockets, server-sent events, downloads, uploads and requests
//! that wait, whoever ended the session and however.

pub(crate) mod app;
mod http2;
mod http3;
pub(crate) mod stage;
mod workers;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tungstenite::{Message, WebSocket};

use crate::harness::{Site, eventually};
use crate::open::app::OpenApp;
use crate::open::stage::{LOOK, Stage, ends, is_there, lives_by, socket_ends, until_it_is_ended, with_open};

#[test]
fn whatever_is_open_ends_when_its_user_logs_out_and_others_go_on() {
    let stage = Stage::new("idle=15m", "");
    stage.nginx.log_in("abc");
    stage.nginx.log_in("other");
    let mut socket = stage.web_socket("/ws", "abc");
    let mut open: Vec<_> = ["/events", "/download", "/slow/large"].map(|path| stage.open(path, "abc")).into();
    open.push(stage.send("/hold", "abc", ""));
    open.push(stage.send("/upload", "abc", "Content-Length: 1000000\r\n"));
    let mut others = stage.open("/events", "other");
    let mut others_socket = stage.web_socket("/ws", "other");
    eventually("all are with the application", || stage.app.open.load(Ordering::Relaxed) == 7);

    assert_eq!(stage.nginx.with_id("/logout", "abc").verdict(), "LOGGED_OUT");
    socket_ends(&mut socket);
    open.iter_mut().for_each(|stream| _ = ends(stream));
    for path in ["/ws", "/events", "/download", "/slow/large", "/hold", "/upload"] {
        let line = stage.logged(path);
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!((words[2], words[4]), ("LOGGED_OUT", "LOGGED_OUT"), "{line}");
        let bytes: u64 = words[5].parse().unwrap();
        assert_eq!(bytes == 0, matches!(path, "/hold" | "/upload"), "{line}");
    }
    let mut event = [0; 2000];
    for _ in 0..3 {
        others.read_exact(&mut event[..200]).unwrap();
    }
    others_socket.send(Message::text("still there?")).unwrap();
    assert_eq!(others_socket.read().unwrap(), Message::text("still there?"));
    assert!(stage.nginx.get("/admin", &[]).body.contains("\"cut\":6"));
    assert!(
        stage.nginx.get("/admin?format=prometheus", &[]).body.contains("curfew_requests_cut_total{zone=\"app\"} 6")
    );

    stage.nginx.with_id("/logout", "other");
    ends(&mut others);
    socket_ends(&mut others_socket);
    stage.is_clean();
}

#[test]
fn each_end_is_noticed_by_itself_and_not_only_when_all_are_gone_through() {
    let stage =
        Stage::new("idle=15m", "location /renew { curfew_rotate $upstream_cookie_sid; proxy_pass http://$APP; }");
    let began = Instant::now();
    for round in 0..30 {
        let (id, new) = (format!("old{round}"), format!("new{round}"));
        stage.nginx.log_in(&id);
        // Every other one begins by an id that is the old one of its session already.
        let last = if round % 2 == 0 {
            &id
        } else {
            assert_eq!(stage.nginx.with_id(&format!("/renew?sid={new}"), &id).status, 200);
            &new
        };
        let mut socket = stage.web_socket("/ws", &id);
        // Longer than it is fresh.
        std::thread::sleep(Duration::from_millis(250));
        assert_eq!(stage.nginx.with_id("/logout", last).verdict(), "LOGGED_OUT");
        socket_ends(&mut socket);
    }
    // All are gone through every ten seconds, which would be five for each of these.
    assert!(began.elapsed() < Duration::from_secs(100), "{:?}", began.elapsed());
    stage.is_clean();
}

#[test]
fn what_is_open_ends_at_the_idle_timeout_though_the_server_goes_on() {
    let stage = Stage::new("idle=1s", "");
    stage.nginx.log_in("abc");
    let mut socket = stage.web_socket("/ws-push", "abc");
    let mut events = stage.open("/events", "abc");
    socket_ends(&mut socket);
    assert!(ends(&mut events) > 0);
    assert!(stage.logged("/ws-push").contains("101 IDLE_EXPIRED"));
    assert!(stage.logged("/events").contains("200 IDLE_EXPIRED"));
    stage.is_clean();
}

#[test]
fn what_is_open_ends_at_its_lifetime_and_with_its_token_though_it_is_used() {
    let stage = Stage::new("lifetime=1s", "");
    stage.nginx.log_in("abc");
    let mut socket = stage.web_socket("/ws", "abc");
    until_it_is_ended(|| {
        std::thread::sleep(Duration::from_millis(10));
        socket.send(Message::text("I am here")).and_then(|()| socket.read()).is_ok()
    });
    assert!(stage.logged("/ws").contains("LIFETIME_EXPIRED"));
    stage.is_clean();

    let stage = Stage::new("idle=15m", "curfew_expires $http_x_expires;");
    stage.nginx.log_in("abc");
    let soon = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 2;
    let mut events = stage.send("/events", "abc", &format!("X-Expires: {soon}\r\n"));
    ends(&mut events);
    assert!(stage.logged("/events").contains("TOKEN_EXPIRED"));
    assert_eq!(stage.nginx.with_id("/", "abc").status, 200, "the session itself goes on, with another token");
    stage.is_clean();
}

#[test]
fn what_the_client_says_on_a_web_socket_is_use_and_pings_and_pongs_are_none() {
    let stage = Stage::new("idle=2s", LOOK);
    stage.nginx.log_in("abc");
    let mut socket = stage.web_socket("/ws", "abc");
    let said = || {
        socket.send(Message::text("I am here")).unwrap();
        assert_eq!(socket.read().unwrap(), Message::text("I am here"));
    };
    if lives_by(&stage, said) == Some(false) {
        panic!("it ended though it was used:\n{}", stage.nginx.log("access.log"));
    }
    socket_ends(&mut socket);

    // Both sides ping, and the library answers pings by itself.
    stage.nginx.log_in("def");
    let mut socket = stage.web_socket("/ws-ping", "def");
    socket.get_ref().set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    until_it_is_ended(|| is_there(socket.send(Message::Ping(vec![7; 60].into())).and_then(|()| socket.read())));
    eventually("it is in the log", || stage.nginx.log("access.log").matches("101 IDLE_EXPIRED").count() >= 1);
    assert!(stage.logged("/ws-ping").contains("IDLE_EXPIRED"));
    stage.is_clean();
}

/// Writes bytes one by one, so that no frame comes whole.
struct OneByOne(TcpStream);

impl Read for OneByOne {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(to)
    }
}

impl Write for OneByOne {
    fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
        self.0.set_nodelay(true)?;
        self.0.write(&from[..1])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn frames_of_every_size_are_told_apart_wherever_they_are_cut() {
    let stage = Stage::new("idle=2s", LOOK);
    for (id, is_use, first) in [("abc", true, 0), ("def", false, 1)] {
        stage.nginx.log_in(id);
        let socket = stage.web_socket("/ws", id);
        let stream = OneByOne(socket.get_ref().try_clone().unwrap());
        stream.0.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut socket = WebSocket::from_raw_socket(stream, tungstenite::protocol::Role::Client, None);
        // Messages of all three forms of length, then pings alone; or pings alone from the beginning.
        if is_use {
            for length in [0, 1, 125, 126, 65_535, 65_536] {
                socket.send(Message::binary(vec![0x89; length])).unwrap();
            }
        }
        let mut number = first;
        until_it_is_ended(|| {
            number += 1;
            is_there(socket.send(Message::Ping(vec![0x81; number % 126].into())).and_then(|()| socket.read()))
        });
        assert!(stage.logged("/ws").contains("101 IDLE_EXPIRED"));
    }
    assert_eq!(stage.nginx.log("access.log").matches("101 IDLE_EXPIRED").count(), 2);
    stage.is_clean();
}

#[test]
fn an_upload_keeps_its_session_alive_while_it_comes() {
    let stage = Stage::new("idle=2s", LOOK);
    stage.nginx.log_in("abc");
    let mut upload = stage.send("/upload", "abc", "Content-Length: 1000000\r\n");
    let uploads = || upload.get_mut().write_all(&[b'x'; 100]).unwrap();
    assert_ne!(lives_by(&stage, uploads), Some(false));
    ends(&mut upload);
    assert!(stage.logged("/upload").contains("IDLE_EXPIRED"), "it ends once nothing comes");
    stage.is_clean();
}

#[test]
fn what_the_server_says_is_use_where_the_configuration_says_so() {
    for path in ["/events", "/download", "/slow/large"] {
        let stage = Stage::new("idle=2s", &format!("curfew_stream_activity both; {LOOK}"));
        stage.nginx.log_in("abc");
        let mut stream = stage.open(path, "abc");
        assert_ne!(lives_by(&stage, || _ = stream.read(&mut [0; 64]).unwrap()), Some(false), "{path}");
    }
    let stage = Stage::new("idle=2s", &format!("curfew_stream_activity both; {LOOK}"));
    stage.nginx.log_in("abc");
    let mut socket = stage.web_socket("/ws-push", "abc");
    assert_ne!(lives_by(&stage, || _ = socket.read().unwrap()), Some(false));
    stage.nginx.log_in("def");
    let mut socket = stage.web_socket("/ws-ping", "def");
    socket_ends(&mut socket);
    assert!(stage.logged("/ws-ping").contains("IDLE_EXPIRED"), "pings are no use, from whichever side");
}

#[test]
fn what_is_open_does_not_count_where_the_configuration_or_the_request_says_so() {
    for more in ["curfew_stream_activity off;", "curfew_activity 0;"] {
        let stage = Stage::new("idle=1s", more);
        stage.nginx.log_in("abc");
        let mut socket = stage.web_socket("/ws", "abc");
        until_it_is_ended(|| {
            std::thread::sleep(Duration::from_millis(10));
            socket.send(Message::text("I am here")).and_then(|()| socket.read()).is_ok()
        });
        assert!(stage.logged("/ws").contains("IDLE_EXPIRED"), "{more}");
        stage.is_clean();
    }
}

#[test]
fn in_grace_what_is_open_goes_on_and_ends_after_it() {
    let stage = Stage::new("idle=500ms grace=700ms", LOOK);
    stage.nginx.log_in("abc");
    let began = Instant::now();
    let mut events = stage.open("/events", "abc");
    let length = ends(&mut events);
    assert!(began.elapsed() >= Duration::from_millis(1190), "it was ended before its grace was over");
    assert!(length > 0 && stage.logged("/events").contains("IDLE_EXPIRED"));
}

#[test]
fn nothing_is_ended_where_the_configuration_says_so_and_in_a_dry_run_it_is_only_told() {
    let stage = Stage::new("idle=15m", "curfew_streams off;");
    stage.nginx.log_in("abc");
    let mut socket = stage.web_socket("/ws", "abc");
    stage.nginx.with_id("/logout", "abc");
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        socket.send(Message::text("I am here")).unwrap();
        assert_eq!(socket.read().unwrap(), Message::text("I am here"));
    }
    drop(socket);

    let stage = Stage::new("idle=15m", "curfew_dry_run on;");
    stage.nginx.log_in("abc");
    let mut socket = stage.web_socket("/ws", "abc");
    stage.nginx.with_id("/logout", "abc");
    eventually("it is told", || stage.nginx.error_log().contains("ended while open, LOGGED_OUT_DRY_RUN"));
    socket.send(Message::text("I am here")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::text("I am here"));
    drop(socket);
    assert!(stage.logged("/ws").contains(" LOGGED_OUT_DRY_RUN "));
    assert!(stage.nginx.get("/admin", &[]).body.contains("\"cut\":0"));
}

#[test]
fn who_logs_out_has_the_answer_to_that_though_it_comes_late() {
    let app = OpenApp::start();
    let http = with_open(&app, "idle=15m", "").replace(
        "location = /admin",
        &format!("location /late/out {{ curfew_end logout; proxy_pass http://{}; }} location = /admin", app.address),
    );
    let http = http.replace("location ~ ^/(ws|events|download|upload|late|hold)", "location ~ ^/(ws|events)");
    let nginx = Site::new().start(&http);
    let stage = Stage { nginx, app };
    stage.nginx.log_in("abc");
    let mut socket = stage.web_socket("/ws", "abc");
    let response = stage.nginx.with_id("/late/out", "abc");
    assert_eq!((response.status, response.body.as_str()), (200, "late"));
    socket_ends(&mut socket);
    stage.is_clean();
}

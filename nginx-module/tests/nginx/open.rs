//! What is open ends with its session: WebSockets, server-sent events, downloads, uploads and requests
//! that wait, whoever ended the session and however.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use curfew_engine::{Cause, Moment, Table, What};
use nix::sys::signal::Signal;
use tungstenite::{Error, Message, WebSocket};

use crate::harness::{Nginx, Site, eventually};
use crate::open_app::OpenApp;
use crate::sessions::site;

/// An nginx in front of both applications.
pub(crate) struct Stage {
    pub(crate) nginx: Nginx,
    pub(crate) app: OpenApp,
}

/// Locations that pass to the application with which things stay open.
pub(crate) fn with_open(app: &OpenApp, policy: &str, more: &str) -> String {
    let pass = format!(
        "proxy_pass http://{}; proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering off;
         client_max_body_size 0; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection;",
        app.address
    );
    let locations = format!(
        "location ~ ^/(ws|events|download|upload|late|hold) {{ {pass} }}
         location /slow {{ alias $FOLDER/html/; limit_rate 1k; }}
         location = /admin {{ curfew off; curfew_admin; }}"
    );
    site(policy, &format!("{more} {locations}"))
}

impl Stage {
    fn new(policy: &str, more: &str) -> Stage {
        Stage::on(Site::new(), policy, more)
    }

    fn on(place: Site, policy: &str, more: &str) -> Stage {
        std::fs::write(place.path("html/large"), vec![b'x'; 1 << 20]).unwrap();
        let app = OpenApp::start();
        let nginx = place.start(&with_open(&app, policy, more));
        Stage { nginx, app }
    }

    /// A WebSocket of a session.
    #[track_caller]
    fn web_socket(&self, path: &str, id: &str) -> WebSocket<TcpStream> {
        let stream = TcpStream::connect(self.nginx.site.address()).unwrap();
        let request = http::Request::get(format!("ws://{}{path}", self.nginx.site.address()))
            .header("Host", "localhost")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", tungstenite::handshake::client::generate_key())
            .header("Cookie", format!("sid={id}"))
            .body(())
            .unwrap();
        tungstenite::client(request, stream).unwrap().0
    }

    /// A request that goes on, of which something has come back already.
    #[track_caller]
    pub(crate) fn open(&self, path: &str, id: &str) -> BufReader<TcpStream> {
        let mut stream = self.send(path, id, "");
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        stream
    }

    /// Sends a request and does not wait; one with a body if `more` tells of one.
    fn send(&self, path: &str, id: &str, more: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.nginx.site.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let method = if more.contains("-Length") || more.contains("-Encoding") { "POST" } else { "GET" };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nCookie: sid={id}\r\n{more}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        BufReader::new(stream)
    }

    /// What the log says of how a request ended, once it is there.
    pub(crate) fn logged(&self, path: &str) -> String {
        let mut line = String::new();
        eventually(&format!("{path} is in the log"), || {
            let log = self.nginx.log("access.log");
            line = log.lines().rfind(|line| line.starts_with(path)).unwrap_or_default().to_owned();
            !line.is_empty()
        });
        line
    }

    /// Nothing is left of what was open, and nobody is alarmed.
    pub(crate) fn is_clean(&self) {
        eventually("the application is left alone", || self.app.open.load(Ordering::Relaxed) == 0);
        let log = self.nginx.error_log();
        let alarms: Vec<_> = log.lines().filter(|line| line.contains("[alert]") || line.contains("[crit]")).collect();
        assert!(alarms.is_empty(), "{alarms:?}");
    }
}

/// Waits until nginx closes the connection; says how much came. What is sent for ever is not waited for.
#[track_caller]
pub(crate) fn ends(stream: &mut BufReader<TcpStream>) -> usize {
    let (began, mut all, mut piece) = (Instant::now(), 0, [0; 4096]);
    loop {
        assert!(began.elapsed() < Duration::from_secs(60), "it was not ended, and {all} bytes have come");
        match stream.read(&mut piece) {
            Ok(0) => return all,
            Ok(length) => all += length,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return all,
            Err(error) => panic!("it was not ended: {error}"),
        }
    }
}

/// Waits until a WebSocket ends.
#[track_caller]
fn socket_ends(socket: &mut WebSocket<TcpStream>) {
    socket.get_ref().set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < Duration::from_secs(60), "it was not ended");
        match socket.read() {
            Ok(_) => {}
            Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("it was not ended"),
            Err(_) => return,
        }
    }
}

/// Does something until it fails, because nginx has ended what it is done on.
#[track_caller]
fn until_it_is_ended(mut step: impl FnMut() -> bool) {
    let began = Instant::now();
    while step() {
        assert!(began.elapsed() < Duration::from_secs(60), "it was not ended");
    }
}

/// Whether there is a WebSocket still, and only nothing to be read.
fn is_there<T>(result: Result<T, Error>) -> bool {
    match result {
        Err(Error::Io(error)) => error.kind() == std::io::ErrorKind::WouldBlock,
        other => other.is_ok(),
    }
}

/// For longer than the idle timeout of two seconds, again and again does something; says whether the
/// session is alive then. `None` when this machine was too slow to tell.
pub(crate) fn lives_by(stage: &Stage, mut step: impl FnMut()) -> Option<bool> {
    let (began, mut last) = (Instant::now(), Instant::now());
    while began.elapsed() < Duration::from_secs(5) {
        step();
        if last.elapsed() > Duration::from_millis(1200) {
            return None;
        }
        last = Instant::now();
        std::thread::sleep(Duration::from_millis(50));
    }
    Some(stage.nginx.get("/look", &[("Cookie", "sid=abc")]).status == 200)
}

/// Asks without use.
pub(crate) const LOOK: &str = "location /look { curfew_activity 0; proxy_pass http://$APP; }";

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

#[test]
fn of_an_http_2_connection_only_the_stream_of_the_session_ends() {
    let place = Site::new();
    let app = OpenApp::start();
    let http = with_open(&app, "idle=15m", "").replace("listen $LISTEN;", "listen $LISTEN $HTTP2;");
    let nginx = place.start(&http);
    let stage = Stage { nginx, app };
    for id in ["abc", "other"] {
        let response = stage.nginx.by_http_2(&format!("/login?sid={id}"), "");
        assert_eq!(response.status, 200);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(stage.nginx.site.address()).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut bodies = Vec::new();
        for id in ["abc", "other"] {
            let request = http::Request::get("http://localhost/events").header("cookie", format!("sid={id}"));
            let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), 200);
            bodies.push(response.into_body());
        }
        stage.nginx.by_http_2("/logout", "abc");
        let mut abc = bodies.remove(0);
        let error = loop {
            match abc.data().await {
                Some(Ok(bytes)) => abc.flow_control().release_capacity(bytes.len()).unwrap(),
                Some(Err(error)) => break error,
                None => panic!("an end that is no end of the response"),
            }
        };
        assert!(error.is_reset(), "{error}");
        let mut other = bodies.remove(0);
        for _ in 0..5 {
            let bytes = other.data().await.unwrap().unwrap();
            other.flow_control().release_capacity(bytes.len()).unwrap();
        }
        let request = http::Request::get("http://localhost/").header("cookie", "sid=other");
        let (response, _) = client.send_request(request.body(()).unwrap(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200, "and the connection is as good as before");
    });
    drop(runtime);
    stage.is_clean();
}

#[test]
fn a_stream_of_an_http_2_connection_on_which_nothing_else_happens_is_reset_all_the_same() {
    let place = Site::new();
    let app = OpenApp::start();
    let http = with_open(&app, "idle=15m", "").replace("listen $LISTEN;", "listen $LISTEN $HTTP2;");
    let stage = Stage { nginx: place.start(&http), app };
    for id in ["abc", "other"] {
        assert_eq!(stage.nginx.by_http_2(&format!("/login?sid={id}"), "").status, 200);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(stage.nginx.site.address()).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut waits = Vec::new();
        for id in ["abc", "other"] {
            let request = http::Request::get("http://localhost/hold").header("cookie", format!("sid={id}"));
            waits.push(client.send_request(request.body(()).unwrap(), true).unwrap().0);
        }
        while stage.app.open.load(Ordering::Relaxed) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stage.nginx.by_http_2("/logout", "abc");
        let ended = tokio::time::timeout(Duration::from_secs(30), waits.remove(0)).await.expect("the client is told");
        assert!(ended.unwrap_err().is_reset());
    });
    drop(runtime);
    stage.is_clean();
}

#[test]
fn an_event_stream_breaks_off_for_its_client_by_either_version_of_http() {
    let app = OpenApp::start();
    // What curl says of a response that broke off, and of a stream that was reset.
    for (http2, by, code) in [("", "--http1.1", 18), ("$HTTP2", "--http2-prior-knowledge", 92)] {
        let place = Site::new();
        let http = with_open(&app, "idle=15m", "").replace("listen $LISTEN;", &format!("listen $LISTEN {http2};"));
        let nginx = place.start(&http);
        let log_in_or_out = |path: &str, id: &str| {
            let mut command = std::process::Command::new("curl");
            command.args(["-s", by, "-b", &format!("sid={id}"), &format!("http://{}{path}", nginx.site.address())]);
            assert!(command.output().expect("curl is installed: make setup").status.success());
        };
        log_in_or_out("/login?sid=abc", "");
        let output = nginx.site.path("events");
        let mut command = std::process::Command::new("curl");
        command.args([
            "-sN",
            "-m",
            "60",
            by,
            "-b",
            "sid=abc",
            &format!("http://{}/events", nginx.site.address()),
            "-o",
        ]);
        let mut client = command.arg(&output).spawn().unwrap();
        let read = || std::fs::read_to_string(&output).unwrap_or_default();
        eventually("events come", || read().matches("data: tick").count() > 3);
        log_in_or_out("/logout", "abc");
        assert_eq!(client.wait().unwrap().code(), Some(code), "{by}");
    }
    eventually("the application is left alone", || app.open.load(Ordering::Relaxed) == 0);
}

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

pub(crate) fn sockets_of(pid: i32) -> usize {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries
        .filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:")))
        .count()
}

/// Locations in which nginx waits in the middle of a request, each for something else.
pub(crate) fn every_state(app: SocketAddr) -> String {
    format!(
        "location /threads {{ alias $FOLDER/html/; aio threads; output_buffers 1 4k; limit_rate 20k; }}
         location /cached {{ proxy_pass http://{app}/hold; proxy_cache cache; proxy_cache_lock on;
             proxy_cache_lock_timeout 60s; proxy_cache_key same; }}
         location /mirrored {{ mirror /copy; proxy_pass http://{app}/events; proxy_buffering off; }}
         location = /copy {{ internal; curfew off; proxy_pass http://{app}/hold; }}
         location /limited {{ proxy_pass http://{app}/download; limit_rate 2k; }}"
    )
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

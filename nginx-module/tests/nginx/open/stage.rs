//! What is open, and how a test sees that it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tungstenite::{Error, WebSocket};

use crate::harness::{Nginx, Site, eventually};
use crate::open::app::OpenApp;
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
    pub(crate) fn new(policy: &str, more: &str) -> Stage {
        Stage::on(Site::new(), policy, more)
    }

    pub(crate) fn on(place: Site, policy: &str, more: &str) -> Stage {
        std::fs::write(place.path("html/large"), vec![b'x'; 1 << 20]).unwrap();
        let app = OpenApp::start();
        let nginx = place.start(&with_open(&app, policy, more));
        Stage { nginx, app }
    }

    /// A WebSocket of a session.
    #[track_caller]
    pub(crate) fn web_socket(&self, path: &str, id: &str) -> WebSocket<TcpStream> {
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
    pub(crate) fn send(&self, path: &str, id: &str, more: &str) -> BufReader<TcpStream> {
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
pub(crate) fn socket_ends(socket: &mut WebSocket<TcpStream>) {
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
pub(crate) fn until_it_is_ended(mut step: impl FnMut() -> bool) {
    let began = Instant::now();
    while step() {
        assert!(began.elapsed() < Duration::from_secs(60), "it was not ended");
    }
}

/// Whether there is a WebSocket still, and only nothing to be read.
pub(crate) fn is_there<T>(result: Result<T, Error>) -> bool {
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

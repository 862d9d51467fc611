//! A real nginx with the module, an application behind it, and a client. Everything listens on
//! 127.0.0.1 on ports that the system hands out, and ends with the test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::sockopt::ReuseAddr;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, getsockname, setsockopt, socket};
use nix::unistd::Pid;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// If this variable is there, every nginx runs under valgrind, and no process of it may have errors.
const MEMCHECK: &str = "CURFEW_MEMCHECK";

/// Waits until `what` holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port that the system gives to nobody else while this is there, and that nginx can listen on: two may
/// have one address if both are ready to share it and at most one listens.
pub(crate) struct Reserved {
    pub(crate) port: u16,
    _socket: OwnedFd,
}

impl Reserved {
    fn new() -> Reserved {
        let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        setsockopt(&socket, ReuseAddr, &true).unwrap();
        Reserved::bound(socket)
    }

    /// A port of UDP.
    pub(crate) fn udp() -> Reserved {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).unwrap();
        let reserved = Reserved::bound(socket);
        // Ready to share only after it was bound, or another one that binds like this might be given the same.
        setsockopt(&reserved._socket, ReuseAddr, &true).unwrap();
        // With a peer, which never says anything, nothing that is meant for nginx comes to it.
        connect(reserved._socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, reserved.port)).unwrap();
        reserved
    }

    fn bound(socket: OwnedFd) -> Reserved {
        bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
        Reserved { port: getsockname::<SockaddrIn>(socket.as_raw_fd()).unwrap().port(), _socket: socket }
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn worker(&self) -> i32 {
        self.header("X-Worker").expect("the configuration adds it").parse().unwrap()
    }

    /// `$curfew_status`, which the configuration adds.
    pub(crate) fn verdict(&self) -> &str {
        self.header("X-Curfew").unwrap_or("")
    }
}

/// Sends one request on a connection of its own.
pub(crate) fn request(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> std::io::Result<Response> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    stream.write_all(text.as_bytes())?;
    read_response(&mut BufReader::new(stream))
}

/// A connection that is kept for several requests.
pub(crate) struct Kept(BufReader<TcpStream>);

impl Kept {
    pub(crate) fn connect(nginx: &Nginx) -> Kept {
        let stream = TcpStream::connect(nginx.site.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Kept(BufReader::new(stream))
    }

    pub(crate) fn ask(&mut self, path: &str, id: &str) -> Response {
        self.send(path, id);
        self.receive()
    }

    pub(crate) fn send(&mut self, path: &str, id: &str) {
        let text = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: sid={id}\r\n\r\n");
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The next response, which says how long it is.
    pub(crate) fn receive(&mut self) -> Response {
        let mut response = read_head(&mut self.0).unwrap();
        let length = response.header("Content-Length").expect("it says how long it is").parse().unwrap();
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        response.body = String::from_utf8_lossy(&body).into_owned();
        response
    }
}

pub(crate) fn read_response(from: &mut impl BufRead) -> std::io::Result<Response> {
    let mut response = read_head(from)?;
    let mut body = Vec::new();
    from.read_to_end(&mut body)?;
    response.body = String::from_utf8_lossy(&body).into_owned();
    Ok(response)
}

fn read_head(from: &mut impl BufRead) -> std::io::Result<Response> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("not a status line: {line:?}")))?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    Ok(Response { status, headers, body: String::new() })
}

/// An application: says what it was asked, and does what the query tells it to.
///
/// `?sid=x` issues x as the cookie `sid`, `?status=404` answers so, `?header=Name:value` adds that
/// header, `?wait` holds the answer back until [`App::let_go`].
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    pub(crate) waiting: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl App {
    pub(crate) fn start() -> App {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let waiting = Arc::new(Mutex::new(Vec::new()));
        let (stops, waits) = (stop.clone(), waiting.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stops.load(Ordering::Relaxed) {
                    break;
                }
                let (Ok(stream), waits) = (stream, waits.clone()) else { continue };
                std::thread::spawn(move || serve(stream, &waits));
            }
        });
        App { address, stop, waiting, thread: Some(thread) }
    }

    /// Answers the requests that were held back.
    pub(crate) fn let_go(&self) {
        for mut stream in self.waiting.lock().unwrap().drain(..) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlate");
        }
    }
}

fn serve(mut stream: TcpStream, waiting: &Mutex<Vec<TcpStream>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() {
        return;
    }
    loop {
        let mut header = String::new();
        match reader.read_line(&mut header) {
            Ok(n) if n > 2 => {}
            _ => break,
        }
    }
    let target = line.split(' ').nth(1).unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (mut status, mut head) = ("200", String::new());
    for pair in query.split('&') {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("sid", id) => head.push_str(&format!("Set-Cookie: sid={id}; Path=/; HttpOnly\r\n")),
            ("status", code) => status = code,
            ("header", header) => head.push_str(&format!("{}\r\n", header.replacen(':', ": ", 1))),
            ("wait", _) => {
                waiting.lock().unwrap().push(stream);
                return;
            }
            _ => {}
        }
    }
    let body = format!("application {path}");
    let _ = stream.write_all(
        format!("HTTP/1.1 {status} So\r\nConnection: close\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len())
            .as_bytes(),
    );
}

impl Drop for App {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener, which then sees that it is to stop.
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The module. `cargo test` does not build a library that no test can link to; `make test` does.
pub(crate) fn module() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
    let path = folder.join("libngx_http_curfew_module.so");
    let built = path.metadata().and_then(|meta| meta.modified()).ok();
    let changed = ["src", "../engine/src"].iter().map(|sources| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(sources);
        last_change(&folder)
    });
    let changed = changed.max();
    assert!(built >= changed, "{} is older than its sources: cargo build -p curfew-nginx first", path.display());
    path
}

fn last_change(folder: &Path) -> std::time::SystemTime {
    let entries = folder.read_dir().unwrap().map(|entry| entry.unwrap());
    let changes = entries.map(|entry| match entry.file_type().unwrap().is_dir() {
        true => last_change(&entry.path()),
        false => entry.metadata().unwrap().modified().unwrap(),
    });
    changes.max().expect("there are sources")
}

/// The nginx to test with: Debian's, or the one whose whole path CURFEW_NGINX has.
pub(crate) fn program() -> String {
    std::env::var("CURFEW_NGINX").unwrap_or("/usr/sbin/nginx".into())
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A configuration around an `http` block, and a folder for all that belongs to it.
pub(crate) struct Site {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) app: App,
    port: Option<Reserved>,
    /// Whether nginx goes into the background, without which it does not replace itself.
    daemon: bool,
}

impl Site {
    pub(crate) fn new() -> Site {
        let folder = tempfile::Builder::new().prefix("curfew-nginx-").tempdir().unwrap();
        // Workers are another user.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(folder.path().join("html")).unwrap();
        std::fs::write(folder.path().join("html/page.html"), "a page\n").unwrap();
        std::fs::write(folder.path().join("html/login.html"), "please log in\n").unwrap();
        Site { folder, app: App::start(), port: Some(Reserved::new()), daemon: false }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.as_ref().map_or(0, |reserved| reserved.port)).into()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the configuration: `http` stands in the http block, where `$app` is the application,
    /// `$folder` the folder and `$listen` the address.
    pub(crate) fn configure(&self, http: &str) {
        let folder = self.folder.path().display().to_string();
        let http = http
            .replace("$APP", &self.app.address.to_string())
            .replace("$LISTEN", &self.address().to_string())
            .replace("$HTTP2", "http2")
            .replace("$FOLDER", &folder);
        let user = if is_root() { "user www-data;" } else { "" };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {folder}/{kind}; "))
            .concat();
        let text = format!(
            "daemon {daemon}; {user} worker_processes 3; pid {folder}/pid; error_log {folder}/error.log info;\n\
             load_module {module};\n\
             worker_shutdown_timeout 20s;\n\
             events {{ worker_connections 2048; }}\n\
             http {{\n{temporary}\n\
             log_format curfew '$uri $status $curfew_status $curfew_key $curfew_cut $curfew_cut_bytes';\n\
             access_log {folder}/access.log curfew;\n\
             add_header X-Worker $pid always; add_header X-Curfew $curfew_status always;\n\
             root {folder}/html;\n{http}\n}}\n",
            daemon = if self.daemon { "on" } else { "off" },
            module = module().display()
        );
        std::fs::write(self.path("nginx.conf"), text).unwrap();
    }

    /// Starts nginx with a configuration that was written already.
    pub(crate) fn start_as_it_is(self) -> Nginx {
        let child = self.spawn();
        let nginx = Nginx { site: self, child, daemon: None };
        nginx.wait_until_it_answers();
        // It listens before it can be sent a signal.
        eventually("its workers are there", || nginx.workers().len() >= 3);
        nginx
    }

    /// Starts nginx in the background.
    pub(crate) fn start_daemon(mut self, http: &str) -> Nginx {
        self.daemon = true;
        self.configure(http);
        let mut nginx = Nginx { child: self.spawn(), site: self, daemon: None };
        eventually("nginx is in the background", || nginx.child.try_wait().unwrap().is_some());
        nginx.wait_until_it_answers();
        // It listens before it writes down who it is.
        eventually("its pid is in the file", || {
            nginx.daemon = nginx.pid_in_file();
            nginx.daemon.is_some()
        });
        eventually("its workers are there", || nginx.workers().len() == 3);
        nginx
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program());
        if std::env::var_os(MEMCHECK).is_some() {
            command = Command::new("valgrind");
            command.args(["--quiet", "--trace-children=yes", "--leak-check=no", "--vgdb=no"]);
            command.arg(format!("--log-file={}", self.path("memcheck.%p").display()));
            command.arg(program());
        }
        command.arg("-p").arg(self.folder.path()).arg("-c").arg(self.path("nginx.conf"));
        command.arg("-e").arg(self.path("error.log"));
        command
    }

    /// What `nginx -t` says of a configuration: whether it is in order, and the text.
    pub(crate) fn check(&self, http: &str) -> (bool, String) {
        self.configure(http);
        let output = self.command().arg("-t").output().expect("nginx is installed: make setup");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Starts nginx and waits until it answers.
    pub(crate) fn start(self, http: &str) -> Nginx {
        self.configure(http);
        self.start_as_it_is()
    }

    fn spawn(&self) -> Child {
        self.command().stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("nginx is installed: make setup")
    }
}

/// A running nginx. It ends with this value.
pub(crate) struct Nginx {
    pub(crate) site: Site,
    child: Child,
    /// The master, when it is in the background.
    daemon: Option<i32>,
}

impl Nginx {
    fn wait_until_it_answers(&self) {
        eventually("nginx answers", || {
            let answers = TcpStream::connect(self.site.address()).is_ok();
            if !answers && self.error_log().contains("[emerg]") {
                panic!("nginx did not start:\n{}", self.error_log());
            }
            answers
        });
    }

    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        request(self.site.address(), "GET", path, headers).unwrap()
    }

    /// A request with the cookie `sid`.
    pub(crate) fn with_id(&self, path: &str, id: &str) -> Response {
        self.get(path, &[("Cookie", &format!("sid={id}"))])
    }

    /// Has the application issue an id.
    #[track_caller]
    pub(crate) fn log_in(&self, id: &str) -> Response {
        let response = self.get(&format!("/login?sid={id}"), &[]);
        assert_eq!(response.status, 200, "{response:?}\n{}", self.error_log());
        response
    }

    /// A request by HTTP/2 with the cookie `sid`, from a listener that speaks it without TLS.
    #[track_caller]
    pub(crate) fn by_http_2(&self, path: &str, id: &str) -> Response {
        let mut command = Command::new("curl");
        command.args(["-s", "-i", "-m", "60", "--http2-prior-knowledge", "-b"]).arg(format!("sid={id}"));
        let output = command.arg(format!("http://{}{path}", self.site.address())).output();
        let text = output.expect("curl is installed: make setup").stdout;
        assert!(text.starts_with(b"HTTP/2 "), "{}", String::from_utf8_lossy(&text));
        read_response(&mut &text[..]).unwrap()
    }

    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.site.path(name)).unwrap_or_default()
    }

    pub(crate) fn error_log(&self) -> String {
        self.log("error.log")
    }

    pub(crate) fn master(&self) -> i32 {
        self.daemon.unwrap_or(self.child.id() as i32)
    }

    /// The workers that are there now.
    pub(crate) fn workers(&self) -> Vec<i32> {
        let is_worker = |pid: &i32| {
            let title = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            !String::from_utf8_lossy(&title).contains("nginx: cache")
        };
        children_of(self.master()).into_iter().filter(is_worker).collect()
    }

    pub(crate) fn signal(&self, pid: i32, signal: Signal) {
        assert!(pid == self.master() || self.workers().contains(&pid), "{pid} is not ours");
        kill(Pid::from_raw(pid), signal).unwrap();
    }

    /// Asks until each worker has answered; `ask` says which one it was.
    pub(crate) fn of_every_worker(&self, mut ask: impl FnMut() -> i32) {
        let mut seen = std::collections::BTreeSet::new();
        eventually("every worker has answered", || {
            seen.insert(ask());
            seen.len() >= 3
        });
    }

    /// Puts another configuration into use and waits until the old workers are gone.
    pub(crate) fn reload(&self, http: &str) {
        self.site.configure(http);
        self.reload_as_it_is();
    }

    /// Puts the configuration into use that was written already.
    pub(crate) fn reload_as_it_is(&self) {
        let old = self.workers();
        self.signal(self.master(), Signal::SIGHUP);
        eventually("the old workers are gone", || {
            let now = self.workers();
            now.len() == 3 && old.iter().all(|pid| !now.contains(pid))
        });
        self.wait_until_it_answers();
    }

    /// Stops nginx and gives back what it ran on.
    pub(crate) fn stop(mut self) -> Site {
        self.end();
        let dummy = Site { folder: tempfile::tempdir().unwrap(), app: App::start(), port: None, daemon: false };
        std::mem::replace(&mut self.site, dummy)
    }

    /// Has nginx replace itself by its program anew (USR2, then QUIT to the old master), as an upgrade
    /// does. What comes after belongs to the new master.
    pub(crate) fn upgrade(&mut self) {
        let old = self.master();
        self.signal(old, Signal::SIGUSR2);
        eventually("the new master is there with its workers", || {
            self.pid_in_file().is_some_and(|pid| pid != old && children_of(pid).len() == 3)
        });
        let new = self.pid_in_file();
        self.signal(old, Signal::SIGQUIT);
        eventually("the old master is gone", || is_gone(old));
        self.daemon = new;
        self.wait_until_it_answers();
    }

    fn pid_in_file(&self) -> Option<i32> {
        self.log("pid").trim().parse().ok()
    }

    fn end(&mut self) {
        if let Some(master) = self.daemon.take() {
            let _ = kill(Pid::from_raw(master), Signal::SIGTERM);
            eventually("nginx is gone", || is_gone(master));
            return;
        }
        if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        let pid = Pid::from_raw(self.master());
        let _ = kill(pid, Signal::SIGTERM);
        let began = Instant::now();
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if began.elapsed() > Duration::from_secs(20) {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.end();
        let logs = self.site.folder.path().read_dir().into_iter().flatten().flatten();
        let logs = logs.filter(|entry| entry.file_name().to_string_lossy().starts_with("memcheck."));
        let found: String = logs.filter_map(|entry| std::fs::read_to_string(entry.path()).ok()).collect();
        if !found.is_empty() {
            eprintln!("--- memcheck\n{found}");
            assert!(std::thread::panicking(), "memcheck has found something");
        }
        if std::thread::panicking() && self.site.port.is_some() {
            eprintln!("--- error.log\n{}", self.error_log());
        }
    }
}

/// Whether a process that is no child of ours is gone, or only waits for its parent to notice.
fn is_gone(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_none_or(|rest| rest.is_empty() || rest.starts_with(" Z"))
}

fn children_of(pid: i32) -> Vec<i32> {
    let path = Path::new("/proc").join(format!("{pid}/task/{pid}/children"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

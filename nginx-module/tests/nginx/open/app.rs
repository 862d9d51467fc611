//! An application with which things stay open: WebSockets, server-sent events, downloads, uploads,
//! requests that it does not answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tungstenite::{Error, Message};

/// Between two things that the application does by itself.
const TICK: Duration = Duration::from_millis(20);

pub(crate) struct OpenApp {
    pub(crate) address: SocketAddr,
    /// Connections that it has.
    pub(crate) open: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl OpenApp {
    pub(crate) fn start() -> OpenApp {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (open, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (opens, stops) = (open.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stops.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(stream) = stream else { continue };
                let (open, stop) = (opens.clone(), stops.clone());
                open.fetch_add(1, Ordering::Relaxed);
                std::thread::spawn(move || {
                    // That its peer goes away is how all of it ends.
                    let _ = serve(stream, &stop);
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        OpenApp { address, open, stop, thread: Some(thread) }
    }
}

impl Drop for OpenApp {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(stream: TcpStream, stop: &AtomicBool) -> std::io::Result<()> {
    let mut line = [0; 64];
    // The whole head comes at once: nginx sends it so.
    let length = stream.peek(&mut line)?;
    let line = String::from_utf8_lossy(&line[..length]).into_owned();
    let path = line.split(' ').nth(1).unwrap_or("/");
    if path.starts_with("/ws") {
        web_socket(stream, path, stop);
        return Ok(());
    }
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let mut stream = stream;
    if path.starts_with("/events") {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")?;
        while !stop.load(Ordering::Relaxed) {
            stream.write_all(b"data: tick\n\n")?;
            std::thread::sleep(TICK);
        }
    } else if path.starts_with("/download") {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\nConnection: close\r\n\r\n")?;
        while !stop.load(Ordering::Relaxed) {
            stream.write_all(&[b'x'; 1000])?;
            std::thread::sleep(TICK);
        }
    } else if path.starts_with("/upload") {
        // Not before all of it is there, which may be never.
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
        let came = std::io::copy(&mut reader.take(length.unwrap_or(u64::MAX)), &mut std::io::sink())?;
        if length == Some(came) {
            let body = format!("{came} bytes");
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes())?;
        }
    } else if path.starts_with("/late") {
        std::thread::sleep(Duration::from_millis(1500));
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nlate")?;
    } else {
        // Never answered: until the other side goes away. By HTTP/3 a body may come that has nothing in it.
        std::io::copy(&mut reader, &mut std::io::sink())?;
    }
    Ok(())
}

/// Echoes; with `push` in its path says something by itself, with `ping` pings.
fn web_socket(stream: TcpStream, path: &str, stop: &AtomicBool) {
    let Ok(mut socket) = tungstenite::accept(stream) else { return };
    socket.get_ref().set_read_timeout(Some(TICK)).unwrap();
    while !stop.load(Ordering::Relaxed) {
        let result = match socket.read() {
            Ok(message) if message.is_text() || message.is_binary() => socket.send(message),
            Ok(_) => Ok(()),
            Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                if path.contains("push") {
                    socket.send(Message::text("tick"))
                } else if path.contains("ping") {
                    socket.send(Message::Ping(Default::default()))
                } else {
                    Ok(())
                }
            }
            Err(error) => Err(error),
        };
        if result.is_err() {
            return;
        }
    }
}

//! An application that speaks FastCGI, as PHP's does: issues the cookie that the query names.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const END_REQUEST: u8 = 3;

pub(crate) struct FastCgi {
    pub(crate) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FastCgi {
    pub(crate) fn start() -> FastCgi {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stops = stop.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stops.load(Ordering::Relaxed) {
                    break;
                }
                let _ = serve(stream);
            }
        });
        FastCgi { address, stop, thread: Some(thread) }
    }
}

impl Drop for FastCgi {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut params = Vec::new();
    loop {
        let mut head = [0; 8];
        stream.read_exact(&mut head)?;
        let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
        let mut body = vec![0; length + usize::from(head[6])];
        stream.read_exact(&mut body)?;
        match head[1] {
            PARAMS => params.extend_from_slice(&body[..length]),
            STDIN if length == 0 => break,
            _ => {}
        }
    }
    let params = pairs(&params);
    let param = |name: &str| params.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value.as_str());
    let cookie =
        param("QUERY_STRING").strip_prefix("sid=").map_or(String::new(), |id| format!("Set-Cookie: sid={id}\r\n"));
    let text = format!("Status: 200 OK\r\n{cookie}Content-Type: text/plain\r\n\r\nfastcgi {}", param("SCRIPT_NAME"));
    stream.write_all(
        &[&record(STDOUT, text.as_bytes())[..], &record(STDOUT, b""), &record(END_REQUEST, &[0; 8])].concat(),
    )
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let [high, low] = (body.len() as u16).to_be_bytes();
    [&[1, kind, 0, 1, high, low, 0, 0], body].concat()
}

/// Names and values, each with its length before it, in one byte or in four.
fn pairs(mut text: &[u8]) -> Vec<(String, String)> {
    fn take<'a>(text: &mut &'a [u8], length: usize) -> &'a [u8] {
        let (taken, rest) = text.split_at(length);
        *text = rest;
        taken
    }
    fn length(text: &mut &[u8]) -> usize {
        let first = take(text, 1)[0];
        if first < 128 {
            return first.into();
        }
        let rest = take(text, 3);
        u32::from_be_bytes([first & 0x7f, rest[0], rest[1], rest[2]]) as usize
    }
    let mut pairs = Vec::new();
    while !text.is_empty() {
        let (name, value) = (length(&mut text), length(&mut text));
        let name = String::from_utf8_lossy(take(&mut text, name)).into_owned();
        pairs.push((name, String::from_utf8_lossy(take(&mut text, value)).into_owned()));
    }
    pairs
}

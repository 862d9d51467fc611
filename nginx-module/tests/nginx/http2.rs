//! As much of HTTP/2 as it takes to have several requests on one connection at once.

use std::collections::BTreeMap;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;

use crate::harness::Nginx;

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

pub(crate) struct Http2 {
    stream: BufReader<TcpStream>,
    next: u32,
    statuses: BTreeMap<u32, u16>,
}

impl Http2 {
    pub(crate) fn connect(nginx: &Nginx) -> Http2 {
        let stream = TcpStream::connect(nginx.site.address()).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
        let mut connection = Http2 { stream: BufReader::new(stream), next: 1, statuses: BTreeMap::new() };
        connection.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        connection.write(&frame(SETTINGS, 0, 0, b""));
        connection
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Sends a request and says which stream it has.
    pub(crate) fn send(&mut self, path: &str, id: &str) -> u32 {
        let number = self.next;
        self.next += 2;
        let cookie = format!("sid={id}");
        let mut block = Vec::new();
        let fields =
            [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "x"), ("cookie", &cookie)];
        for (name, value) in fields {
            // A literal that is not kept, its name spelled out, without Huffman's code.
            block.push(0);
            for text in [name, value] {
                block.push(text.len() as u8);
                block.extend_from_slice(text.as_bytes());
            }
        }
        self.write(&frame(HEADERS, END_STREAM | END_HEADERS, number, &block));
        number
    }

    /// The status of a stream's response; others may come before it.
    pub(crate) fn status(&mut self, number: u32) -> u16 {
        while !self.statuses.contains_key(&number) {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let of = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).unwrap();
            match head[3] {
                HEADERS => _ = self.statuses.insert(of, status(&body)),
                SETTINGS if head[4] == 0 => self.write(&frame(SETTINGS, 1, 0, b"")),
                _ => {}
            }
        }
        self.statuses[&number]
    }
}

fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), body].concat()
}

/// `:status`, which comes first: from the static table, or spelled out under a name from there.
fn status(block: &[u8]) -> u16 {
    // The size of the dynamic table may be set before it.
    let block = &block[block.iter().position(|byte| byte & 0xe0 != 0x20).unwrap()..];
    match block[0] {
        indexed @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        _ => std::str::from_utf8(&block[2..5]).unwrap().parse().unwrap(),
    }
}

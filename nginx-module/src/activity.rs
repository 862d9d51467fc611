//! What counts as activity while a request goes on: what the client sends, and where the configuration says
//! so, what is sent to it.
//!
//! The body of a request comes by a filter for request bodies, a response by one for bodies. The bytes of an
//! upgraded connection pass no filter; they are seen where nginx receives them. The first half second of a
//! request does not count beside the request itself, so those that are short pay nothing.

use nginx_sys::{
    ngx_chain_t, ngx_connection_t, ngx_http_output_body_filter_pt, ngx_http_request_body_filter_pt, ngx_http_request_t,
    ngx_int_t, ngx_recv_pt, ngx_uint_t,
};

use crate::clock;
use crate::conf::choice;
use crate::frames::Frames;
use crate::nginx::{ERROR, Request, fence, in_pool};
use crate::record::{self, Record};
use crate::streams::{Stream, nginx_millis};

/// The filters after these. Set once, while a configuration is read.
pub(crate) static mut NEXT_IN: ngx_http_request_body_filter_pt = None;
pub(crate) static mut NEXT_OUT: ngx_http_output_body_filter_pt = None;

/// A connection that was upgraded: how nginx received before, and where its frames are.
#[derive(Clone, Copy)]
pub(crate) struct Upgraded {
    is_websocket: bool,
    client: (ngx_recv_pt, Frames),
    upstream: (ngx_recv_pt, Frames),
}

/// Counts as activity what has come or gone by just now.
fn count(request: Request<'_>, record: &mut Record) {
    let now = nginx_millis();
    if record.stream.counted == now {
        return;
    }
    record.stream.counted = now;
    let Some(table) = record.stream.zone().and_then(|zone| zone.table(request.log())) else { return };
    if let Some(watch) = &mut record.stream.watch {
        // That it may be over by now, the timer finds.
        table.touch_watched(watch, clock::now(&table));
    }
}

/// The record of a request whose bytes count, if they do.
fn counting<'r>(request: Request<'r>, from: ngx_uint_t) -> Option<&'r mut Record> {
    let record = record::find(request)?;
    let stream = &record.stream;
    (stream.watch.is_some() && stream.counts >= from && stream.short_for() == 0).then_some(record)
}

/// The filter for what comes of a request's body.
pub(crate) unsafe extern "C" fn body_comes(raw: *mut ngx_http_request_t, chain: *mut ngx_chain_t) -> ngx_int_t {
    // SAFETY: nginx calls this with a live request, and with buffers that are whole.
    unsafe {
        let request = Request::new(raw);
        fence(request.log(), (), || {
            if request.is_main()
                && has_bytes(chain)
                && let Some(record) = counting(request, choice::CLIENT)
            {
                count(request, record);
            }
        });
        NEXT_IN.map_or(ERROR, |next| next(raw, chain))
    }
}

unsafe fn has_bytes(mut chain: *mut ngx_chain_t) -> bool {
    // SAFETY: the links of a chain have buffers.
    unsafe {
        while let Some(link) = chain.as_ref() {
            if (*link.buf).last > (*link.buf).pos {
                return true;
            }
            chain = link.next;
        }
    }
    false
}

/// The filter for what goes to the client, where that counts.
pub(crate) unsafe extern "C" fn body_goes(raw: *mut ngx_http_request_t, chain: *mut ngx_chain_t) -> ngx_int_t {
    // SAFETY: nginx calls this with a live request, which it does not end while it sends.
    unsafe {
        let request = Request::new((*raw).main);
        let answer = NEXT_OUT.map_or(ERROR, |next| next(raw, chain));
        fence(request.log(), (), || {
            let Some(record) = counting(request, choice::BOTH) else { return };
            let sent = (*(*request.raw()).connection).sent;
            if record.stream.sent != sent {
                record.stream.sent = sent;
                count(request, record);
            }
        });
        answer
    }
}

/// The connection of a request turns into something else than HTTP: from here on what counts is seen
/// where nginx receives it. `None` when nginx is out of memory.
pub(crate) fn upgrade(request: Request<'_>, record: &mut Record) -> Option<()> {
    let stream = &mut record.stream;
    if stream.watch.is_none() || stream.counts == choice::OFF || !stream.upgraded.is_null() {
        return Some(());
    }
    // SAFETY: the request is live; an upstream that has a connection has buffers.
    unsafe {
        let raw = &mut *request.raw();
        let (client, Some(upstream)) = (&mut *raw.connection, raw.upstream.as_mut()) else { return Some(()) };
        // A response that says so from a cache, or from a service that is spoken to otherwise, is no upgrade.
        let (true, Some(peer)) = (upstream.upgrade() != 0, upstream.peer.connection.as_mut()) else { return Some(()) };
        let is_websocket = request.header(b"upgrade").is_some_and(|to| to.eq_ignore_ascii_case(b"websocket"));
        let mut upgraded =
            Upgraded { is_websocket, client: (client.recv, Frames::NEW), upstream: (peer.recv, Frames::NEW) };
        // What came early was received before.
        upgraded.client.1.feed(between((*raw.header_in).pos, (*raw.header_in).last));
        upgraded.upstream.1.feed(between(upstream.buffer.pos, upstream.buffer.last));
        stream.upgraded = in_pool(request.pool(), upgraded)?;
        client.recv = Some(receive);
        if stream.counts == choice::BOTH {
            peer.recv = Some(receive);
        }
    }
    Some(())
}

/// # Safety
/// From `start` to `end` there must be bytes, for `'a`.
unsafe fn between<'a>(start: *const u8, end: *const u8) -> &'a [u8] {
    if start.is_null() || end <= start {
        return &[];
    }
    // SAFETY: by this function's contract.
    unsafe { std::slice::from_raw_parts(start, end.offset_from_unsigned(start)) }
}

/// Receives as nginx did before, and looks at what has come.
unsafe extern "C" fn receive(connection: *mut ngx_connection_t, to: *mut u8, size: usize) -> isize {
    // SAFETY: this was put on the two connections of an upgraded request, which have it as their `data`
    // as long as they receive for it. nginx passes room for `size` bytes.
    unsafe {
        let request = Request::new((*connection).data.cast());
        let is_client = (*request.raw()).connection == connection;
        let Some(upgraded) = record::find(request).and_then(|record| record.stream.upgraded.as_mut()) else {
            return ERROR;
        };
        let (before, frames) = if is_client { &mut upgraded.client } else { &mut upgraded.upstream };
        let came = before.map_or(ERROR, |receive| receive(connection, to, size));
        fence(request.log(), (), || {
            let bytes = between(to, to.add(usize::try_from(came).unwrap_or(0)));
            let is_use = !bytes.is_empty() && (!upgraded.is_websocket || frames.feed(bytes));
            let from = if is_client { choice::CLIENT } else { choice::BOTH };
            if let (true, Some(record)) = (is_use, counting(request, from)) {
                count(request, record);
            }
        });
        came
    }
}

/// The connection of a request that goes is nginx's own again.
pub(crate) fn receive_as_before(connection: &mut ngx_connection_t, stream: &Stream) {
    let is_ours = connection.recv.is_some_and(|now| now as usize == receive as *const () as usize);
    // SAFETY: what was upgraded lies in the request's pool, which is there still.
    if let (Some(upgraded), true) = (unsafe { stream.upgraded.as_ref() }, is_ours) {
        connection.recv = upgraded.client.0;
    }
}

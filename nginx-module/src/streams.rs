//! What is open: requests that were let through and go on, and must end when their session does.
//!
//! Each stands in a list of its worker from the access phase until its pool goes, so one that finishes
//! by itself costs a few stores. The worker's timer looks at [`Table::changes`] first, and asks about
//! each session in the list only if that has moved, or the nearest deadline has come; a piece at a
//! time. What is over is cut: its connection is marked as nginx itself marks connections that it ends
//! while it shuts down (`worker_shutdown_timeout`), and nginx terminates the request at the end of the
//! same turn of its loop. Of an HTTP/2 or HTTP/3 connection that is the one stream.
//!
//! What a client sends meanwhile counts as activity: the body of a request in a filter for request
//! bodies; an upgraded connection, whose bytes pass no filter, where nginx receives them. The first
//! half second of a request does not count beside the request itself, so those that are short pay nothing.

use std::cell::Cell;
use std::ptr::{addr_of_mut, null_mut};
use std::sync::atomic::Ordering;

use curfew_engine::{Cause, End, Table, Tick, Verdict, Watch};
use nginx_sys::{
    NGX_LOG_INFO, ngx_chain_t, ngx_connection_t, ngx_current_msec, ngx_http_output_body_filter_pt,
    ngx_http_request_body_filter_pt, ngx_http_request_t, ngx_int_t, ngx_log_t, ngx_msec_t, ngx_posted_events,
    ngx_recv_pt, ngx_uint_t,
};
use ngx::ngx_log_error;

use crate::clock;
use crate::conf::{self, LocConf, MainConf, choice};
use crate::frames::Frames;
use crate::nginx::{ERROR, Request, fence, in_pool};
use crate::record::{self, Record};
use crate::status::Status;
use crate::zone::Zone;

/// Between two looks at whether anything has changed.
const LOOK: ngx_msec_t = 200;
/// Sessions that are asked about in one turn: well below a millisecond.
const PIECE: usize = 1024;
/// Between turns while there are more of them.
const BUSY: ngx_msec_t = 1;
/// All are asked about this often whatever the number of changes says: a process that is killed while it
/// ends a session may leave the end without its event until somebody else comes by.
const AT_LEAST: ngx_msec_t = 5000;
/// From when on the bytes of a request count beside the request itself.
const AFTER: ngx_msec_t = 500;

/// The filters after these. Set once, while a configuration is read.
pub(crate) static mut NEXT_IN: ngx_http_request_body_filter_pt = None;
pub(crate) static mut NEXT_OUT: ngx_http_output_body_filter_pt = None;

/// A place in the list of what is open. It is part of the request's record, and so does not move.
pub(crate) struct Stream {
    previous: *mut Stream,
    next: *mut Stream,
    request: *mut ngx_http_request_t,
    /// `None` when it is not in the list.
    watch: Option<Watch>,
    /// One of `curfew_stream_activity`.
    counts: ngx_uint_t,
    /// By nginx's clock.
    since: ngx_msec_t,
    counted: ngx_msec_t,
    sent: i64,
    upgraded: *mut Upgraded,
}

impl Stream {
    pub(crate) const NEW: Stream = Stream {
        previous: null_mut(),
        next: null_mut(),
        request: null_mut(),
        watch: None,
        counts: choice::OFF,
        since: 0,
        counted: 0,
        sent: 0,
        upgraded: null_mut(),
    };
}

/// A connection that was upgraded: how nginx received before, and where its frames are.
#[derive(Clone, Copy)]
struct Upgraded {
    is_websocket: bool,
    client: (ngx_recv_pt, Frames),
    upstream: (ngx_recv_pt, Frames),
}

/// What is open in this process, in the order in which it was last asked about.
struct Open {
    first: Cell<*mut Stream>,
    last: Cell<*mut Stream>,
    count: Cell<usize>,
    /// How many from the first on are still to be asked about in this round.
    to_ask: Cell<usize>,
    /// No session ends before that by a deadline that this process was told of.
    nearest: Cell<ngx_msec_t>,
    last_round: Cell<ngx_msec_t>,
}

thread_local!(static OPEN: Open = const {
    Open {
        first: Cell::new(null_mut()),
        last: Cell::new(null_mut()),
        count: Cell::new(0),
        to_ask: Cell::new(0),
        nearest: Cell::new(ngx_msec_t::MAX),
        last_round: Cell::new(0),
    }
});

fn nginx_millis() -> ngx_msec_t {
    // SAFETY: a number that nginx sets on this thread.
    unsafe { ngx_current_msec }
}

impl Open {
    /// # Safety
    /// `stream` must be in no list, and stay where it is until it is removed.
    unsafe fn push(&self, stream: *mut Stream) {
        // SAFETY: what is in the list is there until it is removed; one thread has the list.
        unsafe {
            (*stream).previous = self.last.get();
            (*stream).next = null_mut();
            match self.last.get().as_mut() {
                Some(last) => last.next = stream,
                None => self.first.set(stream),
            }
        }
        self.last.set(stream);
        self.count.set(self.count.get() + 1);
    }

    /// # Safety
    /// `stream` must be in this list.
    unsafe fn remove(&self, stream: *mut Stream) {
        // SAFETY: as above.
        unsafe {
            let (previous, next) = ((*stream).previous, (*stream).next);
            match previous.as_mut() {
                Some(previous) => previous.next = next,
                None => self.first.set(next),
            }
            match next.as_mut() {
                Some(next) => next.previous = previous,
                None => self.last.set(previous),
            }
        }
        self.count.set(self.count.get() - 1);
    }

    /// The session of something may end in so many milliseconds.
    fn note_end(&self, left: u64) {
        let at = nginx_millis().saturating_add(left as ngx_msec_t);
        self.nearest.set(self.nearest.get().min(at));
    }
}

/// From here on the request ends with its session, if its location says so and it has one.
pub(crate) fn follow(request: Request<'_>, conf: &LocConf, record: &mut Record) {
    forget(&mut record.stream);
    let has_session = record.status.is_some_and(Status::is_alive) && !record.ended;
    let (true, Some(key), Some(left)) =
        (conf.is_guarded() && conf.has_streams() && has_session, record.key, record.left)
    else {
        return;
    };
    let token_left = record.token.map_or(u64::MAX, |token| token.since(record.arrived).as_millis());
    let stream = &mut record.stream;
    stream.request = request.raw();
    stream.watch = Some(Watch::new(key, record.presented));
    stream.counts = if record.is_activity { conf.stream_activity } else { choice::OFF };
    (stream.since, stream.counted) = (nginx_millis(), nginx_millis());
    OPEN.with(|open| {
        // SAFETY: it was forgotten above; the record stays where it is, and is forgotten before it goes.
        unsafe { open.push(stream) };
        open.note_end(left.end.as_millis().min(token_left));
    });
}

/// The request does not end with its session any more.
pub(crate) fn forget(stream: &mut Stream) {
    if stream.watch.take().is_some() {
        // SAFETY: what has a watch is in the list.
        OPEN.with(|open| unsafe { open.remove(stream) });
    }
}

/// A turn of the timer: says how long until the next one at the most.
pub(crate) fn turn(main: &MainConf, log: *mut ngx_log_t) -> ngx_msec_t {
    OPEN.with(|open| {
        if open.count.get() == 0 {
            return ngx_msec_t::MAX;
        }
        let now = nginx_millis();
        let is_overdue = now >= open.nearest.get() || now.wrapping_sub(open.last_round.get()) >= AT_LEAST;
        // Read before any of them is asked about, so that nothing that comes after is missed.
        let has_changed = main.zones.iter().filter(|zone| has_changed(zone, log)).count() > 0;
        if is_overdue || has_changed {
            open.to_ask.set(open.count.get());
            open.nearest.set(ngx_msec_t::MAX);
            open.last_round.set(now);
        }
        for _ in 0..PIECE {
            let stream = open.first.get();
            if stream.is_null() || open.to_ask.get() == 0 {
                open.to_ask.set(0);
                return open.nearest.get().saturating_sub(now).clamp(BUSY, LOOK);
            }
            open.to_ask.set(open.to_ask.get() - 1);
            // SAFETY: what is in the list lives, its request with it; it goes to the end of the list, or out
            // of it.
            unsafe {
                open.remove(stream);
                open.push(stream);
                ask(open, Request::new((*stream).request));
            }
        }
        BUSY
    })
}

fn has_changed(zone: &Zone, log: *mut ngx_log_t) -> bool {
    let changes = zone.table(log).map(|table| table.changes());
    zone.changes.replace(changes) != changes || changes.is_none()
}

/// Asks about one session, and cuts what is open of it if it is over.
fn ask(open: &Open, request: Request<'_>) {
    let Some(record) = record::find(request) else { return };
    let (Some(zone), Some(watch)) = (record.zone(), &mut record.stream.watch) else { return };
    let Some(table) = zone.table(request.log()) else {
        // SAFETY: the request is live.
        if unsafe { conf::of_request(request.raw()) }.on_error == choice::DENY {
            cut(request, record, Status::Error, None);
        }
        return;
    };
    let now = clock::now(&table);
    let token_left = record.token.map_or(u64::MAX, |token| token.since(now).as_millis());
    let status = match table.peek_watched(watch, now) {
        _ if token_left == 0 => Status::Ended(Cause::Token),
        Verdict::Active(left) | Verdict::Grace(left) => {
            open.note_end(left.end.as_millis().min(token_left));
            return;
        }
        // It has not ended: another request would be refused, and this one was not.
        Verdict::Mismatch(_) => return,
        Verdict::Ended(End { cause, .. }) => Status::Ended(cause),
        Verdict::Unknown => Status::Unknown,
    };
    cut(request, record, status, Some((&table, now)));
}

/// Ends a request whose session is over; under `curfew_dry_run` only says so.
fn cut(request: Request<'_>, record: &mut Record, status: Status, table: Option<(&Table, Tick)>) {
    let watch = record.stream.watch;
    forget(&mut record.stream);
    // SAFETY: a live request has a connection, and that an event for reading.
    let connection = unsafe { &mut *(*request.raw()).connection };
    let sent = u64::try_from(connection.sent).unwrap_or(0);
    record.cut = Some((status, sent));
    let name = record.name_of(status);
    if let Some(key) = watch.map(|watch| watch.key()) {
        ngx_log_error!(
            NGX_LOG_INFO,
            request.log(),
            "curfew: ended while open, {}, session {}, {} bytes sent",
            name,
            key,
            sent
        );
    }
    if record.dry_run {
        return;
    }
    record.status = Some(status);
    record.left = None;
    if let Some(counters) = record.zone().and_then(Zone::counters) {
        counters.cut.fetch_add(1, Ordering::Relaxed);
    }
    if let (Some((table, now)), Some(watch)) = (table, watch) {
        let cause = if let Status::Ended(cause) = status { cause } else { Cause::Evicted };
        table.report_cut(&watch, cause, sent, now);
    }
    connection.set_close(1);
    connection.set_error(1);
    // SAFETY: the event lives with its connection. What is posted is taken out of the queue by nginx when
    // the connection is closed.
    unsafe {
        let event = &mut *connection.read;
        if event.posted() == 0 {
            event.set_posted(1);
            let queue = addr_of_mut!(ngx_posted_events);
            event.queue.prev = (*queue).prev;
            (*event.queue.prev).next = &raw mut event.queue;
            event.queue.next = queue;
            (*queue).prev = &raw mut event.queue;
        }
    }
}

/// Counts as activity what has come or gone by just now.
fn count(request: Request<'_>, record: &mut Record) {
    let now = nginx_millis();
    if record.stream.counted == now {
        return;
    }
    record.stream.counted = now;
    let Some(table) = record.zone().and_then(|zone| zone.table(request.log())) else { return };
    if let Some(watch) = &mut record.stream.watch {
        // That it may be over by now, the timer finds.
        table.touch_watched(watch, clock::now(&table));
    }
}

/// The record of a request whose bytes count, if they do.
fn counting<'r>(request: Request<'r>, from: ngx_uint_t) -> Option<&'r mut Record> {
    let record = record::find(request)?;
    let stream = &record.stream;
    let is_old = nginx_millis().wrapping_sub(stream.since) >= AFTER;
    (stream.watch.is_some() && stream.counts >= from && (is_old || !stream.upgraded.is_null())).then_some(record)
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
    // SAFETY: the request is live; its upstream has answered, so that there is a connection to it, and
    // buffers.
    unsafe {
        let raw = &mut *request.raw();
        let (client, Some(upstream)) = (&mut *raw.connection, raw.upstream.as_mut()) else { return Some(()) };
        let peer = &mut *upstream.peer.connection.as_mut()?;
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

/// The request goes, and its memory with it.
pub(crate) fn leave(stream: &mut Stream) {
    forget(stream);
    // SAFETY: the memory of a request lives until its pool is gone, and the connection longer.
    unsafe {
        if let (Some(upgraded), Some(request)) = (stream.upgraded.as_ref(), stream.request.as_ref())
            && let Some(connection) = request.connection.as_mut()
        {
            connection.recv = upgraded.client.0;
        }
    }
}

//! What is open: requests that were let through and go on, and must end when their session does.
//!
//! Each stands in a list of its worker from the access phase until its pool goes, so one that finishes by
//! itself costs a few stores. The worker's timer looks at what has changed first
//! ([`Table::changed_since`]), and goes through the list only if something has, or the nearest deadline has
//! come; a piece at a time. It asks about those whose deadline has come, and those whose keys the region's
//! events name; about all, if a policy has changed or events were missed.
//!
//! What is over is cut: its connection is marked as nginx itself marks connections that it ends while it
//! shuts down (`worker_shutdown_timeout`), and nginx terminates the request at the end of the same turn of
//! its loop. Of an HTTP/2 or HTTP/3 connection that is the one stream. In its first half second a request is
//! left to finish by itself. What counts as activity while it goes on is in `activity`.

use std::cell::{Cell, RefCell};
use std::ptr::{addr_of_mut, null_mut};
use std::sync::atomic::Ordering;

use curfew_engine::{Cause, Changed, End, Key, Table, Tick, Verdict, Watch};
use nginx_sys::{
    NGX_LOG_INFO, ngx_connection_t, ngx_current_msec, ngx_event_t, ngx_http_request_t, ngx_log_t, ngx_msec_t,
    ngx_posted_events, ngx_uint_t,
};
use ngx::ngx_log_error;

use crate::activity::{self, Upgraded};
use crate::clock;
use crate::conf::{self, LocConf, MainConf, choice};
use crate::nginx::Request;
use crate::record::{self, Record};
use crate::status::Status;
use crate::zone::Zone;

/// Between two rounds at the least.
const LOOK: ngx_msec_t = 200;
/// Places in the list that are looked at in one turn, and sessions that are asked about: each well below a
/// millisecond.
const PIECE: usize = 8192;
const MOST_ASKED: usize = 512;
/// More changes than these are not told apart.
const MOST_CHANGES: usize = 1024;
/// Between turns while a round goes on.
const BUSY: ngx_msec_t = 1;
/// All are asked about this often whatever the number of changes says: a process that is killed while it
/// ends a session may leave the end without its event until somebody else comes by.
const AT_LEAST: ngx_msec_t = 10_000;
/// Until then a request is a short one: its bytes do not count beside the request itself, and it is left to
/// finish by itself when its session ends.
const SHORT: ngx_msec_t = 500;

/// What is known of something that is open. It is part of the request's record, and so does not move.
pub(crate) struct Stream {
    /// In the list of what is fresh.
    previous: *mut Stream,
    next: *mut Stream,
    /// In the table of the rest, if it is there.
    place: Option<usize>,
    request: *mut ngx_http_request_t,
    /// `None` when it is in neither.
    pub(crate) watch: Option<Watch>,
    /// Where, and with which token, it was let through; the record may have come to speak of another zone.
    zone: *const Zone,
    token: Option<Tick>,
    /// One of `curfew_stream_activity`.
    pub(crate) counts: ngx_uint_t,
    /// By nginx's clock.
    since: ngx_msec_t,
    /// When something counted last, by the same; and what had been sent by then.
    pub(crate) counted: ngx_msec_t,
    pub(crate) sent: i64,
    pub(crate) upgraded: *mut Upgraded,
}

impl Stream {
    pub(crate) const NEW: Stream = Stream {
        previous: null_mut(),
        next: null_mut(),
        place: None,
        request: null_mut(),
        watch: None,
        zone: std::ptr::null(),
        token: None,
        counts: choice::OFF,
        since: 0,
        counted: 0,
        sent: 0,
        upgraded: null_mut(),
    };

    pub(crate) fn zone<'r>(&self) -> Option<&'r Zone> {
        // SAFETY: the zones of a request's configuration outlive it, and nobody keeps them beyond a
        // callback.
        unsafe { self.zone.as_ref() }
    }

    /// For how many milliseconds the request is still a short one.
    pub(crate) fn short_for(&self) -> ngx_msec_t {
        if !self.upgraded.is_null() {
            return 0;
        }
        SHORT.saturating_sub(nginx_millis().wrapping_sub(self.since))
    }
}

/// The beginning of nginx's own (`ngx_http_v2_stream_s`), the same in 1.9.5 to 1.30. An nginx without HTTP/2 has
/// no such thing, and its requests point to none.
#[repr(C)]
struct Http2Stream {
    request: *mut ngx_http_request_t,
    connection: *mut Http2Connection,
}

#[repr(C)]
struct Http2Connection {
    connection: *mut ngx_connection_t,
}

/// What a round looks at of something that is open: together, because the records of requests lie far
/// apart, and most of them need not be looked at.
struct Entry {
    key: Key,
    /// When the session ends if nothing happens, as far as this process was told, by nginx's clock.
    until: ngx_msec_t,
    stream: *mut Stream,
}

/// What is open in this process.
struct Open {
    /// Since the last turn. Most of it is gone by the next one, where what is still there is asked about
    /// for the first time: until then its key may be the old one of a session that has another.
    fresh: Cell<*mut Stream>,
    rest: RefCell<Vec<Entry>>,
    /// The round has come down to here; zero when it is over.
    at: Cell<usize>,
    /// The keys that have changed, in order; `None` if this round asks about all.
    changed: RefCell<Option<Vec<Key>>>,
    /// No session ends before that by a deadline that this process was told of.
    nearest: Cell<ngx_msec_t>,
    /// The last turn left some of what was fresh.
    has_backlog: Cell<bool>,
    last_turn: Cell<ngx_msec_t>,
    last_of_all: Cell<ngx_msec_t>,
}

thread_local!(static OPEN: Open = const {
    Open {
        fresh: Cell::new(null_mut()),
        rest: RefCell::new(Vec::new()),
        at: Cell::new(0),
        changed: RefCell::new(None),
        nearest: Cell::new(ngx_msec_t::MAX),
        has_backlog: Cell::new(false),
        last_turn: Cell::new(0),
        last_of_all: Cell::new(0),
    }
});

pub(crate) fn nginx_millis() -> ngx_msec_t {
    // SAFETY: a number that nginx sets on this thread.
    unsafe { ngx_current_msec }
}

impl Open {
    /// # Safety
    /// `stream` must be in neither the list nor the table, and stay where it is until it is removed.
    unsafe fn push(&self, stream: *mut Stream) {
        // SAFETY: what is in the list is there until it is removed; one thread has the list.
        unsafe {
            (*stream).previous = null_mut();
            (*stream).next = self.fresh.get();
            if let Some(next) = (*stream).next.as_mut() {
                next.previous = stream;
            }
        }
        self.fresh.set(stream);
    }

    /// # Safety
    /// `stream` must be in the list or in the table.
    unsafe fn remove(&self, stream: *mut Stream) {
        // SAFETY: as above; and so it is with the table.
        unsafe {
            if let Some(place) = (*stream).place.take() {
                let mut rest = self.rest.borrow_mut();
                rest.swap_remove(place);
                if let Some(moved) = rest.get(place) {
                    (*moved.stream).place = Some(place);
                }
                return;
            }
            let (previous, next) = ((*stream).previous, (*stream).next);
            match previous.as_mut() {
                Some(previous) => previous.next = next,
                None => self.fresh.set(next),
            }
            if let Some(next) = next.as_mut() {
                next.previous = previous;
            }
        }
    }

    /// Takes something out of the list and into the table. Before the round comes there it is not looked
    /// at: it has been asked about just now, or is about to be.
    ///
    /// # Safety
    /// `stream` must be in the list.
    unsafe fn settle(&self, stream: *mut Stream) -> usize {
        // SAFETY: by this function's contract.
        unsafe {
            self.remove(stream);
            let mut rest = self.rest.borrow_mut();
            rest.push(Entry { key: Key::from_bytes([0; 16]), until: 0, stream });
            (*stream).place = Some(rest.len() - 1);
            rest.len() - 1
        }
    }

    /// What has been told of something: the key that its session has now, and how many milliseconds it has
    /// if nothing happens.
    fn note(&self, stream: &Stream, left: u64) {
        let until = self.note_end(left);
        if let (Some(place), Some(watch)) = (stream.place, &stream.watch)
            && let Some(entry) = self.rest.borrow_mut().get_mut(place)
        {
            (entry.key, entry.until) = (watch.key(), until);
        }
    }

    fn note_end(&self, left: u64) -> ngx_msec_t {
        let until = nginx_millis().saturating_add(left as ngx_msec_t);
        self.nearest.set(self.nearest.get().min(until));
        until
    }

    /// Begins a round if there is a reason for one.
    fn begin_round(&self, main: &MainConf, log: *mut ngx_log_t, now: ngx_msec_t) {
        // Read before any of them is asked about, so that nothing that comes after is missed.
        let mut keys = Some(Vec::new());
        let changed = main.zones.iter().filter(|zone| has_changed(zone, log, &mut keys)).count() > 0;
        let is_overdue = now.wrapping_sub(self.last_of_all.get()) >= AT_LEAST;
        if !changed && !is_overdue && now < self.nearest.get() {
            return;
        }
        self.nearest.set(ngx_msec_t::MAX);
        self.at.set(self.rest.borrow().len());
        let mut keys = keys.filter(|_| !is_overdue);
        match &mut keys {
            Some(keys) => keys.sort_unstable(),
            None => self.last_of_all.set(now),
        }
        *self.changed.borrow_mut() = keys;
    }

    /// Asks about what is fresh, then goes on with the round; a piece of it. The round goes down the table:
    /// when something goes, the last one takes its place, and that has been come by.
    fn go_on(&self, now: ngx_msec_t) {
        let mut asked = 0;
        // SAFETY: what is in the list or the table lives, its request with it.
        unsafe {
            while !self.fresh.get().is_null() && asked < MOST_ASKED {
                asked += 1;
                let place = self.settle(self.fresh.get());
                self.ask_at(place);
            }
            self.has_backlog.set(!self.fresh.get().is_null());
            for _ in 0..PIECE {
                let Some(place) = self.at.get().min(self.rest.borrow().len()).checked_sub(1) else {
                    self.at.set(0);
                    break;
                };
                if asked == MOST_ASKED {
                    break;
                }
                self.at.set(place);
                if self.is_to_be_asked(place, now) {
                    asked += 1;
                    self.ask_at(place);
                }
            }
        }
    }

    fn is_to_be_asked(&self, place: usize, now: ngx_msec_t) -> bool {
        let entry = &self.rest.borrow()[place];
        let is_to_be_asked = match &*self.changed.borrow() {
            Some(keys) => entry.until <= now || keys.binary_search(&entry.key).is_ok(),
            None => true,
        };
        if !is_to_be_asked {
            self.nearest.set(self.nearest.get().min(entry.until));
        }
        is_to_be_asked
    }

    /// # Safety
    /// What is at that place must live, its request with it.
    unsafe fn ask_at(&self, place: usize) {
        let stream = self.rest.borrow()[place].stream;
        // SAFETY: by this function's contract.
        ask(self, unsafe { Request::new((*stream).request) });
    }
}

/// From here on the request ends with its session, if its location says so and it has one.
pub(crate) fn follow(request: Request<'_>, conf: &LocConf) {
    let Some(record) = record::find(request) else { return };
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
    (stream.zone, stream.token) = (record.zone, record.token);
    stream.counts = if record.is_activity { conf.stream_activity } else { choice::OFF };
    (stream.since, stream.counted) = (nginx_millis(), nginx_millis());
    OPEN.with(|open| {
        open.note_end(left.end().as_millis().min(token_left));
        // SAFETY: it was forgotten above; the record stays where it is, and is forgotten before it goes.
        unsafe { open.push(record::stream_of(request)) };
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
        if open.fresh.get().is_null() && open.rest.borrow().is_empty() {
            open.at.set(0);
            return LOOK;
        }
        let now = nginx_millis();
        let since = now.wrapping_sub(open.last_turn.get());
        let is_round = open.at.get() > 0;
        if !is_round && !open.has_backlog.get() && since < LOOK {
            return LOOK - since;
        }
        open.last_turn.set(now);
        if !is_round {
            open.begin_round(main, log, now);
        }
        open.go_on(now);
        if open.at.get() > 0 || open.has_backlog.get() { BUSY } else { LOOK }
    })
}

/// Whether anything has changed in a zone; `keys` gets what, or `None` if that cannot be told.
fn has_changed(zone: &Zone, log: *mut ngx_log_t, keys: &mut Option<Vec<Key>>) -> bool {
    let changed = match (zone.table(log), zone.seen.get()) {
        (Some(table), Some(mut seen)) => {
            let changed = table.changed_since(&mut seen, MOST_CHANGES);
            zone.seen.set(Some(seen));
            changed
        }
        (Some(table), None) => {
            zone.seen.set(Some(table.seen()));
            Changed::Anything
        }
        // That it cannot be used is a change; that it still cannot, is none.
        (None, Some(_)) => {
            zone.seen.set(None);
            Changed::Anything
        }
        (None, None) => Changed::Nothing,
    };
    match (changed, keys) {
        (Changed::Nothing, _) => return false,
        (Changed::Sessions(more), Some(keys)) => keys.extend(more),
        (_, keys) => *keys = None,
    }
    true
}

/// Asks about one session, and cuts what is open of it if it is over.
fn ask(open: &Open, request: Request<'_>) {
    let Some(record) = record::find(request) else { return };
    let stream = &mut record.stream;
    // SAFETY: the request is live.
    if unsafe { (*request.raw()).done() } != 0 {
        // All of the response is on its way; nginx waits for something else.
        return forget(stream);
    }
    let (Some(zone), token, Some(watch)) = (stream.zone(), stream.token, &mut stream.watch) else { return };
    let Some(table) = zone.table(request.log()) else {
        // SAFETY: the request is live.
        if unsafe { conf::of_request(request.raw()) }.on_error == choice::DENY {
            cut(request, record, Status::Error, None);
        } else {
            open.note(stream, AT_LEAST as u64);
        }
        return;
    };
    let now = clock::now(&table);
    let token_left = token.map_or(u64::MAX, |token| token.since(now).as_millis());
    let status = match table.peek_watched(watch, now) {
        _ if token_left == 0 => Status::Ended(Cause::Token),
        Verdict::Active(left) | Verdict::Grace(left) => {
            open.note(stream, left.end().as_millis().min(token_left));
            return;
        }
        // It has not ended: another request would be refused, and this one was not.
        Verdict::Mismatch(_) => {
            open.note(stream, AT_LEAST as u64);
            return;
        }
        Verdict::Ended(End { cause, .. }) => Status::Ended(cause),
        Verdict::Unknown => Status::Unknown,
    };
    if stream.short_for() > 0 {
        open.note(stream, stream.short_for() as u64);
        return;
    }
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
    if let Some(counters) = record.stream.zone().and_then(Zone::counters) {
        counters.cut.fetch_add(1, Ordering::Relaxed);
    }
    if let (Some((table, now)), Some(watch)) = (table, watch) {
        let cause = if let Status::Ended(cause) = status { cause } else { Cause::Evicted };
        table.report_cut(&watch, cause, sent, now);
    }
    connection.set_close(1);
    connection.set_error(1);
    // SAFETY: the events live with their connections. Those of a stream's come first, so that what resets it
    // is there when the connection of all its streams is to write; with nothing else to do it would not.
    unsafe {
        post(connection.read);
        if let Some(stream) = (*request.raw()).stream.cast::<Http2Stream>().as_ref() {
            post((*(*stream.connection).connection).write);
        }
    }
}

/// Has nginx handle an event at the end of this turn of its loop. What is posted nginx takes out of the queue
/// when its connection is closed.
///
/// # Safety
/// The event must be one of a live connection.
unsafe fn post(event: *mut ngx_event_t) {
    // SAFETY: by this function's contract; the queue is nginx's, on this thread.
    unsafe {
        let event = &mut *event;
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

/// The request goes, and its memory with it.
pub(crate) fn leave(stream: &mut Stream, was_cut: bool) {
    forget(stream);
    // SAFETY: the memory of a request lives until its pool is gone, and the connection longer.
    unsafe {
        let Some(request) = stream.request.as_ref() else { return };
        let Some(connection) = request.connection.as_mut() else { return };
        activity::receive_as_before(connection, stream);
        if was_cut && request.stream.is_null() {
            // By HTTP/3 that would say that nothing was done about the request, and that it may be sent again.
            connection.set_close(0);
        }
    }
}

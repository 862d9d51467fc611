//! Makes calls of the C ABI out of any bytes at all, and holds what every call must hold: no panic, a status that
//! exists, outputs written if and only if it is `CURFEW_OK`, and not a byte further than `struct_size` says.

use std::ffi::{CStr, c_char, c_void};
use std::path::Path;

use curfew::*;

/// Room for any output, at any size that a struct may claim to have, and a guard behind it.
const ROOM: usize = 4096 * 3 + 64;
const UNTOUCHED: u8 = 0xa5;
/// Tables open at once; more would only take longer.
const TABLES: usize = 6;

struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u64 {
        let scale = self.byte();
        let low = u64::from(self.byte());
        match scale % 8 {
            0 => 0,
            1 => low,
            2 => low * 100,
            3 => low * 60_000,
            4 => CURFEW_NEVER - low,
            5 => CURFEW_NEVER + low,
            6 => u64::MAX - low,
            _ => 1 << (low % 64),
        }
    }

    fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    /// A `now` near the others, most of the time.
    fn now(&mut self) -> u64 {
        if self.byte() < 250 { 10_000 + u64::from(self.byte()) * 40 } else { self.number() }
    }
}

/// An output of the caller's: it has a size, or a null pointer, and must stay as it was unless it was asked for.
struct Buffer {
    bytes: Box<[u64; ROOM / 8]>,
    before: Box<[u64; ROOM / 8]>,
    is_null: bool,
    /// Bytes that may be written.
    most: usize,
}

impl Buffer {
    fn new<T>(bytes: &mut Bytes<'_>, is_sized: bool, count: usize) -> Buffer {
        let filler = u64::from_ne_bytes([UNTOUCHED; 8]);
        let mut buffer = Buffer {
            bytes: Box::new([filler; ROOM / 8]),
            before: Box::new([filler; ROOM / 8]),
            is_null: bytes.byte() >= 250,
            most: size_of::<T>(),
        };
        if is_sized {
            let odd = [0, 1, size_of::<T>() - 1, 4096, 4097, usize::MAX, size_of::<T>() + 8];
            let size = if bytes.byte() < 225 { size_of::<T>() } else { bytes.choose(&odd) };
            buffer.bytes[0] = size as u64;
            buffer.before[0] = size as u64;
            buffer.most = if size <= 4096 { size * count.min(3) } else { 0 };
        }
        buffer
    }

    /// What is read as well as written, behind the size.
    fn fill(&mut self, words: &[u64]) {
        self.bytes[1..=words.len()].copy_from_slice(words);
        self.before[1..=words.len()].copy_from_slice(words);
        // A later version's part, in which nothing is asked for.
        for at in 1 + words.len()..self.most / 8 {
            (self.bytes[at], self.before[at]) = (0, 0);
        }
    }

    fn pointer<T>(&mut self) -> *mut T {
        if self.is_null { std::ptr::null_mut() } else { self.bytes.as_mut_ptr().cast() }
    }

    fn get<T: Copy>(&self) -> T {
        assert!(size_of::<T>() <= ROOM);
        // SAFETY: inside the buffer; the tests read numbers and structs of numbers.
        unsafe { self.bytes.as_ptr().cast::<T>().read() }
    }

    fn held(&self, status: curfew_status, what: &str) {
        let bytes = |words: &[u64; ROOM / 8]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
        let (now, before) = (bytes(&self.bytes), bytes(&self.before));
        assert_eq!(now[self.most..], before[self.most..], "{what} wrote too far");
        if status != curfew_status::CURFEW_OK {
            assert_eq!(now, before, "{what} answered {status:?} and wrote");
        }
    }
}

struct World<'a> {
    tables: Vec<curfew_table>,
    closed: Vec<curfew_table>,
    directory: &'a Path,
    /// What two of the tables' memory is lent from.
    lent: Vec<Box<[Line]>>,
}

#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line(#[allow(dead_code)] [u64; 8]);

const IDS: [&[u8]; 6] = [b"a", b"b", b"c", b"", b"a longer id than the others", b"\0\xff"];

fn key(bytes: &mut Bytes<'_>, table: curfew_table) -> curfew_key {
    let id = bytes.choose(&IDS);
    let mut key = curfew_key { bytes: [bytes.byte(); 16] };
    // SAFETY: the id is there, and the key can be written.
    let _ = unsafe { curfew_derive_key(table, id.as_ptr(), id.len(), &mut key) };
    key
}

fn half(key: &curfew_key, from: usize) -> u64 {
    key.bytes[from..from + 8].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Runs calls until the bytes are used up.
pub(crate) fn drive(data: &[u8], directory: &Path) {
    let mut bytes = Bytes(data);
    let mut world = World { tables: Vec::new(), closed: Vec::new(), directory, lent: Vec::new() };
    while !bytes.0.is_empty() {
        call(&mut bytes, &mut world);
    }
    for table in world.tables.drain(..) {
        let mut error = error();
        // SAFETY: the error can be written.
        let checked = unsafe { curfew_check(table, &mut error) };
        assert_eq!(checked, curfew_status::CURFEW_OK, "{}", message(&error));
        assert_eq!(curfew_close(table), curfew_status::CURFEW_OK);
        world.closed.push(table);
    }
    for table in world.closed {
        assert_eq!(curfew_repair(table), curfew_status::CURFEW_CLOSED);
    }
}

fn error() -> curfew_error {
    curfew_error { struct_size: size_of::<curfew_error>(), status: 0, os_error: 0, message: [0; 496] }
}

fn message(error: &curfew_error) -> String {
    // SAFETY: the library ends it with a zero, and it was zeroes before.
    unsafe { CStr::from_ptr(error.message.as_ptr()) }.to_string_lossy().into_owned()
}

fn open(bytes: &mut Bytes<'_>, world: &mut World<'_>) -> curfew_status {
    let config = curfew_config {
        struct_size: if bytes.byte() < 250 { size_of::<curfew_config>() } else { usize::from(bytes.byte() % 48) },
        capacity: if bytes.byte() < 240 { 1 + u64::from(bytes.byte()) % 40 } else { 0 },
        events: bytes.choose(&[0, 16, 20]),
        secret: std::ptr::null(),
        epoch: bytes.number() as i64,
        flags: bytes.choose(&[0, 0, 0, CURFEW_HUGE_PAGES, CURFEW_OWN_EPOCH, 4]),
        reserved: 0,
    };
    let mut error = error();
    let mut output = Buffer::new::<curfew_table>(bytes, false, 1);
    let to = output.pointer::<curfew_table>();
    let path = c_path(world, bytes.choose(&["a.region", "b.region"]));
    let path = path.as_ptr().cast::<c_char>();
    let mut lent = vec![Line([0; 8]); 3000].into_boxed_slice();
    let (memory, size) = (lent.as_mut_ptr().cast::<c_void>(), size_of_val(&*lent));
    let mut keeps = false;
    // SAFETY: every pointer leads to what the function asks for, or is null; the memory outlives its table.
    let status = unsafe {
        match bytes.byte() % 6 {
            0 => curfew_create(path, &config, &mut error, to),
            1 => curfew_open(path, &mut error, to),
            2 => curfew_open_or_create(path, &config, &mut error, to),
            3 => {
                keeps = true;
                curfew_create_in(
                    memory,
                    size - usize::from(bytes.byte() % 2) * 64,
                    std::ptr::null(),
                    &config,
                    &mut error,
                    to,
                )
            }
            4 => curfew_open_in(memory, size, path, std::ptr::null_mut(), to),
            _ => curfew_create_private(&config, std::ptr::null_mut(), to),
        }
    };
    output.held(status, "opening");
    if status == curfew_status::CURFEW_OK {
        world.tables.push(output.get());
        if keeps {
            world.lent.push(lent);
        }
    }
    status
}

/// A handle that is open, most of the time.
fn handle(bytes: &mut Bytes<'_>, world: &World<'_>) -> curfew_table {
    let which = usize::from(bytes.byte());
    match (which, world.tables.is_empty(), world.closed.is_empty()) {
        (0..240, false, _) => world.tables[which % world.tables.len()],
        (_, _, false) => world.closed[which % world.closed.len()],
        _ => curfew_table { id: bytes.number() },
    }
}

fn call(bytes: &mut Bytes<'_>, world: &mut World<'_>) {
    let which = bytes.byte();
    if world.tables.is_empty() || (which < 6 && world.tables.len() < TABLES) {
        let status = open(bytes, world);
        assert_ne!(status, curfew_status::CURFEW_PANIC);
        return;
    }
    let table = handle(bytes, world);
    let is_open = world.tables.contains(&table);
    if which < 9 {
        let status = curfew_close(table);
        assert_eq!(status == curfew_status::CURFEW_OK, is_open);
        if is_open {
            world.tables.retain(|other| *other != table);
            world.closed.push(table);
        }
        return;
    }
    let status = if which < 13 { snapshots(bytes, world, table) } else { use_table(bytes, table, which) };
    assert_ne!(status, curfew_status::CURFEW_PANIC, "call {which}");
    // SAFETY: the names of statuses are static texts.
    let name = unsafe { CStr::from_ptr(curfew_status_name(status as i32)) };
    assert_ne!(name, c"unknown");
    if !is_open && which >= 13 {
        assert_ne!(status, curfew_status::CURFEW_OK, "call {which} on a table that is closed");
    }
}

fn c_path(world: &World<'_>, name: &str) -> Vec<u8> {
    let mut path = world.directory.join(name).into_os_string().into_encoded_bytes();
    path.push(0);
    path
}

/// Takes a snapshot, restores one, or damages one. Regions are never damaged: the tables that are open must stay in
/// order.
fn snapshots(bytes: &mut Bytes<'_>, world: &mut World<'_>, table: curfew_table) -> curfew_status {
    let name = bytes.choose(&["a.snapshot", "a.snapshot", "b.snapshot"]);
    let mut error = error();
    match bytes.byte() % 8 {
        0..4 => {
            let path = c_path(world, if bytes.byte() < 240 { name } else { "none/a.snapshot" });
            let mut written = Buffer::new::<curfew_snapshotted>(bytes, true, 1);
            // SAFETY: every pointer leads to what the function asks for, or is null.
            let status = unsafe { curfew_snapshot(table, path.as_ptr().cast(), &mut error, written.pointer()) };
            written.held(status, "snapshot");
            assert!(status != curfew_status::CURFEW_OK || world.tables.contains(&table));
            return status;
        }
        4 => {
            if let Ok(mut file) = std::fs::read(world.directory.join(name)) {
                let at = bytes.number() as usize % file.len().max(1);
                match bytes.byte() % 2 {
                    0 => file.truncate(at),
                    _ => file.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1),
                }
                std::fs::write(world.directory.join(name), file).unwrap();
            }
        }
        _ => {}
    }
    if world.tables.len() >= TABLES {
        return curfew_status::CURFEW_OK;
    }
    let options = curfew_restore_options {
        struct_size: if bytes.byte() < 250 { size_of::<curfew_restore_options>() } else { usize::from(bytes.byte()) },
        capacity: if bytes.byte() < 128 { 0 } else { bytes.choose(&[1, 5, 40, 300, u64::MAX]) },
        events: bytes.choose(&[0, 16, 20, 1]),
        downtime_ms: if bytes.byte() < 128 { 0 } else { bytes.number() },
        flags: bytes.choose(&[0, 0, 0, CURFEW_HUGE_PAGES, CURFEW_OWN_EPOCH]),
        reserved: u32::from(bytes.byte() == 255),
    };
    let options = if bytes.byte() < 128 && options.struct_size <= size_of_val(&options) {
        &raw const options
    } else {
        std::ptr::null()
    };
    let from = c_path(world, if bytes.byte() < 240 { name } else { "a.region" });
    let to = c_path(world, bytes.choose(&["a.region", "b.region", "c.region"]));
    let mut restored = Buffer::new::<curfew_restored>(bytes, true, 1);
    let mut output = Buffer::new::<curfew_table>(bytes, false, 1);
    // SAFETY: as above.
    let status = unsafe {
        let (from, to) = (from.as_ptr().cast(), to.as_ptr().cast());
        if bytes.byte() < 128 {
            curfew_restore(from, to, options, &mut error, restored.pointer(), output.pointer())
        } else {
            curfew_restore_private(from, options, &mut error, restored.pointer(), output.pointer())
        }
    };
    output.held(status, "restore");
    restored.held(status, "restore");
    if status == curfew_status::CURFEW_OK {
        world.tables.push(output.get());
    }
    status
}

fn use_table(bytes: &mut Bytes<'_>, table: curfew_table, which: u8) -> curfew_status {
    let (first, second) = (key(bytes, table), key(bytes, table));
    let now = bytes.now();
    let key = if bytes.byte() < 250 { &raw const first } else { std::ptr::null() };
    let count = bytes.choose(&[1, 2, 3, 0, 1 << 25]);
    let cause = if bytes.byte() < 240 { 4 + u32::from(bytes.byte() % 2) } else { bytes.number() as u32 };
    let (binding, policy) = (u64::from(bytes.byte() % 3), u32::from(bytes.byte() % 3));
    let id = bytes.choose(&IDS);
    // SAFETY: every pointer leads to what the function asks for, for as many elements and of such a size as it is
    // told, or is null; where it is told more than there is, that is more than any function takes.
    unsafe {
        match which % 28 {
            0 | 1 => {
                let mut verdict = Buffer::new::<curfew_verdict>(bytes, true, 1);
                let status = curfew_touch(table, key, binding, now, verdict.pointer());
                verdict.held(status, "touch");
                status
            }
            2 => {
                let mut verdict = Buffer::new::<curfew_verdict>(bytes, true, 1);
                let status = curfew_peek_id(table, id.as_ptr(), id.len(), binding, now, verdict.pointer());
                verdict.held(status, "peek_id");
                status
            }
            3 => {
                let keys = [first, second, first];
                let bindings = [binding; 3];
                let mut verdicts = Buffer::new::<curfew_verdict>(bytes, true, count);
                let presented = if bytes.byte() < 128 { bindings.as_ptr() } else { std::ptr::null() };
                let status = curfew_touch_many(table, keys.as_ptr(), presented, count, now, verdicts.pointer());
                verdicts.held(status, "touch_many");
                status
            }
            4..=8 => {
                let options = curfew_start_options {
                    struct_size: size_of::<curfew_start_options>(),
                    policy,
                    reserved: 0,
                    subject: u64::from(bytes.byte() % 3),
                    binding,
                    token: if bytes.byte() < 128 { CURFEW_NEVER } else { bytes.now().saturating_add(3000) },
                };
                let mut displaced = Buffer::new::<u32>(bytes, false, 1);
                let status = curfew_start(table, key, &options, now, displaced.pointer());
                displaced.held(status, "start");
                status
            }
            9 => {
                let token = bytes.now().saturating_add(1000);
                let token = if bytes.byte() < 128 { &raw const token } else { std::ptr::null() };
                curfew_reauthenticate(table, key, token, now)
            }
            10 => {
                let mut until = Buffer::new::<u64>(bytes, false, 1);
                let status = curfew_rotate(table, key, &second, bytes.number(), now, until.pointer());
                until.held(status, "rotate");
                status
            }
            11 => curfew_end(table, key, cause, now),
            12 => {
                let mut ended = Buffer::new::<u64>(bytes, false, 1);
                let status = curfew_end_subject(table, u64::from(bytes.byte() % 3), cause, now, ended.pointer());
                ended.held(status, "end_subject");
                status
            }
            13 => {
                let filter = curfew_filter {
                    struct_size: size_of::<curfew_filter>(),
                    set: u32::from(bytes.byte() % 10),
                    policy,
                    started_before: bytes.now(),
                    idle_since: bytes.now(),
                };
                let mut ended = Buffer::new::<u64>(bytes, false, 1);
                let status = curfew_end_all(table, &filter, cause, now, ended.pointer());
                ended.held(status, "end_all");
                status
            }
            14 => {
                let mut done = Buffer::new::<usize>(bytes, false, 1);
                let mut more = Buffer::new::<u32>(bytes, false, 1);
                let budget = bytes.number() as usize;
                let status = curfew_advance(table, now, budget, done.pointer(), more.pointer());
                done.held(status, "advance");
                more.held(status, "advance");
                status
            }
            15 => {
                let mut due = Buffer::new::<u64>(bytes, false, 1);
                let status = curfew_next_due(table, due.pointer());
                due.held(status, "next_due");
                status
            }
            16 => {
                let mut stats = Buffer::new::<curfew_stats>(bytes, true, 1);
                let status = curfew_get_stats(table, stats.pointer());
                stats.held(status, "get_stats");
                status
            }
            17 | 18 => {
                let policy = curfew_policy {
                    struct_size: size_of::<curfew_policy>(),
                    idle_ms: bytes.number(),
                    lifetime_ms: bytes.number(),
                    grace_ms: bytes.number(),
                    retain_ms: bytes.number(),
                    retain_mode: u32::from(bytes.byte() % 3),
                    grace_mode: u32::from(bytes.byte() % 3),
                    on_mismatch: u32::from(bytes.byte() % 4),
                    max_per_subject: u32::from(bytes.byte() % 4),
                    on_limit: u32::from(bytes.byte() % 4),
                    on_full: u32::from(bytes.byte() % 3),
                };
                let name = bytes.choose(&[c"a", c"b", c"c", c"", c"a name that is longer than it may be"]);
                let mut number = Buffer::new::<u32>(bytes, false, 1);
                let mut error = Buffer::new::<curfew_error>(bytes, true, 1);
                let status = curfew_set_policy(table, name.as_ptr(), &policy, now, error.pointer(), number.pointer());
                number.held(status, "set_policy");
                status
            }
            19 => {
                let mut policy = Buffer::new::<curfew_policy>(bytes, true, 1);
                let status = curfew_get_policy(table, u32::from(bytes.byte()), policy.pointer());
                policy.held(status, "get_policy");
                status
            }
            20 => {
                let mut name = Buffer::new::<[u8; 40]>(bytes, false, 1);
                let status = curfew_policy_name(table, policy, name.pointer(), usize::from(bytes.byte() % 41));
                name.held(status, "policy_name");
                status
            }
            21 => {
                let mut cursor = bytes.number();
                let mut sessions = Buffer::new::<curfew_session>(bytes, true, count);
                let mut found = Buffer::new::<usize>(bytes, false, 1);
                let status = curfew_list(table, now, &mut cursor, sessions.pointer(), count, found.pointer());
                sessions.held(status, "list");
                found.held(status, "list");
                status
            }
            22 => {
                let mut sessions = Buffer::new::<curfew_session>(bytes, true, count);
                let mut found = Buffer::new::<usize>(bytes, false, 1);
                let subject = u64::from(bytes.byte() % 3);
                let status = curfew_list_subject(table, subject, now, sessions.pointer(), count, found.pointer());
                sessions.held(status, "list_subject");
                found.held(status, "list_subject");
                status
            }
            23 => {
                let mut changes = Buffer::new::<u64>(bytes, false, 1);
                let status = curfew_changes(table, changes.pointer());
                changes.held(status, "changes");
                status
            }
            24 | 25 => {
                let mut watch = Buffer::new::<curfew_watch>(bytes, true, 1);
                watch.fill(&[half(&first, 0), half(&first, 8), binding]);
                let mut verdict = Buffer::new::<curfew_verdict>(bytes, true, 1);
                let (watched, answer) = (watch.pointer(), verdict.pointer());
                let status = if bytes.byte() < 128 {
                    curfew_peek_watched(table, watched, now, answer)
                } else {
                    curfew_touch_watched(table, watched, now, answer)
                };
                watch.held(status, "watch");
                verdict.held(status, "watch");
                status
            }
            26 => {
                let mut watch = Buffer::new::<curfew_watch>(bytes, true, 1);
                watch.fill(&[half(&first, 0), half(&first, 8), binding]);
                curfew_report_cut(table, watch.pointer(), cause, bytes.number(), now)
            }
            _ => {
                let mut cursor = bytes.number();
                let mut events = Buffer::new::<curfew_event>(bytes, true, count);
                let mut found = Buffer::new::<usize>(bytes, false, 1);
                let status = curfew_read_events(
                    table,
                    &mut cursor,
                    events.pointer(),
                    count,
                    found.pointer(),
                    std::ptr::null_mut(),
                );
                events.held(status, "read_events");
                found.held(status, "read_events");
                status
            }
        }
    }
}

//! Handles: numbers that are looked up.
//!
//! A `curfew_table` is no pointer. It holds a number, and its low bits lead to a place in a table of
//! places, which holds the number of the handle that is open there, if one is. Numbers are never
//! given out twice, so one that was closed, or never was, is told and not followed.
//!
//! **Calls and close.** A call counts itself in at the handle's place, looks at the number there,
//! uses the table, and counts itself out. Close takes the number away and then waits until nobody is
//! inside. Counting in and looking, and taking away and waiting, are sequentially consistent: of the
//! two, one sees the other. The counters are striped over cache lines, and a thread keeps to its
//! stripe, so threads that touch do not disturb each other: two additions, no loop, no lock.
//!
//! **Forks.** A child has a copy of everything here, but is not its parent: it must not lock under
//! its parent's name, and must not make it seem alive (`docs/protocol.md`, "Who is dead"). So the
//! child, before `fork` returns in it, raises [`GENERATION`], after which no handle from before is
//! good any more, and puts something harmless in the place of each descriptor that its parent is
//! known to live by. Handles are opened and closed, and processes forked, under one lock, so that
//! no descriptor is missed, and none is put in the place of another one later. A child made by a bare `clone`
//! system call runs no such handler. What a child can find half-done, because another thread of its parent was
//! doing it, is done anew or counts for nothing: handlers made known, calls counted in.

use std::cell::Cell;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crossbeam_utils::{Backoff, CachePadded};
use curfew_engine::Table;

use crate::boundary::Answer;
use crate::status::{Refusal, curfew_status};

/// An open table. Opaque; copy it as you like. All zeroes is no table.
///
/// It may be used from any thread, by several at once. It belongs to the process that opened it:
/// in a child that is forked from that process, every call with it answers `CURFEW_FORKED`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct curfew_table {
    /// Not for you.
    pub id: u64,
}

const INDEX_BITS: u32 = 8;
/// Tables that can be open in one process.
pub(crate) const PLACES: usize = 1 << INDEX_BITS;
const STRIPES: usize = 16;

struct Place {
    /// Number of the handle that is open here; zero for none.
    id: AtomicU64,
    /// The [`GENERATION`] it was opened in.
    generation: AtomicU64,
    /// A box, while there is one; whoever has counted itself in and seen its number may use it.
    table: AtomicPtr<Table>,
    /// What other processes know by that this one lives; negative for none.
    descriptor: AtomicI32,
    inside: [CachePadded<AtomicUsize>; STRIPES],
}

static PLACES_IN_USE: [OnceLock<Box<Place>>; PLACES] = [const { OnceLock::new() }; PLACES];
static NUMBERS: AtomicU64 = AtomicU64::new(1);
/// Raised in every forked child.
static GENERATION: AtomicU64 = AtomicU64::new(1);
/// Held while a handle is opened or closed, and while the process forks.
static CHANGES: Mutex<()> = Mutex::new(());
/// What a child has instead of its parent's descriptors; negative while there is none.
static HARMLESS: AtomicI32 = AtomicI32::new(-1);
/// Whether forks are known to us.
static HANDLERS: AtomicBool = AtomicBool::new(false);

thread_local! {
    static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
    /// Between the two handlers of a fork.
    static FORKING: Cell<Option<MutexGuard<'static, ()>>> = const { Cell::new(None) };
}

fn changes() -> MutexGuard<'static, ()> {
    CHANGES.lock().unwrap_or_else(PoisonError::into_inner)
}

#[inline]
fn stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let own = STRIPE.get();
    if own < STRIPES {
        return own;
    }
    let own = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
    STRIPE.set(own);
    own
}

/// May be known twice, and then is called twice.
extern "C" fn before_fork() {
    let _ = FORKING.try_with(|forking| {
        let held = forking.take().unwrap_or_else(changes);
        forking.set(Some(held));
    });
}

extern "C" fn after_fork_in_parent() {
    let _ = FORKING.try_with(Cell::take);
}

extern "C" fn after_fork_in_child() {
    GENERATION.fetch_add(1, Ordering::SeqCst);
    let harmless = HARMLESS.swap(-1, Ordering::SeqCst);
    for place in PLACES_IN_USE.iter().filter_map(OnceLock::get) {
        // Its children have what it has, which by then may be something else of that number.
        let descriptor = place.descriptor.swap(-1, Ordering::SeqCst);
        if descriptor >= 0 {
            // SAFETY: the descriptor is the table's own and stays one, of something else. Its
            // table is not used any more in this process, only dropped, which closes it.
            unsafe { nix::libc::dup3(harmless, descriptor, nix::libc::O_CLOEXEC) };
        }
        // The threads that were inside are the parent's.
        place.inside.iter().for_each(|stripe| stripe.store(0, Ordering::SeqCst));
    }
    if harmless >= 0 {
        // SAFETY: it is ours, and nothing refers to it any more.
        unsafe { nix::libc::close(harmless) };
    }
    let _ = FORKING.try_with(Cell::take);
}

fn not_prepared(error: &std::io::Error) -> Refusal {
    Refusal::system(error, format!("cannot prepare for forks: {error}"))
}

/// Makes forks known to us; from then on for good. Two threads that do this at once do it twice.
fn watch_forks() -> Result<(), Refusal> {
    if HANDLERS.load(Ordering::SeqCst) {
        return Ok(());
    }
    // SAFETY: the three functions live as long as the library, which is never unloaded
    // (-z nodelete). In the child they take no lock, allocate nothing and call only dup3 and close.
    let error =
        unsafe { nix::libc::pthread_atfork(Some(before_fork), Some(after_fork_in_parent), Some(after_fork_in_child)) };
    if error != 0 {
        return Err(not_prepared(&std::io::Error::from_raw_os_error(error)));
    }
    HANDLERS.store(true, Ordering::SeqCst);
    Ok(())
}

/// Makes what a child will have in the place of descriptors.
fn prepare_what_is_harmless(_: &MutexGuard<'_, ()>) -> Result<(), Refusal> {
    if HARMLESS.load(Ordering::SeqCst) < 0 {
        let socket = UnixDatagram::unbound().map_err(|error| not_prepared(&error))?;
        HARMLESS.store(socket.into_raw_fd(), Ordering::SeqCst);
    }
    Ok(())
}

/// Opens a table and gives it a handle.
pub(crate) fn open(make: impl FnOnce() -> Result<Table, Refusal>) -> Result<curfew_table, Refusal> {
    let full = || Refusal::new(curfew_status::CURFEW_TOO_MANY_TABLES, format!("{PLACES} tables are open already"));
    // Before our lock: it takes one that a fork holds while its handler waits for ours.
    watch_forks()?;
    let changes = changes();
    prepare_what_is_harmless(&changes)?;
    let is_free = |place: &Place| place.id.load(Ordering::SeqCst) == 0;
    let index = PLACES_IN_USE.iter().position(|place| place.get().is_none_or(|place| is_free(place)));
    let index = index.ok_or_else(full)?;
    let place = PLACES_IN_USE[index].get_or_init(|| {
        Box::new(Place {
            id: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            table: AtomicPtr::new(std::ptr::null_mut()),
            descriptor: AtomicI32::new(-1),
            inside: std::array::from_fn(|_| CachePadded::default()),
        })
    });
    let table = make()?;
    let descriptor = table.liveness().map_or(-1, |descriptor| descriptor.as_raw_fd());
    let id = NUMBERS.fetch_add(1, Ordering::Relaxed) << INDEX_BITS | index as u64;
    place.descriptor.store(descriptor, Ordering::SeqCst);
    place.table.store(Box::into_raw(Box::new(table)), Ordering::SeqCst);
    place.generation.store(GENERATION.load(Ordering::SeqCst), Ordering::SeqCst);
    place.id.store(id, Ordering::SeqCst);
    Ok(curfew_table { id })
}

fn place(handle: curfew_table) -> Option<&'static Place> {
    PLACES_IN_USE[handle.id as usize % PLACES].get().map(Box::as_ref)
}

/// Closes a handle: waits for the calls that are in it, and drops its table.
pub(crate) fn close(handle: curfew_table) -> Answer {
    let _changes = changes();
    let place = place(handle).ok_or(curfew_status::CURFEW_CLOSED)?;
    if handle.id == 0 || place.id.load(Ordering::SeqCst) != handle.id {
        return Err(curfew_status::CURFEW_CLOSED);
    }
    place.id.store(0, Ordering::SeqCst);
    for stripe in &place.inside {
        let backoff = Backoff::new();
        while stripe.load(Ordering::SeqCst) != 0 {
            if backoff.is_completed() {
                std::thread::sleep(std::time::Duration::from_micros(50));
            } else {
                backoff.snooze();
            }
        }
    }
    place.descriptor.store(-1, Ordering::SeqCst);
    let table = place.table.swap(std::ptr::null_mut(), Ordering::SeqCst);
    // SAFETY: it was made by `open`, this is the only place that takes it away, nobody is inside,
    // and who comes in now sees that the number is gone.
    drop(unsafe { Box::from_raw(table) });
    Ok(())
}

/// A call that has counted itself in, and the generation in which.
struct Inside<'a>(&'a AtomicUsize, u64);

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        // A signal handler may fork in the middle of a call, which the child has not counted.
        if self.1 == GENERATION.load(Ordering::Relaxed) {
            self.0.fetch_sub(1, Ordering::Release);
        }
    }
}

/// Runs `what` with the table of a handle, which stays open meanwhile.
#[inline]
pub(crate) fn with<R>(handle: curfew_table, what: impl FnOnce(&Table) -> R) -> Answer<R> {
    let place = place(handle).ok_or(curfew_status::CURFEW_CLOSED)?;
    let generation = GENERATION.load(Ordering::Relaxed);
    if place.generation.load(Ordering::Relaxed) != generation {
        let is_open = handle.id != 0 && place.id.load(Ordering::Relaxed) == handle.id;
        return Err(if is_open { curfew_status::CURFEW_FORKED } else { curfew_status::CURFEW_CLOSED });
    }
    let stripe = &place.inside[stripe()];
    stripe.fetch_add(1, Ordering::SeqCst);
    let _inside = Inside(stripe, generation);
    if handle.id == 0 || place.id.load(Ordering::SeqCst) != handle.id {
        return Err(curfew_status::CURFEW_CLOSED);
    }
    // SAFETY: we are counted in and have seen the number, so `close` has not taken the table away,
    // and will not before we are counted out.
    Ok(what(unsafe { &*place.table.load(Ordering::Relaxed) }))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use curfew_engine::Config;

    use super::*;

    fn opened() -> curfew_table {
        open(|| Ok(Table::private(&Config::new(10))?)).ok().unwrap()
    }

    #[test]
    fn a_closed_handle_and_one_that_never_was_are_told() {
        let handle = opened();
        assert_eq!(with(handle, |table| table.stats().capacity), Ok(10));
        close(handle).unwrap();
        assert_eq!(with(handle, |_| ()), Err(curfew_status::CURFEW_CLOSED));
        assert_eq!(close(handle), Err(curfew_status::CURFEW_CLOSED));
        let again = opened();
        assert_eq!(with(handle, |_| ()), Err(curfew_status::CURFEW_CLOSED));
        for id in [0, 1, again.id + PLACES as u64, again.id ^ 1, u64::MAX] {
            assert_eq!(with(curfew_table { id }, |_| ()), Err(curfew_status::CURFEW_CLOSED));
            assert_eq!(close(curfew_table { id }), Err(curfew_status::CURFEW_CLOSED));
        }
        close(again).unwrap();
    }

    #[test]
    fn close_waits_for_the_calls_that_are_in_the_table() {
        let handle = opened();
        let (inside, may_leave) = (AtomicBool::new(false), AtomicBool::new(false));
        let left = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                with(handle, |_| {
                    inside.store(true, Ordering::SeqCst);
                    while !may_leave.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                    left.store(true, Ordering::SeqCst);
                })
                .unwrap();
            });
            while !inside.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            let closer = scope.spawn(|| {
                close(handle).unwrap();
                assert!(left.load(Ordering::SeqCst));
            });
            // New calls are refused while it waits.
            while with(handle, |_| ()).is_ok() {
                std::thread::yield_now();
            }
            may_leave.store(true, Ordering::SeqCst);
            closer.join().unwrap();
        });
    }

    #[test]
    fn a_panic_inside_does_not_keep_the_table_open() {
        let handle = opened();
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let _ = crate::boundary::guarded(|| with(handle, |_| std::panic::panic_any("a defect")));
        std::panic::set_hook(hook);
        close(handle).unwrap();
    }
}

//! Expiry: every worker does what is due, a bounded piece at a time, and they share the work through
//! the region. A worker that is busy or dead delays nobody, and none of it decides about a request.

use std::cell::UnsafeCell;

use nginx_sys::{
    NGX_PROCESS_SINGLE, NGX_PROCESS_WORKER, ngx_add_timer, ngx_cycle, ngx_cycle_t, ngx_event_t, ngx_int_t, ngx_msec_t,
    ngx_process, ngx_worker,
};

use crate::nginx::{OK, fence};
use crate::{clock, conf};

/// Entries of one turn: well below a millisecond.
const BUDGET: usize = 1024;
/// Between turns while there is more to do.
const BUSY: ngx_msec_t = 1;
/// At the most, and at the least, between turns otherwise.
const MOST: u64 = 500;
const LEAST: u64 = 20;

/// The one timer of this process. nginx keeps it in its tree, so it must stay where it is.
struct Timer(UnsafeCell<Option<ngx_event_t>>);

// SAFETY: only the thread of the event loop comes here.
unsafe impl Sync for Timer {}

static TIMER: Timer = Timer(UnsafeCell::new(None));

/// Sets the timer going in a process that serves requests.
pub(crate) unsafe extern "C" fn init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    // SAFETY: nginx calls this once in each process, on the thread of its event loop. All-zero is a
    // valid event.
    unsafe {
        if ngx_process != NGX_PROCESS_SINGLE as usize && ngx_process != NGX_PROCESS_WORKER as usize {
            return OK;
        }
        let log = (*cycle).log;
        fence(log, OK, || {
            let Some(main) = conf::of_cycle(cycle) else { return OK };
            if main.zones.is_empty() {
                return OK;
            }
            for zone in &main.zones {
                zone.table(log);
            }
            let event = (*TIMER.0.get()).insert(std::mem::zeroed());
            event.handler = Some(turn);
            event.log = log;
            // nginx looks for a connection here when it logs at the debug level.
            event.data = DUMMY.0.get().cast();
            event.set_cancelable(1);
            // Workers take turns, so that there is one that comes soon.
            ngx_add_timer(event, LEAST as ngx_msec_t + ngx_worker as ngx_msec_t % LEAST as ngx_msec_t);
            OK
        })
    }
}

/// What stands for a connection in the debug log.
struct Dummy(UnsafeCell<std::mem::MaybeUninit<nginx_sys::ngx_connection_t>>);

// SAFETY: as above.
unsafe impl Sync for Dummy {}

static DUMMY: Dummy = Dummy(UnsafeCell::new(std::mem::MaybeUninit::zeroed()));

unsafe extern "C" fn turn(event: *mut ngx_event_t) {
    // SAFETY: nginx calls this with the event above. `ngx_cycle` is the one that is in use.
    unsafe {
        let log = (*ngx_cycle).log;
        let pause = fence(log, MOST as ngx_msec_t, || {
            let zones = conf::of_cycle(ngx_cycle).map_or(&[][..], |main| &main.zones[..]);
            let mut pause = MOST as ngx_msec_t;
            for zone in zones {
                let Some(table) = zone.table(log) else { continue };
                let now = clock::now(table);
                if table.advance(now, BUDGET).more {
                    pause = BUSY;
                } else {
                    let due = table.next_due().since(now).as_millis().clamp(LEAST, MOST);
                    pause = pause.min(due as ngx_msec_t);
                }
            }
            pause
        });
        (*event).log = log;
        ngx_add_timer(event, pause);
    }
}

//! The timer of a worker. Expiry: every worker does what is due, a bounded piece at a time, and they share the work through
//! the region. A worker that is busy or dead delays nobody, and none of it decides about a request.

use std::cell::UnsafeCell;

use curfew_engine::{Moving, Table, What};
use nginx_sys::{
    NGX_PROCESS_SINGLE, NGX_PROCESS_WORKER, ngx_add_timer, ngx_cycle, ngx_cycle_t, ngx_event_t, ngx_exiting, ngx_int_t,
    ngx_log_t, ngx_msec_t, ngx_process, ngx_worker,
};
use ngx::ngx_log_error;

use crate::nginx::{OK, fence};
use crate::status::Status;
use crate::zone::Zone;
use crate::{clock, conf, streams};

/// Entries of one turn: well below a millisecond.
const BUDGET: usize = 1024;
/// Ends that are logged in one turn.
const EVENTS: usize = 256;
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
            // A single process lives through reloads, which may bring zones.
            if main.zones.is_empty() && ngx_process == NGX_PROCESS_WORKER as usize {
                return OK;
            }
            for zone in &main.zones {
                if let Some(table) = zone.table(log) {
                    zone.to_log.set(Some(table.new_events().cursor()));
                }
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
            let Some(main) = conf::of_cycle(ngx_cycle) else { return MOST as ngx_msec_t };
            let mut pause = MOST as ngx_msec_t;
            for zone in &main.zones {
                let Some(table) = zone.table(log) else { continue };
                log_ends(main, zone, &table, log);
                let now = clock::now(&table);
                if table.advance(now, BUDGET).more {
                    pause = BUSY;
                } else {
                    let due = table.next_due().since(now).as_millis().clamp(LEAST, MOST);
                    pause = pause.min(due as ngx_msec_t);
                }
                if table.moving() != Moving::No {
                    // Who waits for this process to pause waits for the next turn.
                    pause = BUSY;
                }
            }
            pause.min(streams::turn(main, log))
        });
        (*event).log = log;
        ngx_add_timer(event, pause);
    }
}

/// Writes the ends of sessions to the log, each once: the first of the workers does it, and leaves it to
/// its successor when it is on its way out.
fn log_ends(main: &conf::MainConf, zone: &Zone, table: &Table, log: *mut ngx_log_t) {
    // SAFETY: numbers that nginx sets on this thread.
    let is_logger = unsafe { ngx_worker == 0 && ngx_exiting == 0 };
    let level = main.log_level.unwrap_or(0);
    if level == 0 || !is_logger {
        return;
    }
    let mut events = match zone.to_log.get() {
        Some(cursor) => table.events_from(cursor),
        None => table.new_events(),
    };
    for event in events.by_ref().take(EVENTS) {
        if event.what == What::Ended {
            let known = zone.policies.borrow();
            let policy = known.iter().position(|id| *id == Some(event.policy));
            ngx_log_error!(
                level,
                log,
                "curfew: session {} ended, {}, zone \"{}\", policy \"{}\", age {} s, idle {} s",
                event.key,
                Status::Ended(event.cause).name(),
                zone.name,
                policy.map_or("", |number| main.policies[number].0.as_str()),
                event.age.as_millis() / 1000,
                event.idle.as_millis() / 1000
            );
        }
    }
    if events.missed() > 0 {
        ngx_log_error!(level, log, "curfew: {} ends of sessions came too fast to be logged", events.missed());
    }
    zone.to_log.set(Some(events.cursor()));
}

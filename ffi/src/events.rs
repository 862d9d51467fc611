//! Events.

use curfew_engine::{Event, Table, What};

use crate::boundary::{Output, Outputs, guarded, value};
use crate::handles::{curfew_table, with};
use crate::status::curfew_status;
use crate::types::{curfew_event, curfew_key, curfew_what};

impl curfew_event {
    fn of(number: u64, event: &Event) -> curfew_event {
        let what = match event.what {
            What::Ended => curfew_what::CURFEW_EVENT_ENDED,
            What::Rotated => curfew_what::CURFEW_EVENT_ROTATED,
            What::Cut => curfew_what::CURFEW_EVENT_CUT,
        };
        curfew_event {
            struct_size: size_of::<curfew_event>(),
            number,
            at: event.at.as_millis(),
            key: curfew_key::from_engine(event.key),
            subject: event.subject.as_u64(),
            age_ms: event.age.as_millis(),
            idle_ms: event.idle.as_millis(),
            what: what as u32,
            cause: event.cause as u32,
            policy: u32::from(event.policy.number()),
            reserved: 0,
            bytes: event.bytes,
        }
    }
}

/// Where a reader of events begins: `oldest` gets the number of the oldest event that is still there, `next`
/// that of the next one to come. Either may be null.
///
/// # Safety
/// `oldest` and `next` can be written or are null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_event_range(table: curfew_table, oldest: *mut u64, next: *mut u64) -> curfew_status {
    // SAFETY: as the header asks.
    let (oldest, next) = unsafe { (Output::optional(oldest), Output::optional(next)) };
    guarded(|| {
        let (first, head) = with(table, |table| (table.events().cursor(), table.new_events().cursor()))?;
        oldest.set(first);
        next.set(head);
        Ok(())
    })
}

/// Reads up to `room` events from number `*cursor` on, in order, and moves the cursor behind the last of them.
/// `count` gets how many there were, zero when there is none yet; `missed`, which may be null, how many on the
/// way were overwritten before they could be read.
///
/// Readers have their own cursors, and disturb neither each other nor those who write. A cursor is good for as
/// long as the region is, in any process: keep it to go on from there.
///
/// # Safety
/// `cursor` can be read and written; `events` as every output array; `count` can be written; `missed` can be
/// written or is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn curfew_read_events(
    table: curfew_table,
    cursor: *mut u64,
    events: *mut curfew_event,
    room: usize,
    count: *mut usize,
    missed: *mut u64,
) -> curfew_status {
    guarded(|| {
        // SAFETY: as the header asks.
        let (from, next, outputs, count, missed) = unsafe {
            (
                value(cursor)?,
                Output::new(cursor)?,
                Outputs::new(events, room)?,
                Output::new(count)?,
                Output::optional(missed),
            )
        };
        let read = |table: &Table| {
            let mut reader = table.events_from(from);
            let mut read = 0;
            while read < outputs.room {
                let Some(event) = reader.next() else { break };
                outputs.set(read, curfew_event::of(reader.cursor() - 1, &event));
                read += 1;
            }
            (read, reader.cursor(), reader.missed())
        };
        let (read, cursor, overwritten) = with(table, read)?;
        next.set(cursor);
        count.set(read);
        missed.set(overwritten);
        Ok(())
    })
}

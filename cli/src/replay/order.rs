//! Puts events in order of time, holding as few of them as it can.
//!
//! Logs are written when a request ends and stamped when it began, so lines are a little out of
//! order. A window of `2 * HALF` events is sorted and its older half let go. A log that is further
//! out of order than that (files in the wrong order, a log sorted by something else) is noticed,
//! and then only holding all events helps.

/// Half of the window.
pub(crate) const HALF: usize = 65_536;

/// One event of one key: 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Milliseconds since 1970.
    pub(crate) time: i64,
    pub(crate) key: u32,
}

pub(crate) struct Order {
    held: Vec<Event>,
    /// Events to hold before the older half goes; none holds all.
    window: Option<usize>,
    /// Time of the last event that was let go.
    gone: i64,
}

/// The event is older than one that has been let go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooOld;

impl Order {
    pub(crate) fn windowed() -> Order {
        Order::with_half(HALF)
    }

    pub(crate) fn with_half(half: usize) -> Order {
        Order { held: Vec::with_capacity(2 * half), window: Some(2 * half), gone: i64::MIN }
    }

    pub(crate) fn holding_all() -> Order {
        Order { held: Vec::new(), window: None, gone: i64::MIN }
    }

    /// Takes one event; gives `out` those whose turn has come.
    pub(crate) fn push(&mut self, event: Event, mut out: impl FnMut(&[Event])) -> Result<(), TooOld> {
        if event.time < self.gone {
            return Err(TooOld);
        }
        self.held.push(event);
        if Some(self.held.len()) == self.window {
            self.held.sort_by_key(|event| event.time);
            let half = self.held.len() / 2;
            self.gone = self.held[half - 1].time;
            out(&self.held[..half]);
            self.held.drain(..half);
        }
        Ok(())
    }

    /// Gives `out` what is left.
    pub(crate) fn finish(mut self, mut out: impl FnMut(&[Event])) {
        self.held.sort_by_key(|event| event.time);
        out(&self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(mut order: Order, events: &[Event]) -> Result<Vec<Event>, TooOld> {
        let mut sorted = Vec::new();
        for event in events {
            order.push(*event, |part| sorted.extend_from_slice(part))?;
        }
        order.finish(|part| sorted.extend_from_slice(part));
        Ok(sorted)
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_a_stable_sort_or_refused(
            times in proptest::collection::vec(0..40_i64, 0..60),
            half in 1..20_usize,
        ) {
            let events: Vec<Event> = times.iter().zip(0..).map(|(time, key)| Event { time: *time, key }).collect();
            let mut expected = events.clone();
            expected.sort_by_key(|event| event.time);
            if let Ok(sorted) = run(Order::with_half(half), &events) {
                prop_assert_eq!(&sorted, &expected);
            }
            prop_assert_eq!(run(Order::holding_all(), &events), Ok(expected));
        }

        #[test]
        fn events_displaced_by_less_than_half_a_window_are_never_refused(
            swaps in proptest::collection::vec((0..100_usize, 0..8_usize), 0..100),
        ) {
            let mut events: Vec<Event> = (0..120).map(|n| Event { time: n, key: 0 }).collect();
            // Each event moves at most once, by less than 8.
            let mut moved = [false; 120];
            for (at, by) in swaps {
                if !moved[at] && !moved[at + by] {
                    events.swap(at, at + by);
                    (moved[at], moved[at + by]) = (true, true);
                }
            }
            prop_assert!(run(Order::with_half(8), &events).is_ok());
        }
    }
}

//! One pass over the input: count, number the keys, put in order, hand to the court.

use super::census::{Census, is_a_date};
use super::court::Docket;
use super::error::ReplayError;
use super::interner::{Interner, Noted};
use super::order::{Event, Order, TooOld};
use super::progress::Progress;
use crate::input::{Input, Known, Line, What};

/// What a pass has learnt about the log.
pub(crate) struct Read {
    pub(crate) census: Census,
    pub(crate) keys: Interner,
}

/// None when the log is further out of order than this pass could put right.
pub(crate) fn pass(
    input: Input,
    order: Order,
    docket: Docket,
    mut progress: Progress,
) -> Result<Option<Read>, ReplayError> {
    let mut reader = Reader::new(order, docket);
    let mut stopped = None;
    let known = input.read(|line| {
        progress.line();
        stopped = reader.line(&line).err();
        stopped.is_none()
    })?;
    match stopped {
        Some(Stop::TooManyKeys) => Err(ReplayError::TooManyKeys),
        Some(Stop::OutOfOrder) => Ok(None),
        // A judge that has given up says why itself.
        Some(Stop::NobodyListens) | None => Ok(Some(reader.finish(known))),
    }
}

/// Why reading goes no further.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    TooManyKeys,
    OutOfOrder,
    NobodyListens,
}

pub(crate) struct Reader {
    read: Read,
    order: Order,
    docket: Docket,
}

impl Reader {
    pub(crate) fn new(order: Order, docket: Docket) -> Reader {
        Reader { read: Read { census: Census::default(), keys: Interner::new() }, order, docket }
    }

    #[inline]
    pub(crate) fn line(&mut self, line: &Line<'_>) -> Result<(), Stop> {
        let Read { census, keys } = &mut self.read;
        census.line(line.file, line.what != What::Unparsed);
        match line.what {
            What::Event { time_ms: time, key } if is_a_date(time) => {
                let Noted { id: key, again } = keys.note(key, time).ok_or(Stop::TooManyKeys)?;
                census.event(time);
                // An event leaves its session active, with this time as its last activity, whatever
                // the policy; another one at the very same time can only find it so.
                if again {
                    return Ok(());
                }
                let mut heard = true;
                let pushed = self.order.push(Event { time, key }, |events| heard = self.docket.hand(events));
                pushed.map_err(|TooOld| Stop::OutOfOrder)?;
                if heard { Ok(()) } else { Err(Stop::NobodyListens) }
            }
            What::NoKey => {
                census.nokey += 1;
                Ok(())
            }
            What::Event { .. } | What::Unparsed => {
                census.unparsed(line.file, line.number);
                Ok(())
            }
        }
    }

    /// Hands on what is still held, and says that this was all.
    pub(crate) fn finish(mut self, known: Known) -> Read {
        self.read.census.file_is_over();
        (self.read.census.zoneless, self.read.census.packings) = (known.zoneless, known.packings);
        self.order.finish(|events| {
            // Nobody listening is told by whoever stopped.
            self.docket.hand(events);
        });
        self.docket.close();
        self.read
    }
}

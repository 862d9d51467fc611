//! All policies side by side: events come in once, in order, and every judge hears them.

use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use curfew_engine::{Policy, Tick};

use super::judge::{Heard, Judge, JudgeError, Tally};
use super::order::Event;

/// Events that are handed over at once.
const BATCH: usize = 4096;
/// Batches that may wait for a judge: those of one half window, and as many again.
const WAITING: usize = 32;

/// Virtual time begins here, so that nothing is ever before the engine's own epoch.
const EPOCH: u64 = 1000;
/// The longest recording: what the engine's clock can hold, less the longest limits that a policy
/// can have (a hundred years each), less the epoch.
const LONGEST_MS: u64 = Tick::LAST.as_millis() - 3 * crate::policy::LONGEST_MS - EPOCH;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CourtError {
    #[error(transparent)]
    Judge(#[from] JudgeError),
    #[error("the recording is longer than {} years, from {first} to {last}; is the time of some lines wrong?", LONGEST_MS / 31_557_600_000)]
    TooLong { first: String, last: String },
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    #[error("a thread of the replay broke down; please report this")]
    Broke,
}

enum Message {
    Events(Arc<[Event]>),
    /// No more events, and all of them were there.
    End,
}

/// Where the events go.
pub(crate) struct Docket {
    senders: Vec<Sender<Message>>,
}

impl Docket {
    /// Hands events to every judge. False: a judge has given up, and more would be in vain.
    pub(crate) fn hand(&self, events: &[Event]) -> bool {
        events.chunks(BATCH).all(|events| {
            let events: Arc<[Event]> = events.into();
            self.senders.iter().all(|sender| sender.send(Message::Events(Arc::clone(&events))).is_ok())
        })
    }

    /// Says that this was all; without it the judges come to no conclusion.
    pub(crate) fn close(self) {
        for sender in &self.senders {
            // A judge that is gone has left an error behind.
            let _ = sender.send(Message::End);
        }
    }
}

/// The numbers of one policy, times as the log has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) tally: Tally,
    pub(crate) peak_time: Option<i64>,
}

/// Judges what `feed` hands in by every policy, on so many threads. None when `feed` did not close
/// the docket.
pub(crate) fn hold<T>(
    policies: &[Policy],
    threads: usize,
    feed: impl FnOnce(Docket) -> T,
) -> (T, Result<Option<Vec<Judged>>, CourtError>) {
    let threads = threads.clamp(1, policies.len().max(1));
    thread::scope(|scope| {
        let mut senders = Vec::new();
        let mut rooms = Vec::new();
        let mut failure = None;
        for first in 0..threads {
            let (sender, receiver) = bounded(WAITING);
            let policies = policies.iter().skip(first).step_by(threads).copied().collect::<Vec<_>>();
            let name = format!("judge {first}");
            match thread::Builder::new().name(name).spawn_scoped(scope, move || sit(&policies, &receiver)) {
                Ok(room) => rooms.push(room),
                Err(error) => failure = Some(CourtError::Thread(error)),
            }
            senders.push(sender);
        }
        let fed = feed(Docket { senders });
        let mut judged = vec![None; policies.len()];
        for (first, room) in rooms.into_iter().enumerate() {
            match room.join() {
                Ok(Ok(Some(list))) => {
                    let places = (first..policies.len()).step_by(threads);
                    places.zip(list).for_each(|(place, one)| judged[place] = Some(one));
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => failure = failure.or(Some(error)),
                Err(_) => failure = Some(CourtError::Broke),
            }
        }
        (fed, failure.map_or(Ok(judged.into_iter().collect()), Err))
    })
}

/// What one thread does.
fn sit(policies: &[Policy], docket: &Receiver<Message>) -> Result<Option<Vec<Judged>>, CourtError> {
    let mut judges = policies.iter().map(Judge::new).collect::<Result<Vec<_>, _>>()?;
    let mut first = None;
    let mut heard = Vec::with_capacity(BATCH);
    loop {
        match docket.recv() {
            Ok(Message::Events(events)) => {
                let (Some(begin), Some(end)) = (events.first(), events.last()) else { continue };
                let first = *first.get_or_insert(begin.time);
                if end.time.abs_diff(first) > LONGEST_MS {
                    let date = super::census::rfc3339;
                    return Err(CourtError::TooLong { first: date(first), last: date(end.time) });
                }
                // One judge after the other: each one's table stays in the cache meanwhile.
                heard.clear();
                heard.extend(
                    events
                        .iter()
                        .map(|event| Heard::new(event.key, Tick::from_millis(EPOCH + event.time.abs_diff(first)))),
                );
                for judge in &mut judges {
                    judge.hear(&heard)?;
                }
            }
            Ok(Message::End) => break,
            Err(_) => return Ok(None),
        }
    }
    let conclude = |judge: Judge| {
        let tally = judge.finish()?;
        let since_first = tally.peak_at.map(|peak| peak.as_millis() - EPOCH);
        let peak_time = first.zip(since_first).map(|(first, ms)| first.saturating_add_unsigned(ms));
        Ok(Judged { tally, peak_time })
    };
    judges.into_iter().map(conclude).collect::<Result<Vec<_>, CourtError>>().map(Some)
}

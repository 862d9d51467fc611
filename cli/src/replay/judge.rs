//! One policy, one engine table, virtual time: the verdicts of a replay and their sums.
//!
//! Every decision is the engine's. What is kept beside it is what no engine has a use for: how
//! each key's last session ended, after its record is long gone.

use curfew_engine::{
    Binding, Cause, Config, CopyError, CreateError, GraceMode, Key, Policy, PolicyError, PolicyId, Retain, Span, Start,
    StartError, Table, Tick, Verdict,
};

use super::ticket::{id_of, key_of};

/// The sums of one policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) sessions: u64,
    pub(crate) forced_idle: u64,
    pub(crate) forced_lifetime: u64,
    pub(crate) grace_resumes: u64,
    pub(crate) grace_prompts: u64,
    pub(crate) active_ms: u128,
    pub(crate) exposure_ms: u128,
    pub(crate) usable_ms: u128,
    pub(crate) open_at_end: u64,
    pub(crate) peak_live: u64,
    /// When the peak was first reached.
    pub(crate) peak_at: Option<Tick>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum JudgeError {
    #[error("no room for {capacity} sessions at once: {source}")]
    Create { capacity: u64, source: CreateError },
    #[error("the sessions did not fit into a larger table: {0}; please report this")]
    Copy(#[from] CopyError),
    #[error("the engine does not take this policy: {0}")]
    Policy(#[from] PolicyError),
    #[error("the engine's answer to {question} was {answer}, which cannot be in a replay; please report this")]
    Unexpected { question: &'static str, answer: String },
}

fn unexpected(question: &'static str, answer: impl std::fmt::Debug) -> JudgeError {
    JudgeError::Unexpected { question, answer: format!("{answer:?}") }
}

/// Sessions that a table begins with room for; it doubles when they are not enough.
const FIRST_CAPACITY: u64 = 1 << 12;
/// Most ends between two looks at the events, of which the ring has room for twice as many.
const STRIDE: usize = 1 << 10;

pub(crate) struct Judge {
    table: Table,
    capacity: u64,
    policy: PolicyId,
    resumes: bool,
    /// How long after the last activity a request has to be confirmed, when a grace asks for that.
    asks_after: Option<u64>,
    /// Before then nothing ends.
    due: Tick,
    /// The next of the table's events to look at.
    cursor: u64,
    /// By key: how its last session ended.
    endings: Vec<Ending>,
    live: u64,
    tally: Tally,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It has not, or there was none.
    None,
    Idle,
    Lifetime,
}

/// One event, as the engine is asked about it.
#[derive(Clone, Copy)]
pub(crate) struct Heard {
    key: Key,
    now: Tick,
    id: u32,
}

impl Heard {
    pub(crate) fn new(id: u32, now: Tick) -> Heard {
        Heard { key: key_of(id), now, id }
    }
}

impl Judge {
    pub(crate) fn new(policy: &Policy) -> Result<Judge, JudgeError> {
        let table = create(FIRST_CAPACITY)?;
        // A key of the log is a person and not a session id: their next session comes under the
        // same key, so the engine has to forget each as soon as it has ended.
        let policy = Policy { retain: Retain::For(Span::OFF), max_per_subject: 0, ..*policy };
        let id = table.set_policy("replay", &policy, Tick::ZERO)?;
        Ok(Judge {
            table,
            capacity: FIRST_CAPACITY,
            policy: id,
            resumes: policy.grace_mode == GraceMode::Resume,
            asks_after: (policy.grace_mode == GraceMode::Reauth
                && policy.grace != Span::OFF
                && policy.idle != Span::OFF)
                .then(|| policy.idle.as_millis()),
            due: Tick::NEVER,
            cursor: 0,
            endings: Vec::new(),
            live: 0,
            tally: Tally::default(),
        })
    }

    /// Judges events, which come in order of time.
    pub(crate) fn hear(&mut self, events: &[Heard]) -> Result<(), JudgeError> {
        for event in events {
            if event.now >= self.due {
                self.advance(event.now)?;
            }
            match self.table.touch(event.key, Binding::NONE, event.now) {
                Verdict::Active(_) => {}
                Verdict::Grace(_) if self.resumes => self.tally.grace_resumes += 1,
                Verdict::Grace(left) => self.reauthenticate(event, left.age())?,
                Verdict::Unknown => self.start(event)?,
                answer => return Err(unexpected("touch", answer)),
            }
        }
        Ok(())
    }

    /// The person proves presence on the spot: idle and lifetime begin anew.
    fn reauthenticate(&mut self, event: &Heard, age: Span) -> Result<(), JudgeError> {
        let done = self.table.reauthenticate(event.key, None, event.now);
        done.map_err(|error| unexpected("reauthenticate", error))?;
        self.due = self.table.next_due();
        self.tally.grace_prompts += 1;
        // The engine measures a session's age from now on; what was before counts here.
        self.tally.active_ms += u128::from(age.as_millis());
        // Had somebody else come instead, they could have used it for so long.
        self.tally.usable_ms += u128::from(self.asks_after.unwrap_or(0));
        Ok(())
    }

    fn start(&mut self, event: &Heard) -> Result<(), JudgeError> {
        loop {
            match self.table.start(event.key, &Start::under(self.policy), event.now) {
                Ok(_) => break,
                Err(StartError::Full) => self.grow(event.now)?,
                Err(error) => return Err(unexpected("start", error)),
            }
        }
        self.due = self.table.next_due();
        let place = event.id as usize;
        if place >= self.endings.len() {
            self.endings.resize(place + 1, Ending::None);
        }
        match std::mem::replace(&mut self.endings[place], Ending::None) {
            Ending::None => {}
            Ending::Idle => self.tally.forced_idle += 1,
            Ending::Lifetime => self.tally.forced_lifetime += 1,
        }
        self.tally.sessions += 1;
        self.live += 1;
        if self.live > self.tally.peak_live {
            self.tally.peak_live = self.live;
            self.tally.peak_at = Some(event.now);
        }
        Ok(())
    }

    /// Moves everybody to a table twice as large.
    fn grow(&mut self, now: Tick) -> Result<(), JudgeError> {
        self.capacity *= 2;
        let larger = create(self.capacity)?;
        self.table.copy_into(&larger, now)?;
        self.table = larger;
        self.cursor = 0;
        Ok(())
    }

    /// Ends what is due at `now`, and takes down how.
    fn advance(&mut self, now: Tick) -> Result<(), JudgeError> {
        loop {
            let more = self.table.advance(now, STRIDE).more;
            let mut events = self.table.events_from(self.cursor);
            for event in &mut events {
                let ending = match event.cause {
                    Cause::Idle => Ending::Idle,
                    Cause::Lifetime => Ending::Lifetime,
                    _ => return Err(unexpected("advance", event)),
                };
                let known = self.endings.get_mut(id_of(event.key) as usize);
                *known.ok_or_else(|| unexpected("advance", event))? = ending;
                self.live -= 1;
                let (age, idle) = (event.age.as_millis(), event.idle.as_millis());
                self.tally.active_ms += u128::from(age - idle);
                self.tally.exposure_ms += u128::from(idle);
                self.tally.usable_ms += u128::from(self.asks_after.map_or(idle, |asks| idle.min(asks)));
            }
            if events.missed() > 0 {
                return Err(unexpected("events", events.missed()));
            }
            self.cursor = events.cursor();
            if !more {
                self.due = self.table.next_due();
                return Ok(());
            }
        }
    }

    /// The recording is over: what is open runs on to its own deadline.
    pub(crate) fn finish(mut self) -> Result<Tally, JudgeError> {
        self.tally.open_at_end = self.live;
        self.advance(Tick::LAST)?;
        Ok(self.tally)
    }
}

fn create(capacity: u64) -> Result<Table, JudgeError> {
    // One secret for all, so that sessions can move from one table into the next. Keys do not
    // depend on it here.
    let config = Config { events: 2 * STRIDE as u64, secret: Some([0; 32]), ..Config::new(capacity) };
    Table::private(&config).map_err(|source| JudgeError::Create { capacity, source })
}

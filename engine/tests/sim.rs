//! A simulation: several actors on one tiny region, each with a clock of its own that lags, stands
//! still or steps, who do anything, and die at any step of it. One thread and one seed: a seed makes
//! the same run again. `SEEDS=1000` runs that many, `SEED=7` one, with everything that it did.
//!
//! The checker keeps, for every key, the set of all that may be true of it. A call that returned
//! leaves what fits its answer; a call that died adds what it may have done to what was before; an
//! advance adds that sessions whose time has come by its clock were ended, or not yet. An answer that
//! fits nothing in the set is a fault: a session that was lost, came back, ended too early, or has
//! other limits than it should. Sessions have numbers, and each is in one event at its end, with a
//! time and a cause that were possible, and is in no second one.

mod common;

use std::cell::Cell;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use common::rules;
use curfew_engine::{
    Binding, Cause, ChangeError, Config, End, Event, Filter, GraceMode, Key, Life, OnFull, OnLimit, Policy,
    PolicyError, PolicyId, Retain, RotateError, Span, Start, StartError, State, Subject, Table, Tick, Verdict, What,
    crash, keep_until,
};

const KEYS: usize = 12;
const POLICIES: usize = 3;
const STEPS: usize = 120;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn span(&mut self) -> Span {
        let short = 1 + self.below(20);
        let long = 20 + self.below(400);
        Span::from_millis(self.pick(&[0, short, short, long, long, 5000]))
    }

    fn policy(&mut self) -> Policy {
        let (idle, lifetime) = (self.span(), self.span());
        let idle = if idle.is_off() && lifetime.is_off() { Span::from_millis(50) } else { idle };
        Policy {
            idle,
            lifetime,
            grace: if self.one_in(3) { self.span() } else { Span::OFF },
            grace_mode: self.pick(&[GraceMode::Resume, GraceMode::Reauth]),
            max_per_subject: self.pick(&[0, 0, 1, 2, 3]),
            on_limit: self.pick(&[OnLimit::Deny, OnLimit::EndOldest, OnLimit::EndLeastRecent]),
            retain: if self.one_in(4) { Retain::UntilHardLimit } else { Retain::For(self.span()) },
            on_full: self.pick(&[OnFull::Refuse, OnFull::EvictEnded]),
            ..Policy::new()
        }
    }
}

/// A session. Its number is not the table's.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Session {
    number: usize,
    policy: usize,
    life: Life,
    subject: Subject,
}

/// What may be true of a key.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fate {
    Absent,
    Live(Session),
    /// Its time had come for somebody who died before writing down more than that.
    Frozen(Session),
    Ended {
        session: Session,
        end: End,
        kept: Tick,
    },
    Alias {
        session: Session,
        end: End,
        kept: Tick,
        target: usize,
        stands_for: usize,
    },
}

/// What is known of a session, besides where it may be now.
#[derive(Clone, Debug)]
struct Account {
    key: usize,
    subject: Subject,
    /// A call that returned has begun it, or somebody saw it.
    certain: bool,
    reported: bool,
    /// The ends that it may have come to.
    ends: Vec<(What, End)>,
}

#[derive(Clone, Copy, Debug)]
enum Clock {
    /// Behind, or ahead of, the others by so much.
    Skewed(i64),
    Frozen(u64),
    /// Steps back and forth.
    Stepping,
}

struct Actor {
    table: Option<Table>,
    clock: Clock,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Start { key: usize, start: Start },
    Touch { key: usize },
    Peek { key: usize },
    Reauthenticate { key: usize, token: Option<Tick> },
    Rotate { old: usize, new: usize, overlap: Span },
    End { key: usize, cause: Cause },
    EndSubject { subject: Subject },
    EndAll { policy: usize },
    SetPolicy { which: usize, policy: Policy },
    Advance { budget: usize },
    Repair,
    Check,
}

#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Died,
    Started(Result<u32, StartError>),
    Verdict(Verdict),
    Changed(Result<(), ChangeError>),
    Rotated(Result<Tick, RotateError>),
    Ended(u64),
    Policy(Result<PolicyId, PolicyError>),
    Done,
}

struct World {
    random: Random,
    path: PathBuf,
    capacity: usize,
    actors: Vec<Actor>,
    observer: Table,
    keys: Vec<Key>,
    time: u64,
    /// The latest that any clock has said.
    latest: u64,
    versions: Vec<Vec<(Policy, Tick)>>,
    fates: Vec<Vec<Fate>>,
    accounts: Vec<Account>,
    /// Keys whose records a call that died may have left half-changed, until somebody took over.
    unsettled: Vec<usize>,
    cursor: u64,
    log: Vec<String>,
    deaths: u64,
}

fn at(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

fn only(fates: &mut Vec<Fate>, fate: Fate) {
    if !fates.contains(&fate) {
        fates.push(fate);
    }
}

impl World {
    fn new(seed: u64, directory: &Path) -> World {
        let mut random = Random(seed);
        let path = directory.join(format!("{seed}.region"));
        let capacity = random.pick(&[3, 6, 12, 16, 16, 16]);
        let config = Config { events: 4096, secret: Some([7; 32]), ..Config::new(capacity) };
        let observer = Table::create(&path, &config).unwrap();
        let mut world = World {
            path,
            capacity: capacity as usize,
            actors: Vec::new(),
            keys: (0..KEYS).map(|key| observer.key(&[key as u8])).collect(),
            observer,
            time: random.pick(&[500, 4090, (1 << 36) + 12_345]),
            latest: 0,
            versions: Vec::new(),
            fates: vec![vec![Fate::Absent]; KEYS],
            accounts: Vec::new(),
            unsettled: Vec::new(),
            cursor: 0,
            log: Vec::new(),
            deaths: 0,
            random,
        };
        for number in 0..POLICIES {
            let policy = world.random.policy();
            world.observer.set_policy(&format!("p{number}"), &policy, at(world.time)).unwrap();
            world.versions.push(vec![(policy, Tick::ZERO)]);
        }
        for _ in 0..4 {
            let clock = world.clock();
            world.actors.push(Actor { table: None, clock });
        }
        world
    }

    fn clock(&mut self) -> Clock {
        match self.random.below(5) {
            0 => Clock::Frozen(self.time),
            1 => Clock::Stepping,
            _ => {
                let skew = self.random.below(60) as i64 - 30;
                Clock::Skewed(self.random.pick(&[0, 0, skew]))
            }
        }
    }

    fn now(&mut self, actor: usize) -> Tick {
        match self.actors[actor].clock {
            Clock::Skewed(by) => at(self.time.saturating_add_signed(by)),
            Clock::Frozen(at_time) => at(at_time),
            Clock::Stepping => at((self.time + self.random.below(40)).saturating_sub(self.random.below(200))),
        }
    }

    fn policy(&self, number: usize) -> Policy {
        self.versions[number].last().unwrap().0
    }

    fn judge(&self, session: &Session, now: Tick) -> (State, Policy) {
        rules::judge(&self.versions[session.policy], &session.life, now)
    }

    fn is_over(&self, session: &Session, now: Tick) -> Option<(End, Policy)> {
        match self.judge(session, now) {
            (State::Ended(end), policy) => Some((end, policy)),
            _ => None,
        }
    }

    fn subjects(&self) -> [Subject; 3] {
        [Subject::NONE, self.observer.subject(b"a"), self.observer.subject(b"b")]
    }

    /// What is left of a session that ends. After a death its heir does not know its token any more,
    /// nor by which version of the policy it ended.
    fn endings(&mut self, session: &Session, end: End, policy: &Policy, died: bool) -> Vec<Fate> {
        self.accounts[session.number].ends.push((What::Ended, end));
        let mut kept = vec![keep_until(&session.life, policy, end)];
        if died {
            let tokenless = Life { token: Tick::NEVER, ..session.life };
            kept.push(keep_until(&tokenless, policy, end));
            kept.push(keep_until(&tokenless, &self.policy(session.policy), end));
        }
        kept.dedup();
        kept.into_iter().map(|kept| Fate::Ended { session: *session, end, kept }).collect()
    }

    /// Whoever locks something may end what is over by its clock, and forget what need not be kept.
    fn expose(&mut self, now: Tick, died: bool) {
        for key in 0..KEYS {
            for fate in self.fates[key].clone() {
                if let Fate::Live(session) = fate
                    && let Some((end, policy)) = self.is_over(&session, now)
                {
                    for ending in self.endings(&session, end, &policy, died) {
                        only(&mut self.fates[key], ending);
                    }
                    if died {
                        only(&mut self.fates[key], Fate::Frozen(session));
                    }
                }
            }
            for fate in self.fates[key].clone() {
                if let Fate::Ended { kept, .. } | Fate::Alias { kept, .. } = fate
                    && kept <= now
                {
                    only(&mut self.fates[key], Fate::Absent);
                }
            }
        }
        if died {
            self.unsettled.extend(0..KEYS);
        }
    }

    /// An heir ends what it finds frozen, by what the policy says at that time.
    fn thaw(&mut self) {
        for key in 0..KEYS {
            for fate in self.fates[key].clone() {
                if let Fate::Frozen(session) = fate {
                    let (end, policy) = self.is_over(&session, Tick::LAST).expect("no limit here is never reached");
                    for ending in self.endings(&session, end, &policy, true) {
                        only(&mut self.fates[key], ending);
                    }
                }
            }
        }
    }

    /// What a peek may answer if this is the fate of the key.
    fn answers(&self, fate: &Fate, now: Tick, hops: usize) -> Vec<Verdict> {
        match fate {
            Fate::Absent => vec![Verdict::Unknown],
            Fate::Live(session) => vec![self.answer(session, now)],
            Fate::Frozen(_) => vec![],
            Fate::Ended { end, kept, .. } => vec![if *kept > now { Verdict::Ended(*end) } else { Verdict::Unknown }],
            Fate::Alias { kept, .. } if *kept <= now => vec![Verdict::Unknown],
            Fate::Alias { end, .. } if end.at <= now || hops == 0 => vec![Verdict::Ended(*end)],
            Fate::Alias { end, target, stands_for, .. } => {
                let mut answers = Vec::new();
                for fate in &self.fates[*target] {
                    if number(fate) == Some(*stands_for) {
                        answers.extend(self.answers(fate, now, hops - 1));
                    } else {
                        answers.push(Verdict::Ended(*end));
                    }
                }
                for answer in &mut answers {
                    if *answer == Verdict::Unknown {
                        *answer = Verdict::Ended(*end);
                    }
                }
                answers
            }
        }
    }

    fn answer(&self, session: &Session, now: Tick) -> Verdict {
        let (state, policy) = self.judge(session, now);
        let left = rules::left(&session.life, &policy, session.policy, now, false);
        match state {
            State::Active => Verdict::Active(left),
            State::Grace => Verdict::Grace(left),
            State::Ended(end) if keep_until(&session.life, &policy, end) > now => Verdict::Ended(end),
            State::Ended(_) => Verdict::Unknown,
        }
    }

    fn observe(&mut self, key: usize, now: Tick, verdict: Verdict) {
        let fits: Vec<Fate> =
            self.fates[key].iter().filter(|fate| self.answers(fate, now, 4).contains(&verdict)).copied().collect();
        assert!(!fits.is_empty(), "key {key} at {now:?}: {verdict:?} fits none of {:#?}", self.fates[key]);
        self.keep(key, fits);
    }

    fn keep(&mut self, key: usize, fates: Vec<Fate>) {
        if let [fate] = fates[..]
            && let Some(number) = number(&fate)
        {
            self.accounts[number].certain = true;
        }
        self.fates[key] = fates;
    }

    fn new_session(&mut self, key: usize, subject: Subject, certain: bool) -> usize {
        self.accounts.push(Account { key, subject, certain, reported: false, ends: Vec::new() });
        self.accounts.len() - 1
    }

    /// An operation. After a death only one that takes the locks it needs before it looks: what is
    /// seen without them may change once more when somebody takes over.
    fn op(&mut self) -> Op {
        let key = self.random.below(KEYS as u64) as usize;
        let has_alias = self.fates[key].iter().any(|fate| matches!(fate, Fate::Alias { .. }));
        // Not over by anybody's clock: by one that lags, a token can expire before a change of its
        // policy, and then it is a matter of the sweep whether that counts already.
        let token = at(self.latest).after(Span::from_millis(1 + self.random.below(300)));
        let settled = self.unsettled.is_empty();
        let span = self.random.span();
        match self.random.below(30) {
            0..7 => {
                let policy = PolicyId::from_number(self.random.below(POLICIES as u64) as u8);
                let subject = self.random.pick(&self.subjects());
                let token = self.random.pick(&[Tick::NEVER, Tick::NEVER, token]);
                Op::Start { key, start: Start { policy, subject, binding: Binding::NONE, token } }
            }
            7..11 if settled && !has_alias => Op::Touch { key },
            11 | 12 if settled => Op::Peek { key },
            13..16 if settled && !has_alias => {
                Op::Reauthenticate { key, token: if self.random.one_in(2) { Some(token) } else { None } }
            }
            16..19 => Op::Rotate { old: key, new: self.random.below(KEYS as u64) as usize, overlap: span },
            19 | 20 if settled && !has_alias => {
                Op::End { key, cause: self.random.pick(&[Cause::Logout, Cause::Revoked]) }
            }
            21 | 22 => Op::EndSubject { subject: self.subjects()[1 + self.random.below(2) as usize] },
            23 => Op::EndAll { policy: self.random.below(POLICIES as u64) as usize },
            24 => Op::SetPolicy { which: self.random.below(POLICIES as u64) as usize, policy: self.random.policy() },
            25 => Op::Repair,
            26 => Op::Check,
            _ => Op::Advance { budget: self.random.pick(&[1, 3, 1000]) },
        }
    }

    fn call(table: &Table, keys: &[Key], op: &Op, now: Tick) -> Answer {
        match *op {
            Op::Start { key, start } => {
                Answer::Started(table.start(keys[key], &start, now).map(|started| started.displaced))
            }
            Op::Touch { key } => Answer::Verdict(table.touch(keys[key], Binding::NONE, now)),
            Op::Peek { key } => Answer::Verdict(table.peek(keys[key], Binding::NONE, now)),
            Op::Reauthenticate { key, token } => Answer::Changed(table.reauthenticate(keys[key], token, now)),
            Op::Rotate { old, new, overlap } => {
                Answer::Rotated(table.rotate(keys[old], keys[new], overlap, now).map(|rotated| rotated.old_until))
            }
            Op::End { key, cause } => Answer::Changed(table.end(keys[key], cause, now)),
            Op::EndSubject { subject } => Answer::Ended(table.end_subject(subject, Cause::Revoked, now)),
            Op::EndAll { policy } => {
                let filter = Filter { policy: Some(PolicyId::from_number(policy as u8)), ..Filter::default() };
                Answer::Ended(table.end_all(&filter, Cause::Revoked, now))
            }
            Op::SetPolicy { which, policy } => Answer::Policy(table.set_policy(&format!("p{which}"), &policy, now)),
            Op::Advance { budget } => {
                table.advance(now, budget);
                Answer::Done
            }
            Op::Repair => {
                table.repair();
                Answer::Done
            }
            Op::Check => {
                table.check().unwrap();
                Answer::Done
            }
        }
    }

    /// One actor does one thing, and may die of it.
    fn step(&mut self) {
        self.time += self.random.pick(&[0, 0, 1, 1, 3, 20]);
        if self.random.one_in(25) {
            self.time += self.random.below(500);
        }
        let who = self.random.below(self.actors.len() as u64) as usize;
        if self.random.one_in(20) {
            self.actors[who].clock = self.clock();
        }
        let now = self.now(who);
        self.latest = self.latest.max(now.as_millis()).max(self.time);
        let op = self.op();
        let table = self.actors[who].table.take().unwrap_or_else(|| Table::open(&self.path).unwrap());
        let most = self.random.pick(&[60, 60, 1500]);
        let far = 1 + self.random.below(most);
        let die_at = if self.random.one_in(3) { far } else { 0 };
        let killed = self.random.one_in(2);
        if die_at > 0 {
            let left = Cell::new(die_at);
            crash::on_step(move |_| {
                left.set(left.get() - 1);
                match left.get() {
                    0 if killed => crash::die(),
                    0 => resume_unwind(Box::new("unwound")),
                    _ => {}
                }
            });
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| World::call(&table, &self.keys, &op, now)));
        crash::clear();
        let answer = match outcome {
            Ok(answer) => {
                self.actors[who].table = Some(table);
                answer
            }
            Err(cause) if cause.is::<&str>() && ["killed", "unwound"].contains(cause.downcast_ref().unwrap()) => {
                self.deaths += 1;
                // Who is killed is replaced when the number is next wanted; who unwinds goes on.
                if killed {
                    drop(table);
                } else {
                    self.actors[who].table = Some(table);
                }
                crash::revive();
                Answer::Died
            }
            Err(cause) => resume_unwind(cause),
        };
        let mut line = String::new();
        let _ = write!(line, "{who} at {now:?}: {op:?} -> {answer:?}");
        if answer == Answer::Died {
            let _ = write!(line, " at step {die_at}, {}", if killed { "killed" } else { "unwound" });
        }
        self.log.push(line);
        if !self.unsettled.is_empty() && !matches!(op, Op::SetPolicy { .. }) {
            self.thaw();
        }
        self.learn(&op, now, &answer);
        if answer != Answer::Died {
            self.settle();
        }
        self.read_events();
    }

    /// Lets somebody who has not been there take over whatever there is to take over, and looks.
    fn settle(&mut self) {
        self.observer.check().unwrap();
        self.thaw();
        for fates in &mut self.fates {
            fates.retain(|fate| !matches!(fate, Fate::Frozen(_)));
        }
        self.unsettled.clear();
        let now = at(self.time);
        for key in (0..KEYS).chain(0..KEYS) {
            let verdict = self.observer.peek(self.keys[key], Binding::NONE, now);
            self.observe(key, now, verdict);
        }
        for subject in &self.subjects()[1..] {
            let listed: Vec<Key> = self.observer.sessions_of(*subject, now).iter().map(|info| info.key).collect();
            for key in 0..KEYS {
                let is_of = |fate: &Fate| {
                    matches!(fate, Fate::Live(session)
                    if session.subject == *subject && self.is_over(session, now).is_none())
                };
                let (all, any) = (self.fates[key].iter().all(is_of), self.fates[key].iter().any(is_of));
                let is_listed = listed.contains(&self.keys[key]);
                assert!(is_listed || !all, "key {key} cannot be found by its subject");
                assert!(!is_listed || any, "key {key} is found by a subject that is not its own");
            }
        }
    }

    fn learn(&mut self, op: &Op, now: Tick, answer: &Answer) {
        let died = *answer == Answer::Died;
        match *op {
            Op::Touch { .. } | Op::Peek { .. } | Op::Reauthenticate { .. } | Op::SetPolicy { .. } => {}
            _ => self.expose(now, died),
        }
        match *op {
            Op::Start { key, start } => self.learn_start(key, &start, now, answer),
            Op::Touch { key } => self.learn_touch(key, now, answer),
            Op::Peek { key } => {
                if let Answer::Verdict(verdict) = answer {
                    self.observe(key, now, *verdict);
                }
            }
            Op::Reauthenticate { key, token } => self.learn_change(key, now, answer, |session| {
                let mut life = session.life;
                life.token = token.unwrap_or(life.token);
                let half = Fate::Live(Session { life, ..*session });
                life.start = life.start.max(now);
                life.last = life.last.max(life.start);
                (Fate::Live(Session { life, ..*session }), Some(half))
            }),
            Op::End { key, cause } => {
                let end = End { cause, at: now };
                self.learn_end(&|_| true, Some(key), end, now, answer);
            }
            Op::EndSubject { subject } => {
                let end = End { cause: Cause::Revoked, at: now };
                self.learn_end(&|session| session.subject == subject, None, end, now, answer);
            }
            Op::EndAll { policy } => {
                let end = End { cause: Cause::Revoked, at: now };
                self.learn_end(&|session| session.policy == policy, None, end, now, answer);
            }
            Op::Rotate { old, new, overlap } => self.learn_rotate(old, new, overlap, now, answer),
            Op::SetPolicy { which, policy } => self.learn_policy(which, policy, now, answer),
            Op::Advance { .. } | Op::Repair | Op::Check => {}
        }
    }

    fn learn_policy(&mut self, which: usize, policy: Policy, now: Tick, answer: &Answer) {
        // A call that died has changed it, or not: reading it tells.
        let is_set = self.observer.policy(PolicyId::from_number(which as u8)) == Some(policy);
        match answer {
            Answer::Policy(Ok(_)) => assert!(is_set),
            Answer::Policy(Err(error)) => assert_eq!(*error, PolicyError::Busy),
            _ => {}
        }
        let (current, since) = *self.versions[which].last().unwrap();
        if is_set && current != policy {
            self.versions[which].push((policy, since.max(now)));
            if !self.unsettled.is_empty() {
                self.keep_by(which, &policy);
            }
        }
        if *answer == Answer::Died {
            self.unsettled.push(KEYS);
        }
    }

    /// Whoever takes over from somebody who died in an end keeps its record as the policy says by then.
    fn keep_by(&mut self, which: usize, policy: &Policy) {
        for key in 0..KEYS {
            for mut fate in self.fates[key].clone() {
                if let Fate::Ended { session, end, kept } | Fate::Alias { session, end, kept, .. } = &mut fate
                    && session.policy == which
                {
                    *kept = keep_until(&Life { token: Tick::NEVER, ..session.life }, policy, *end);
                    only(&mut self.fates[key], fate);
                }
            }
        }
    }

    fn learn_touch(&mut self, key: usize, now: Tick, answer: &Answer) {
        let mut fates = Vec::new();
        for fate in self.fates[key].clone() {
            let mut after = fate;
            if let Fate::Live(session) = &mut after {
                let (state, policy) = self.judge(session, now);
                if state == State::Active || (state == State::Grace && policy.grace_mode == GraceMode::Resume) {
                    session.life.last = session.life.last.max(now);
                }
            }
            match answer {
                Answer::Verdict(verdict) => {
                    // A session in grace answers so, with the time it has now.
                    let fits = match (&fate, &after) {
                        (Fate::Live(before), Fate::Live(after)) => {
                            let (state, policy) = self.judge(before, now);
                            let left = rules::left(&after.life, &policy, after.policy, now, false);
                            match state {
                                State::Active => *verdict == Verdict::Active(left),
                                State::Grace => *verdict == Verdict::Grace(left),
                                State::Ended(_) => self.answer(before, now) == *verdict,
                            }
                        }
                        _ => self.answers(&fate, now, 4).contains(verdict),
                    };
                    if fits {
                        only(&mut fates, after);
                    }
                }
                _ => {
                    only(&mut fates, fate);
                    only(&mut fates, after);
                }
            }
        }
        assert!(!fates.is_empty(), "key {key}: {answer:?} fits none of {:#?}", self.fates[key]);
        self.keep(key, fates);
    }

    /// A change of one live session: what it becomes, and what it may be if the call died half-way.
    fn learn_change(
        &mut self,
        key: usize,
        now: Tick,
        answer: &Answer,
        change: impl Fn(&Session) -> (Fate, Option<Fate>),
    ) {
        let mut fates = Vec::new();
        for fate in self.fates[key].clone() {
            let (expected, after, half) = match fate {
                Fate::Live(session) if self.is_over(&session, now).is_none() => {
                    let (after, half) = change(&session);
                    (Ok(()), after, half)
                }
                _ => match self.answers(&fate, now, 4)[..] {
                    [Verdict::Ended(end)] => (Err(ChangeError::Ended(end)), fate, None),
                    _ => (Err(ChangeError::Unknown), fate, None),
                },
            };
            match answer {
                Answer::Died => [Some(fate), Some(after), half].iter().flatten().for_each(|one| only(&mut fates, *one)),
                other if *other == Answer::Changed(expected) => only(&mut fates, after),
                _ => {}
            }
        }
        assert!(!fates.is_empty(), "key {key}: {answer:?} fits none of {:#?}", self.fates[key]);
        self.keep(key, fates);
        if *answer == Answer::Died {
            self.unsettled.push(key);
        }
    }

    /// Some or all sessions are ended by somebody's wish.
    fn learn_end(
        &mut self,
        is_meant: &dyn Fn(&Session) -> bool,
        key: Option<usize>,
        end: End,
        now: Tick,
        answer: &Answer,
    ) {
        let died = *answer == Answer::Died;
        let (mut possible, mut definite) = (0, 0);
        for this in 0..KEYS {
            if key.is_some_and(|key| key != this) {
                continue;
            }
            let mut fates = Vec::new();
            let (mut ends, mut stays) = (false, false);
            for fate in self.fates[this].clone() {
                match fate {
                    Fate::Live(session) if is_meant(&session) && self.is_over(&session, now).is_none() => {
                        let policy = self.policy(session.policy);
                        let endings = self.endings(&session, end, &policy, died);
                        let gone =
                            endings.iter().any(|ending| matches!(ending, Fate::Ended { kept, .. } if *kept <= now));
                        if died || self.unsettled.contains(&this) {
                            only(&mut fates, fate);
                        }
                        if matches!(answer, Answer::Changed(Err(_))) {
                            continue;
                        }
                        ends = true;
                        endings.into_iter().for_each(|ending| only(&mut fates, ending));
                        if gone {
                            only(&mut fates, Fate::Absent);
                        }
                    }
                    _ => {
                        let verdict = self.answers(&fate, now, 4);
                        let fits = match answer {
                            Answer::Changed(Ok(())) => false,
                            Answer::Changed(Err(ChangeError::Ended(end))) => verdict.contains(&Verdict::Ended(*end)),
                            Answer::Changed(Err(_)) => verdict.contains(&Verdict::Unknown),
                            _ => true,
                        };
                        if fits {
                            stays = true;
                            only(&mut fates, fate);
                        }
                    }
                }
            }
            assert!(!fates.is_empty(), "key {this}: {answer:?} fits none of {:#?}", self.fates[this]);
            possible += u64::from(ends);
            definite += u64::from(ends && !stays && !self.unsettled.contains(&this));
            if matches!(answer, Answer::Changed(Ok(())))
                && let Some(number) = number(&fates[0])
            {
                self.accounts[number].certain = true;
            }
            self.keep(this, fates);
        }
        if let Answer::Ended(count) = answer {
            assert!((definite..=possible).contains(count), "{count} were ended, of {definite} to {possible}");
        }
    }

    fn is_crowded(&self) -> bool {
        let used = |fates: &Vec<Fate>| fates.iter().any(|fate| *fate != Fate::Absent);
        self.capacity < 16 && self.fates.iter().filter(|fates| used(fates)).count() >= self.capacity
    }

    /// Somebody may have given up an ended record to make room.
    fn evict(&mut self) {
        for fates in &mut self.fates {
            if fates.iter().any(|fate| matches!(fate, Fate::Ended { .. } | Fate::Alias { .. })) {
                only(fates, Fate::Absent);
            }
        }
    }

    /// What stands in the way of a session with this key, if this is the fate of the key.
    fn taken(&self, fate: &Fate, now: Tick) -> Option<StartError> {
        match *fate {
            Fate::Absent | Fate::Frozen(_) => None,
            Fate::Live(session) if self.is_over(&session, now).is_none() => Some(StartError::Exists),
            // What is over is exposed as ended besides.
            Fate::Live(session) => match self.answer(&session, now) {
                Verdict::Ended(end) => Some(StartError::Ended(end)),
                _ => None,
            },
            Fate::Ended { kept, .. } | Fate::Alias { kept, .. } if kept <= now => None,
            Fate::Alias { end, .. } if end.at > now => Some(StartError::Exists),
            Fate::Ended { end, .. } | Fate::Alias { end, .. } => Some(StartError::Ended(end)),
        }
    }

    fn learn_start(&mut self, key: usize, start: &Start, now: Tick, answer: &Answer) {
        let died = *answer == Answer::Died;
        let which = usize::from(start.policy.number());
        let policy = self.policy(which);
        if policy.on_full == OnFull::EvictEnded && self.is_crowded() {
            self.evict();
        }
        let is_rival = |fate: &Fate| {
            matches!(fate, Fate::Live(session)
            if session.subject == start.subject && self.is_over(session, now).is_none())
        };
        let limited = policy.max_per_subject > 0 && start.subject != Subject::NONE;
        let most = policy.max_per_subject as usize;
        let possible = self.fates.iter().filter(|fates| fates.iter().any(is_rival)).count();
        let definite = self.fates.iter().filter(|fates| fates.iter().all(is_rival)).count();
        let since = self.versions[which].last().unwrap().1;
        let begun = now.max(since);
        let session = |number| Session {
            number,
            policy: which,
            life: Life { start: begun, last: begun, token: start.token, mark: None },
            subject: start.subject,
        };
        match answer {
            Answer::Started(Err(StartError::Full)) => assert!(self.is_crowded(), "there is room"),
            Answer::Started(Err(StartError::Limited)) => {
                assert!(limited && policy.on_limit == OnLimit::Deny && possible >= most, "the subject may have more");
            }
            Answer::Started(Err(error)) => {
                let fits: Vec<Fate> =
                    self.fates[key].iter().filter(|fate| self.taken(fate, now) == Some(*error)).copied().collect();
                assert!(!fits.is_empty(), "key {key}: {error:?} fits none of {:#?}", self.fates[key]);
                self.keep(key, fits);
            }
            _ => {
                let free = self.fates[key].iter().any(|fate| self.taken(fate, now).is_none());
                assert!(free || died, "key {key} is taken: {:#?}", self.fates[key]);
                assert!(
                    died || !limited || policy.on_limit != OnLimit::Deny || definite < most,
                    "the subject has {definite} of {most}"
                );
                let displaces = limited && policy.on_limit != OnLimit::Deny && possible >= most;
                assert!(!matches!(answer, Answer::Started(Ok(1..))) || displaces, "nobody had to go");
                if displaces {
                    let end = End { cause: Cause::Displaced, at: now };
                    for this in 0..KEYS {
                        for fate in self.fates[this].clone() {
                            if let Fate::Live(session) = fate
                                && session.subject == start.subject
                                && self.is_over(&session, now).is_none()
                            {
                                let policy = self.policy(session.policy);
                                for ending in self.endings(&session, end, &policy, died) {
                                    only(&mut self.fates[this], ending);
                                    if matches!(ending, Fate::Ended { kept, .. } if kept <= now) {
                                        only(&mut self.fates[this], Fate::Absent);
                                    }
                                }
                            }
                        }
                    }
                }
                if free {
                    let number = self.new_session(key, start.subject, !died);
                    let live = Fate::Live(session(number));
                    if died {
                        only(&mut self.fates[key], Fate::Absent);
                        only(&mut self.fates[key], live);
                    } else {
                        self.fates[key] = vec![live];
                    }
                }
            }
        }
    }

    fn learn_rotate(&mut self, old: usize, new: usize, overlap: Span, now: Tick, answer: &Answer) {
        let died = *answer == Answer::Died;
        let rules_of = |session: &Session| self.policy(session.policy);
        let may_evict = self.fates[old]
            .iter()
            .any(|fate| matches!(fate, Fate::Live(session) if rules_of(session).on_full == OnFull::EvictEnded));
        if may_evict && self.is_crowded() {
            self.evict();
        }
        let old_until = now.after(overlap).min(Tick::LAST);
        let mut fits = Vec::new();
        let mut moved = Vec::new();
        for fate in self.fates[old].clone() {
            let expected = match fate {
                Fate::Live(session) => match self.is_over(&session, now) {
                    None => {
                        if self.fates[new].iter().any(|fate| self.taken(fate, now).is_none()) && old != new {
                            moved.push(session);
                        }
                        matches!(answer, Answer::Rotated(Err(RotateError::Taken | RotateError::Full)))
                    }
                    // Exposed as ended besides.
                    Some(_) => false,
                },
                Fate::Alias { end, kept, .. } if kept > now && end.at > now => {
                    *answer == Answer::Rotated(Err(RotateError::Rotated))
                }
                Fate::Ended { end, kept, .. } | Fate::Alias { end, kept, .. } if kept > now => {
                    *answer == Answer::Rotated(Err(RotateError::Ended(end)))
                }
                _ => *answer == Answer::Rotated(Err(RotateError::Unknown)),
            };
            if expected || died {
                only(&mut fits, fate);
            }
        }
        match answer {
            Answer::Rotated(Err(RotateError::Full)) => assert!(self.is_crowded(), "there is room"),
            Answer::Rotated(Err(RotateError::Taken)) => {
                let taken: Vec<Fate> =
                    self.fates[new].iter().filter(|fate| self.taken(fate, now).is_some()).copied().collect();
                assert!(!taken.is_empty(), "key {new} is free");
                if old != new {
                    self.keep(new, taken);
                }
            }
            Answer::Rotated(Ok(until)) => assert_eq!(*until, old_until),
            _ => {}
        }
        if died || matches!(answer, Answer::Rotated(Ok(_))) {
            let mut news = Vec::new();
            let certain = !died && moved.len() == 1;
            for session in moved {
                let number = self.new_session(new, session.subject, certain);
                let policy = self.policy(session.policy);
                let mut ends = vec![End { cause: Cause::Rotated, at: old_until }];
                if died {
                    // An overlap that was not written down is over.
                    ends.push(End { cause: Cause::Rotated, at: session.life.start });
                }
                for end in ends {
                    self.accounts[session.number].ends.push((What::Rotated, end));
                    let lives = [session.life, Life { token: Tick::NEVER, ..session.life }];
                    for life in &lives[..if died { 2 } else { 1 }] {
                        let kept = keep_until(life, &policy, end);
                        let alias = Fate::Alias { session, end, kept, target: new, stands_for: number };
                        only(&mut fits, alias);
                        if kept <= now {
                            only(&mut fits, Fate::Absent);
                        }
                    }
                }
                news.push(Fate::Live(Session { number, ..session }));
            }
            assert!(!news.is_empty() || died, "nothing could be rotated");
            if died {
                if !news.is_empty() {
                    only(&mut self.fates[new], Fate::Absent);
                }
                news.into_iter().for_each(|fate| only(&mut self.fates[new], fate));
            } else {
                self.fates[new] = news;
            }
        }
        assert!(!fits.is_empty(), "key {old}: {answer:?} fits none of {:#?}", self.fates[old]);
        self.keep(old, fits);
    }

    fn read_events(&mut self) {
        let mut reader = self.observer.events_from(self.cursor);
        let events: Vec<Event> = reader.by_ref().collect();
        assert_eq!(reader.missed(), 0);
        self.cursor = reader.cursor();
        for event in events {
            let end = End { cause: event.cause, at: event.at };
            let key = self.keys.iter().position(|key| *key == event.key).expect("a key of ours");
            let is_it = |account: &&mut Account| {
                account.key == key
                    && account.subject == event.subject
                    && !account.reported
                    && account.ends.contains(&(event.what, end))
            };
            let Some(account) = self.accounts.iter_mut().find(is_it) else {
                let known: Vec<_> = self.accounts.iter().filter(|account| account.key == key).collect();
                panic!("{event:?} of key {key} is of no session that could have ended so, or its second: {known:#?}");
            };
            account.reported = true;
            account.certain = true;
        }
        if self.unsettled.is_empty() {
            self.close_accounts();
        }
    }

    /// A session that is nowhere any more is one that was reported, or one that never was.
    fn close_accounts(&mut self) {
        let open: Vec<usize> = self.fates.iter().flatten().filter_map(number).collect();
        for (number, account) in self.accounts.iter_mut().enumerate().filter(|(number, _)| !open.contains(number)) {
            assert!(account.reported || !account.certain, "session {number} is gone unreported: {account:?}");
            account.reported = true;
        }
    }

    /// Everything ends, and is forgotten; and every session that there was has ended in one event.
    fn finish(&mut self) {
        self.settle();
        self.expose(Tick::LAST, false);
        while self.observer.advance(Tick::LAST, 1000).more {}
        self.observer.check().unwrap();
        let stats = self.observer.stats();
        assert_eq!((stats.used, stats.live), (0, 0));
        self.read_events();
        for (number, account) in self.accounts.iter().enumerate() {
            assert!(account.reported || !account.certain, "session {number} has ended unreported: {account:?}");
        }
    }
}

fn number(fate: &Fate) -> Option<usize> {
    match *fate {
        Fate::Absent => None,
        Fate::Live(session) | Fate::Frozen(session) | Fate::Ended { session, .. } | Fate::Alias { session, .. } => {
            Some(session.number)
        }
    }
}

/// Runs one seed; how often somebody died.
fn run(seed: u64, directory: &Path, loud: bool) -> u64 {
    let mut world = World::new(seed, directory);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..STEPS {
            world.step();
        }
        world.finish();
    }));
    if loud || outcome.is_err() {
        let shown = if loud { world.log.len() } else { 25 };
        eprintln!("seed {seed}: capacity {}, policies {:#?}", world.capacity, world.versions);
        world.log.iter().skip(world.log.len().saturating_sub(shown)).for_each(|line| eprintln!("  {line}"));
    }
    std::fs::remove_file(&world.path).unwrap();
    if let Err(cause) = outcome {
        eprintln!("SEED={seed} make sim  makes this run again");
        resume_unwind(cause);
    }
    world.deaths
}

#[test]
fn actors_with_clocks_of_their_own_who_die_at_any_step_break_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let memory = Path::new("/dev/shm");
    let directory = tempfile::tempdir_in(if memory.is_dir() { memory } else { Path::new("/tmp") }).unwrap();
    if let Some(seed) = number("SEED") {
        println!("seed {seed}");
        run(seed, directory.path(), true);
        return;
    }
    let first = number("FIRST").unwrap_or(0);
    let seeds = number("SEEDS").unwrap_or(300);
    println!("seeds {first} to {}", first + seeds - 1);
    let mut deaths = 0;
    for seed in first..first + seeds {
        deaths += run(seed, directory.path(), false);
        if (seed + 1 - first).is_multiple_of(1000) {
            println!("{} seeds, {deaths} deaths", seed + 1 - first);
        }
    }
    println!("{} steps, {deaths} deaths", seeds * STEPS as u64);
    assert!(deaths > seeds, "they die");
}

//! The plainest reference there is for a table: a map, and the pure state function asked by brute
//! force. [`run`] lets a table and the model do the same operations on few keys; after every step
//! every key is compared, and in the end every event.
//!
//! Where a clock steps back, two answers are right: what the state function says for that `now`,
//! and the end that somebody with a later `now` has already recorded. The model learns which.

use std::collections::BTreeMap;

use curfew_engine::{
    Batched, Binding, Cause, ChangeError, Config, End, Event, Filter, GraceMode, Key, Life, Mismatch, OnFull, OnLimit,
    OnMismatch, Policy, PolicyError, PolicyId, RotateError, Span, Start, StartError, State, Subject, Table, Tick,
    Verdict, What, keep_until,
};

#[path = "rules.rs"]
mod rules;
use rules::{Times, Told};

/// Keys that operations may name.
pub(crate) const KEYS: usize = 10;
/// Policies of a table.
pub(crate) const POLICIES: usize = 3;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Forward(u64),
    Back(u64),
    Start { key: usize, policy: usize, subject: u8, binding: u8, token: u64 },
    Touch { key: usize, binding: u8 },
    TouchAll { binding: u8 },
    Reauthenticate { key: usize, token: Option<u64> },
    Rotate { old: usize, new: usize, overlap: u64 },
    End { key: usize, cause: Cause },
    EndSubject { subject: u8 },
    EndAll { policy: Option<usize>, idle_for: Option<u64> },
    SetPolicy { which: usize, policy: Policy },
    Advance { budget: usize },
    Repair,
}

/// A record as the model has it.
#[derive(Clone, Debug)]
struct Record {
    number: u64,
    policy: usize,
    life: Life,
    binding: Binding,
    subject: Subject,
    /// Set with the mark.
    kept_until: Tick,
    /// For the old key of a rotated session: the new key and the record it stood for.
    alias: Option<(usize, u64)>,
}

struct Model {
    table: Table,
    keys: Vec<Key>,
    records: BTreeMap<usize, Record>,
    /// Every version of every policy with the tick since when it holds.
    versions: Vec<Vec<(Policy, Tick)>>,
    changes: Vec<usize>,
    capacity: usize,
    now: Tick,
    latest: Tick,
    /// The clock has stepped back and is not past what it has shown before.
    lags: bool,
    next_number: u64,
    expected: Vec<Event>,
    seen: Vec<Event>,
    cursor: u64,
}

fn at(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

impl Model {
    fn new(capacity: usize, policies: &[Policy], origin: u64) -> Model {
        let config = Config { events: 1 << 12, secret: Some([7; 32]), ..Config::new(capacity as u64) };
        let table = Table::private(&config).unwrap();
        let now = at(origin);
        for (number, policy) in policies.iter().enumerate() {
            table.set_policy(&format!("p{number}"), policy, now).unwrap();
        }
        Model {
            keys: (0..KEYS).map(|key| table.key(&[key as u8])).collect(),
            table,
            records: BTreeMap::new(),
            versions: policies.iter().map(|policy| vec![(*policy, Tick::ZERO)]).collect(),
            changes: vec![0; policies.len()],
            capacity,
            now,
            latest: now,
            lags: false,
            next_number: 1,
            expected: Vec::new(),
            seen: Vec::new(),
            cursor: 0,
        }
    }

    fn binding(&self, binding: u8) -> Binding {
        if binding == 0 { Binding::NONE } else { self.table.binding(&[binding]) }
    }

    fn subject(&self, subject: u8) -> Subject {
        if subject == 0 { Subject::NONE } else { self.table.subject(&[subject]) }
    }

    fn policy(&self, number: usize) -> Policy {
        self.versions[number].last().unwrap().0
    }

    /// The state of a life, and the version of the policy that decided.
    fn judge(&self, record: &Record, now: Tick) -> (State, Policy) {
        rules::judge(&self.versions[record.policy], &record.life, now)
    }

    fn kept_until(&self, record: &Record, policy: &Policy, end: End) -> Tick {
        if record.life.mark.is_some() { record.kept_until } else { keep_until(&record.life, policy, end) }
    }

    /// What is left of a session that has ended is its record, and one event.
    fn end(&mut self, key: usize, end: End, policy: &Policy) {
        let record = &self.records[&key];
        let kept_until = keep_until(&record.life, policy, end);
        self.expected.push(self.event(key, What::Ended, end));
        let record = self.records.get_mut(&key).unwrap();
        record.kept_until = kept_until;
        record.life.mark = Some(end);
    }

    fn event(&self, key: usize, what: What, end: End) -> Event {
        let record = &self.records[&key];
        Event {
            what,
            at: end.at,
            key: self.keys[key],
            subject: record.subject,
            policy: PolicyId::from_number(record.policy as u8),
            cause: end.cause,
            age: end.at.since(record.life.start),
            idle: end.at.since(record.life.last),
            bytes: 0,
        }
    }

    /// What a peek at a key should answer by a clock that says `now`.
    fn verdict(&self, key: usize, now: Tick, presented: Binding) -> Told {
        let Some(record) = self.records.get(&key) else { return Told::Unknown };
        if let Some((target, number)) = record.alias {
            let end = record.life.mark.unwrap();
            if record.kept_until <= now {
                return Told::Unknown;
            }
            if end.at <= now {
                return Told::Ended(end);
            }
            let stands_for = self.records.get(&target).filter(|record| record.number == number);
            return match stands_for.map_or(Told::Unknown, |_| self.verdict(target, now, presented)) {
                Told::Unknown => Told::Ended(end),
                other => other,
            };
        }
        let (state, policy) = self.judge(record, now);
        if let State::Ended(end) = state {
            let kept = self.kept_until(record, &policy, end) > now;
            return if kept { Told::Ended(end) } else { Told::Unknown };
        }
        let mut mismatch = false;
        if record.binding != Binding::NONE && record.binding != presented {
            if policy.on_mismatch != OnMismatch::Log {
                return Told::Mismatch(Mismatch { ended: false });
            }
            mismatch = true;
        }
        let left = self.left(record, &policy, now, mismatch);
        if state == State::Grace { Told::Grace(left) } else { Told::Active(left) }
    }

    fn left(&self, record: &Record, policy: &Policy, now: Tick, mismatch: bool) -> Times {
        rules::left(&record.life, policy, record.policy, now, mismatch)
    }

    /// Compares every key, and learns which ends have been recorded by a later clock.
    fn compare_all(&mut self) {
        for key in (0..KEYS).cycle().take(3 * KEYS) {
            let binding = self.records.get(&key).map_or(Binding::NONE, |record| match record.alias {
                Some((target, _)) => self.records.get(&target).map_or(Binding::NONE, |target| target.binding),
                None => record.binding,
            });
            let answer = Told::from(self.table.peek(self.keys[key], binding, self.now));
            if answer != self.verdict(key, self.now, binding) && self.now < self.latest {
                self.settle_like(key, answer, binding);
            }
        }
        for key in 0..KEYS {
            for binding in 0..3 {
                let binding = self.binding(binding);
                let answer = Told::from(self.table.peek(self.keys[key], binding, self.now));
                assert_eq!(answer, self.verdict(key, self.now, binding), "key {key} at {:?}", self.now);
            }
        }
    }

    /// Ends and forgets by `now`.
    fn settle(&mut self, key: usize, now: Tick) {
        let Some(record) = self.records.get(&key) else { return };
        if record.life.mark.is_none()
            && let (State::Ended(end), policy) = self.judge(record, now)
        {
            self.end(key, end, &policy);
        }
        if self.records[&key].life.mark.is_some() && self.records[&key].kept_until <= now {
            self.records.remove(&key);
        }
    }

    /// Takes over what a later clock has recorded about one of the records that a key leads to by way of rotations:
    /// the first such change that explains the answer.
    fn settle_like(&mut self, key: usize, answer: Told, presented: Binding) {
        let mut next = Some(key);
        let explains = |model: &Model| model.verdict(key, model.now, presented) == answer;
        for _ in 0..KEYS {
            let Some(key) = next else { return };
            let alias = self.records.get(&key).and_then(|record| record.alias);
            next = alias.map(|(target, _)| target);
            let before = (self.records.clone(), self.expected.len());
            if let Some(record) = self.records.get(&key)
                && record.life.mark.is_none()
                && let (State::Ended(end), policy) = self.judge(record, self.latest)
            {
                self.end(key, end, &policy);
            }
            if explains(self) {
                return;
            }
            self.settle(key, self.latest);
            if explains(self) {
                return;
            }
            self.records = before.0;
            self.expected.truncate(before.1);
        }
    }

    fn is_live(&self, key: usize) -> bool {
        let live = |record: &Record| !matches!(self.judge(record, self.now).0, State::Ended(_));
        self.records.get(&key).is_some_and(live)
    }

    /// Until when a record that has ended by our clock is kept.
    fn ended_until(&self, key: usize) -> Option<Tick> {
        let record = self.records.get(&key)?;
        match self.judge(record, self.now) {
            (State::Ended(end), policy) => Some(self.kept_until(record, &policy, end)),
            _ => None,
        }
    }

    /// The live session that a key stands for.
    fn resolve(&self, key: usize) -> usize {
        match self.records.get(&key) {
            Some(Record { alias: Some((target, number)), life, .. })
                if life.mark.unwrap().at > self.now
                    && self.records.get(target).is_some_and(|record| record.number == *number) =>
            {
                self.resolve(*target)
            }
            _ => key,
        }
    }

    fn change_error(&self, key: usize) -> ChangeError {
        match self.verdict(key, self.now, Binding::NONE) {
            Told::Ended(end) => ChangeError::Ended(end),
            _ => ChangeError::Unknown,
        }
    }

    fn step(&mut self, op: &Op) {
        let now = self.now;
        match *op {
            Op::Forward(by) => {
                self.now = now.after(Span::from_millis(by)).min(Tick::LAST);
                self.lags &= self.now <= self.latest;
                self.latest = self.latest.max(self.now);
            }
            Op::Back(by) => {
                self.now = at(now.as_millis().saturating_sub(by));
                self.lags |= by > 0;
            }
            Op::Start { key, policy, subject, binding, token } => self.start(key, policy, subject, binding, token),
            Op::Touch { key, binding } => {
                let presented = self.binding(binding);
                let expected = self.touch(key, presented);
                assert_eq!(Told::from(self.table.touch(self.keys[key], presented, now)), expected);
            }
            Op::TouchAll { binding } => {
                let presented = self.binding(binding);
                let mut batch: Vec<_> = self.keys.iter().map(|key| Batched::new(*key, presented)).collect();
                self.table.touch_many(&mut batch, now);
                for (key, answer) in batch.iter().enumerate() {
                    assert_eq!(Told::from(answer.verdict), self.touch(key, presented));
                }
            }
            Op::Reauthenticate { key, token } => {
                // Expired by our clock, or good by everybody's.
                let token = token.map(|span| if span == 0 { now } else { self.latest.after(Span::from_millis(span)) });
                let answer = self.table.reauthenticate(self.keys[key], token, now);
                let target = self.resolve(key);
                if !self.is_live(target) {
                    assert_eq!(answer, Err(self.change_error(key)));
                } else if token.is_some_and(|token| token <= now) {
                    assert_eq!(answer, Err(ChangeError::TokenExpired));
                } else {
                    assert_eq!(answer, Ok(()));
                    let life = &mut self.records.get_mut(&target).unwrap().life;
                    life.start = life.start.max(now);
                    life.last = life.last.max(life.start);
                    life.token = token.unwrap_or(life.token);
                }
            }
            Op::Rotate { old, new, overlap } => self.rotate(old, new, Span::from_millis(overlap)),
            Op::End { key, cause } => {
                let answer = self.table.end(self.keys[key], cause, now);
                let target = self.resolve(key);
                if self.is_live(target) {
                    assert_eq!(answer, Ok(()));
                    let policy = self.policy(self.records[&target].policy);
                    self.end(target, End { cause, at: now }, &policy);
                } else {
                    assert_eq!(answer, Err(self.change_error(key)));
                }
            }
            Op::EndSubject { subject } => {
                let subject = self.subject(subject);
                let listed = self.table.sessions_of(subject, now).len();
                let ended = self.end_where(Cause::Revoked, |record| record.subject == subject);
                assert_eq!(listed as u64, ended);
                assert_eq!(self.table.end_subject(subject, Cause::Revoked, now), ended);
            }
            Op::EndAll { policy, idle_for } => {
                let idle_since = idle_for.map(|span| at(now.as_millis().saturating_sub(span)));
                let filter = Filter {
                    policy: policy.map(|policy| PolicyId::from_number(policy as u8)),
                    started_before: None,
                    idle_since,
                };
                let ended = self.end_where(Cause::Revoked, |record| {
                    policy.is_none_or(|policy| policy == record.policy)
                        && idle_since.is_none_or(|tick| record.life.last < tick)
                });
                assert_eq!(self.table.end_all(&filter, Cause::Revoked, now), ended);
            }
            Op::SetPolicy { which, policy } => match self.table.set_policy(&format!("p{which}"), &policy, now) {
                Ok(id) => {
                    assert_eq!(usize::from(id.number()), which);
                    let (current, since) = *self.versions[which].last().unwrap();
                    if current != policy {
                        self.versions[which].push((policy, since.max(now)));
                        self.changes[which] += 1;
                    }
                }
                Err(error) => {
                    assert_eq!(error, PolicyError::Busy);
                    assert!(self.changes[which] >= 3, "busy after {} changes", self.changes[which]);
                }
            },
            Op::Advance { budget } => {
                let advance = self.table.advance(now, budget);
                assert!(advance.done <= budget);
                assert!(budget == 0 || advance.done > 0 || !advance.more);
                if !advance.more {
                    self.changes.fill(0);
                }
            }
            Op::Repair => self.table.repair(),
        }
    }

    fn touch(&mut self, key: usize, presented: Binding) -> Told {
        let now = self.now;
        let before = self.verdict(key, now, presented);
        let target = self.resolve(key);
        match before {
            Told::Mismatch(_) => {
                let policy = self.policy(self.records[&target].policy);
                let ended = policy.on_mismatch == OnMismatch::End;
                if ended {
                    self.end(target, End { cause: Cause::Binding, at: now }, &policy);
                }
                Told::Mismatch(Mismatch { ended })
            }
            Told::Active(_) | Told::Grace(_) => {
                let policy = self.policy(self.records[&target].policy);
                if matches!(before, Told::Active(_)) || policy.grace_mode == GraceMode::Resume {
                    let life = &mut self.records.get_mut(&target).unwrap().life;
                    life.last = life.last.max(now);
                }
                let mismatch = matches!(before, Told::Active(left) | Told::Grace(left) if left.mismatch);
                let left = self.left(&self.records[&target], &policy, now, mismatch);
                if matches!(before, Told::Grace(_)) { Told::Grace(left) } else { Told::Active(left) }
            }
            other => other,
        }
    }

    fn end_where(&mut self, cause: Cause, which: impl Fn(&Record) -> bool) -> u64 {
        let meant: Vec<_> =
            (0..KEYS).filter(|key| self.is_live(*key) && self.records.get(key).is_some_and(&which)).collect();
        for key in &meant {
            let policy = self.policy(self.records[key].policy);
            self.end(*key, End { cause, at: self.now }, &policy);
            self.settle(*key, self.now);
        }
        meant.len() as u64
    }

    /// Whether a record more fits, given what the engine may know that the model need not.
    fn make_room(&mut self, policy: &Policy, answered_full: bool) -> bool {
        let until: Vec<_> = (0..KEYS).map(|key| self.ended_until(key)).collect();
        let used = (0..KEYS).filter(|key| self.records.contains_key(key) && until[*key].is_none_or(|t| t > self.now));
        let fits = used.count() < self.capacity;
        if self.lags {
            // What should be forgotten by our clock may be filed for a later one and still be there:
            // then the table is full a little sooner.
            let ended = (0..KEYS).filter(|key| until[*key].is_some_and(|tick| tick > self.now));
            let gone: Vec<_> = ended.filter(|key| !self.table_has(*key)).collect();
            assert!(gone.len() <= usize::from(policy.on_full == OnFull::EvictEnded && !answered_full));
            for key in &gone {
                self.settle(*key, self.now);
                self.records.remove(key);
            }
            return !answered_full && (fits || !gone.is_empty());
        }
        if fits {
            return true;
        }
        if policy.on_full == OnFull::Refuse {
            return false;
        }
        let Some(soonest) = until.iter().flatten().filter(|tick| **tick > self.now).min() else { return false };
        // Which of several that are alike is the table's choice: the one that is gone.
        let candidates = (0..KEYS).filter(|key| until[*key] == Some(*soonest));
        let gone: Vec<_> = candidates.filter(|key| !self.table_has(*key)).collect();
        if !answered_full {
            assert_eq!(gone.len(), 1, "one record is given up, the one that would be forgotten soonest");
            self.settle(gone[0], self.now);
            self.records.remove(&gone[0]);
        }
        true
    }

    fn table_has(&self, key: usize) -> bool {
        self.table.sessions(self.now).any(|session| session.key == self.keys[key])
    }

    fn start(&mut self, key: usize, policy: usize, subject: u8, binding: u8, token: u64) {
        let now = self.now;
        let token = if token == 0 { Tick::NEVER } else { self.latest.after(Span::from_millis(token)) };
        let (subject, binding) = (self.subject(subject), self.binding(binding));
        let start = Start { policy: PolicyId::from_number(policy as u8), subject, binding, token };
        let answer = self.table.start(self.keys[key], &start, now);
        let rules = self.policy(policy);
        self.settle(key, now);
        if let Some(record) = self.records.get(&key) {
            let expected = match record.life.mark {
                Some(end) if record.alias.is_some() && end.at > now => StartError::Exists,
                Some(end) => StartError::Ended(end),
                None => StartError::Exists,
            };
            assert_eq!(answer, Err(expected));
            return;
        }
        let live: Vec<_> = (0..KEYS).filter(|key| self.is_live(*key) && self.records[key].subject == subject).collect();
        let limited = subject != Subject::NONE && rules.max_per_subject > 0;
        let surplus = (live.len() + 1).saturating_sub(rules.max_per_subject as usize);
        let displaces = limited && surplus > 0;
        if displaces && rules.on_limit == OnLimit::Deny {
            assert_eq!(answer, Err(StartError::Limited));
            return;
        }
        if !self.make_room(&rules, answer == Err(StartError::Full)) {
            assert_eq!(answer, Err(StartError::Full));
            return;
        }
        let displaced = if displaces { surplus } else { 0 };
        if displaces {
            // Of sessions that are alike it is the table's choice; it must not be one that is not.
            let first = |key: &usize| {
                let life = self.records[key].life;
                if rules.on_limit == OnLimit::EndOldest { life.start } else { life.last }
            };
            let (stayed, went): (Vec<usize>, Vec<usize>) = live.iter().partition(|key| {
                let binding = self.records[*key].binding;
                matches!(self.table.peek(self.keys[**key], binding, now), Verdict::Active(_) | Verdict::Grace(_))
            });
            assert_eq!(went.len(), surplus);
            assert!(went.iter().map(first).max() <= stayed.iter().map(first).min().or(Some(Tick::NEVER)));
            for key in &went {
                let policy = self.policy(self.records[key].policy);
                self.end(*key, End { cause: Cause::Displaced, at: now }, &policy);
                self.settle(*key, now);
            }
        }
        assert_eq!(answer.map(|started| started.displaced as usize), Ok(displaced));
        let since = self.versions[policy].last().unwrap().1;
        let begun = now.max(since);
        self.insert(
            key,
            Record {
                number: 0,
                policy,
                life: Life { start: begun, last: begun, token, mark: None },
                binding,
                subject,
                kept_until: Tick::NEVER,
                alias: None,
            },
        );
    }

    fn insert(&mut self, key: usize, record: Record) {
        self.records.insert(key, Record { number: self.next_number, ..record });
        self.next_number += 1;
    }

    fn rotate(&mut self, old: usize, new: usize, overlap: Span) {
        let now = self.now;
        let answer = self.table.rotate(self.keys[old], self.keys[new], overlap, now);
        self.settle(old, now);
        let Some(record) = self.records.get(&old).cloned() else {
            assert_eq!(answer, Err(RotateError::Unknown));
            return;
        };
        match record.life.mark {
            Some(end) if record.alias.is_some() && end.at > now => {
                assert_eq!(answer, Err(RotateError::Rotated));
                return;
            }
            Some(end) => {
                assert_eq!(answer, Err(RotateError::Ended(end)));
                return;
            }
            None => {}
        }
        self.settle(new, now);
        if self.records.contains_key(&new) {
            assert_eq!(answer, Err(RotateError::Taken));
            return;
        }
        let policy = self.policy(record.policy);
        if !self.make_room(&policy, answer == Err(RotateError::Full)) {
            assert_eq!(answer, Err(RotateError::Full));
            return;
        }
        let old_until = now.after(overlap).min(Tick::LAST);
        assert_eq!(answer.map(|rotated| rotated.old_until), Ok(old_until));
        let end = End { cause: Cause::Rotated, at: old_until };
        self.expected.push(self.event(old, What::Rotated, end));
        self.insert(new, record);
        let number = self.next_number - 1;
        let record = self.records.get_mut(&old).unwrap();
        record.kept_until = keep_until(&record.life, &policy, end);
        record.life.mark = Some(end);
        record.alias = Some((new, number));
    }

    fn read_events(&mut self) {
        let mut reader = self.table.events_from(self.cursor);
        self.seen.extend(reader.by_ref());
        assert_eq!(reader.missed(), 0);
        self.cursor = reader.cursor();
    }

    fn finish(mut self) {
        self.now = self.latest;
        self.compare_all();
        while self.table.advance(self.now, 1000).more {}
        self.now = Tick::LAST;
        self.latest = Tick::LAST;
        self.compare_all();
        while self.table.advance(self.now, 1000).more {}
        for key in 0..KEYS {
            self.settle(key, self.now);
        }
        self.table.check().unwrap();
        self.read_events();
        let order = |event: &Event| (event.at, event.key, event.what as u8, event.cause, event.age, event.idle);
        self.seen.sort_by_key(order);
        self.expected.sort_by_key(order);
        assert_eq!(self.seen, self.expected);
        let stats = self.table.stats();
        let ended = self.expected.iter().filter(|event| event.what == What::Ended).count() as u64;
        assert_eq!(stats.ended_in_all(), ended);
        assert_eq!(stats.started, stats.live + ended);
        assert_eq!(stats.live, (0..KEYS).filter(|key| self.is_live(*key)).count() as u64);
    }
}

/// Does the operations on a new table and on the model, and compares them at every step.
pub(crate) fn run(capacity: usize, policies: &[Policy], origin: u64, ops: &[Op]) {
    let mut model = Model::new(capacity, policies, origin);
    for op in ops {
        model.compare_all();
        model.step(op);
        model.read_events();
        model.table.check().unwrap();
    }
    model.finish();
}

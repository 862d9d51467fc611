//! What the actors do, and how they die of it.

use std::cell::Cell;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use curfew_engine::{
    Binding, Cause, ChangeError, Filter, Key, Policy, PolicyError, PolicyId, RotateError, Span, Start, StartError,
    Subject, Table, Tick, crash,
};

use crate::common::rules::Told;
use crate::fates::Fate;
use crate::world::{KEYS, POLICIES, World, at};

#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
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
pub(crate) enum Answer {
    Died,
    Started(Result<u32, StartError>),
    Verdict(Told),
    Changed(Result<(), ChangeError>),
    Rotated(Result<Tick, RotateError>),
    Ended(u64),
    Policy(Result<PolicyId, PolicyError>),
    Done,
}

impl World {
    /// An operation. After a death only one that takes the locks it needs before it looks: what is
    /// seen without them may change once more when somebody takes over.
    pub(crate) fn op(&mut self) -> Op {
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

    pub(crate) fn call(table: &Table, keys: &[Key], op: &Op, now: Tick) -> Answer {
        match *op {
            Op::Start { key, start } => {
                Answer::Started(table.start(keys[key], &start, now).map(|started| started.displaced))
            }
            Op::Touch { key } => Answer::Verdict(table.touch(keys[key], Binding::NONE, now).into()),
            Op::Peek { key } => Answer::Verdict(table.peek(keys[key], Binding::NONE, now).into()),
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
    pub(crate) fn step(&mut self) {
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
}

//! The region, its actors and their clocks, and what is known of every session.

use std::path::{Path, PathBuf};

use curfew_engine::{Config, End, Key, Policy, State, Subject, Table, Tick, What};

use crate::common::rules;
use crate::fates::{Fate, Session};
use crate::random::Random;

pub(crate) const KEYS: usize = 12;
pub(crate) const POLICIES: usize = 3;

/// What is known of a session, besides where it may be now.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) key: usize,
    pub(crate) subject: Subject,
    /// A call that returned has begun it, or somebody saw it.
    pub(crate) certain: bool,
    /// The event that it ended in, as far as can be told.
    pub(crate) reported: Option<(What, End)>,
    /// It is nowhere any more.
    pub(crate) closed: bool,
    /// The ends that it may have come to.
    pub(crate) ends: Vec<(What, End)>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// Behind, or ahead of, the others by so much.
    Skewed(i64),
    Frozen(u64),
    /// Steps back and forth.
    Stepping,
}

pub(crate) struct Actor {
    pub(crate) table: Option<Table>,
    pub(crate) clock: Clock,
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) path: PathBuf,
    pub(crate) capacity: usize,
    pub(crate) actors: Vec<Actor>,
    pub(crate) observer: Table,
    pub(crate) keys: Vec<Key>,
    pub(crate) time: u64,
    /// The latest that any clock has said.
    pub(crate) latest: u64,
    pub(crate) versions: Vec<Vec<(Policy, Tick)>>,
    pub(crate) fates: Vec<Vec<Fate>>,
    pub(crate) accounts: Vec<Account>,
    /// Keys whose records a call that died may have left half-changed, until somebody took over.
    pub(crate) unsettled: Vec<usize>,
    pub(crate) cursor: u64,
    pub(crate) log: Vec<String>,
    pub(crate) deaths: u64,
}

pub(crate) fn at(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

impl World {
    pub(crate) fn new(seed: u64, directory: &Path) -> World {
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

    pub(crate) fn clock(&mut self) -> Clock {
        match self.random.below(5) {
            0 => Clock::Frozen(self.time),
            1 => Clock::Stepping,
            _ => {
                let skew = self.random.below(60) as i64 - 30;
                Clock::Skewed(self.random.pick(&[0, 0, skew]))
            }
        }
    }

    pub(crate) fn now(&mut self, actor: usize) -> Tick {
        match self.actors[actor].clock {
            Clock::Skewed(by) => at(self.time.saturating_add_signed(by)),
            Clock::Frozen(at_time) => at(at_time),
            Clock::Stepping => at((self.time + self.random.below(40)).saturating_sub(self.random.below(200))),
        }
    }

    pub(crate) fn policy(&self, number: usize) -> Policy {
        self.versions[number].last().unwrap().0
    }

    pub(crate) fn judge(&self, session: &Session, now: Tick) -> (State, Policy) {
        rules::judge(&self.versions[session.policy], &session.life, now)
    }

    pub(crate) fn is_over(&self, session: &Session, now: Tick) -> Option<(End, Policy)> {
        match self.judge(session, now) {
            (State::Ended(end), policy) => Some((end, policy)),
            _ => None,
        }
    }

    pub(crate) fn subjects(&self) -> [Subject; 3] {
        [Subject::NONE, self.observer.subject(b"a"), self.observer.subject(b"b")]
    }

    pub(crate) fn new_session(&mut self, key: usize, subject: Subject, certain: bool) -> usize {
        self.accounts.push(Account { key, subject, certain, reported: None, closed: false, ends: Vec::new() });
        self.accounts.len() - 1
    }
}

//! Accounts: each session is in one event at its end, and in no second one.

use curfew_engine::{Binding, End, Event, Key, Tick};

use crate::fates::{Fate, number};
use crate::world::{Account, KEYS, World, at};

impl World {
    /// Lets somebody who has not been there take over whatever there is to take over, and looks.
    pub(crate) fn settle(&mut self) {
        self.observer.check().unwrap();
        self.thaw();
        for fates in &mut self.fates {
            fates.retain(|fate| !matches!(fate, Fate::Frozen(_)));
        }
        self.unsettled.clear();
        let now = at(self.time);
        for key in (0..KEYS).chain(0..KEYS) {
            let verdict = self.observer.peek(self.keys[key], Binding::NONE, now);
            self.observe(key, now, verdict.into());
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

    pub(crate) fn read_events(&mut self) {
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
                    && account.reported.is_none()
                    && !account.closed
                    && account.ends.contains(&(event.what, end))
            };
            let Some(account) = self.accounts.iter_mut().find(is_it) else {
                let known: Vec<_> = self.accounts.iter().filter(|account| account.key == key).collect();
                panic!("{event:?} of key {key} is of no session that could have ended so, or its second: {known:#?}");
            };
            account.reported = Some((event.what, end));
        }
        if self.unsettled.is_empty() {
            self.close_accounts();
        }
    }

    /// A session that is nowhere any more is one that was reported, or one that never was.
    pub(crate) fn close_accounts(&mut self) {
        let open: Vec<usize> = self.fates.iter().flatten().filter_map(number).collect();
        for number in (0..self.accounts.len()).filter(|number| !open.contains(number)) {
            self.demand_report(number);
            self.accounts[number].closed = true;
        }
    }

    /// A session that there was must have ended in an event. When two calls that died each may have
    /// begun a session of one key and one subject, an event can fit both, and was put down to the
    /// first: it is the second's when that turns out to be the one that there was.
    fn demand_report(&mut self, number: usize) {
        let account = self.accounts[number].clone();
        if account.reported.is_some() || !account.certain {
            return;
        }
        let has_its_event = |other: &&mut Account| {
            (other.key, other.subject, other.certain) == (account.key, account.subject, false)
                && other.reported.is_some_and(|event| account.ends.contains(&event))
        };
        let other = self.accounts.iter_mut().find(has_its_event);
        let other = other.unwrap_or_else(|| panic!("session {number} has ended unreported: {account:?}"));
        self.accounts[number].reported = other.reported.take();
    }

    /// Everything ends, and is forgotten; and every session that there was has ended in one event.
    pub(crate) fn finish(&mut self) {
        self.settle();
        self.expose(Tick::LAST, false);
        while self.observer.advance(Tick::LAST, 1000).more {}
        self.observer.check().unwrap();
        let stats = self.observer.stats();
        assert_eq!((stats.used, stats.live), (0, 0));
        self.read_events();
        for number in 0..self.accounts.len() {
            self.demand_report(number);
        }
    }
}

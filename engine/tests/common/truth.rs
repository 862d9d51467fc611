//! What must be true of a scene after a process died in its call, and somebody took over.

use std::collections::BTreeMap;

use curfew_engine::{Key, SessionInfo, State, Subject, Table, Tick, Verdict, What};

use super::scenes::{NOW, Scene, Stage, at};

/// What becomes of every key: its answer after the call, and the events it has when all has ended.
#[derive(Clone, Debug)]
pub struct Fate {
    pub verdict: Verdict,
    /// Whose it is, and in whose list it is found, as long as it is alive.
    pub subject: Option<Subject>,
    pub ended: usize,
    pub rotated: usize,
}

pub type Fates = BTreeMap<Key, Fate>;

/// The answers at the time of the call.
pub fn verdicts(stage: &Stage) -> BTreeMap<Key, Verdict> {
    stage.keys().into_iter().map(|key| (key, stage.table.peek(key, stage.device(), at(NOW)))).collect()
}

/// Lets everything end, and counts.
pub fn fates(stage: &Stage) -> Fates {
    stage.table.check().unwrap();
    let verdicts = verdicts(stage);
    let subjects: BTreeMap<_, _> = stage.keys().into_iter().map(|key| (key, subject(stage, key))).collect();
    finish(&stage.table);
    let mut reader = stage.table.events();
    let events: Vec<_> = reader.by_ref().collect();
    assert_eq!(reader.missed(), 0);
    let count = |key: Key, what: What| events.iter().filter(|event| event.key == key && event.what == what).count();
    let fate = |key: Key, verdict| Fate {
        verdict,
        subject: subjects[&key],
        ended: count(key, What::Ended),
        rotated: count(key, What::Rotated),
    };
    verdicts.into_iter().map(|(key, verdict)| (key, fate(key, verdict))).collect()
}

fn subject(stage: &Stage, key: Key) -> Option<Subject> {
    let alive = |info: &SessionInfo| info.key == key && !matches!(info.state, State::Ended(_));
    let subject = stage.table.sessions(at(NOW)).find(alive)?.subject;
    if subject != Subject::NONE {
        assert!(
            stage.table.sessions_of(subject, at(NOW)).iter().any(|info| info.key == key),
            "{key} cannot be revoked"
        );
    }
    Some(subject)
}

fn finish(table: &Table) {
    while table.advance(Tick::LAST, 1000).more {}
    let stats = table.stats();
    assert_eq!((stats.live, stats.used), (0, 0));
    table.check().unwrap();
}

/// Compares what there is with what there would be if the call had not been made, and if it had
/// been made to its end.
pub fn judge(scene: &Scene, stage: &Stage, without: &Fates, with: &Fates) {
    let found = fates(stage);
    for (key, found) in &found {
        let (without, with) = (&without[key], &with[key]);
        let verdict = found.verdict;
        assert!(
            verdict == without.verdict || verdict == with.verdict || (scene.between)(&verdict),
            "{key}: {verdict:?} is neither {:?} nor {:?}",
            without.verdict,
            with.verdict
        );
        let subjects = [None, without.subject, with.subject];
        assert!(subjects.contains(&found.subject), "{key} is now of {:?}", found.subject);
        let within = |found: usize, one: usize, other: usize| (one.min(other)..=one.max(other)).contains(&found);
        let all = |fate: &Fate| fate.ended + fate.rotated;
        let fits = within(found.ended, without.ended, with.ended)
            && within(found.rotated, without.rotated, with.rotated)
            && within(all(found), all(without), all(with));
        assert!(fits, "{key} has events of {found:?}, without the call {without:?}, with it {with:?}");
        if matches!(verdict, Verdict::Active(_) | Verdict::Grace(_)) && found.rotated == 0 {
            let same = if verdict == without.verdict { without } else { with };
            assert!(found.ended > 0 && found.ended >= same.ended, "{key} was alive and its end was not reported");
        }
    }
    for key in stage.bystanders() {
        assert!(matches!(found[&key].verdict, Verdict::Active(_)), "{key} had nothing to do with it");
        assert_eq!(found[&key].ended, 1);
    }
}

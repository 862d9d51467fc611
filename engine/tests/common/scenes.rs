//! What a process can be doing when it dies: every verb, in each of the ways it can go.
//!
//! A scene is a region with something in it and one call. The region has two shards, sessions of
//! bystanders in both, and a name for every key whose fate is of interest.

use std::path::{Path, PathBuf};

use curfew_engine::{
    Binding, Cause, Config, Filter, Key, OnFull, OnLimit, OnMismatch, Policy, PolicyId, Retain, Span, Start, Subject,
    Table, Tick, Verdict,
};

/// When the sessions of a scene begin.
pub const BEGIN: u64 = 1000;
/// When the call is made.
pub const NOW: u64 = 1500;

pub fn at(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

pub fn ms(millis: u64) -> Span {
    Span::from_millis(millis)
}

pub struct Scene {
    pub name: &'static str,
    pub capacity: u64,
    pub prepare: fn(&Stage),
    pub act: fn(&Stage),
    /// An outcome that is neither what was before the call nor what is after it, and right.
    pub between: fn(&Verdict) -> bool,
}

/// A table, and the names of a scene.
pub struct Stage {
    pub table: Table,
}

pub fn config(capacity: u64) -> Config {
    Config { events: 64, secret: Some([7; 32]), ..Config::new(capacity) }
}

impl Stage {
    pub fn open(path: &Path) -> Stage {
        Stage { table: Table::open(path).unwrap() }
    }

    /// The `nth` key of a shard.
    pub fn key(&self, shard: u8, nth: usize) -> Key {
        let keys = (0..=255_u8).map(|id| self.table.key(&[id]));
        keys.filter(|key| key.to_bytes()[7] >> 7 == shard).nth(nth).unwrap()
    }

    /// The `nth` subject of a shard.
    pub fn subject(&self, shard: u8, nth: usize) -> Subject {
        let subjects = (0..=255_u8).map(|id| self.table.subject(&[id]));
        subjects.filter(|subject| subject.as_u64() >> 63 == u64::from(shard)).nth(nth).unwrap()
    }

    /// All keys of scenes: six of each shard, and the bystanders.
    pub fn keys(&self) -> Vec<Key> {
        (0..2).flat_map(|shard| (0..10).map(move |nth| (shard, nth))).map(|(shard, nth)| self.key(shard, nth)).collect()
    }

    pub fn bystanders(&self) -> Vec<Key> {
        (0..2).flat_map(|shard| (6..8).map(move |nth| (shard, nth))).map(|(shard, nth)| self.key(shard, nth)).collect()
    }

    pub fn device(&self) -> Binding {
        self.table.binding(b"device")
    }

    fn policy(&self, name: &str) -> PolicyId {
        self.table.policy_id(name).unwrap()
    }

    fn start(&self, key: Key, policy: &str, subject: Subject, now: u64) {
        self.table.start(key, &Start::under(self.policy(policy)).of(subject), at(now)).unwrap();
    }

    fn set(&self, name: &str, policy: Policy, now: u64) {
        self.table.set_policy(name, &policy, at(now)).unwrap();
    }

    fn furnish(&self) {
        let kept = Retain::For(ms(5000));
        let gone = Retain::For(Span::OFF);
        self.set("long", Policy::new().idle(ms(1_000_000)).retain(gone), 0);
        self.set("staff", Policy::new().idle(ms(2000)).lifetime(ms(20_000)).retain(kept), 0);
        self.set("brief", Policy::new().idle(ms(99)).retain(gone), 0);
        self.set("brief kept", Policy::new().idle(ms(100)).retain(kept), 0);
        self.set("two", Policy::new().idle(ms(2000)).max_per_subject(2, OnLimit::EndOldest).retain(kept), 0);
        self.set("bound", Policy { on_mismatch: OnMismatch::End, ..Policy::new().idle(ms(2000)).retain(kept) }, 0);
        self.set("evict", Policy { on_full: OnFull::EvictEnded, ..Policy::new().idle(ms(2000)).retain(kept) }, 0);
        for key in self.bystanders() {
            self.start(key, "long", self.subject(1, 0), BEGIN);
        }
    }
}

/// Makes the region of a scene as it is before the call.
pub fn prepare(scene: &Scene, directory: &Path) -> PathBuf {
    let path = directory.join(format!("{}.region", scene.name.replace(' ', "-")));
    Table::create(&path, &config(scene.capacity)).unwrap();
    let stage = Stage::open(&path);
    stage.furnish();
    // Something has changed and was swept before: what that leaves behind is there.
    stage.set("brief", Policy::new().idle(ms(100)).retain(Retain::For(Span::OFF)), 0);
    while stage.table.advance(at(BEGIN), 1000).more {}
    (scene.prepare)(&stage);
    stage.table.check().unwrap();
    path
}

fn nothing(_: &Verdict) -> bool {
    false
}

fn scene(name: &'static str, prepare: fn(&Stage), act: fn(&Stage)) -> Scene {
    Scene { name, capacity: 16, prepare, act, between: nothing }
}

/// The old id of a rotation that was cut off: its overlap is over. The session goes on under the new.
fn rotated(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Ended(end) if end.cause == Cause::Rotated)
}

/// A re-authentication that was cut off: the new token, and the old start.
fn half_renewed(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Active(left) if left.token() == ms(400) && left.age() == ms(NOW - BEGIN))
}

fn three_of_one_subject(stage: &Stage) {
    for (shard, nth) in [(0, 0), (1, 0), (0, 1)] {
        stage.start(stage.key(shard, nth), "staff", stage.subject(0, 0), BEGIN);
    }
}

#[rustfmt::skip]
pub fn all() -> Vec<Scene> {
    vec![
        scene("start", |_| {}, |s| s.start(s.key(0, 0), "staff", Subject::NONE, NOW)),
        scene("start of a new subject", |_| {}, |s| s.start(s.key(0, 0), "staff", s.subject(0, 0), NOW)),
        scene("start of a subject that has others", three_of_one_subject,
            |s| s.start(s.key(1, 2), "staff", s.subject(0, 0), NOW)),
        scene("start that displaces another",
            |s| for nth in 0..2 { s.start(s.key(nth, 0), "two", s.subject(0, 0), BEGIN + u64::from(nth)) },
            |s| s.start(s.key(0, 1), "two", s.subject(0, 0), NOW)),
        scene("start over an ended session that is forgotten",
            |s| s.start(s.key(0, 0), "brief", s.subject(0, 0), BEGIN),
            |s| s.start(s.key(0, 0), "staff", s.subject(1, 1), NOW)),
        Scene { capacity: 8, ..scene("start that evicts an ended session",
            |s| for nth in 0..4 {
                s.start(s.key(0, nth), "evict", s.subject(0, 0), BEGIN);
                s.table.end(s.key(0, nth), Cause::Logout, at(BEGIN + nth as u64)).unwrap();
            },
            |s| s.start(s.key(1, 0), "evict", s.subject(0, 1), NOW)) },
        Scene { capacity: 5, ..scene("start that is refused",
            |s| s.start(s.key(0, 0), "staff", Subject::NONE, BEGIN),
            |s| { s.table.start(s.key(1, 0), &Start::under(s.policy("staff")), at(NOW)).unwrap_err(); }) },
        scene("touch", |s| s.start(s.key(0, 0), "staff", Subject::NONE, BEGIN),
            |s| { s.table.touch(s.key(0, 0), Binding::NONE, at(NOW)); }),
        scene("touch without the binding",
            |s| {
                let start = Start::under(s.policy("bound")).of(s.subject(0, 0)).bound_to(s.device());
                s.table.start(s.key(0, 0), &start, at(BEGIN)).unwrap();
            },
            |s| { s.table.touch(s.key(0, 0), Binding::NONE, at(NOW)); }),
        Scene { between: half_renewed, ..scene("reauthenticate",
            |s| s.start(s.key(0, 0), "staff", s.subject(0, 0), BEGIN),
            |s| s.table.reauthenticate(s.key(0, 0), Some(at(NOW + 400)), at(NOW)).unwrap()) },
        scene("end", three_of_one_subject, |s| s.table.end(s.key(1, 0), Cause::Logout, at(NOW)).unwrap()),
        scene("end of the last of a subject",
            |s| s.start(s.key(0, 0), "long", s.subject(0, 0), BEGIN),
            |s| s.table.end(s.key(0, 0), Cause::Logout, at(NOW)).unwrap()),
        scene("end of the second session of a key in one tick",
            |s| {
                s.start(s.key(0, 0), "long", Subject::NONE, NOW);
                s.table.end(s.key(0, 0), Cause::Logout, at(NOW)).unwrap();
                s.start(s.key(0, 0), "long", Subject::NONE, NOW);
            },
            |s| s.table.end(s.key(0, 0), Cause::Logout, at(NOW)).unwrap()),
        scene("end subject", three_of_one_subject,
            |s| assert_eq!(s.table.end_subject(s.subject(0, 0), Cause::Revoked, at(NOW)), 3)),
        scene("end all", three_of_one_subject, |s| {
            let filter = Filter { policy: Some(s.policy("staff")), ..Filter::default() };
            assert_eq!(s.table.end_all(&filter, Cause::Revoked, at(NOW)), 3);
        }),
        Scene { between: rotated, ..scene("rotate within a shard", three_of_one_subject,
            |s| { s.table.rotate(s.key(0, 0), s.key(0, 5), ms(100), at(NOW)).unwrap(); }) },
        Scene { between: rotated, ..scene("rotate to a later shard", three_of_one_subject,
            |s| { s.table.rotate(s.key(0, 0), s.key(1, 5), ms(100), at(NOW)).unwrap(); }) },
        Scene { between: rotated, ..scene("rotate to an earlier shard", three_of_one_subject,
            |s| { s.table.rotate(s.key(1, 0), s.key(0, 5), ms(100), at(NOW)).unwrap(); }) },
        Scene { between: rotated, ..scene("rotate nobodys session",
            |s| s.start(s.key(0, 0), "staff", Subject::NONE, BEGIN),
            |s| { s.table.rotate(s.key(0, 0), s.key(1, 5), ms(100), at(NOW)).unwrap(); }) },
        scene("advance over ends",
            |s| {
                s.start(s.key(0, 0), "brief kept", s.subject(0, 0), BEGIN);
                s.start(s.key(0, 1), "brief", s.subject(0, 0), BEGIN);
                s.start(s.key(1, 1), "brief", Subject::NONE, BEGIN);
            },
            |s| while s.table.advance(at(NOW), 3).more {}),
        scene("advance over kept records",
            |s| for nth in 0..2 {
                s.set("briefly kept", Policy::new().idle(ms(2000)).retain(Retain::For(ms(100))), 0);
                s.start(s.key(0, nth), "briefly kept", s.subject(0, 0), BEGIN);
                s.table.end(s.key(0, nth), Cause::Logout, at(BEGIN)).unwrap();
            },
            |s| while s.table.advance(at(NOW), 3).more {}),
        scene("advance that files anew",
            |s| {
                s.set("hour", Policy::new().idle(ms(600)), 0);
                s.start(s.key(0, 0), "hour", s.subject(0, 0), BEGIN);
                s.table.touch(s.key(0, 0), Binding::NONE, at(BEGIN + 450));
            },
            |s| while s.table.advance(at(BEGIN + 610), 3).more {}),
        scene("sweep after a change",
            |s| {
                three_of_one_subject(s);
                s.set("staff", Policy::new().idle(ms(300)).retain(Retain::For(ms(5000))), BEGIN + 400);
            },
            |s| while s.table.advance(at(NOW), 7).more {}),
        scene("sweep by the older version",
            |s| {
                s.start(s.key(0, 0), "brief kept", s.subject(0, 0), BEGIN);
                s.set("brief kept", Policy::new().idle(ms(900)).retain(Retain::For(ms(5000))), BEGIN + 200);
            },
            |s| while s.table.advance(at(NOW), 100).more {}),
        scene("set a new policy", |_| {}, |s| s.set("new", Policy::new().idle(ms(5)), NOW)),
        scene("set a policy again", three_of_one_subject,
            |s| s.set("staff", Policy::new().idle(ms(700)).retain(Retain::For(ms(5000))), NOW)),
        scene("repair", three_of_one_subject, |s| s.table.repair()),
    ]
}

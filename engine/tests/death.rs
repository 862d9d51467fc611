//! Death at every step: each verb, in each of the ways it can go, is cut off before each of its
//! stores, once as if the process had been killed and once as if the thread had unwound. Somebody
//! takes over, and is cut off before each of its stores in turn. What is there then must be what was
//! before the call, or what is after it, session by session.
//!
//! All in one process, so that a million deaths take minutes; `kill.rs` does it with processes.
//! `CURFEW_DEATHS=all` cuts the heirs off at every step, and not at some.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::rc::Rc;

use common::scenes::{self, NOW, Scene, Stage, at};
use common::truth::{self, Fates};
use curfew_engine::Verdict;
use curfew_engine::crash::{self, Guard, Held, Part, Step};

/// How a process goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Death {
    /// Its locks stay as they are.
    Killed,
    /// Its locks are marked as abandoned.
    Unwound,
}

/// The rule of `docs/protocol.md` that says who may write what.
fn is_allowed(step: &Step<'_>) -> bool {
    let holds = |guard: Guard| step.held.iter().any(|held| held.guard == guard);
    match step.part {
        Part::Lock(guard) => holds(guard),
        Part::Header | Part::Last(_) => true,
        Part::RingHead | Part::Event => holds(Guard::Ring),
        Part::PolicyChanges | Part::Policy => holds(Guard::Policies),
        Part::Shard(shard) | Part::Wheel(shard) | Part::Chunk(shard) | Part::Group(shard) | Part::Record(shard) => {
            holds(Guard::Sessions(shard))
        }
        Part::Subjects(shard) | Part::SubjectGroup(shard) | Part::SubjectHead(shard) => holds(Guard::Subjects(shard)),
        Part::Link => step.held.iter().any(|held| matches!(held.guard, Guard::Subjects(_))),
    }
}

/// What a call did, step by step.
type Trace = Rc<RefCell<Vec<(Part, Vec<Held>)>>>;

/// Notes the steps of this thread, and dies at one of them.
fn watch(trace: &Trace, die_at: usize, death: Death) {
    let (trace, taken) = (trace.clone(), Cell::new(0));
    crash::on_step(move |step| {
        assert!(is_allowed(step), "{:?} is written under {:?}", step.part, step.held);
        trace.borrow_mut().push((step.part, step.held.to_vec()));
        taken.set(taken.get() + 1);
        if taken.get() == die_at {
            match death {
                Death::Killed => crash::die(),
                Death::Unwound => resume_unwind(Box::new("unwound")),
            }
        }
    });
}

/// Opens the region and does something with it that ends at step `die_at`; says whether it got there.
fn dies(path: &Path, act: impl FnOnce(&Stage), trace: &Trace, die_at: usize, death: Death) -> bool {
    let stage = Stage::open(path);
    watch(trace, die_at, death);
    let outcome = catch_unwind(AssertUnwindSafe(|| act(&stage)));
    crash::clear();
    drop(stage);
    crash::revive();
    match outcome {
        Ok(()) => false,
        Err(cause) if cause.is::<&str>() && ["killed", "unwound"].contains(cause.downcast_ref().unwrap()) => true,
        Err(cause) => resume_unwind(cause),
    }
}

/// What the next one does with the region, by which it comes upon what the dead left.
type Heir = (&'static str, fn(&Stage));

const HEIRS: [Heir; 3] = [
    ("checks", |stage| stage.table.check().unwrap()),
    ("advances", |stage| _ = stage.table.advance(at(NOW), 1000)),
    ("ends the bystanders' subject at a time that is past", |stage| {
        // Locks everything that a change of some session can lock, and finds nothing.
        assert_eq!(stage.table.end_subject(stage.subject(0, 9), curfew_engine::Cause::Revoked, at(NOW)), 0);
        stage.table.repair();
    }),
];

struct Theatre {
    directory: tempfile::TempDir,
    whole: Vec<u8>,
    without: Fates,
    with: Fates,
}

impl Theatre {
    fn new(scene: &Scene) -> Theatre {
        let directory = tempfile::tempdir_in(memory()).unwrap();
        let path = scenes::prepare(scene, directory.path());
        let whole = std::fs::read(&path).unwrap();
        let mut theatre = Theatre { directory, whole, without: Fates::new(), with: Fates::new() };
        theatre.without = truth::fates(&Stage::open(&theatre.region()));
        let path = theatre.region();
        (scene.act)(&Stage::open(&path));
        theatre.with = truth::fates(&Stage::open(&path));
        theatre
    }

    /// The region as it was before the call.
    fn region(&self) -> std::path::PathBuf {
        let path = self.directory.path().join("region");
        let _ = std::fs::remove_file(&path);
        write_private(&path, &self.whole);
        path
    }
}

fn memory() -> &'static Path {
    if Path::new("/dev/shm").is_dir() { Path::new("/dev/shm") } else { Path::new("/tmp") }
}

fn write_private(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.unwrap().write_all(bytes).unwrap();
}

/// Says where, when something is wrong.
fn at_case<T>(case: &str, check: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(check)) {
        Ok(value) => value,
        Err(cause) => {
            eprintln!("{case}");
            resume_unwind(cause)
        }
    }
}

fn kinds(held: &[Held]) -> Vec<&'static str> {
    let kind = |held: &Held| match (held.guard, held.inherited) {
        (Guard::Policies, false) => "policies",
        (Guard::Sessions(_), false) => "sessions",
        (Guard::Subjects(_), false) => "subjects",
        (Guard::Ring, false) => "ring",
        (Guard::Policies, true) => "inherited policies",
        (Guard::Sessions(_), true) => "inherited sessions",
        (Guard::Subjects(_), true) => "inherited subjects",
        (Guard::Ring, true) => "inherited ring",
    };
    held.iter().map(kind).collect()
}

#[test]
fn every_verb_cut_off_at_every_step_leaves_what_was_before_or_what_is_after() {
    let mut stacks = BTreeSet::new();
    let mut deaths = 0;
    for scene in scenes::all() {
        let theatre = Theatre::new(&scene);
        let trace = Trace::default();
        assert!(!dies(&theatre.region(), scene.act, &trace, 0, Death::Killed));
        let steps = trace.borrow().len();
        for (die_at, death) in (1..=steps).flat_map(|step| [(step, Death::Killed), (step, Death::Unwound)]) {
            // Who unwound is found without asking, and all the rest is alike: one heir is enough.
            let heirs = if death == Death::Killed { HEIRS.as_slice() } else { &HEIRS[die_at % 3..=die_at % 3] };
            for &(heir, act) in heirs {
                let (part, held) = trace.borrow()[die_at - 1].clone();
                let case = format!(
                    "{}: {death:?} before step {die_at} of {steps} ({part:?} under {held:?}); the heir {heir}",
                    scene.name
                );
                let path = theatre.region();
                at_case(&case, || {
                    assert!(dies(&path, scene.act, &Trace::default(), die_at, death));
                    let inheriting = Trace::default();
                    assert!(!dies(&path, act, &inheriting, 0, death));
                    stacks.extend(inheriting.borrow().iter().map(|(_, held)| kinds(held)));
                    truth::judge(&scene, &Stage::open(&path), &theatre.without, &theatre.with);
                });
                deaths += 1;
            }
        }
        stacks.extend(trace.borrow().iter().map(|(_, held)| kinds(held)));
        println!("{:5} steps: {}", steps, scene.name);
    }
    println!("{deaths} deaths; locks that were held at a step: {stacks:#?}");
    for stack in [
        vec!["policies"],
        vec!["sessions"],
        vec!["subjects"],
        vec!["sessions", "ring"],
        vec!["sessions", "subjects"],
        vec!["sessions", "sessions"],
        vec!["sessions", "sessions", "subjects"],
        vec!["sessions", "sessions", "ring"],
        vec!["inherited policies"],
        vec!["inherited sessions"],
        vec!["inherited sessions", "ring"],
        vec!["inherited sessions", "inherited ring"],
        vec!["inherited sessions", "subjects"],
        vec!["inherited sessions", "inherited subjects"],
    ] {
        assert!(stacks.contains(&stack), "nobody died under {stack:?}");
    }
}

#[test]
fn heirs_that_die_in_turn_leave_what_was_before_or_what_is_after() {
    let all = std::env::var("CURFEW_DEATHS").is_ok_and(|how| how == "all");
    let mut deaths = 0;
    let mut case_number = 0_usize;
    for scene in scenes::all() {
        let theatre = Theatre::new(&scene);
        let trace = Trace::default();
        assert!(!dies(&theatre.region(), scene.act, &trace, 0, Death::Killed));
        let steps = trace.borrow().len();
        for die_at in 1..=steps {
            let (heir, act) = HEIRS[die_at % HEIRS.len()];
            let path = theatre.region();
            let inheriting = Trace::default();
            assert!(dies(&path, scene.act, &Trace::default(), die_at, Death::Killed));
            assert!(!dies(&path, act, &inheriting, 0, Death::Killed));
            let parts: Vec<Part> = inheriting.borrow().iter().map(|(part, _)| *part).collect();
            for second in 1..=parts.len() {
                // Long rows of stores into one part are alike.
                let is_new = second == 1 || parts[second - 1] != parts[second - 2];
                case_number += 1;
                if !(all || (is_new && case_number.is_multiple_of(50)) || case_number.is_multiple_of(4999)) {
                    continue;
                }
                let case = format!(
                    "{}: killed before step {die_at} of {steps}; the heir {heir}, and is killed before step {second} of {} ({:?})",
                    scene.name,
                    parts.len(),
                    inheriting.borrow()[second - 1]
                );
                let path = theatre.region();
                at_case(&case, || {
                    assert!(dies(&path, scene.act, &Trace::default(), die_at, Death::Killed));
                    assert!(dies(&path, act, &Trace::default(), second, Death::Killed));
                    truth::judge(&scene, &Stage::open(&path), &theatre.without, &theatre.with);
                });
                deaths += 1;
            }
        }
        println!("{}: {deaths} heirs have died", scene.name);
    }
}

/// Runs `meanwhile` before each step of `act`, one step a run, and says how many steps there were.
fn interrupt(path: &Path, act: fn(&Stage), step: usize, meanwhile: impl Fn(&Step<'_>) + 'static) -> usize {
    let stage = Stage::open(path);
    let taken = Rc::new(Cell::new(0));
    let counted = taken.clone();
    crash::on_step(move |seen| {
        counted.set(counted.get() + 1);
        if counted.get() == step {
            meanwhile(seen);
        }
    });
    act(&stage);
    crash::clear();
    taken.get()
}

#[test]
fn who_looks_without_a_lock_at_any_step_sees_what_was_before_or_what_is_after() {
    for scene in scenes::all() {
        let theatre = Theatre::new(&scene);
        let path = theatre.region();
        let steps = interrupt(&path, scene.act, 0, |_| {});
        for step in 1..=steps {
            let path = theatre.region();
            let seen = Rc::new(RefCell::new(None));
            let (looked, at_path) = (seen.clone(), path.clone());
            interrupt(&path, scene.act, step, move |_| {
                *looked.borrow_mut() = Some(truth::verdicts(&Stage::open(&at_path)))
            });
            for (key, verdict) in seen.take().unwrap() {
                let (without, with) = (theatre.without[&key].verdict, theatre.with[&key].verdict);
                // An end that is being written cannot be forgotten yet.
                let ends = [without, with].contains(&Verdict::Unknown) && matches!(verdict, Verdict::Ended(_));
                assert!(
                    verdict == without || verdict == with || ends || (scene.between)(&verdict),
                    "{}: before step {step} of {steps}: {key}: {verdict:?} is neither {without:?} nor {with:?}",
                    scene.name
                );
            }
            truth::judge(&scene, &Stage::open(&path), &theatre.with, &theatre.with);
        }
    }
}

/// Somebody dies while holding the lock of a subject shard, and somebody else takes over, which
/// makes all its lists anew.
fn make_lists_anew(path: &Path, shard: u8) {
    let subject = Stage::open(path).subject(shard, 9);
    assert!(dies(path, |stage| drop(stage.table.sessions_of(subject, at(NOW))), &Trace::default(), 1, Death::Killed));
    let _ = Stage::open(path).table.sessions_of(subject, at(NOW));
}

#[test]
fn every_verb_goes_on_while_others_make_the_lists_of_subjects_anew() {
    for scene in scenes::all() {
        let theatre = Theatre::new(&scene);
        let path = theatre.region();
        let steps = interrupt(&path, scene.act, 0, |_| {});
        for (step, shard) in (1..=steps).flat_map(|step| [(step, 0_u8), (step, 1)]) {
            let path = theatre.region();
            let at_path = path.clone();
            interrupt(&path, scene.act, step, move |step| {
                let one_shard = Stage::open(&at_path).table.stats().capacity < 16;
                let wanted = Guard::Subjects(if one_shard { 0 } else { shard.into() });
                if !step.held.iter().any(|held| held.guard == wanted) {
                    make_lists_anew(&at_path, shard);
                }
            });
            let case =
                format!("{}: the lists of shard {shard} are made anew before step {step} of {steps}", scene.name);
            at_case(&case, || truth::judge(&scene, &Stage::open(&path), &theatre.with, &theatre.with));
        }
    }
}

#[test]
fn lists_that_are_made_anew_leave_alone_those_of_other_shards() {
    let directory = tempfile::tempdir_in(memory()).unwrap();
    let scene = scenes::all().into_iter().find(|scene| scene.name == "end of the last of a subject").unwrap();
    let whole = std::fs::read(scenes::prepare(&scene, directory.path())).unwrap();
    let mut step = 0;
    loop {
        step += 1;
        let path = directory.path().join("region");
        let _ = std::fs::remove_file(&path);
        write_private(&path, &whole);
        // The record keeps the words of the session it held, whose subject is of shard 0.
        (scene.act)(&Stage::open(&path));
        let subject = Stage::open(&path).subject(0, 9);
        assert!(dies(
            &path,
            |stage| drop(stage.table.sessions_of(subject, at(NOW))),
            &Trace::default(),
            1,
            Death::Killed
        ));
        let at_path = path.clone();
        let steps = interrupt(
            &path,
            |stage| drop(stage.table.sessions_of(stage.subject(0, 9), at(NOW))),
            step,
            move |_| {
                let stage = Stage::open(&at_path);
                let start = curfew_engine::Start::under(stage.table.policy_id("long").unwrap()).of(stage.subject(1, 1));
                stage.table.start(stage.key(0, 0), &start, at(NOW)).unwrap();
            },
        );
        let stage = Stage::open(&path);
        if step > steps {
            break;
        }
        at_case(&format!("before step {step} of {steps}"), || {
            stage.table.check().unwrap();
            assert_eq!(stage.table.end_subject(stage.subject(1, 1), curfew_engine::Cause::Revoked, at(NOW)), 1);
        });
    }
    assert!(step > 10, "the heir makes lists anew");
}

//! A file system that somebody else fills: nobody who uses a region on it is killed for that.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use curfew_engine::{
    Binding, Config, CreateError, Moment, MoveError, Policy, PolicyId, RestoreError, Span, Start, StartError, Table,
    Tick,
};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// A small file system in memory, which this thread alone sees; `None`, which is said, where this process
/// must not make one.
fn small_file_system() -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir().unwrap();
    let made = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>))
        .and_then(|()| mount(Some("none"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some("size=3m")));
    match made {
        Ok(()) => Some(folder),
        Err(error) => {
            println!("skipped: no file system can be mounted here: {error}");
            None
        }
    }
}

fn fill(folder: &Path) {
    let mut file = File::create(folder.join("of others")).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
}

fn staff(table: &Table) -> PolicyId {
    table.set_policy("staff", &Policy::new().idle(Span::from_mins(15)), Tick::ZERO).unwrap()
}

fn start_until_full(table: &Table) -> u64 {
    let staff = staff(table);
    let mut started = 0_u64;
    loop {
        let key = table.key(&started.to_le_bytes());
        match table.start(key, &Start::under(staff), Tick::ZERO) {
            Ok(_) => started += 1,
            Err(StartError::Full) => return started,
            Err(error) => panic!("{error}"),
        }
        assert!(table.touch(key, Binding::NONE, Tick::from_millis(1)).passes());
    }
}

#[test]
fn a_region_can_be_filled_though_others_have_filled_its_file_system() {
    let Some(folder) = small_file_system() else { return };
    let table = Table::create(&folder.path().join("app.region"), &Config::new(10_000)).unwrap();
    fill(folder.path());
    assert!(start_until_full(&table) >= 10_000);
    table.check().unwrap();
    let refused = Table::create(&folder.path().join("other.region"), &Config::new(10_000)).unwrap_err();
    assert!(matches!(refused, CreateError::NoSpace { .. }), "{refused}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing unfinished is left behind");
}

#[test]
fn a_move_that_finds_no_room_takes_none_and_leaves_the_region_as_it_was() {
    let Some(folder) = small_file_system() else { return };
    let path = folder.path().join("app.region");
    let epoch = Moment::now().unwrap().steady as i64 - 1_000_000;
    for huge_pages in [false, true] {
        let _ = std::fs::remove_file(&path);
        let table = Table::create(&path, &Config { epoch, huge_pages, ..Config::new(10_000) }).unwrap();
        let now = table.tick_at(Moment::now().unwrap().steady);
        let key = table.key(b"id");
        table.start(key, &Start::under(staff(&table)), now).unwrap();
        let fd: OwnedFd = File::options().read(true).write(true).open(&path).unwrap().into();
        drop(table);
        let taken = || path.metadata().unwrap().blocks();
        let (before, mover) = (taken(), Table::open_fd(fd.as_fd(), None).unwrap());
        let mut step = mover.announce_move().expect("nobody else is at it");
        step.pause();
        assert!(step.have_all_paused());
        let larger = Config { epoch, huge_pages, ..Config::new(30_000) };
        let refused = step.finish(fd.as_fd(), &larger, &Moment::now().unwrap()).unwrap_err();
        assert!(
            matches!(refused, MoveError::Restore(RestoreError::Create(CreateError::NoSpace { .. }))),
            "{refused:?}"
        );
        assert!(taken() <= before + 8, "{} of {before}", taken());
        drop(mover);
        let table = Table::open(&path).unwrap();
        assert!(table.touch(key, Binding::NONE, now).passes());
        start_until_full(&table);
    }
}

//! Regions in memory that the caller lends.

use std::path::Path;

use curfew_engine::{
    Binding, Cause, Config, CreateError, Memory, OpenError, Policy, Span, Start, Table, Tick, Verdict,
};

const BYTES: usize = 1 << 20;

/// Zeroed memory that two tables can share, as two processes would.
struct Lent(memmap2::MmapRaw);

impl Lent {
    fn new() -> Lent {
        Lent(memmap2::MmapOptions::new().len(BYTES).map_anon().unwrap().into())
    }

    fn memory(&self) -> Memory {
        self.part(0, BYTES)
    }

    fn part(&self, from: usize, bytes: usize) -> Memory {
        assert!(from + bytes <= BYTES);
        // SAFETY: inside the mapping, which outlives the tables of each test and is used by them only.
        unsafe { Memory::new(self.0.as_mut_ptr().add(from), bytes) }
    }
}

fn config() -> Config {
    Config::new(1000)
}

fn in_directory(name: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    (directory, path)
}

#[test]
fn two_openers_of_lent_memory_see_the_same_sessions() {
    let (_directory, locks) = in_directory("app.locks");
    let lent = Lent::new();
    let first = Table::create_in(&lent.memory(), Some(&locks), &config()).unwrap();
    let second = Table::open_in(&lent.memory(), &locks).unwrap();
    let policy = first.set_policy("staff", &Policy::new().idle(Span::from_mins(15)), Tick::ZERO).unwrap();
    let key = first.key(b"id");
    first.start(key, &Start::under(policy), Tick::ZERO).unwrap();
    assert!(matches!(second.touch(second.key(b"id"), Binding::NONE, Tick::ZERO), Verdict::Active(_)));
    second.end(key, Cause::Logout, Tick::ZERO).unwrap();
    assert!(matches!(first.touch(key, Binding::NONE, Tick::ZERO), Verdict::Ended(_)));
    first.check().unwrap();
}

#[test]
fn the_place_of_an_opener_is_free_again_when_it_is_gone() {
    let (_directory, locks) = in_directory("app.locks");
    let lent = Lent::new();
    let _first = Table::create_in(&lent.memory(), Some(&locks), &config()).unwrap();
    for _ in 0..600 {
        Table::open_in(&lent.memory(), &locks).unwrap();
    }
}

#[test]
fn memory_that_was_lent_without_a_lock_file_is_for_one_process() {
    let (_directory, locks) = in_directory("app.locks");
    let lent = Lent::new();
    let _table = Table::create_in(&lent.memory(), None, &config()).unwrap();
    assert!(matches!(Table::open_in(&lent.memory(), &locks), Err(OpenError::Io { .. })));
    std::fs::write(&locks, "").unwrap();
    std::fs::set_permissions(&locks, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert!(matches!(Table::open_in(&lent.memory(), &locks), Err(OpenError::NotShared)));
}

#[test]
fn openers_that_would_lock_another_file_are_refused() {
    let (directory, locks) = in_directory("app.locks");
    let other = directory.path().join("other.locks");
    let lent = Lent::new();
    let _table = Table::create_in(&lent.memory(), Some(&locks), &config()).unwrap();
    let unrelated = Lent::new();
    let _unrelated = Table::create_in(&unrelated.memory(), Some(&other), &config()).unwrap();
    assert!(matches!(Table::open_in(&lent.memory(), &other), Err(OpenError::OtherLocks { .. })));
    std::fs::hard_link(&locks, directory.path().join("same.locks")).unwrap();
    Table::open_in(&lent.memory(), &directory.path().join("same.locks")).unwrap();
}

#[test]
fn memory_that_will_not_do_is_refused_and_left_alone() {
    let lent = Lent::new();
    let needed = Table::bytes_needed(&config()).unwrap();
    let create = |memory: &Memory| Table::create_in(memory, None, &config()).map(|_| ()).unwrap_err();
    assert!(matches!(create(&lent.part(8, BYTES - 8)), CreateError::Unaligned { .. }));
    assert!(matches!(create(&lent.part(0, needed - 1)), CreateError::Memory { .. }));
    assert!(matches!(create(&lent.part(0, 0)), CreateError::Memory { .. }));
    // SAFETY: nothing is ever accessed through a null pointer.
    assert!(matches!(create(&unsafe { Memory::new(std::ptr::null_mut(), BYTES) }), CreateError::Unaligned { .. }));
    drop(Table::create_in(&lent.part(0, needed), None, &config()).unwrap());
    assert!(matches!(create(&lent.memory()), CreateError::Occupied));
}

#[test]
fn what_stood_in_the_memory_before_does_not_matter() {
    let lent = Lent::new();
    // SAFETY: nobody else uses the mapping yet.
    unsafe { lent.0.as_mut_ptr().write_bytes(0xa5, BYTES) };
    let table = Table::create_in(&lent.memory(), None, &config()).unwrap();
    table.check().unwrap();
    assert_eq!(table.stats().used, 0);
    assert_eq!(table.policies().count(), 0);
}

#[test]
fn lent_memory_without_a_region_or_with_half_of_one_is_refused_by_name() {
    let (_directory, locks) = in_directory("app.locks");
    let lent = Lent::new();
    let open = |memory: &Memory, locks: &Path| Table::open_in(memory, locks).map(|_| ()).unwrap_err();
    assert!(matches!(open(&lent.memory(), &locks), OpenError::Magic));
    assert!(matches!(open(&lent.part(0, 100), &locks), OpenError::Length { .. }));
    assert!(matches!(open(&lent.part(8, 100), &locks), OpenError::Unaligned { .. }));
    drop(Table::create_in(&lent.memory(), Some(&locks), &config()).unwrap());
    let needed = Table::bytes_needed(&config()).unwrap();
    assert!(matches!(open(&lent.part(0, needed - 64), &locks), OpenError::Length { .. }));
    let with = |at: usize, flip: u8| {
        // SAFETY: inside the mapping; no table is open.
        unsafe { *lent.0.as_mut_ptr().add(at) ^= flip };
        let error = open(&lent.memory(), &locks);
        // SAFETY: as above.
        unsafe { *lent.0.as_mut_ptr().add(at) ^= flip };
        error
    };
    assert!(matches!(with(8, 1), OpenError::Version { .. }));
    assert!(matches!(with(24, 1), OpenError::Header { .. }));
    assert!(matches!(with(60, 1), OpenError::Header { what: "its checksum" }));
    Table::open_in(&lent.memory(), &locks).unwrap();
}

#[test]
fn a_child_that_lets_go_of_its_copy_leaves_nothing_behind_that_keeps_its_parent_alive() {
    use std::os::fd::AsRawFd;
    let (_directory, path) = in_directory("app.region");
    let table = Table::create(&path, &config()).unwrap();
    let copy = table.liveness().unwrap().as_raw_fd();
    let is_held = || {
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut lock = nix::libc::flock { l_type: 1, l_whence: 0, l_start: 1 << 60, l_len: 256, l_pid: 0 };
        nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_OFD_GETLK(&mut lock)).unwrap();
        i32::from(lock.l_type) != nix::libc::F_UNLCK
    };
    assert!(is_held());
    let nothing = std::fs::File::open("/dev/null").unwrap();
    // SAFETY: the table goes on having a descriptor of this number, and closes it.
    assert_eq!(unsafe { nix::libc::dup2(nothing.as_raw_fd(), copy) }, copy);
    // The mapping is still there. It must not be what the byte is locked through.
    assert!(std::fs::read_to_string("/proc/self/maps").unwrap().contains(path.to_str().unwrap()));
    assert!(!is_held());
    assert!(Table::private(&config()).unwrap().liveness().is_none());
}

#[test]
fn a_lock_that_seems_to_be_held_by_whoever_comes_next_is_not_waited_for() {
    let (_directory, locks) = in_directory("app.locks");
    let lent = Lent::new();
    let table = Table::create_in(&lent.memory(), Some(&locks), &config()).unwrap();
    let policy = Policy::new().idle(Span::from_mins(15));
    let staff = table.set_policy("staff", &policy, Tick::ZERO).unwrap();
    drop(table);
    // An owner's id is its place and how often that was taken. The lock of the policies says that of the next one.
    let words = lent.0.as_mut_ptr().cast::<u64>();
    // SAFETY: inside the mapping, and no table is open.
    let word = |at: usize| unsafe { &mut *words.add(at) };
    let (policy_lock, first_owner) = (24, 128);
    assert_eq!(*word(policy_lock), 0);
    *word(policy_lock) = (*word(first_owner) + 1) << 16 | 1;
    let table = Table::open_in(&lent.memory(), &locks).unwrap();
    assert_eq!(table.set_policy("staff", &policy.lifetime(Span::DAY), Tick::ZERO), Ok(staff));
}

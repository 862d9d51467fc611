//! Region files: who may open them, what two openers see, and what becomes of a dead one's locks.

use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use curfew_engine::{
    Binding, Cause, Config, CreateError, Key, OpenError, Policy, PolicyId, Span, Start, Table, Tick, Verdict,
};

fn at(millis: u64) -> Tick {
    Tick::from_millis(millis)
}

fn new_region() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.region");
    (directory, path)
}

fn staff(table: &Table) -> PolicyId {
    let policy = Policy::new().idle(Span::from_mins(15)).lifetime(Span::from_mins(480));
    table.set_policy("staff", &policy, Tick::ZERO).unwrap()
}

fn id(number: u64) -> [u8; 8] {
    number.to_le_bytes()
}

#[test]
fn a_region_file_is_readable_by_its_owner_only_and_is_there_whole_or_not_at_all() {
    let (directory, path) = new_region();
    Table::create(&path, &Config::new(100)).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let names: Vec<_> = directory.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["app.region"], "nothing unfinished is left behind");
}

#[test]
fn what_is_there_already_is_never_overwritten() {
    let (_directory, path) = new_region();
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Table::create(&path, &Config::new(100)), Err(CreateError::Exists { .. })));
    assert!(matches!(Table::open_or_create(&path, &Config::new(100)), Err(CreateError::Open(_))));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn two_openers_see_the_same_sessions() {
    let (_directory, path) = new_region();
    let first = Table::open_or_create(&path, &Config::new(100)).unwrap();
    let policy = staff(&first);
    let second = Table::open_or_create(&path, &Config::new(100)).unwrap();
    let key = first.key(b"id");
    assert_eq!(second.key(b"id"), key);
    first.start(key, &Start::under(policy), at(0)).unwrap();
    assert!(matches!(second.touch(key, Binding::NONE, at(1000)), Verdict::Active(_)));
    second.end(key, Cause::Logout, at(2000)).unwrap();
    assert!(matches!(first.touch(key, Binding::NONE, at(2000)), Verdict::Ended(end) if end.cause == Cause::Logout));
    assert_eq!(first.events().count(), 1);
    first.check().unwrap();
}

#[test]
fn a_link_a_directory_and_a_file_that_others_can_read_are_refused() {
    let (directory, path) = new_region();
    drop(Table::create(&path, &Config::new(100)).unwrap());
    let link = directory.path().join("link");
    symlink(&path, &link).unwrap();
    assert!(matches!(Table::open(&link), Err(OpenError::Symlink { .. })));
    assert!(matches!(Table::open(directory.path()), Err(OpenError::NotAFile { .. })));
    for mode in [0o640, 0o604, 0o620, 0o666] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(Table::open(&path), Err(OpenError::Mode { mode: found, .. }) if found == mode));
    }
}

#[test]
fn another_users_file_is_refused() {
    let (_directory, path) = new_region();
    drop(Table::create(&path, &Config::new(100)).unwrap());
    if let Err(error) = std::os::unix::fs::chown(&path, Some(12_345), None) {
        println!("skipped: this needs the right to give files away ({error})");
        return;
    }
    assert!(matches!(Table::open(&path), Err(OpenError::Owner { owner: 12_345, .. })));
}

#[test]
fn who_may_give_a_file_away_makes_it_for_another_user_and_opens_it_in_its_name() {
    let (_directory, path) = new_region();
    let config = Config { owner: Some(12_345), ..Config::new(100) };
    let table = match Table::create(&path, &config) {
        Err(CreateError::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
            println!("skipped: this needs the right to give files away ({source})");
            return;
        }
        made => made.unwrap(),
    };
    let key = table.key(b"id");
    table.start(key, &Start::under(staff(&table)), at(0)).unwrap();
    assert!(matches!(Table::open(&path), Err(OpenError::Owner { owner: 12_345, .. })));
    assert!(matches!(Table::open_owned_by(&path, 12_346), Err(OpenError::Owner { owner: 12_345, me: 12_346, .. })));
    let other = Table::open_owned_by(&path, 12_345).unwrap();
    assert!(matches!(other.touch(key, Binding::NONE, at(1)), Verdict::Active(_)));
}

#[test]
fn a_region_without_a_name_is_shared_through_its_descriptor() {
    let fd = Table::create_memfd(c"test", &Config::new(100)).unwrap();
    let first = Table::open_fd(fd.as_fd(), None).unwrap();
    let second = Table::open_fd(fd.as_fd(), None).unwrap();
    let key = first.key(b"id");
    first.start(key, &Start::under(staff(&first)), at(0)).unwrap();
    drop(first);
    assert!(matches!(second.touch(key, Binding::NONE, at(1)), Verdict::Active(_)));
    let file = std::fs::File::from(fd);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(file.set_len(8).is_err(), "nobody cuts it short under those who map it");
    file.set_permissions(std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Table::open_fd(file.as_fd(), None), Err(OpenError::Mode { mode: 0o640, .. })));
}

#[test]
fn a_region_that_fits_a_number_of_bytes_is_the_largest_that_does() {
    assert!(Config::fitting(4096).is_none());
    for bytes in [256 << 10, 1 << 20, 64 << 20, 1 << 30] {
        let config = Config::fitting(bytes).unwrap();
        let size = |capacity| Table::private(&Config::new(capacity)).unwrap().stats().bytes;
        assert!(size(config.capacity) <= bytes && size(config.capacity + 1) > bytes, "{bytes}: {config:?}");
    }
}

#[test]
fn a_region_knows_whether_somebody_else_has_it_open() {
    let (_directory, path) = new_region();
    let one = Table::create(&path, &Config::new(100)).unwrap();
    assert!(!one.has_company());
    let other = Table::open(&path).unwrap();
    assert!(one.has_company() && other.has_company());
    drop(other);
    assert!(!one.has_company());
}

#[test]
fn what_is_no_region_or_not_all_of_one_is_refused_by_name() {
    let (directory, path) = new_region();
    drop(Table::create(&path, &Config::new(100)).unwrap());
    let whole = std::fs::read(&path).unwrap();
    let refusal = |bytes: &[u8]| {
        let path = directory.path().join("other.region");
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Table::open(&path).map(|_| ()).unwrap_err()
    };
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] ^= byte;
        refusal(&bytes)
    };
    assert!(matches!(refusal(b""), OpenError::Unfinished));
    assert!(matches!(refusal(b"something else"), OpenError::Length { .. }));
    assert!(matches!(refusal(&whole[..whole.len() - 1]), OpenError::Length { .. }));
    assert!(matches!(refusal(&vec![b'x'; whole.len()]), OpenError::Magic));
    assert!(matches!(with(0, 1), OpenError::Magic));
    assert!(matches!(with(8, 1), OpenError::Version { .. }));
    assert!(matches!(with(16, 1), OpenError::Header { .. }));
    assert!(matches!(with(24, 1), OpenError::Header { .. }));
    assert!(matches!(with(60, 1), OpenError::Header { what: "its checksum" }));
    assert!(matches!(Table::open(&directory.path().join("none")), Err(OpenError::Io { .. })));
}

#[test]
fn a_region_of_another_boot_is_refused() {
    let (_directory, path) = new_region();
    drop(Table::create(&path, &Config::new(100)).unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[40] ^= 0x10;
    let sum = blake3::hash(&bytes[..12 * 8]);
    bytes[12 * 8..13 * 8].copy_from_slice(&sum.as_bytes()[..8]);
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(Table::open(&path), Err(OpenError::OtherBoot)));
}

#[test]
fn of_many_that_create_one_region_at_once_all_get_the_same() {
    let (_directory, path) = new_region();
    let tables: Vec<Table> = std::thread::scope(|scope| {
        let open = || Table::open_or_create(&path, &Config::new(1000)).unwrap();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let keys: Vec<Key> = tables.iter().map(|table| table.key(b"id")).collect();
    assert!(keys.iter().all(|key| *key == keys[0]));
}

#[test]
fn a_region_has_its_room_before_it_is_used_and_nobody_can_take_it_away() {
    use std::os::unix::fs::MetadataExt;
    let (_directory, path) = new_region();
    let table = Table::create(&path, &Config::new(100_000)).unwrap();
    let bytes = table.stats().bytes;
    assert!(bytes > 9_000_000);
    assert!(path.metadata().unwrap().blocks() * 512 >= bytes, "a new region has no holes");
}

#[test]
fn only_so_many_processes_can_have_a_region_open_and_a_place_is_free_again_when_one_leaves() {
    let (_directory, path) = new_region();
    let first = Table::create(&path, &Config::new(10)).unwrap();
    let mut others: Vec<Table> = (1..256).map(|_| Table::open(&path).unwrap()).collect();
    assert!(matches!(Table::open(&path), Err(OpenError::TooManyProcesses { .. })));
    others.pop();
    // A process that another test is starting has a copy of every descriptor until it is itself.
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while let Err(error) = Table::open(&path) {
        assert!(matches!(error, OpenError::TooManyProcesses { .. }), "{error}");
        assert!(std::time::Instant::now() < patience, "the place was not free again");
        std::thread::yield_now();
    }
    drop(first);
}

/// What the test below runs as another process: starts, touches, ends and advances until killed.
/// Each session that it starts or ends it writes down first and after, so that the parent knows
/// what must be there.
#[test]
fn work_until_killed() {
    let Ok(path) = std::env::var("CURFEW_WORK_ON") else { return };
    let worker: u64 = std::env::var("CURFEW_WORKER").unwrap().parse().unwrap();
    let table = Table::open(Path::new(&path)).unwrap();
    let policy = table.policy_id("staff").unwrap();
    println!("ready");
    for round in 0.. {
        let key = table.key(&id((worker << 32) | (round % 512)));
        let subject = table.subject(&id(round % 7));
        let now = at(1_000_000 + round / 16);
        let _ = table.start(key, &Start::under(policy).of(subject), now);
        table.touch(key, Binding::NONE, now);
        match round % 5 {
            0 => {
                let _ = table.end(key, Cause::Logout, now);
            }
            1 => {
                let _ = table.rotate(
                    key,
                    table.key(&id((worker << 32) | (1 << 20) | (round % 512))),
                    Span::from_secs(1),
                    now,
                );
            }
            2 => {
                let _ = table.advance(now, 64);
            }
            3 if round % 50 == 3 => {
                let _ = table.end_subject(subject, Cause::Revoked, now);
            }
            _ => {
                let _ = table.reauthenticate(key, None, now);
            }
        }
    }
}

fn worker(path: &Path, number: u64) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["work_until_killed", "--exact", "--nocapture"])
        .env("CURFEW_WORK_ON", path)
        .env("CURFEW_WORKER", number.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    // Killed before it has opened the region it would prove nothing.
    let mut output = std::io::BufReader::new(child.stdout.as_mut().unwrap());
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut output, &mut line).unwrap() > 0, "the worker has died");
    }
    child
}

#[test]
fn processes_killed_at_any_moment_leave_a_region_that_the_others_go_on_using() {
    let (_directory, path) = new_region();
    let table = Table::create(&path, &Config { events: 1 << 16, ..Config::new(4000) }).unwrap();
    let policy = Policy::new().idle(Span::from_mins(15)).lifetime(Span::from_mins(480));
    let policy = policy.retain(curfew_engine::Retain::For(Span::from_millis(20)));
    let policy = table.set_policy("staff", &policy, Tick::ZERO).unwrap();
    let kept: Vec<Key> = (0..500).map(|number| table.key(&id(1 << 60 | number))).collect();
    for key in &kept {
        table.start(*key, &Start::under(policy), at(1_000_000)).unwrap();
    }
    let mut stay = worker(&path, 1);
    for round in 2..60 {
        let mut victim = worker(&path, round % 8 + 2);
        std::thread::sleep(std::time::Duration::from_micros(200 + round * 97));
        victim.kill().unwrap();
        victim.wait().unwrap();
        for key in &kept {
            assert!(matches!(table.touch(*key, Binding::NONE, at(1_000_000)), Verdict::Active(_)));
        }
    }
    stay.kill().unwrap();
    stay.wait().unwrap();
    table.check().unwrap();
    while table.advance(at(1_000_000_000_000), 10_000).more {}
    table.check().unwrap();
    assert_eq!(table.stats().live, 0);
    assert_eq!(table.stats().used, 0);
    println!("{} recoveries", table.stats().recoveries);
}

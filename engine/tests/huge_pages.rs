//! Pages of 2 MiB, where the system gives them to shared memory if somebody asks for them.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use curfew_engine::{Binding, Config, Policy, Span, Start, Table, Tick};

const HUGE_PAGE: u64 = 2 << 20;

/// One test at a time: where a mapping comes to lie hangs on what other threads map.
static ALONE: Mutex<()> = Mutex::new(());

/// A mapping of this process, as `/proc/self/smaps` has it.
#[derive(Debug)]
struct Mapping {
    begins: u64,
    /// Where in the file.
    from: u64,
    in_huge_pages: u64,
    resident: u64,
}

fn mappings_of(name: &str) -> Vec<Mapping> {
    let mut found = Vec::new();
    let mut is_ours = false;
    for line in std::fs::read_to_string("/proc/self/smaps").unwrap().lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        let kibibytes = |text: Option<&str>| text.unwrap().parse::<u64>().unwrap() << 10;
        match first {
            "ShmemPmdMapped:" if is_ours => {
                found.last_mut().map(|of: &mut Mapping| of.in_huge_pages = kibibytes(words.next()))
            }
            "Rss:" if is_ours => found.last_mut().map(|of| of.resident = kibibytes(words.next())),
            _ if first.contains('-') && !first.ends_with(':') => {
                is_ours = line.contains(name);
                if is_ours {
                    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
                    let begins = hex(first.split('-').next().unwrap());
                    found.push(Mapping { begins, from: hex(words.nth(1).unwrap()), in_huge_pages: 0, resident: 0 });
                }
                None
            }
            _ => None,
        };
    }
    found
}

/// Whether this system puts pages together for who asks; says so if it does not.
fn can() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    let (enabled, of_shared) = (setting("enabled"), setting("shmem_enabled"));
    let is_on = enabled.contains("[always]") || enabled.contains("[madvise]");
    let can = version >= (6, 1) && is_on && !of_shared.contains("[deny]") && !of_shared.is_empty();
    if !can {
        eprintln!("skipped: Linux {} with huge pages {enabled:?} and {of_shared:?} puts none together", release.trim());
    }
    can
}

fn setting(name: &str) -> String {
    std::fs::read_to_string(format!("/sys/kernel/mm/transparent_hugepage/{name}")).unwrap_or_default()
}

fn memfd(name: &str, huge_pages: bool) -> OwnedFd {
    let config = Config { huge_pages, ..Config::new(200_000) };
    Table::create_memfd(&CString::new(name).unwrap(), &config).unwrap()
}

fn use_it(table: &Table, other: &Table, sessions: u64) {
    let policy = table.set_policy("p", &Policy::new().idle(Span::from_mins(15)), Tick::ZERO).unwrap();
    for number in 0..sessions {
        table.start(table.key(&number.to_le_bytes()), &Start::under(policy), Tick::ZERO).unwrap();
    }
    for number in 0..sessions {
        assert!(other.touch(other.key(&number.to_le_bytes()), Binding::NONE, Tick::from_millis(1)).passes());
    }
}

#[test]
fn a_region_in_memory_without_a_name_lies_in_pages_of_2_mib_for_all_that_open_it() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let name = "curfew-huge-test";
    let fd = memfd(name, true);
    let (one, other) = (Table::open_fd(fd.as_fd(), None).unwrap(), Table::open_fd(fd.as_fd(), None).unwrap());
    use_it(&one, &other, 2000);
    assert_eq!(other.check(), Ok(()));
    let mappings = mappings_of(name);
    assert_eq!(mappings.len(), 2);
    for mapping in &mappings {
        if can() {
            assert_eq!(mapping.begins % HUGE_PAGE, mapping.from % HUGE_PAGE, "{mapping:?}");
            assert!(mapping.in_huge_pages >= HUGE_PAGE, "{mapping:?}");
        }
    }
}

#[test]
fn who_does_not_ask_takes_memory_as_it_is_used() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let name = "curfew-small-test";
    let fd = memfd(name, false);
    let (one, other) = (Table::open_fd(fd.as_fd(), None).unwrap(), Table::open_fd(fd.as_fd(), None).unwrap());
    use_it(&one, &other, 20);
    if setting("shmem_enabled").contains("[always]") || setting("shmem_enabled").contains("[force]") {
        eprintln!("skipped: this system gives such pages to who does not ask");
        return;
    }
    for mapping in mappings_of(name) {
        assert_eq!(mapping.in_huge_pages, 0, "{mapping:?}");
        assert!(mapping.resident < 2 << 20, "of some 19 MB: {mapping:?}");
    }
}

#[test]
fn a_region_of_any_size_and_file_system_can_ask() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for directory in ["/dev/shm", env!("CARGO_TARGET_TMPDIR")].map(Path::new).into_iter().filter(|path| path.is_dir()) {
        let directory = tempfile::tempdir_in(directory).unwrap();
        for capacity in [1, 3000, 30_000, 100_000] {
            let path = directory.path().join(format!("{capacity}.region"));
            let config = Config { huge_pages: true, ..Config::new(capacity) };
            let table = Table::create(&path, &config).unwrap();
            let other = Table::open_or_create(&path, &config).unwrap();
            let policy = table.set_policy("p", &Policy::new().idle(Span::from_mins(15)), Tick::ZERO).unwrap();
            table.start(table.key(b"id"), &Start::under(policy), Tick::ZERO).unwrap();
            assert!(other.touch(other.key(b"id"), Binding::NONE, Tick::from_millis(1)).passes());
            assert_eq!(other.check(), Ok(()));
        }
    }
}

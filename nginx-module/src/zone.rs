//! A zone: a region that all workers share, and how each process of nginx comes by it.
//!
//! The master makes the region or finds it (a file with `path=`, else memory without a name), as
//! root, for the user that workers run as. It keeps a descriptor only: workers inherit that, and each
//! opens the region anew through it, so that each is an owner of its own whose death the others
//! notice. At a reload the new configuration takes the descriptor over from the old one, through
//! nginx's shared memory zone of the same name; a new binary (USR2) finds that of a region without a
//! name among those that it was started with.
//!
//! What can fail is done while nginx can still go back to the old configuration; what changes
//! sessions (policies, another size) after that. For another size the master moves the region
//! within its file or memory (`curfew_engine::Table::announce_move`); workers, old ones too, take
//! part at the beginning of each callback, where nothing of the region is in use.

mod error;
mod files;

use std::cell::{Cell, RefCell};
use std::ffi::{CString, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use curfew_engine::{Config, Moment, MoveError, Moving, OpenError, Policy, PolicyError, PolicyId, Seen, Table};
use nginx_sys::{
    NGX_LOG_EMERG, NGX_LOG_ERR, NGX_LOG_NOTICE, NGX_LOG_WARN, ngx_conf_t, ngx_core_conf_t, ngx_core_module,
    ngx_cycle_t, ngx_inherited, ngx_int_t, ngx_log_t, ngx_pagesize, ngx_shared_memory_add, ngx_shm_zone_t,
    ngx_slab_calloc, ngx_slab_pool_t, ngx_test_config,
};
use ngx::ngx_log_error;

use self::error::ZoneError;
use self::files::{canonical, copy_of, has_folder, make_folder_of, open_file, was_removed};
use crate::clock;
use crate::conf::{self, MOST_POLICIES};
use crate::nginx::{ERROR, OK, fence, in_pool, text_in_pool, turn};

/// Tells nginx that a zone of the old configuration is one of ours, in a form that another version of
/// this module with the same idea of [`Handed`] understands.
const TAG: *mut c_void = std::ptr::without_provenance_mut(0x6375_7266_6577_0002);
/// How often a process tries again to open a zone that it could not.
const RETRY_MS: u64 = 1000;
/// Sessions looked at in one step while a policy's former change is being caught up with.
const STEP: usize = 100_000;
/// Such steps at the most: enough for the largest table.
const STEPS: usize = 20_000;
/// How long the master waits for workers to get ready for a move, while they go on with their work,
/// and then for them to pause.
const READY: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(2);
/// How long a worker pauses at the most before it answers that the zone cannot be used.
const MOST_PAUSE_MS: u64 = 10_000;
/// Between two looks of one who waits.
const LOOK: Duration = Duration::from_micros(200);

/// What a configuration leaves for the next one.
#[repr(C)]
#[derive(Clone, Copy)]
struct Handed {
    /// Of the region; negative when there is none.
    fd: i32,
    zone: *const Zone,
}

/// A zone of one configuration.
pub(crate) struct Zone {
    pub(crate) name: String,
    config: Config,
    path: Option<PathBuf>,
    fd: RefCell<Option<OwnedFd>>,
    /// The region has another size than the configuration says.
    has_other_size: Cell<bool>,
    counters: Cell<*const Counters>,
    /// The user whose the region is, if that is not ours.
    owner: Cell<Option<u32>>,
    /// The configuration that it belongs to.
    cycle: Cell<*const ngx_cycle_t>,
    table: RefCell<Option<Rc<Table>>>,
    /// The callback in which this process last asked whether the region is on the move.
    asked_in: Cell<u64>,
    retry_at: Cell<u64>,
    /// The next event to be logged by this process.
    pub(crate) to_log: Cell<Option<u64>>,
    /// What has changed in the region until then, what is open was asked about.
    pub(crate) seen: Cell<Option<Seen>>,
    /// What the policies of the configuration are called in this region, in their order; `None` for
    /// one that could not be set.
    pub(crate) policies: RefCell<Vec<Option<PolicyId>>>,
}

/// What workers count beside the region, because it may be the region that cannot be used; in nginx's
/// shared memory. All-zero is how it begins.
#[repr(C)]
pub(crate) struct Counters {
    /// Requests whose session could not be looked at.
    pub(crate) errors: AtomicU64,
    /// Requests that were refused.
    pub(crate) denied: AtomicU64,
    /// Requests that were ended with their session while they went on.
    pub(crate) cut: AtomicU64,
}

impl Zone {
    pub(crate) fn new(name: String, config: Config, path: Option<PathBuf>) -> Zone {
        Zone {
            name,
            config,
            path,
            fd: RefCell::default(),
            has_other_size: Cell::default(),
            counters: Cell::new(std::ptr::null()),
            owner: Cell::default(),
            cycle: Cell::new(std::ptr::null()),
            table: RefCell::default(),
            asked_in: Cell::default(),
            retry_at: Cell::default(),
            to_log: Cell::default(),
            seen: Cell::default(),
            policies: RefCell::default(),
        }
    }

    pub(crate) fn survives_a_restart(&self) -> bool {
        self.path.is_some()
    }

    /// Whether its region is the file at `path`, however that is written.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        self.path.as_deref().is_some_and(|mine| canonical(mine) == canonical(path))
    }

    /// Announces the zone to nginx, which calls [`init`] once the whole configuration was read.
    pub(crate) fn register(&self, cf: &mut ngx_conf_t) -> Option<()> {
        let handed = in_pool(cf.pool, Handed { fd: -1, zone: self })?;
        let mut name = text_in_pool(cf.pool, self.name.as_bytes())?;
        // SAFETY: `cf` is the configuration that is being read; the name lies in its pool. The page
        // size was set before any configuration is.
        unsafe {
            let shared = ngx_shared_memory_add(cf, &mut name, 8 * ngx_pagesize, TAG);
            if shared.is_null() {
                return None;
            }
            (*shared).init = Some(init);
            (*shared).data = handed.cast();
            self.cycle.set(cf.cycle);
        }
        Some(())
    }

    /// The user that workers run as, if that is another one than ours.
    fn worker_user(&self) -> Option<u32> {
        let me = nix::unistd::geteuid().as_raw();
        // SAFETY: set by `register`; lives as long as this zone, and has a configuration of nginx's core.
        let core = unsafe {
            let cycle = self.cycle.get().as_ref();
            cycle.and_then(|cycle| (*cycle.conf_ctx.add(ngx_core_module.index)).cast::<ngx_core_conf_t>().as_ref())
        };
        let user = core.map_or(me, |core| core.user);
        (me == 0 && user != me).then_some(user)
    }

    /// What workers have counted; `None` before the zone is ready.
    pub(crate) fn counters(&self) -> Option<&Counters> {
        // SAFETY: set by `init` to memory that lives as long as the zone of nginx's, and so as this
        // configuration; shared with other processes, which use the same atomics.
        unsafe { self.counters.get().as_ref() }
    }

    /// The region, opened by this process; `None` while it cannot be. Not for the master.
    pub(crate) fn table(&self, log: *mut ngx_log_t) -> Option<Rc<Table>> {
        // At its first use in a callback nothing of the region is in use, so that it can change.
        let is_first_use = self.asked_in.replace(turn()) != turn();
        if let Some(table) = &*self.table.borrow()
            && (!is_first_use || table.moving() == Moving::No)
        {
            return Some(table.clone());
        }
        let settled = self.settle(log);
        if settled.is_none() {
            // It may have been answered that this process pauses: whoever asks next in this callback
            // must not get the table that is there.
            self.asked_in.set(0);
        }
        settled
    }

    /// Opens the region if need be, and takes part in moving it if somebody does.
    #[cold]
    fn settle(&self, log: *mut ngx_log_t) -> Option<Rc<Table>> {
        let began = clock::boot_millis();
        if began < self.retry_at.get() {
            return None;
        }
        while clock::boot_millis().saturating_sub(began) < MOST_PAUSE_MS {
            let table = self.table.borrow().clone();
            let Some(table) = table else {
                match self.open() {
                    Ok(table) => *self.table.borrow_mut() = Some(Rc::new(table)),
                    Err(ZoneError::Open(OpenError::Moving)) => std::thread::sleep(LOOK),
                    Err(error) => return self.put_off(log, &error),
                }
                continue;
            };
            match table.moving() {
                Moving::No => return Some(table),
                Moving::Announced => {
                    table.get_ready();
                    return Some(table);
                }
                Moving::Paused => {
                    table.pause();
                    std::thread::sleep(LOOK);
                }
                Moving::Done => {
                    *self.table.borrow_mut() = None;
                    self.seen.set(None);
                }
            }
        }
        self.put_off(log, &"it is being moved, and that does not come to its end")
    }

    /// Nothing for now.
    fn put_off<T>(&self, log: *mut ngx_log_t, why: &dyn std::fmt::Display) -> Option<T> {
        self.retry_at.set(clock::boot_millis().saturating_add(RETRY_MS));
        ngx_log_error!(NGX_LOG_ERR, log, "curfew: zone \"{}\" cannot be used: {}", self.name, why);
        None
    }

    fn open(&self) -> Result<Table, ZoneError> {
        match &*self.fd.borrow() {
            Some(fd) => Table::open_fd(fd.as_fd(), self.owner.get()).map_err(ZoneError::Open),
            None => Err(ZoneError::System("it was never made", std::io::ErrorKind::NotFound.into())),
        }
    }

    /// Finds or makes the region. Under `nginx -t` it only looks.
    fn prepare(&self, inherited: Option<BorrowedFd<'_>>, log: *mut ngx_log_t) -> Result<(), ZoneError> {
        // SAFETY: a number that nginx sets before it reads the configuration.
        let only_looks = unsafe { ngx_test_config } != 0;
        let fd = match (&self.path, inherited) {
            (Some(path), Some(fd)) if was_removed(fd, path) => {
                ngx_log_error!(
                    NGX_LOG_WARN,
                    log,
                    "curfew: zone \"{}\": {} was removed while in use; its sessions last until nginx stops",
                    self.name,
                    path.display()
                );
                Some(copy_of(fd)?)
            }
            (Some(path), _) => self.find_file(path, only_looks, log)?,
            (None, Some(fd)) => Some(copy_of(fd)?),
            (None, None) if only_looks => None,
            (None, None) => match self.find_memory() {
                Some(fd) => Some(fd),
                None => Some(Table::create_memfd(&self.memory_name(), &self.new_config()).map_err(ZoneError::Create)?),
            },
        };
        let Some(fd) = fd else { return Ok(()) };
        if self.path.is_none() {
            // For the program that takes this one's place.
            nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))
                .map_err(|error| ZoneError::System("descriptor", error.into()))?;
        }
        let table = Table::open_fd(fd.as_fd(), self.owner.get()).map_err(ZoneError::Open)?;
        self.has_numbers(&table)?;
        self.has_other_size.set(table.stats().capacity != self.config.capacity && !only_looks);
        *self.fd.borrow_mut() = Some(fd);
        Ok(())
    }

    /// Refuses a configuration of which a policy finds no number: under it no session could begin. A number that
    /// was given out once stays, because sessions may have it, and workers of the old configuration know it.
    fn has_numbers(&self, table: &Table) -> Result<(), ZoneError> {
        // SAFETY: set by `register`; lives as long as this zone, and nginx has read it whole.
        let Some(main) = (unsafe { conf::of_cycle(self.cycle.get()) }) else { return Ok(()) };
        let there: Vec<String> = table.policies().map(|(_, name, _)| name).collect();
        let mut new = main.policies.iter().map(|(name, _)| name).filter(|name| !there.contains(*name));
        let Some(policy) = new.nth(MOST_POLICIES.saturating_sub(there.len())) else { return Ok(()) };
        let is_used = |there: &String| main.policies.iter().any(|(name, _)| name == there);
        let (policy, count) = (policy.clone(), there.len());
        let unused = there.into_iter().filter(|there| !is_used(there)).collect();
        Err(ZoneError::NoNumber { policy, count, unused })
    }

    /// What the memory of a zone without a path is called among the descriptors of its processes.
    fn memory_name(&self) -> CString {
        let name: Vec<u8> = self.name.bytes().filter(|byte| *byte != 0).take(200).collect();
        CString::new([b"curfew:", &name[..]].concat()).unwrap_or_default()
    }

    /// The memory of this zone that the program had whose place this one has taken (USR2): it has left
    /// its descriptors open.
    fn find_memory(&self) -> Option<OwnedFd> {
        // SAFETY: a number that nginx sets before it reads the configuration.
        if unsafe { ngx_inherited } == 0 {
            return None;
        }
        let mut name = b"/memfd:".to_vec();
        name.extend_from_slice(self.memory_name().as_bytes());
        name.extend_from_slice(b" (deleted)");
        let mut found: Option<OwnedFd> = None;
        for entry in std::fs::read_dir("/proc/self/fd").ok()?.flatten() {
            let number = entry.file_name().to_str().and_then(|number| number.parse().ok());
            let Some(number) = number else { continue };
            if std::fs::read_link(entry.path()).is_ok_and(|path| path.as_os_str().as_encoded_bytes() == name) {
                // SAFETY: it was left open for this program, and nobody else here knows of it: other zones
                // have other names. A second one of the same is closed.
                let _ = found.replace(unsafe { OwnedFd::from_raw_fd(number) });
            }
        }
        found
    }

    fn warn_of_size(&self, table: &Table, log: *mut ngx_log_t, why: &dyn std::fmt::Display) {
        ngx_log_error!(
            NGX_LOG_WARN,
            log,
            "curfew: zone \"{}\" stays at {} sessions, and the configuration says {}: {}",
            self.name,
            table.stats().capacity,
            self.config.capacity,
            why
        );
    }

    fn tell_of_size(&self, moved: u64, log: *mut ngx_log_t) {
        ngx_log_error!(
            NGX_LOG_NOTICE,
            log,
            "curfew: zone \"{}\" has room for {} sessions now; {} were moved over",
            self.name,
            self.config.capacity,
            moved
        );
    }

    /// Moves the region into one of the size that the configuration says, while workers use it.
    pub(crate) fn resize(&self, log: *mut ngx_log_t) {
        if !self.has_other_size.get() {
            return;
        }
        let result = self.open().and_then(|table| {
            if table.stats().capacity == self.config.capacity {
                return Ok(());
            }
            let fd = self.fd.borrow();
            let fd = fd.as_ref().ok_or(ZoneError::System("it was never made", std::io::ErrorKind::NotFound.into()))?;
            let Some(mut step) = table.announce_move() else {
                self.warn_of_size(&table, log, &"somebody else moves it");
                return Ok(());
            };
            if !wait(READY, || step.are_all_ready()) {
                self.warn_of_size(&table, log, &MoveError::InUse);
                return Ok(());
            }
            step.pause();
            if !wait(PAUSE, || step.have_all_paused()) {
                self.warn_of_size(&table, log, &"a worker is too busy; reload again");
                return Ok(());
            }
            let moment = Moment::now().map_err(|error| ZoneError::System("cannot tell the time", error))?;
            match step.finish(fd.as_fd(), &self.config, &moment) {
                Ok(moved) => self.tell_of_size(moved.live + moved.over + moved.ended, log),
                Err(error) => self.warn_of_size(&table, log, &error),
            }
            Ok(())
        });
        if let Err(error) = result {
            ngx_log_error!(NGX_LOG_EMERG, log, "curfew: zone \"{}\" cannot be used: {}", self.name, error);
        }
    }

    fn new_config(&self) -> Config {
        Config { epoch: clock::boot_millis() as i64, owner: self.owner.get(), ..self.config.clone() }
    }

    fn find_file(&self, path: &Path, only_looks: bool, log: *mut ngx_log_t) -> Result<Option<OwnedFd>, ZoneError> {
        let owner = self.owner.get().unwrap_or_else(|| nix::unistd::geteuid().as_raw());
        let missing = match Table::open_owned_by(path, owner) {
            Ok(_) => false,
            Err(OpenError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => true,
            Err(OpenError::OtherBoot) => {
                ngx_log_error!(
                    NGX_LOG_NOTICE,
                    log,
                    "curfew: zone \"{}\" begins empty: {} is from before the machine's last boot",
                    self.name,
                    path.display()
                );
                if only_looks {
                    return Ok(None);
                }
                std::fs::remove_file(path).map_err(|error| ZoneError::System("cannot remove the old region", error))?;
                true
            }
            Err(error) => return Err(ZoneError::Open(error)),
        };
        if missing {
            has_folder(path)?;
            if only_looks {
                return Ok(None);
            }
            make_folder_of(path)?;
            Table::create(path, &self.new_config()).map_err(ZoneError::Create)?;
        }
        open_file(path).map(Some)
    }

    /// Tells the region what the configuration's policies say.
    pub(crate) fn set_policies(&self, policies: &[(String, Policy)], log: *mut ngx_log_t) {
        let table = match self.open() {
            Ok(table) => table,
            Err(error) => {
                ngx_log_error!(NGX_LOG_EMERG, log, "curfew: zone \"{}\" cannot be used: {}", self.name, error);
                return;
            }
        };
        let set = |(name, policy): &(String, Policy)| {
            let mut result = table.set_policy(name, policy, clock::now(&table));
            for _ in 0..STEPS {
                if result != Err(PolicyError::Busy) {
                    break;
                }
                // It changed so often that sessions are still being looked through: look through them.
                table.advance(clock::now(&table), STEP);
                result = table.set_policy(name, policy, clock::now(&table));
            }
            result
                .inspect_err(|error| {
                    ngx_log_error!(
                        NGX_LOG_EMERG,
                        log,
                        "curfew: policy \"{}\" cannot be set in zone \"{}\": {}",
                        name,
                        self.name,
                        error
                    );
                })
                .ok()
        };
        *self.policies.borrow_mut() = policies.iter().map(set).collect();
    }
}

fn wait(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let began = std::time::Instant::now();
    while !done() {
        if began.elapsed() > patience {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}

/// The counters in a zone of nginx's, made if they are not there.
///
/// # Safety
/// `shared` must be a zone whose memory nginx has prepared.
unsafe fn counters_in(shared: *mut ngx_shm_zone_t) -> Option<*const Counters> {
    // SAFETY: nginx begins the memory of every zone with a slab pool, whose `data` is the user's, and
    // keeps it over reloads. Memory of `ngx_slab_calloc` is zeroed and aligned for words.
    unsafe {
        let pool = (*shared).shm.addr.cast::<ngx_slab_pool_t>();
        if (*pool).data.is_null() {
            (*pool).data = ngx_slab_calloc(pool, size_of::<Counters>());
        }
        Some((*pool).data.cast::<Counters>().cast_const()).filter(|counters| !counters.is_null())
    }
}

/// What nginx calls once it has read the whole configuration; it can still go back to the old one.
unsafe extern "C" fn init(shared: *mut ngx_shm_zone_t, inherited: *mut c_void) -> ngx_int_t {
    // SAFETY: nginx passes the zone that `register` announced, with the data that it was given there;
    // and as inherited data that of the old configuration's zone with the same tag, which is still
    // whole. Pool and zones live as long as their configurations.
    let (zone, handed, log, old) = unsafe {
        let handed = (*shared).data.cast::<Handed>();
        (&*(*handed).zone, handed, (*shared).shm.log, inherited.cast::<Handed>().as_ref())
    };
    // SAFETY: as above.
    let Some(counters) = (unsafe { counters_in(shared) }) else { return ERROR };
    zone.counters.set(counters);
    fence(log, ERROR, || {
        zone.owner.set(zone.worker_user());
        // SAFETY: the old configuration holds its descriptor as long as it is there.
        let old = old.filter(|old| old.fd >= 0).map(|old| unsafe { BorrowedFd::borrow_raw(old.fd) });
        if let Err(error) = zone.prepare(old, log) {
            ngx_log_error!(NGX_LOG_EMERG, log, "curfew: zone \"{}\" cannot be used: {}", zone.name, error);
            return ERROR;
        }
        let fd = zone.fd.borrow().as_ref().map_or(-1, AsRawFd::as_raw_fd);
        // SAFETY: as above.
        unsafe { (*handed).fd = fd };
        OK
    })
}

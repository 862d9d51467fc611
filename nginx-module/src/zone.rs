//! A zone: a region that all workers share, and how each process of nginx comes by it.
//!
//! The master makes the region or finds it (a file with `path=`, else memory without a name), as
//! root, for the user that workers run as. It keeps a descriptor only: workers inherit that, and each
//! opens the region anew through it, so that each is an owner of its own whose death the others
//! notice. At a reload the new configuration takes the descriptor over from the old one, through
//! nginx's shared memory zone of the same name, which serves for nothing else.
//!
//! What can fail is done while nginx can still go back to the old configuration; what changes
//! sessions (policies) after that.

use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use curfew_engine::{Config, CreateError, OpenError, Policy, PolicyError, PolicyId, Table};
use nginx_sys::{
    NGX_LOG_EMERG, NGX_LOG_ERR, NGX_LOG_NOTICE, NGX_LOG_WARN, ngx_conf_t, ngx_core_conf_t, ngx_core_module, ngx_int_t,
    ngx_log_t, ngx_pagesize, ngx_shared_memory_add, ngx_shm_zone_t, ngx_test_config,
};
use ngx::ngx_log_error;

use crate::clock;
use crate::nginx::{ERROR, OK, fence, in_pool, text_in_pool};

/// Tells nginx that a zone of the old configuration is one of ours, in a form that another version of
/// this module with the same idea of [`Handed`] understands.
const TAG: *mut c_void = std::ptr::without_provenance_mut(0x6375_7266_6577_0001);
/// How often a process tries again to open a zone that it could not.
const RETRY_MS: u64 = 1000;
/// Sessions looked at in one step while a policy's former change is being caught up with.
const STEP: usize = 100_000;
/// Such steps at the most: enough for the largest table.
const STEPS: usize = 20_000;

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
    /// The user whose the region is, if that is not ours.
    owner: Cell<Option<u32>>,
    core: Cell<*const ngx_core_conf_t>,
    table: OnceCell<Table>,
    retry_at: Cell<u64>,
    /// The next event to be logged by this process.
    pub(crate) to_log: Cell<Option<u64>>,
    /// What the policies of the configuration are called in this region, in their order; `None` for
    /// one that could not be set.
    pub(crate) policies: RefCell<Vec<Option<PolicyId>>>,
}

#[derive(Debug)]
enum ZoneError {
    Create(CreateError),
    Open(OpenError),
    System(&'static str, std::io::Error),
}

impl std::fmt::Display for ZoneError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ZoneError::Create(error) => error.fmt(f),
            ZoneError::Open(error) => error.fmt(f),
            ZoneError::System(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl Zone {
    pub(crate) fn new(name: String, config: Config, path: Option<PathBuf>) -> Zone {
        Zone {
            name,
            config,
            path,
            fd: RefCell::default(),
            owner: Cell::default(),
            core: Cell::new(std::ptr::null()),
            table: OnceCell::new(),
            retry_at: Cell::default(),
            to_log: Cell::default(),
            policies: RefCell::default(),
        }
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
            let core = *(*cf.cycle).conf_ctx.add(ngx_core_module.index);
            self.core.set(core.cast());
        }
        Some(())
    }

    /// The user that workers run as, if that is another one than ours.
    fn worker_user(&self) -> Option<u32> {
        let me = nix::unistd::geteuid().as_raw();
        // SAFETY: set by `register`; lives in the same configuration as this zone.
        let user = unsafe { self.core.get().as_ref() }.map_or(me, |core| core.user);
        (me == 0 && user != me).then_some(user)
    }

    /// The region, opened by this process; `None` while it cannot be. Not for the master.
    pub(crate) fn table(&self, log: *mut ngx_log_t) -> Option<&Table> {
        if let Some(table) = self.table.get() {
            return Some(table);
        }
        let now = clock::boot_millis();
        if now < self.retry_at.get() {
            return None;
        }
        match self.open() {
            Ok(table) => Some(self.table.get_or_init(|| table)),
            Err(error) => {
                self.retry_at.set(now.saturating_add(RETRY_MS));
                ngx_log_error!(NGX_LOG_ERR, log, "curfew: zone \"{}\" cannot be used: {}", self.name, error);
                None
            }
        }
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
            (Some(path), _) => self.find_file(path, only_looks, log)?,
            (None, Some(fd)) => Some(fd.try_clone_to_owned().map_err(|error| ZoneError::System("descriptor", error))?),
            (None, None) if only_looks => None,
            (None, None) => Some(Table::create_memfd(&self.new_config()).map_err(ZoneError::Create)?),
        };
        let Some(fd) = fd else { return Ok(()) };
        let table = Table::open_fd(fd.as_fd(), self.owner.get()).map_err(ZoneError::Open)?;
        let fd = match &self.path {
            _ if table.stats().capacity == self.config.capacity => fd,
            Some(path) if !only_looks && !table.has_company() => self.resize(&table, path, log)?.unwrap_or(fd),
            path => {
                // Workers are using it.
                self.warn_of_size(
                    &table,
                    log,
                    if path.is_some() { "" } else { " (it has no path=, so it is empty then)" },
                );
                fd
            }
        };
        *self.fd.borrow_mut() = Some(fd);
        Ok(())
    }

    fn warn_of_size(&self, table: &Table, log: *mut ngx_log_t, aside: &str) {
        ngx_log_error!(
            NGX_LOG_WARN,
            log,
            "curfew: zone \"{}\" stays at {} sessions until nginx is started anew{}; the configuration says {}",
            self.name,
            table.stats().capacity,
            aside,
            self.config.capacity
        );
    }

    /// Puts a file of the size that the configuration says in the place of one that nobody else uses, with
    /// its sessions; `None` when they do not fit, and the old one stays.
    fn resize(&self, old: &Table, path: &Path, log: *mut ngx_log_t) -> Result<Option<OwnedFd>, ZoneError> {
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".resized");
        let unfinished = PathBuf::from(unfinished);
        // What an nginx left there that was killed while it did this.
        let _ = std::fs::remove_file(&unfinished);
        let config = Config { owner: self.owner.get(), ..old.config_for(self.config.capacity) };
        let moved = Table::create(&unfinished, &config).map_err(ZoneError::Create).map(|new| {
            while old.advance(clock::now(old), STEP).more {}
            old.copy_into(&new, clock::now(old))
        });
        match moved {
            Ok(Ok(sessions)) => {
                std::fs::rename(&unfinished, path)
                    .map_err(|error| ZoneError::System("cannot put it in place", error))?;
                ngx_log_error!(
                    NGX_LOG_NOTICE,
                    log,
                    "curfew: zone \"{}\" has room for {} sessions now; {} were moved over",
                    self.name,
                    self.config.capacity,
                    sessions
                );
                open_file(path).map(Some)
            }
            Ok(Err(error)) => {
                let _ = std::fs::remove_file(&unfinished);
                self.warn_of_size(old, log, &format!(" with fewer sessions ({error})"));
                Ok(None)
            }
            Err(error) => Err(error),
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
        if missing && only_looks {
            return Ok(None);
        }
        if missing {
            make_folder_of(path).map_err(|error| ZoneError::System("cannot make the folder of the region", error))?;
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

/// The descriptor that workers open the region by.
fn open_file(path: &Path) -> Result<OwnedFd, ZoneError> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC;
    let file: std::io::Result<File> = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    file.map(OwnedFd::from).map_err(|error| ZoneError::System("cannot open the region", error))
}

/// The last folder of the path, which under /run has to be made after every boot.
fn make_folder_of(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.exists() => std::fs::create_dir(folder),
        _ => Ok(()),
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

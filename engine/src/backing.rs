//! Where a region's memory comes from: this process's own, a file that several map, or the caller.

#[cfg(not(loom))]
mod bytes;
#[cfg(not(loom))]
mod file;
#[cfg(not(loom))]
mod lent;
#[cfg(not(loom))]
mod pages;

use std::io;

#[cfg(not(loom))]
pub(crate) use bytes::copy_of;
#[cfg(not(loom))]
pub(crate) use file::{
    append, create, create_memfd, create_with, give_back, lead_on, moves, open, open_fd, open_own, scratch, temporary,
};
#[cfg(not(loom))]
pub(crate) use lent::{create_in, open_in};

use crate::error::CreateError;
#[cfg(not(loom))]
use crate::error::OpenError;
use crate::key::Secret;
use crate::layout::{Layout, MAGIC, MOST_CAPACITY, MOST_EVENTS, VERSION, header};
use crate::owner::Owner;
use crate::region::Region;

/// What a new region is to be.
#[derive(Clone)]
pub struct Config {
    /// Sessions, live and ended ones that are still kept, that it has room for: `1..=2^30`. Up to
    /// 262,143 this is exact. A larger region is divided into shards and has a little more room, a
    /// few percent at the most, before chance fills the first of them.
    pub capacity: u64,
    /// Events the ring remembers: `16..=2^26`, or zero for a 64th of the capacity, at least 1,024.
    pub events: u64,
    /// The key of all digests; random when there is none. Give one only to make regions in which
    /// the same id has the same key.
    pub secret: Option<[u8; 32]>,
    /// What the steady clock said, in milliseconds, at the region's tick zero; negative when that
    /// was before the machine's boot. All processes that use the region take their ticks from it
    /// ([`crate::Table::tick_at`]). Zero will do: then ticks are milliseconds since the boot.
    pub epoch: i64,
    /// Ask the system for 2 MiB pages, which make touches of large regions faster. A hint. Private
    /// memory is then taken in larger pieces as it is used; that of a region file in memory (on
    /// tmpfs, or without a name) all at once, so that its pages can be put together (Linux 6.1), and
    /// every process that opens it has them. Other files have small pages.
    pub huge_pages: bool,
    /// The user that a region file shall belong to, when that is not this process's: a master that
    /// runs as root makes the file for workers that do not. Only that user's processes, and those
    /// that name it ([`crate::Table::open_owned_by`]), can open it.
    pub owner: Option<u32>,
}

/// Without the secret, which must not get into a log.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Config { capacity, events, epoch, huge_pages, owner, .. } = self;
        let mut all = f.debug_struct("Config");
        all.field("capacity", capacity).field("events", events).field("epoch", epoch).field("huge_pages", huge_pages);
        all.field("owner", owner).finish_non_exhaustive()
    }
}

impl Config {
    /// A region for `capacity` sessions, everything else as usual.
    #[must_use]
    pub fn new(capacity: u64) -> Config {
        Config { capacity, events: 0, secret: None, epoch: 0, huge_pages: false, owner: None }
    }

    /// The largest region of at most `bytes` bytes; `None` when not even one session fits.
    #[must_use]
    pub fn fitting(bytes: u64) -> Option<Config> {
        // A region grows with its capacity, but for some that begin a new shard and are a little
        // smaller than the one before: what the search finds fits all the same.
        let fits = |capacity: u64| Layout::new(capacity, 0).bytes() as u64 <= bytes;
        let (mut fitting, mut above) = (0, MOST_CAPACITY + 1);
        while above - fitting > 1 {
            let middle = fitting + (above - fitting) / 2;
            if fits(middle) { fitting = middle } else { above = middle }
        }
        (fitting > 0).then(|| Config::new(fitting))
    }

    pub(crate) fn layout(&self) -> Result<Layout, CreateError> {
        if !(1..=MOST_CAPACITY).contains(&self.capacity) {
            return Err(CreateError::Capacity { capacity: self.capacity, most: MOST_CAPACITY });
        }
        if self.events != 0 && !(16..=MOST_EVENTS).contains(&self.events) {
            return Err(CreateError::Events { events: self.events, most: MOST_EVENTS });
        }
        Ok(Layout::new(self.capacity, self.events))
    }

    fn secret(&self) -> io::Result<Secret> {
        let mut bytes = [0; 32];
        match self.secret {
            Some(secret) => bytes = secret,
            None => getrandom::fill(&mut bytes).map_err(io::Error::other)?,
        }
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = chunk.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
        }
        Ok(Secret(words))
    }
}

fn checksum(word: impl Fn(usize) -> u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for at in 0..header::SUM {
        hasher.update(&word(at).to_le_bytes());
    }
    u64::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().expect("a hash is longer"))
}

/// What can be told once all of a region is there.
#[cfg(not(loom))]
fn check_whole(region: &Region, boot: u64) -> Result<(), OpenError> {
    bytes::check_sum(region)?;
    if region.get(header::BOOT) != boot {
        return Err(OpenError::OtherBoot);
    }
    Ok(())
}

/// Writes the header of a region of zeroes; the magic last.
fn initialise(region: &Region, config: &Config, secret: Secret, boot: u64) {
    let layout = &region.layout;
    region.set(header::VERSION, VERSION);
    region.set(header::WORDS, layout.words as u64);
    region.set(header::CAPACITY, layout.capacity);
    region.set(header::EVENTS, layout.events as u64);
    region.set(header::BOOT, boot);
    region.set(header::EPOCH, config.epoch as u64);
    for (word, value) in secret.0.into_iter().enumerate() {
        region.set(header::SECRET + word, value);
    }
    region.set(header::GEOMETRY, layout.geometry());
    region.set(header::SUM, checksum(|at| if at == header::MAGIC { MAGIC } else { region.get(at) }));
    // The last, and whoever sees it sees all of the region: memory that is lent is opened as it is.
    region.publish(header::MAGIC, MAGIC);
}

/// Creates a region in memory of this process's own. Its pages are taken when they are first used.
#[cfg(not(loom))]
pub(crate) fn private(config: &Config) -> Result<Region, CreateError> {
    let region = zeroes(config.layout()?, config.huge_pages).map_err(CreateError::System)?;
    // Nobody opens it after another boot.
    initialise(&region, config, config.secret().map_err(CreateError::System)?, 0);
    Ok(region)
}

#[cfg(not(loom))]
fn zeroes(layout: Layout, huge_pages: bool) -> io::Result<Region> {
    let map = memmap2::MmapRaw::from(memmap2::MmapOptions::new().len(layout.bytes()).map_anon()?);
    if huge_pages {
        pages::ask_for_huge(&map);
    }
    Ok(Region::new(map, layout, Owner::private()))
}

/// The same on loom's atomics.
#[cfg(loom)]
pub(crate) fn private(config: &Config) -> Result<Region, CreateError> {
    let mut region = Region::new(config.layout()?, Owner::private());
    region.owner = Owner::claim(0, region.words());
    // Nobody opens it after another boot.
    initialise(&region, config, config.secret().map_err(CreateError::System)?, 0);
    Ok(region)
}

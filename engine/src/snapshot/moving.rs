//! Moving a region into one of another size while the processes that use it live on.
//!
//! The new region lies further back in the same file, so that whoever has a descriptor of the old
//! one can open it. One process, the mover, leads; the others take part between two of their calls,
//! where they ask [`Table::moving`]:
//!
//! 1. *Announced*: each says that it knows ([`Table::get_ready`]) and goes on. One that does not, for
//!    it never asks, keeps the move from happening.
//! 2. *Paused*: each says that it is in no call ([`Table::pause`]) and makes none until that changes.
//!    With the last of them nobody but the mover is in the region.
//! 3. The mover takes a snapshot, restores it into the new region, and commits by one store.
//! 4. *Done*: each lets go of the old table and opens the region anew, which leads to the new one.
//!
//! Who opens the region meanwhile is one more who has not said so, or is refused. A mover that dies
//! leaves a word that means nothing any more, and everybody goes on where they were.

use std::fs::File;
use std::os::fd::BorrowedFd;

use crate::backing::{self, Config};
use crate::error::{CreateError, MoveError, RestoreError};
use crate::moment::Moment;
use crate::moving::{MOST, Moving};
use crate::snapshot::restore::Restored;
use crate::table::Table;

impl Table {
    /// Whether somebody moves this region into one of another size. One load as long as nobody does.
    /// Who shares a region with a process that moves it ([`Table::announce_move`]) asks between its
    /// calls, does what [`Moving`] says, and goes on with [`Moving::No`].
    #[inline]
    #[must_use]
    pub fn moving(&self) -> Moving {
        self.region.moving()
    }

    /// Says that this process knows of the move and will pause for it.
    pub fn get_ready(&self) {
        self.region.answer_move(false);
    }

    /// Says that no thread of this process is in a call of this table, and that none will be until
    /// [`Table::moving`] says something else than [`Moving::Paused`].
    pub fn pause(&self) {
        self.region.answer_move(true);
    }

    /// Announces a move; `None` while somebody else is at one, when it has moved already, or when the
    /// region is in no file.
    #[must_use]
    pub fn announce_move(&self) -> Option<Move<'_>> {
        self.region.owner.descriptor()?;
        self.region.announce_move().map(|word| Move { table: self, word, is_alone: false })
    }
}

/// A move that was announced. Dropping it calls it off.
#[derive(Debug)]
pub struct Move<'a> {
    table: &'a Table,
    word: u64,
    /// All had paused. Who opens the region after that sees it, and goes away again.
    is_alone: bool,
}

impl Move<'_> {
    /// Whether every other process that has the region open knows of the move.
    #[must_use]
    pub fn are_all_ready(&self) -> bool {
        self.table.region.have_all_answered(self.word, false)
    }

    /// Asks the others to pause.
    pub fn pause(&mut self) {
        self.word = self.table.region.pause_for_move(self.word);
        self.is_alone = false;
    }

    /// Whether every other process that has the region open has paused.
    #[must_use]
    pub fn have_all_paused(&mut self) -> bool {
        self.is_alone = self.table.region.have_all_answered(self.word, true);
        self.is_alone
    }

    /// Moves the region to the end of its file, of which `file` is a descriptor, once
    /// [`Move::have_all_paused`]. Of `config` the capacity, the events and the pages count. What comes of it is what a
    /// snapshot of this moment would have become.
    ///
    /// # Errors
    /// [`MoveError`]; then everything is as it was.
    pub fn finish(self, file: BorrowedFd<'_>, config: &Config, moment: &Moment) -> Result<Restored, MoveError> {
        let old = &self.table.region;
        if !self.is_alone {
            return Err(MoveError::InUse);
        }
        let file = file.try_clone_to_owned().map_err(CreateError::System).map_err(RestoreError::Create)?;
        let file = File::from(file);
        let from = old.owner.place();
        if backing::moves(&file, from) >= MOST {
            return Err(MoveError::TooOften { most: MOST });
        }
        let snapshot = self.table.snapshot_in_memory(moment)?;
        let mut to = None;
        let restored = snapshot.restore_into(config, moment, |config| {
            let (at, region) = backing::append(&file, config)?;
            to = Some((at, region.layout));
            Ok(region)
        });
        let moved = match (restored, to) {
            (Ok(restored), Some((to, _))) if old.finish_move(self.word, to) => Ok(restored),
            (Ok(_), _) => Err(MoveError::InUse),
            (Err(error), _) => Err(error.into()),
        };
        match (&moved, to) {
            (Ok(_), to) => {
                backing::give_back(&file, from, &old.layout);
                to.into_iter().for_each(|(to, _)| backing::lead_on(&file, to));
            }
            (Err(_), Some((to, layout))) => backing::give_back(&file, to, &layout),
            (Err(_), None) => {}
        }
        moved
    }
}

impl Drop for Move<'_> {
    fn drop(&mut self) {
        // Nothing if it is done.
        self.table.region.call_off_move(self.word);
    }
}

//! Whether a region is on the move into one of another size, and who takes part.
//!
//! One word says how far the move is: in its two lowest bits the state, above them the owner id of
//! the mover, and on top the number of the move; when it is done, the byte of the file at which the
//! region goes on. Beside it each owner has 16 bits for its answer: the number of the move that it
//! answers, and whether it is ready or has paused. So an answer that comes late, to a move that was
//! called off, answers no other one. `snapshot/moving.rs` has the steps.

use crate::atomic::{Ordering, fence};
use crate::layout::header;
use crate::region::Region;

const ANNOUNCED: u64 = 1;
const PAUSED: u64 = 2;
const DONE: u64 = 3;
const STATE: u64 = 3;
const NUMBER_SHIFT: u32 = 50;
const NUMBERS: u64 = 1 << (64 - NUMBER_SHIFT);
/// Where in a file a region can begin.
pub(crate) const PLACE: u64 = 1 << 16;
/// Regions of a file that lead from one to the next; usually two, for the first leads to the last.
pub(crate) const MOST: usize = 32;

/// Whether a region is on the move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moving {
    /// No.
    No,
    /// It will be soon: get ready.
    Announced,
    /// It is: call nothing more that is in it, pause, and ask again.
    Paused,
    /// It was, and this table is of the old one: open the region anew.
    Done,
}

/// Where the region goes on that begins at `from` and has this word. What comes later in a file lies
/// further back, so nothing leads round.
pub(crate) fn target(word: u64, from: u64) -> Option<u64> {
    let to = word & !STATE;
    (word & STATE == DONE && to > from && to.is_multiple_of(PLACE)).then_some(to)
}

/// The word of a region that goes on at the byte `to`.
pub(crate) fn leads_to(to: u64) -> u64 {
    DONE | to
}

impl Region {
    #[inline]
    pub(crate) fn moving(&self) -> Moving {
        match self.load(header::MOVE) {
            0 => Moving::No,
            word => self.how_far(word),
        }
    }

    #[cold]
    fn how_far(&self, mut word: u64) -> Moving {
        loop {
            let mover = (word & ((1 << NUMBER_SHIFT) - 1)) >> 2;
            let says = match word & STATE {
                DONE => return Moving::Done,
                ANNOUNCED => Moving::Announced,
                PAUSED => Moving::Paused,
                _ => return Moving::No,
            };
            if self.owner.is_alive(mover, self.words()) {
                return says;
            }
            // What a mover says that has died means nothing; but it may have said something else
            // before it went, and that counts.
            let now = self.load(header::MOVE);
            if now == word {
                return Moving::No;
            }
            word = now;
        }
    }

    /// Answers the move that is under way. That this process has paused answers only one that asks for
    /// it: the one for which it paused may have been called off, and another one announced.
    pub(crate) fn answer_move(&self, has_paused: bool) {
        let word = self.load(header::MOVE);
        let (number, has_paused) = (word >> NUMBER_SHIFT, has_paused && word & STATE == PAUSED);
        // Everything that this process did in the region comes before.
        fence(Ordering::SeqCst);
        self.set_answer(number << 1 | u64::from(has_paused));
    }

    /// Who has only just come has answered nothing; its number may have been somebody's who did.
    pub(crate) fn forget_answer(&self) {
        self.set_answer(0);
        fence(Ordering::SeqCst);
    }

    fn set_answer(&self, answer: u64) {
        let (at, shift) = lane(self.owner.number());
        let mut found = self.load(at);
        loop {
            let with = found & !(0xffff << shift) | (answer & 0xffff) << shift;
            if with == found {
                return;
            }
            match self.exchange(at, found, with) {
                Ok(_) => return,
                Err(now) => found = now,
            }
        }
    }

    /// Announces a move; its word, or nothing while somebody else is at one or it is done.
    pub(crate) fn announce_move(&self) -> Option<u64> {
        let word = self.load(header::MOVE);
        if self.how_far(word) != Moving::No {
            return None;
        }
        // Never zero, which is nobody's answer.
        let last = if word & STATE == 0 { word >> 2 } else { word >> NUMBER_SHIFT };
        let number = (last % (NUMBERS - 1)) + 1;
        let announced = ANNOUNCED | self.owner.id << 2 | number << NUMBER_SHIFT;
        self.exchange(header::MOVE, word, announced).ok().map(|_| announced)
    }

    /// Asks the others to pause for the move that has this word; the word that it has now.
    pub(crate) fn pause_for_move(&self, word: u64) -> u64 {
        let paused = word & !STATE | PAUSED;
        let _ = self.exchange(header::MOVE, word, paused);
        fence(Ordering::SeqCst);
        paused
    }

    /// Whether every other owner has answered the move that has this word.
    pub(crate) fn have_all_answered(&self, word: u64, has_paused: bool) -> bool {
        let asked = (word >> NUMBER_SHIFT) << 1;
        self.owner.others().all(|number| {
            let (at, shift) = lane(number);
            let answer = self.load(at) >> shift & 0xffff;
            answer == asked | 1 || answer == asked && !has_paused
        })
    }

    /// Commits the move that has this word: the region goes on at the byte `to`. False if it was not
    /// under way any more.
    pub(crate) fn finish_move(&self, word: u64, to: u64) -> bool {
        fence(Ordering::SeqCst);
        self.exchange(header::MOVE, word, leads_to(to)).is_ok()
    }

    /// Calls off the move that has this word, and keeps its number.
    pub(crate) fn call_off_move(&self, word: u64) {
        let _ = self.exchange(header::MOVE, word, (word >> NUMBER_SHIFT) << 2);
    }
}

/// The word and the bits of an owner's answer.
fn lane(owner: usize) -> (usize, u32) {
    (header::MOVERS + owner / 4, (owner % 4 * 16) as u32)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::{Config, Moment, Table};

    #[test]
    fn who_saw_a_pause_finds_the_move_done_although_its_mover_has_left_since() {
        let fd = Table::create_memfd(c"test", &Config::new(100)).unwrap();
        let open = || Table::open_fd(fd.as_fd(), None).unwrap();
        let (one, mover) = (open(), open());
        let mut step = mover.announce_move().unwrap();
        one.get_ready();
        step.pause();
        let seen = one.region.load(header::MOVE);
        one.pause();
        assert!(step.have_all_paused());
        step.finish(fd.as_fd(), &Config::new(1000), &Moment::now().unwrap()).unwrap();
        drop(mover);
        assert_eq!(one.region.how_far(seen), Moving::Done);
    }
}

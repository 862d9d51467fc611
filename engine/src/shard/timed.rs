//! What a shard does when its time has come: filing under deadlines, what fires, what a changed policy
//! asks for, and room that is made of what is over.

use crate::layout::{LISTS, header};
use crate::shard::{Shard, field};
use crate::time::Tick;
use crate::wheel::{Damaged, Entry, KEPT, LIVE};

/// Work of a start that finds its shard full, before it gives up.
const MAKE_ROOM: usize = 256;
/// Entries that are put in order before others have a turn at the shard.
const SORTED: usize = 1024;
/// Records of one millisecond, or filed behind the clock, among which the one to give up is looked for.
const CHOICE: usize = 64;
/// Lists of a wheel that are of one millisecond.
const FINEST: usize = 64;

/// Whether there is room for one more record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Room {
    Made,
    /// There is none, and none can be made.
    None,
    /// What would be forgotten soonest is not known yet: ask again, and let others at the shard in between.
    Sorting,
}

impl Shard<'_> {
    /// Files a record under its deadline, unless it is filed where it fires in time already.
    pub(crate) fn file(&self, slot: usize, wheel: usize, due: Tick) {
        if self.try_file(slot, wheel, due).is_err() {
            self.rebuild_timer();
        }
    }

    pub(super) fn try_file(&self, slot: usize, wheel: usize, due: Tick) -> Result<(), Damaged> {
        let control = self.region.control(slot);
        if due.is_never() {
            if control.is_filed() {
                self.region.set_control(slot, control.unfiled());
                self.timer.grew_stale();
            }
            return Ok(());
        }
        let list = self.timer.list_for(wheel, due);
        if control.is_filed() {
            let same_wheel = control.list() / crate::layout::LISTS == wheel;
            if same_wheel && self.timer.start_of(control.list()) <= self.timer.start_of(list) {
                return Ok(());
            }
            self.timer.grew_stale();
        }
        let control = control.refiled(list);
        self.region.set_control(slot, control);
        if !self.timer.push(list, Entry::new(slot - self.first(), control.filing()))? {
            return Err(Damaged);
        }
        let start = self.timer.start_of(list);
        if start < self.region.next_due(self.number) {
            self.publish_next_due(start);
        }
        let ask = |entry: Entry| self.region.prefetch(self.region.layout.record(self.first() + entry.slot()));
        self.timer.purge(|list, entry| self.is_stale(list, entry), ask)
    }

    pub(crate) fn publish_next_due(&self, due: Tick) {
        self.region.publish(self.at(field::NEXT_DUE), !due.as_millis());
    }

    /// Whether the record that an entry names is filed elsewhere.
    pub(crate) fn is_stale(&self, list: usize, entry: Entry) -> bool {
        if entry.slot() >= self.region.layout.slots {
            return true;
        }
        let control = self.region.control(self.first() + entry.slot());
        !control.is_filed() || control.filing() != entry.filing() || control.list() != list
    }

    /// Does up to `budget` units of work that is due at `now`: an entry that fires is one. Says how
    /// many it did.
    pub(crate) fn advance(&self, now: Tick, budget: usize) -> usize {
        let mut done = 0;
        for wheel in [LIVE, KEPT] {
            match self.advance_wheel(wheel, now, budget - done) {
                Ok(units) => done += units,
                Err(Damaged) => {
                    self.rebuild_timer();
                    done += 1;
                }
            }
        }
        let next = [LIVE, KEPT].into_iter().filter_map(|wheel| self.timer.next(wheel)).map(|(_, start)| start).min();
        self.publish_next_due(next.unwrap_or(Tick::NEVER));
        done
    }

    fn advance_wheel(&self, wheel: usize, now: Tick, budget: usize) -> Result<usize, Damaged> {
        let mut done = 0;
        let mut asked = None;
        while done < budget {
            let next = self.timer.next(wheel).filter(|(_, start)| *start <= now);
            let Some((list, start)) = next else {
                let past = Tick::from_millis(now.as_millis() + 1).as_now();
                if past.as_millis() > self.timer.clock(wheel) {
                    self.timer.set_clock(wheel, past);
                }
                break;
            };
            self.timer.set_clock(wheel, start);
            // The records of a chunk are asked for while the chunk before it is worked on.
            if asked != Some(list) {
                self.ask_for(self.timer.chunk_at(list, 0));
            }
            self.ask_for(self.timer.chunk_at(list, 1));
            asked = Some(list);
            for _ in 0..crate::layout::CHUNK.min(budget - done) {
                let Some(entry) = self.timer.pop(list)? else { break };
                done += 1;
                if self.is_stale(list, entry) {
                    self.timer.dropped_stale();
                } else {
                    self.fire(self.first() + entry.slot(), now);
                }
            }
        }
        Ok(done)
    }

    /// Asks for the memory that the entries of a chunk will need when they fire.
    fn ask_for(&self, entries: impl Iterator<Item = Entry>) {
        for entry in entries.filter(|entry| entry.slot() < self.region.layout.slots) {
            self.region.prefetch(self.region.layout.record(self.first() + entry.slot()));
            self.region.prefetch(self.index.word_of(entry.slot()));
        }
    }

    /// An entry has fired: end, forget, or file anew.
    fn fire(&self, slot: usize, now: Tick) {
        self.region.set_control(slot, self.region.control(slot).unfiled());
        let Some(view) = self.settle(slot, now) else { return };
        if view.mark().is_some() {
            self.file(slot, KEPT, view.kept_until());
        } else if let Some(due) = self.region.due(&view) {
            self.file(slot, LIVE, due);
        }
    }

    /// Looks at up to `budget` records because a policy has changed: ends those whose time has
    /// come, and files those whose deadline is nearer than where they are filed.
    pub(crate) fn sweep(&self, now: Tick, budget: usize) -> usize {
        let changes = self.region.load(header::POLICY_CHANGES);
        if self.get(field::SWEPT) >= changes {
            return 0;
        }
        if self.get(field::SWEEP_TARGET) != changes {
            // In this order: the other leaves a cursor at the end of a sweep that has not begun.
            self.set(field::SWEEP_CURSOR, 0);
            self.set(field::SWEEP_TARGET, changes);
        }
        let from = (self.get(field::SWEEP_CURSOR) as usize).min(self.region.layout.slots);
        let to = (from + budget).min(self.region.layout.slots);
        for slot in self.first() + from..self.first() + to {
            if let Some(view) = self.settle(slot, now)
                && view.mark().is_none()
                && let Some(due) = self.region.due(&view)
            {
                self.file(slot, LIVE, due);
            }
        }
        self.set(field::SWEEP_CURSOR, to as u64);
        if to == self.region.layout.slots {
            // Release: who forgets old versions on the word of this has seen every end that they
            // decided, and so has who reads the policy after that.
            self.region.publish(self.at(field::SWEPT), changes);
        }
        to - from
    }

    /// Sees to it that there is room for one more record: does what is due if that is needed, and gives up
    /// an ended record if `evict` allows it.
    pub(crate) fn make_room(&self, now: Tick, evict: bool) -> Room {
        if self.has_room() {
            return Room::Made;
        }
        self.sweep(now, MAKE_ROOM);
        self.advance(now, MAKE_ROOM);
        self.forget_behind(now);
        match evict {
            _ if self.has_room() => Room::Made,
            true => self.evict(),
            false => Room::None,
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        (self.get(field::USED) as usize) < self.region.layout.limit
    }

    /// Gives up the ended record that would be forgotten soonest.
    ///
    /// The wheel of kept records is turned ahead of time to the first list that has any, as far as lists of
    /// one millisecond. That is where the soonest are; each record comes down the levels once, whoever
    /// turns. What is filed behind that clock lies in the same list, and is looked through for what is sooner.
    fn evict(&self) -> Room {
        let mut done = 0;
        while done < SORTED {
            let Some((list, start)) = self.timer.next(KEPT) else { return Room::None };
            let units = if list % LISTS < FINEST {
                self.give_up_one_of(list)
            } else {
                self.timer.set_clock(KEPT, start);
                self.come_down(list, SORTED - done).map(Some)
            };
            match units {
                Ok(Some(units)) => done += units,
                Ok(None) => return Room::Made,
                Err(Damaged) => {
                    self.rebuild_timer();
                    return Room::None;
                }
            }
        }
        Room::Sorting
    }

    /// Files up to `most` entries of a list anew, now that the clock has reached it; says how many.
    fn come_down(&self, list: usize, most: usize) -> Result<usize, Damaged> {
        for done in 0..most {
            self.ask_for_next(list, done);
            let Some(entry) = self.timer.pop(list)? else { return Ok(done + 1) };
            if self.is_stale(list, entry) {
                self.timer.dropped_stale();
            } else {
                self.refile(entry)?;
            }
        }
        Ok(most)
    }

    /// Asks for the memory that the entries of a list's second chunk will need, once for each chunk.
    fn ask_for_next(&self, list: usize, done: usize) {
        if done.is_multiple_of(crate::layout::CHUNK) {
            self.ask_for(self.timer.chunk_at(list, 1));
        }
    }

    fn refile(&self, entry: Entry) -> Result<(), Damaged> {
        let slot = self.first() + entry.slot();
        self.region.set_control(slot, self.region.control(slot).unfiled());
        let Some(view) = self.region.view(slot) else { return Ok(()) };
        match view.mark() {
            Some(_) => self.try_file(slot, KEPT, view.kept_until()),
            // Damage, or it would be filed elsewhere.
            None => self.region.due(&view).map_or(Ok(()), |due| self.try_file(slot, LIVE, due)),
        }
    }

    /// Gives up the soonest of the first entries of a list. If all of them are stale, they are gone, and how
    /// many is said.
    fn give_up_one_of(&self, list: usize) -> Result<Option<usize>, Damaged> {
        let mut popped = Vec::new();
        let mut looked = 0;
        while popped.len() < CHOICE && looked < SORTED {
            looked += 1;
            let Some(entry) = self.timer.pop(list)? else { break };
            if self.is_stale(list, entry) {
                self.timer.dropped_stale();
            } else {
                popped.push(entry);
            }
        }
        let until = |entry: &Entry| self.region.view(self.first() + entry.slot()).map(|view| (view.kept_until(), view));
        let soonest = popped.iter().filter_map(|entry| until(entry).map(|(until, view)| (until, *entry, view)));
        let soonest = soonest.filter(|(_, _, view)| view.mark().is_some()).min_by_key(|(until, ..)| *until);
        for entry in popped {
            let slot = self.first() + entry.slot();
            let is_marked = until(&entry).is_some_and(|(_, view)| view.mark().is_some());
            if let Some((.., view)) = soonest.filter(|(_, soonest, _)| *soonest == entry) {
                // Without its entry, for that is gone.
                self.region.set_control(slot, self.region.control(slot).unfiled());
                self.release(slot, &view);
            } else if !is_marked {
                self.refile(entry)?;
            } else if !self.timer.push(list, entry)? {
                return Err(Damaged);
            }
        }
        Ok(if soonest.is_some() { None } else { Some(looked) })
    }

    /// Forgets what it is time to forget and the wheel will not come by soon, because it was turned ahead of time.
    fn forget_behind(&self, now: Tick) {
        if self.timer.clock(KEPT) <= now.as_millis() {
            return;
        }
        for entry in self.timer.entries(self.timer.list_for(KEPT, Tick::ZERO), CHOICE) {
            let slot = self.first() + entry.slot();
            if let Some(view) = self.region.view_at(slot)
                && view.mark().is_some()
                && view.kept_until() <= now
            {
                self.release(slot, &view);
            }
        }
    }
}

//! What a shard does when its time has come: filing under deadlines, what fires, what a changed policy
//! asks for, and room that is made of what is over.

use crate::layout::header;
use crate::record::View;
use crate::shard::{Shard, field};
use crate::time::Tick;
use crate::wheel::{Damaged, Entry, KEPT, LIVE};

/// Work of a start that finds its shard full, before it gives up.
const MAKE_ROOM: usize = 256;
/// Ended records among which the one to give up is looked for.
const EVICTION_CHOICE: usize = 4096;

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

    /// Whether there is room for one more record, after doing what is due if that is needed, and
    /// giving up an ended record if `evict` allows it.
    pub(crate) fn make_room(&self, now: Tick, evict: bool) -> bool {
        if self.has_room() {
            return true;
        }
        self.sweep(now, MAKE_ROOM);
        self.advance(now, MAKE_ROOM);
        self.has_room() || (evict && self.evict())
    }

    pub(crate) fn has_room(&self) -> bool {
        (self.get(field::USED) as usize) < self.region.layout.limit
    }

    /// Gives up the ended record that would be forgotten soonest.
    fn evict(&self) -> bool {
        loop {
            let kept: Vec<_> = self.timer.soonest(KEPT).into_iter().map(|list| (list, self.kept_in(list))).collect();
            let Some((list, _)) = kept.iter().find(|(_, records)| records.is_empty()) else {
                let soonest =
                    kept.into_iter().flat_map(|(_, records)| records).min_by_key(|(_, view)| view.kept_until());
                if let Some((slot, view)) = &soonest {
                    self.release(*slot, view);
                }
                return soonest.is_some();
            };
            // Nothing there but what went stale, and it may hide a later list: out of the way.
            for _ in 0..EVICTION_CHOICE {
                match self.timer.pop(*list) {
                    Ok(Some(_)) => self.timer.dropped_stale(),
                    Ok(None) => break,
                    Err(Damaged) => {
                        self.rebuild_timer();
                        return false;
                    }
                }
            }
        }
    }

    /// The ended records among the first entries of a list.
    fn kept_in(&self, list: usize) -> Vec<(usize, View)> {
        let entries = self.timer.entries(list, EVICTION_CHOICE).into_iter();
        entries
            .filter(|entry| !self.is_stale(list, *entry))
            .filter_map(|entry| {
                let slot = self.first() + entry.slot();
                self.region.view(slot).filter(|view| view.mark().is_some()).map(|view| (slot, view))
            })
            .collect()
    }
}

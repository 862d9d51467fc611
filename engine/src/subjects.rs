//! From a subject to its sessions, so that what is done to a user costs what that user has.
//!
//! Subjects are spread over as many shards as there are of sessions, by their own bits. Each has a
//! lock, an index (index.rs) and, beside it, the slot of the first session of each subject (32
//! bits, slot + 1). A subject's sessions form a list through the links: one word for each record of
//! the region, previous + 1 in the high half, next + 1 in the low half; the first has [`FIRST`] for
//! its previous. So a link is zero exactly when its record is in no list.
//!
//! What is in a list: the sessions with a subject that are not marked as ended. Links are written
//! under the lock of the subject's shard, which is taken after a session shard's lock, never before.
//! While a record is in a list, its subject word does not change.

use crate::index::Index;
use crate::key::Subject;
use crate::layout::SUBJECT_HEADER;
use crate::lock::Lock;
use crate::record::Kind;
use crate::region::Region;

pub(crate) const LOCK: usize = 0;
/// Distinct subjects.
const USED: usize = 1;
const FIRST: u64 = 0xffff_ffff;
const _: () = assert!(USED < SUBJECT_HEADER);

/// One shard of subjects, locked.
pub(crate) struct Subjects<'a> {
    region: &'a Region,
    shard: usize,
    index: Index,
    heads: usize,
    _lock: Lock<'a>,
}

impl Region {
    fn subject_shard(&self, subject: Subject) -> usize {
        self.layout.shard_of(subject.0)
    }

    /// Locks the shard that has a subject, and puts it right if its last owner died.
    pub(crate) fn subjects(&self, subject: Subject) -> Subjects<'_> {
        self.subjects_of(self.subject_shard(subject))
    }

    fn subjects_of(&self, shard: usize) -> Subjects<'_> {
        let layout = &self.layout;
        let lock = self.lock(layout.subject_header(shard) + LOCK);
        let inherited = lock.inherited;
        let subjects = Subjects {
            region: self,
            shard,
            index: Index::of(layout, layout.at_subject_groups, shard),
            heads: layout.at_subject_heads + shard * layout.slots.div_ceil(2),
            _lock: lock,
        };
        if inherited {
            subjects.rebuild();
        }
        subjects
    }

    /// A link that is not zero comes with the subject word of the session that is linked.
    fn link(&self, slot: usize) -> u64 {
        self.load(self.layout.at_links + slot)
    }

    /// After the subject of the record was written, for [`Region::is_linked`].
    fn set_link(&self, slot: usize, link: u64) {
        self.publish(self.layout.at_links + slot, link);
    }

    /// Whether a record is in the list of its subject. Stable only under the subject's lock; who finds
    /// it linked finds, if asked after that, the subject in whose list it is.
    pub(crate) fn is_linked(&self, slot: usize) -> bool {
        self.link(slot) != 0
    }

    /// Rebuilds every subject shard.
    pub(crate) fn rebuild_subjects(&self) {
        for shard in 0..self.layout.shards {
            self.subjects_of(shard).rebuild();
        }
    }

    /// Whether a record belongs in a list, and in which.
    fn listed_subject(&self, slot: usize) -> Option<Subject> {
        let view = self.view(slot)?;
        let belongs = view.control.kind() == Kind::Session && view.mark().is_none() && view.subject() != Subject::NONE;
        belongs.then(|| view.subject())
    }

    /// What is wrong with the lists.
    pub(crate) fn check_subjects(&self) -> Result<(), String> {
        let mut linked = 0;
        for shard in 0..self.layout.shards {
            let subjects = self.subjects_of(shard);
            subjects.index.check(self, |position| subjects.head_at(position).map(|slot| self.subject_word(slot)))?;
            for position in 0..self.layout.slots {
                let Some(head) = subjects.head_at(position) else { continue };
                let subject = Subject(self.subject_word(head));
                let (mut slot, mut previous) = (head, FIRST);
                loop {
                    linked += 1;
                    if linked > self.layout.all_slots() {
                        return Err(format!("the list of {subject:?} has no end"));
                    }
                    if self.listed_subject(slot) != Some(subject) || self.link(slot) >> 32 != previous {
                        return Err(format!("slot {slot} does not belong in the list of {subject:?}"));
                    }
                    previous = slot as u64 + 1;
                    match (self.link(slot) & 0xffff_ffff) as usize {
                        0 => break,
                        next if next <= self.layout.all_slots() => slot = next - 1,
                        next => return Err(format!("slot {slot} names {next} as the next of {subject:?}")),
                    }
                }
            }
        }
        let belong = (0..self.layout.all_slots()).filter(|slot| self.listed_subject(*slot).is_some()).count();
        let links = (0..self.layout.all_slots()).filter(|slot| self.is_linked(*slot)).count();
        if belong != linked || links != linked {
            return Err(format!("{belong} sessions belong in lists, {linked} are in one, {links} have links"));
        }
        Ok(())
    }

    fn subject_word(&self, slot: usize) -> u64 {
        self.get(self.layout.record(slot) + 7)
    }
}

impl Subjects<'_> {
    fn head_at(&self, position: usize) -> Option<usize> {
        let head = self.region.get_half(self.heads, position) as usize;
        (1..=self.region.layout.all_slots()).contains(&head).then(|| head - 1)
    }

    fn set_head(&self, position: usize, slot: Option<usize>) {
        self.region.set_half(self.heads, position, slot.map_or(0, |slot| slot as u32 + 1));
    }

    fn find(&self, subject: Subject) -> Option<(usize, usize)> {
        self.index.find(self.region, subject.0, |position| {
            let slot = self.head_at(position)?;
            (self.region.subject_word(slot) == subject.0).then_some((position, slot))
        })
    }

    /// The sessions of a subject, the newest first.
    pub(crate) fn sessions(&self, subject: Subject) -> impl Iterator<Item = usize> + '_ {
        let (mut next, mut previous) = (self.find(subject).map(|(_, slot)| slot), FIRST);
        std::iter::from_fn(move || {
            let slot = next?;
            let link = self.region.link(slot);
            // A list that leads elsewhere is damaged; it ends here. It cannot lead round: every record
            // has one that comes before it, and the first has none.
            if self.region.subject_word(slot) != subject.0 || link >> 32 != previous {
                return None;
            }
            previous = slot as u64 + 1;
            let following = (link & 0xffff_ffff) as usize;
            next = (1..=self.region.layout.all_slots()).contains(&following).then(|| following - 1);
            Some(slot)
        })
    }

    /// Whether there is room for one more subject, or this one is there already.
    pub(crate) fn has_room(&self, subject: Subject) -> bool {
        self.find(subject).is_some() || self.index.vacancy(self.region, subject.0).is_some()
    }

    /// Puts a record at the front of its subject's list, if it is in none.
    pub(crate) fn link(&self, slot: usize, subject: Subject) {
        if self.region.is_linked(slot) {
            return;
        }
        if let Some((position, head)) = self.find(subject) {
            self.region.set_link(slot, FIRST << 32 | (head as u64 + 1));
            let behind = self.region.link(head) & 0xffff_ffff;
            self.region.set_link(head, (slot as u64 + 1) << 32 | behind);
            self.set_head(position, Some(slot));
        } else if let Some(position) = self.index.vacancy(self.region, subject.0) {
            self.region.set_link(slot, FIRST << 32);
            self.set_head(position, Some(slot));
            self.index.occupy(self.region, position, subject.0);
            self.region.add(self.header() + USED, 1);
        }
    }

    /// Takes a record out of its subject's list, if it is in it.
    pub(crate) fn unlink(&self, slot: usize, subject: Subject) {
        let link = self.region.link(slot);
        if link == 0 {
            return;
        }
        let (previous, next) = (link >> 32, link & 0xffff_ffff);
        let slot_of = |end: u64| (1..=self.region.layout.all_slots() as u64).contains(&end).then(|| end as usize - 1);
        if let Some(next) = slot_of(next) {
            self.region.set_link(next, previous << 32 | self.region.link(next) & 0xffff_ffff);
        }
        if previous == FIRST {
            if let Some((position, _)) = self.find(subject) {
                self.set_head(position, slot_of(next));
                if slot_of(next).is_none() {
                    self.index.vacate(self.region, position, subject.0);
                    self.region.sub(self.header() + USED, 1);
                }
            }
        } else if let Some(previous) = slot_of(previous) {
            self.region.set_link(previous, self.region.link(previous) >> 32 << 32 | next);
        }
        self.region.set_link(slot, 0);
    }

    fn header(&self) -> usize {
        self.region.layout.subject_header(self.shard)
    }

    /// Makes all lists of this shard anew from the records. Costs a look at every record of the
    /// region: whoever died did so inside a few instructions, and only those who need this very
    /// shard wait.
    ///
    /// Sessions come and go meanwhile. Those of our subjects come, and become aliases, under our
    /// lock only; a record that is anybody else's may become another's at any time, so each is
    /// looked at first for what makes it stay ours.
    fn rebuild(&self) {
        let region = self.region;
        region.bump(crate::layout::header::RECOVERIES);
        for position in 0..region.layout.slots {
            self.set_head(position, None);
        }
        self.index.rebuild(region, |_| None);
        region.set(self.header() + USED, 0);
        let is_ours = |subject: Subject| region.subject_shard(subject) == self.shard;
        for slot in 0..region.layout.all_slots() {
            // First the link: the subject of a record that has none can change under our hands.
            if region.is_linked(slot) && is_ours(Subject(region.subject_word(slot))) {
                region.set_link(slot, 0);
            }
        }
        for slot in 0..region.layout.all_slots() {
            if let Some(subject) = region.listed_subject(slot).filter(|subject| is_ours(*subject)) {
                self.link(slot, subject);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::{Config, Policy, Span, Start, Table, Tick};

    #[test]
    fn a_list_that_leads_round_ends_where_it_begins_anew() {
        let table = Table::private(&Config::new(1000)).unwrap();
        let policy = table.set_policy("p", &Policy::new().idle(Span::DAY), Tick::ZERO).unwrap();
        let alice = table.subject(b"alice");
        for number in 0..5 {
            table.start(table.key(&[number]), &Start::under(policy).of(alice), Tick::ZERO).unwrap();
        }
        let sessions: Vec<_> = table.region.subjects(alice).sessions(alice).collect();
        assert_eq!(sessions.len(), 5);
        for back in &sessions {
            let last = sessions[4];
            let link = table.region.link(last);
            table.region.set_link(last, link >> 32 << 32 | (*back as u64 + 1));
            assert_eq!(table.region.subjects(alice).sessions(alice).count(), 5);
            table.region.set_link(last, link);
        }
    }
}

//! Identity keys as small numbers: each distinct key is kept once, and counted.

use ahash::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Keys in the order of their first event, numbered from 0.
pub(crate) struct Interner {
    table: HashTable<Slot>,
    /// All keys, one after the other.
    bytes: Vec<u8>,
    hasher: RandomState,
}

/// 32 bytes a key, beside its own bytes.
struct Slot {
    start: u64,
    len: u32,
    id: u32,
    /// Events of this key; stands still at the top.
    seen: u32,
    /// Time of the last of them.
    time: i64,
}

/// One event of a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Noted {
    /// The key's number.
    pub(crate) id: u32,
    /// The event before, of the same key, had the same time.
    pub(crate) again: bool,
}

/// The key that has more events than any other.
pub(crate) struct Busiest<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) events: u32,
}

impl Interner {
    pub(crate) fn new() -> Interner {
        Interner { table: HashTable::new(), bytes: Vec::new(), hasher: RandomState::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Takes down an event of `key`; none when there are more keys than numbers.
    pub(crate) fn note(&mut self, key: &[u8], time: i64) -> Option<Noted> {
        let Interner { table, bytes, hasher } = self;
        let hash = hasher.hash_one(key);
        let fresh = u32::try_from(table.len()).ok()?;
        let entry = table.entry(hash, |slot| text(bytes, slot) == key, |slot| hasher.hash_one(text(bytes, slot)));
        match entry {
            Entry::Occupied(mut slot) => {
                let slot = slot.get_mut();
                slot.seen = slot.seen.saturating_add(1);
                let before = std::mem::replace(&mut slot.time, time);
                Some(Noted { id: slot.id, again: before == time })
            }
            Entry::Vacant(gap) => {
                let len = u32::try_from(key.len()).ok()?;
                gap.insert(Slot { start: bytes.len() as u64, len, id: fresh, seen: 1, time });
                bytes.extend_from_slice(key);
                Some(Noted { id: fresh, again: false })
            }
        }
    }

    /// The first of the keys with the most events.
    pub(crate) fn busiest(&self) -> Option<Busiest<'_>> {
        let slot = self.table.iter().max_by_key(|slot| (slot.seen, std::cmp::Reverse(slot.id)))?;
        Some(Busiest { key: text(&self.bytes, slot), events: slot.seen })
    }
}

fn text<'a>(bytes: &'a [u8], slot: &Slot) -> &'a [u8] {
    let start = slot.start as usize;
    &bytes[start..start + slot.len as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_number_however_many_there_are() {
        let mut keys = Interner::new();
        for round in 0..2 {
            for id in 0..10_000_u32 {
                let noted = keys.note(format!("key {id}").as_bytes(), round);
                assert_eq!(noted, Some(Noted { id, again: false }));
            }
        }
        assert_eq!(keys.len(), 10_000);
    }

    #[test]
    fn only_the_same_time_in_a_row_is_again() {
        let mut keys = Interner::new();
        let again = [5, 5, 6, 5, 5].map(|time| keys.note(b"key", time).unwrap().again);
        assert_eq!(again, [false, true, false, false, true]);
        assert!(!keys.note(b"other", 5).unwrap().again);
    }

    #[test]
    fn the_busiest_key_is_the_first_of_those_with_most_events() {
        let mut keys = Interner::new();
        assert!(keys.busiest().is_none());
        for key in ["a", "b", "c", "c", "b"] {
            keys.note(key.as_bytes(), 0);
        }
        let busiest = keys.busiest().unwrap();
        assert_eq!((busiest.key, busiest.events), (&b"b"[..], 2));
    }
}

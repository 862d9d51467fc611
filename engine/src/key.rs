//! Digests: the only form in which an id exists inside a region, in events and in logs.
//!
//! Each kind is a BLAKE3 hash keyed with the region's random secret and separated by a domain
//! byte, so that a session id, a user name and a certificate thumbprint with the same bytes have
//! nothing in common, and so that a digest read from a file or a log leads to no id.

use std::fmt;

/// Ids up to this length are hashed in one piece.
const SHORT: usize = 127;

/// The region's secret: 256 random bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) [u64; 4]);

impl Secret {
    fn digest(&self, domain: u8, id: &[u8]) -> [u64; 2] {
        let mut key = [0; 32];
        for (bytes, word) in key.chunks_exact_mut(8).zip(self.0) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        // In one piece where it is short, as ids are: half the work of a hasher.
        let mut text = [0; SHORT + 1];
        let hash = match text.get_mut(..=id.len()) {
            Some(text) => {
                text[0] = domain;
                text[1..].copy_from_slice(id);
                blake3::keyed_hash(&key, text)
            }
            None => blake3::Hasher::new_keyed(&key).update(&[domain]).update(id).finalize(),
        };
        let (low, high) = hash.as_bytes()[..16].split_at(8);
        [low, high].map(|half| half.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
    }

    pub(crate) fn key(&self, id: &[u8]) -> Key {
        Key(self.digest(b'k', id))
    }

    pub(crate) fn subject(&self, id: &[u8]) -> Subject {
        if id.is_empty() { Subject::NONE } else { Subject(self.digest(b's', id)[0].max(1)) }
    }

    pub(crate) fn binding(&self, id: &[u8]) -> Binding {
        if id.is_empty() { Binding::NONE } else { Binding(self.digest(b'b', id)[0].max(1)) }
    }
}

/// 128-bit keyed digest of a session id. Made by [`crate::Table::key`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub(crate) [u64; 2]);

impl Key {
    /// The digest as 16 bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0[0].to_le_bytes());
        bytes[8..].copy_from_slice(&self.0[1].to_le_bytes());
        bytes
    }

    /// A digest that was read from an event, a log or a list. The bytes must be a digest: the
    /// table spreads keys by their bits and relies on them being uniform.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Key {
        let (low, high) = bytes.split_at(8);
        let word = |half: &[u8]| half.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        Key([word(low), word(high)])
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// 64-bit keyed digest of the user a session belongs to. Made by [`crate::Table::subject`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Subject(pub(crate) u64);

impl Subject {
    /// No subject: the session takes no part in revocation and limits by subject.
    pub const NONE: Subject = Subject(0);

    /// The digest as a number; zero for [`Subject::NONE`].
    #[must_use]
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// A digest that was read from an event, a log or a list.
    #[must_use]
    pub fn from_u64(digest: u64) -> Subject {
        Subject(digest)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({:016x})", self.0)
    }
}

/// 64-bit keyed digest of what a session is tied to: the thumbprint of a client certificate, a
/// DPoP key (RFC 9449 `jkt`), a device id. Made by [`crate::Table::binding`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Binding(pub(crate) u64);

impl Binding {
    /// Tied to nothing; as what a request presents: nothing was presented.
    pub const NONE: Binding = Binding(0);

    /// The digest as a number; zero for [`Binding::NONE`].
    #[must_use]
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// A digest that [`Binding::as_u64`] gave.
    #[must_use]
    pub fn from_u64(digest: u64) -> Binding {
        Binding(digest)
    }
}

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Binding({:016x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_depend_on_the_secret_and_on_what_they_are_of() {
        let (a, b) = (Secret([1, 2, 3, 4]), Secret([1, 2, 3, 5]));
        assert_ne!(a.key(b"id"), b.key(b"id"));
        assert_eq!(a.key(b"id"), a.key(b"id"));
        assert_ne!(a.key(b"id").0[0], a.subject(b"id").0);
        assert_ne!(a.subject(b"id").0, a.binding(b"id").0);
    }

    #[test]
    fn the_length_of_an_id_does_not_change_how_it_is_hashed() {
        for length in 0..2 * SHORT {
            let id = vec![b'x'; length];
            let mut hasher = blake3::Hasher::new_keyed(&[0; 32]);
            hasher.update(b"k").update(&id);
            let mut bytes = [0; 16];
            hasher.finalize_xof().fill(&mut bytes);
            assert_eq!(Secret([0; 4]).key(&id).to_bytes(), bytes, "{length}");
        }
    }

    #[test]
    fn a_key_survives_its_bytes() {
        let key = Secret([1, 2, 3, 4]).key(b"id");
        assert_eq!(Key::from_bytes(key.to_bytes()), key);
        assert_eq!(key.to_string().len(), 32);
    }

    #[test]
    fn an_empty_subject_is_no_subject() {
        assert_eq!(Secret([1, 2, 3, 4]).subject(b""), Subject::NONE);
        assert_eq!(Secret([1, 2, 3, 4]).binding(b""), Binding::NONE);
    }
}

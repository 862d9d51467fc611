//! The engine's key for the n-th identity of a log, and the way back.
//!
//! Identities are told apart exactly before the engine sees them ([`super::interner`]), so what it
//! gets is their number, scrambled into the uniform bits it expects of a digest. Scrambling can be
//! undone: an event that the engine reports leads back to the identity without a table of digests.

use curfew_engine::Key;

pub(crate) fn key_of(id: u32) -> Key {
    let low = scramble(u64::from(id));
    let high = scramble(low ^ SECOND);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&low.to_le_bytes());
    bytes[8..].copy_from_slice(&high.to_le_bytes());
    Key::from_bytes(bytes)
}

pub(crate) fn id_of(key: Key) -> u32 {
    let mut low = [0; 8];
    low.copy_from_slice(&key.to_bytes()[..8]);
    unscramble(u64::from_le_bytes(low)) as u32
}

const SECOND: u64 = 0x9e37_79b9_7f4a_7c15;

// The finalizer of MurmurHash3 (`fmix64`), one to one on 64 bits. Zero would stay zero, so the
// numbers begin elsewhere.
const FIRST: u64 = 0x2545_f491_4f6c_dd1d;
const M1: u64 = 0xff51_afd7_ed55_8ccd;
const M2: u64 = 0xc4ce_b9fe_1a85_ec53;

fn scramble(number: u64) -> u64 {
    let mut x = number ^ FIRST;
    x = (x ^ x >> 33).wrapping_mul(M1);
    x = (x ^ x >> 33).wrapping_mul(M2);
    x ^ x >> 33
}

fn unscramble(bits: u64) -> u64 {
    let mut x = bits;
    x = (x ^ x >> 33).wrapping_mul(const { inverse(M2) });
    x = (x ^ x >> 33).wrapping_mul(const { inverse(M1) });
    (x ^ x >> 33) ^ FIRST
}

/// The number that undoes a multiplication by an odd one. Each step doubles the bits that are right.
const fn inverse(odd: u64) -> u64 {
    let mut guess = odd;
    let mut step = 0;
    while step < 6 {
        guess = guess.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(guess)));
        step += 1;
    }
    guess
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_comes_back(id: u32) {
            prop_assert_eq!(id_of(key_of(id)), id);
        }
    }

    #[test]
    fn neighbours_differ_in_about_half_of_their_bits() {
        for id in 0..1000 {
            let bits = |id| u128::from_le_bytes(key_of(id).to_bytes());
            let differing = (bits(id) ^ bits(id + 1)).count_ones();
            assert!((30..98).contains(&differing), "{id}: {differing}");
        }
    }
}

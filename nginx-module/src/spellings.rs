//! Other texts for one id.
//!
//! What a client sends, it can spell in another way, and some application undoes that before it looks the
//! session up. Curfew knows the text that the application has issued. Where an id that Curfew does not know
//! passes, one that is only spelt in another way must not: it would pass after its end.

use crate::values::spelt;

/// What JavaScript's `encodeURIComponent` leaves as it is, besides letters and digits; others encode more of it.
const SPARED: [&[u8]; 2] = [b"-_.~!*'()", b"-_.~"];

/// The texts, beside itself, that an application may have issued if it takes a cookie `text` for one of its ids:
/// what it makes of it, and what it may have made that of.
pub(crate) fn others(text: &[u8]) -> Vec<Vec<u8>> {
    let mut others: Vec<Vec<u8>> = Vec::new();
    let unquoted = unquoted(text);
    for given in [Some(text), unquoted.as_deref()].into_iter().flatten() {
        // CGI.pm has a list of values in a cookie.
        let first = given.iter().position(|byte| *byte == b'&').map(|end| &given[..end]);
        for read in [Some(given), first].into_iter().flatten() {
            let decoded = decoded(read);
            for spared in SPARED {
                let encoded = encoded(&decoded, spared);
                others.extend([lower_case_of_codes(&encoded), encoded]);
            }
            others.extend([read.to_vec(), decoded]);
        }
    }
    others.sort_unstable();
    others.dedup();
    others.retain(|other| other != text);
    others
}

/// The text between quotes, with what a backslash stands before, or three digits behind it stand for.
fn unquoted(text: &[u8]) -> Option<Vec<u8>> {
    let mut rest = text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut unquoted = Vec::new();
    while let [byte, more @ ..] = rest {
        (rest, _) = match (byte, more) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', more @ ..]) => {
                (more, unquoted.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0')))
            }
            (b'\\', [byte, more @ ..]) => (more, unquoted.push(*byte)),
            _ => (more, unquoted.push(*byte)),
        };
    }
    Some(unquoted)
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let mut rest = text;
    std::iter::from_fn(|| {
        let (byte, more) = spelt(rest)?;
        rest = more;
        Some(byte)
    })
    .collect()
}

fn encoded(text: &[u8], spared: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(text.len());
    for byte in text {
        if byte.is_ascii_alphanumeric() || spared.contains(byte) {
            encoded.push(*byte);
        } else {
            encoded.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    encoded
}

/// The same with its codes in small letters, as .NET's have them.
fn lower_case_of_codes(encoded: &[u8]) -> Vec<u8> {
    let mut lower = encoded.to_vec();
    let codes = (0..lower.len().saturating_sub(2)).filter(|at| encoded[*at] == b'%');
    for at in codes {
        lower[at + 1..at + 3].make_ascii_lowercase();
    }
    lower
}

//! A cookie that is there twice.
//!
//! nginx takes the first one of a name, and some applications take the last: then nginx would check one
//! session and the application serve another, which may have ended long ago. So a request that has
//! several values for the cookie that names its session has none.

use crate::conf::Value;
use crate::nginx::{Request, bytes};

const COOKIE: &[u8] = b"cookie_";

/// Whether `source` is a cookie (`$cookie_name`) of which the request has another value besides `value`.
pub(crate) fn is_ambiguous(request: Request<'_>, source: Value, value: &[u8]) -> bool {
    // SAFETY: the text of a directive lives as long as the configuration that serves the request.
    let text = unsafe { bytes((*source).value) };
    let text = text.strip_prefix(b"$").unwrap_or_default();
    let text = text.strip_prefix(b"{").and_then(|text| text.strip_suffix(b"}")).unwrap_or(text);
    // nginx does not mind how the names of its variables are written.
    let Some((prefix, name)) = text.split_at_checked(COOKIE.len()) else { return false };
    if !prefix.eq_ignore_ascii_case(COOKIE) {
        return false;
    }
    request.headers(b"cookie").any(|header| others(header, name, value))
}

fn others(header: &[u8], name: &[u8], value: &[u8]) -> bool {
    let mut rest = header;
    loop {
        let end = separator(rest);
        if is_another(rest[..end].trim_ascii_start(), name, value) {
            return true;
        }
        match rest.get(end + 1..) {
            Some(next) => rest = next,
            None => return false,
        }
    }
}

/// Whether a pair is of the name and has another value.
fn is_another(pair: &[u8], name: &[u8], value: &[u8]) -> bool {
    let Some((start, rest)) = pair.split_at_checked(name.len()) else { return false };
    if !start.eq_ignore_ascii_case(name) {
        return false;
    }
    match rest.trim_ascii_start() {
        [] => !value.is_empty(),
        [b'=', other @ ..] => other.trim_ascii() != value,
        _ => false,
    }
}

/// Where the first pair ends. Eight bytes at a time: browsers send long lists of cookies.
fn separator(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // The highest bit of each byte that is zero, and perhaps of some after the first such.
    let zeroes = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let found = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        let [semicolons, commas] = [b';', b','].map(|byte| u64::from(byte) * ONES);
        let found = zeroes(word ^ semicolons) | zeroes(word ^ commas);
        (found != 0).then(|| found.trailing_zeros() as usize / 8)
    };
    for (nth, word) in text.as_chunks::<8>().0.iter().enumerate() {
        if let Some(at) = found(word) {
            return nth * 8 + at;
        }
    }
    // The last eight again: there is none in those that were among the others.
    match text.last_chunk::<8>() {
        Some(word) => found(word).map_or(text.len(), |at| text.len() - 8 + at),
        None => text.iter().position(|byte| matches!(byte, b';' | b',')).unwrap_or(text.len()),
    }
}

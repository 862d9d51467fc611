//! A cookie that is there twice.
//!
//! nginx takes the first one of a name, and some applications take the last: then nginx would check one
//! session and the application serve another, which may have ended long ago. So a request that has
//! several values for the cookie that names its session has none.

use crate::conf::Value;
use crate::nginx::{Request, bytes};

/// Whether `source` is a cookie (`$cookie_name`) of which the request has another value besides `value`.
pub(crate) fn is_ambiguous(request: Request<'_>, source: Value, value: &[u8]) -> bool {
    // SAFETY: the text of a directive lives as long as the configuration that serves the request.
    let text = unsafe { bytes((*source).value) };
    let text = text.strip_prefix(b"$").unwrap_or_default();
    let text = text.strip_prefix(b"{").and_then(|text| text.strip_suffix(b"}")).unwrap_or(text);
    let Some(name) = text.strip_prefix(b"cookie_") else { return false };
    request.headers(b"cookie").any(|header| others(header, name, value))
}

fn others(header: &[u8], name: &[u8], value: &[u8]) -> bool {
    header.split(|byte| matches!(byte, b';' | b',')).any(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let (found, other) = (pair[..at].trim_ascii(), pair.get(at + 1..).unwrap_or_default());
        found.eq_ignore_ascii_case(name) && other.trim_ascii() != value
    })
}

//! Addresses of clients, as logs write them.

use memchr::{memchr, memrchr};
use std::net::{IpAddr, SocketAddr};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Address,
    WithPort,
    /// A name, or anything else.
    Other,
}

pub(crate) fn kind(text: &[u8]) -> Kind {
    let text = std::str::from_utf8(text).unwrap_or_default();
    if text.parse::<IpAddr>().is_ok() {
        Kind::Address
    } else if text.parse::<SocketAddr>().is_ok() {
        Kind::WithPort
    } else {
        Kind::Other
    }
}

/// `1.2.3.4:80` and `[::1]:80` without the port; anything else as it is.
#[inline]
pub(crate) fn without_port(text: &[u8]) -> &[u8] {
    if memchr(b':', text).is_some() { cut(text) } else { text }
}

#[inline(never)]
fn cut(text: &[u8]) -> &[u8] {
    let Some(colon) = memrchr(b':', text).filter(|_| kind(text) == Kind::WithPort) else { return text };
    let address = &text[..colon];
    address.strip_prefix(b"[").and_then(|inside| inside.strip_suffix(b"]")).unwrap_or(address)
}

/// The first address of a list with commas, each with or without white space behind it; or, with none in it,
/// the first entry.
pub(crate) fn first_of(list: &[u8]) -> &[u8] {
    let entries = || list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    entries().find(|entry| kind(entry) != Kind::Other).or_else(|| entries().next()).unwrap_or(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_taken_off_an_address_and_off_nothing_else() {
        for (text, expected) in [
            ("1.2.3.4:80", "1.2.3.4"),
            ("[::1]:80", "::1"),
            ("[2001:db8::1]:40000", "2001:db8::1"),
            ("1.2.3.4", "1.2.3.4"),
            ("::1", "::1"),
            ("2001:db8::1:80", "2001:db8::1:80"),
            ("example.org:80", "example.org:80"),
            ("1.2.3.4:", "1.2.3.4:"),
            ("1.2.3.4:99999", "1.2.3.4:99999"),
            ("[::1]", "[::1]"),
            (":", ":"),
            ("", ""),
        ] {
            assert_eq!(without_port(text.as_bytes()), expected.as_bytes(), "{text}");
        }
    }

    #[test]
    fn the_first_address_speaks_for_a_list() {
        for (list, first) in [
            ("203.0.113.1, 10.0.0.9", "203.0.113.1"),
            ("203.0.113.1,10.0.0.9", "203.0.113.1"),
            ("unknown, 203.0.113.1:80,10.0.0.9", "203.0.113.1:80"),
            ("unknown, hidden", "unknown"),
            (",", ""),
        ] {
            assert_eq!(first_of(list.as_bytes()), first.as_bytes(), "{list}");
        }
    }
}

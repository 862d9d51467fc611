//! Addresses of clients, as logs write them.

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

//! What [`crate::probe`] lets fuzz targets see of this module.

use super::clf::{Clf, Key};
use super::{LineParser, What, time};

/// What a common or combined line says, read on its own.
pub(crate) fn clf<R>(line: &[u8], key: &str, take: impl FnOnce(What<'_>) -> R) -> Option<R> {
    let key = match key {
        "ip" => Key::Ip,
        "ident" => Key::Ident,
        "user" => Key::User,
        "ip+ua" => Key::IpAgent,
        _ => return None,
    };
    Some(take(Clf::new(key).line(line)))
}

pub(crate) fn guess(text: &[u8]) -> Option<i64> {
    time::guess(text)
}

//! An id that is there twice.
//!
//! nginx takes the first one of a name, and some applications take the last: then nginx would check one
//! session and the application serve another, which may have ended long ago. So a request that has
//! several values for what names its session has none.

use crate::conf::{COOKIE, Value};
use crate::nginx::{Request, bytes};
use crate::values::{Place, values};

/// Whether `source` is a cookie, a header or an argument (`$cookie_name`, `cookie=name`, `$http_name`,
/// `$arg_name`) of which an application may find another value than nginx has, which is `value`.
pub(crate) fn is_ambiguous(request: Request<'_>, source: Value, value: &[u8]) -> bool {
    let value = value.trim_ascii();
    // What is behind it, the application may take for arguments.
    let is_cut = || matches!(named(source), Some((Source::Argument, _))) && behind_hash(request).is_some();
    is_cut() || all(request, source, &mut |other| other != value)
}

/// All values of it.
pub(crate) fn each<'r>(request: Request<'r>, source: Value, mut with: impl FnMut(&'r [u8])) {
    all(request, source, &mut |value| {
        with(value);
        false
    });
}

/// Whether `value` comes from the client, by `source`, and is spelt in a way that an application may undo before
/// it looks at it: then it is not the only text for its session.
pub(crate) fn has_spellings(source: Value, value: &[u8]) -> bool {
    let is_encoded = |at: &[u8]| match at {
        [b'%', b'u' | b'U', digit] => digit.is_ascii_hexdigit(),
        [b'%', high, low] => high.is_ascii_hexdigit() && low.is_ascii_hexdigit(),
        _ => false,
    };
    let Some((source, _)) = named(source) else { return false };
    let is_cookie = matches!(source, Source::Cookie);
    // base64 has an equals sign at its end.
    let is_more = |at: &[u8]| at[0] == b'=' && at[1] != b'=';
    value.windows(3).any(is_encoded)
        || is_cookie && value.windows(2).any(is_more)
        || value.iter().any(|byte| match byte {
            b'"' | b'\\' | b',' => true,
            b'+' => matches!(source, Source::Argument),
            // Tomcat's LegacyCookieProcessor, for one, ends a cookie at these; CGI.pm has a list of values in it.
            b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'<' | b'>' | b'@' | b':' | b'?' | b'&' => is_cookie,
            byte => !byte.is_ascii_graphic(),
        })
}

/// Whether a directive's text is a header's or an argument's.
pub(crate) fn is_no_cookie(source: Value) -> bool {
    matches!(named(source), Some((Source::Header | Source::Argument, _)))
}

/// The name of the cookie that a directive's text stands for, if it is one and nothing else.
pub(crate) fn cookie_name<'v>(source: Value) -> Option<&'v [u8]> {
    match named(source) {
        Some((Source::Cookie, name)) => Some(name),
        _ => None,
    }
}

#[derive(Clone, Copy)]
enum Source {
    Cookie,
    Header,
    Argument,
}

/// What a directive's text names, if it is one variable or a cookie by its name, and nothing else.
fn named<'v>(source: Value) -> Option<(Source, &'v [u8])> {
    // SAFETY: it is null or the text of a directive, which lives as long as the configuration that serves the request.
    let text = unsafe { bytes(source.as_ref()?.value) };
    if let Some(name) = text.strip_prefix(COOKIE) {
        return Some((Source::Cookie, name));
    }
    let text = text.strip_prefix(b"$")?;
    let text = text.strip_prefix(b"{").and_then(|text| text.strip_suffix(b"}")).unwrap_or(text);
    let sources = [(&b"cookie_"[..], Source::Cookie), (b"http_", Source::Header), (b"arg_", Source::Argument)];
    sources.into_iter().find_map(|(prefix, source)| {
        // nginx does not mind how the names of its variables are written.
        let (start, name) = text.split_at_checked(prefix.len())?;
        let is_name = name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        (start.eq_ignore_ascii_case(prefix) && is_name).then_some((source, name))
    })
}

/// The variable in a directive's text behind which a name goes on that nginx reads as ended.
pub(crate) fn cut_name<'v>(source: Value) -> Option<&'v [u8]> {
    // SAFETY: it is null or the text of a directive, which lives as long as the configuration.
    let text = unsafe { bytes(source.as_ref()?.value) };
    text.split(|byte| *byte == b'$').skip(1).find_map(|variable| {
        let end = variable.iter().position(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_'))?;
        let name = &variable[..end];
        let is =
            |prefix: &&str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()));
        let goes_on = matches!(variable[end..], [b'-' | b'.', next, ..] if next.is_ascii_alphanumeric());
        (goes_on && ["cookie_", "upstream_cookie_", "http_", "upstream_http_", "arg_"].iter().any(is)).then_some(name)
    })
}

/// What the client has sent behind a `#`. nginx leaves it out of the arguments, and sends it on.
fn behind_hash(request: Request<'_>) -> Option<&[u8]> {
    let uri = request.unparsed_uri();
    Some(&uri[uri.iter().position(|byte| *byte == b'#')? + 1..])
}

/// Whether `is_it` says yes to one of the values.
fn all<'r>(request: Request<'r>, source: Value, is_it: &mut dyn FnMut(&'r [u8]) -> bool) -> bool {
    match named(source) {
        None => false,
        Some((Source::Cookie, name)) => {
            request.headers(b"cookie").any(|header| values(Place::Cookie, header, name).any(&mut *is_it))
        }
        Some((Source::Argument, name)) => {
            let behind = behind_hash(request).into_iter().flat_map(|text| text.split(|byte| b"#?".contains(byte)));
            std::iter::once(request.args())
                .chain(behind)
                .any(|text| values(Place::Arguments, text, name).any(&mut *is_it))
        }
        // As nginx and CGI name headers.
        Some((Source::Header, name)) => request.all_headers().any(|(header, value)| {
            let is_named = header.len() == name.len()
                && header.iter().zip(name).all(|(a, b)| {
                    let a = if *a == b'-' { b'_' } else { *a };
                    a.eq_ignore_ascii_case(b)
                });
            is_named && is_it(value.trim_ascii())
        }),
    }
}

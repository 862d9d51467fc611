//! Other texts for one id.
//!
//! What a client sends, it can spell in another way, and some application undoes that before it looks the
//! session up. Curfew knows the text that the application has issued. Where an id that Curfew does not know
//! passes, one that is only spelt in another way must not: it would pass after its end.
//!
//! So three steps are taken: what an application may read of a text (without what is around it, up to where it
//! ends a value, without quotes), what it may take that for (without encoding), and how it may have issued that.

use crate::values::{is_blank, spelt};

/// The longest text whose spellings are looked for, in bytes: no browser keeps a cookie that is longer, and few
/// tokens are. What an encoder changes counts this many times.
const LONGEST: usize = 4096;
const CHANGED: usize = 8;

/// Whether it would take long to find the spellings of a text: somebody may have made it for that.
pub(crate) fn take_long(text: &[u8]) -> bool {
    let is_changed = |byte: &&u8| !(byte.is_ascii_alphanumeric() || b"-_.~".contains(byte));
    text.len() + text.iter().filter(is_changed).count() * (CHANGED - 1) > LONGEST
}

/// What encoders leave as it is, besides letters and digits.
const SPARED: [&[u8]; 8] = [
    // JavaScript's encodeURIComponent, encodeURI and escape.
    b"-_.!~*'()",
    b"-_.!~*'();,/?:@&=+$#",
    b"@*_+-./",
    // RFC 3986: PHP's rawurlencode, .NET's EscapeDataString; Python's quote; Go's PathEscape.
    b"-_.~",
    b"-_.~/",
    b"-_.~$&+=:@",
    // Forms: PHP's urlencode and Ruby's CGI.escape of old; Java's URLEncoder.
    b"-_.",
    b"-_.*",
];

/// The texts, beside itself, that an application may have issued if it takes `text` for one of its ids.
pub(crate) fn others(text: &[u8]) -> Vec<Vec<u8>> {
    let read = readings(text);
    let mut meant = read.clone();
    for read in &read {
        let spaced = |byte: &u8| if *byte == b'+' { b' ' } else { *byte };
        meant.extend([decoded(read), decoded(&read.iter().map(spaced).collect::<Vec<_>>())]);
    }
    distinct(&mut meant);
    let mut others = read;
    for meant in meant {
        others.extend([[b"\"", &meant[..], b"\""].concat(), escaped(&meant)]);
        let mut changed: Vec<u8> = meant.iter().copied().filter(|byte| !is_plain(*byte)).collect();
        changed.sort_unstable();
        changed.dedup();
        // What an encoder changes of it, so far.
        let mut sets: Vec<Vec<u8>> = Vec::new();
        for spared in SPARED {
            let set: Vec<u8> = changed.iter().copied().filter(|byte| !spared.contains(byte)).collect();
            if set.is_empty() || sets.contains(&set) {
                continue;
            }
            for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
                others.push(encoded(&meant, &set, digits, false));
                if set.contains(&b' ') {
                    others.push(encoded(&meant, &set, digits, true));
                }
            }
            sets.push(set);
        }
        others.push(meant);
    }
    distinct(&mut others);
    others.retain(|other| other != text && !other.is_empty());
    others
}

/// What an application may take a text for, before it undoes an encoding.
fn readings(text: &[u8]) -> Vec<Vec<u8>> {
    let whole = trimmed(text);
    let mut read: Vec<Vec<u8>> = Vec::new();
    let mut add = |given: &[u8]| {
        read.extend([trimmed(given).to_vec(), trimmed(&unescaped(given)).to_vec()]);
    };
    add(whole);
    if !whole.starts_with(b"\"") {
        ENDS.iter().for_each(|ends| add(before(whole, *ends)));
    }
    for given in [whole, before(whole, is_end)] {
        add(given);
        let Some(rest) = given.strip_prefix(b"\"") else { continue };
        // Some look for the first quote only, and take the last byte away with it.
        let less = rest.split_last().map_or(rest, |(_, less)| less);
        for quoted in [rest, less, closed(rest)] {
            add(quoted);
            add(before(trimmed(&unescaped(quoted)), is_end));
        }
    }
    distinct(&mut read);
    read
}

/// What all encoders leave as it is.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn distinct(texts: &mut Vec<Vec<u8>>) {
    texts.sort_unstable();
    texts.dedup();
}

fn trimmed(mut text: &[u8]) -> &[u8] {
    while let [byte, rest @ ..] = text
        && is_blank(*byte)
    {
        text = rest;
    }
    while let [rest @ .., byte] = text
        && is_blank(*byte)
    {
        text = rest;
    }
    text
}

/// What ends a value, also one in quotes: white space (Python), a comma (RFC 2965), or `&` in a list (CGI.pm).
fn is_end(byte: u8) -> bool {
    matches!(byte, b'&' | b',') || is_blank(byte)
}

/// What ends a value without quotes, by who reads it.
const ENDS: [fn(u8) -> bool; 5] = [
    // Python's own reader.
    is_blank,
    // Mojolicious.
    |byte| byte == b',' || is_blank(byte),
    // Undertow.
    |byte| byte == b'=',
    // WebOb.
    |byte| matches!(byte, b'"' | b',' | b'[' | b']') || is_blank(byte),
    // Tomcat's LegacyCookieProcessor.
    |byte| b"\"(),:<=>?@[\\]{}".contains(&byte) || is_blank(byte),
];

fn before(text: &[u8], ends: fn(u8) -> bool) -> &[u8] {
    &text[..text.iter().position(|byte| ends(*byte)).unwrap_or(text.len())]
}

/// What stands before the quote that closes it, which is one without a backslash before it.
fn closed(text: &[u8]) -> &[u8] {
    let mut is_escaped = false;
    let end = text.iter().position(|byte| {
        let closes = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        closes
    });
    &text[..end.unwrap_or(text.len())]
}

/// A text with what a backslash stands before, or three digits behind it stand for. To WebOb a value ends before
/// one that stands before nothing.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let (mut rest, mut unescaped) = (text, Vec::new());
    while let [byte, more @ ..] = rest {
        let (is, more) = match (byte, more) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', more @ ..]) => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), more)
            }
            (b'\\', [byte, more @ ..]) => (*byte, more),
            (b'\\', []) => break,
            _ => (*byte, more),
        };
        unescaped.push(is);
        rest = more;
    }
    unescaped
}

/// The text between quotes as Python's http.cookies writes it.
fn escaped(text: &[u8]) -> Vec<u8> {
    let mut escaped = vec![b'"'];
    for byte in text {
        match byte {
            b'"' | b'\\' => escaped.extend([b'\\', *byte]),
            byte if byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~: ()/<=>?@[]{}".contains(byte) => {
                escaped.push(*byte)
            }
            byte => escaped.extend([b'\\', b'0' + (byte >> 6), b'0' + (byte >> 3 & 7), b'0' + (byte & 7)]),
        }
    }
    escaped.push(b'"');
    escaped
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let mut rest = text;
    let each = std::iter::from_fn(|| {
        let (byte, more) = spelt(rest)?;
        rest = more;
        Some(byte)
    });
    each.collect()
}

fn encoded(text: &[u8], set: &[u8], digits: &[u8; 16], is_form: bool) -> Vec<u8> {
    let mut is_changed = [false; 256];
    set.iter().for_each(|byte| is_changed[usize::from(*byte)] = true);
    let mut encoded = Vec::with_capacity(text.len());
    for byte in text {
        if !is_changed[usize::from(*byte)] {
            encoded.push(*byte);
        } else if is_form && *byte == b' ' {
            encoded.push(b'+');
        } else {
            encoded.extend([b'%', digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
        }
    }
    encoded
}

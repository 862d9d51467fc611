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
    let mut read: Vec<Vec<u8>> = Vec::new();
    let whole = trimmed(text);
    for given in [whole, first(whole)] {
        if let [b'"', rest @ ..] = given {
            // Some look for the first quote only, and take the last byte away with it.
            for quoted in [rest, rest.split_last().map_or(rest, |(_, less)| less)] {
                let unescaped = unescaped(quoted);
                for inside in [trimmed(quoted), trimmed(&unescaped)] {
                    read.extend([first(inside).to_vec(), inside.to_vec()]);
                }
            }
        }
        read.push(given.to_vec());
    }
    distinct(&mut read);
    let mut meant = read.clone();
    for read in &read {
        let spaced = |byte: &u8| if *byte == b'+' { b' ' } else { *byte };
        meant.extend([decoded(read), decoded(&read.iter().map(spaced).collect::<Vec<_>>())]);
    }
    distinct(&mut meant);
    let mut others = read;
    for meant in meant {
        for spared in SPARED {
            for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
                others.push(encoded(&meant, spared, digits, false));
                if meant.contains(&b' ') {
                    others.push(encoded(&meant, spared, digits, true));
                }
            }
        }
        others.extend([[b"\"", &meant[..], b"\""].concat(), escaped(&meant), meant]);
        distinct(&mut others);
    }
    others.retain(|other| other != text && !other.is_empty());
    others
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

/// As far as a value goes where white space ends it (Python), or a comma (RFC 2965), or where it is one of a
/// list (CGI.pm).
fn first(text: &[u8]) -> &[u8] {
    let ends = |byte: &u8| matches!(byte, b'&' | b',') || is_blank(*byte);
    &text[..text.iter().position(ends).unwrap_or(text.len())]
}

/// A text with what a backslash stands before, or three digits behind it stand for.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let (mut rest, mut unescaped) = (text, Vec::new());
    while let [byte, more @ ..] = rest {
        let (is, more) = match (byte, more) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', more @ ..]) => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), more)
            }
            (b'\\', [byte, more @ ..]) => (*byte, more),
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

fn encoded(text: &[u8], spared: &[u8], digits: &[u8; 16], is_form: bool) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(text.len());
    for byte in text {
        if byte.is_ascii_alphanumeric() || spared.contains(byte) {
            encoded.push(*byte);
        } else if is_form && *byte == b' ' {
            encoded.push(b'+');
        } else {
            encoded.extend([b'%', digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
        }
    }
    encoded
}

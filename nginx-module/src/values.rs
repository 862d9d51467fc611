//! Every value that some application might read for a name, where nginx reads the first.
//!
//! Applications cut a header of cookies, or the arguments of a request, in other places than nginx does,
//! and spell names in other ways: Django and Express take white space of any kind from around a name,
//! Python's own reader ends a cookie at a space, PHP has `_` for `.`, ` ` and `[`, and some undo
//! percent-encoding in names. Some go on behind what they cannot read: WebOb behind any byte that it does not know,
//! Mojolicious behind a quote, ASP.NET at the next byte. What is found here is at least what any of these finds.

/// Where a name and its value stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// A header `Cookie`.
    Cookie,
    /// What stands behind the question mark.
    Arguments,
}

impl Place {
    /// Whether a value ends before a byte, for some, so that another name may begin after it.
    fn ends(self, byte: u8) -> bool {
        match self {
            Place::Cookie => matches!(byte, b';' | b',' | b'"' | b'[' | b'\\' | b']') || is_blank(byte),
            Place::Arguments => matches!(byte, b'&' | b';'),
        }
    }

    /// Where a value ends for nginx, and for all that read one to its end.
    fn last(self) -> u8 {
        match self {
            Place::Cookie => b';',
            Place::Arguments => b'&',
        }
    }
}

/// What stands before the place where a name may begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// A separator, and perhaps white space.
    Pair,
    /// A separator, and nothing but what no name has, which Tomcat leaves out.
    Skipped,
    /// What ends a value for some.
    Cut,
    /// Something else that no name has. ASP.NET begins anew there, behind what it could not read.
    Anew,
}

impl Start {
    /// What stands before the name after `byte`; `is_next` if nothing is between that and this one.
    fn after(self, byte: u8, is_next: bool) -> Start {
        let is_skipping = is_next && matches!(self, Start::Pair | Start::Skipped);
        match byte {
            b';' | b'&' => Start::Pair,
            byte if is_blank(byte) && is_skipping => self,
            b',' => Start::Skipped,
            _ if is_skipping => Start::Skipped,
            byte if Place::Cookie.ends(byte) => Start::Cut,
            _ => Start::Anew,
        }
    }
}

/// White space, what an application may take for some in another encoding, and what is nothing to see.
pub(crate) fn is_blank(byte: u8) -> bool {
    byte <= b' ' || byte >= 0x7f
}

/// The values of `name` in a text, without white space around them. Takes time by the length of the text,
/// whatever is in it.
pub(crate) fn values<'t>(place: Place, text: &'t [u8], name: &[u8]) -> impl Iterator<Item = &'t [u8]> {
    let mut next = Some(0);
    let mut start = Start::Pair;
    let mut runs = Runs::default();
    // Where the value that was found last ends. Those that begin before that end there, too.
    let mut stop = 0;
    std::iter::from_fn(move || {
        loop {
            let from = next?;
            let pair = text.get(from..)?;
            let found = match find(place, pair, name, start == Start::Pair) {
                Found::Value(rest) if start == Start::Anew && !runs.is_whole(text, text.len() - rest.len()) => {
                    Found::Nothing
                }
                found => found,
            };
            let end = separator(place, pair);
            (next, start) = match (pair.get(end), quoted(&pair[..end])) {
                (Some(b'"'), Some(inside)) => (Some(from + inside), Start::Anew),
                (Some(byte), _) => (Some(from + end + 1), start.after(*byte, end == 0)),
                (None, _) => (None, start),
            };
            match found {
                Found::Value(rest) => {
                    let from = text.len() - rest.len();
                    if stop < from {
                        stop = from + rest.iter().position(|byte| *byte == place.last()).unwrap_or(rest.len());
                    }
                    return Some(text[from..stop].trim_ascii());
                }
                Found::Alone => return Some(b""),
                Found::Cut => return Some(b"\0"),
                Found::Nothing => {}
            }
        }
    })
}

/// The name in a value that ends with it and an equals sign. If a quote follows, ASP.NET can read it and not
/// what it stands in.
fn quoted(pair: &[u8]) -> Option<usize> {
    let name = pair.strip_suffix(b"=")?;
    let inside = name.iter().rposition(|byte| !is_token(*byte))? + 1;
    (inside < name.len()).then_some(inside)
}

/// What ASP.NET takes for values.
#[derive(Default)]
struct Runs {
    /// Where the last run ends of what a value may consist of, and whether a separator follows.
    end: usize,
    is_whole: bool,
}

impl Runs {
    /// Whether a value, in quotes or not, goes from here to a separator.
    fn is_whole(&mut self, text: &[u8], from: usize) -> bool {
        let run = |from: usize| {
            let is_of_value = |byte: &u8| !is_blank(*byte) && !matches!(byte, b'"' | b',' | b';' | b'\\');
            from + text[from..].iter().position(|byte| !is_of_value(byte)).unwrap_or(text.len() - from)
        };
        let is_last = |end: usize| {
            let next = text[end..].iter().find(|byte| !matches!(byte, b' ' | b'\t'));
            next.is_none_or(|byte| matches!(byte, b',' | b';'))
        };
        if text.get(from) == Some(&b'"') {
            let end = run(from + 1);
            return text.get(end) == Some(&b'"') && is_last(end + 1);
        }
        if self.end < from {
            self.end = run(from);
            self.is_whole = is_last(self.end);
        }
        self.is_whole
    }
}

/// What a text begins with.
enum Found<'t> {
    /// The name, and what follows the equals sign.
    Value(&'t [u8]),
    /// The name alone, which for some has the empty value.
    Alone,
    /// The name up to a zero, where some end it; what its value is, is not looked for.
    Cut,
    Nothing,
}

fn find<'t>(place: Place, pair: &'t [u8], name: &[u8], is_first: bool) -> Found<'t> {
    match (begun(place, pair, name, is_first), pair.strip_prefix(b"GMT")) {
        // To WebOb a value is over after a date.
        (Found::Nothing, Some(rest)) if place == Place::Cookie => begun(place, rest, name, false),
        (found, _) => found,
    }
}

fn begun<'t>(place: Place, pair: &'t [u8], name: &[u8], is_first: bool) -> Found<'t> {
    let mut rest = pair;
    // PHP took white space away after it had undone percent-encoding, and ended a name at a zero.
    while let Some((found, more)) = spelt(rest)
        && (found == b'+' || is_blank(found))
        && (rest.len() > more.len() + 1 || found == b'+')
    {
        rest = more;
    }
    for byte in name {
        // Jetty undoes quotes around a name, and what is escaped between them.
        let escaped = rest.strip_prefix(b"\\").filter(|_| place == Place::Cookie);
        match without(escaped.unwrap_or(rest), *byte) {
            Some(more) => rest = more,
            None => return Found::Nothing,
        }
    }
    while let Some((found, more)) = spelt(rest)
        && (is_blank(found) || found == b'"' && place == Place::Cookie)
    {
        if found == 0 {
            return Found::Cut;
        }
        rest = more;
    }
    match (rest, place) {
        ([b'=', value @ ..], _) => Found::Value(value),
        // A name of PHP's for one of several values.
        ([b'[', ..] | [b'%', b'5', b'B' | b'b', ..], Place::Arguments) => Found::Value(rest),
        ([], _) | ([b';', ..], _) | ([b'&', ..], Place::Arguments) if is_first => Found::Alone,
        _ => Found::Nothing,
    }
}

/// The byte that a text begins with, which may be percent-encoded, and what follows.
pub(crate) fn spelt(text: &[u8]) -> Option<(u8, &[u8])> {
    match text {
        // As JavaScript's `escape` writes it, and Perl's CGI.pm reads it.
        [b'%', b'u' | b'U', code @ ..] if code.len() >= 4 && code[..4].iter().all(u8::is_ascii_hexdigit) => {
            let digits = code[..4].iter().filter_map(|digit| (*digit as char).to_digit(16));
            let code_point = digits.fold(0, |number, digit| number << 4 | digit);
            // What is no ASCII is as good as any other byte that is none.
            Some((u8::try_from(code_point).unwrap_or(u8::MAX), &code[4..]))
        }
        [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            let digit = |digit: u8| (digit as char).to_digit(16).unwrap_or_default() as u8;
            Some((digit(*high) << 4 | digit(*low), rest))
        }
        [found, rest @ ..] => Some((*found, rest)),
        [] => None,
    }
}

/// A text without the byte of a name that it begins with, however that is spelt.
fn without(text: &[u8], byte: u8) -> Option<&[u8]> {
    let (found, rest) = spelt(text)?;
    (folded(found) == folded(byte)).then_some(rest)
}

/// What all bytes have in common that are one for some application: PHP finds `a.b` under the name `a_b`.
fn folded(byte: u8) -> u8 {
    match byte {
        b'.' | b' ' | b'[' | b'+' => b'_',
        byte => byte.to_ascii_lowercase(),
    }
}

/// Whether a name may have a byte in it (RFC 9110's `token`).
fn is_token(byte: u8) -> bool {
    const TOKENS: [bool; 256] = {
        let (mut tokens, mut byte) = ([false; 256], 0x21);
        while byte < 0x7f {
            tokens[byte as usize] =
                !matches!(byte, b'"' | b'(' | b')' | b',' | b'/' | b':'..=b'@' | b'[' | b'\\' | b']' | b'{' | b'}');
            byte += 1;
        }
        tokens
    };
    TOKENS[usize::from(byte)]
}

/// Where the first pair ends: after its value, or after its name where what follows belongs to no name.
fn separator(place: Place, text: &[u8]) -> usize {
    if place == Place::Arguments {
        return text.iter().position(|byte| place.ends(*byte)).unwrap_or(text.len());
    }
    let name = text.iter().position(|byte| !is_token(*byte)).unwrap_or(text.len());
    match &text[name..] {
        [b'=', value @ ..] if name > 0 => name + 1 + end_of_value(value),
        _ => name,
    }
}

/// Where a cookie's value ends. Eight bytes at a time: browsers send long lists of cookies.
fn end_of_value(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // The highest bit of each byte that is below a limit, and perhaps of some after the first such.
    let below = |word: u64, limit: u8| word.wrapping_sub(u64::from(limit) * ONES) & !word & HIGHS;
    let found = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        let is = |byte: u8| below(word ^ (u64::from(byte) * ONES), 1);
        // `[`, `\` and `]` stand side by side.
        let bracket = below(((word | HIGHS) - u64::from(b'[') * ONES) ^ HIGHS, 3);
        let blank = is(0x7f) | below(word, b' ' + 1) | word & HIGHS;
        let found = is(b';') | is(b',') | is(b'"') | bracket | blank;
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
        None => text.iter().position(|byte| Place::Cookie.ends(*byte)).unwrap_or(text.len()),
    }
}

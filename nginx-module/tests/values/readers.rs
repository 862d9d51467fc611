//! How some servers read a header of cookies, step by step. Of each cookie: its name, and where its value begins.

pub(crate) type Found<'t> = Vec<(&'t [u8], usize)>;

type Read = for<'t> fn(&'t [u8]) -> Found<'t>;

pub(crate) const ALL: &[(&str, Read)] = &[
    ("WebOb", webob),
    ("Mojolicious", mojolicious),
    ("ASP.NET Core", asp_net),
    ("Tomcat's LegacyCookieProcessor", tomcat),
    ("Undertow", undertow),
    ("lua-resty-cookie", lua_resty),
];

fn run(text: &[u8], from: usize, is_in: impl Fn(u8) -> bool) -> usize {
    from + text[from..].iter().position(|byte| !is_in(*byte)).unwrap_or(text.len() - from)
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// Behind the quote that closes what begins at `from`. As a last resort that may be one with a backslash before it.
fn closed(text: &[u8], from: usize, skips_backslashes: bool) -> Option<usize> {
    let (mut at, mut escaped) = (from, None);
    while let Some(byte) = text.get(at) {
        match (byte, text.get(at + 1)) {
            (b'"', _) => return Some(at + 1),
            (b'\\', Some(b'"')) => {
                escaped = Some(at + 2);
                at += 2;
            }
            (b'\\', Some(b'\\')) if skips_backslashes => at += 2,
            _ => at += 1,
        }
    }
    escaped
}

fn webob(text: &[u8]) -> Found<'_> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_legal = |byte: u8| is_word(byte) || b"~!@#$%^&*()_+=-`.?|:/(){}<>'".contains(&byte);
    let date = |from: usize| {
        let mut at = from;
        for (least, most, is_in) in [
            (3, 3, &is_word as &dyn Fn(u8) -> bool),
            (1, 1, &|byte| byte == b','),
            (1, 1, &is_space),
            (9, 11, &|byte| is_word(byte) || byte == b'-'),
            (1, 1, &is_space),
            (8, 8, &|byte| byte.is_ascii_digit() || byte == b':'),
            (1, 1, &is_space),
        ] {
            let end = run(text, at, is_in).min(at + most);
            at = Some(end).filter(|end| end - at >= least)?;
        }
        text[at..].starts_with(b"GMT").then_some(at + 3)
    };
    let unquoted = |mut at: usize| {
        loop {
            match &text[at..] {
                [b'\\', b'0'..=b'3', b'0'..=b'7', b'0'..=b'7', ..] => at += 4,
                [b'\\', any, ..] if *any != b'\n' => at += 2,
                [byte, ..] if is_legal(*byte) => at += 1,
                _ => return at,
            }
        }
    };
    let (mut found, mut from) = (Vec::new(), 0);
    while from < text.len() {
        let mut end = from;
        let value = loop {
            if !text.get(end).is_some_and(|byte| is_legal(*byte)) {
                break None;
            }
            end += 1;
            let equals = run(text, end, is_space);
            if text.get(equals) == Some(&b'=') {
                break Some(run(text, equals + 1, is_space));
            }
        };
        let Some(value) = value else {
            from = end + 1;
            continue;
        };
        found.push((&text[from..end], value));
        let quoted = if text.get(value) == Some(&b'"') { closed(text, value + 1, false) } else { None };
        from = quoted.or_else(|| date(value)).unwrap_or_else(|| unquoted(value));
    }
    found
}

fn mojolicious(text: &[u8]) -> Found<'_> {
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        at = run(text, at, |byte| matches!(byte, b',' | b';') || is_space(byte));
        let end = run(text, at, |byte| !matches!(byte, b'=' | b';' | b',' | b' '));
        if end == at {
            return found;
        }
        let name = &text[at..end];
        at = run(text, end, is_space);
        if text.get(at) == Some(&b'=') {
            let value = run(text, at + 1, is_space);
            found.push((name, value));
            let quoted = if text.get(value) == Some(&b'"') { closed(text, value + 1, true) } else { None };
            at = quoted.unwrap_or_else(|| run(text, value, |byte| !matches!(byte, b';' | b',' | b' ')));
        }
    }
}

/// `CookieHeaderParserShared`.
fn asp_net(text: &[u8]) -> Found<'_> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_of_value = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\');
    let white = |at| run(text, at, |byte| matches!(byte, b' ' | b'\t'));
    let separated = |at: usize| {
        let at = white(at);
        let end = run(text, at, |byte| matches!(byte, b' ' | b'\t' | b',' | b';'));
        (end, end > at)
    };
    let pair = |from: usize| {
        let from = separated(from).0;
        if from == text.len() {
            return Some((from, None));
        }
        let end = run(text, from, is_token);
        if end == from || text.get(end) != Some(&b'=') {
            return None;
        }
        let value = end + 1;
        let is_quoted = text.get(value) == Some(&b'"');
        let mut at = run(text, value + usize::from(is_quoted), is_of_value);
        let mut is_empty = at == value;
        if is_quoted {
            is_empty = text.get(at) != Some(&b'"');
            at += usize::from(!is_empty);
        }
        let (next, is_separated) = separated(at);
        (is_separated || next == text.len()).then_some((next, Some((&text[from..end], value)).filter(|_| !is_empty)))
    };
    let (mut found, mut from) = (Vec::new(), 0);
    while from < text.len() {
        match pair(from) {
            Some((next, cookie)) => {
                found.extend(cookie);
                from = next;
            }
            None => from += 1,
        }
    }
    found
}

fn tomcat(text: &[u8]) -> Found<'_> {
    let is_separator = |byte: u8| b"\t \"(),:;<=>?@[\\]{}".contains(&byte);
    let is_white = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0c);
    let (mut found, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let mut from = run(text, at, |byte| is_separator(byte) || is_white(byte));
        let is_special = text.get(from) == Some(&b'$');
        from += usize::from(is_special);
        if from >= text.len() {
            break;
        }
        let end = run(text, from, |byte| !is_separator(byte));
        at = run(text, end, is_white);
        if at + 1 < text.len() && text[at] == b'=' {
            let value = run(text, at + 1, is_white);
            at = value;
            let is_value = match text.get(value) {
                None => break,
                Some(b'"') => {
                    let Some(end) = closed(text, value + 1, true) else { break };
                    at = end;
                    true
                }
                Some(byte) => !is_separator(*byte),
            };
            if is_value && !is_special {
                found.push((&text[from..end], value));
            }
        }
        at = run(text, at, |byte| !matches!(byte, b';' | b',')) + 1;
    }
    found
}

/// As it is set up at first: an equals sign ends a value, a comma does not.
fn undertow(text: &[u8]) -> Found<'_> {
    let (mut found, mut from) = (Vec::new(), 0);
    while from < text.len() {
        from = run(text, from, |byte| matches!(byte, b' ' | b'\t' | b';'));
        let end = run(text, from, |byte| !matches!(byte, b'=' | b';'));
        if text.get(end) != Some(&b'=') {
            from = end + 1;
            continue;
        }
        let value = end + 1;
        found.push((&text[from..end], value));
        from = match text.get(value) {
            Some(b'"') => closed(text, value + 1, false).unwrap_or(text.len()),
            _ => run(text, value, |byte| byte != b';') + 1,
        };
    }
    found
}

fn lua_resty(text: &[u8]) -> Found<'_> {
    let (mut found, mut from) = (Vec::new(), 0);
    while from < text.len() {
        let end = run(text, from, |byte| byte != b'=');
        if end == text.len() {
            break;
        }
        found.push((&text[from..end], end + 1));
        from = run(text, end + 1, |byte| !matches!(byte, b';' | b' ' | b'\t')) + 1;
        from = run(text, from.min(text.len()), |byte| matches!(byte, b' ' | b'\t'));
    }
    found
}

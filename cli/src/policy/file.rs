//! A TOML file of policies: one table for each, the words of [`super::words`] in it.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Excerpt, PolicyError};
use super::words::Place;
use super::{Draft, Named, check_name};

pub(crate) fn read(path: &Path) -> Result<Vec<Named>, PolicyError> {
    let bytes = std::fs::read(path).map_err(|source| PolicyError::Unreadable { path: path.into(), source })?;
    match String::from_utf8(bytes) {
        Ok(text) => parse(path, &text),
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes());
            let message = "this is not UTF-8; save the file as plain text in UTF-8".into();
            Err(Source { path, text: &text }.wrong(at..at, message))
        }
    }
}

pub(crate) fn parse(path: &Path, text: &str) -> Result<Vec<Named>, PolicyError> {
    let source = Source { path, text };
    let document = DeTable::parse(text).map_err(|error| {
        source.wrong(error.span().unwrap_or(0..0), error.message().lines().collect::<Vec<_>>().join(", "))
    })?;
    let mut policies = Vec::new();
    for (name, table) in in_order(document.get_ref()) {
        let name_at = name.span();
        let DeValue::Table(table) = table.get_ref() else {
            let name = name.get_ref();
            let message = match table.get_ref() {
                DeValue::Array(_) => format!("a policy is one table; write [{name}] for it"),
                _ => format!("\"{name}\" stands outside of a policy; begin one with a line like [staff]"),
            };
            return Err(source.wrong(name_at, message));
        };
        policies.push(policy(&source, name, table)?);
    }
    if policies.is_empty() {
        return Err(PolicyError::NoPolicies { path: path.into() });
    }
    Ok(policies)
}

fn policy(
    source: &Source<'_>,
    name: &Spanned<std::borrow::Cow<'_, str>>,
    table: &DeTable<'_>,
) -> Result<Named, PolicyError> {
    let name_at = name.span();
    let name = check_name(name.get_ref()).map_err(|message| source.wrong(name_at.clone(), message))?;
    let mut draft = Draft::new();
    for (word, value) in in_order(table) {
        let value_at = value.span();
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(number) => number.as_str().to_owned(),
            DeValue::Table(_) => {
                let message = format!("a policy is one table with none inside; write [{}] for it", word.get_ref());
                return Err(source.wrong(word.span(), message));
            }
            _ => {
                let message = "a value is a text in quotes, like \"15m\", or a whole number".into();
                return Err(source.wrong(value_at, message));
            }
        };
        draft.set(word.get_ref(), &text).map_err(|fault| {
            let place = match fault.place {
                Place::Word => word.span(),
                Place::Value(part) => source.within(value_at, &text, part),
            };
            source.wrong(place, fault.message)
        })?;
    }
    let (line, column) = source.position(name_at.start);
    let place = format!("{}:{line}:{column}", source.path.display());
    draft.finish(name.to_owned(), place).map_err(|message| source.wrong(name_at, message))
}

/// The parser sorts by name; people expect the order of the file.
fn in_order<'t, 'i>(
    table: &'t DeTable<'i>,
) -> Vec<(&'t toml::Spanned<std::borrow::Cow<'i, str>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn wrong(&self, at: Range<usize>, message: String) -> PolicyError {
        let begin = self.line_begin(at.start);
        let shown = self.text[begin..].lines().next().unwrap_or("");
        // What is missing at the end of a line is missing before its line break.
        let start = at.start.min(begin + shown.len());
        let (line, column) = self.position(start);
        let mark = start - begin..at.end.saturating_sub(begin).min(shown.len());
        let excerpt = Excerpt::new(Some(line), shown, mark);
        PolicyError::File { path: self.path.into(), line, column, message, excerpt }
    }

    /// Line and column, both from one, the column in characters.
    fn position(&self, at: usize) -> (usize, usize) {
        let begin = self.line_begin(at);
        let line = 1 + self.text[..begin].matches('\n').count();
        (line, 1 + self.text[begin..at].chars().count())
    }

    fn line_begin(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |end| end + 1)
    }

    /// Where `part` of a value's text stands: the value itself may have quotes around it, or
    /// escapes in it, and then the whole value is meant.
    fn within(&self, value: Range<usize>, text: &str, part: Range<usize>) -> Range<usize> {
        match self.text[value.clone()].find(text) {
            Some(offset) if !part.is_empty() => value.start + offset + part.start..value.start + offset + part.end,
            _ => value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use curfew_engine::Span;

    fn parsed(text: &str) -> Result<Vec<Named>, PolicyError> {
        parse(Path::new("p.toml"), text)
    }

    #[test]
    fn policies_keep_the_order_of_the_file() {
        let policies =
            parsed("[zebra]\nidle = \"15m\"\n[ant]\nlifetime = \"8h\"\nidle = 0\nmax_per_subject = 5\n").unwrap();
        let names: Vec<&str> = policies.iter().map(|policy| policy.name.as_str()).collect();
        assert_eq!(names, ["zebra", "ant"]);
        assert_eq!(policies[1].limits.lifetime, Span::from_millis(28_800_000));
        assert_eq!(policies[1].limits.max_per_subject, 5);
    }

    #[test]
    fn an_error_names_file_line_column_and_word() {
        for (text, place, message, carets) in [
            ("[a]\nidle = \"15m\"\n[b]\nidel = \"1m\"\n", "p.toml:4:1: ", "did you mean \"idle\"", "^^^^"),
            ("[a]\nidle = \"15mins\"\n", "p.toml:2:11: ", "units are", "^^^^"),
            ("[a]\nidle = 15\n", "p.toml:2:8: ", "of what", "^^"),
            ("[a]\nidle = true\n", "p.toml:2:8: ", "in quotes", "^^^^"),
            ("idle = \"15m\"\n", "p.toml:1:1: ", "begin one with", "^^^^"),
            ("[policies.staff]\nidle = \"15m\"\n", "p.toml:1:11: ", "write [staff]", "^^^^^"),
            ("[[staff]]\nidle = \"15m\"\n", "p.toml:1:3: ", "write [staff]", "^^^^^"),
            ("[a]\nidle = \"15m\"\n[bc]\n", "p.toml:3:2: ", "never ends", "^^"),
            ("[a]\nidle = \"15m\n", "p.toml:2:", "", "^"),
            ("[a]\nidle = \"5m\"\n[a]\nidle = \"6m\"", "p.toml:3:2: ", "duplicate", "^"),
            ("[a]\nidle = \"5m\"\nidle = \"6m\"", "p.toml:3:1: ", "duplicate", "^^^^"),
            ("[a]\nidle = \"\"\n", "p.toml:2:8: ", "missing", "^^"),
            ("[a]\nidle = '1m\r\n", "p.toml:2:11: ", "", "^"),
        ] {
            let error = parsed(text).unwrap_err().to_string();
            assert!(error.starts_with(place), "{error}");
            assert!(error.contains(message), "{error}");
            assert!(error.ends_with(&format!(" {carets}")), "{error}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_found_by_line_and_column() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.toml");
        std::fs::write(&path, b"[a]\nidle = \"15m\" # caf\xe9\n").unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("p.toml:2:19: this is not UTF-8"), "{error}");
    }

    #[test]
    fn a_file_without_policies_is_not_silently_nothing() {
        assert!(matches!(parsed("# nothing\n"), Err(PolicyError::NoPolicies { .. })));
    }
}

//! `[name:]idle=15m,lifetime=8h`, as given to `--policy`.

use std::ops::Range;

use super::error::{Excerpt, PolicyError};
use super::words::{self, Place};
use super::{Draft, Named, check_name};

pub(crate) fn parse(spec: &str) -> Result<Named, PolicyError> {
    let wrong =
        |at: Range<usize>, message: String| PolicyError::Spec { message, excerpt: Excerpt::new(None, spec, at) };
    let whole = 0..spec.len();

    // A colon after the first "=" belongs to a value.
    let (name, from) = match spec.find([':', '=']) {
        Some(colon) if spec[colon..].starts_with(':') => {
            (Some(check_name(&spec[..colon]).map_err(|message| wrong(0..colon + 1, message))?), colon + 1)
        }
        _ => (None, 0),
    };
    if spec[from..].is_empty() {
        return Err(wrong(whole, "the policy says nothing; write it like idle=15m,lifetime=8h".into()));
    }

    let mut draft = Draft::new();
    let mut words_of_it = Vec::new();
    // Where a part of the text stands in it.
    let place = |part: &str| {
        let start = part.as_ptr().addr() - spec.as_ptr().addr();
        start..start + part.len()
    };
    for part in spec[from..].split(',') {
        let Some((word, value)) = part.split_once('=').map(|(word, value)| (word.trim(), value.trim())) else {
            let word = part.trim();
            let message = if word.is_empty() {
                "something is missing before or after a comma".into()
            } else if words::WORDS.contains(&word) {
                format!("\"{word}\" has no value; write it like idle=15m")
            } else {
                words::unknown(word)
            };
            return Err(wrong(place(if word.is_empty() { part } else { word }), message));
        };
        if let Some(gap) = missing_comma(word, value) {
            let message = "commas stand between words here, and a colon behind a name: staff:idle=15m,lifetime=8h";
            return Err(wrong(place(gap), message.into()));
        }
        draft.set(word, value).map_err(|fault| {
            let at = match fault.place {
                Place::Word => place(word),
                Place::Value(part) => place(value).start + part.start..place(value).start + part.end,
            };
            wrong(at, fault.message)
        })?;
        words_of_it.push(format!("{word}={value}"));
    }
    // Named by its words, however many they are, without the white space around them: what is left
    // is known words and values, and can be shown anywhere.
    let name = name.map_or_else(|| words_of_it.join(","), str::to_owned);
    draft.finish(name, format!("--policy {spec}")).map_err(|message| wrong(from..spec.len(), message))
}

/// Where words stand side by side as nginx has them.
fn missing_comma<'s>(word: &'s str, value: &'s str) -> Option<&'s str> {
    let gap = |text: &'s str| text.matches([';', ' ', '\t', '\n', '\r']).next();
    let follows_a_name = word.rsplit(char::is_whitespace).next().is_some_and(|last| words::WORDS.contains(&last));
    gap(word).filter(|_| follows_a_name).or_else(|| gap(value).filter(|_| value.contains(['=', ';'])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use curfew_engine::{GraceMode, Span};

    #[test]
    fn a_policy_is_named_by_its_name_or_by_its_words() {
        let named = parse("staff:idle=15m,lifetime=8h,grace=2m,grace_mode=resume").unwrap();
        assert_eq!(named.name, "staff");
        assert_eq!(named.limits.grace, Span::from_millis(120_000));
        assert_eq!(named.limits.grace_mode, GraceMode::Resume);
        assert_eq!(parse("idle=15m").unwrap().name, "idle=15m");
        assert_eq!(parse("staff: idle = 15m, lifetime = 8h").unwrap().limits.idle, Span::from_millis(900_000));
        assert_eq!(parse("idle = 15m,lifetime=\r\n8h ").unwrap().name, "idle=15m,lifetime=8h");
        let long = "idle=15m,lifetime=8h,grace=2m,grace_mode=resume,max_per_subject=5,on_limit=end_oldest";
        assert_eq!(parse(long).unwrap().name, long);
    }

    #[test]
    fn words_that_a_replay_has_no_use_for_are_remembered() {
        for (spec, unused) in [
            ("idle=15m,max_per_subject=5,on_limit=deny", vec!["max_per_subject", "on_limit"]),
            ("idle=15m,grace=2m,grace_mode=reauth", vec![]),
            ("idle=15m,grace_mode=reauth", vec!["grace_mode"]),
            ("lifetime=15m,grace=2m,grace_mode=reauth", vec!["grace", "grace_mode"]),
            ("idle=15m,lifetime=15m,grace=2m", vec!["idle", "grace"]),
            ("idle=15m,lifetime=16m,grace=2m", vec![]),
            ("idle=15m,lifetime=0", vec![]),
        ] {
            assert_eq!(parse(spec).unwrap().unused, unused, "{spec}");
        }
    }

    /// The message and what the carets stand under.
    fn fault(spec: &str) -> (String, String) {
        let text = parse(spec).unwrap_err().to_string();
        let lines: Vec<&str> = text.lines().collect();
        let (message, source, carets) = (lines[0], lines[1], lines[2]);
        let marked = source.chars().zip(carets.chars().chain(std::iter::repeat(' '))).filter(|(_, c)| *c == '^');
        (message.to_owned(), marked.map(|(c, _)| c).collect())
    }

    #[test]
    fn the_carets_stand_under_the_word_that_is_wrong() {
        for (spec, message, marked) in [
            ("staff:idel=15m,lifetime=8h", "did you mean \"idle\"", "idel"),
            ("idle=15", "of what", "15"),
            ("idle=15m,lifetime=8hours", "units are", "hours"),
            ("idle=15m,,lifetime=8h", "comma", ","),
            ("idle=15m,lifetime", "no value", "lifetime"),
            ("staff", "\"staff\" is not a word of a policy", "staff"),
            ("idle=15m, lifetme", "did you mean \"lifetime\"", "lifetme"),
            ("a: idle = 15m , lifetime = 8 ", "of what", "8"),
            ("idle=15m,idle=16m", "twice", "idle"),
            ("idle=0", "never ends", "idle=0"),
            ("grüße:idle=0", "never ends", "idle=0"),
            ("idle=5m,grace=1m,grace_mode=ask", "reauth, resume", "ask"),
            ("idle=5m,max_per_subject=-1", "whole number", "-1"),
            ("x:", "says nothing", "x:"),
            (":idle=5m", "name of the policy is empty", ":"),
        ] {
            let found = fault(spec);
            assert!(found.0.contains(message), "{spec}: {found:?}");
            assert_eq!(found.1, marked, "{spec}: {found:?}");
        }
        assert!(fault("").0.contains("says nothing"));
    }
}

//! Policies as the command line and files say them.

mod duration;
mod error;
mod file;
mod spec;
mod words;

use std::path::Path;

use curfew_engine::{Policy, Span};

pub(crate) use duration::{Exact, LONGEST_MS, Rough, thousands};
pub(crate) use error::PolicyError;

/// A policy with the name that reports call it by.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) limits: Policy,
    /// Words that were given and that say nothing about a replay.
    pub(crate) unused: Vec<&'static str>,
    /// Where it was written, for messages: `--policy staff:idle=5m` or `policies.toml:3:2`.
    place: String,
}

impl Named {
    /// What to say of a policy with words that play no part.
    pub(crate) fn note(&self) -> Option<String> {
        let accepted = match self.unused.len() {
            0 => return None,
            1 => "is accepted and changes",
            _ => "are accepted and change",
        };
        let why = if outlives_the_session(&self.limits) {
            format!(
                "; an idle timeout of {} is never reached in a lifetime of {}: are the two swapped?",
                Exact(self.limits.idle.as_millis()),
                Exact(self.limits.lifetime.as_millis())
            )
        } else {
            String::new()
        };
        Some(format!("policy {}: {} {accepted} nothing in this replay{why}", self.name, self.unused.join(", ")))
    }
}

/// The policies of every `--policy` and of the `--policies` file, in that order.
pub(crate) fn gather(specs: &[String], file: Option<&Path>) -> Result<Vec<Named>, PolicyError> {
    let mut policies = specs.iter().map(|spec| spec::parse(spec)).collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = file {
        policies.extend(file::read(path)?);
    }
    for (i, policy) in policies.iter().enumerate() {
        if let Some(first) = policies[..i].iter().find(|other| other.name == policy.name) {
            return Err(PolicyError::Duplicate {
                name: policy.name.clone(),
                first: first.place.clone(),
                second: policy.place.clone(),
            });
        }
    }
    Ok(policies)
}

/// One policy, as `--policy` gives it.
pub(crate) fn parse_spec(spec: &str) -> Result<Named, PolicyError> {
    spec::parse(spec)
}

/// The policies of a file that holds `text`.
pub(crate) fn parse_file(path: &Path, text: &str) -> Result<Vec<Named>, PolicyError> {
    file::parse(path, text)
}

/// What is tried when nobody says which policies to try.
pub(crate) fn usual() -> Vec<Named> {
    [5, 15, 30, 60]
        .map(|minutes| Named {
            name: format!("idle={minutes}m"),
            limits: Policy { idle: Span::from_millis(minutes * 60_000), ..Policy::new() },
            unused: Vec::new(),
            place: String::from("the usual policies"),
        })
        .into()
}

/// Collects the words of one policy and says what is wrong with the whole.
struct Draft {
    limits: Policy,
    given: Vec<&'static str>,
}

impl Draft {
    fn new() -> Draft {
        Draft { limits: Policy::new(), given: Vec::new() }
    }

    fn set(&mut self, word: &str, value: &str) -> Result<(), words::Fault> {
        words::set(&mut self.limits, word, value)?;
        // Only known words get here.
        if let Some(known) = words::WORDS.iter().find(|known| **known == word) {
            if self.given.contains(known) {
                return Err(words::Fault { message: format!("\"{word}\" is given twice"), place: words::Place::Word });
            }
            self.given.push(known);
        }
        Ok(())
    }

    /// The policy, or what it lacks.
    fn finish(self, name: String, place: String) -> Result<Named, String> {
        if self.limits.idle == Span::OFF && self.limits.lifetime == Span::OFF {
            return Err("a policy needs idle or lifetime: without either a session never ends".into());
        }
        // The engine has the last word on what a policy may be.
        self.limits.validate().map_err(|error| error.to_string())?;
        let off = |span| span == Span::OFF;
        let (outlived, idle_off) = (outlives_the_session(&self.limits), off(self.limits.idle));
        let plays_no_part = |word: &&str| match *word {
            "idle" => outlived,
            "grace" => idle_off || outlived,
            "grace_mode" => idle_off || outlived || off(self.limits.grace),
            word => words::NO_PART_IN_REPLAY.contains(&word),
        };
        let unused = self.given.into_iter().filter(plays_no_part).collect();
        Ok(Named { name, limits: self.limits, unused, place })
    }
}

/// Whether the idle timeout is so long that the lifetime is always over first.
fn outlives_the_session(limits: &Policy) -> bool {
    limits.lifetime != Span::OFF && limits.idle >= limits.lifetime
}

/// The name without white space around it. Names appear in tables, in CSV and in the terminal.
fn check_name(name: &str) -> Result<&str, String> {
    let name = name.trim();
    if name.is_empty() {
        Err("the name of the policy is empty".into())
    } else if name.chars().count() > 64 {
        Err("the name of a policy has at most 64 characters".into())
    } else if name.chars().any(char::is_control) {
        Err("the name of a policy has no control characters in it".into())
    } else if let Some(hidden) = name.chars().find(|c| is_invisible(*c)) {
        let code = u32::from(hidden);
        Err(format!(
            "U+{code:04X} in the name of the policy cannot be seen, and makes it look like another; leave it out"
        ))
    } else {
        Ok(name)
    }
}

/// What shows nothing itself, or changes the direction or the line of what follows: Unicode's
/// Default_Ignorable_Code_Point, the other format characters without a shape, and white space other than a space.
/// Width alone does not tell: combining marks have none either, and can be seen.
fn is_invisible(c: char) -> bool {
    let hidden = matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}');
    hidden || c.is_whitespace() && c != ' '
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_policies_are_policies() {
        assert!(usual().iter().all(|policy| policy.limits.validate().is_ok()));
    }

    #[test]
    fn a_name_has_nothing_in_it_that_cannot_be_seen() {
        for hidden in "\u{ad}\u{34f}\u{115f}\u{1160}\u{180e}\u{200b}\u{2028}\u{2063}\u{2800}\u{3164}\u{fe0f}\u{ffa0}\u{fffa}\u{e0041}\u{e0100}\u{a0}\u{2003}\u{3000}".chars() {
            assert!(check_name(&format!("st{hidden}aff")).is_err(), "U+{:04X}", u32::from(hidden));
        }
        // Combining marks, Hangul in its parts, Thai.
        for name in
            ["the staff", "Zoe\u{308}", "\u{1112}\u{1161}\u{11ab}", "\u{e01}\u{e33}\u{e48}", "caf\u{e9} \u{1f600}"]
        {
            assert_eq!(check_name(name), Ok(name));
        }
    }

    #[test]
    fn two_policies_of_one_name_are_refused_with_both_places() {
        let error = gather(&["a:idle=1m".into(), "a:idle=2m".into()], None).unwrap_err().to_string();
        assert!(error.contains("\"a\"") && error.contains("a:idle=1m") && error.contains("a:idle=2m"), "{error}");
    }
}

//! The words of a policy and what may follow them; the same in `--policy` and in a file.

use std::ops::Range;

use curfew_engine::{GraceMode, OnFull, OnLimit, OnMismatch, Policy, Retain, Span};

use super::duration;

pub(crate) const WORDS: [&str; 9] =
    ["idle", "lifetime", "grace", "grace_mode", "on_mismatch", "max_per_subject", "on_limit", "retain", "on_full"];

/// Words that say nothing about a recorded log: it has no bindings, no subjects, no end of room.
pub(crate) const NO_PART_IN_REPLAY: [&str; 5] = ["on_mismatch", "max_per_subject", "on_limit", "retain", "on_full"];

/// What is wrong with `word = value`.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) message: String,
    pub(crate) place: Place,
}

/// Where in `word = value` it is wrong.
#[derive(Debug)]
pub(crate) enum Place {
    Word,
    /// This part of the value.
    Value(Range<usize>),
}

/// Sets what `word` names.
pub(crate) fn set(policy: &mut Policy, word: &str, value: &str) -> Result<(), Fault> {
    let span = || {
        duration::parse(value)
            .map(Span::from_millis)
            .map_err(|fault| Fault { message: fault.message, place: Place::Value(fault.at) })
    };
    match word {
        "idle" => policy.idle = span()?,
        "lifetime" => policy.lifetime = span()?,
        "grace" => policy.grace = span()?,
        "grace_mode" => {
            policy.grace_mode = choice(value, &[("reauth", GraceMode::Reauth), ("resume", GraceMode::Resume)])?
        }
        "on_mismatch" => {
            policy.on_mismatch =
                choice(value, &[("deny", OnMismatch::Deny), ("end", OnMismatch::End), ("log", OnMismatch::Log)])?;
        }
        "max_per_subject" => policy.max_per_subject = number(value)?,
        "on_limit" => {
            policy.on_limit = choice(
                value,
                &[
                    ("deny", OnLimit::Deny),
                    ("end_oldest", OnLimit::EndOldest),
                    ("end_least_recent", OnLimit::EndLeastRecent),
                ],
            )?;
        }
        "retain" if value == "hard" => policy.retain = Retain::UntilHardLimit,
        "retain" => policy.retain = Retain::For(span()?),
        "on_full" => {
            policy.on_full = choice(value, &[("refuse", OnFull::Refuse), ("evict_ended", OnFull::EvictEnded)])?;
        }
        _ => return Err(Fault { message: unknown(word), place: Place::Word }),
    }
    Ok(())
}

/// What to say about a word that no policy has.
pub(crate) fn unknown(word: &str) -> String {
    match nearest(word, &WORDS) {
        Some(near) => format!("\"{word}\" is not a word of a policy; did you mean \"{near}\"?"),
        None => format!("\"{word}\" is not a word of a policy; the words are {}", WORDS.join(", ")),
    }
}

fn choice<T: Copy>(value: &str, choices: &[(&str, T)]) -> Result<T, Fault> {
    if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == value) {
        return Ok(*choice);
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    let message = match nearest(value, &names) {
        Some(near) => format!("\"{value}\" is not one of {}; did you mean \"{near}\"?", names.join(", ")),
        None => format!("\"{value}\" is not one of {}", names.join(", ")),
    };
    Err(Fault { message, place: Place::Value(0..value.len()) })
}

fn number(value: &str) -> Result<u32, Fault> {
    value.parse().map_err(|_| Fault {
        message: format!("\"{value}\" is not a whole number from 0 (no limit) to {}", u32::MAX),
        place: Place::Value(0..value.len()),
    })
}

/// The one of `names` that somebody who typed `word` probably meant.
fn nearest<'a>(word: &str, names: &[&'a str]) -> Option<&'a str> {
    names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(word, name), *name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_sets_what_it_names() {
        let mut policy = Policy::new();
        for (word, value) in [
            ("idle", "15m"),
            ("lifetime", "8h"),
            ("grace", "2m"),
            ("grace_mode", "resume"),
            ("on_mismatch", "log"),
            ("max_per_subject", "5"),
            ("on_limit", "end_oldest"),
            ("retain", "1d"),
            ("on_full", "evict_ended"),
        ] {
            set(&mut policy, word, value).unwrap();
        }
        let expected = Policy {
            idle: Span::from_millis(900_000),
            lifetime: Span::from_millis(28_800_000),
            grace: Span::from_millis(120_000),
            grace_mode: GraceMode::Resume,
            on_mismatch: OnMismatch::Log,
            max_per_subject: 5,
            on_limit: OnLimit::EndOldest,
            retain: Retain::For(Span::from_millis(86_400_000)),
            on_full: OnFull::EvictEnded,
        };
        assert_eq!(policy, expected);
        set(&mut policy, "retain", "hard").unwrap();
        assert_eq!(policy.retain, Retain::UntilHardLimit);
    }

    #[test]
    fn a_slip_of_the_finger_is_answered_with_the_word_that_was_meant() {
        for (word, value, meant) in [
            ("idel", "5m", "\"idle\""),
            ("life_time", "5m", "\"lifetime\""),
            ("grace-mode", "resume", "\"grace_mode\""),
            ("grace_mode", "resum", "\"resume\""),
            ("on_limit", "end_oldes", "\"end_oldest\""),
        ] {
            let fault = set(&mut Policy::new(), word, value).unwrap_err();
            assert!(fault.message.contains(&format!("did you mean {meant}")), "{}", fault.message);
        }
    }

    #[test]
    fn a_word_like_no_other_gets_the_whole_list() {
        let fault = set(&mut Policy::new(), "colour", "blue").unwrap_err();
        assert!(fault.message.contains("idle, lifetime, grace"), "{}", fault.message);
    }
}

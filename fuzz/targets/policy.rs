//! Policies as `--policy` and as files: what is read, printed and read again is the same, and an
//! error points at a place that is there.
//!
//! The first byte says which of the two the rest is.

#![no_main]

use curfew_cli::probe::{self, Fault, Policy};
use curfew_engine::{GraceMode, OnFull, OnLimit, OnMismatch, Retain};
use libfuzzer_sys::fuzz_target;

/// The words and values of a policy, all of them, also those that only say what is usual.
fn words(policy: &curfew_engine::Policy) -> [(&'static str, String); 9] {
    [
        ("idle", probe::span(policy.idle.as_millis())),
        ("lifetime", probe::span(policy.lifetime.as_millis())),
        ("grace", probe::span(policy.grace.as_millis())),
        ("grace_mode", if policy.grace_mode == GraceMode::Resume { "resume" } else { "reauth" }.into()),
        (
            "on_mismatch",
            match policy.on_mismatch {
                OnMismatch::Deny => "deny",
                OnMismatch::End => "end",
                OnMismatch::Log => "log",
            }
            .into(),
        ),
        ("max_per_subject", policy.max_per_subject.to_string()),
        (
            "on_limit",
            match policy.on_limit {
                OnLimit::Deny => "deny",
                OnLimit::EndOldest => "end_oldest",
                OnLimit::EndLeastRecent => "end_least_recent",
            }
            .into(),
        ),
        (
            "retain",
            match policy.retain {
                Retain::UntilHardLimit => "hard".into(),
                Retain::For(span) => probe::span(span.as_millis()),
            },
        ),
        ("on_full", if policy.on_full == OnFull::EvictEnded { "evict_ended" } else { "refuse" }.into()),
    ]
}

fn as_spec(policy: &Policy) -> String {
    let words = words(&policy.limits).map(|(word, value)| format!("{word}={value}")).join(",");
    // A name that holds one of these was made of the words themselves.
    if policy.name.contains([':', '=']) { words } else { format!("{}:{words}", policy.name) }
}

/// The name that a policy can have in a file: one that was made of its words can be too long for that.
fn name(policy: &Policy) -> &str {
    if policy.name.contains([':', '=']) && policy.name.chars().count() > 64 { "words" } else { &policy.name }
}

fn as_table(policy: &Policy) -> String {
    let name: String = name(policy).chars().map(|c| format!("\\U{:08X}", u32::from(c))).collect();
    let words = words(&policy.limits).map(|(word, value)| format!("{word} = \"{value}\"\n")).concat();
    format!("[\"{name}\"]\n{words}")
}

/// What stays the same when it is said in full.
fn reads_back(policy: &Policy) {
    policy.limits.validate().expect("a policy that was taken");
    let again = probe::spec(&as_spec(policy)).expect("a policy that was printed");
    assert_eq!(again.limits, policy.limits);
    assert!(!policy.name.contains(char::is_control));
    assert!(again.name == policy.name || policy.name.contains([':', '=']));
    let again = probe::policies(&as_table(policy)).expect("a file of a policy that was printed");
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].name.as_str(), again[0].limits), (name(policy), policy.limits));
}

fn points_into(fault: &Fault, text: &str) {
    assert!(!fault.text.is_empty());
    let Some((shown, mark)) = &fault.excerpt else { return };
    let plain = |line: &str| line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    let (line, column) = fault.place.unwrap_or((1, mark.start + 1));
    let source =
        if fault.place.is_some() { text.split('\n').nth(line - 1).expect("a line that is there") } else { text };
    let whole = plain(source);
    assert!(whole.trim_end().starts_with(shown.trim_end()), "{shown:?} is not line {line}, {whole:?}");
    // One past the end is where something is missing.
    let length = source.chars().count();
    assert!((1..=length + 1).contains(&column), "column {column} of {length}");
    assert!(mark.start <= mark.end && mark.end <= shown.chars().count() + 1, "{mark:?} of {shown:?}");
    assert_eq!(mark.start + 1, column);
}

fuzz_target!(|data: &[u8]| {
    let Some((which, rest)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    if which % 2 == 0 {
        match probe::spec(&text) {
            Ok(policy) => reads_back(&policy),
            Err(fault) => points_into(&fault, &text),
        }
    } else {
        match probe::policies(&text) {
            Ok(policies) => policies.iter().for_each(reads_back),
            Err(fault) => points_into(&fault, &text),
        }
    }
});

//! The numbers of a replay, named and ordered as the JSON output has them.

use curfew_engine::GraceMode;
use serde::{Serialize, Serializer};

use super::census::rfc3339;
use super::court::Judged;
use crate::policy::Named;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// That of the program.
    pub(crate) version: &'static str,
    pub(crate) input: InputReport,
    #[serde(serialize_with = "with_ignored")]
    pub(crate) policies: Vec<PolicyReport>,
    /// As on standard error, each on one line.
    pub(crate) warnings: Vec<String>,
}

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A list has no place in a line of CSV, so the policies are written flat, and only here with theirs.
fn with_ignored<S: Serializer>(policies: &[PolicyReport], to: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Whole<'a> {
        #[serde(flatten)]
        flat: &'a PolicyReport,
        ignored: &'a [&'static str],
    }
    to.collect_seq(policies.iter().map(|flat| Whole { flat, ignored: &flat.ignored }))
}

#[derive(Debug, Serialize)]
pub(crate) struct InputReport {
    pub(crate) files: Vec<String>,
    pub(crate) format: String,
    pub(crate) key: String,
    /// What was read for the key and for the time, where fields have names.
    pub(crate) key_field: Option<String>,
    pub(crate) time_field: Option<String>,
    pub(crate) events: u64,
    pub(crate) keys: u64,
    pub(crate) unparsed: u64,
    pub(crate) nokey: u64,
    pub(crate) out_of_order: u64,
    pub(crate) first: Option<String>,
    pub(crate) last: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct PolicyReport {
    pub(crate) name: String,
    pub(crate) idle_ms: u64,
    pub(crate) lifetime_ms: u64,
    pub(crate) grace_ms: u64,
    pub(crate) grace_mode: &'static str,
    pub(crate) sessions: u64,
    pub(crate) forced_logins: u64,
    pub(crate) forced_idle: u64,
    pub(crate) forced_lifetime: u64,
    pub(crate) grace_resumes: u64,
    pub(crate) grace_prompts: u64,
    pub(crate) active_ms: u128,
    pub(crate) exposure_ms: u128,
    pub(crate) usable_ms: u128,
    pub(crate) open_at_end: u64,
    pub(crate) peak_live: u64,
    pub(crate) peak_at: Option<String>,
    /// Words of the policy that play no part.
    #[serde(skip)]
    pub(crate) ignored: Vec<&'static str>,
}

impl PolicyReport {
    pub(crate) fn new(policy: &Named, judged: &Judged) -> PolicyReport {
        let limits = &policy.limits;
        let tally = &judged.tally;
        PolicyReport {
            name: policy.name.clone(),
            idle_ms: limits.idle.as_millis(),
            lifetime_ms: limits.lifetime.as_millis(),
            grace_ms: limits.grace.as_millis(),
            grace_mode: match limits.grace_mode {
                GraceMode::Reauth => "reauth",
                GraceMode::Resume => "resume",
            },
            sessions: tally.sessions,
            forced_logins: tally.forced_idle + tally.forced_lifetime,
            forced_idle: tally.forced_idle,
            forced_lifetime: tally.forced_lifetime,
            grace_resumes: tally.grace_resumes,
            grace_prompts: tally.grace_prompts,
            active_ms: tally.active_ms,
            exposure_ms: tally.exposure_ms,
            usable_ms: tally.usable_ms,
            open_at_end: tally.open_at_end,
            peak_live: tally.peak_live,
            peak_at: judged.peak_time.map(rfc3339),
            ignored: policy.unused.clone(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Ten users under the policies.
    pub(crate) fn report(policies: Vec<PolicyReport>) -> Report {
        let input = InputReport {
            files: vec!["/var/log/a.log".into()],
            format: "combined".into(),
            key: "user".into(),
            key_field: None,
            time_field: None,
            events: 100,
            keys: 10,
            unparsed: 0,
            nokey: 0,
            out_of_order: 0,
            first: None,
            last: None,
        };
        Report { version: VERSION, input, policies, warnings: vec![] }
    }

    /// A policy with an idle timeout of 15 minutes.
    pub(crate) fn policy(name: &str, forced_logins: u64, exposure_ms: u128) -> PolicyReport {
        PolicyReport {
            name: name.into(),
            idle_ms: 900_000,
            lifetime_ms: 0,
            grace_ms: 0,
            grace_mode: "reauth",
            sessions: forced_logins + 10,
            forced_logins,
            forced_idle: forced_logins,
            forced_lifetime: 0,
            grace_resumes: 0,
            grace_prompts: 0,
            active_ms: 0,
            exposure_ms,
            usable_ms: exposure_ms,
            open_at_end: 0,
            peak_live: 1,
            peak_at: None,
            ignored: vec![],
        }
    }
}

//! One sentence for whoever decides: what does the choice cost, and what does it buy?

use super::super::report::{PolicyReport, Report};
use crate::policy::{Rough, thousands};

/// None when nothing happened.
pub(crate) fn sentence(report: &Report, length_ms: u64) -> Option<String> {
    if report.input.events == 0 {
        return None;
    }
    let strict = report.policies.iter().max_by_key(|policy| (logins(policy), std::cmp::Reverse(policy.exposure_ms)))?;
    let loose = report.policies.iter().min_by_key(|policy| (logins(policy), policy.exposure_ms))?;
    let whom = whom(report);
    let prompts = report.policies.iter().any(|policy| policy.grace_prompts > 0);
    let cost = if prompts {
        ("forced login or prompt", "forced logins and prompts")
    } else {
        ("forced login", "forced logins")
    };
    if report.policies.len() == 1 {
        return Some(alone(strict, &whom, report.input.keys, length_ms));
    }
    let (more, less) = (logins(strict), logins(loose));
    let (from, to) = (exposed(loose), exposed(strict));
    if more == less {
        let best = report.policies.iter().min_by_key(|policy| policy.exposure_ms)?;
        return Some(format!(
            "For {whom} these policies cost the same, {}; {} leaves abandoned sessions usable for the shortest time, {} in all.",
            counted(more, cost),
            best.name,
            exposed(best),
        ));
    }
    if strict.exposure_ms >= loose.exposure_ms {
        return Some(format!(
            "{} is better than {} on both counts: for {whom} it costs {} instead of {}, and abandoned sessions stay usable by somebody else for {from} in all instead of {to}.",
            loose.name,
            strict.name,
            counted(less, cost),
            thousands(more.into()),
        ));
    }
    let cut = 100 - percent(strict.exposure_ms, loose.exposure_ms);
    Some(format!(
        "{} instead of {} costs {} ({} instead of {}, {} for each of the {whom}) and buys {cut} % less time in which somebody else could use an abandoned session ({to} instead of {from} in all).",
        strict.name,
        loose.name,
        counted(more - less, (&format!("more {}", cost.0), &format!("more {}", cost.1))),
        thousands(more.into()),
        thousands(less.into()),
        each(more - less, report.input.keys),
    ))
}

fn alone(policy: &PolicyReport, whom: &str, keys: u64, length_ms: u64) -> String {
    let prompts = if policy.grace_prompts > 0 {
        format!(" (for {} of them it was enough to confirm)", thousands(policy.grace_prompts.into()))
    } else {
        String::new()
    };
    let length = Rough(length_ms.into());
    let asked = match logins(policy) {
        0 => format!("{whom} would never have been asked to log in again in {length}"),
        times => format!(
            "{whom} would have been asked to log in again {}{prompts} in {length}, {} for each",
            counted(times, ("time", "times")),
            each(times, keys),
        ),
    };
    format!(
        "Under {}, {asked}, and an abandoned session would have stayed usable by somebody else for {} on average.",
        policy.name,
        Rough(u128::from(policy.exposure_ms) / u128::from(policy.sessions.max(1))),
    )
}

/// How often somebody had to log in or prove presence again.
fn logins(policy: &PolicyReport) -> u64 {
    policy.forced_logins + policy.grace_prompts
}

fn counted(number: u64, (one, many): (&str, &str)) -> String {
    format!("{} {}", thousands(number.into()), if number == 1 { one } else { many })
}

/// How long sessions are usable after their last activity. Compared as a sum: a stricter policy makes
/// more sessions of the same use, so that its average can be shorter and more exposed all the same.
fn exposed(policy: &PolicyReport) -> Rough {
    Rough(policy.exposure_ms.into())
}

fn percent(part: u64, whole: u64) -> u128 {
    (u128::from(part) * 100 + u128::from(whole) / 2) / u128::from(whole.max(1))
}

/// `number / among` with one decimal.
fn each(number: u64, among: u64) -> String {
    let among = u128::from(among.max(1));
    let tenths = (u128::from(number) * 10 + among / 2) / among;
    if tenths == 0 && number > 0 {
        return "less than 0.1".into();
    }
    format!("{}.{}", thousands(tenths / 10), tenths % 10)
}

fn whom(report: &Report) -> String {
    let keys = report.input.keys;
    let noun = match report.input.key.as_str() {
        "ip" => ("address", "addresses"),
        "user" | "ident" => ("user", "users"),
        "ip+ua" => ("browser", "browsers"),
        "session" | "sid" | "session_id" => ("session id", "session ids"),
        _ => ("key", "keys"),
    };
    format!("{} {}", thousands(keys.into()), if keys == 1 { noun.0 } else { noun.1 })
}

#[cfg(test)]
mod tests {
    use super::super::super::report::tests::{policy, report};
    use super::*;

    fn said(policies: Vec<PolicyReport>) -> String {
        sentence(&report(policies), 86_400_000).unwrap()
    }

    #[test]
    fn the_strictest_and_the_loosest_are_set_against_each_other() {
        let text = said(vec![
            policy("loose", 10, 72_000_000),
            policy("middle", 15, 50_000_000),
            policy("strict", 30, 36_000_000),
        ]);
        assert_eq!(
            text,
            "strict instead of loose costs 20 more forced logins (30 instead of 10, 2.0 for each of the 10 users) and buys 50 % less time in which somebody else could use an abandoned session (10h instead of 20h in all)."
        );
    }

    #[test]
    fn what_is_worse_in_everything_is_called_so() {
        let text = said(vec![policy("worse", 30, 80_000_000), policy("better", 10, 60_000_000)]);
        assert!(
            text.starts_with(
                "better is better than worse on both counts: for 10 users it costs 10 forced logins instead of 30, and abandoned sessions stay usable by somebody else for 16h 40m in all instead of 22h 13m."
            ),
            "{text}"
        );
    }

    #[test]
    fn better_on_both_counts_is_so_in_the_numbers_that_are_shown() {
        // Many short sessions: on average each is exposed for less than the one long session of the other.
        let text = said(vec![policy("short", 990, 300_000_000), policy("long", 0, 9_000_000)]);
        assert!(text.contains("for 2h 30m in all instead of 3d 11h"), "{text}");
    }

    #[test]
    fn nobody_logged_out_is_said_in_words() {
        let text = said(vec![policy("only", 0, 60_000_000)]);
        assert!(text.starts_with("Under only, 10 users would never have been asked to log in again in 1d, and"));
    }

    #[test]
    fn policies_that_cost_the_same_are_told_apart_by_exposure() {
        let text = said(vec![policy("a", 1, 80_000_000), policy("b", 1, 60_000_000)]);
        assert!(text.contains("cost the same, 1 forced login; b leaves"), "{text}");
    }

    #[test]
    fn one_policy_speaks_for_itself_and_prompts_count() {
        let text = said(vec![PolicyReport { grace_prompts: 5, ..policy("only", 10, 60_000_000) }]);
        assert!(text.starts_with("Under only, 10 users would have been asked to log in again 15 times (for 5 of them it was enough to confirm) in 1d, 1.5 for each"), "{text}");
    }
}

//! One sentence for whoever decides: what does the choice cost, and what does it buy?

use super::super::report::{PolicyReport, Report};
use crate::policy::{Rough, thousands};

/// None without a policy.
pub(crate) fn sentence(report: &Report, length_ms: u64) -> Option<String> {
    let policies = &report.policies;
    let strict = policies.iter().max_by_key(|policy| (interruptions(policy), std::cmp::Reverse(policy.usable_ms)))?;
    let loose = policies.iter().min_by_key(|policy| (interruptions(policy), policy.usable_ms))?;
    let whom = whom(report);
    if policies.len() == 1 {
        return Some(alone(strict, &whom, report.input.keys, length_ms));
    }
    let (more, less) = (interruptions(strict), interruptions(loose));
    if more == less {
        return equally_often(policies, &whom);
    }
    let (from, to) = (usable(loose), usable(strict));
    let instead = instead(loose, strict);
    // What is shown alike is alike to whoever reads it.
    if from.to_string() == to.to_string() {
        return Some(format!(
            "{} is better than {}: for {whom} it costs {instead}, and abandoned sessions stay usable by somebody else for the same time, {from} in all.",
            loose.name, strict.name,
        ));
    }
    if strict.usable_ms > loose.usable_ms {
        return Some(format!(
            "{} is better than {} on both counts: for {whom} it costs {instead}, and abandoned sessions stay usable by somebody else for {from} in all instead of {to}.",
            loose.name, strict.name,
        ));
    }
    let cut = match 100 - percent(strict.usable_ms, loose.usable_ms) {
        0 => "less than 1 % less".into(),
        cut => format!("{cut} % less"),
    };
    let (noun, numbers) = if has_prompts(strict, loose) {
        (("more forced login or prompt", "more forced logins and prompts"), self::instead(strict, loose))
    } else {
        let numbers = format!("{} instead of {}", thousands(more.into()), thousands(less.into()));
        (("more forced login", "more forced logins"), numbers)
    };
    Some(format!(
        "{} instead of {} costs {} ({numbers}, {} for each of the {whom}) and buys {cut} time in which somebody else could use an abandoned session ({to} instead of {from} in all).",
        strict.name,
        loose.name,
        counted(more - less, noun),
        each(more - less, report.input.keys),
    ))
}

/// All of them interrupt as often; what is left is how, and what that is good for.
fn equally_often(policies: &[PolicyReport], whom: &str) -> Option<String> {
    let best = policies.iter().min_by_key(|policy| (policy.usable_ms, policy.forced_logins))?;
    let alike = policies.iter().all(|policy| policy.forced_logins == best.forced_logins);
    let cost = if alike {
        format!("cost the same, {}", cost(best))
    } else {
        format!("interrupt as often, {}", counted(interruptions(best), ("time", "times")))
    };
    let shown = usable(best);
    Some(if policies.iter().any(|policy| usable(policy).to_string() != shown.to_string()) {
        let how = if alike { String::new() } else { format!(", with {}", self::cost(best)) };
        format!(
            "For {whom} these policies {cost}; {} leaves abandoned sessions usable by somebody else for the shortest time, {shown} in all{how}.",
            best.name
        )
    } else if alike {
        format!(
            "For {whom} these policies {cost}, and leave abandoned sessions usable by somebody else for the same time, {shown} in all."
        )
    } else {
        let gentle = policies.iter().min_by_key(|policy| policy.forced_logins)?;
        format!(
            "For {whom} these policies {cost}, and leave abandoned sessions usable by somebody else for the same time, {shown} in all; {} has the fewest forced logins, with {}.",
            gentle.name,
            self::cost(gentle)
        )
    })
}

fn alone(policy: &PolicyReport, whom: &str, keys: u64, length_ms: u64) -> String {
    let prompts = if policy.grace_prompts > 0 {
        format!(" (for {} of them it was enough to confirm)", thousands(policy.grace_prompts.into()))
    } else {
        String::new()
    };
    let length = Rough(length_ms.into());
    let asked = match interruptions(policy) {
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
        Rough(policy.usable_ms / u128::from(left_behind(policy).max(1))),
    )
}

/// How often somebody had to log in or prove presence again.
fn interruptions(policy: &PolicyReport) -> u64 {
    policy.forced_logins + policy.grace_prompts
}

/// How often a session was left until it was over, or until it had to be confirmed.
fn left_behind(policy: &PolicyReport) -> u64 {
    policy.sessions + policy.grace_prompts
}

fn cost(policy: &PolicyReport) -> String {
    let logins = counted(policy.forced_logins, ("forced login", "forced logins"));
    match (policy.forced_logins, counted(policy.grace_prompts, ("prompt", "prompts"))) {
        _ if policy.grace_prompts == 0 => logins,
        (0, prompts) => prompts,
        (_, prompts) => format!("{logins} and {prompts}"),
    }
}

/// What the one costs, and what the other would.
fn instead(one: &PolicyReport, other: &PolicyReport) -> String {
    let other_cost = if has_prompts(one, other) { cost(other) } else { thousands(other.forced_logins.into()) };
    format!("{} instead of {other_cost}", cost(one))
}

fn has_prompts(one: &PolicyReport, other: &PolicyReport) -> bool {
    one.grace_prompts + other.grace_prompts > 0
}

fn counted(number: u64, (one, many): (&str, &str)) -> String {
    format!("{} {}", thousands(number.into()), if number == 1 { one } else { many })
}

/// How long sessions are usable after their last activity. Compared as a sum: a stricter policy makes
/// more sessions of the same use, so that its average can be shorter and more exposed all the same.
fn usable(policy: &PolicyReport) -> Rough {
    Rough(policy.usable_ms)
}

fn percent(part: u128, whole: u128) -> u128 {
    (part * 100 + whole / 2) / whole.max(1)
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
    fn policies_that_cost_the_same_are_told_apart_by_the_time_they_leave_sessions_usable() {
        let text = said(vec![policy("a", 1, 80_000_000), policy("b", 1, 60_000_000)]);
        assert!(text.contains("cost the same, 1 forced login; b leaves"), "{text}");
    }

    #[test]
    fn policies_that_do_the_same_are_not_told_apart() {
        let text = said(vec![policy("a", 3, 60_000_000), policy("b", 3, 60_000_000)]);
        assert_eq!(
            text,
            "For 10 users these policies cost the same, 3 forced logins, and leave abandoned sessions usable by somebody else for the same time, 16h 40m in all."
        );
    }

    #[test]
    fn a_prompt_is_not_called_a_forced_login() {
        let asks =
            |name, logins, prompts, usable| PolicyReport { grace_prompts: prompts, ..policy(name, logins, usable) };
        let text = said(vec![policy("hard", 9, 60_000_000), asks("soft", 7, 2, 60_000_000)]);
        assert!(
            text.contains("interrupt as often, 9 times, and")
                && text.ends_with("soft has the fewest forced logins, with 7 forced logins and 2 prompts."),
            "{text}"
        );
        let text = said(vec![policy("hard", 9, 60_000_000), asks("soft", 7, 2, 90_000_000)]);
        assert!(
            text.contains("9 times; hard leaves") && text.ends_with("16h 40m in all, with 9 forced logins."),
            "{text}"
        );
        let text = said(vec![policy("hard", 30, 80_000_000), asks("soft", 0, 2, 60_000_000)]);
        assert!(text.contains("it costs 2 prompts instead of 30 forced logins, and"), "{text}");
        let text = said(vec![asks("hard", 28, 2, 60_000_000), policy("soft", 10, 80_000_000)]);
        assert!(
            text.starts_with("hard instead of soft costs 20 more forced logins and prompts (28 forced logins and 2 prompts instead of 10 forced logins, 2.0 for each of the 10 users) and buys 25 % less time"),
            "{text}"
        );
    }

    #[test]
    fn nothing_is_called_better_in_what_is_shown_to_be_equal() {
        let text = said(vec![policy("worse", 30, 86_400_000_000), policy("better", 10, 86_400_000_007)]);
        assert!(
            text.starts_with("better is better than worse: for 10 users it costs 10 forced logins instead of 30")
                && text.ends_with("for the same time, 2y 269d in all."),
            "{text}"
        );
        let text = said(vec![policy("loose", 10, 360_000_000), policy("strict", 30, 359_900_000)]);
        assert!(text.contains("buys less than 1 % less time"), "{text}");
    }

    #[test]
    fn what_counts_is_how_long_a_session_can_be_used_and_not_when_it_is_gone() {
        // With a grace that asks, it is gone an hour later, and no longer usable for that.
        let asks = PolicyReport { usable_ms: 9_000_000, ..policy("asks", 0, 45_000_000) };
        let text = said(vec![asks]);
        assert!(text.ends_with("usable by somebody else for 15m on average."), "{text}");
    }

    #[test]
    fn one_policy_speaks_for_itself_and_prompts_count() {
        let text = said(vec![PolicyReport { grace_prompts: 5, ..policy("only", 10, 60_000_000) }]);
        assert!(text.starts_with("Under only, 10 users would have been asked to log in again 15 times (for 5 of them it was enough to confirm) in 1d, 1.5 for each"), "{text}");
    }
}

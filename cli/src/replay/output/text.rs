//! A table to be read at a glance, then what it means.

use std::path::Path;

use comfy_table::{Cell, CellAlignment, Table};
use curfew_engine::Span;
use unicode_width::UnicodeWidthStr;

use super::super::census::Census;
use super::super::report::{PolicyReport, Report};
use super::summary;
use crate::input;
use crate::policy::{self, Exact, Named, Rough, thousands};
use crate::say;

/// The width of a terminal that nobody has made wider.
const WIDTH: usize = 80;
/// A line of prose longer than this is hard to follow.
const MOST_TO_READ: usize = 100;

/// A column: its two lines of heading, and what stands in it.
struct Column {
    heading: [&'static str; 2],
    show: bool,
    cell: fn(&PolicyReport) -> String,
}

/// For standard output as it is: what goes into a file is as wide as an ordinary terminal.
pub(crate) fn render(report: &Report, census: &Census) -> String {
    let width = terminal_size::terminal_size_of(std::io::stdout()).map_or(WIDTH, |(width, _)| width.0.into());
    render_within(report, census, width)
}

fn render_within(report: &Report, census: &Census, width: usize) -> String {
    let mut text = format!("{}\n\n", wrap(&overview(report, census), width));
    let (table, labels) = widest(&report.policies, width);
    text.push_str(&format!("{table}\n"));
    let legend = legend(&report.policies, &labels);
    if !legend.is_empty() {
        text.push_str(&format!("\n{legend}"));
    }
    if let Some(sentence) = summary::sentence(report, census.length()) {
        text.push_str(&format!("\n{}\n", wrap(&sentence, width.min(MOST_TO_READ))));
    }
    text
}

/// The table with as many of the names in it as fit; the others go below it.
fn widest(policies: &[PolicyReport], width: usize) -> (String, Vec<String>) {
    let mut longest: Vec<usize> = policies.iter().map(|policy| length(&policy.name)).collect();
    longest.sort_unstable_by(|a, b| b.cmp(a));
    let tables = longest.into_iter().chain([0]).map(|longest| {
        let labels = labels(policies, longest);
        (table(policies, &labels), labels)
    });
    let fits = |table: &str| table.lines().all(|line| length(line) <= width);
    let mut last = Default::default();
    for (table, labels) in tables {
        if fits(&table) {
            return (table, labels);
        }
        last = (table, labels);
    }
    last
}

fn overview(report: &Report, census: &Census) -> String {
    let input = &report.input;
    let count = |number: u64, one: &str, many: &str| {
        format!("{} {}", thousands(number.into()), if number == 1 { one } else { many })
    };
    let mut parts = vec![
        format!("{}:", names(&input.files)),
        count(input.events, "event", "events"),
        format!(
            "of {}",
            count(input.keys, &format!("different {}", input.key), &format!("different values of {}", input.key))
        ),
    ];
    if let (Some(first), Some(last)) = (&input.first, &input.last) {
        parts.push(format!("from {first} to {last} ({})", Rough(census.length().into())));
    }
    let mut aside = Vec::new();
    for (number, what) in [(input.nokey, "without a key"), (input.unparsed, "unreadable")] {
        if number > 0 {
            aside.push(format!("{} {what}", count(number, "line", "lines")));
        }
    }
    let aside = if aside.is_empty() { String::new() } else { format!("; left out: {}", aside.join(", ")) };
    format!("{}{aside}", parts.join(" "))
}

/// The first file, without its folder, and how many more there are.
fn names(files: &[String]) -> String {
    let Some(first) = files.first() else { return String::from("no file") };
    let first = Path::new(first);
    let name = if input::is_stdin(first) {
        "standard input".into()
    } else {
        first.file_name().unwrap_or_default().to_string_lossy()
    };
    let name = say::printable(name.as_bytes());
    match files.len() - 1 {
        0 => name,
        more => format!("{name} and {} more", thousands(more as u128)),
    }
}

fn table(policies: &[PolicyReport], labels: &[String]) -> String {
    let any = |test: fn(&PolicyReport) -> bool| policies.iter().any(test);
    let both = any(|p| p.forced_lifetime > 0) && any(|p| p.forced_idle > 0);
    let columns = [
        Column { heading: ["", "sessions"], show: true, cell: |p| thousands(p.sessions.into()) },
        Column { heading: ["forced", "logins"], show: true, cell: |p| thousands(p.forced_logins.into()) },
        Column { heading: ["by", "lifetime"], show: both, cell: |p| thousands(p.forced_lifetime.into()) },
        Column {
            heading: ["in", "grace"],
            show: any(|p| p.grace_ms > 0),
            cell: |p| thousands((p.grace_resumes + p.grace_prompts).into()),
        },
        Column { heading: ["time", "in use"], show: true, cell: |p| Rough(p.active_ms).to_string() },
        Column { heading: ["time", "exposed"], show: true, cell: |p| Rough(p.exposure_ms).to_string() },
        Column {
            heading: ["time", "usable"],
            show: any(|p| p.usable_ms != p.exposure_ms),
            cell: |p| Rough(p.usable_ms).to_string(),
        },
        Column { heading: ["live at", "peak"], show: true, cell: |p| thousands(p.peak_live.into()) },
    ];
    let columns: Vec<&Column> = columns.iter().filter(|column| column.show).collect();

    let mut table = Table::new();
    table.load_preset("     --            ");
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let heading = columns.iter().map(|column| right(column.heading.join("\n")));
    table.set_header(std::iter::once(Cell::new("\npolicy")).chain(heading));
    for (policy, label) in policies.iter().zip(labels) {
        let cells = columns.iter().map(|column| right((column.cell)(policy)));
        table.add_row(std::iter::once(Cell::new(label)).chain(cells));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
    }
    table.trim_fmt()
}

/// Names, or numbers for those that are too long for a column.
fn labels(policies: &[PolicyReport], longest: usize) -> Vec<String> {
    let label = |(name, number): (&String, u32)| {
        if length(name) <= longest { name.clone() } else { format!("({number})") }
    };
    policies.iter().map(|policy| &policy.name).zip(1..).map(label).collect()
}

/// What is behind each label that does not say it itself.
fn legend(policies: &[PolicyReport], labels: &[String]) -> String {
    let behind = |(policy, label): (&PolicyReport, &String)| match (policy.name == *label, says_its_limits(policy)) {
        (true, true) => None,
        (true, false) => Some(limits(policy)),
        (false, true) => Some(policy.name.clone()),
        (false, false) => Some(format!("{}: {}", policy.name, limits(policy))),
    };
    let entries = policies.iter().zip(labels).filter_map(|both| Some((both.1, behind(both)?)));
    let entries: Vec<_> = entries.collect();
    let column = entries.iter().map(|(label, _)| length(label)).max().unwrap_or(0);
    let padding = |label: &str| " ".repeat(column - length(label));
    entries.iter().map(|(label, text)| format!("{label}{}  {text}\n", padding(label))).collect()
}

/// Whether the name is what one would type for these limits.
fn says_its_limits(policy: &PolicyReport) -> bool {
    policy::gather(std::slice::from_ref(&policy.name), None).is_ok_and(|read| {
        let [Named { limits, .. }] = &read[..] else { return false };
        let said = [limits.idle, limits.lifetime, limits.grace].map(Span::as_millis);
        said == [policy.idle_ms, policy.lifetime_ms, policy.grace_ms]
    })
}

/// The limits of a policy as they would be typed.
fn limits(policy: &PolicyReport) -> String {
    let mut words: Vec<String> =
        [("idle", policy.idle_ms), ("lifetime", policy.lifetime_ms), ("grace", policy.grace_ms)]
            .into_iter()
            .filter(|(_, ms)| *ms > 0)
            .map(|(word, ms)| format!("{word}={}", Exact(ms)))
            .collect();
    if policy.grace_ms > 0 {
        words.push(format!("grace_mode={}", policy.grace_mode));
    }
    words.join(",")
}

/// Breaks a text at spaces, at most `width` columns a line.
fn wrap(text: &str, width: usize) -> String {
    let mut wrapped = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        let length = length(word);
        if column > 0 && column + 1 + length > width {
            wrapped.push('\n');
            column = 0;
        } else if column > 0 {
            wrapped.push(' ');
            column += 1;
        }
        wrapped.push_str(word);
        column += length;
    }
    wrapped
}

/// Columns of a terminal.
fn length(text: &str) -> usize {
    text.width()
}

#[cfg(test)]
mod tests {
    use super::super::super::report::tests::{policy, report};
    use super::*;

    fn shown(width: usize, names: &[&str]) -> String {
        let policies =
            names.iter().zip(1..).map(|(name, n)| policy(name, 1000 * n, u128::from(90_000_000 * n))).collect();
        render_within(&report(policies), &Census::default(), width)
    }

    #[test]
    fn a_name_stands_in_the_table_when_there_is_room_and_below_it_when_not() {
        let long = "a-name-of-a-policy-that-is-forty-letters";
        let narrow = shown(80, &["short", long]);
        assert!(narrow.contains("\n(2) ") && narrow.contains(&format!("\n(2)    {long}: idle=15m\n")), "{narrow}");
        assert!(narrow.contains("\nshort  idle=15m\n"), "{narrow}");
        let wide = shown(100, &["short", long]);
        assert!(!wide.contains("(2)") && wide.contains(&format!("\n{long} ")), "{wide}");
    }

    #[test]
    fn wide_characters_take_the_room_that_they_take_in_a_terminal() {
        // Fewer characters than there is room for, and more columns.
        let wide = "設定".repeat(12);
        let text = shown(80, &[&wide, "月", "short"]);
        assert!(text.lines().all(|line| length(line) <= 80), "{text}");
        assert!(text.contains(&format!("\n(1)    {wide}: idle=15m\n月     idle=15m\nshort  idle=15m\n")), "{text}");
    }

    #[test]
    fn no_line_of_text_is_wider_than_the_terminal() {
        for width in [70, 80, 200] {
            let text = shown(width, &["staff", "staff-grace", "a-name-of-a-policy-that-is-forty-letters"]);
            assert!(text.lines().all(|line| length(line) <= width), "{width}: {text}");
        }
    }
}

//! A table to be read at a glance, then what it means.

use comfy_table::{Cell, CellAlignment, Table};
use curfew_engine::Span;

use super::super::census::Census;
use super::super::report::{PolicyReport, Report};
use super::summary;
use crate::policy::{self, Exact, Named, Rough, thousands};

/// The width of a terminal that nobody has made wider.
const WIDTH: usize = 80;
/// Widths for the names; those that are longer go below the table. The first that keeps the table
/// within the terminal is taken.
const NAME_WIDTHS: [usize; 4] = [24, 16, 12, 8];

/// A column: its two lines of heading, and what stands in it.
struct Column {
    heading: [&'static str; 2],
    show: bool,
    cell: fn(&PolicyReport) -> String,
}

pub(crate) fn render(report: &Report, census: &Census) -> String {
    let mut text = format!("{}\n\n", overview(report, census));
    let tables = NAME_WIDTHS.map(|name_width| {
        let labels = labels(&report.policies, name_width);
        (table(&report.policies, &labels), labels)
    });
    let fits = tables.iter().find(|(table, _)| table.lines().all(|line| line.chars().count() <= WIDTH));
    let (table, labels) = fits.unwrap_or(&tables[NAME_WIDTHS.len() - 1]);
    text.push_str(&format!("{table}\n"));
    let legend = legend(&report.policies, labels);
    if !legend.is_empty() {
        text.push_str(&format!("\n{legend}"));
    }
    if let Some(sentence) = summary::sentence(report, census.length()) {
        text.push_str(&format!("\n{}\n", wrap(&sentence, WIDTH)));
    }
    text
}

fn overview(report: &Report, census: &Census) -> String {
    let input = &report.input;
    let count = |number: u64, one: &str, many: &str| {
        format!("{} {}", thousands(number.into()), if number == 1 { one } else { many })
    };
    let mut parts = vec![
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
    wrap(&format!("{}{aside}", parts.join(" ")), WIDTH)
}

fn table(policies: &[PolicyReport], labels: &[String]) -> String {
    let any = |test: fn(&PolicyReport) -> bool| policies.iter().any(test);
    let both = any(|p| p.forced_lifetime > 0) && any(|p| p.forced_idle > 0);
    let columns = [
        Column { heading: ["", "sessions"], show: true, cell: |p| thousands(p.sessions.into()) },
        Column { heading: ["forced", "logins"], show: true, cell: |p| thousands(p.forced_logins.into()) },
        Column { heading: ["by", "idle"], show: both, cell: |p| thousands(p.forced_idle.into()) },
        Column { heading: ["by", "lifetime"], show: both, cell: |p| thousands(p.forced_lifetime.into()) },
        Column {
            heading: ["in", "grace"],
            show: any(|p| p.grace_ms > 0),
            cell: |p| thousands((p.grace_resumes + p.grace_prompts).into()),
        },
        Column { heading: ["time", "in use"], show: true, cell: |p| Rough(p.active_ms.into()).to_string() },
        Column { heading: ["time", "exposed"], show: true, cell: |p| Rough(p.exposure_ms.into()).to_string() },
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
fn labels(policies: &[PolicyReport], width: usize) -> Vec<String> {
    let label = |(name, number): (&String, u32)| {
        if name.chars().count() <= width { name.clone() } else { format!("({number})") }
    };
    policies.iter().map(|policy| &policy.name).zip(1..).map(label).collect()
}

/// What is behind each label that does not say it itself.
fn legend(policies: &[PolicyReport], labels: &[String]) -> String {
    let mut text = String::new();
    for (policy, label) in policies.iter().zip(labels) {
        let named = policy.name == *label;
        let limits = limits(policy);
        match (named, says_its_limits(policy)) {
            (true, true) => {}
            (true, false) => text.push_str(&format!("{label}  {limits}\n")),
            (false, true) => text.push_str(&format!("{label}  {}\n", policy.name)),
            (false, false) => text.push_str(&format!("{label}  {}: {limits}\n", policy.name)),
        }
    }
    text
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

/// Breaks a text at spaces, at most `width` characters a line.
fn wrap(text: &str, width: usize) -> String {
    let mut wrapped = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
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

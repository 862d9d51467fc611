//! The result, for people and for machines.

mod csv;
mod summary;
mod text;

use clap::ValueEnum;

use super::census::Census;
use super::report::Report;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table, and one sentence that says what it means
    Text,
    /// One object with everything
    Json,
    /// One line for each policy
    Csv,
}

pub(crate) fn render(format: Format, report: &Report, census: &Census) -> String {
    match format {
        Format::Text => text::render(report, census),
        Format::Json => json(report),
        Format::Csv => csv::render(report),
    }
}

fn json(report: &Report) -> String {
    // A report is numbers and text, which always have a JSON form.
    let mut text = serde_json::to_string_pretty(report).unwrap_or_default();
    text.push('\n');
    text
}

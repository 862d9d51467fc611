//! What people read, and what machines read.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Result;

/// The middle of some figures, and how far apart they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of at least one figure.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Spread {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Spread { median: f64::midpoint(low, high), min: sorted[0], max: sorted[sorted.len() - 1] }
    }

    #[must_use]
    pub fn json(&self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }
}

/// A Markdown table whose columns line up; all but the first are flush right.
#[must_use]
pub fn markdown(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = head.iter().enumerate().map(|(n, head)| width(n).max(head.chars().count())).collect();
    let mut table = String::new();
    let mut line = |cells: &[&str]| {
        for (nth, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let _ = if nth == 0 { write!(table, "| {cell:<width$} ") } else { write!(table, "| {cell:>width$} ") };
        }
        table.push_str("|\n");
    };
    line(head);
    let rule = |(nth, width): (usize, &usize)| match nth {
        0 => "-".repeat(*width),
        _ => format!("{}:", "-".repeat(width.saturating_sub(1))),
    };
    let rules: Vec<_> = widths.iter().enumerate().map(rule).collect();
    line(&rules.iter().map(String::as_str).collect::<Vec<_>>());
    for row in rows {
        line(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
    table
}

/// `12,345,678`.
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Milliseconds to a tenth.
#[must_use]
pub fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// What it ran on, as far as that decides the figures.
#[must_use]
pub fn machine() -> Value {
    let first = |path: &str, word: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(word)).unwrap_or_default().to_owned();
        line.rsplit(':').next().unwrap_or_default().trim().to_owned()
    };
    json!({
        "cpu": first("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": first("/proc/sys/kernel/osrelease", ""),
        "load": first("/proc/loadavg", ""),
    })
}

/// Memory of this process that is in use, in bytes.
#[must_use]
pub fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}

/// Prints where it ran and the table, and writes the figures to a file if one is named.
///
/// # Errors
/// When the file cannot be written.
pub fn publish(text: &str, what: &str, figures: &Value, file: Option<&Path>) -> Result<()> {
    let machine = machine();
    let word = |name: &str| machine[name].as_str().unwrap_or_default().to_owned();
    println!("{}, {} cores, Linux {}, load {}\n", word("cpu"), machine["cores"], word("kernel"), word("load"));
    println!("{text}");
    if let Some(file) = file {
        let whole = json!({ "what": what, "machine": machine, "figures": figures });
        std::fs::write(file, format!("{whole:#}\n")).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(Spread::of([4.0, 1.0, 3.0, 2.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of([5.0]), Spread { median: 5.0, min: 5.0, max: 5.0 });
    }

    #[test]
    fn a_table_lines_up() {
        let table = markdown(&["a", "bcd"], &[vec!["long".into(), "1".into()]]);
        assert_eq!(table, "| a    | bcd |\n| ---- | --: |\n| long |   1 |\n");
    }

    #[test]
    fn digits_come_in_threes() {
        assert_eq!([1, 123, 1234, 1_234_567].map(thousands), ["1", "123", "1,234", "1,234,567"]);
    }
}

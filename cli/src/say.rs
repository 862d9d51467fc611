//! What the command says to the person, on standard error. Nobody listening is no reason to fail.

use std::fmt::Display;
use std::io::Write;
use std::path::Path;

pub(crate) fn note(message: impl Display) {
    line("note", message);
}

pub(crate) fn warn(message: impl Display) {
    line("warning", message);
}

pub(crate) fn error(message: impl Display) {
    line("error", message);
}

fn line(kind: &str, message: impl Display) {
    let _ = writeln!(std::io::stderr(), "curfew: {kind}: {}", harmless(&message.to_string()));
}

/// A message is indented from its second line on. Names of files and fields in it may hold anything, and
/// shall not command the terminal.
fn harmless(message: &str) -> String {
    let text: String = message.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect();
    text.replace('\n', "\n    ")
}

/// A file's name as a shell takes it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    // What begins with a dash would be taken for an option.
    let front = if text.starts_with('-') { "./" } else { "" };
    match text.chars().all(plain) && !text.is_empty() {
        true => format!("{front}{text}"),
        false => format!("'{front}{}'", text.replace('\'', r"'\''")),
    }
}

/// Bytes from a log, safe to show in a terminal and not longer than a line.
pub(crate) fn printable(bytes: &[u8]) -> String {
    const MOST: usize = 40;
    let text = String::from_utf8_lossy(bytes);
    let mut shown: String = text.chars().take(MOST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_message_cannot_command_the_terminal_either() {
        assert_eq!(harmless("cannot open \x1b[2J\r\nat all"), "cannot open \u{fffd}[2J\u{fffd}\n    at all");
    }

    #[test]
    fn a_name_is_quoted_when_a_shell_would_take_it_apart() {
        for (name, quoted_name) in [
            ("/var/log/a-1.log", "/var/log/a-1.log"),
            ("my log", "'my log'"),
            ("it's", r"'it'\''s'"),
            ("-n", "./-n"),
            ("-n x", "'./-n x'"),
            ("$(reboot)", "'$(reboot)'"),
        ] {
            assert_eq!(quoted(Path::new(name)), quoted_name);
        }
    }

    #[test]
    fn what_a_log_says_cannot_command_the_terminal() {
        assert_eq!(printable(b"ok\x1b[2J"), "ok\u{fffd}[2J");
        assert_eq!(printable(&[b'a'; 50]).chars().count(), 41);
        assert_eq!(harmless("\"\x1b[2J\" is\nno word"), "\"\u{fffd}[2J\" is\n    no word");
    }
}

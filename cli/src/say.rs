//! What the command says to the person, on standard error. Nobody listening is no reason to fail.

use std::fmt::Display;
use std::io::Write;

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
    let _ = writeln!(std::io::stderr(), "{}", spelt(kind, message));
}

/// Messages quote what somebody wrote into a policy, a log or a file name.
fn spelt(kind: &str, message: impl Display) -> String {
    let mut text = format!("curfew: {kind}: ");
    for letter in message.to_string().chars() {
        match letter {
            '\n' => text.push_str("\n    "),
            letter if letter.is_control() => text.push('\u{fffd}'),
            letter => text.push(letter),
        }
    }
    text
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
    fn what_a_log_says_cannot_command_the_terminal() {
        assert_eq!(printable(b"ok\x1b[2J"), "ok\u{fffd}[2J");
        assert_eq!(printable(&[b'a'; 50]).chars().count(), 41);
        assert_eq!(spelt("error", "\"\x1b[2J\" is\nno word"), "curfew: error: \"\u{fffd}[2J\" is\n    no word");
    }
}

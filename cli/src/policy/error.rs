//! What can be wrong with a policy, with the place drawn under it.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyError {
    /// A `--policy`.
    #[error("--policy: {message}\n{excerpt}")]
    Spec { message: String, excerpt: Excerpt },

    /// A word in a file of policies.
    #[error("{}:{line}:{column}: {message}\n{excerpt}", path.display())]
    File { path: PathBuf, line: usize, column: usize, message: String, excerpt: Excerpt },

    #[error("cannot read the policies in {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },

    #[error("{} holds no policies; write one table for each, like\n    [staff]\n    idle = \"15m\"", path.display())]
    NoPolicies { path: PathBuf },

    #[error("two policies are called \"{name}\": {first} and {second}; give one of them another name")]
    Duplicate { name: String, first: String, second: String },
}

/// One line of source with a mark under the part that is meant.
#[derive(Debug)]
pub(crate) struct Excerpt {
    /// Line number to print in front; none for a `--policy`.
    number: Option<usize>,
    pub(crate) text: String,
    /// Characters, not bytes.
    pub(crate) mark: Range<usize>,
}

impl Excerpt {
    pub(crate) fn new(number: Option<usize>, line: &str, bytes: Range<usize>) -> Excerpt {
        let chars = |end: usize| line.get(..end.min(line.len())).map_or(0, |part| part.chars().count());
        let mark = chars(bytes.start)..chars(bytes.end);
        // A control character would shift the mark, or do worse to a terminal.
        let text = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        Excerpt { number, text, mark }
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let front = self.number.map_or(String::from("    "), |number| format!("{number:>5} | "));
        let blank = self.number.map_or(String::from("    "), |_| format!("{:>5} | ", ""));
        writeln!(f, "{front}{}", self.text)?;
        let width = self.mark.len().max(1);
        write!(f, "{blank}{:start$}{}", "", "^".repeat(width), start = self.mark.start)
    }
}

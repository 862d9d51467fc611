//! A bar on the terminal while a long log is read; nothing when nobody watches.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

use crate::input::Input;

/// Lines between two looks at how far the input has come.
const STRIDE: u32 = 1 << 15;

pub(crate) struct Progress {
    bar: ProgressBar,
    bytes: Arc<AtomicU64>,
    lines: u32,
}

impl Progress {
    pub(crate) fn of(input: &Input, quiet: bool) -> Progress {
        let bar = if quiet || !std::io::stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            let (bar, template) = match input.total_bytes() {
                Some(total) => {
                    (ProgressBar::new(total), "reading {bar:30} {percent:>3} %  {binary_bytes_per_sec}  {eta} left")
                }
                None => (ProgressBar::no_length(), "reading {binary_bytes}  {binary_bytes_per_sec}"),
            };
            // The templates are constants; a default bar would do as well.
            bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
        };
        Progress { bar, bytes: input.progress(), lines: 0 }
    }

    pub(crate) fn line(&mut self) {
        self.lines += 1;
        if self.lines == STRIDE {
            self.lines = 0;
            self.bar.set_position(self.bytes.load(Ordering::Relaxed));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

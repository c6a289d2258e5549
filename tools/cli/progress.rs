//! A progress bar on stderr for long work. It is shown only on a terminal, and only after a second.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::messages;

const PATIENCE: Duration = Duration::from_secs(1);

/// Progress through a number of bytes, known or unknown.
pub struct Progress {
    total_bytes: Option<u64>,
    what: &'static str,
    began: Instant,
    wanted: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Starts counting; nothing is shown yet.
    pub fn new(what: &'static str, total_bytes: Option<u64>) -> Progress {
        let wanted = io::stderr().is_terminal() && !messages::is_quiet();
        Progress { total_bytes, what, began: Instant::now(), wanted, bar: None }
    }

    /// Sets how many bytes are done. Call it once per read, not once per record.
    pub fn at(&mut self, done_bytes: u64) {
        if !self.wanted {
            return;
        }
        if self.bar.is_none() {
            if self.began.elapsed() < PATIENCE {
                return;
            }
            self.bar = Some(bar(self.what, self.total_bytes, self.began.elapsed()));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done_bytes);
        }
    }

    /// Hides the bar while `print` prints a message.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &'static str, total_bytes: Option<u64>, elapsed: Duration) -> ProgressBar {
    let (bar, template) = match total_bytes {
        Some(total) => (
            ProgressBar::new(total),
            "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {msg} {bytes} {bytes_per_sec}"),
    };
    // The template is a valid constant. If it were not, a plain bar would do.
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style).with_message(what).with_elapsed(elapsed)
}

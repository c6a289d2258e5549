//! A bar on stderr for long work: on a terminal only, and only once it has taken a second.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::messages;

const PATIENCE: Duration = Duration::from_secs(1);

/// Progress through a known number of bytes, or an unknown one.
pub struct Progress {
    total_bytes: Option<u64>,
    what: &'static str,
    began: Instant,
    wanted: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins; nothing is shown yet.
    pub fn new(what: &'static str, total_bytes: Option<u64>) -> Progress {
        let wanted = io::stderr().is_terminal() && !messages::is_quiet();
        Progress { total_bytes, what, began: Instant::now(), wanted, bar: None }
    }

    /// Says how many bytes are done. Cheap, but not free: once a read, not once a record.
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

    /// Prints a message without tearing the bar.
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
    // The template is ours and right; a plain bar would do as well.
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style).with_message(what).with_elapsed(elapsed)
}

//! Draws on the terminal and restores it afterwards.
//!
//! Only changes are sent. The terminal is restored however the program ends, except by SIGKILL: on
//! drop, and in a panic hook, because a release build does not unwind.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Mutex, Once};

use deepwater::os::terminal::{self, Keys};

use crate::cli::out::{Error, Out};

/// Switch to the alternate screen, hide the cursor, disable wrapping at the right edge, clear.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const LEAVE: &str = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";
/// The size to assume if the terminal does not tell its own.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// What to restore, if anything.
static UNDO: Mutex<Option<Undo>> = Mutex::new(None);

struct Undo {
    terminal: OwnedFd,
    keys: Option<Keys>,
}

fn leave() {
    let undo = UNDO.lock().unwrap_or_else(|e| e.into_inner()).take();
    if let Some(undo) = undo {
        // Ignore the error: a terminal that is gone needs no restoring.
        let _ = nix::unistd::write(&undo.terminal, LEAVE.as_bytes());
        undo.keys.into_iter().for_each(Keys::restore);
    }
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Normal text.
    Plain,
    /// Column titles.
    Title,
    /// Text about something that is wrong.
    Alarm,
}

impl Style {
    fn begin(self, colored: bool) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Title => "\x1b[7m",
            Style::Alarm if colored => "\x1b[31m",
            Style::Alarm => "\x1b[1m",
        }
    }
}

/// A line: its style and its text. Each character is one column wide.
pub type Line = (Style, String);

/// A terminal that is being drawn on.
pub struct Screen<'a> {
    out: &'a mut Out,
    size: (usize, usize),
    shown: Vec<Line>,
    colored: bool,
}

impl Screen<'_> {
    /// Starts drawing on `out`. Keys come from `input`, if it is a terminal.
    ///
    /// # Errors
    /// If the terminal settings cannot be changed.
    pub fn open<'a>(out: &'a mut Out, input: Option<BorrowedFd<'_>>) -> anyhow::Result<Screen<'a>> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let usual = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                leave();
                usual(panic);
            }));
        });
        let terminal = out.as_fd().try_clone_to_owned()?;
        out.draw();
        let keys = input.map(Keys::take).transpose()?;
        *UNDO.lock().unwrap_or_else(|e| e.into_inner()) = Some(Undo { terminal, keys });
        let colored = crate::cli::color::on_stdout();
        let mut screen = Screen { out, size: USUAL_SIZE, shown: Vec::new(), colored };
        screen.send(ENTER)?;
        screen.fit();
        Ok(screen)
    }

    /// Returns columns and rows.
    pub fn size(&self) -> (usize, usize) {
        self.size
    }

    /// Reads the terminal's size. If it changed, everything is drawn again.
    pub fn fit(&mut self) {
        let size = terminal::size(self.out.as_fd()).unwrap_or(USUAL_SIZE);
        if size != self.size {
            self.size = size;
            self.shown.clear();
        }
    }

    /// Shows these lines from the top. Unchanged parts are not sent.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn draw(&mut self, lines: &[Line]) -> Result<(), Error> {
        let mut text = String::new();
        if self.shown.is_empty() {
            text.push_str("\x1b[2J");
        }
        let rows = lines.len().max(self.shown.len()).min(self.size.1);
        let none = (Style::Plain, String::new());
        for row in 0..rows {
            let (new, old) = (lines.get(row).unwrap_or(&none), self.shown.get(row));
            put_line(&mut text, row, new, old.unwrap_or(&none), self.colored);
        }
        self.shown = lines.to_vec();
        if text.is_empty() { Ok(()) } else { self.send(&text) }
    }

    fn send(&mut self, text: &str) -> Result<(), Error> {
        self.out.put(text.as_bytes())?;
        self.out.flush()
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        leave();
    }
}

/// Appends what turns row `row` from `old` into `new`: the text after their common beginning.
fn put_line(text: &mut String, row: usize, new: &Line, old: &Line, colored: bool) {
    use std::fmt::Write as _;
    if new == old {
        return;
    }
    let same = match new.0 == old.0 {
        true => new.1.chars().zip(old.1.chars()).take_while(|(a, b)| a == b).count(),
        false => 0,
    };
    let rest: String = new.1.chars().skip(same).collect();
    let style = new.0.begin(colored);
    let _ = write!(text, "\x1b[{};{}H{style}{rest}", row + 1, same + 1);
    text.push_str(if style.is_empty() { "" } else { "\x1b[0m" });
    if new.1.chars().count() < old.1.chars().count() {
        text.push_str("\x1b[K");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::File;
    use std::io::Read as _;

    use nix::pty::openpty;
    use nix::sys::termios::tcgetattr;

    use super::*;

    #[test]
    fn a_panic_restores_the_terminal() {
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let slave = File::from(pty.slave);
        let mut out = Out::to_file(slave.try_clone().unwrap());
        let mut screen = Screen::open(&mut out, Some(slave.as_fd())).unwrap();
        screen.draw(&[(Style::Plain, "a line".to_owned())]).unwrap();
        assert_ne!(tcgetattr(&slave).unwrap(), before);
        // This tests the hook alone: without unwinding, nothing would be dropped.
        let panicked = std::thread::spawn(|| panic!("as a test")).join();
        assert!(panicked.is_err());
        assert_eq!(tcgetattr(&slave).unwrap(), before);
        let mut sent = [0; 4096];
        let n = File::from(pty.master).read(&mut sent).unwrap();
        let sent = String::from_utf8_lossy(&sent[..n]).into_owned();
        assert!(
            sent.starts_with(ENTER) && sent.contains("a line") && sent.ends_with(LEAVE),
            "{sent:?}"
        );
    }

    fn sent(new: &str, old: &str) -> String {
        let mut text = String::new();
        let line = |text: &str| (Style::Plain, text.to_owned());
        put_line(&mut text, 2, &line(new), &line(old), false);
        text
    }

    #[test]
    fn only_changes_are_sent() {
        assert_eq!(sent("trades 10", "trades 10"), "");
        assert_eq!(sent("trades 11", "trades 10"), "\x1b[3;9H1");
        assert_eq!(sent("trades", "trades 10"), "\x1b[3;7H\x1b[K");
        assert_eq!(sent("▁▂▃ 1", "▁▂▂ 1"), "\x1b[3;3H▃ 1");
        let mut text = String::new();
        let (old, new) = ((Style::Plain, "x".to_owned()), (Style::Alarm, "x".to_owned()));
        put_line(&mut text, 0, &new, &old, true);
        assert_eq!(text, "\x1b[1;1H\x1b[31mx\x1b[0m");
    }
}

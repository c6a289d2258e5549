//! Messages to people on stderr: `dw-cat: what happened, where, what to do`.
//!
//! A failure that does not end the tool is printed at once and remembered; [`seen_partial`] then
//! makes the exit status 1. A closed or full stderr never makes a tool fail. Each message is one
//! write, so that lines of several processes do not mix.

use std::fmt;
use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use deepwater::show;

use super::color;

static NAME: OnceLock<&'static str> = OnceLock::new();
static LEVEL: AtomicU8 = AtomicU8::new(NORMAL);
static PARTIAL: AtomicBool = AtomicBool::new(false);
static FAILED: AtomicBool = AtomicBool::new(false);

const QUIET: u8 = 0;
const NORMAL: u8 = 1;
const VERBOSE: u8 = 2;

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const PLAIN: &str = "\x1b[1m";

/// Sets the tool's name. Later calls have no effect.
pub fn start(name: &'static str) {
    let _ = NAME.set(name);
}

/// Returns the tool's name.
pub fn name() -> &'static str {
    NAME.get().copied().unwrap_or("deepwater")
}

/// Sets which messages are printed: `quiet` only errors, `verbose` notes as well.
pub fn set_level(quiet: bool, verbose: bool) {
    let level = match (quiet, verbose) {
        (true, _) => QUIET,
        (_, true) => VERBOSE,
        _ => NORMAL,
    };
    LEVEL.store(level, Ordering::Relaxed);
}

/// Whether notes are printed. Ask before computing an expensive note.
pub fn is_verbose() -> bool {
    LEVEL.load(Ordering::Relaxed) == VERBOSE
}

/// Whether warnings are suppressed.
pub fn is_quiet() -> bool {
    LEVEL.load(Ordering::Relaxed) == QUIET
}

/// Prints the error that ends the tool.
pub fn fatal(text: impl fmt::Display) {
    print(RED, text);
}

/// Prints an error after which the tool continues, even when quiet. The exit status will be 1.
pub fn partial(text: impl fmt::Display) {
    mark_partial();
    print(RED, text);
}

/// Prints an error of one feed; the tool continues with the others. If a limit of the process was
/// reached, the error says nothing about the feed, and the exit status will be 2.
pub fn feed_error(feed: &str, error: &deepwater::Error) {
    if error.is_limit() {
        FAILED.store(true, Ordering::Relaxed);
    }
    let remedy = error.remedy().filter(|_| error.is_limit());
    let remedy = remedy.map_or(String::new(), |remedy| format!("; {remedy}"));
    partial(format!("{feed}: {error}{remedy}"));
}

/// Whether a limit of the process was reached.
pub fn seen_limit() -> bool {
    FAILED.load(Ordering::Relaxed)
}

/// Prints why a feed's records are in doubt, and recommends dw-repair unless the text does.
pub fn doubt(feed: &str, doubt: &str) {
    let what_to_do = if doubt.contains("dw-repair") { "" } else { "; see dw-repair" };
    partial(format!("{feed}: {doubt}{what_to_do}"));
}

/// Makes the exit status 1 without a message, for example for errors beyond a rate limit.
pub fn mark_partial() {
    PARTIAL.store(true, Ordering::Relaxed);
}

/// Whether the tool has continued after an error.
pub fn seen_partial() -> bool {
    PARTIAL.load(Ordering::Relaxed)
}

/// Prints a warning, unless quiet.
pub fn warn(text: impl fmt::Display) {
    if !is_quiet() {
        print(YELLOW, text);
    }
}

/// Prints something that an option asked for, even when quiet.
pub fn say(text: impl fmt::Display) {
    print(PLAIN, text);
}

/// Prints a note, with `-v` only.
pub fn note(text: impl fmt::Display) {
    if is_verbose() {
        print(PLAIN, text);
    }
}

fn print(style: &str, text: impl fmt::Display) {
    let line = format(style, color::on_stderr(), name(), &text.to_string());
    let _ = std::io::stderr().write_all(line.as_bytes());
}

fn format(style: &str, colored: bool, name: &str, text: &str) -> String {
    let mut line = if colored { format!("{style}{name}:\x1b[0m ") } else { format!("{name}: ") };
    // Messages quote input, names and causes. These must neither control nor flood the terminal.
    for c in show::shortened(text.trim_end(), show::MESSAGE_BYTES).chars() {
        match c {
            '\n' => line.push_str("\n  "),
            '\t' => line.push('\t'),
            c => show::put(&mut line, c),
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_after_the_tools_name() {
        assert_eq!(format(RED, false, "dw-cat", "no such feed\n"), "dw-cat: no such feed\n");
        assert_eq!(format(RED, true, "dw-cat", "no"), "\x1b[1;31mdw-cat:\x1b[0m no\n");
    }

    #[test]
    fn long_messages_are_shortened() {
        let line = format(RED, false, "dw-cat", &format!("begin{}end", "x".repeat(10 << 20)));
        assert!(line.len() < show::MESSAGE_BYTES + 100);
        assert!(line.starts_with("dw-cat: beginx") && line.ends_with("xend\n"), "{line}");
    }

    #[test]
    fn control_characters_in_messages_are_escaped() {
        let text = "row 1: \"\x1b[2J\x07é\u{9b}\u{202e}\"\tnot a number\nline 2";
        assert_eq!(
            format(RED, false, "dw-write", text),
            "dw-write: row 1: \"\\x1b[2J\\x07é\\x9b\\u{202e}\"\tnot a number\n  line 2\n"
        );
    }
}

//! Colour: asked for by `--color`, refused by `NO_COLOR` and `TERM=dumb`, else a terminal's.
//! Stdout and stderr are judged apart.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU8, Ordering};

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb
    #[default]
    Auto,
    /// Even into a pipe
    Always,
    /// Not at all
    Never,
}

static CHOICE: AtomicU8 = AtomicU8::new(ColorChoice::Auto as u8);

/// Sets the choice for the rest of the program.
pub fn choose(choice: ColorChoice) {
    CHOICE.store(choice as u8, Ordering::Relaxed);
}

/// Whether to colour what goes to stdout.
pub fn on_stdout() -> bool {
    wanted(|| io::stdout().is_terminal())
}

/// Whether to colour what goes to stderr.
pub fn on_stderr() -> bool {
    wanted(|| io::stderr().is_terminal())
}

fn wanted(is_terminal: impl Fn() -> bool) -> bool {
    let choice = CHOICE.load(Ordering::Relaxed);
    if choice != ColorChoice::Auto as u8 {
        return choice == ColorChoice::Always as u8;
    }
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !refused && is_terminal()
}

//! When to use colour: as `--color` says; else only on a terminal, and not if `NO_COLOR` is set or
//! `TERM` is `dumb`. Stdout and stderr are decided separately.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU8, Ordering};

/// The values of `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set or TERM is dumb
    #[default]
    Auto,
    /// Always, even into a pipe
    Always,
    /// Never
    Never,
}

static CHOICE: AtomicU8 = AtomicU8::new(ColorChoice::Auto as u8);

/// Sets the choice for the rest of the program.
pub fn choose(choice: ColorChoice) {
    CHOICE.store(choice as u8, Ordering::Relaxed);
}

/// Whether to colour stdout.
pub fn on_stdout() -> bool {
    wanted(|| io::stdout().is_terminal())
}

/// Whether to colour stderr.
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

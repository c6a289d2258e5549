//! The tools, one folder per program, and the code they share in `cli`. No tool imports another.

pub mod cat;
pub mod cli;
pub mod gc;
pub mod health;
pub mod ls;
pub mod mkfeed;
pub mod repair;
pub mod write;

use cli::page::Page;

/// A program: its command line and its page.
pub struct Tool {
    /// The text of `--help` and the man page, apart from the options.
    pub page: &'static Page,
    /// Builds the command line.
    pub command: fn() -> clap::Command,
}

/// Every program, in the order of the README.
pub const TOOLS: &[Tool] = &[
    Tool { page: &mkfeed::args::PAGE, command: mkfeed::args::command },
    Tool { page: &write::args::PAGE, command: write::args::command },
    Tool { page: &cat::args::PAGE, command: cat::args::command },
    Tool { page: &ls::args::PAGE, command: ls::args::command },
    Tool { page: &gc::args::PAGE, command: gc::args::command },
    Tool { page: &health::args::PAGE, command: health::args::command },
    Tool { page: &repair::args::PAGE, command: repair::args::command },
];

/// Returns the command line of every program. Man pages and completions are made from them.
pub fn commands() -> Vec<clap::Command> {
    TOOLS.iter().map(|tool| (tool.command)()).collect()
}

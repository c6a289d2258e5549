//! dw-ls's command line.

use clap::{Args as _, Command};
use deepwater::text::describe::Lang;
use jiff::tz::TimeZone;

use crate::cli::args::{Common, Feeds};
use crate::cli::page::{self, Page};
use crate::cli::tz::parse_zone;

/// dw-ls's page.
pub const PAGE: Page = Page {
    name: "dw-ls",
    about: "List feeds, and what they consist of",
    usage: &["dw-ls [OPTIONS] [FEED...]"],
    description: &[
        "Lists the feeds of a store, or those named: records, oldest and newest time, records a \
         second over the last ten seconds by arrival, bytes on disk (of a ring, in memory), and \
         who writes.",
        "--gaps prints a line for each stretch between two writers, with how the first one ended \
         (ended, signal, error, crashed, power-loss), and for what was lost, unreachable, \
         repaired, collected or rejected. FROM and TO are times of arrival; what goes on has no \
         TO.",
        "--watch shows the feeds on a terminal, anew each second, until q: state, rate over the \
         last ten seconds, how far the newest record's time is behind the clock (LAG), how long \
         ago the last record came (LAST), records, how full a ring is, and what came in the last \
         30 seconds. j k, arrows, PgUp, PgDn, Home and End scroll.",
        "Times are RFC 3339 in --tz, else UTC; with --json they are raw numbers in the feed's \
         unit, and one object is printed a line.",
    ],
    examples: &[
        (
            "dw-mkfeed trades ts:timestamp price:float64\n\
             echo '{\"ts\": 1700000000000000, \"price\": 42.5}' | dw-write trades",
            "A feed to list",
        ),
        ("dw-ls", "All feeds"),
        ("dw-ls -l trades", "A feed's layout and policy"),
        ("dw-ls --chunks --sessions trades", "Its chunks, and who wrote them when"),
        ("dw-ls --gaps trades", "When nothing was being recorded, and why"),
        ("dw-ls --layout numpy trades", "Its record for another language"),
        ("dw-ls --json | jq -r 'select(.state == \"writing\").feed'", "Feeds being written"),
        ("dw-ls --names | xargs -n1 dw-cat -n 1", "The newest record of each"),
    ],
    more: &[],
    exit_status: &[
        ("0", "Done; no feeds is a fine answer."),
        ("1", "A feed's files are damaged; the others are listed."),
        ("2", "Could not: wrong usage, no store, no such feed, input or output."),
    ],
    environment: &[page::DEEPWATER_BASE, page::XDG_DATA_HOME, page::NO_COLOR],
    files: &[page::FILE_STORE],
};

/// The command line.
pub fn command() -> Command {
    PAGE.dress(Args::augment_args(Command::new(PAGE.name)))
}

/// The arguments as given.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Which feeds; none: all.
    #[command(flatten)]
    pub feeds: Feeds,
    /// Layout and policy of each feed
    #[arg(short, long, conflicts_with_all = ["layout", "names"])]
    pub long: bool,
    /// The chunks of each feed
    #[arg(long, conflicts_with_all = ["layout", "names"])]
    pub chunks: bool,
    /// The sessions of each feed, with the reason each closed, and holes in the seqs
    #[arg(long, conflicts_with_all = ["layout", "names"])]
    pub sessions: bool,
    /// When nothing was being recorded, and why; what was lost, collected, rejected
    #[arg(long, conflicts_with_all = ["layout", "names"])]
    pub gaps: bool,
    /// A live table on the terminal: rate, lag, last arrival, records; q leaves it
    #[arg(long, conflicts_with_all = ["long", "chunks", "sessions", "gaps", "json"])]
    #[arg(conflicts_with_all = ["layout", "names"])]
    pub watch: bool,
    /// The record's layout for another language: json, c, rust, numpy or arrow
    #[arg(long, value_name = "LANG", conflicts_with = "names")]
    pub layout: Option<Lang>,
    /// Bare names, a line each
    #[arg(long)]
    pub names: bool,
    /// JSON, an object a line
    #[arg(long, conflicts_with_all = ["layout", "names"])]
    pub json: bool,
    /// Zone of the times shown
    #[arg(long, value_name = "ZONE", allow_hyphen_values = true, value_parser = parse_zone)]
    pub tz: Option<TimeZone>,
    /// What all tools have.
    #[command(flatten)]
    pub common: Common,
}

impl Args {
    /// Parses the program's arguments.
    ///
    /// # Errors
    /// clap's, help among them.
    pub fn parse() -> Result<Args, clap::Error> {
        crate::cli::args::parse(command())
    }
}

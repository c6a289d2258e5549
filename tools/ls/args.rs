//! dw-ls's command line.

use clap::{Args as _, Command};
use deepwater::text::describe::Lang;
use jiff::tz::TimeZone;

use crate::cli::args::{Common, Feeds};
use crate::cli::page::{self, Page};
use crate::cli::tz::parse_zone;

/// The text of dw-ls's help and man page.
pub const PAGE: Page = Page {
    name: "dw-ls",
    about: "List feeds, their chunks, sessions and gaps",
    usage: &["dw-ls [OPTIONS] [FEED...]"],
    description: &[
        "Lists all feeds of a store, or the named ones: records, oldest and newest time, records \
         per second over the last ten seconds (by arrival), bytes on disk (for a ring, in memory), \
         and the writer.",
        "--gaps prints one line per stretch between two writers, with how the first one ended \
         (ended, signal, error, crashed, power-loss), and one per range that was lost, \
         unreachable, repaired, collected or rejected. FROM and TO are times of arrival. A gap \
         that has not ended has no TO.",
        "--watch shows the feeds on a terminal, refreshed every second, until q is pressed: state, \
         rate over the last ten seconds, how far the newest record's time is behind the clock \
         (LAG), how long ago the last record arrived (LAST), records, how full a ring is, and the \
         rate in each of the last 30 seconds. Scroll with j, k, the arrow keys, PgUp, PgDn, Home \
         and End.",
        "Times are RFC 3339 in --tz, else in UTC. With --json they are raw numbers in the feed's \
         unit, and each line is one object.",
    ],
    examples: &[
        (
            "dw-mkfeed trades ts:timestamp price:float64\n\
             echo '{\"ts\": 1700000000000000, \"price\": 42.5}' | dw-write trades",
            "Make a feed to list",
        ),
        ("dw-ls", "List all feeds"),
        ("dw-ls -l trades", "Show a feed's layout and policy"),
        ("dw-ls --chunks --sessions trades", "Show its chunks and sessions"),
        ("dw-ls --gaps trades", "Show when nothing was being recorded, and why"),
        ("dw-ls --layout numpy trades", "Show its record layout as a numpy dtype"),
        (
            "dw-ls --json | jq -r 'select(.state == \"writing\").feed'",
            "List the feeds that are being written",
        ),
        ("dw-ls --names | xargs -n1 dw-cat -n 1", "Print the newest record of each feed"),
    ],
    more: &[],
    exit_status: &[
        ("0", "Done, even if there are no feeds."),
        ("1", "Files of a feed are damaged; the other feeds are listed."),
        ("2", "Failed: wrong usage, no store, no such feed, or an I/O error."),
    ],
    environment: &[page::DEEPWATER_BASE, page::XDG_DATA_HOME, page::NO_COLOR],
    files: &[page::FILE_STORE],
};

/// Returns clap's command.
pub fn command() -> Command {
    PAGE.dress(Args::augment_args(Command::new(PAGE.name)))
}

/// The parsed arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The feeds; all if none is named.
    #[command(flatten)]
    pub feeds: Feeds,
    /// Print the layout and policy of each feed
    #[arg(short, long, conflicts_with_all = ["layout", "names"])]
    pub long: bool,
    /// Print the chunks of each feed
    #[arg(long, conflicts_with_all = ["layout", "names"])]
    pub chunks: bool,
    /// Print the sessions of each feed, why each ended, and ranges of missing seqs
    #[arg(long, conflicts_with_all = ["layout", "names"])]
    pub sessions: bool,
    /// Print when nothing was being recorded and why, and what was lost, collected or rejected
    #[arg(long, conflicts_with_all = ["layout", "names"])]
    pub gaps: bool,
    /// Show a live table on the terminal: rate, lag, last arrival, records; q quits
    #[arg(long, conflicts_with_all = ["long", "chunks", "sessions", "gaps", "json"])]
    #[arg(conflicts_with_all = ["layout", "names"])]
    pub watch: bool,
    /// Print the record's layout for another language: json, c, rust, numpy or arrow
    #[arg(long, value_name = "LANG", conflicts_with = "names")]
    pub layout: Option<Lang>,
    /// Print only the names, one per line
    #[arg(long)]
    pub names: bool,
    /// Print JSON, one object per line
    #[arg(long, conflicts_with_all = ["layout", "names"])]
    pub json: bool,
    /// Time zone of the printed times
    #[arg(long, value_name = "ZONE", allow_hyphen_values = true, value_parser = parse_zone)]
    pub tz: Option<TimeZone>,
    /// The options of every tool.
    #[command(flatten)]
    pub common: Common,
}

impl Args {
    /// Parses the program's arguments.
    ///
    /// # Errors
    /// clap's errors, which include help.
    pub fn parse() -> Result<Args, clap::Error> {
        crate::cli::args::parse(command())
    }
}

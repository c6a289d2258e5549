//! dw-gc's command line, and the request made from it.

use clap::{Args as _, Command};
use deepwater::gc::Wants;

use super::cron::Interval;
use crate::cli::args::{Common, Feeds};
use crate::cli::page::{self, Page, SIZES, Section};
use crate::cli::sizes::parse_size;

/// The text of dw-gc's help and man page.
pub const PAGE: Page = Page {
    name: "dw-gc",
    about: "Remove chunks past their feed's retention or size limit",
    usage: &[
        "dw-gc [OPTIONS] [FEED...]",
        "dw-gc [-b DIR] --install-cron [--interval MINUTES] [--min-free SIZE]",
        "dw-gc [-b DIR] --uninstall-cron",
    ],
    description: &[
        "Removes chunks of all feeds of a store, or of the named ones, oldest first: chunks that \
         arrived longer ago than the feed's retention, and as many as needed to meet its size \
         limit. With --min-free, also as many as needed to have that much disk space free. A chunk \
         that is being written counts towards the size and is never removed. Prints one line per \
         removal.",
        "A feed without a retention is kept forever: only its own size limit removes records from \
         it, never --min-free.",
        "Also finishes what an earlier run left unfinished: files of removed chunks, and feeds \
         that were only partly created or deleted.",
        "Writers and readers keep running meanwhile. A dw-cat that reaches a chunk which was just \
         removed leaves it out. If it has already printed older records, it reports this and exits \
         with status 1.",
    ],
    examples: &[
        (
            "dw-mkfeed trades ts:timestamp price:float64 --retention 30d --max-size 10GiB",
            "Make a feed that keeps 30 days and at most 10 GiB",
        ),
        ("dw-gc --dry-run", "Print what would be removed"),
        ("dw-gc", "Remove it"),
        ("dw-gc --min-free 1MiB trades", "Collect one feed, and keep at least 1 MiB free"),
        ("dw-gc --json | jq -s 'map(.bytes) | add'", "Print how many bytes were removed"),
    ],
    more: &[
        Section {
            title: "Clock jumps",
            entries: &[
                (
                    "a jump",
                    "If the clock went back since the last run, or ahead by more than 30 days, \
                     ages cannot be trusted. Nothing is collected, and the exit status is 1.",
                ),
                (
                    "recovery",
                    "Once the clock has run evenly for an hour after dw-gc first saw the jump, it \
                     is trusted again. --trust-clock trusts it at once, for example after two \
                     months without power.",
                ),
                (
                    "ages",
                    "The age of a chunk counts from when it was sealed, not from the times of its \
                     records: old data loaded yesterday is a day old. Setting the clock does not \
                     make a chunk look older until the next boot.",
                ),
            ],
        },
        Section {
            title: "Cron",
            entries: &[
                (
                    "--install-cron",
                    "Adds a line for this store to your crontab, or replaces it: run dw-gc every \
                     --interval minutes, 15 by default. The interval must divide 60 or be whole \
                     hours (120: every two hours, from midnight). The line ends in '# deepwater'; \
                     all other lines stay as they are.",
                ),
                ("--uninstall-cron", "Removes the line for this store."),
            ],
        },
        SIZES,
    ],
    exit_status: &[
        ("0", "Done, even if there was nothing to remove."),
        (
            "1",
            "Done only in part: the clock cannot be trusted, a feed is damaged, or not enough \
             space could be freed for --min-free.",
        ),
        ("2", "Failed: wrong usage, no store, no such feed, or an I/O error."),
    ],
    environment: &[page::DEEPWATER_BASE, page::XDG_DATA_HOME, page::NO_COLOR],
    files: &[
        page::FILE_STORE,
        ("deepwater.log", "In the store's directory: what was removed, and why."),
    ],
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
    /// Also remove chunks until this much disk space is free
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub min_free: Option<u64>,
    /// Print what would be removed; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON, one object per line
    #[arg(long)]
    pub json: bool,
    /// Trust the clock, even if it appears to have jumped
    #[arg(long)]
    pub trust_clock: bool,
    /// Have cron run dw-gc on this store
    #[arg(long, conflicts_with_all = ["uninstall_cron", "positional", "named", "dry_run", "json"])]
    #[arg(conflicts_with = "trust_clock")]
    pub install_cron: bool,
    /// Remove the cron line of this store
    #[arg(long, conflicts_with_all = ["positional", "named", "dry_run", "json", "min_free"])]
    #[arg(conflicts_with_all = ["trust_clock", "interval"])]
    pub uninstall_cron: bool,
    /// With --install-cron, how often to run [default: 15]
    #[arg(long, value_name = "MINUTES", requires = "install_cron")]
    pub interval: Option<Interval>,
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

    /// Returns what to collect.
    pub fn wants(&self) -> Wants {
        Wants {
            feeds: self.feeds.names().into_iter().map(str::to_owned).collect(),
            min_free_bytes: self.min_free,
            trust_clock: self.trust_clock,
        }
    }
}

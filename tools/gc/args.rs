//! dw-gc's command line, and the request it stands for.

use clap::{Args as _, Command};
use deepwater::gc::Wants;

use super::cron::Interval;
use crate::cli::args::{Common, Feeds};
use crate::cli::page::{self, Page, SIZES, Section};
use crate::cli::sizes::parse_size;

/// dw-gc's page.
pub const PAGE: Page = Page {
    name: "dw-gc",
    about: "Collect what is past its retention, or over its size",
    usage: &[
        "dw-gc [OPTIONS] [FEED...]",
        "dw-gc [-b DIR] --install-cron [--interval MINUTES] [--min-free SIZE]",
        "dw-gc [-b DIR] --uninstall-cron",
    ],
    description: &[
        "Removes chunks of the feeds of a store, or of those named, oldest first: those that \
         arrived longer ago than the feed's retention, and as many as its size limit takes. With \
         --min-free also what it takes to have so much of the disk free. A chunk that is being \
         written counts towards a size and is never removed. What goes is printed, a line each.",
        "A feed without a retention is kept forever: only a size limit of its own removes records \
         from it, never --min-free.",
        "It also ends what was begun and cut short: removed chunks whose files are still there, \
         feeds half made or half deleted.",
        "Writers and readers go on meanwhile. A dw-cat that comes to a chunk which was just \
         collected leaves it out; it says so, with exit status 1, if it has printed older records.",
    ],
    examples: &[
        (
            "dw-mkfeed trades ts:timestamp price:float64 --retention 30d --max-size 10GiB",
            "A feed that is kept for a month, and no more than 10 GiB of it",
        ),
        ("dw-gc --dry-run", "What would go"),
        ("dw-gc", "Collect"),
        ("dw-gc --min-free 1MiB trades", "The same of one feed, and see that the disk has room"),
        ("dw-gc --json | jq -s 'map(.bytes) | add'", "How many bytes went"),
    ],
    more: &[
        Section {
            title: "When the clock is wrong",
            entries: &[
                (
                    "a jump",
                    "A clock that went back since the last run, or ahead by more than 30 days, \
                     would make everything look old or new: nothing is collected, and the exit \
                     status is 1.",
                ),
                (
                    "the way on",
                    "Once the clock has run evenly for an hour since dw-gc first saw the jump, it \
                     is believed again. --trust-clock believes it at once, as after two months \
                     without power.",
                ),
                (
                    "ages",
                    "Age counts from when a chunk was sealed, not from the times in its records: \
                     old data that was loaded yesterday is a day old. Within a boot no clock that \
                     is set makes a chunk older than it is.",
                ),
            ],
        },
        Section {
            title: "Cron",
            entries: &[
                (
                    "--install-cron",
                    "Adds a line to your crontab, or changes the one that is there for this store: \
                     dw-gc every --interval minutes, 15 if not given. It must divide 60, or be \
                     whole hours (120: every two hours, from midnight). The line ends in \
                     '# deepwater'; all others stay as they are.",
                ),
                ("--uninstall-cron", "Removes the line of this store."),
            ],
        },
        SIZES,
    ],
    exit_status: &[
        ("0", "Done; nothing to remove is a fine answer."),
        (
            "1",
            "Only in part: the clock is not to be trusted, a feed is damaged, or as much as \
             --min-free asks for cannot be had.",
        ),
        ("2", "Could not: wrong usage, no store, no such feed, input or output."),
    ],
    environment: &[page::DEEPWATER_BASE, page::XDG_DATA_HOME, page::NO_COLOR],
    files: &[page::FILE_STORE, ("deepwater.log", "In the store: what was removed, and why.")],
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
    /// Collect until so much of the disk is free
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub min_free: Option<u64>,
    /// Print what would go, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// JSON, an object a line
    #[arg(long)]
    pub json: bool,
    /// The clock is right, whatever it seems
    #[arg(long)]
    pub trust_clock: bool,
    /// Have cron run dw-gc on this store
    #[arg(long, conflicts_with_all = ["uninstall_cron", "positional", "named", "dry_run", "json"])]
    #[arg(conflicts_with = "trust_clock")]
    pub install_cron: bool,
    /// Have cron leave this store alone
    #[arg(long, conflicts_with_all = ["positional", "named", "dry_run", "json", "min_free"])]
    #[arg(conflicts_with_all = ["trust_clock", "interval"])]
    pub uninstall_cron: bool,
    /// With --install-cron: how often [default: 15]
    #[arg(long, value_name = "MINUTES", requires = "install_cron")]
    pub interval: Option<Interval>,
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

    /// What is to be looked after.
    pub fn wants(&self) -> Wants {
        Wants {
            feeds: self.feeds.names().into_iter().map(str::to_owned).collect(),
            min_free_bytes: self.min_free,
            trust_clock: self.trust_clock,
        }
    }
}

//! dw-repair's command line.

use anyhow::ensure;
use clap::{Args as _, Command};

use crate::cli::args::{Common, Feeds};
use crate::cli::page::{self, Page, Section};

/// dw-repair's page.
pub const PAGE: Page = Page {
    name: "dw-repair",
    about: "Find damage, save what can be saved, name what is gone",
    usage: &[
        "dw-repair [OPTIONS] FEED...",
        "dw-repair [OPTIONS] --all",
        "dw-repair [OPTIONS] --rebuild-registry",
    ],
    description: &[
        "Checks every record against its checksum, every index against its records, the table of \
         chunks against the indexes, and the files beside them; puts right what other copies, \
         sums and records allow; and names the exact range of what is gone. The good records on \
         both sides of a damaged block stay, with the numbers they had.",
        "Nothing is thrown away: what is replaced or taken out is kept in quarantine/FEED/TIME in \
         the store's directory, and no tool deletes it. A second run finds nothing.",
        "What is found is printed, a line each, or an object with --json: feed, chunk, kind, \
         seq_lo, seq_hi (not included), since, until (not included; raw numbers in the feed's \
         unit) and action. A feed that is being written is refused; with --dry-run its finished \
         chunks are checked, without disturbing the writer.",
    ],
    examples: &[
        (
            "dw-mkfeed trades ts:timestamp price:float64\n\
             echo '{\"ts\": 1700000000000000, \"price\": 42.5}' | dw-write trades",
            "A feed to check",
        ),
        ("dw-repair --all --dry-run", "Is anything damaged? Changes nothing"),
        ("dw-repair trades", "Check a feed, and repair it"),
        (
            "dw-repair --all --json | jq -r 'select(.action == \"remove\").feed'",
            "Repair everything; which feeds lost records?",
        ),
        ("dw-repair --rebuild-registry", "The manifest and the list of feeds, from the feeds"),
    ],
    more: &[Section {
        title: "Kinds and actions",
        entries: &[
            ("block, chunk", "Records whose checksum fails, or that are not there."),
            ("data, index, marks", "Files of a chunk, while its records are there."),
            ("table, checkpoint, lease, live-page", "The feed's other files."),
            ("spec, spec-copy", "feed.json and feed.copy.json."),
            ("stray", "Files of chunks that the feed does not have."),
            ("staged", "A chunk that is in shared memory and not on disk."),
            ("unfinished", "A session whose writer died: no damage; what it left is sealed."),
            ("locks, manifest, registry", "The store's own files."),
            ("remove", "The records are gone from the feed."),
            ("rebuild", "Made again; nothing is lost by it."),
            ("move, seal, leave", "Moved to quarantine; sealed; left as it is."),
        ],
    }],
    exit_status: &[
        ("0", "Nothing is damaged; or all of it was saved."),
        ("1", "Records are gone; with --dry-run: something is damaged."),
        ("2", "Could not: wrong usage, no such feed, a feed being written, input or output."),
    ],
    environment: &[page::DEEPWATER_BASE, page::XDG_DATA_HOME, page::NO_COLOR],
    files: &[page::FILE_STORE, ("quarantine/FEED/TIME", "What a repair took out.")],
};

/// The command line.
pub fn command() -> Command {
    PAGE.dress(Args::augment_args(Command::new(PAGE.name)))
}

/// The arguments as given.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Which feeds.
    #[command(flatten)]
    pub feeds: Feeds,
    /// All feeds of the store
    #[arg(short, long, conflicts_with_all = ["positional", "named"])]
    pub all: bool,
    /// Only say what is damaged, and what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// JSON, an object a line
    #[arg(long)]
    pub json: bool,
    /// Make the manifest and the list of feeds again from the feeds' folders
    #[arg(long)]
    pub rebuild_registry: bool,
    /// Give up chunks that were staged in shared memory, where that is gone for good
    #[arg(long)]
    pub force_lost: bool,
    /// What all tools have.
    #[command(flatten)]
    pub common: Common,
}

impl Args {
    /// Parses the program's arguments.
    ///
    /// # Errors
    /// clap's, help among them; nothing to do.
    pub fn parse() -> anyhow::Result<Args> {
        let args: Args = crate::cli::args::parse(command())?;
        let asked = args.all || args.rebuild_registry || !args.feeds.names().is_empty();
        ensure!(asked, "nothing to repair: name feeds, or --all; see dw-repair --help");
        Ok(args)
    }
}

//! dw-repair's command line.

use anyhow::ensure;
use clap::{Args as _, Command};

use crate::cli::args::{Common, Feeds};
use crate::cli::page::{self, Page, Section};

/// The text of dw-repair's help and man page.
pub const PAGE: Page = Page {
    name: "dw-repair",
    about: "Find damage, repair what can be repaired, and name what is lost",
    usage: &[
        "dw-repair [OPTIONS] FEED...",
        "dw-repair [OPTIONS] --all",
        "dw-repair [OPTIONS] --rebuild-registry",
    ],
    description: &[
        "Verifies every record against its checksum, every index against its records, the table of \
         chunks against the indexes, and the other files of the feed. Repairs what copies, \
         checksums and records allow, and names the exact range of what is lost. The good records \
         on both sides of a damaged block stay, with the same seqs.",
        "Nothing is thrown away. What is replaced or taken out is kept in quarantine/FEED/TIME in \
         the store's directory, and no tool deletes it. A second run finds nothing.",
        "Prints one line per finding, or one object with --json: feed, chunk, kind, seq_lo, seq_hi \
         (excluded), since, until (excluded; raw numbers in the feed's unit) and action. A feed \
         that is being written is refused. With --dry-run its finished chunks are checked, without \
         disturbing the writer.",
    ],
    examples: &[
        (
            "dw-mkfeed trades ts:timestamp price:float64\n\
             echo '{\"ts\": 1700000000000000, \"price\": 42.5}' | dw-write trades",
            "Make a feed to check",
        ),
        ("dw-repair --all --dry-run", "Look for damage, without changing anything"),
        ("dw-repair trades", "Check and repair a feed"),
        (
            "dw-repair --all --json | jq -r 'select(.action == \"remove\").feed'",
            "Repair all feeds and print which lost records",
        ),
        ("dw-repair --rebuild-registry", "Rebuild the manifest and the list of feeds"),
    ],
    more: &[Section {
        title: "Kinds and actions",
        entries: &[
            ("block, chunk", "Records that fail their checksum or are missing."),
            ("data, index, marks", "Files of a chunk whose records are present."),
            ("table, checkpoint, lease, live-page", "The feed's other files."),
            ("spec, spec-copy", "feed.json and feed.copy.json."),
            ("stray", "Files of chunks that the feed's table does not list."),
            ("staged", "A chunk in shared memory that is not on disk."),
            (
                "unfinished",
                "A session whose writer died. This is not damage: its records are sealed.",
            ),
            ("locks, manifest, registry", "The store's own files."),
            ("remove", "The records are removed from the feed."),
            ("rebuild", "The file is written again; no records are lost."),
            ("move, seal, leave", "Moved to quarantine; sealed; left as it is."),
        ],
    }],
    exit_status: &[
        ("0", "Nothing is damaged, or everything was repaired."),
        ("1", "Records are lost. With --dry-run: something is damaged."),
        ("2", "Failed: wrong usage, no such feed, a feed that is being written, or an I/O error."),
    ],
    environment: &[page::DEEPWATER_BASE, page::XDG_DATA_HOME, page::NO_COLOR],
    files: &[page::FILE_STORE, ("quarantine/FEED/TIME", "What a repair replaced or took out.")],
};

/// Returns clap's command.
pub fn command() -> Command {
    PAGE.dress(Args::augment_args(Command::new(PAGE.name)))
}

/// The parsed arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The feeds.
    #[command(flatten)]
    pub feeds: Feeds,
    /// Check every feed of the store
    #[arg(short, long, conflicts_with_all = ["positional", "named"])]
    pub all: bool,
    /// Print what is damaged and what would be done; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON, one object per line
    #[arg(long)]
    pub json: bool,
    /// Rebuild the manifest and the list of feeds from the feeds' directories
    #[arg(long)]
    pub rebuild_registry: bool,
    /// Give up chunks that were staged in shared memory, if that memory is gone for good
    #[arg(long)]
    pub force_lost: bool,
    /// The options of every tool.
    #[command(flatten)]
    pub common: Common,
}

impl Args {
    /// Parses the program's arguments.
    ///
    /// # Errors
    /// clap's errors, which include help; also if there is nothing to do.
    pub fn parse() -> anyhow::Result<Args> {
        let args: Args = crate::cli::args::parse(command())?;
        let asked = args.all || args.rebuild_registry || !args.feeds.names().is_empty();
        ensure!(asked, "nothing to repair: name feeds, or --all; see dw-repair --help");
        Ok(args)
    }
}

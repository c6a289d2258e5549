//! dw-health's command line.

use std::time::Duration;

use clap::{ArgAction, Args as _, Command};
use deepwater::check::{Limits, MaxAge};
use deepwater::schema::check_feed_name;

use crate::cli::args::{Common, Feeds};
use crate::cli::durations::parse_duration;
use crate::cli::page::{self, Page, Section};
use crate::cli::sizes::parse_size;

/// The age that `--check-feeds` allows if none is given.
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(300);

/// The text of dw-health's help and man page.
pub const PAGE: Page = Page {
    name: "dw-health",
    about: "Check whether a store is healthy",
    usage: &["dw-health [OPTIONS] [FEED...]"],
    description: &[
        "Checks a store and its feeds, or only the named feeds, and prints one line per check: \
         state, check, feed and cause. Unhealthy lines come first. With -q, healthy lines are left \
         out, so that cron is silent while all is well.",
        "Changes nothing, takes no lock and reads no records; use dw-repair to find damaged \
         blocks. A dead writer is unhealthy until the next writer has recovered its feed. Lost \
         records are unhealthy for a day.",
        "--prometheus prints metrics for node_exporter's textfile collector. Write them to another \
         file and rename it, as the example does.",
    ],
    examples: &[
        (
            "dw-mkfeed trades ts:timestamp price:float64\n\
             dw-mkfeed daily ts:timestamp close:float64 --live no\n\
             echo '{\"ts\": 1700000000000000, \"price\": 42.5}' | dw-write trades",
            "Make two feeds to check; one of them is written once a day",
        ),
        ("dw-health --min-free 1MiB", "Check everything except whether records keep arriving"),
        (
            "dw-health --check-feeds --max-age 5m -q trades",
            "From cron: silent unless something is wrong",
        ),
        (
            "dw-health --max-age 90s --max-age trades=1h --json | jq -r .cause",
            "Allow trades an hour without records",
        ),
        (
            "dw-health --check-feeds --prometheus >dw.prom.new; mv dw.prom.new dw.prom",
            "Write metrics, replacing the old file in one step",
        ),
    ],
    more: &[CHECKS, page::SIZES],
    exit_status: &[
        ("0", "Healthy."),
        ("1", "Unhealthy: at least one check failed. Damage and unknown versions count as failed."),
        ("2", "Unknown: wrong usage, no store, no such feed, no permission."),
    ],
    environment: &[page::DEEPWATER_BASE, page::XDG_DATA_HOME, page::NO_COLOR],
    files: &[page::FILE_STORE],
};

const CHECKS: Section = Section {
    title: "Checks",
    entries: &[
        (
            "manifest, version, registry",
            "The store's own files can be read and have a known format.",
        ),
        ("disk-space", "At least --min-free is free on the store's file system."),
        ("inodes", "At least 1000 more files can be created there."),
        ("shm-space", "The same for shared memory, if feeds keep records there."),
        ("segments", "No unused segments are left in shared memory."),
        ("feed-spec, feed-registry, live-page", "The feed's own files can be read."),
        ("chunks", "The files of every chunk exist and are long enough."),
        ("ring", "The ring of a transient feed exists; shows how much history it holds."),
        ("writer", "The last writer closed the feed, or a writer is running."),
        (
            "fresh",
            "With --check-feeds or --max-age: the last record arrived within that age. For a feed \
             without records, the age counts from its creation. Feeds made with --live no are \
             checked only if --max-age names them.",
        ),
        (
            "collected",
            "dw-gc handled a feed that has a retention or a size limit within the last day, and \
             did not refuse.",
        ),
        ("backlog", "Published records become durable."),
        ("lost", "No records were lost or became unreachable in the last day."),
        ("rejects", "Rows that the current or last writer rejected. Only shown; never unhealthy."),
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
    /// Also check that records keep arriving
    #[arg(long)]
    pub check_feeds: bool,
    /// How long ago the last record may have arrived, for all feeds or for one; may be repeated;
    /// implies --check-feeds [default: 5m]
    #[arg(long, value_name = "[FEED=]AGE", action = ArgAction::Append, value_parser = parse_age)]
    pub max_age: Vec<Age>,
    /// The same for all feeds, in seconds
    #[arg(long, value_name = "N")]
    pub max_age_seconds: Option<u64>,
    /// Space that must be free
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = parse_size)]
    pub min_free: u64,
    /// Print JSON, one object per line
    #[arg(long, conflicts_with = "prometheus")]
    pub json: bool,
    /// Print metrics in Prometheus's text format
    #[arg(long)]
    pub prometheus: bool,
    /// The options of every tool.
    #[command(flatten)]
    pub common: Common,
}

/// A maximum age, for one feed or for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Age {
    feed: Option<String>,
    age: Duration,
}

fn parse_age(text: &str) -> Result<Age, String> {
    let (feed, age) = match text.split_once('=') {
        Some((feed, age)) => (Some(feed), age),
        None => (None, text),
    };
    if let Some(feed) = feed {
        check_feed_name(feed).map_err(|e| e.to_string())?;
    }
    Ok(Age { feed: feed.map(str::to_owned), age: parse_duration(age)? })
}

impl Args {
    /// Parses the program's arguments.
    ///
    /// # Errors
    /// clap's errors, which include help.
    pub fn parse() -> Result<Args, clap::Error> {
        crate::cli::args::parse(command())
    }

    /// Returns what counts as healthy.
    ///
    /// # Errors
    /// If there are two ages for all feeds.
    pub fn limits(&self) -> anyhow::Result<Limits> {
        let general = self.max_age.iter().filter(|age| age.feed.is_none()).map(|age| age.age);
        let seconds = self.max_age_seconds.map(Duration::from_secs);
        let general: Vec<Duration> = general.chain(seconds).collect();
        anyhow::ensure!(
            general.len() < 2,
            "--max-age: two ages for all feeds; give one, and FEED=AGE for those that differ"
        );
        let wanted = self.check_feeds || !self.max_age.is_empty() || seconds.is_some();
        let named = self.max_age.iter().filter_map(|age| Some((age.feed.clone()?, age.age)));
        Ok(Limits {
            min_free_bytes: self.min_free,
            max_age: wanted.then(|| MaxAge {
                default: general.first().copied().unwrap_or(DEFAULT_MAX_AGE),
                feeds: named.collect(),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ffi::OsString;

    use super::*;

    fn limits(args: &[&str]) -> Result<Limits, String> {
        let args = std::iter::once("dw-health").chain(args.iter().copied()).map(OsString::from);
        let args: Args =
            crate::cli::args::parse_from(command(), args).map_err(|e| e.to_string())?;
        args.limits().map_err(|e| e.to_string())
    }

    #[test]
    fn max_age_applies_to_all_feeds_or_to_one() {
        let ages = |args: &[&str]| {
            let ages = limits(args).unwrap().max_age;
            ages.map(|ages| {
                let feeds = ages.feeds.into_iter().map(|(name, age)| (name, age.as_secs()));
                (ages.default.as_secs(), feeds.collect::<Vec<_>>())
            })
        };
        let named = |name: &str, age| (name.to_owned(), age);
        assert_eq!(ages(&[]), None);
        assert_eq!(ages(&["--check-feeds"]), Some((300, vec![])));
        assert_eq!(ages(&["--max-age", "90s"]), Some((90, vec![])));
        assert_eq!(ages(&["--max-age-seconds", "7"]), Some((7, vec![])));
        assert_eq!(ages(&["--max-age", "a=1h"]), Some((300, vec![named("a", 3600)])));
        let mixed = ["--max-age", "a=1h", "--max-age", "1m", "--max-age=b=2s", "--check-feeds"];
        assert_eq!(ages(&mixed), Some((60, vec![named("a", 3600), named("b", 2)])));
        for (args, why) in [
            (&["--max-age", "1m", "--max-age", "2m"][..], "two ages"),
            (&["--max-age", "1m", "--max-age-seconds", "2"], "two ages"),
            (&["--max-age", "5"], "needs a unit"),
            (&["--max-age", "a b=5m"], "a b"),
            (&["--max-age", "=5m"], "name"),
            (&["--max-age-seconds", "-1"], "'-1'"),
            (&["--min-free", "1G"], "GiB"),
            (&["--json", "--prometheus"], "--prometheus"),
        ] {
            let error = limits(args).unwrap_err();
            assert!(error.contains(why), "{args:?}: {error}");
        }
    }

    #[test]
    fn min_free_defaults_to_1_gib() {
        assert_eq!(limits(&[]).unwrap().min_free_bytes, 1 << 30);
        assert_eq!(limits(&["--min-free", "0"]).unwrap().min_free_bytes, 0);
    }
}

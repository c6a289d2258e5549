//! dw-mkfeed's command line, and the request made from it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::{Args as _, Command, FromArgMatches as _, ValueEnum};
use deepwater::layout::Layout;
use deepwater::schema::{
    FeedSpec, FieldSpec, FieldType, Order, Policy, Stage, Sync, check_feed_name, file_mode,
};
use deepwater::time::TimeUnit;

use crate::cli::args::Common;
use crate::cli::bounded::read_text;
use crate::cli::durations::{parse_seconds, parse_sync};
use crate::cli::page::{self, Page, Section};
use crate::cli::sizes::parse_size;
use crate::cli::{messages, out};

use super::infer::{Choices, names_time};

/// The longest spec, in bytes.
const SPEC_LIMIT: u64 = 16 << 20;

/// The text of dw-mkfeed's help and man page.
pub const PAGE: Page = Page {
    name: "dw-mkfeed",
    about: "Create a feed, propose one from a sample, or delete feeds",
    usage: &[
        "dw-mkfeed [OPTIONS] FEED FIELD:TYPE...",
        "dw-mkfeed [OPTIONS] [FEED] --spec FILE",
        "dw-mkfeed [OPTIONS] FEED --infer < SAMPLE",
        "dw-mkfeed [OPTIONS] FEED --update",
        "dw-mkfeed [-b DIR] --delete [--yes] FEED...",
    ],
    description: &[
        "Creates a feed in a store, and the store if it does not exist. The fields come from the \
         arguments, from a JSON spec, or from a sample of the data.",
        "The time column is --ts, else the first timestamp field, else the first uint64 field with \
         the name of a time (ts, time, timestamp...).",
        "If the feed exists with the same fields, nothing changes. Different fields are refused \
         and the difference is printed; a different policy needs --update.",
        "--update changes what the options or the spec name and keeps the rest. It prints one line \
         per changed value: the feed, the name of the value, old and new value. The fields need \
         not be repeated.",
        "A spec may have up to 16 MiB, a field's name 255 bytes without control characters, its \
         desc 4096 bytes, and a duration 1000 years. At most the first 16 MiB of a sample are \
         read.",
    ],
    examples: &[
        (
            "dw-mkfeed trades ts:timestamp price:decimal64.2 size:uint32 side:char",
            "Create a feed of trades, with times in microseconds",
        ),
        (
            "dw-mkfeed trades --update --retention 30d --max-size 10GiB",
            "Change for how long and how much is kept",
        ),
        (
            "dw-mkfeed book ts:timestamp bid:float64 ask:float64 --ring=64MiB",
            "Create a feed that keeps its newest 64 MiB in shared memory only",
        ),
        (
            "printf 'ts,bid,ask\\n2024-05-01T09:30:00.1Z,10.25,10.27\\n' |\n    \
             dw-mkfeed quotes --infer --dry-run",
            "Propose a feed from a sample and print its spec",
        ),
        (
            "echo '{\"feed_name\": \"ticks\", \"ts_col\": \"ts\", \"fields\": [\n    \
             {\"name\": \"ts\", \"type\": \"uint64\"},\n    \
             {\"name\": \"px\", \"type\": \"float64\"}]}' | dw-mkfeed --spec -",
            "Create a feed from a JSON spec",
        ),
        ("dw-mkfeed --delete ticks --yes", "Delete a feed and all its records"),
    ],
    more: &[
        Section {
            title: "Types",
            entries: &[
                ("int8 int16 int32 int64 uint8 uint16 uint32 uint64", "Integers."),
                ("float32 float64", "Binary floating-point numbers (IEEE 754)."),
                (
                    "decimal64.S",
                    "Exact decimals with S digits after the point, 0 to 18, and 18 digits in \
                     total.",
                ),
                ("timestamp", "A time in the feed's unit."),
                ("char, bool", "One byte: a Latin-1 character; true or false."),
                ("stringN, bytesN", "N bytes: UTF-8 text; raw bytes, written in hex."),
                ("_N", "N bytes of padding."),
            ],
        },
        page::SIZES,
    ],
    exit_status: &[
        ("0", "Done; the feed exists, also if it existed before."),
        ("1", "The user declined to delete."),
        ("2", "Failed: wrong usage, a feed that differs, no such feed, or an I/O error."),
    ],
    environment: &[page::DEEPWATER_BASE, page::XDG_DATA_HOME, page::NO_COLOR],
    files: &[
        page::FILE_STORE,
        ("BASE/feeds/NAME/feed.json", "The spec as given, and the layout computed from it."),
    ],
};

/// Returns clap's command.
pub fn command() -> Command {
    PAGE.dress(Args::augment_args(Command::new(PAGE.name)))
}

/// The parsed arguments.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Name of the feed, then its fields as NAME:TYPE; padding is _N or _:_N
    #[arg(value_name = "FEED|FIELD:TYPE")]
    pub words: Vec<String>,
    /// Name of the feed; all positional arguments are then fields
    #[arg(long, value_name = "FEED")]
    pub feed: Option<String>,
    /// Read JSON specs from FILE, or from stdin (-): one, a list, or {"feeds": [...]}
    #[arg(long, value_name = "FILE", conflicts_with_all = ["infer", "delete"])]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub spec: Option<PathBuf>,
    /// Propose the fields from a sample on stdin: CSV or TSV with a header, or JSON lines
    #[arg(long, conflicts_with = "delete")]
    pub infer: bool,
    /// Change the policy of an existing feed
    #[arg(long, conflicts_with = "delete")]
    pub update: bool,
    /// Print the specs; create nothing
    #[arg(long, conflicts_with = "delete")]
    pub dry_run: bool,
    /// Delete the named feeds and all their records
    #[arg(long)]
    pub delete: bool,
    /// Delete without asking
    #[arg(long, requires = "delete")]
    pub yes: bool,
    /// The layout of the record.
    #[command(flatten)]
    pub layout: LayoutArgs,
    /// The policy of the feed.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// The options of every tool.
    #[command(flatten)]
    pub common: Common,
}

/// Options for the layout of the record.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Layout options")]
pub struct LayoutArgs {
    /// The time column [default: the first timestamp field]
    #[arg(long, value_name = "FIELD", conflicts_with = "delete")]
    pub ts: Option<String>,
    /// The unit of all times: us or ns [default: us]
    #[arg(long, value_name = "UNIT", conflicts_with = "delete")]
    pub time_unit: Option<TimeUnit>,
    /// Leave out alignment and the padding it needs
    #[arg(long, conflicts_with = "delete")]
    pub packed: bool,
}

/// Options for the policy. They override the spec.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Policy options")]
pub struct PolicyArgs {
    /// Size of a chunk's data, from 64KiB to 16GiB [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "delete")]
    pub chunk_size: Option<u64>,
    /// Age at which a new chunk begins [default: a day, or an eighth of a shorter retention]
    #[arg(long, value_name = "DUR", value_parser = parse_seconds, conflicts_with = "delete")]
    pub chunk_age: Option<u64>,
    /// How long to keep records after they arrive: a duration, or forever [default: forever]
    #[arg(long, value_name = "DUR", value_parser = parse_retention, conflicts_with = "delete")]
    pub retention: Option<Limit>,
    /// How many bytes to keep, including indexes: a size, or none [default: none]
    #[arg(long, value_name = "SIZE", value_parser = parse_max_size, conflicts_with = "delete")]
    pub max_size: Option<Limit>,
    /// Keep only the newest SIZE, in a ring in shared memory, 64KiB to 1TiB [default: 16MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size, conflicts_with = "delete")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "16MiB")]
    pub ring: Option<u64>,
    /// Where to write chunks: disk, or shm (shared memory, copied to disk in the background)
    #[arg(long, value_name = "STAGE", value_parser = parse_stage, conflicts_with = "delete")]
    pub stage: Option<Stage>,
    /// How long a chunk of a shm feed stays in memory after it was copied to disk [default: 0s]
    #[arg(long, value_name = "DUR", value_parser = parse_window, conflicts_with = "delete")]
    pub live_window: Option<u64>,
    /// When records become durable: every DUR, none (left to the kernel), or batch [default: 1s]
    #[arg(long, value_name = "DUR", value_parser = parse_sync, conflicts_with = "delete")]
    pub sync: Option<Sync>,
    /// What to do with a record older than an earlier one: accept, reject or clamp [default:
    /// accept]
    #[arg(long, value_name = "ORDER", value_parser = parse_order, conflicts_with = "delete")]
    pub order: Option<Order>,
    /// Whether dw-health should expect new records at all times: yes or no [default: yes]
    #[arg(long, value_name = "YES|NO", value_enum, hide_possible_values = true)]
    #[arg(conflicts_with = "delete")]
    pub live: Option<YesNo>,
    /// Mode of the feed's files, in octal [default: 0640]
    #[arg(long, value_name = "MODE", value_parser = file_mode, conflicts_with = "delete")]
    pub mode: Option<u32>,
}

/// A limit, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// No limit.
    None,
    /// Seconds or bytes.
    Of(u64),
}

impl Limit {
    fn value(self) -> Option<u64> {
        match self {
            Limit::None => None,
            Limit::Of(value) => Some(value),
        }
    }
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum YesNo {
    /// Yes.
    Yes,
    /// No.
    No,
}

fn parse_retention(text: &str) -> Result<Limit, String> {
    match text {
        "forever" => Ok(Limit::None),
        _ => parse_seconds(text).map(Limit::Of).map_err(|why| format!("{why}; or forever")),
    }
}

fn parse_max_size(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit::None),
        _ => match parse_size(text).map_err(|why| format!("{why}; or none"))? {
            0 => Err("a feed of no size; for no limit write none".to_owned()),
            bytes => Ok(Limit::Of(bytes)),
        },
    }
}

fn parse_stage(text: &str) -> Result<Stage, String> {
    match text {
        "disk" => Ok(Stage::Disk),
        "shm" => Ok(Stage::Shm),
        _ => Err("it is disk or shm".to_owned()),
    }
}

/// Parses a duration that may be zero.
fn parse_window(text: &str) -> Result<u64, String> {
    match text {
        "0" | "0s" => Ok(0),
        _ => parse_seconds(text),
    }
}

fn parse_order(text: &str) -> Result<Order, String> {
    match text {
        "accept" => Ok(Order::Accept),
        "reject" => Ok(Order::Reject),
        "clamp" => Ok(Order::Clamp),
        _ => Err("it is accept, reject or clamp".to_owned()),
    }
}

/// What dw-mkfeed was asked to do. Everything is checked that needs no store.
#[derive(Clone, Debug)]
pub enum Request {
    /// Create feeds.
    Create {
        /// The feeds.
        specs: Vec<FeedSpec>,
        /// The JSON of each spec that came from a file. It shows which values were given.
        given: Vec<serde_json::Value>,
        /// Change the policy of existing feeds.
        update: bool,
        /// Only print the specs.
        dry_run: bool,
    },
    /// Change the policy of a feed without repeating its fields.
    Update {
        /// The feed.
        feed: String,
        /// Only print the spec.
        dry_run: bool,
    },
    /// Create a feed from a sample on stdin.
    Infer {
        /// The name and what the options decide, for [`super::infer::infer`].
        choices: Choices,
        /// Overrides the policy of the proposal.
        policy: Box<PolicyArgs>,
        /// Change the policy of an existing feed.
        update: bool,
        /// Only print the spec.
        dry_run: bool,
    },
    /// Delete feeds.
    Delete {
        /// Their names.
        feeds: Vec<String>,
        /// Do not ask.
        yes: bool,
    },
}

impl Args {
    /// Parses the program's arguments.
    ///
    /// # Errors
    /// clap's errors, which include help.
    pub fn parse() -> Result<Args, clap::Error> {
        crate::cli::args::parse(command())
    }

    /// Checks the arguments and returns the request. Reads the file of `--spec`; the sample is read
    /// later.
    ///
    /// # Errors
    /// Names the argument that is wrong, and an example of a valid one.
    pub fn request(&self) -> anyhow::Result<Request> {
        if self.delete {
            return self.delete_request();
        }
        let (feed, fields) = self.split_words();
        if let Some(name) = feed {
            check_feed_name(name)?;
        }
        ensure!(
            self.policy.stage != Some(Stage::Disk) || self.policy.live_window.unwrap_or(0) == 0,
            "--live-window keeps chunks in shared memory, and with --stage disk there are none"
        );
        if self.infer {
            return self.infer_request(feed, fields);
        }
        if let (Some(feed), true, None, []) = (feed, self.update, &self.spec, fields) {
            self.layout.check_none(feed)?;
            return Ok(Request::Update { feed: feed.to_owned(), dry_run: self.dry_run });
        }
        let mut given = Vec::new();
        let mut specs = match &self.spec {
            Some(path) => {
                ensure!(
                    fields.is_empty(),
                    "{:?}: fields come from --spec or from the arguments, not both",
                    fields[0]
                );
                let (specs, values) = read_specs(path, feed)?;
                given = values;
                specs
            }
            None => vec![self.spec_of_fields(feed, fields)?],
        };
        for spec in &mut specs {
            if self.spec.is_some() {
                self.layout.apply(spec);
            }
            self.policy.apply(&mut spec.policy);
            self.policy.check(spec)?;
            spec.check()?;
            Layout::new(spec)?;
        }
        Ok(Request::Create { specs, given, update: self.update, dry_run: self.dry_run })
    }

    /// Returns the name of the feed, if given, and the words that are fields.
    fn split_words(&self) -> (Option<&str>, &[String]) {
        match (&self.feed, self.words.split_first()) {
            (Some(feed), _) => (Some(feed), &self.words),
            (None, Some((first, rest))) if !first.contains(':') && !first.starts_with('_') => {
                (Some(first), rest)
            }
            (None, _) => (None, &self.words),
        }
    }

    fn delete_request(&self) -> anyhow::Result<Request> {
        let mut feeds: Vec<String> = Vec::new();
        for name in self.words.iter().chain(&self.feed) {
            check_feed_name(name)?;
            if !feeds.contains(name) {
                feeds.push(name.clone());
            }
        }
        ensure!(!feeds.is_empty(), "--delete which feeds? name them, as --delete trades");
        Ok(Request::Delete { feeds, yes: self.yes })
    }

    fn infer_request(&self, feed: Option<&str>, fields: &[String]) -> anyhow::Result<Request> {
        let Some(feed) = feed else {
            bail!("--infer needs the feed's name, as dw-mkfeed trades --infer");
        };
        if let Some(field) = fields.first() {
            bail!(
                "{field:?}: with --infer the fields come from the sample; change its spec \
                   (--dry-run prints it) and give it to --spec"
            );
        }
        let choices = Choices {
            feed: feed.to_owned(),
            ts: self.layout.ts.clone(),
            time_unit: self.layout.time_unit,
            packed: self.layout.packed,
        };
        let policy = Box::new(self.policy.clone());
        Ok(Request::Infer { choices, policy, update: self.update, dry_run: self.dry_run })
    }

    fn spec_of_fields(&self, feed: Option<&str>, words: &[String]) -> anyhow::Result<FeedSpec> {
        let Some(feed) = feed else {
            bail!("no feed is named; as dw-mkfeed trades ts:timestamp price:float64");
        };
        ensure!(
            !words.is_empty(),
            "{feed}: a feed of which fields? as dw-mkfeed {feed} ts:timestamp price:float64, or \
             --spec FILE, or --infer"
        );
        let fields = words.iter().map(|word| parse_field(word)).collect::<Result<Vec<_>, _>>()?;
        let ts_col = match &self.layout.ts {
            Some(name) => name.clone(),
            None => time_column(&fields).with_context(|| {
                format!("{feed}: which field is the time? give --ts FIELD, or a field ts:timestamp")
            })?,
        };
        Ok(FeedSpec {
            feed_name: feed.to_owned(),
            fields,
            ts_col,
            time_unit: self.layout.time_unit.unwrap_or_default(),
            packed: self.layout.packed,
            policy: Policy::default(),
        })
    }
}

/// Returns the first `timestamp` field, else the first `uint64` with a name of a time.
fn time_column(fields: &[FieldSpec]) -> Option<String> {
    let timestamp = fields.iter().find(|field| field.kind == FieldType::Timestamp);
    let by_name = || fields.iter().find(|f| f.kind == FieldType::Uint64 && names_time(&f.name));
    timestamp.or_else(by_name).map(|field| field.name.clone())
}

/// Parses `NAME:TYPE`, `_:_N` or `_N`. A name may contain colons; a type contains none.
fn parse_field(word: &str) -> anyhow::Result<FieldSpec> {
    let (name, kind) = match word.rsplit_once(':') {
        Some(parts) => parts,
        None if word.starts_with('_') => ("_", word),
        None => bail!("{word:?} is no field; as price:float64"),
    };
    let kind: FieldType = kind.parse().with_context(|| format!("field {word:?}"))?;
    let padding = matches!(kind, FieldType::Pad(_));
    ensure!(padding || !name.is_empty(), "field {word:?}: a name comes first, as price:{kind}");
    ensure!(
        !padding || matches!(name, "" | "_"),
        "field {word:?}: padding has no name; as _:{kind} or {kind}"
    );
    let name = if padding { String::new() } else { name.to_owned() };
    Ok(FieldSpec { name, kind, desc: String::new(), default: None })
}

/// Reads specs from a file, or from stdin for `-`. Returns the JSON of each as well.
fn read_specs(
    path: &Path,
    feed: Option<&str>,
) -> anyhow::Result<(Vec<FeedSpec>, Vec<serde_json::Value>)> {
    let (text, origin) = if path.as_os_str() == "-" {
        ensure!(!out::stdin_is_missing(), "stdin is closed; --spec - reads the spec from it");
        (read_text(io::stdin().lock(), SPEC_LIMIT).context("stdin")?, "stdin".to_owned())
    } else {
        let origin = path.display().to_string();
        let file = fs::File::open(path).with_context(|| format!("cannot read {origin}"))?;
        (read_text(file, SPEC_LIMIT).with_context(|| format!("cannot read {origin}"))?, origin)
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let values = FeedSpec::values_from_json(text).with_context(|| origin.clone())?;
    let specs = values.iter().cloned().map(FeedSpec::from_value).collect::<Result<Vec<_>, _>>();
    let specs = specs.with_context(|| origin.clone())?;
    for (at, spec) in specs.iter().enumerate() {
        let twice = specs[..at].iter().any(|earlier| earlier.feed_name == spec.feed_name);
        ensure!(!twice, "{origin}: two specs are named {:?}", spec.feed_name);
    }
    if let Some(feed) = feed {
        let others = specs.iter().find(|spec| spec.feed_name != feed);
        if let Some(other) = others {
            bail!(
                "{origin}: the spec is of feed {:?}, the argument says {feed:?}; leave the \
                 argument out or make them equal",
                other.feed_name
            );
        }
    }
    messages::note(format_args!("{origin}: {} feed specs", specs.len()));
    Ok((specs, values))
}

impl LayoutArgs {
    /// Rejects layout options if no fields are given.
    fn check_none(&self, feed: &str) -> anyhow::Result<()> {
        let given = self.ts.is_some() || self.time_unit.is_some() || self.packed;
        ensure!(!given, "{feed}: a feed keeps its layout; --update changes how it is kept only");
        Ok(())
    }

    /// Applies the options to the spec.
    fn apply(&self, spec: &mut FeedSpec) {
        if let Some(ts) = &self.ts {
            spec.ts_col.clone_from(ts);
        }
        spec.time_unit = self.time_unit.unwrap_or(spec.time_unit);
        spec.packed |= self.packed;
    }
}

impl PolicyArgs {
    /// Applies the options to the policy.
    pub fn apply(&self, policy: &mut Policy) {
        policy.chunk_size_bytes = self.chunk_size.unwrap_or(policy.chunk_size_bytes);
        policy.chunk_age_seconds = self.chunk_age.or(policy.chunk_age_seconds);
        if let Some(limit) = self.retention {
            policy.retention_seconds = limit.value();
        }
        if let Some(limit) = self.max_size {
            policy.max_size_bytes = limit.value();
        }
        if let Some(size) = self.ring {
            policy.persist = false;
            policy.ring_size_bytes = size;
        }
        policy.stage = self.stage.unwrap_or(policy.stage);
        policy.live_window_seconds = self.live_window.unwrap_or(policy.live_window_seconds);
        policy.sync = self.sync.unwrap_or(policy.sync);
        policy.order = self.order.unwrap_or(policy.order);
        policy.live = self.live.map_or(policy.live, |live| live == YesNo::Yes);
        policy.file_mode = self.mode.unwrap_or(policy.file_mode);
    }

    /// Rejects options that mean nothing for a ring. A spec may set them all the same, so that one
    /// spec serves for both kinds of feed.
    ///
    /// # Errors
    /// Names the option.
    pub fn check(&self, spec: &FeedSpec) -> anyhow::Result<()> {
        let given = [
            ("--chunk-size", self.chunk_size.is_some()),
            ("--chunk-age", self.chunk_age.is_some()),
            ("--retention", self.retention.is_some()),
            ("--max-size", self.max_size.is_some()),
            ("--sync", self.sync.is_some()),
            ("--stage", self.stage.is_some()),
            ("--live-window", self.live_window.is_some()),
        ];
        match given.iter().find(|(_, given)| *given && !spec.policy.persist) {
            None => Ok(()),
            Some((option, _)) => bail!(
                "{}: {option} means nothing for a ring: it keeps the newest --ring=SIZE, in memory",
                spec.feed_name
            ),
        }
    }
}

/// Parses arguments given as text, for tests and for dw-mkfeed itself.
///
/// # Errors
/// clap's errors.
pub fn parse_from<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Args, clap::Error> {
    let words = std::iter::once(PAGE.name).chain(words);
    let matches = command().try_get_matches_from(words)?;
    Args::from_arg_matches(&matches)
}

#[cfg(test)]
mod tests;

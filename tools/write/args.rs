//! dw-write's command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{ArgAction, Args as _, Command, ValueEnum};
use deepwater::schema::Sync;
use deepwater::text::input::{FinalLine, InputFormat, InputOptions};
use deepwater::text::mapping::Source;
use deepwater::text::timestamp::{NumberUnit, TimeOptions};
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::cli::args::Common;
use crate::cli::durations::{parse_duration, parse_sync};
use crate::cli::page::{self, Page};
use crate::cli::tz::parse_zone;

/// The text of dw-write's help and man page.
pub const PAGE: Page = Page {
    name: "dw-write",
    about: "Append live data or files to a feed",
    usage: &["dw-write [OPTIONS] FEED [FILE...]"],
    description: &[
        "Reads CSV, TSV, JSON lines or raw records from stdin or files, and appends them to a \
         feed. Every complete row that has arrived is visible to readers before more is read.",
        "A row that does not fit the feed is never changed to fit. From a pipe, it is skipped, \
         counted and reported. From a regular file, it stops the run, and the error names file, \
         line, column and reason. Either way the exit status is 1. A line may have up to 64 MiB, \
         a quoted cell that spans lines up to 1 MiB, and a JSON line up to 1048576 values and, \
         with --explode, 64 MiB of records. A row beyond these limits is rejected like such a row.",
        "SIGTERM, SIGINT and the end of input all end the session cleanly: everything that was \
         read is written, sealed and made durable.",
    ],
    examples: &[
        (
            "dw-mkfeed trades ts:timestamp price:float64 size:float64 side:char",
            "Make a feed to write to",
        ),
        (
            "printf 'ts,price,size,side\\n1700000000000000,42.5,3,B\\n' | dw-write trades",
            "CSV with a header, times in microseconds",
        ),
        (
            "echo '{\"t\": 1700000001.5, \"p\": \"42.25\", \"q\": 1, \"s\": \"S\"}' |\n    \
             dw-write trades --map ts=t --map price=p --map size=q --map side=s \\\n    \
             --ts-unit s",
            "JSON lines with other names, times in seconds",
        ),
        (
            "echo '{\"type\": \"fills\", \"at\": \"2023-11-14T22:13:22Z\",\n    \
             \"fills\": [[\"42.5\", \"1\", \"B\"], [\"42.4\", \"2\", \"B\"]]}' |\n    \
             tr -d '\\n' |\n    \
             dw-write trades --where type=fills --explode /fills --map ts=/at \\\n    \
             --map price=./0 --map size=./1 --map side=./2 --final-line accept",
            "Nested JSON: write one record per element of an array",
        ),
        ("dw-cat trades -o raw | dw-write trades --format raw", "Copy records unchanged"),
    ],
    more: &[],
    exit_status: &[
        ("0", "Every row was written."),
        ("1", "Some rows were rejected; the others were written."),
        ("2", "Failed: wrong usage, no such feed, another writer, a full disk."),
        (
            "129, 130, 143",
            "Ended by SIGHUP, SIGINT or SIGTERM, after writing everything that was read.",
        ),
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
    /// Name of the feed, then files to read instead of stdin; - is stdin
    #[arg(value_name = "FEED|FILE")]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    words: Vec<String>,
    /// Name of the feed; all positional arguments are then files
    #[arg(long, value_name = "FEED")]
    feed: Option<String>,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    times: TimeArgs,
    #[command(flatten)]
    rows: RowArgs,
    #[command(flatten)]
    session: SessionArgs,
    /// The options of every tool.
    #[command(flatten)]
    pub common: Common,
}

#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Input options")]
struct InputArgs {
    /// Input format: auto, csv, tsv, jsonl or raw; auto detects csv, tsv and jsonl
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    format: Format,
    /// Whether the first row is a header [default: yes if every cell names a field]
    #[arg(long, value_name = "YES|NO", value_enum, hide_possible_values = true)]
    header: Option<YesNo>,
    /// Names of the columns, in order; - skips a column
    #[arg(long, value_name = "A,B,-,C", value_delimiter = ',')]
    columns: Option<Vec<String>>,
    /// Take FIELD from a header, a column number (from 1) or a JSON pointer; may be repeated
    #[arg(long, value_name = "FIELD=SRC", action = ArgAction::Append)]
    map: Vec<String>,
    /// Write one record per element of this array; ./1 points into the element
    #[arg(long, value_name = "POINTER")]
    explode: Option<String>,
    /// Take only messages where POINTER exists, or has VALUE; repeat to require several
    #[arg(long = "where", value_name = "POINTER[=VALUE]", action = ArgAction::Append)]
    where_: Vec<String>,
    /// Reject rows that have unused columns or keys
    #[arg(long)]
    strict: bool,
}

#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Time options")]
struct TimeArgs {
    /// Unit of times given as numbers: s, ms, us or ns [default: the feed's unit]
    #[arg(long, value_name = "UNIT")]
    ts_unit: Option<NumberUnit>,
    /// Format of times given as text, as in strftime [default: RFC 3339]
    #[arg(long, value_name = "FORMAT")]
    ts_format: Option<String>,
    /// Read times as times of this day; numbers count milliseconds (or --ts-unit) since midnight
    #[arg(long, value_name = "DATE")]
    ts_base: Option<Date>,
    /// Truncate times that are finer than the feed's unit, instead of rejecting them
    #[arg(long)]
    ts_truncate: bool,
    /// Time zone of times without an offset, which are rejected otherwise
    #[arg(long, value_name = "ZONE", allow_hyphen_values = true, value_parser = parse_zone)]
    tz: Option<TimeZone>,
    /// Set this field to the time of arrival; may be repeated
    #[arg(long, value_name = "FIELD", action = ArgAction::Append)]
    stamp: Vec<String>,
}

#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Row options")]
struct RowArgs {
    /// What to do with a bad row: skip or stop [default: stop for regular files, else skip]
    #[arg(long, value_enum, hide_possible_values = true)]
    on_bad: Option<OnBad>,
    /// Save rejected rows to FILE as JSON lines: file, line, column, reason, text
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    rejects: Option<PathBuf>,
    /// A last line without a newline: accept or reject [default: accept for regular files]
    #[arg(long, value_enum, hide_possible_values = true)]
    final_line: Option<LastLine>,
    /// Mark every N-th record for playback, beginning with the first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    mark_every: Option<u64>,
    /// Mark records with this value for playback (also != < <= > >=)
    #[arg(long, value_name = "FIELD=VALUE")]
    mark_when: Option<String>,
}

#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Session options")]
struct SessionArgs {
    /// When records become durable: every DUR, none (left to the kernel), or batch [default: the
    /// feed's policy]
    #[arg(long, value_name = "DUR|none|batch", value_parser = parse_sync)]
    sync: Option<Sync>,
    /// Print N on stdout when all seqs below N are durable
    #[arg(long)]
    ack: bool,
    /// Report rows, bytes, lag and rejects on stderr at this interval
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    stats: Option<Duration>,
    /// Create the feed, and the store, from this spec if they do not exist
    #[arg(long, value_name = "SPEC", value_hint = clap::ValueHint::FilePath)]
    create: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Auto,
    Csv,
    Tsv,
    Jsonl,
    Raw,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum YesNo {
    Yes,
    No,
}

/// What to do with a bad row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnBad {
    /// Skip it.
    Skip,
    /// Stop at it.
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LastLine {
    Accept,
    Reject,
}

/// What dw-write was asked to do.
pub struct Request {
    /// The feed.
    pub feed: String,
    /// Files, in order; `-` is stdin.
    pub files: Vec<PathBuf>,
    /// The format; `None` means detect it.
    pub format: Option<InputFormat>,
    /// How to read the input. Format and last line are decided for each file.
    pub options: InputOptions,
    /// `None` means that the kind of input decides.
    pub final_line: Option<FinalLine>,
    /// `None` means that the kind of input decides.
    pub on_bad: Option<OnBad>,
    /// Where rejected rows are saved.
    pub rejects: Option<PathBuf>,
    /// Mark every N-th record.
    pub mark_every: Option<u64>,
    /// Mark the records that meet this condition.
    pub mark_when: Option<String>,
    /// `None` means the feed's policy.
    pub sync: Option<Sync>,
    /// Whether to print durable seqs.
    pub ack: bool,
    /// The interval of reports.
    pub stats: Option<Duration>,
    /// The spec of a feed to create.
    pub create: Option<PathBuf>,
}

impl Args {
    /// Parses the program's arguments.
    ///
    /// # Errors
    /// clap's errors, which include help.
    pub fn parse() -> Result<Args, clap::Error> {
        crate::cli::args::parse(command())
    }

    /// Checks the arguments and returns the request.
    ///
    /// # Errors
    /// Names the argument that is wrong, and an example of a valid one.
    pub fn request(self) -> anyhow::Result<Request> {
        let mut words = self.words.into_iter();
        let Some(feed) = self.feed.or_else(|| words.next()) else {
            bail!("missing: FEED; see dw-write --help");
        };
        let mut files: Vec<PathBuf> = words.map(PathBuf::from).collect();
        if files.is_empty() {
            files.push(PathBuf::from("-"));
        }
        let mut map = Vec::new();
        for text in &self.input.map {
            map.push(mapping(text).with_context(|| format!("--map {text}"))?);
        }
        map.extend(self.times.stamp.into_iter().map(|field| (field, Source::Stamp)));
        let where_ = self.input.where_.iter().map(|text| match text.split_once('=') {
            Some((pointer, value)) => (pointer.to_owned(), Some(value.to_owned())),
            None => (text.clone(), None),
        });
        let format = match self.input.format {
            Format::Auto => None,
            Format::Csv => Some(InputFormat::Csv),
            Format::Tsv => Some(InputFormat::Tsv),
            Format::Jsonl => Some(InputFormat::Jsonl),
            Format::Raw => Some(InputFormat::Raw),
        };
        let columns = self.input.columns.map(|names| {
            names.into_iter().map(|name| (name != "-").then_some(name)).collect::<Vec<_>>()
        });
        let options = InputOptions {
            format: format.unwrap_or(InputFormat::Csv),
            header: self.input.header.map(|answer| answer == YesNo::Yes),
            columns,
            map,
            explode: self.input.explode,
            where_: where_.collect(),
            times: TimeOptions {
                unit: self.times.ts_unit,
                format: self.times.ts_format,
                zone: self.times.tz,
                base: self.times.ts_base,
                truncate: self.times.ts_truncate,
            },
            strict: self.input.strict,
            final_line: FinalLine::Accept,
        };
        Ok(Request {
            feed,
            files,
            format,
            options,
            final_line: self.rows.final_line.map(|line| match line {
                LastLine::Accept => FinalLine::Accept,
                LastLine::Reject => FinalLine::Reject,
            }),
            on_bad: self.rows.on_bad,
            rejects: self.rows.rejects,
            mark_every: self.rows.mark_every,
            mark_when: self.rows.mark_when,
            sync: self.session.sync,
            ack: self.session.ack,
            stats: self.session.stats,
            create: self.session.create,
        })
    }
}

fn mapping(text: &str) -> anyhow::Result<(String, Source)> {
    let (field, source) = text.split_once('=').unwrap_or((text, ""));
    ensure!(!field.is_empty() && !source.is_empty(), "FIELD=SRC is needed, as price=p");
    Ok((field.to_owned(), Source::parse(source)?))
}

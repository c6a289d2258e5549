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

/// dw-write's page.
pub const PAGE: Page = Page {
    name: "dw-write",
    about: "Write a live feed or files of market data into a feed",
    usage: &["dw-write [OPTIONS] FEED [FILE...]"],
    description: &[
        "Reads CSV, TSV, JSON lines or raw records from stdin, or from files, and appends them to \
         a feed. Every complete row that has arrived is visible to readers before more is read.",
        "A row that does not fit the feed is never changed to fit: from a pipe it is skipped, \
         counted and reported; from a regular file it stops the run with file, line, column and \
         reason. Either way the exit status is 1. A line may have 64 MiB, a quoted cell that spans \
         lines 1 MiB, a JSON line 1048576 values and, exploded, 64 MiB of records; one with more \
         is such a row.",
        "SIGTERM, SIGINT and the end of input all end a session cleanly: what was read is written, \
         sealed and durable.",
    ],
    examples: &[
        (
            "dw-mkfeed trades ts:timestamp price:float64 size:float64 side:char",
            "A feed to write to",
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
            "Nested JSON: a record for each element of an array",
        ),
        ("dw-cat trades -o raw | dw-write trades --format raw", "Copy records as they are"),
    ],
    more: &[],
    exit_status: &[
        ("0", "Every row was written."),
        ("1", "Rows were rejected; the others were written."),
        ("2", "Could not: wrong usage, no such feed, another writer, a full disk."),
        ("129, 130, 143", "Ended by SIGHUP, SIGINT, SIGTERM, after writing all that was read."),
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
    /// The feed, then files to read in place of stdin; - is stdin
    #[arg(value_name = "FEED|FILE")]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    words: Vec<String>,
    /// The feed, as by position; all positions are then files
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
    /// What all tools have.
    #[command(flatten)]
    pub common: Common,
}

#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Input options")]
struct InputArgs {
    /// auto, csv, tsv, jsonl or raw; auto tells the first three apart
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    format: Format,
    /// Whether the first row is a header [default: if every cell names a field]
    #[arg(long, value_name = "YES|NO", value_enum, hide_possible_values = true)]
    header: Option<YesNo>,
    /// Names of the columns, in order; - skips one
    #[arg(long, value_name = "A,B,-,C", value_delimiter = ',')]
    columns: Option<Vec<String>>,
    /// Take FIELD from a header, a column number (from 1) or a JSON pointer; may be repeated
    #[arg(long, value_name = "FIELD=SRC", action = ArgAction::Append)]
    map: Vec<String>,
    /// One record for each element of this array; ./1 points into the element
    #[arg(long, value_name = "POINTER")]
    explode: Option<String>,
    /// Only messages where POINTER exists, or has that value; all of several
    #[arg(long = "where", value_name = "POINTER[=VALUE]", action = ArgAction::Append)]
    where_: Vec<String>,
    /// Reject rows with columns or keys that nothing uses
    #[arg(long)]
    strict: bool,
}

#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Time options")]
struct TimeArgs {
    /// Unit of times given as numbers: s, ms, us or ns [default: the feed's]
    #[arg(long, value_name = "UNIT")]
    ts_unit: Option<NumberUnit>,
    /// Format of times given as text, as for strftime [default: RFC 3339]
    #[arg(long, value_name = "FORMAT")]
    ts_format: Option<String>,
    /// Times are times of this day (numbers: milliseconds, or --ts-unit, since its midnight)
    #[arg(long, value_name = "DATE")]
    ts_base: Option<Date>,
    /// Cut times finer than the feed's unit, where they would be rejected
    #[arg(long)]
    ts_truncate: bool,
    /// Zone of times without an offset; without it they are rejected
    #[arg(long, value_name = "ZONE", allow_hyphen_values = true, value_parser = parse_zone)]
    tz: Option<TimeZone>,
    /// Write the time of arrival into this field; may be repeated
    #[arg(long, value_name = "FIELD", action = ArgAction::Append)]
    stamp: Vec<String>,
}

#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Row options")]
struct RowArgs {
    /// At a bad row: skip or stop [default: stop for regular files, else skip]
    #[arg(long, value_enum, hide_possible_values = true)]
    on_bad: Option<OnBad>,
    /// Keep rejected rows in FILE, as JSON lines: file line column reason text
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    rejects: Option<PathBuf>,
    /// A last line without newline: accept or reject [default: accept for regular files]
    #[arg(long, value_enum, hide_possible_values = true)]
    final_line: Option<LastLine>,
    /// Mark every N-th record for playback, from the first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    mark_every: Option<u64>,
    /// Mark records with that value for playback (also != < <= > >=)
    #[arg(long, value_name = "FIELD=VALUE")]
    mark_when: Option<String>,
}

#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Session options")]
struct SessionArgs {
    /// Make records durable every so often, at none, or each batch [default: the feed's]
    #[arg(long, value_name = "DUR|none|batch", value_parser = parse_sync)]
    sync: Option<Sync>,
    /// Print N on stdout each time all seqs below N have become durable
    #[arg(long)]
    ack: bool,
    /// Report rows, bytes, lag and rejects on stderr every so often
    #[arg(long, value_name = "DUR", value_parser = parse_duration)]
    stats: Option<Duration>,
    /// Make the feed, and the store, from this spec if it is not there
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

/// What a bad row does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnBad {
    /// It is left out.
    Skip,
    /// It ends the run.
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LastLine {
    Accept,
    Reject,
}

/// What dw-write is asked to do.
pub struct Request {
    /// The feed.
    pub feed: String,
    /// Files, in order; `-` is stdin.
    pub files: Vec<PathBuf>,
    /// The format; none: to be told from the input.
    pub format: Option<InputFormat>,
    /// How the input is written; format and last line are decided for each file.
    pub options: InputOptions,
    /// None: by the kind of the input.
    pub final_line: Option<FinalLine>,
    /// None: by the kind of the input.
    pub on_bad: Option<OnBad>,
    /// Where rejected rows go.
    pub rejects: Option<PathBuf>,
    /// Marks.
    pub mark_every: Option<u64>,
    /// Marks, as a condition for the feed's layout.
    pub mark_when: Option<String>,
    /// None: the feed's policy.
    pub sync: Option<Sync>,
    /// Whether durable seqs are printed.
    pub ack: bool,
    /// How often counts are reported.
    pub stats: Option<Duration>,
    /// The spec of a feed to make.
    pub create: Option<PathBuf>,
}

impl Args {
    /// Parses the program's arguments.
    ///
    /// # Errors
    /// clap's, help among them.
    pub fn parse() -> Result<Args, clap::Error> {
        crate::cli::args::parse(command())
    }

    /// What is asked for.
    ///
    /// # Errors
    /// Says which argument is wrong and what would be right.
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

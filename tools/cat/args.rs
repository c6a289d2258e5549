//! dw-cat's command line.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::bail;
use clap::{ArgAction, Args as _, Command, ValueEnum};
use deepwater::chunk::strays::Look;
use deepwater::text::encode::OutputFormat;

use crate::cli::args::{Common, Feeds, Range};
use crate::cli::page::{self, Page};
use crate::cli::times::TimeArg;

/// dw-cat's page.
pub const PAGE: Page = Page {
    name: "dw-cat",
    about: "Print the records of feeds, and those that come",
    usage: &["dw-cat [OPTIONS] FEED..."],
    description: &[
        "Prints records in the order they arrived, as JSON lines unless told otherwise. A range of \
         times is found through the index, whatever the size of the history, and its answer is \
         exact for late and repeated times too. The feed may be written meanwhile. Several feeds \
         are merged by time (equal times by the order of the feeds, then of arrival); -n and -r \
         then count and turn the merged order.",
        "Ranges are half-open: --until is not included. The range and --where choose records, then \
         -n, then -r. Damaged blocks are named on stderr and left out, and the exit status is 1.",
        "With -f dw-cat goes on with records as they come, each once and in order, over restarts \
         and crashes of the writer and over dw-gc; those of several feeds as they arrive. Alone it \
         begins with what comes next; with -n, --since, --seq, --playback or --replay, in history. \
         The range and --where choose among late rows too. It ends when its reader does, when the \
         clock has passed --until and all is printed, when a range of seqs or -n +N is done, when \
         the feed is deleted (exit status 1), or by a signal. What is read is printed before it \
         sleeps or ends. Records that are gone are named on stderr as seq A..B.",
        "--cursor-file keeps the place in FILE, for each feed: about once a second, after what \
         was printed is out, at the end and on signals. A run that was killed repeats records \
         and loses none. Where the file has no place yet, the other options say where to begin. \
         Of several feeds, whose records come by time, some after the place may come twice. \
         With --until, the place stays before the first record that is later. A store that was \
         put back from an older backup is noticed (exit status 1).",
        "Programs that read JSON numbers as doubles (jq 1.6, JavaScript) round integers above \
         2^53, times in nanoseconds among them: --ints string prints those as strings.",
    ],
    examples: &[
        (
            "dw-mkfeed trades ts:timestamp price:float64 side:char\n\
             printf 'ts,price,side\\n%d,42.5,B\\n%d,42.75,S\\n' \\\n    \
             1700000000000000 1700000060000000 | dw-write trades",
            "A feed to read",
        ),
        ("dw-cat trades --since 1h", "The last hour"),
        ("dw-cat trades --since 2023-11-14 --until 2023-11-15 --tz UTC -o csv", "A day, as CSV"),
        ("dw-cat trades -n 1 --time rfc3339", "The newest record, with a readable time"),
        (
            "dw-cat trades --since last-5m --where 'side=B' --where 'price>42' \\\n    \
             --fields ts,price",
            "Chosen fields of chosen records of the last five minutes",
        ),
        ("dw-cat trades -o table | head -20", "A look at the beginning"),
        ("dw-cat trades -n 10 -f --until +1s", "The last ten records and those of the next second"),
        ("dw-cat trades --cursor-file place", "What is new since this was run last"),
        ("dw-cat trades --replay=1000 -o csv", "As it happened, a thousand times as fast"),
    ],
    more: &[page::TIMES],
    exit_status: &[
        ("0", "Done; an empty range is a fine answer."),
        (
            "1",
            "Damaged blocks were left out, or records that dw-gc took after older ones had been \
             printed; a feed that was followed is deleted.",
        ),
        ("2", "Could not: wrong usage, no such feed, input or output."),
    ],
    environment: &[page::DEEPWATER_BASE, page::XDG_DATA_HOME, page::TZ, page::NO_COLOR],
    files: &[page::FILE_STORE],
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
    /// Which records.
    #[command(flatten)]
    pub range: Range,
    #[command(flatten)]
    choice: ChoiceArgs,
    #[command(flatten)]
    live: LiveArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// What all tools have.
    #[command(flatten)]
    pub common: Common,
}

#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Choice options")]
struct ChoiceArgs {
    /// Only seqs from A up to B, which is not included; either may be left out
    #[arg(long, value_name = "A..B", value_parser = parse_seqs)]
    seq: Option<(u64, u64)>,
    /// Only records with that value (also != < <= > >=); all of several
    #[arg(long = "where", value_name = "FIELD=VALUE", action = ArgAction::Append)]
    where_: Vec<String>,
    /// Only the last N of them; +N: the first N
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true)]
    lines: Option<Lines>,
    /// Newest first
    #[arg(short, long)]
    reverse: bool,
    /// Begin at the last mark at or before --since (without it: at the last mark)
    #[arg(long)]
    playback: bool,
}

#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Live options")]
struct LiveArgs {
    /// Go on with records as they come; alone, from now on
    #[arg(short, long)]
    follow: bool,
    /// With -f, never sleep: the least delay, for a whole processor
    #[arg(long, requires = "follow")]
    spin: bool,
    /// Print as it happened, by the records' times; SPEED 10 is ten times as fast [default: 1]
    #[arg(long, value_name = "SPEED", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "1", value_parser = parse_speed)]
    replay: Option<f64>,
    /// Go on after the last record printed by the last run with FILE, which keeps the place
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    cursor_file: Option<PathBuf>,
}

#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Output options")]
struct OutputArgs {
    /// jsonl, csv, tsv, raw, npy or table
    #[arg(short, long, value_name = "FORMAT", default_value = "jsonl")]
    output: OutputFormat,
    /// Only these fields, in this order
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    fields: Option<Vec<String>>,
    /// No header line in csv, tsv and table
    #[arg(long)]
    no_header: bool,
    /// Times as raw integers or as rfc3339 (in --tz, else UTC) [default: raw; table: rfc3339]
    #[arg(long, value_name = "STYLE", value_enum, hide_possible_values = true)]
    time: Option<Style>,
    /// 64-bit integers in JSON: number or string
    #[arg(long, value_name = "STYLE", value_enum, default_value_t, hide_possible_values = true)]
    ints: Ints,
    /// Print each record's seq first, as _seq
    #[arg(long)]
    with_seq: bool,
    /// Print the feed's name, as _feed
    #[arg(long)]
    with_feed: bool,
}

/// `-n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// The first so many.
    First(u64),
    /// The last so many.
    Last(u64),
}

impl FromStr for Lines {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (make, digits): (fn(u64) -> Lines, &str) = match text.strip_prefix('+') {
            Some(digits) => (Lines::First, digits),
            None => (Lines::Last, text),
        };
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let n = digits.parse().ok().filter(|_| plain);
        n.map(make).ok_or_else(|| "N (the last N) or +N (the first N)".to_owned())
    }
}

fn parse_seqs(text: &str) -> Result<(u64, u64), String> {
    const RIGHT: &str = "a range as 100..200, 100.. or ..200; the second is not included";
    let (lo, hi) = text.split_once("..").ok_or(RIGHT)?;
    let number = |digits: &str, absent: u64| match digits {
        "" => Ok(absent),
        digits => digits.parse().map_err(|_| RIGHT.to_owned()),
    };
    let (lo, hi) = (number(lo, 0)?, number(hi, u64::MAX)?);
    if lo > hi {
        return Err(format!("{lo} is after {hi}: no record can be in between"));
    }
    Ok((lo, hi))
}

fn parse_speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed: &f64| speed.is_finite() && *speed > 0.0);
    speed.ok_or_else(|| "a speed above 0, as 10 or 0.5".to_owned())
}

/// `--time`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Style {
    /// As stored.
    Raw,
    /// As text.
    Rfc3339,
}

/// `--ints`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Ints {
    /// As numbers.
    #[default]
    Number,
    /// As strings.
    String,
}

/// What dw-cat is asked to do.
pub struct Request {
    /// The feeds.
    pub feeds: Vec<String>,
    /// Range of times or seqs.
    pub range: Range,
    /// Range of seqs, if one is given.
    pub seqs: Option<(u64, u64)>,
    /// Conditions.
    pub where_: Vec<String>,
    /// How many, from which end.
    pub lines: Option<Lines>,
    /// Newest first.
    pub reverse: bool,
    /// From a mark on.
    pub playback: bool,
    /// And what comes.
    pub follow: bool,
    /// Without sleeping.
    pub spin: bool,
    /// As it happened, so much faster.
    pub replay: Option<f64>,
    /// Where the last run ended, and this one will have.
    pub cursor_file: Option<PathBuf>,
    /// The format.
    pub format: OutputFormat,
    /// Chosen fields.
    pub fields: Option<Vec<String>>,
    /// Whether a header line is printed.
    pub header: bool,
    /// How times look.
    pub time: Style,
    /// How 64-bit integers look in JSON.
    pub ints: Ints,
    /// `_seq`.
    pub with_seq: bool,
    /// `_feed`.
    pub with_feed: bool,
}

impl Request {
    /// How far to look for records that the table does not have: everywhere, where all records are
    /// asked for.
    pub fn look(&self) -> Look {
        let ranged = self.range.since.is_some() || self.range.until.is_some();
        let cut = self.seqs.is_some_and(|seqs| seqs != (0, u64::MAX)) || self.lines.is_some();
        match ranged || cut || self.playback || self.follow {
            true => Look::Next,
            false => Look::All,
        }
    }
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
        let feeds: Vec<String> = self.feeds.names().into_iter().map(str::to_owned).collect();
        if feeds.is_empty() {
            bail!("missing: FEED; see dw-cat --help, and dw-ls for the feeds there are");
        }
        self.check(feeds.len())?;
        let by_format = match self.output.output {
            OutputFormat::Table => Style::Rfc3339,
            _ => Style::Raw,
        };
        Ok(Request {
            feeds,
            range: self.range,
            seqs: self.choice.seq,
            where_: self.choice.where_,
            lines: self.choice.lines,
            reverse: self.choice.reverse,
            playback: self.choice.playback,
            follow: self.live.follow,
            spin: self.live.spin,
            replay: self.live.replay,
            cursor_file: self.live.cursor_file,
            format: self.output.output,
            fields: self.output.fields,
            header: !self.output.no_header,
            time: self.output.time.unwrap_or(by_format),
            ints: self.output.ints,
            with_seq: self.output.with_seq,
            with_feed: self.output.with_feed,
        })
    }

    /// Refuses what does not go together.
    fn check(&self, feeds: usize) -> anyhow::Result<()> {
        let live = &self.live;
        if self.choice.reverse {
            let option = match live {
                LiveArgs { follow: true, .. } => "-f",
                LiveArgs { replay: Some(_), .. } => "--replay",
                LiveArgs { cursor_file: Some(_), .. } => "--cursor-file",
                _ => return self.check_seqs(feeds),
            };
            bail!("{option} goes forward in time, and -r backward; leave one of them out");
        }
        if live.follow && self.output.output == OutputFormat::Npy {
            bail!(
                "-o npy says first how many records come, which -f cannot know; raw records and \
                 dw-ls --layout numpy serve instead"
            );
        }
        self.check_seqs(feeds)
    }

    /// Seqs are a feed's own.
    fn check_seqs(&self, feeds: usize) -> anyhow::Result<()> {
        let by_seq = |time: &Option<TimeArg>| time.as_ref().is_some_and(TimeArg::is_seq);
        let seqs =
            self.choice.seq.is_some() || by_seq(&self.range.since) || by_seq(&self.range.until);
        if feeds > 1 && seqs {
            bail!("seqs are of one feed, and {feeds} are named; choose by time");
        }
        Ok(())
    }
}

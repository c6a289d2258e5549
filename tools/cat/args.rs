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

/// The text of dw-cat's help and man page.
pub const PAGE: Page = Page {
    name: "dw-cat",
    about: "Print the records of feeds, and follow new ones",
    usage: &["dw-cat [OPTIONS] FEED..."],
    description: &[
        "Prints records in order of arrival, as JSON lines by default. A range of times is found \
         through the index, however long the history, and is exact for late and repeated times \
         too. The feed may be written meanwhile. Several feeds are merged by time; equal times are \
         in the order of the feeds, then of arrival. -n and -r then apply to the merged order.",
        "Ranges are half-open: --until is not included. The range and --where select records \
         first, then -n, then -r. Damaged blocks are left out and named on stderr, and the exit \
         status is 1.",
        "-f continues with new records as they arrive. Each is printed once and in order, across \
         restarts and crashes of the writer and runs of dw-gc. New records of several feeds are \
         printed as they arrive. By default -f begins with the next record; with -n, --since, \
         --seq, --playback or --replay it begins in history. The range and --where also apply to \
         late rows. It ends when its reader does, when the clock has passed --until and everything \
         is printed, when a range of seqs or -n +N is complete, when the feed is deleted (exit \
         status 1), or by a signal. Everything that was read is printed before dw-cat sleeps or \
         ends. Missing records are named on stderr as seq A..B.",
        "--cursor-file saves the position in each feed to FILE: about once a second, at the end \
         and on signals, but only after the output was written. A run that is killed repeats \
         records but loses none. If the file has no position yet, the other options say where to \
         begin. Several feeds are printed in order of time, so the next run may repeat some \
         records after the position. With --until, the position stays before the first later \
         record. If the store was restored from an older backup, dw-cat reports it (exit status \
         1).",
        "Programs that read JSON numbers as doubles (jq 1.6, JavaScript) round integers above \
         2^53, such as times in nanoseconds. --ints string prints 64-bit integers as strings.",
    ],
    examples: &[
        (
            "dw-mkfeed trades ts:timestamp price:float64 side:char\n\
             printf 'ts,price,side\\n%d,42.5,B\\n%d,42.75,S\\n' \\\n    \
             1700000000000000 1700000060000000 | dw-write trades",
            "Make a feed to read",
        ),
        ("dw-cat trades --since 1h", "Print the last hour"),
        (
            "dw-cat trades --since 2023-11-14 --until 2023-11-15 --tz UTC -o csv",
            "Print a day as CSV",
        ),
        ("dw-cat trades -n 1 --time rfc3339", "Print the newest record, with a readable time"),
        (
            "dw-cat trades --since last-5m --where 'side=B' --where 'price>42' \\\n    \
             --fields ts,price",
            "Print some fields and records of the last five minutes",
        ),
        ("dw-cat trades -o table | head -20", "Look at the first records"),
        (
            "dw-cat trades -n 10 -f --until +1s",
            "Print the last ten records and follow for a second",
        ),
        ("dw-cat trades --cursor-file place", "Print what is new since the last run"),
        ("dw-cat trades --replay=1000 -o csv", "Replay at a thousand times the recorded pace"),
    ],
    more: &[page::TIMES],
    exit_status: &[
        ("0", "Done, even if the range is empty."),
        (
            "1",
            "Done only in part: damaged blocks were left out, dw-gc removed records after older \
             ones had been printed, or a followed feed was deleted.",
        ),
        ("2", "Failed: wrong usage, no such feed, or an I/O error."),
    ],
    environment: &[page::DEEPWATER_BASE, page::XDG_DATA_HOME, page::TZ, page::NO_COLOR],
    files: &[page::FILE_STORE],
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
    /// The range of times or seqs.
    #[command(flatten)]
    pub range: Range,
    #[command(flatten)]
    choice: ChoiceArgs,
    #[command(flatten)]
    live: LiveArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// The options of every tool.
    #[command(flatten)]
    pub common: Common,
}

#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Choice options")]
struct ChoiceArgs {
    /// Only seqs from A up to but not including B; either may be left out
    #[arg(long, value_name = "A..B", value_parser = parse_seqs)]
    seq: Option<(u64, u64)>,
    /// Only records with this value (also != < <= > >=); repeat to require several
    #[arg(long = "where", value_name = "FIELD=VALUE", action = ArgAction::Append)]
    where_: Vec<String>,
    /// Only the last N records; +N for the first N
    #[arg(short = 'n', long, value_name = "N", allow_negative_numbers = true)]
    lines: Option<Lines>,
    /// Print the newest record first
    #[arg(short, long)]
    reverse: bool,
    /// Begin at the last mark at or before --since, or at the last mark of all
    #[arg(long)]
    playback: bool,
}

#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Live options")]
struct LiveArgs {
    /// Continue with new records as they arrive; without other options print only those
    #[arg(short, long)]
    follow: bool,
    /// With -f, poll without sleeping: lowest latency, uses a whole CPU
    #[arg(long, requires = "follow")]
    spin: bool,
    /// Print at the recorded pace; SPEED 10 is ten times as fast [default: 1]
    #[arg(long, value_name = "SPEED", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "1", value_parser = parse_speed)]
    replay: Option<f64>,
    /// Continue after the last record that the last run with FILE printed, and save the new
    /// position
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    cursor_file: Option<PathBuf>,
}

#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Output options")]
struct OutputArgs {
    /// Output format: jsonl, csv, tsv, raw, npy or table
    #[arg(short, long, value_name = "FORMAT", default_value = "jsonl")]
    output: OutputFormat,
    /// Print only these fields, in this order
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    fields: Option<Vec<String>>,
    /// Print no header line in csv, tsv and table
    #[arg(long)]
    no_header: bool,
    /// Print times as raw integers or as rfc3339 (in --tz, else UTC) [default: raw; table: rfc3339]
    #[arg(long, value_name = "STYLE", value_enum, hide_possible_values = true)]
    time: Option<Style>,
    /// Print 64-bit integers in JSON as number or string
    #[arg(long, value_name = "STYLE", value_enum, default_value_t, hide_possible_values = true)]
    ints: Ints,
    /// Print the seq of each record as the first field, _seq
    #[arg(long)]
    with_seq: bool,
    /// Print the name of the feed as a field, _feed
    #[arg(long)]
    with_feed: bool,
}

/// `-n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// The first N.
    First(u64),
    /// The last N.
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

/// What dw-cat was asked to do.
pub struct Request {
    /// The feeds.
    pub feeds: Vec<String>,
    /// The range of times or seqs.
    pub range: Range,
    /// The range of seqs, if given.
    pub seqs: Option<(u64, u64)>,
    /// Conditions.
    pub where_: Vec<String>,
    /// How many records, and from which end.
    pub lines: Option<Lines>,
    /// Whether the newest record comes first.
    pub reverse: bool,
    /// Whether to begin at a mark.
    pub playback: bool,
    /// Whether to continue with new records.
    pub follow: bool,
    /// Whether to poll without sleeping.
    pub spin: bool,
    /// How many times faster than recorded to replay.
    pub replay: Option<f64>,
    /// Where the position of the last run is, and where this run saves its own.
    pub cursor_file: Option<PathBuf>,
    /// The format.
    pub format: OutputFormat,
    /// The fields to print; `None` means all.
    pub fields: Option<Vec<String>>,
    /// Whether to print a header line.
    pub header: bool,
    /// How to print times.
    pub time: Style,
    /// How to print 64-bit integers in JSON.
    pub ints: Ints,
    /// Whether to print `_seq`.
    pub with_seq: bool,
    /// Whether to print `_feed`.
    pub with_feed: bool,
}

impl Request {
    /// Returns how far to look for chunks that the table does not list: everywhere, if all records
    /// are requested.
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
    /// clap's errors, which include help.
    pub fn parse() -> Result<Args, clap::Error> {
        crate::cli::args::parse(command())
    }

    /// Checks the arguments and returns the request.
    ///
    /// # Errors
    /// Names the argument that is wrong, and an example of a valid one.
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

    /// Rejects options that contradict each other.
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

    /// Rejects seqs with several feeds, because each feed has its own.
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

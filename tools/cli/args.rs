//! The arguments that all tools share, and the store they name.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{ArgAction, Args, Command, FromArgMatches};
use jiff::tz::TimeZone;

use super::color::{self, ColorChoice};
use super::messages;
use super::times::{Context, Resolved, TimeArg, parse_time};
use super::tz::{LocalZone, parse_zone};

/// `-b -q -v --color`, under one heading at the end of each tool's help.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// Directory of the store [default: $DEEPWATER_BASE, else ~/.local/share/deepwater]
    #[arg(short, long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub base_path: Option<PathBuf>,
    /// Print errors only
    #[arg(short, long)]
    pub quiet: bool,
    /// Print more, such as resolved times and counts
    #[arg(short, long, conflicts_with = "quiet")]
    pub verbose: bool,
    /// When to colour: auto, always or never [default: auto]
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    #[arg(hide_possible_values = true, hide_default_value = true)]
    pub color: ColorChoice,
}

impl Common {
    /// Applies `-q`, `-v` and `--color`.
    pub fn start(&self) {
        messages::set_level(self.quiet, self.verbose);
        color::choose(self.color);
    }

    /// Returns the store's directory.
    ///
    /// # Errors
    /// If neither the option nor a variable names one.
    pub fn base(&self) -> anyhow::Result<PathBuf> {
        base_path(self.base_path.clone(), |name| std::env::var_os(name))
    }
}

/// Returns `--base-path`, else `$DEEPWATER_BASE`, else `$XDG_DATA_HOME/deepwater`, else
/// `~/.local/share/deepwater`. An empty variable counts as unset. So does a relative
/// `$XDG_DATA_HOME`, as its specification requires.
fn base_path(
    option: Option<PathBuf>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> anyhow::Result<PathBuf> {
    let path = |name| variable(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    if let Some(base) = option {
        anyhow::ensure!(!base.as_os_str().is_empty(), "--base-path is empty; give a directory");
        return Ok(base);
    }
    let data = || path("XDG_DATA_HOME").filter(|dir| dir.is_absolute());
    let home = || path("HOME").map(|dir| dir.join(".local/share"));
    path("DEEPWATER_BASE")
        .or_else(|| data().or_else(home).map(|dir| dir.join("deepwater")))
        .ok_or_else(|| {
            anyhow::anyhow!(
                "no store is named: give --base-path DIR, or set DEEPWATER_BASE or HOME"
            )
        })
}

/// Feeds given as positional arguments and by `--feed`.
#[derive(Args, Clone, Debug)]
pub struct Feeds {
    /// Names of feeds
    #[arg(value_name = "FEED")]
    pub positional: Vec<String>,
    /// Name of a feed, instead of a positional argument; may be repeated
    #[arg(long = "feed", value_name = "FEED", action = ArgAction::Append)]
    pub named: Vec<String>,
}

impl Feeds {
    /// Returns the names without duplicates, positional arguments first.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for name in self.positional.iter().chain(&self.named) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }
}

/// `-S -U --tz`, a range of times.
#[derive(Args, Clone, Debug)]
pub struct Range {
    /// Only records at or after this time (see Times)
    #[arg(short = 'S', long, value_name = "TIME", allow_hyphen_values = true)]
    #[arg(value_parser = parse_time)]
    pub since: Option<TimeArg>,
    /// Only records before this time
    #[arg(short = 'U', long, value_name = "TIME", allow_hyphen_values = true)]
    #[arg(value_parser = parse_time)]
    pub until: Option<TimeArg>,
    /// Time zone of times without one, such as America/New_York or +02:00 [default: $TZ]
    #[arg(long, value_name = "ZONE", allow_hyphen_values = true, value_parser = parse_zone)]
    pub tz: Option<TimeZone>,
}

impl Range {
    /// Returns the time zone of local times. It is looked up when first needed.
    pub fn zone(&self) -> LocalZone {
        LocalZone::new(self.tz.clone())
    }

    /// Resolves the range for one feed. With `-v`, prints the result in `--tz`, else in UTC.
    ///
    /// # Errors
    /// As [`TimeArg::resolve`]; the message names the option.
    pub fn resolve(&self, context: &Context<'_>) -> anyhow::Result<Bounds> {
        let resolve = |option: &str, time: &Option<TimeArg>| {
            let resolved = time.as_ref().map(|time| time.resolve(context)).transpose();
            resolved.with_context(|| option.to_owned())
        };
        let since = resolve("--since", &self.since)?;
        let until = resolve("--until", &self.until)?;
        if let (Some(since_arg), Some(until_arg)) = (&self.since, &self.until)
            && !(since_arg.follows_the_feed() || until_arg.follows_the_feed())
            && is_backwards(since, until)
        {
            bail!(
                "--since {since_arg} is after --until {until_arg}: no record can be in between; \
                 did you mean the other way round?"
            );
        }
        if messages::is_verbose() && (since.is_some() || until.is_some()) {
            let zone = self.tz.clone().unwrap_or(TimeZone::UTC);
            let show = |bound: Option<Resolved>, open: &str| {
                bound.map_or_else(|| open.to_owned(), |bound| bound.show(context.unit, &zone))
            };
            let (since, until) = (show(since, "the first record"), show(until, "the end"));
            messages::note(format_args!("from {since} up to {until}"));
        }
        let time = |bound| match bound {
            Some(Resolved::Time(ticks)) => Some(ticks),
            _ => None,
        };
        let seq = |bound| match bound {
            Some(Resolved::Seq(seq)) => Some(seq),
            _ => None,
        };
        Ok(Bounds {
            time_since: time(since),
            time_until: time(until),
            seq_since: seq(since),
            seq_until: seq(until),
        })
    }
}

fn is_backwards(since: Option<Resolved>, until: Option<Resolved>) -> bool {
    match (since, until) {
        (Some(Resolved::Time(since)), Some(Resolved::Time(until)))
        | (Some(Resolved::Seq(since)), Some(Resolved::Seq(until))) => since > until,
        _ => false,
    }
}

/// A half-open range of times, of seqs, or of both. `None` means no bound on that side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The first time, in the feed's unit.
    pub time_since: Option<u64>,
    /// The end of the times, excluded.
    pub time_until: Option<u64>,
    /// The first seq.
    pub seq_since: Option<u64>,
    /// The end of the seqs, excluded.
    pub seq_until: Option<u64>,
}

/// Parses the program's arguments with a command made from `T`.
///
/// # Errors
/// clap's errors, which include help and version; [`super::exit::main_with`] prints them.
pub fn parse<T: FromArgMatches>(command: Command) -> Result<T, clap::Error> {
    parse_from(command, std::env::args_os())
}

/// Parses any arguments, of which the first is the program's name.
///
/// # Errors
/// As [`parse`].
pub fn parse_from<T: FromArgMatches>(
    mut command: Command,
    args: impl IntoIterator<Item = OsString>,
) -> Result<T, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(choice) = early_color(&args) {
        // clap prints help and errors before `Common::start` runs.
        color::choose(choice);
    }
    let matches = command.try_get_matches_from_mut(args)?;
    T::from_arg_matches(&matches).map_err(|e| e.format(&mut command))
}

/// Returns the value of `--color` if it is valid. If it is not, clap rejects it later.
fn early_color(args: &[OsString]) -> Option<ColorChoice> {
    let texts = args.iter().map(|arg| arg.to_str().unwrap_or_default());
    let mut texts = texts.take_while(|text| *text != "--");
    let mut choice = None;
    while let Some(text) = texts.next() {
        let value = match text.strip_prefix("--color") {
            Some("") => texts.next(),
            Some(rest) => rest.strip_prefix('='),
            None => None,
        };
        let parsed = value.and_then(|v| <ColorChoice as clap::ValueEnum>::from_str(v, false).ok());
        choice = parsed.or(choice);
    }
    choice
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn base_path_prefers_option_then_variables_then_home() {
        let base = |option: Option<&str>, variables: &[(&str, &str)]| {
            base_path(option.map(PathBuf::from), |name| {
                let found = variables.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| OsString::from(value))
            })
            .map(|path| path.to_string_lossy().into_owned())
            .map_err(|e| e.to_string())
        };
        let home = ("HOME", "/home/me");
        let all = [("DEEPWATER_BASE", "/base"), ("XDG_DATA_HOME", "/xdg"), home];
        assert_eq!(base(Some("/option"), &all).unwrap(), "/option");
        assert_eq!(base(None, &all).unwrap(), "/base");
        assert_eq!(base(None, &all[1..]).unwrap(), "/xdg/deepwater");
        assert_eq!(base(None, &[home]).unwrap(), "/home/me/.local/share/deepwater");
        let empty = [("DEEPWATER_BASE", ""), ("XDG_DATA_HOME", ""), home];
        assert_eq!(base(None, &empty).unwrap(), "/home/me/.local/share/deepwater");
        let relative = [("XDG_DATA_HOME", "data"), home];
        assert_eq!(base(None, &relative).unwrap(), "/home/me/.local/share/deepwater");
        assert!(base(None, &[]).unwrap_err().contains("--base-path"));
        assert!(base(Some(""), &all).unwrap_err().contains("empty"));
    }

    #[derive(clap::Parser, Debug)]
    struct Sample {
        #[command(flatten)]
        feeds: Feeds,
        #[command(flatten)]
        range: Range,
        #[command(flatten)]
        common: Common,
    }

    fn sample(args: &[&str]) -> Result<Sample, clap::Error> {
        let args = std::iter::once("dw-x").chain(args.iter().copied()).map(OsString::from);
        parse_from(<Sample as clap::CommandFactory>::command(), args)
    }

    #[test]
    fn negative_times_and_offsets_are_option_values() {
        let found = sample(&["--since", "-1h", "-U", "-5m", "--tz", "-05:00", "trades"]).unwrap();
        assert_eq!(found.range.since.unwrap().to_string(), "-1h");
        assert_eq!(found.range.until.unwrap().to_string(), "-5m");
        assert_eq!(found.range.tz.unwrap().to_fixed_offset().unwrap().seconds(), -18_000);
        assert_eq!(found.feeds.names(), ["trades"]);
        let error = sample(&["--since", "12345"]).unwrap_err().to_string();
        assert!(error.contains("'12345' for '--since <TIME>'") && error.contains("@12345us"));
        assert!(sample(&["-q", "-v"]).is_err());
    }

    #[test]
    fn range_bounds_may_be_times_or_seqs() {
        let bounds = |args: &[&str]| {
            let range = sample(args).unwrap().range;
            let zone = range.zone();
            let context = Context {
                now: jiff::Timestamp::from_second(7200).unwrap(),
                zone: &zone,
                unit: deepwater::time::TimeUnit::Micros,
                span: &|| Ok(None),
            };
            range.resolve(&context).map_err(|e| format!("{e:#}"))
        };
        assert_eq!(bounds(&[]), Ok(Bounds::default()));
        let found = bounds(&["--since", "-1h", "--until", "seq:9"]).unwrap();
        let expected =
            Bounds { time_since: Some(3_600_000_000), seq_until: Some(9), ..Bounds::default() };
        assert_eq!(found, expected);
        let error = bounds(&["--since", "-1m", "--until", "-1h"]).unwrap_err();
        assert!(error.starts_with("--since -1m is after --until -1h: "), "{error}");
        assert!(bounds(&["--since", "seq:8", "--until", "seq:3"]).is_err());
        assert!(bounds(&["--since", "-1h", "--until", "-1h"]).is_ok(), "empty, but no mistake");
        assert!(bounds(&["--since", "-1h", "--until", "last"]).is_ok(), "the feed's to say");
        let skipped = ["--until", "2024-03-10 02:30", "--tz", "America/New_York"];
        let error = bounds(&skipped).unwrap_err();
        assert!(error.starts_with("--until: time \"2024-03-10 02:30\": "), "{error}");
    }

    #[test]
    fn feed_names_are_merged_without_duplicates() {
        let found = sample(&["--feed", "c", "a", "b", "--feed=a"]).unwrap();
        assert_eq!(found.feeds.names(), ["a", "b", "c"]);
        assert_eq!(sample(&["--", "-odd"]).unwrap().feeds.names(), ["-odd"]);
    }

    #[test]
    fn early_color_finds_the_option_before_parsing() {
        let early =
            |args: &[&str]| early_color(&args.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(early(&["x", "--color", "always", "--help"]), Some(ColorChoice::Always));
        assert_eq!(early(&["x", "--color=never"]), Some(ColorChoice::Never));
        assert_eq!(early(&["x", "--color=pink"]), None);
        assert_eq!(early(&["x", "--", "--color=never"]), None);
        assert_eq!(early(&["x"]), None);
    }
}

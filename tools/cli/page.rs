//! The text of a tool's help apart from its options, as data. `--help` and the man page are made
//! from it, and a test runs the examples.

use std::fmt::Write as _;

use clap::Command;

/// An entry of a section: a term and its explanation.
pub type Entry = (&'static str, &'static str);

/// A section of a page.
pub struct Section {
    /// The title.
    pub title: &'static str,
    /// The entries.
    pub entries: &'static [Entry],
}

/// A tool's page.
pub struct Page {
    /// The program's name.
    pub name: &'static str,
    /// What the program does, in one line.
    pub about: &'static str,
    /// The ways to call it, one per line.
    pub usage: &'static [&'static str],
    /// What the program does, in paragraphs.
    pub description: &'static [&'static str],
    /// Shell commands and what each does. Run in this order on an empty store, each succeeds. Lines
    /// have at most 76 columns, so that help does not wrap them.
    pub examples: &'static [Entry],
    /// Further sections, after the options.
    pub more: &'static [Section],
    /// Exit statuses.
    pub exit_status: &'static [Entry],
    /// Environment variables.
    pub environment: &'static [Entry],
    /// Files.
    pub files: &'static [Entry],
}

/// The grammar of times, for tools that take times.
pub const TIMES: Section = Section {
    title: "Times",
    entries: &[
        (
            "2024-05-01T09:30:00.123456789-04:00",
            "RFC 3339: any offset or Z, up to 9 digits of a second.",
        ),
        (
            "DATE [TIME] [ZONE], TIME [ZONE]",
            "For example 2024-05-01, '2024-05-01 09:30', or 09:30:00.5 for today. The zone is Z, \
             +02:00 or a name such as Europe/Berlin. A date without a time means the first instant \
             of that day. A time that daylight saving skips or repeats is rejected, and the error \
             names both candidates.",
        ),
        (
            "now, today, yesterday, tomorrow [TIME] [ZONE]",
            "A time by name; now-5m and now+5m also work.",
        ),
        ("-1h, +5m, 1h ago, 1h", "Relative to now; a duration without a sign is in the past."),
        (
            "@1714555800, @1714555800.5, @1714555800500ms, @...us, @...ns",
            "Time since 1970-01-01 UTC, in seconds or in the given unit.",
        ),
        (
            "1714555800000000, 1714555800000000000",
            "A bare number: 16 digits are microseconds, 19 are nanoseconds; other lengths are \
             rejected.",
        ),
        ("first, last, first+5m, last-5m", "The oldest and the newest time in the feed."),
        ("seq:42", "A record by its seq."),
    ],
};
/// Sizes and durations, for tools that take them.
pub const SIZES: Section = Section {
    title: "Sizes and durations",
    entries: &[
        (
            "64MiB, 10GB, 4096",
            "KiB MiB GiB TiB count in 1024s, KB MB GB TB in 1000s; a number without a unit is \
             bytes.",
        ),
        (
            "500ms, 90s, 5m, 1h30m, 7d, 2w",
            "Months and years are rejected, because their length varies.",
        ),
    ],
};
/// The variable that names the store.
pub const DEEPWATER_BASE: Entry =
    ("DEEPWATER_BASE", "The store's directory, if --base-path is not given.");
/// The variable that names the directory of the default store.
pub const XDG_DATA_HOME: Entry = (
    "XDG_DATA_HOME",
    "The default store is deepwater in this directory, or in ~/.local/share if it is not set.",
);
/// The variables that turn colour off.
pub const NO_COLOR: Entry =
    ("NO_COLOR, TERM", "No colour if NO_COLOR is set and not empty, or if TERM is dumb.");
/// The variable that names the time zone.
pub const TZ: Entry = ("TZ", "The time zone of local times, if --tz is not given.");
/// Success.
pub const EXIT_OK: Entry = ("0", "Done.");
/// Failure.
pub const EXIT_FAILED: Entry = ("2", "Failed: wrong usage, no such feed, or an I/O error.");
/// The default store.
pub const FILE_STORE: Entry = ("~/.local/share/deepwater", "The default store.");

const TEMPLATE: &str = "\
{about-with-newline}
{before-help}{usage-heading} {usage}

{all-args}{after-help}";

impl Page {
    /// Adds name, version and help texts to the command that clap derived.
    pub fn dress(&self, command: Command) -> Command {
        command
            .name(self.name)
            .bin_name(self.name)
            .version(env!("CARGO_PKG_VERSION"))
            .override_usage(self.usage.join("\n       "))
            .about(self.about)
            .long_about(self.description.join("\n\n"))
            .help_template(TEMPLATE)
            .before_long_help(self.examples_text())
            .after_help(format!("{} --help shows examples.", self.name))
            .after_long_help(self.sections_text())
            .max_term_width(100)
    }

    fn examples_text(&self) -> String {
        let mut text = "Examples:".to_owned();
        for (command, what) in self.examples {
            let _ = write!(text, "\n  # {what}\n  {}\n", command.replace('\n', "\n  "));
        }
        text
    }

    /// Returns the sections that follow the options, in order.
    pub fn sections(&self) -> Vec<Section> {
        let section = |title, entries| Section { title, entries };
        let more = self.more.iter().map(|more| section(more.title, more.entries));
        more.chain([
            section("Exit status", self.exit_status),
            section("Environment", self.environment),
            section("Files", self.files),
        ])
        .collect()
    }

    fn sections_text(&self) -> String {
        let mut text = String::new();
        for section in self.sections() {
            let blank = if text.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{blank}{}:", section.title);
            for (term, what) in section.entries {
                let _ = writeln!(text, "  {term}\n          {what}");
            }
        }
        text
    }
}
